"""Whole networks from the command line: refused by name, estimated at once, simulated bit for bit."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from golden.add_job import AddJob
from golden.job import load_job
from golden.network import QuantizedNetwork
from golden.networks import build, names
from golden.random_jobs import OPERATIONS, random_operation
from golden.reference import LayerResult
from golden.reference import run as reference
from scripts.cli import main
from sim.network import golden_layers
from tests.every_operation import EVERY_OPERATION

ENGINE = ["--rows", "4", "--cols", "4", "--axi-width", "64", "--act-buffer-bytes", "4096",
          "--weight-buffer-bytes", "4096"]


def edited(path: Path, changes: dict, layers: dict[str, dict]) -> Path:
    """The network with fields of it and of its layers replaced; None takes a field away."""
    text = json.loads(EVERY_OPERATION.read_text()) | changes
    for layer in text["layers"]:
        layer.update(layers.get(layer["name"], {}))
    for part in (text, *text["layers"]):
        for field in [field for field, value in part.items() if value is None]:
            del part[field]
    path.write_text(json.dumps(text))
    return path


@pytest.mark.parametrize("changes, layers, message", [
    ({"layers": []}, {}, "layers: expected at least one, got 0"),
    ({"input": {"shape": [5, 13]}}, {}, "input_shape: expected three positive integers (C, H, W), got [5, 13]"),
    ({"weights": "none.npz"}, {}, "FOLDER/none.npz: expected an npz file, got no such file"),
    ({"colour": 1}, {}, "colour: expected fields among name, input, layers, weights, seed, metadata, got this one"),
    ({}, {"mix": {"op": "lstm"}},
     "layer mix: op: expected one of conv, max_pool, average_pool, mean, add, concat, got 'lstm'"),
    ({}, {"mix": {"inputs": ["nowhere"]}},
     "layer mix: inputs: expected names of earlier layers, or input, got 'nowhere'"),
    ({}, {"mix": {"name": "stem"}}, "layer stem: name: expected one that no layer before has, got 'stem'"),
    ({}, {"mix": {"kernel": 12}}, r"layer mix: weight: expected a kernel of 1..11, got [12, 12]"),
    ({}, {"mix": {"stride": 5}}, "layer mix: stride: expected two integers in 1..4 (vertical, horizontal), got 5"),
    ({}, {"mix": {"out_channels": None}}, "layer mix: out_channels: expected this field, got none"),
    ({}, {"grouped": {"groups": 3}},
     "layer grouped: groups: expected a divisor of 16 input and 12 output channels, got 3"),
    ({}, {"sum": {"inputs": ["stem", "both"]}},
     "layer sum: inputs: expected two of one shape, the first is [16, 6, 5], got [28, 6, 5]"),
    ({}, {"sum": {"inputs": ["stem"]}}, "layer sum: inputs: expected 2, got 1"),
    ({}, {"both": {"inputs": ["grouped", "depthwise"]}}, r"layer both: .*16.*12.*"),
    ({}, {"fc": {"winners": {"value": 11}}}, "layer fc: select_value: expected k in 1..10 for topk, got 11"),
    ({}, {"fc": {"winners": {"rate": 0}}}, "layer fc: rate: expected a number above 0, at most 1, got 0"),
    ({}, {"largest": {"kernel": 9, "padding": 0}},
     "layer largest: kernel: expected a kernel no larger than the map [6, 5], got (9, 9)"),
])
@pytest.mark.parametrize("command", ["simulate", "estimate"])
def test_bad_networks_are_refused_before_anything_is_built(command, changes, layers, message, tmp_path, capsys,
                                                           monkeypatch):
    monkeypatch.setattr("scripts.simulate.open_simulator", lambda *_: pytest.fail("a simulator was built"))
    monkeypatch.setattr("golden.random_weights.draw_tensors", lambda **_: pytest.fail("weights were drawn"))
    path = edited(tmp_path / "bad.json", changes, layers)
    report = tmp_path / "report.json"
    assert main([command, str(path), *ENGINE, "--json", str(report)]) == 2
    captured = capsys.readouterr()
    found = re.fullmatch(rf"winnow: error: {re.escape(str(path))}: (.*)\n", captured.err)
    assert captured.out == "" and found, captured.err
    message = message.replace("FOLDER", str(tmp_path))
    assert found[1] == message or (".*" in message and re.fullmatch(message, found[1])), found[1]
    assert not report.exists()


@pytest.mark.parametrize("content, message", [
    ("", "expected JSON, got Expecting value in line 1"),
    ("[1]", "network: expected an object with name, input, layers, got [1]"),
    ("{\"name\": ", "expected JSON, got Expecting value in line 1"),
])
def test_files_that_are_no_networks(content, message, tmp_path, capsys):
    path = tmp_path / "bad.json"
    path.write_text(content)
    assert main(["estimate", str(path)]) == 2
    assert capsys.readouterr().err == f"winnow: error: {path}: {message}\n"


def test_every_network_is_estimated(tmp_path, capsys):
    report = tmp_path / "report.json"
    for name in names():
        assert main(["estimate", name, "--rows", "7", "--cols", "32", "--json", str(report)]) == 0
        text, found, network = capsys.readouterr().out, json.loads(report.read_text()), build(name)
        assert [one["name"] for one in found["dense"]["layers"]] == [
            node.name for node in network.layers if node.op != "concat"]
        assert found["dense"]["total"]["products"] == sum(node.macs for node in network.layers)
        assert found["weights_are_random"] == (name != "lenet4")
        dense, sparse = found["dense"]["total"], found["total"]
        assert dense["cycles"] >= dense["ideal_cycles"] == pytest.approx(dense["products"] / 224)
        assert sparse["cycles"] < dense["cycles"] and sparse["bytes"] < dense["bytes"]
        assert f"{sparse['cycles']:,} cycles" in text and f"{dense['bytes']:,} bytes" in text
        assert sparse["bytes"] == sum(one["bytes"] for one in found["layers"]) == sum(
            [*sparse["bytes_read"].values(), *sparse["bytes_written"].values()])
        for one in found["layers"]:
            node = network.layer(one["name"])
            depthwise = node.groups == node.input_shapes[0][0] > 1
            assert one["array"] == (node.op == "conv" and not depthwise)
        assert sparse["array"]["cycles"] == sum(one["cycles"] for one in found["layers"] if one["array"])


def test_rates_of_an_estimate(tmp_path, capsys):
    def winners(*options):
        report = tmp_path / "report.json"
        assert main(["estimate", "resnet20", *options, "--json", str(report)]) == 0
        found = json.loads(report.read_text())
        return {one["name"]: one["winners"] for one in found["layers"]}

    assert winners()["stage2_1_conv2"] == 16 and winners("--winner-rate", "0.25")["stage2_1_conv2"] == 8
    assert winners("--dense")["stage2_1_conv2"] == 32
    rates = tmp_path / "rates.json"
    rates.write_text(json.dumps({"stage2_1_conv1": 0.75}))
    found = winners("--winner-rates", str(rates))
    assert found["stage2_1_conv2"] == 24 and found["stage1_1_conv2"] == 16
    rates.write_text(json.dumps({"conv9": 0.75}))
    capsys.readouterr()
    assert main(["estimate", "resnet20", "--winner-rates", str(rates)]) == 2
    assert re.fullmatch(r"winnow: error: winners: expected layers among conv1, stage1_1_conv1, .*, got 'conv9'\n",
                        capsys.readouterr().err)


def test_simulate_a_network_of_every_operation(tmp_path, capsys):
    report = tmp_path / "report.json"
    assert main(["simulate", str(EVERY_OPERATION), *ENGINE, "--seed", "2", "--json", str(report)]) == 0
    text, found = capsys.readouterr().out, json.loads(report.read_text())
    assert "Random weights (seed 3)" in text and "Class" not in text and "predicted_class" not in found
    assert (found["weights_are_random"], found["weights_seed"], found["bit_exact"]) == (True, 3, True)
    stays = found["outputs_on_chip"]["dense"]
    assert stays and "fc" not in stays and text.endswith(" stay on chip; --keep-outputs compares them, too)\n")
    kept = tmp_path / "kept.json"
    assert main(["simulate", str(EVERY_OPERATION), *ENGINE, "--seed", "2", "--keep-outputs", "--json", str(kept)]) == 0
    assert capsys.readouterr().out.endswith("scores and winners: yes\n")
    for one, same in zip(json.loads(kept.read_text())["layers"], found["layers"], strict=True):
        written, alone = (part["dense"]["bytes_written"]["activations"] for part in (one, same))
        assert alone == (0 if one["name"] in stays else written) and written > 0
    network = QuantizedNetwork.load(EVERY_OPERATION)
    image = np.random.default_rng(2).integers(-128, 128, (5, 13, 11), np.int8)
    golden = [layer for layer in golden_layers(network, image) if layer.job is not None]
    assert [one["name"] for one in found["layers"]] == [layer.node.name for layer in golden]
    assert all(one["simulated"] for one in found["layers"])
    for one, layer in zip(found["layers"], golden, strict=True):
        mask = layer.job.channel_mask_1 if isinstance(layer.job, AddJob) else layer.job.channel_mask
        assert one["winners"] == (layer.node.input_shapes[0][0] if mask is None else mask.sum()), one["name"]


def test_simulate_layers_of_a_network(tmp_path, capsys):
    report = tmp_path / "report.json"
    assert main(["simulate", str(EVERY_OPERATION), *ENGINE, "--layer", "sum", "--layer", "grouped", "--winner-rate",
                 "0.5", "--json", str(report)]) == 0
    found = json.loads(report.read_text())
    assert [one["name"] for one in found["layers"]] == found["layers_alone"][::-1] == ["grouped", "sum"]
    assert found["layers"][0]["winners"] == 8 and found["bit_exact"] is True
    capsys.readouterr()
    assert main(["simulate", str(EVERY_OPERATION), *ENGINE, "--layer", "both"]) == 2
    assert re.fullmatch("winnow: error: --layer: expected one of stem, depthwise, grouped, mix, .*, got both\n",
                        capsys.readouterr().err)


def test_simulate_sampled_layers(tmp_path, capsys):
    report = tmp_path / "report.json"
    assert main(["simulate", str(EVERY_OPERATION), *ENGINE, "--sample-layers", "3", "--json", str(report)]) == 0
    text, found = capsys.readouterr().out, json.loads(report.read_text())
    simulated = [one["name"] for one in found["layers"] if one["simulated"]]
    assert simulated == found["layers_alone"] and len(simulated) == 3 and len(found["layers"]) == 11
    assert "3 of 11 layers simulated" in text and text.count(" (model)  ") == 8 + 2 * 8
    for one in found["layers"]:
        assert one["name"].endswith(" (model)") == (not one["simulated"])
        for run in ("dense", "sparse"):
            assert one["simulated"] or one[run]["cycles"] == one[run]["predicted_cycles"]
    assert found["total"]["dense"]["cycles"] == sum(one["dense"]["cycles"] for one in found["layers"])


@pytest.mark.parametrize("kind", OPERATIONS)
def test_run_layer_and_estimate_of_every_operation(kind, tmp_path, capsys):
    path, out, report = tmp_path / "job.npz", tmp_path / "out.npz", tmp_path / "report.json"
    random_operation(11, kind=kind, max_macs=20000, max_channels=64).save(path)
    assert main(["run-layer", str(path), *ENGINE, "--out", str(out), "--json", str(report)]) == 0
    measured, expected = json.loads(report.read_text()), reference(load_job(path))
    for name in ("output", "scores", "winners"):
        assert np.array_equal(getattr(LayerResult.load(out), name), getattr(expected, name))
    assert measured["bit_exact"] is True
    assert main(["estimate", str(path), *ENGINE, "--json", str(report)]) == 0
    estimate, = json.loads(report.read_text())["layers"]
    assert estimate["bytes_read"] == measured["predicted_bytes_read"] == measured["bytes_read"]
    assert estimate["bytes_written"] == measured["predicted_bytes_written"] == measured["bytes_written"]
    assert estimate["cycles"] == measured["predicted_cycles"]
    assert estimate["ideal_cycles"] == measured["ideal_cycles"]
