"""The runs of ``winnow compare`` as a trace for Perfetto or Chrome: layers on a time axis with their counters.

The format is Chrome's JSON: complete events ``X``, counters ``C``, metadata ``M``, times in microseconds.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .cycle_parts import LABELS, cycle_parts
from .report import write_json

RUNS = ("dense", "sparse")
LAYERS, PARTS = 1, 2
"""The tracks of slices."""
SUMS = "The cycles of each cause in sum over the layer, one behind the other, not in the moments when they passed."


def write_trace(path: Path, report: Mapping[str, Any]) -> None:
    """Write the trace of a report of ``winnow compare``; the file appears whole or not at all.

    A process for each run, dense and sparse, with a slice for each layer, below it slices of its cycles by cause, and
    the bytes a cycle of each tensor as counters. At the engine's frequency, or a microsecond a cycle if that is not
    known; ``otherData`` says which.
    """
    write_json(path, trace(report))


def trace(report: Mapping[str, Any]) -> dict[str, Any]:
    """The trace as it is written."""
    mhz = report["engine"]["mhz"]
    time = f"{mhz:g} MHz" if mhz else "1 us = 1 cycle (the engine's frequency is not known)"
    events = [event for process, run in enumerate(RUNS, start=1)
              for event in _run(report, run, process, mhz or 1, time)]
    return {"traceEvents": events, "displayTimeUnit": "ns",
            "otherData": {"network": report["network"], "command": report["command"], "winnow": report["winnow"],
                          "time": time, "causes": SUMS}}


def _run(report: Mapping[str, Any], run: str, process: int, mhz: float, time: str) -> Iterator[dict[str, Any]]:
    def named(what: str, thread: int, **args: Any) -> dict[str, Any]:
        return {"ph": "M", "name": what, "pid": process, "tid": thread, "args": args}

    def slice(name: str, thread: int, start: int, cycles: int, args: Mapping[str, Any]) -> dict[str, Any]:
        return {"ph": "X", "name": name, "pid": process, "tid": thread, "ts": start / mhz, "dur": cycles / mhz,
                "args": dict(args)}

    def counter(name: str, start: int, value: float) -> dict[str, Any]:
        return {"ph": "C", "name": f"{name}, bytes a cycle", "pid": process, "ts": start / mhz,
                "args": {"bytes a cycle": value}}

    yield named("process_name", 0, name=f"{report['network']}, {run}")
    yield named("process_labels", 0, labels=time)
    yield named("process_sort_index", 0, sort_index=process)
    yield named("thread_name", LAYERS, name="layers")
    yield named("thread_name", PARTS, name="cycles by cause, in sum")
    now, traffic = 0, {}
    for layer in report["layers"]:
        counters = layer["engine"][run]
        yield slice(layer["name"], LAYERS, now, counters["cycles"], _layer_args(layer, run))
        start = now
        for part, cycles in (cycle_parts(counters) or {}).items():
            yield slice(LABELS[part], PARTS, start, cycles,
                        {"cycles": cycles, "of the layer": cycles / counters["cycles"], "note": SUMS})
            start += cycles
        traffic = _traffic(counters)
        for name, count in traffic.items():
            yield counter(name, now, count / counters["cycles"])
        now += counters["cycles"]
    for name in traffic:
        yield counter(name, now, 0)


def _layer_args(layer: Mapping[str, Any], run: str) -> dict[str, Any]:
    return {"operation": layer["operation"], "channels": layer["channels"],
            "winners": layer["winners"] if run == "sparse" else layer["channels"], "MACs": layer["macs"][run],
            **layer["engine"][run]}


def _traffic(run: Mapping[str, Any]) -> dict[str, int]:
    return ({f"{tensor} read": count for tensor, count in run["bytes_read"].items()}
            | {f"{tensor} written": count for tensor, count in run["bytes_written"].items()})
