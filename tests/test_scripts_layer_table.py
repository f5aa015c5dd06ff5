"""Layers of ResNet-18 and MobileNet v1: the committed results against targets and the model, the command in RTL."""

import itertools
import json

import numpy as np
import pytest

from golden.networks import build, names
from hw.config import EngineConfig
from scripts.layer_table import MAPS, SIMULATED, main
from scripts.make_docs import layers
from sim.estimate import estimate_layers, job_question
from sim.network import estimate_network

ENGINE = EngineConfig(rows=7, columns=32)


@pytest.fixture(scope="module")
def found():
    return layers()


def test_results_are_of_the_engine_that_is_said(found):
    assert [found[name] for name in ("rows", "cols", "axi_width", "act_buffer_bytes", "weight_buffer_bytes", "memory",
                                     "winner_rate")] == [7, 32, 128, 131072, 131072, "fast", 0.5]


def test_every_layer_is_there_once(found):
    resnet = [node for node in build("resnet18").layers if node.op == "conv" and node.kernel in ((3, 3), (1, 1))
              and node.output_shape[1] in MAPS]
    depthwise = [node for node in build("mobilenet_v1_1.0_224").layers if node.groups > 1]
    for kind, nodes in (("convolutions", resnet), ("depthwise", depthwise)):
        assert sum(one["count"] for one in found[kind]) == len(nodes)
        sizes = {(node.input_shapes[0], node.output_shape, node.kernel[0], node.stride[0]) for node in nodes}
        assert sizes == {((one["channels"], one["height"], one["width"]),
                          (one["out_channels"], one["out_height"], one["out_width"]), one["kernel"], one["stride"])
                         for one in found[kind]}
        assert len(found[kind]) == len(sizes)


def test_measures_follow_from_cycles(found):
    for one in [*found["convolutions"], *found["depthwise"]]:
        assert one["dense"]["utilization"] == pytest.approx(one["products"] / 224 / one["dense"]["cycles"])
        assert one["winners"]["winners"] == one["channels"] // 2
        assert one["speedup"] == one["dense"]["cycles"] / one["winners"]["cycles"]
        assert one["dense"]["bit_exact"] and one["winners"]["bit_exact"]
    for one in found["convolutions"]:
        assert one["exploitation"] == pytest.approx(one["speedup"] / 2)
    for one in found["depthwise"]:
        assert one["one_column_cycles"] == one["products"] // 7
        assert one["gain"] == one["one_column_cycles"] / one["dense"]["cycles"]
    weights = [one["count"] * one["products"] for one in found["convolutions"]]
    assert found["mean"]["exploitation"] == pytest.approx(
        np.average([one["exploitation"] for one in found["convolutions"]], weights=weights))
    assert found["mean"]["utilization"] == pytest.approx(
        np.average([one["dense"]["utilization"] for one in found["convolutions"]], weights=weights))


def test_results_are_those_of_this_engine(found):
    """Exact bytes and near cycles by the model, so that a change of the engine asks for new results."""
    from scripts.layer_table import layer_job

    nodes = {node.name: node for name in ("resnet18", "mobilenet_v1_1.0_224") for node in build(name).layers}
    for one in [*found["convolutions"], *found["depthwise"]]:
        for run in ("dense", "winners"):
            job = layer_job(nodes[one["layer"]], found["seed"], sparse=run == "winners")
            model, = estimate_layers([job_question(one["layer"], job, ENGINE)], ENGINE)
            measured = one[run]
            assert measured["bytes_read"] == model.predicted.bytes_read, one["layer"]
            assert measured["bytes_written"] == model.predicted.bytes_written, one["layer"]
            assert abs(measured["cycles"] - model.predicted.cycles) <= max(50, measured["cycles"] / 100), one["layer"]


def test_networks_are_those_of_the_model(found):
    by_name = {one["network"]: one for one in found["networks"]}
    assert set(by_name) == {*names(), "mobilenet_v1_0.25_128"}
    for name, one in by_name.items():
        network = build(name) if name == "lenet4" else build(name).with_winners(0.5)
        for run in ("dense", "winners"):
            cycles = sum(layer.predicted.cycles for layer in estimate_network(network, ENGINE, dense=run == "dense"))
            assert one[run]["predicted"]["cycles"] == pytest.approx(cycles, rel=0.01), name
    assert {name for name, one in by_name.items() if "measured" in one["dense"]} == set(SIMULATED)
    for name, run in itertools.product(SIMULATED, ("dense", "winners")):
        predicted, measured = (by_name[name][run][key] for key in ("predicted", "measured"))
        assert measured["bit_exact"]
        assert measured["bytes_read"] == measured["predicted_bytes_read"]
        assert measured["bytes_written"] == measured["predicted_bytes_written"]
        # A prediction beforehand knows how many win, not which: of a dense run it is the same.
        assert run == "winners" or predicted["bytes_read"] == measured["bytes_read"]
        assert measured["cycles"] == pytest.approx(measured["predicted_cycles"], rel=0.06)


def test_one_layer_in_rtl(tmp_path, capsys):
    report = tmp_path / "report.json"
    engine = ["--rows", "4", "--cols", "4", "--axi-width", "64", "--act-buffer-bytes", "4096", "--weight-buffer-bytes",
              "4096"]
    assert main([*engine, "--layer", "stage4_1_shortcut", "--layer", "block13_depthwise", "--json", str(report)]) == 0
    text, found = capsys.readouterr().out, json.loads(report.read_text())
    assert [one["layer"] for one in found["convolutions"]] == ["stage4_1_shortcut"] and not found["networks"]
    assert [one["layer"] for one in found["depthwise"]] == ["block13_depthwise"]
    assert "weighted by ideal cycles" in text and found["convolutions"][0]["exploitation"] > 0.9
    assert main(["--layer", "conv1"]) == 2
    assert capsys.readouterr().err.startswith("winnow: error: --layer: expected layers among stage1_1_conv1, ")
