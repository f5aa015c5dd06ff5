"""Whole boards, simulated from the pins of their UART to those of their memory chip: ``make test-fpga``.

The commands are those of a user with a board; expected values come from the golden model.
"""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sim.board
from golden.digits import bundled
from golden.network import QuantizedNetwork
from golden.networks import build
from hw.boards.presets import BOARDS
from hw.descriptor import DESCRIPTOR_BYTES
from scripts.cli import main
from sim.network import golden_layers

CNN = Path(__file__).parents[2] / "shared" / "models" / "cfu_mnist_cnn_int8.tflite"

SMALL, LARGE = "ulx3s-12f", "ulx3s-85f"

pytestmark = pytest.mark.fpga


@pytest.fixture(autouse=True)
def own_memory(tmp_path, monkeypatch):
    """The simulated board's memory is not the user's."""
    monkeypatch.setattr(sim.board, "cache_folder", lambda: tmp_path)


def host(board: str, *arguments) -> int:
    return main(["host", "--port", f"sim:{board}", *map(str, arguments)])


def load_and_run(board: str, network, tmp_path) -> tuple[dict, QuantizedNetwork]:
    """Load a network, run a digit with every layer compared: the report of that."""
    digit = tmp_path / "digit.npy"
    np.save(digit, bundled().images[3500])
    assert host(board, "load", network) == 0
    assert host(board, "run", digit, "--every-layer", "--json", tmp_path / "report.json") == 0
    return json.loads((tmp_path / "report.json").read_text())


def check(report: dict, board: str, layers: int) -> None:
    """Exact, and its figures those of that board."""
    assert report["bit_exact"] is True and report["differences"] == [] and report["compared"] == "every layer"
    assert report["simulated"] is True and report["board"] == board
    assert (report["rows"], report["cols"]) == (BOARDS[board].config.rows, BOARDS[board].config.columns)
    assert len(report["layers"]) == layers
    assert sum(row["cycles"] for row in report["layers"]) == report["cycles"][0]
    assert report["frames_per_second"] == BOARDS[board].frequency_mhz * 1e6 / report["cycles"][0]


def test_selftest(tmp_path):
    path = tmp_path / "report.json"
    assert host(SMALL, "selftest", "--jobs", 20, "--json", path) == 0
    report = json.loads(path.read_text())
    assert report["jobs"] == 20 and report["cycles"] > 0 and report["memory_bytes_tested"] > 1000


def test_a_rule_of_the_chip_that_is_broken(monkeypatch, capsys):
    """Here: an access behind its last byte. The simulation ends, and the command says why, in one line."""
    monkeypatch.setattr(sim.board, "MEMORY_BYTES", 1 << 20)
    assert host(SMALL, "selftest") == 1
    assert re.fullmatch(r"winnow: error: storage: no memory at 0x100000; log: .*",
                        capsys.readouterr().err.splitlines()[-1])


@pytest.mark.skipif(not CNN.is_file(), reason=f"no {CNN.name}")
def test_a_published_network(tmp_path):
    """A CNN for MNIST, TFLite's quantization: the digit 7 is a 7, and all bytes are the golden model's."""
    report = load_and_run(SMALL, CNN, tmp_path)
    check(report, SMALL, layers=5)
    assert report["results"][0]["top"][0]["class"] == 7
    # Every weight and constant is read once, and a descriptor a layer.
    read = report["total"]["bytes_read"]
    assert read > sum(weights.size for weights in _weights(CNN)) + 5 * DESCRIPTOR_BYTES


def _weights(path: Path):
    from scripts.models import read_network

    return [node.weight for node in read_network(str(path)).layers]


def test_convolutions_with_winners(tmp_path):
    """Both convolutions of LeNet-4 on the large engine, ranked, the second one of the first one's winners alone."""
    whole = build("lenet4").with_winners({"conv1": 0.5, "conv2": 0.25})
    network = replace(whole, name="lenet4_convolutions", layers=whole.layers[:2])
    path = tmp_path / "convolutions.npz"
    network.save(path)
    report = load_and_run(LARGE, path, tmp_path)
    check(report, LARGE, layers=2)
    assert [row["winners"] for row in report["layers"]] == [1, 16]
    digit = bundled().images[3500].astype(int) - 128
    found = list(golden_layers(network, digit.astype(np.int8)))
    assert [int(layer.result.winners.sum()) for layer in found] == [16, 16]
