"""The report of ``winnow compare``: the engine dense and sparse, software, plain arrays, the host's CPU.

Its measures are those of :mod:`sim.report`. ``speedup_over_software`` divides the best kernel's cycles, ranking
included where the engine ranks, by the engine's.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from golden.job import AddJob, Job, LayerJob
from hw.config import EngineConfig

from . import compare_software
from .compare_subject import RUNS, Subject
from .cycle_parts import software_cycles
from .execute import Outcome
from .host_cpu import HostCpu, Times
from .network import predicted_measure
from .report import Comparison, Measure, compare, factor, percent, table, total

RTL, ANALYTICAL = "rtl", "analytical"


@dataclass(frozen=True, kw_only=True)
class Clock:
    """The frequency of the engine or of the core, and where it is known from; None where it is not known."""

    mhz: float | None = None
    source: str | None = None

    def fields(self) -> dict[str, Any]:
        """For JSON."""
        return {"mhz": self.mhz, "mhz_source": self.source}


def compare_report(*, subject: Subject, config: EngineConfig, outcomes: Mapping[str, Outcome] | None,
                   software: Sequence[Mapping[str, Any]] | None, host: Sequence[HostCpu | None] | None,
                   engine_clock: Clock, core_clock: Clock) -> dict[str, Any]:
    """``layers`` and ``total`` of the report.

    ``outcomes``: of both runs in RTL, or None where the analytical model is to do. ``software`` (of
    :func:`sim.compare_software.measure`) and ``host``: of each layer, or None where not measured.
    """
    measures = {run: outcomes[run].measures if outcomes else _predicted(subject, run, config) for run in RUNS}
    lines = compare(measures["dense"], measures["sparse"])
    layers = []
    for number, line in enumerate(lines[: len(subject.layers["dense"])]):
        engine = {run: _run(measures[run][number], outcomes is not None,
                            subject.estimates[run][number].compulsory_bytes,
                            subject.ranking_cycles[number] if run == "sparse" else 0) for run in RUNS}
        dense = subject.estimates["dense"][number]
        layers.append({
            "name": line.name, "operation": operation(subject.layers["dense"][number].job),
            "channels": line.channels, "winners": line.winners,
            "macs": {run: subject.estimates[run][number].products for run in RUNS},
            "engine": engine | {"speedup": line.speedup, "ideal": line.ideal, "exploitation": line.exploitation},
            "software": software[number] if software else None,
            "scale_sim": {"os": dense.os_cycles, "ws": dense.ws_cycles},
            "host": host[number].fields() if host and host[number] else None})
    layers = [layer | _against(layer, engine_clock, core_clock) for layer in layers]
    return {"layers": layers, "total": _total(layers, measures, lines[-1], engine_clock, core_clock)}


def operation(job: Job) -> str:
    """What a layer is: conv, depthwise, fully_connected, max_pool, average_pool, mean or add."""
    if not isinstance(job, LayerJob):
        return "add" if isinstance(job, AddJob) else job.op
    if job.groups == len(job.input) > 1:
        return "depthwise"
    return "fully_connected" if job.conv_shape[1:] == (1, 1) and job.weight.shape[2:] == job.input.shape[1:] else "conv"


def _predicted(subject: Subject, run: str, config: EngineConfig) -> list[Measure]:
    return [replace(predicted_measure(one, config), name=one.name) for one in subject.estimates[run]]


def _run(measure: Measure, simulated: bool, compulsory: int, ranking: int) -> dict[str, Any]:
    """A layer, or the total, in one run of the engine."""
    return {"source": RTL if simulated else ANALYTICAL, "cycles": measure.cycles,
            "array_active_cycles": measure.array_active_cycles if simulated else None,
            "stall_cycles": measure.stall_cycles if simulated else None, "ranking_cycles": ranking,
            "bytes_read": measure.bytes_read, "bytes_written": measure.bytes_written,
            "bytes": sum(measure.bytes_read.values()) + sum(measure.bytes_written.values()),
            "compulsory_bytes": compulsory, "utilization": measure.utilization}


def _against(layer: Mapping[str, Any], engine_clock: Clock, core_clock: Clock) -> dict[str, Any]:
    """The engine beside the best kernels, in cycles and, where the frequencies are known, in milliseconds."""
    engine = {run: layer["engine"][run]["cycles"] for run in RUNS}
    software = {run: software_cycles(layer["software"], run) for run in RUNS}
    milliseconds = None
    if engine_clock.mhz:
        milliseconds = {f"engine_{run}": engine[run] / engine_clock.mhz / 1e3 for run in RUNS} | {
            f"software_{run}": software[run] / core_clock.mhz / 1e3 if software[run] and core_clock.mhz else None
            for run in RUNS}
    return {"speedup_over_software": {run: software[run] / engine[run] for run in RUNS} if software["dense"] else None,
            "milliseconds": milliseconds}


def _total(layers: Sequence[Mapping[str, Any]], measures: Mapping[str, Sequence[Measure]], line: Comparison,
           engine_clock: Clock, core_clock: Clock) -> dict[str, Any]:
    """The layers in sum; ``line``: dense and sparse of all of them."""
    engine = {run: _run(total(measures[run]), layers[0]["engine"][run]["source"] == RTL,
                        sum(layer["engine"][run]["compulsory_bytes"] for layer in layers),
                        sum(layer["engine"][run]["ranking_cycles"] for layer in layers)) for run in RUNS}
    plain = [layer["scale_sim"] for layer in layers if layer["scale_sim"]["os"] is not None]
    software = [layer["software"] for layer in layers if layer["software"]]
    fields = {
        "name": "total", "operation": None, "channels": None, "winners": None,
        "macs": {run: sum(layer["macs"][run] for layer in layers) for run in RUNS},
        "engine": engine | {"speedup": line.speedup, "ideal": line.ideal, "exploitation": line.exploitation},
        "software": compare_software.total(software) if software else None,
        "scale_sim": {name: sum(one[name] for one in plain) if plain else None for name in ("os", "ws")},
        "host": _host_total([layer["host"] for layer in layers if layer["host"]])}
    fields |= _against(fields, engine_clock, core_clock)
    times = fields["milliseconds"]
    rates = times and {name: 1e3 / value if value else None for name, value in times.items()}
    return fields | {"frames_per_second": rates}


def _host_total(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Seconds in sum over the layers that were measured."""
    if not layers:
        return None
    fields: dict[str, Any] = {"repetitions": layers[0]["repetitions"]}
    for precision in ("float32", "int8"):
        known = [layer[precision] for layer in layers]
        fields[precision] = None if any(one is None for one in known) else Times(**{
            field.name: sum(one[field.name] for one in known) for field in dataclasses.fields(Times)}).fields()
    return fields | {"int8_missing": next((layer["int8_missing"] for layer in layers if layer["int8_missing"]), None)}


# For people to read


def comparison_tables(report: Mapping[str, Any]) -> str:
    """The engine, software, this computer's CPU and time, as far as measured: each layer and the total."""
    lines = [*report["layers"], *([report["total"]] if len(report["layers"]) > 1 else [])]
    parts = [("Engine, cycles", _engine_table(lines))]
    if report["total"]["software"]:
        parts.append((f"Software, cycles on {report['core']['name']}; * extrapolated from bands",
                      _software_table(lines)))
    if report["total"]["host"]:
        parts.append(("PyTorch on this computer's CPU, one thread: dense / with winners gathered (weights gathered "
                      "beforehand)", _host_table(lines)))
    if report["total"]["milliseconds"]:
        parts.append((f"Milliseconds, engine at {report['engine']['mhz']:g} MHz, core at {report['core']['mhz']:g} MHz",
                      _time_table(lines)))
    return "\n\n".join(f"{title}\n{text}" for title, text in parts)


def _winners(line: Mapping[str, Any]) -> str:
    return "" if line["winners"] is None else f"{line['winners']} of {line['channels']}"


def _engine_table(lines: Sequence[Mapping[str, Any]]) -> str:
    def plain(line: Mapping[str, Any], name: str) -> str:
        return "-" if line["scale_sim"][name] is None else f"{line['scale_sim'][name]:,}"

    rows = []
    for line in lines:
        engine = line["engine"]
        dense, sparse = engine["dense"], engine["sparse"]
        rows.append([line["name"], _winners(line), f"{dense['cycles']:,}", f"{sparse['cycles']:,}",
                     factor(engine["speedup"]), factor(engine["ideal"]), percent(engine["exploitation"]),
                     f"{sparse['ranking_cycles']:,}", plain(line, "os"), plain(line, "ws"), f"{dense['bytes']:,}",
                     f"{sparse['bytes']:,}", f"{factor(sparse['bytes'] / sparse['compulsory_bytes'])}x"])
    return table(["layer", "winners", "dense", "sparse", "speed-up", "ideal", "exploitation", "ranking", "plain OS",
                  "plain WS", "bytes dense", "sparse", "compulsory"], rows)


def _software_table(lines: Sequence[Mapping[str, Any]]) -> str:
    def cycles(one: Mapping[str, Any] | None) -> str:
        return "-" if one is None else f"{one['cycles']:,}{'*' if one['extrapolated'] else ''}"

    rows = []
    for line in lines:
        software, faster = line["software"], line["speedup_over_software"]
        dense, sparse = (software[run] for run in RUNS)
        rows.append([line["name"], cycles(dense.get("naive")), cycles(dense.get("blocked")),
                     cycles(sparse.get("indexed")), cycles(sparse.get("packed")), cycles(software["ranking"]),
                     software["best_sparse"], f"{factor(faster['dense'])}x", f"{factor(faster['sparse'])}x"])
    return table(["layer", "naive", "blocked", "indexed", "packed", "ranking", "best sparse", "engine faster, dense",
                  "sparse"], rows)


def _host_table(lines: Sequence[Mapping[str, Any]]) -> str:
    def ratios(line: Mapping[str, Any], precision: str) -> str:
        found = line["host"] and line["host"][precision]
        return f"{factor(found['ratio'])} ({factor(found['packed_ratio'])})" if found else "-"

    return table(["layer", "float32", "int8"],
                 [[line["name"], ratios(line, "float32"), ratios(line, "int8")] for line in lines])


def _time_table(lines: Sequence[Mapping[str, Any]]) -> str:
    names = [f"{who}_{run}" for who in ("engine", "software") for run in RUNS]
    return table(["layer", *(name.replace("_", " ") for name in names)],
                 [[line["name"], *("-" if line["milliseconds"][name] is None else f"{line['milliseconds'][name]:,.3f}"
                                   for name in names)] for line in lines])
