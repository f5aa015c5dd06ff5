"""What all commands have in common: help at once, exit codes, errors of one line, no half-written files; estimate."""

import json
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from golden.networks import PATTERNS, names
from golden.random_jobs import random_job
from hw.config import EngineConfig
from hw.program import build_program
from scripts.cli import main, winnow
from sim.analytical import predict
from sim.workload import Workload

JOB_SEED = 7
KNOWN = ", ".join((*names(), *PATTERNS))


@pytest.fixture
def job(tmp_path):
    path = tmp_path / "job.npz"
    random_job(JOB_SEED).save(path)
    return path


def refusal(capsys, *arguments) -> str:
    """The one line on stderr of a command that is refused with exit code 2."""
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    found = re.fullmatch(r"winnow: error: (.*)\n", captured.err)
    assert found, captured.err
    return found[1]


def changed(path, **changes):
    """The job of ``path`` with arrays replaced, or removed (None)."""
    with np.load(path) as npz:
        arrays = {name: npz[name] for name in npz.files} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.mark.parametrize("command", [None, *winnow.commands])
def test_help(command, capsys):
    assert main([command, "--help"] if command else ["--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: winnow {command or '[OPTIONS]'}")
    assert not command or "Examples:" in text
    sized = ("simulate", "run-layer", "estimate", "train", "evaluate", "run", "show", "synth", "compare")
    assert ("--rows" in text) == (command in sized)


def test_help_and_estimates_do_not_wait_for_torch(tmp_path):
    path = tmp_path / "net.csv"
    path.write_text("Layer name, and so on\na, 8, 8, 3, 3, 16, 32, 1,\n")
    code = ("import sys; from scripts.cli import main; codes = [main(['--help']), main(['simulate', '--help'])]; "
            "heavy = {'torch', 'amaranth', 'matplotlib', 'numpy'} & set(sys.modules); "
            f"subjects = ({str(path)!r}, 'lenet4', 'resnet56', 'mobilenet_v1_0.25_128'); "
            "codes += [main(['estimate', subject]) for subject in subjects]; "
            "sys.exit(any(codes) or heavy or 'torch' in sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_no_traceback_from_the_process(tmp_path):
    start = time.monotonic()
    result = subprocess.run([sys.executable, "-m", "scripts.cli", "run-layer", tmp_path / "none.npz"],
                            capture_output=True, text=True)
    assert result.returncode == 2 and result.stdout == ""
    assert re.fullmatch(r"winnow: error: Invalid value for 'JOB.npz': File '.*none.npz' does not exist\.\n",
                        result.stderr)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("arguments, message", [
    (["frobnicate"], "No such command 'frobnicate'."),
    (["run-layer"], "Missing argument 'JOB.npz'."),
    (["run-layer", "JOB", "--rows", "many"], "Invalid value for '--rows': 'many' is not a valid integer."),
    (["run-layer", "JOB", "--rows", "0"], "--rows: expected 1..64, got 0"),
    (["run-layer", "JOB", "--cols", "65"], "--cols: expected 1..64, got 65"),
    (["run-layer", "JOB", "--act-buffer-bytes", "1000"],
     "--act-buffer-bytes: expected a multiple of 32 from 128 to 8388608, got 1000"),
    (["run-layer", "JOB", "--axi-width", "32"], "Invalid value for '--axi-width': '32' is not one of '64', '128'."),
    (["run-layer", "JOB", "--memory", "slow"], "Invalid value for '--memory': 'slow' is not one of 'fast', 'stall'."),
    (["run-layer", "JOB", "--seed", "-1"], "Invalid value for '--seed': -1 is not in the range 0<=x<=2147483647."),
    (["simulate", "vgg"], f"vgg: expected NETWORK.npz, NETWORK.json, or one of {KNOWN}"),
    (["simulate", "mobilenet_v1_2_9"],
     f"network: expected one of {', '.join(names())} or {' or '.join(PATTERNS)} (width up to 8, size 32..1024), "
     "got 'mobilenet_v1_2_9'"),
    (["simulate", "none.json"], "none.json: expected an existing file, got no such file"),
    (["simulate", "lenet4", "--layer", "conv1", "--sample-layers", "2"],
     "--layer, --sample-layers: expected one of them, got both"),
    (["simulate", "lenet4", "--winner-rate", "0.5", "--winner-rates", "JOB"],
     "--winner-rate, --winner-rates: expected one of them, got both"),
    (["simulate", "lenet4", "--winner-rates", "JOB"],
     "JOB: expected a JSON object of layers and their rates above 0, at most 1, got something else"),
    (["simulate", "resnet18", "--image", "1"],
     "--image, --accuracy: expected a network whose input is a digit [1, 28, 28], got one of [3, 224, 224]"),
    (["simulate", "lenet4", "--sample-layers", "0"],
     "Invalid value for '--sample-layers': 0 is not in the range x>=1."),
    (["simulate", "JOB"], "JOB: layers: expected an array of this name, got none"),
    (["simulate", "lenet4", "--image", "5000"], "--image: expected 0..4999, got 5000"),
    (["simulate", "lenet4", "--layer", "conv3"], "--layer: expected one of conv1, conv2, fc1, fc2, got conv3"),
    (["simulate", "lenet4", "--plot", "plot.svg"],
     "Invalid value for '--plot': expected a name that ends with .png, got plot.svg"),
    (["estimate", "vgg.csv"], "vgg.csv: expected an existing file, got no such file"),
    (["estimate", "vgg.npz"], "vgg.npz: expected an existing file, got no such file"),
    (["estimate", "vgg"], f"vgg: expected NETWORK.npz, NETWORK.json, or one of {KNOWN}"),
    (["estimate", "lenet4", "--dense", "--winner-rate", "0.5"], "--dense: expected no winner rates"),
    (["estimate", "JOB", "--winner-rates", "JOB"], "--winner-rates: expected a network, whose layers it names"),
    (["estimate", "lenet4", "--winner-rate", "0"],
     "Invalid value for '--winner-rate': 0.0 is not in the range 0<x<=1."),
    (["conformance", "--jobs", "0"], "Invalid value for '--jobs': 0 is not in the range x>=1."),
])
def test_bad_options(arguments, message, job, capsys, monkeypatch):
    monkeypatch.delenv("WINNOW_DATA", raising=False)
    found = refusal(capsys, *(job if argument == "JOB" else argument for argument in arguments))
    assert found == message.replace("JOB:", f"{job}:")


@pytest.mark.parametrize("changes, message", [
    ({"weight": None}, "weight: expected an array of this name, got none"),
    ({"bias": np.zeros(3, np.int64)}, r"bias: expected int32 \[\d+\], got int64 \[3\]"),
    ({"input_zero_point": np.int64(128)}, "input_zero_point: expected an integer in -128..127, got 128"),
    ({"score": np.array("max"), "select": np.array("topk"), "select_value": np.array(0)},
     r"select_value: expected k in 1..65535 \(an integer\) for topk, got 0"),
    ({"stride": np.array([5, 1])}, r"stride: expected two integers in 1..4 \(vertical, horizontal\), got 5"),
    ({"groups": np.int64(0)}, "groups: expected an integer in 1..65535, got 0"),
])
@pytest.mark.parametrize("command", ["run-layer", "estimate"])
def test_bad_jobs(command, changes, message, job, tmp_path, capsys):
    outputs = ["--json", tmp_path / "report.json"] + (["--out", tmp_path / "out.npz"] if command == "run-layer" else [])
    assert re.fullmatch(message, refusal(capsys, command, changed(job, **changes), *outputs))
    assert list(tmp_path.iterdir()) == [job]


def test_files_that_are_no_jobs(tmp_path, capsys):
    for content in (b"", b"PK\x03\x04 not really", b"text"):
        path = tmp_path / "job.npz"
        path.write_bytes(content)
        assert refusal(capsys, "run-layer", path) == f"{path}: expected an npz file, got something unreadable"


def test_layers_that_do_not_fit_the_engine(tmp_path, capsys):
    path = tmp_path / "net.csv"
    path.write_text("header,\nbig, 9000, 9000, 11, 11, 4096, 1, 1,\n")
    line = refusal(capsys, "estimate", path, "--act-buffer-bytes", "64", "--rows", "4", "--axi-width", "64")
    assert line.startswith("layer big: act_buffer_bytes: ")
    path.write_text("header,\nbig, 9, 9, 3, x, 4, 1, 1,\n")
    assert refusal(capsys, "estimate", path) == "net.csv: line 2, Filter Width: expected a positive integer, got 'x'"


def test_outputs_are_refused_before_the_work(job, tmp_path, capsys):
    missing = tmp_path / "none" / "out.npz"
    message = f"Invalid value for '--out': expected an existing folder, got {missing.parent}"
    assert refusal(capsys, "run-layer", job, "--out", missing) == message
    assert refusal(capsys, "run-layer", job, "--json", tmp_path).endswith("is a directory.")


def test_a_missing_compiler_is_the_environments_fault(job, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "two words"))
    assert refusal(capsys, "run-layer", job).startswith("WINNOW_CACHE: make cannot build in a path with spaces")


def test_estimate_of_a_job(job, tmp_path, capsys):
    report = tmp_path / "report.json"
    assert main(["estimate", str(job), "--rows", "4", "--cols", "4", "--json", str(report)]) == 0
    capsys.readouterr()
    layer, = json.loads(report.read_text())["layers"]
    drawn = random_job(JOB_SEED)
    placed, = build_program([drawn], EngineConfig(rows=4, columns=4)).layers
    expected = predict(Workload(plan=placed.plan, ranking=placed.ranking, winners=[drawn.channel_mask],
                                masked=(True,)))
    assert (layer["cycles"], layer["bytes_read"], layer["bytes_written"]) == (
        expected.cycles, expected.bytes_read, expected.bytes_written)
    assert layer["winners"] == len(drawn.winner_indices)
    assert main(["estimate", str(job), "--winner-rate", "1", "--json", str(report)]) == 0
    assert json.loads(report.read_text())["layers"][0]["winners"] == drawn.input.shape[0]


def test_estimate_of_lenet4(tmp_path, capsys):
    report = tmp_path / "report.json"
    assert main(["estimate", "lenet4", "--json", str(report)]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("conv1", "fc2", "total", "SCALE-Sim OS", "SCALE-Sim WS"))
    measured = json.loads(report.read_text())
    assert [layer["winners"] for layer in measured["layers"]] == [1, 16, 24, round(0.15308349609375 * 1024)]
    # conv2 as SCALE-Sim counts it: 14 * 14 pixels, sums of 32 * 25, 64 filters
    assert measured["layers"][1]["scale_sim_os_cycles"] == 13 * 4 * (800 + 30) - 1
    assert measured["total"]["cycles"] == sum(layer["cycles"] for layer in measured["layers"])
    assert main(["estimate", "lenet4", "--winner-rate", "0.25", "--json", str(report)]) == 0
    assert [layer["winners"] for layer in json.loads(report.read_text())["layers"]] == [1, 8, 16, 256]
