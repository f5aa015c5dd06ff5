"""The trace: events of Chrome's format, layers behind each other, causes that add up, bytes that come back."""

import json
from itertools import pairwise

import pytest

from sim.cycle_parts import LABELS
from sim.trace import LAYERS, PARTS, write_trace
from tests import compare_reports as reports


def written(report, tmp_path):
    write_trace(tmp_path / "trace.json", report)
    return json.loads((tmp_path / "trace.json").read_text())


def slices(events, process, thread):
    return [event for event in events if event["ph"] == "X" and (event["pid"], event["tid"]) == (process, thread)]


@pytest.mark.parametrize(("name", "cycle"), [("small", 1 / 79.2), ("large", 1 / 79.2), ("bare", 1.0)])
def test_layers_and_causes_on_the_axis_of_time(name, cycle, tmp_path):
    report = getattr(reports, name)()
    events = written(report, tmp_path)["traceEvents"]
    for process, run in ((1, "dense"), (2, "sparse")):
        layers = slices(events, process, LAYERS)
        assert [event["name"] for event in layers] == [layer["name"] for layer in report["layers"]]
        now = 0
        for event, layer in zip(layers, report["layers"], strict=True):
            counters = layer["engine"][run]
            assert (event["ts"], event["dur"]) == pytest.approx((now * cycle, counters["cycles"] * cycle))
            assert event["args"]["bytes_read"] == counters["bytes_read"]
            assert event["args"]["MACs"] == layer["macs"][run]
            inside = [part for part in slices(events, process, PARTS)
                      if event["ts"] <= part["ts"] + 1e-9 and part["ts"] < event["ts"] + event["dur"] - 1e-9]
            if counters["source"] == "analytical":
                assert inside == []
            else:
                found = {part["name"]: part["args"]["cycles"] for part in inside}
                expected = {"active": counters["array_active_cycles"], **counters["stall_cycles"]}
                assert {LABELS[cause]: count for cause, count in expected.items() if count}.items() <= found.items()
                assert sum(found.values()) == counters["cycles"]
                assert all("not in the moments" in part["args"]["note"] for part in inside)
                ends = [part["ts"] + part["dur"] for part in inside]
                assert [part["ts"] for part in inside] == pytest.approx([event["ts"], *ends[:-1]])
            now += counters["cycles"]


def test_counters_give_the_bytes_back(tmp_path):
    report = reports.small()
    events = written(report, tmp_path)["traceEvents"]
    total = report["total"]["engine"]
    for process, run in ((1, "dense"), (2, "sparse")):
        counted = {}
        for event in events:
            if event["ph"] == "C" and event["pid"] == process:
                counted.setdefault(event["name"], []).append((event["ts"], event["args"]["bytes a cycle"]))
        sums = {name: sum(value * (after - before) * 79.2 for (before, value), (after, _) in
                          pairwise(points)) for name, points in counted.items()}
        expected = {f"{tensor} {way}, bytes a cycle": count for way, kinds in
                    (("read", total[run]["bytes_read"]), ("written", total[run]["bytes_written"]))
                    for tensor, count in kinds.items()}
        assert sums == pytest.approx(expected)
        assert all(points[-1][1] == 0 for points in counted.values())


def test_every_event_is_of_the_format(tmp_path):
    trace = written(reports.large(), tmp_path)
    needed = {"X": {"name", "pid", "tid", "ts", "dur", "args"}, "C": {"name", "pid", "ts", "args"},
              "M": {"name", "pid", "tid", "args"}}
    assert trace["displayTimeUnit"] in ("ms", "ns")
    for event in trace["traceEvents"]:
        assert set(event) == needed[event["ph"]] | {"ph"}
        if event["ph"] == "C":
            assert all(isinstance(value, (int, float)) for value in event["args"].values())
    names = {event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "process_name"}
    assert {name.split(", ")[-1] for name in names} == {"dense", "sparse"}
    assert reports.HOSTILE in {event["name"] for event in trace["traceEvents"]}


def test_the_unit_of_time_is_said(tmp_path):
    assert written(reports.small(), tmp_path)["otherData"]["time"] == "79.2 MHz"
    assert written(reports.bare(), tmp_path)["otherData"]["time"].startswith("1 us = 1 cycle")
