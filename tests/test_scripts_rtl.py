"""The commands that simulate, on a small engine in RTL: run-layer, simulate, conformance."""

import json
from dataclasses import replace

import numpy as np
import pytest

import sim.execute
from golden.job import LayerJob
from golden.network import QuantizedNetwork
from golden.reference import LayerResult
from golden.reference import run as reference
from scripts.cli import main
from sim.conformance import batches
from sim.verilator import SimulationError
from tests.small_network import ENGINE, save_network, small_job


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return save_network(tmp_path_factory.mktemp("network") / "tiny.npz")


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    path = tmp_path_factory.mktemp("job") / "job.npz"
    small_job().save(path)
    return path


def run_layer(job, folder, *options) -> tuple[int, dict, LayerResult]:
    report, out = folder / "report.json", folder / "out.npz"
    code = main(["run-layer", str(job), *ENGINE, *options, "--json", str(report), "--out", str(out)])
    return code, json.loads(report.read_text()), LayerResult.load(out)


@pytest.mark.parametrize("memory", ["fast", "stall"])
def test_run_layer(memory, job, tmp_path, capsys):
    code, report, result = run_layer(job, tmp_path, "--memory", memory, "--seed", "3")
    assert (code, capsys.readouterr().out) == (0, "")
    expected = reference(LayerJob.load(job))
    for name in ("output", "scores", "winners"):
        assert np.array_equal(getattr(result, name), getattr(expected, name))
    assert report["bit_exact"] is True and (report["rows"], report["cols"]) == (4, 4)
    assert report["array_active_cycles"] + sum(report["stall_cycles"].values()) == report["cycles"]
    ideal = 4 * 9 * 6 * 35 / 16
    assert (report["ideal_cycles"], report["utilization"]) == (ideal, ideal / report["cycles"])
    assert report["bytes_read"] == report["predicted_bytes_read"]
    assert report["bytes_written"] == report["predicted_bytes_written"] == {"activations": 6 * 35, "mask": 6 + 1}
    assert report["bytes_read"]["weights"] == 4 * 9 * 6
    assert (report["memory"], report["seed"], report["winners"], report["channels"]) == (memory, 3, 4, 8)
    assert report["command"].startswith("winnow run-layer ")
    if memory == "fast":
        assert abs(report["predicted_cycles"] - report["cycles"]) <= 50
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "out.npz"}


def test_run_layer_prints_without_json(job, capsys):
    assert main(["run-layer", str(job), *ENGINE]) == 0
    text = capsys.readouterr().out
    assert "4 of 8" in text and text.endswith("bit-exact: yes\n")


def test_a_wrong_result_is_exit_code_1(job, tmp_path, capsys, monkeypatch):
    def almost(job):
        result = reference(job)
        output = result.output.copy()
        output[2, 1, 3] ^= 1
        return replace(result, output=output)

    monkeypatch.setattr("golden.reference.run", almost)
    code, report, result = run_layer(job, tmp_path)
    assert code == 1 and report["bit_exact"] is False
    want = result.output[2, 1, 3] ^ 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"winnow: error: not bit-exact: job: output: 1 of 210 values differ, the first at [2, 1, 3]: "
        f"{result.output[2, 1, 3]}, expected {want}")


def test_a_failed_simulation_is_exit_code_1(job, tmp_path, capsys, monkeypatch):
    def fail(*_, **__):
        raise SimulationError("program 0: no interrupt within 5 cycles; log: simulation.log")

    monkeypatch.setattr("sim.simulator.Simulator.run", fail)
    assert main(["run-layer", str(job), *ENGINE, "--out", str(tmp_path / "out.npz")]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "winnow: error: program 0: no interrupt within 5 cycles; log: simulation.log")
    assert not list(tmp_path.iterdir())


def test_simulate(network, tmp_path, capsys):
    report, plot = tmp_path / "report.json", tmp_path / "plot.png"
    assert main(["simulate", str(network), *ENGINE, "--seed", "4", "--json", str(report), "--plot", str(plot)]) == 0
    text = capsys.readouterr().out
    for word in ("one", "two", "three", "total", "4 of 10", "speed-up", "exploitation", "Bit-exact"):
        assert word in text
    assert plot.read_bytes().startswith(b"\x89PNG")

    found = json.loads(report.read_text())
    model = QuantizedNetwork.load(network)
    image = np.random.default_rng(4).integers(-128, 128, (3, 6, 9), np.int8)
    golden = {"dense": model.run(image, dense=True), "sparse": model.run(image)}
    assert found["bit_exact"] is True and found["label"] is None
    assert found["predicted_class"] == {name: int(runs[-1][1].output.argmax()) for name, runs in golden.items()}
    assert [one["winners"] for one in found["layers"]] == [len(job.winner_indices) for job, _ in golden["sparse"]]
    for name, runs in golden.items():
        cycles = 0
        for line, (job, _) in zip(found["layers"], runs, strict=True):
            one = line[name]
            rows, columns = job.conv_shape[1:]
            taps = job.weight[0, 0].size
            assert one["ideal_cycles"] == one["winners"] * taps * job.weight.shape[0] * rows * columns / 16
            assert one["bytes_read"] == one["predicted_bytes_read"]
            assert one["bytes_written"] == one["predicted_bytes_written"]
            assert one["array_active_cycles"] + sum(one["stall_cycles"].values()) == one["cycles"]
            cycles += one["cycles"]
        assert found["total"][name]["cycles"] == cycles
    for line in found["layers"]:
        assert line["speedup"] == line["dense"]["cycles"] / line["sparse"]["cycles"]
        assert line["exploitation"] == pytest.approx(line["speedup"] * line["winners"] / line["channels"])
    assert found["layers"][0]["dense"]["bytes_read"]["activations"] == 3 * 6 * 9


def test_simulate_one_layer_or_dense(network, tmp_path, capsys):
    report = tmp_path / "report.json"
    assert main(["simulate", str(network), *ENGINE, "--layer", "two", "--json", str(report)]) == 0
    found = json.loads(report.read_text())
    assert [one["name"] for one in found["layers"]] == ["two"] and found["bit_exact"] is True
    assert found["layers"][0]["winners"] == 4 and "predicted_class" not in found
    assert found["layers"][0]["sparse"]["bytes_read"]["activations"] == 4 * 3 * 4
    capsys.readouterr()
    assert main(["simulate", str(network), *ENGINE, "--dense", "--json", str(report)]) == 0
    found = json.loads(report.read_text())
    assert [set(one) for one in found["layers"]] == [{"name", "dense", "simulated"}] * 3 and found["bit_exact"] is True
    assert "speed-up" not in capsys.readouterr().out


def test_simulate_refuses_what_the_network_cannot_take(network, capsys):
    assert main(["simulate", str(network), *ENGINE, "--image", "3"]) == 2
    assert capsys.readouterr().err == ("winnow: error: --image, --accuracy: expected a network whose input is a digit "
                                       "[1, 28, 28], got one of [3, 6, 9]\n")


@pytest.mark.parametrize(("config", "memory"), [("small", "stall"), ("narrow", "fast")])
def test_conformance(config, memory, tmp_path, capsys):
    report = tmp_path / "report.json"
    assert main(["conformance", "--jobs", "8", "--config", config, "--memory", memory, "--max-macs", "60000", "--json",
                 str(report)]) == 0
    found = json.loads(report.read_text())
    assert (found["jobs"], found["run"] + found["refused"], found["failures"]) == (8, 8, [])
    assert found["bit_exact"] == found["bytes_as_predicted"] == found["run"] > 0
    assert found["engines"] == [config] and found["memory"] == memory and found["occurred"]["partial group"] > 0
    assert "bit-exact: " in capsys.readouterr().out


def test_conformance_says_which_job_failed(capsys, monkeypatch):
    difference = sim.execute.difference
    monkeypatch.setattr("sim.execute.difference",
                        lambda got, want, **rest: "output: wrong" if got.output.size == sizes[2]
                        else difference(got, want, **rest))
    from golden.random_jobs import random_job

    sizes = [reference(random_job(seed, max_macs=20000)).output.size for seed in range(4)]
    assert len(set(sizes)) == 4
    command = "conformance --config small --memory stall --max-macs 20000 --seed 0 --jobs"
    assert main([*command.split(), "4"]) == 1
    captured = capsys.readouterr()
    assert f"FAILED job 2: output: wrong; winnow {command} 3" in captured.err
    assert captured.err.endswith("winnow: error: 1 of 4 jobs failed\n")
    assert "bit-exact: 3 of 4" in captured.out


def test_batches():
    assert list(batches(7, 100, ["a", "b"], 3)) == [("a", range(100, 103)), ("b", range(103, 106)),
                                                    ("a", range(106, 107))]
    assert list(batches(2, 0, ["a", "b"], 25)) == [("a", range(1)), ("b", range(1, 2))]
