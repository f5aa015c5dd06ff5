"""The tables of trained networks, from reports that the tests make up."""

import json
import math

import pytest

from scripts import make_docs


def report(**changes):
    """A report of winnow train, as far as the tables read it."""
    return {"network": "mlp3", "source": "MNIST", "baseline_accuracy": 0.99,
            "accuracy": {"test": {"float_dense": 0.9, "int8_dense": 0.9, "float_winners": 0.98, "int8_winners": 0.97}},
            "pruned": {"neurons": 0.9}, "macs": {"dense": 1000, "winners": 750.0, "reduction": 0.25}} | changes


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A function that writes reports by file name, and the lines of a table without its header."""
    folder = tmp_path / "docs/results/dasnet"
    folder.mkdir(parents=True)
    monkeypatch.setattr(make_docs, "ROOT", tmp_path)

    def lines(table, **reports):
        for name, one in reports.items():
            (folder / f"{name}.json").write_text(json.dumps(one))
        rows = getattr(make_docs, table)().splitlines()[2:]
        return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]

    return lines


def test_seeds_of_a_network_are_one_row(results):
    other = report(baseline_accuracy=0.97, macs={"dense": 1000, "winners": 650.0, "reduction": 0.35})
    other["pruned"] = {"neurons": 0.8}
    large = report(network="lenet4", macs={"dense": 5000, "winners": 2500.0, "reduction": 0.5})
    large["pruned"] = {"feature_maps": 0.6, "neurons": 0.85}
    large["rules"] = {"pool1": {"score": "max", "select": "topk", "rate": 0.5},
                      "relu3": {"score": "max", "select": "energy", "eps": 0.8}}
    # Reports of another kind, and figures: no seed at the end of their names.
    found = results("dasnet_results", mlp3_0=report(), mlp3_1=other, lenet4_0=large, lenet4_rounds=report(),
                    curves={"kinds": {}}, mlp3_pruned_0=report(weights={"fc1": {"weights": 9, "zeros": 3}}),
                    mlp3_base_0=report(accuracy={"test": {"float_dense": 0.99, "int8_dense": 0.99}}))
    assert found == [
        ["`mlp3`", "MNIST", "2", "98.00 % (97.00..99.00)", "85.0 % of neurons", "30.0 %", "98.00 % (98.00..98.00)",
         "0.00 % (-1.00..1.00)", "97.00 % (97.00..97.00)"],
        ["`lenet4`", "MNIST", "1", "99.00 %", "60.0 % of feature maps, 85.0 % of neurons (energy 80.0 %)", "50.0 %",
         "98.00 %", "1.00 %", "97.00 %"]]


def test_pruned_networks(results):
    one = report(
        pruned_accuracy=0.985, weights={"fc1": {"weights": 800, "zeros": 600}, "fc2": {"weights": 200, "zeros": 100}},
        macs={"dense": 1000, "winners": 750.0, "reduction": 0.25, "static": 300, "static_reduction": 0.7,
              "both": 200.0, "both_reduction": 0.8,
              "layers": {"fc1": {"dense": 800, "winners": 800.0, "both": 150.0},
                         "fc2": {"dense": 200, "winners": 50.0, "both": 20.0},
                         "fc3": {"dense": 100, "winners": 10.0, "both": 10.0}}},
        engine={"runs": {"dense": {"cycles": 200}, "winners": {"cycles": 150}, "blocks": {"cycles": 180},
                         "both": {"cycles": 120}}})
    one["command"] = "winnow train mlp3 --prune-blocks fc1=0.75"
    # The engine may find zero blocks where single weights have been left out.
    alone = one | {"accuracy": {"test": {"float_dense": 0.96, "int8_dense": 0.95}},
                   "command": "winnow train mlp3 --prune 0.7",
                   "engine": {"runs": {"dense": {"cycles": 200}, "blocks": {"cycles": 210}}}}
    found = results("pruning_results", mlp3_blocks_0=one, mlp3_pruned_0=alone, mlp3_0=report())
    assert found == [
        ["`mlp3`", "blocks", "30.0 %", "99.00 %", "98.50 %", "98.00 %", "97.00 %", "70.0 %", "25.0 %", "80.0 %",
         "25.0 %", "10.0 %", "40.0 %"],
        ["`mlp3`", "weights", "30.0 %", "99.00 %", "98.50 %", "96.00 %", "95.00 %", "70.0 %", "25.0 %", "80.0 %", "",
         "-5.0 %", ""]]
    layers = results("pruned_layers")
    assert layers[:3] == [["`mlp3`", "`fc1`", "800", "25.0 %", "100.0 %", "18.8 %"],
                          ["", "`fc2`", "200", "50.0 %", "25.0 %", "10.0 %"],
                          ["", "total", "1,000", "30.0 %", "85.0 %", "17.0 %"]]
    assert len(layers) == 6


def test_ranking_cost_of_large_networks(results):
    """ResNet-18 at half of its channels: the largest value of each map, and a sort."""
    rows = {row[0]: row[1:] for row in results("ranking_cost")}
    assert list(rows) == [f"`{name}`, half of all channels" for name in make_docs.PUBLISHED]
    cells = rows["`resnet18`, half of all channels"]
    # Behind the stem and in each block two layers, but for the last sum: its mean is ranked, of neurons.
    maps = [(64, 56)] * 5 + [(128, 28)] * 4 + [(256, 14)] * 4 + [(512, 7)] * 3
    comparisons = sum(width * (size * size + math.log2(width)) for width, size in maps) + 512 * 9
    assert cells[0] == "17" and cells[2] == f"{comparisons:,.0f}"
    saved = int(cells[1].replace(",", ""))
    assert cells[3] == f"{100 * comparisons / saved:.2f} %"


def test_published_models(results, tmp_path):
    folder = tmp_path / "docs/results/published"
    folder.mkdir()
    one = {"model": "a.tflite", "type": "int8", "layers": 3, "macs": 2_500_000, "source": "MNIST (test)",
           "output": {"inputs": 1000, "bytes": 10_000, "differing": 0},
           "tensors": {"inputs": 10, "count": 3, "bytes": 5000, "differing": 1}, "accuracy": 0.9912,
           "accuracy_default": 0.9906}
    other = one | {"model": "b.tflite", "macs": 1_000_000, "source": "random, seed 0"}
    del other["accuracy"], other["accuracy_default"]
    (folder / "compare_images.json").write_text(json.dumps({"models": [one]}))
    (folder / "compare_random.json").write_text(json.dumps({"models": [other]}))
    assert results("published_models") == [
        ["`b`", "int8", "3", "1.00 M", "1,000, random, seed 0", "0 of 10,000", "1 of 5,000", "", ""],
        ["`a`", "int8", "3", "2.50 M", "1,000, MNIST (test)", "0 of 10,000", "1 of 5,000", "99.12 %", "99.06 %"]]
    for rows, exact in ((16, True), (8, False)):
        (folder / f"rtl_a_{rows}x16.json").write_text(json.dumps({
            "network": "a", "rows": rows, "cols": 16, "bit_exact": exact, "layers": [{}, {}],
            "total": {"cycles": 16000 // rows, "utilization": 0.5, "bytes_read": 1000, "bytes_written": 234}}))
    assert results("published_cycles") == [["`a`", "8x16", "2", "not all", "2,000", "50.0 %", "1,234"],
                                           ["`a`", "16x16", "2", "all", "1,000", "50.0 %", "1,234"]]


def test_boards(tmp_path, monkeypatch):
    """The larger array behind the smaller one."""
    folder = tmp_path / "docs/results/boards"
    folder.mkdir(parents=True)
    monkeypatch.setattr(make_docs, "ROOT", tmp_path)
    counts = {"luts": (500, 1000), "flip_flops": (2000, 8000), "multipliers": (28, 28), "block_rams": (3, 40)}
    one = {"board": "large", "rows": 8, "cols": 16, "macs": 128, "fmax_mhz": {"clock": 81.26, "shifted": 500.0},
           "frequency_mhz": 75.0, "met": True, "peak_gops": 19.2, "effective_gops": 17.0, "gops_per_multiplier": 0.6857,
           "seeds": {"1": {}, "7": {}},
           **{key: {"used": used, "available": all_} for key, (used, all_) in counts.items()}}
    other = one | {"board": "small", "rows": 2, "cols": 4, "macs": 8, "met": False}
    for name, report in (("a", one), ("b", other)):
        (folder / f"{name}.json").write_text(json.dumps(report))
    cells = ["500, 50.0 %", "2,000, 25.0 %", "28, 100.0 %", "3, 7.5 %", "81.3 MHz"]
    rows = make_docs.board_results().splitlines()[2:]
    assert [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows] == [
        ["`small`", "2x4", *cells, "75 MHz, missed", "19.20", "17.00", "0.686", "1, 7"],
        ["`large`", "8x16", *cells, "75 MHz, met", "19.20", "17.00", "0.686", "1, 7"]]
