"""Figures of bars, dense and sparse, for each layer: cycles by cause and bytes by tensor; the timeline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..cycle_parts import LABELS, cycle_parts
from .axes import Tick, linear_ticks
from .text import percent, short, whole

RUNS = {"dense": "dense", "sparse": "winners only"}
PREDICTED = "predicted"
"""The class of what the analytical model says, which is hatched."""
TENSORS = {("bytes_read", "activations"): "activations read", ("bytes_read", "weights"): "weights read",
           ("bytes_read", "parameters"): "parameters read", ("bytes_written", "activations"): "activations written",
           ("bytes_written", "mask"): "mask written"}


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of a bar, in percent: its class in the style sheet, where it begins, how long it is."""

    kind: str
    start: float
    length: float


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A stacked bar; ``mark``: a line across it at so many percent; ``under``: a line below it."""

    pieces: list[Piece]
    title: str
    value: str
    mark: float | None = None
    under: Piece | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A layer's bars: dense, sparse."""

    name: str
    note: str
    total: bool
    bars: list[Bar]


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A layer in the timeline: from ``start``, ``length`` wide; ``pieces`` of its height, from below."""

    name: str
    start: float
    length: float
    pieces: list[Piece]
    title: str


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Both runs on one axis of time."""

    ticks: list[Tick]
    unit: str
    runs: dict[str, list[Slice]]


def is_total(layer: Mapping[str, Any]) -> bool:
    """It is the layers in sum, which alone have frames a second."""
    return "frames_per_second" in layer


def winners_of(layer: Mapping[str, Any]) -> str:
    """How many of a layer's input channels take part; nothing for a total."""
    return "" if layer["winners"] is None else f"{whole(layer['winners'])} of {whole(layer['channels'])}"


def cycle_rows(layers: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Cycles by cause; a layer's longer run fills the width."""
    rows = []
    for layer in layers:
        largest = max(layer["engine"][run]["cycles"] for run in RUNS)
        rows.append(Row(name=layer["name"], note=winners_of(layer), total=is_total(layer),
                        bars=[_cycle_bar(layer, run, largest) for run in RUNS]))
    return rows


def _cycle_bar(layer: Mapping[str, Any], run: str, largest: int) -> Bar:
    counters = layer["engine"][run]
    ranking = counters["ranking_cycles"]
    length = 100 * counters["cycles"] / largest
    under = None
    if ranking:
        share = min(length, 100 * ranking / largest)
        under = Piece(kind="ranking", start=round(length - share, 3), length=round(share, 3))
    return Bar(pieces=stacked(_parts(counters), largest), title=_cycle_title(layer["name"], run, counters),
               value=short(counters["cycles"]), under=under)


def _parts(counters: Mapping[str, Any]) -> dict[str, int]:
    return cycle_parts(counters) or {PREDICTED: counters["cycles"]}


def _cycle_title(name: str, run: str, counters: Mapping[str, Any]) -> str:
    cycles = counters["cycles"]
    lines = [f"{name}, {RUNS[run]}: {whole(cycles)} cycles"]
    parts = cycle_parts(counters)
    if parts is None:
        lines.append("predicted by the analytical model")
    else:
        lines += [f"{LABELS[part]}: {whole(count)} ({percent(count / cycles)})" for part, count in parts.items()]
    if counters["ranking_cycles"] is not None:
        lines.append(f"of these for ranking: {whole(counters['ranking_cycles'])}")
    return "\n".join(lines)


def byte_rows(layers: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Bytes by tensor with a mark at the compulsory ones; a layer's largest count fills the width."""
    rows = []
    for layer in layers:
        runs = {run: layer["engine"][run] for run in RUNS}
        largest = max(max(one["bytes"], one["compulsory_bytes"]) for one in runs.values()) or 1
        bars = []
        for run, one in runs.items():
            parts = {kind: one[direction][kind[0]] for direction, kind in _tensor_kinds()}
            lines = [f"{layer['name']}, {RUNS[run]}: {whole(one['bytes'])} bytes"]
            lines += [f"{label}: {whole(one[direction][tensor])}" for (direction, tensor), label in TENSORS.items()]
            lines.append(f"compulsory: {whole(one['compulsory_bytes'])}")
            bars.append(Bar(pieces=stacked({"-".join(kind): count for kind, count in parts.items()}, largest),
                            title="\n".join(lines), value=short(one["bytes"]),
                            mark=round(100 * one["compulsory_bytes"] / largest, 3)))
        rows.append(Row(name=layer["name"], note=winners_of(layer), total=is_total(layer), bars=bars))
    return rows


def _tensor_kinds() -> list[tuple[str, tuple[str, str]]]:
    return [(direction, (tensor, direction.removeprefix("bytes_"))) for direction, tensor in TENSORS]


def stacked(parts: Mapping[str, float], largest: float) -> list[Piece]:
    """Parts one behind the other, in percent of ``largest``."""
    pieces, start = [], 0.0
    for kind, count in parts.items():
        if count:
            pieces.append(Piece(kind=kind, start=round(100 * start / largest, 3),
                                length=round(100 * count / largest, 3)))
            start += count
    return pieces


def timeline(layers: Sequence[Mapping[str, Any]], mhz: float | None) -> Timeline:
    """The runs from their first cycle to their last, in milliseconds where the frequency is known."""
    totals = {run: sum(layer["engine"][run]["cycles"] for layer in layers) for run in RUNS}
    longest = max(totals.values())
    runs = {}
    for run in RUNS:
        now, slices = 0, []
        for layer in layers:
            counters = layer["engine"][run]
            slices.append(Slice(name=layer["name"], start=round(100 * now / longest, 4),
                                length=round(100 * counters["cycles"] / longest, 4),
                                pieces=stacked(_parts(counters), counters["cycles"]),
                                title=_cycle_title(layer["name"], run, counters)))
            now += counters["cycles"]
        runs[run] = slices
    return Timeline(ticks=linear_ticks(longest / (1000 * mhz) if mhz else longest), unit="ms" if mhz else "cycles",
                    runs=runs)
