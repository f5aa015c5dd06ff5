"""SCALE-Sim's topology files: what is read, what is refused, and its cycle counts against published ones."""

import re

import pytest

from hw.config import EngineConfig
from hw.plan import LayerShape
from sim.estimate import estimate_layers, topology_questions
from sim.topology import TopologyError, read_topology

HEADER = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n"


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "net.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_layers(write):
    layers = read_topology(write("\ufeff" + HEADER + "Conv1,\t227, 227, 11, 11, 3, 96, 4,\r\n\n  \n"
                                 "FC,1,1,1,1,4096,10,1\nwide, 9, 20, 3, 5, 2, 7, 1, 2,\n"))
    assert [layer.name for layer in layers] == ["Conv1", "FC", "wide"]
    assert layers[0].shape == LayerShape(channels=3, height=227, width=227, out_channels=96, kernel=(11, 11),
                                         stride=(4, 4))
    assert layers[0].shape.conv_extent == (55, 55)
    assert layers[1].shape.conv_extent == (1, 1)
    assert layers[2].shape.stride == (1, 2) and layers[2].shape.kernel == (3, 5)


@pytest.mark.parametrize("text, message", [
    ("", "net.csv: expected a header line, got an empty file"),
    ("Conv1, 8, 8, 3, 3, 1, 1, 1,\n", "net.csv: line 1: expected the header Layer name, IFMAP Height, IFMAP Width, "
     "Filter Height, Filter Width, Channels, Num Filter, Strides"),
    (HEADER + "\n", "net.csv: expected at least one layer below the header"),
    (HEADER + "a, 8, 8, 3, 3, 1, 1,\n", "net.csv: line 2: expected 8 columns (Layer name, IFMAP Height, IFMAP Width, "
     "Filter Height, Filter Width, Channels, Num Filter, Strides), got 7"),
    (HEADER + "\na, 8, 8, 3, 3, 1, 1, 1, 1, 1,\n", "net.csv: line 3: expected 8 columns (Layer name, IFMAP Height, "
     "IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides), got 10"),
    (HEADER + ", 8, 8, 3, 3, 1, 1, 1,\n", "net.csv: line 2, Layer name: expected a name, got nothing"),
    (HEADER + "a, 8, 8.5, 3, 3, 1, 1, 1,\n",
     "net.csv: line 2, IFMAP Width: expected a positive integer, got '8.5'"),
    (HEADER + "a, 8, 8, 3, -3, 1, 1, 1,\n", "net.csv: line 2, Filter Width: expected a positive integer, got '-3'"),
    (HEADER + "a, 8, 8, 3, , 1, 1, 1,\n", "net.csv: line 2, Filter Width: expected a positive integer, got ''"),
    (HEADER + "fc6, 1, 1, 1, 1, 25088, 1, 1,\n",
     "net.csv: line 2, layer fc6, Channels: expected 1..4096, got 25088"),
    (HEADER + "a, 8, 8, 3, 3, 1, 0, 1,\n", "net.csv: line 2, layer a, Num Filter: expected 1..4096, got 0"),
    (HEADER + "a, 30, 30, 12, 3, 1, 1, 1,\n", "net.csv: line 2, layer a, Filter Height: expected 1..11, got 12"),
    (HEADER + "a, 30, 30, 3, 3, 1, 1, 5,\n", "net.csv: line 2, layer a, Strides: expected 1..4, got 5"),
    (HEADER + "a, 8, 2, 3, 3, 1, 1, 1,\n",
     "net.csv: line 2, layer a, Filter Width: expected at most the IFMAP's 2, got 3"),
    (HEADER + "a_DP, 8, 8, 3, 3, 8, 1, 1,\n",
     "net.csv: line 2, Layer name: expected no depthwise layer (DP in its name), got a_DP"),
])
def test_malformed_files_are_refused(write, text, message):
    with pytest.raises(TopologyError, match=f"^{re.escape(message)}$"):
        read_topology(write(text))


@pytest.mark.parametrize("line, rows, cols, output_stationary, weight_stationary", [
    # 3x3 16->32 on 16x16, padded to 18x18: 256 pixels, sums of 144, 32 filters.
    ("18, 18, 3, 3, 16, 32, 1", 16, 16, 16 * 2 * (144 + 30) - 1, 9 * 2 * (256 + 46) - 1),
    ("6, 5, 3, 2, 7, 9, 1", 4, 8, 4 * 2 * (42 + 10) - 1, 11 * 2 * (16 + 14) - 1),
    # A stride that leaves a rest: (8 - 3 + 2) / 2 is 3.5, which SCALE-Sim takes as 4; the engine computes 3.
    ("8, 8, 3, 3, 2, 4, 2", 4, 4, 4 * 1 * (18 + 6) - 1, 5 * 1 * (16 + 10) - 1),
])
def test_scale_sim_counts(write, line, rows, cols, output_stationary, weight_stationary):
    layers = read_topology(write(f"{HEADER}layer, {line},\n"))
    (estimate,) = estimate_layers(topology_questions(layers, None), EngineConfig(rows=rows, columns=cols))
    assert (estimate.os_cycles, estimate.ws_cycles) == (output_stationary, weight_stationary)


def test_winner_rates(write):
    layers = read_topology(write(HEADER + "a, 8, 8, 3, 3, 3, 32, 1,\nb, 6, 6, 3, 3, 32, 50, 1,\n"
                                 "c, 4, 4, 1, 1, 50, 8, 1,\n"))
    config = EngineConfig()
    dense = estimate_layers(topology_questions(layers, None), config)
    sparse = estimate_layers(topology_questions(layers, 0.25), config)
    assert [one.winners for one in dense] == [3, 32, 50]
    assert [one.winners for one in sparse] == [3, 8, 12]  # the first layer sees an image; 12.5 is rounded to even
    assert [one.predicted.bytes_read["activations"] for one in sparse] == [3 * 64, 8 * 36, 12 * 16]
    assert [one.predicted.bytes_read["weights"] for one in sparse] == [3 * 9 * 32, 8 * 9 * 50, 12 * 8]
    assert [one.predicted.bytes_written["mask"] for one in sparse] == [32 + 4, 50 + 7, 8]
    assert [one.ideal_cycles for one in sparse] == [3 * 9 * 32 * 36 / 256, 8 * 9 * 50 * 16 / 256, 12 * 8 * 16 / 256]
    assert sparse[1].predicted.cycles < dense[1].predicted.cycles
    assert [one.os_cycles for one in sparse] == [one.os_cycles for one in dense]
