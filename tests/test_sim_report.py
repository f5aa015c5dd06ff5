"""The measures, against figures worked out by hand; tables and files."""

import json

import pytest

from hw.config import EngineConfig
from hw.plan import LayerShape, make_plan
from hw.registers import COUNTERS
from sim.analytical import Prediction
from sim.report import (
    bytes_table,
    compare,
    comparison_table,
    cycles_table,
    measure,
    stall_table,
    table,
    total,
    with_total,
    write_json,
    write_whole,
)
from sim.workload import Workload

CONFIG = EngineConfig(rows=4, columns=8)
SHAPE = LayerShape(channels=6, height=10, width=12, out_channels=16, kernel=(3, 2), padding=(1, 1, 0, 1))
PLAN = make_plan(SHAPE, CONFIG)
READ = {"activations": 100, "weights": 200, "parameters": 30 + 4 + 200}
WRITTEN = {"activations": 50, "mask": 7}


def a_measure(*, name="one", winners=3, cycles=2000, **changes):
    counters = dict.fromkeys(COUNTERS, 0) | {
        "cycles": cycles, "read_activations": 100, "read_weights": 200, "read_parameters": 30, "read_mask": 4,
        "read_program": 200, "read_beats": 99, "write_activations": 50, "write_mask": 7, "write_beats": 9,
        "array_active": 1500, "stall_weights": cycles - 1500, "rank_exposed": 5} | changes
    return measure(name=name, workload=Workload(plan=PLAN, winners=[winners]), counters=counters, bit_exact=True,
                   prediction=Prediction(cycles=2020, bytes_read=READ, bytes_written=WRITTEN))


def test_measure():
    one = a_measure()
    assert one.ideal_cycles == 3 * 6 * 16 * (10 * 12) / 32  # winners * taps * output channels * pixels / PEs
    assert one.utilization == 1080 / 2000
    assert one.bytes_read == READ and one.bytes_written == WRITTEN and one.bytes_as_predicted
    assert one.stall_cycles == {"program": 0, "activations": 0, "weights": 500, "drain": 0, "output": 0}
    assert one.array_active_cycles + sum(one.stall_cycles.values()) == one.cycles
    assert not a_measure(write_mask=8).bytes_as_predicted
    assert not a_measure(read_program=0).bytes_as_predicted


def test_report_has_the_fields_of_the_contract():
    fields = a_measure().fields()
    contract = ["rows", "cols", "cycles", "array_active_cycles", "stall_cycles", "bytes_read", "bytes_written",
                "ideal_cycles", "utilization", "predicted_cycles", "predicted_bytes_read", "predicted_bytes_written",
                "bit_exact"]
    assert list(fields)[:len(contract)] == contract
    assert (fields["rows"], fields["cols"], fields["predicted_cycles"], fields["bit_exact"]) == (4, 8, 2020, True)
    for prefix in ("", "predicted_"):
        assert list(fields[prefix + "bytes_read"]) == ["activations", "weights", "parameters"]
        assert list(fields[prefix + "bytes_written"]) == ["activations", "mask"]


def test_comparison():
    dense = [a_measure(winners=6, cycles=4000), a_measure(name="two", winners=6, cycles=9000)]
    sparse = [a_measure(winners=3, cycles=2100), a_measure(name="two", winners=2, cycles=4000)]
    one, two, whole = compare(dense, sparse)
    assert (one.speedup, one.ideal, one.exploitation) == (4000 / 2100, 2, 4000 / 2100 / 2)
    assert (two.winners, two.channels, two.ideal, two.exploitation) == (2, 6, 3, 0.75)
    # With the ideal speed-up of each layer the 13,000 cycles would be 2,000 and 3,000.
    assert (whole.name, whole.speedup, whole.ideal) == ("total", 13000 / 6100, 13000 / 5000)
    assert whole.exploitation == pytest.approx(5000 / 6100)
    assert compare(dense[:1], sparse[:1]) == [one]


def test_without_winners_there_is_no_ideal():
    (line,) = compare([a_measure(winners=6)], [a_measure(winners=0, cycles=1600)])
    assert (line.ideal, line.exploitation, line.speedup) == (None, None, 1.25)
    assert " - " in comparison_table([a_measure(winners=6)], [a_measure(winners=0, cycles=1600)])


def test_total():
    layers = [a_measure(cycles=2000), a_measure(name="two", cycles=3000, write_mask=9)]
    whole = total(layers)
    assert (whole.cycles, whole.array_active_cycles, whole.stall_cycles["weights"]) == (5000, 3000, 2000)
    assert (whole.bytes_written["mask"], whole.predicted.bytes_written["mask"]) == (16, 14)
    assert (whole.ideal_cycles, whole.predicted.cycles) == (2160, 4040)
    assert not whole.bytes_as_predicted
    assert with_total(layers) == [*layers, whole] and with_total(layers[:1]) == layers[:1]


def test_tables():
    dense, sparse = [a_measure(winners=6, cycles=4000)], [a_measure(cycles=2100, write_mask=8)]
    text = comparison_table(dense, sparse)
    for cell in ("one", "3 of 6", "4,000", "2,100", "1.90", "2.00", "95.2 %", "2,020 (-3.81 %)"):
        assert cell in text
    assert "2,020 (+1.00 %)" in cycles_table([a_measure()])
    rows = bytes_table({"dense": dense, "sparse": sparse}).splitlines()
    assert rows[2].split()[:2] == ["one", "dense"] and rows[2].endswith("591    yes")
    assert rows[3].split()[:2] == ["one", "sparse"] and rows[3].endswith("NO")
    assert "75.0 %" in stall_table({"one": [a_measure()]})
    lines = table(["layer", "n"], [["a", "1"], ["bcd", "22"], ["total", "23"]]).splitlines()
    assert lines == ["layer   n", "---------", "a       1", "bcd    22", "---------", "total  23"]


def test_files_appear_whole_or_not_at_all(tmp_path):
    path = tmp_path / "report.json"
    write_json(path, {"cycles": 3})
    assert json.loads(path.read_text()) == {"cycles": 3}
    with pytest.raises(TypeError):
        write_json(path, {"cycles": object()})

    def fail(partial):
        partial.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, fail)
    assert json.loads(path.read_text()) == {"cycles": 3} and list(tmp_path.iterdir()) == [path]
