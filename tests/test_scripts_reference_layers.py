"""The reference layers: the committed results against the targets and the model, and the command in RTL."""

import json

import pytest

from hw.config import EngineConfig
from scripts.make_docs import results
from scripts.reference_layers import COMPARED, LAYERS, main, reference_jobs
from sim.estimate import estimate_layers, job_question

# The least utilization when dense, and the least exploitation at a winner rate of 1/2 and of 1/4.
TARGETS = {"small": (0.90, 0.80, 0), "conv3": (0.97, 0.95, 0.95), "conv5": (0.91, 0.95, 0.95)}
RANKING_CYCLES = 64


@pytest.fixture(scope="module")
def measured():
    found = results()
    return {(one["layer"], one["run"]): one for one in found["layers"] + found["rankings"]}


def test_results_are_of_the_default_engine():
    found, config = results(), EngineConfig()
    assert (found["rows"], found["cols"], found["axi_width"], found["memory"]) == (
        config.rows, config.columns, config.axi_data_bits, "fast")
    assert (found["act_buffer_bytes"], found["weight_buffer_bytes"]) == (
        config.act_buffer_bytes, config.weight_buffer_bytes)


@pytest.mark.parametrize("layer", COMPARED)
def test_results_reach_the_targets(layer, measured):
    dense, *sparse = (measured[layer, run] for run in ("dense", "0.5", "0.25"))
    channels, side, outputs, kernel, _ = LAYERS[layer]
    for one, winners in zip((dense, *sparse), (channels, channels // 2, channels // 4), strict=True):
        assert one["winners"] == winners
        assert one["utilization"] == winners * kernel**2 * outputs * side**2 / 256 / one["cycles"]
    least, *exploitations = TARGETS[layer]
    assert dense["utilization"] >= least
    for one, target in zip(sparse, exploitations, strict=True):
        assert one["exploitation"] == pytest.approx(dense["cycles"] / one["cycles"] * one["winners"] / channels)
        assert one["exploitation"] >= target


def test_ranking_adds_few_cycles(measured):
    runs = {run: one for (layer, run), one in measured.items() if layer == "ranked"}
    for run, one in runs.items():
        assert one["added_cycles"] == one["cycles"] - runs["none"]["cycles"] <= RANKING_CYCLES, run


def test_results_are_those_of_this_engine(measured):
    """Exact bytes and near cycles by the model, so that a change of the engine asks for new results."""
    jobs = reference_jobs(list(LAYERS), results()["seed"])
    assert set(jobs) == set(measured)
    for key, job in jobs.items():
        model = estimate_layers([job_question(key[0], job, EngineConfig())], EngineConfig())[0].predicted
        one = measured[key]
        assert one["bit_exact"] is True
        assert (one["bytes_read"], one["bytes_written"]) == (model.bytes_read, model.bytes_written), key
        assert abs(one["cycles"] - model.cycles) <= max(50, one["cycles"] / 100), key


def test_the_command_in_rtl(tmp_path, capsys):
    path = tmp_path / "report.json"
    engine = ["--rows", "4", "--cols", "4", "--axi-width", "64", "--act-buffer-bytes", "4096",
              "--weight-buffer-bytes", "4096"]
    assert main([*engine, "--layer", "small", "--layer", "small", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert found["rankings"] == [] and [one["run"] for one in found["layers"]] == ["dense", "0.5", "0.25"]
    for one, winners in zip(found["layers"], (16, 8, 4), strict=True):
        assert one["bit_exact"] is True and one["winners"] == winners
        assert one["array_active_cycles"] + sum(one["stall_cycles"].values()) == one["cycles"]
        assert one["ideal_cycles"] == winners * 9 * 32 * 256 / 16 <= one["cycles"]
        assert one["bytes_read"] == one["predicted_bytes_read"]
        assert one["bytes_written"] == one["predicted_bytes_written"]
    text = capsys.readouterr().out
    assert "4x4 array, 64-bit AXI, fast memory" in text and "exploitation" in text and "cycles a second" in text


def test_bad_options(capsys):
    assert main(["--layer", "none"]) == 2
    assert capsys.readouterr().err.startswith("winnow: error: Invalid value for '--layer'")
