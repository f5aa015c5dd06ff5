"""Figures of marks on a logarithmic axis for each layer: speed-up against ideal, software, the host's CPU."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..cycle_parts import software_cycles
from .axes import LogAxis
from .bars import is_total, winners_of
from .text import factor, percent, seconds, short, whole


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A mark of a shape and class of the style sheet at so many percent."""

    kind: str
    at: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """A layer's marks, a line from the first to the last of ``line``, and the number at the end of the row."""

    name: str
    note: str
    total: bool
    marks: list[Mark]
    line: tuple[float, float] | None
    title: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Dots:
    """Rows on one axis; ``one`` is where the axis has 1, if it does."""

    axis: LogAxis
    rows: list[Row]

    @property
    def one(self) -> float | None:
        """The percentage at which nothing is gained."""
        return self.axis.at(1) if self.axis.low <= 0 <= self.axis.high and self.axis.base == 2 else None


def _dots(layers: Sequence[Mapping[str, Any]], base: int, points: Sequence[Mapping[str, float | None]],
          ends: tuple[str, str], titles: Sequence[Sequence[str]], values: Sequence[str]) -> Dots | None:
    """Layers whose ``points`` hold none are left out; None if all are."""
    shown = [value for point in points for value in point.values() if value]
    if not shown:
        return None
    axis = LogAxis.around([*shown, *([1.0] if base == 2 else [])], base)
    rows = []
    for layer, point, title, value in zip(layers, points, titles, values, strict=True):
        marks = [Mark(kind=kind, at=axis.at(number)) for kind, number in point.items() if number]
        if marks:
            known = all(point.get(end) for end in ends)
            line = tuple(axis.at(point[end]) for end in ends) if known else None
            rows.append(Row(name=layer["name"], note=winners_of(layer), total=is_total(layer), marks=marks,
                            line=line, value=value, title="\n".join([layer["name"], *title])))
    return Dots(axis=axis, rows=rows)


def speedups(layers: Sequence[Mapping[str, Any]]) -> Dots | None:
    """The engine's speed-up, and the ideal one."""
    engines = [layer["engine"] for layer in layers]
    return _dots(
        layers, 2, [{"ideal": one["ideal"], "engine-sparse": one["speedup"]} for one in engines],
        ("ideal", "engine-sparse"),
        [[f"speed-up: {factor(one['speedup'])}", f"ideal: {factor(one['ideal'])}",
          f"exploitation: {percent(one['exploitation'])}"] for one in engines],
        [factor(one["speedup"]) for one in engines])


def software(layers: Sequence[Mapping[str, Any]]) -> Dots | None:
    """Cycles of the engine and of the best kernels, dense and sparse, of layers that have kernels."""
    points, titles, values = [], [], []
    for layer in layers:
        engine = {run: layer["engine"][run]["cycles"] for run in ("dense", "sparse")}
        core = {run: software_cycles(layer["software"], run) for run in engine}
        points.append({"software-dense": core["dense"], "software-sparse": core["sparse"],
                       "engine-dense": engine["dense"], "engine-sparse": engine["sparse"]} if core["sparse"] else {})
        against = layer["speedup_over_software"] or {}
        titles.append([f"{where} {run}: {whole(cycles)} cycles" for where, runs in
                       (("software", core), ("engine", engine)) for run, cycles in runs.items()])
        values.append(factor(against.get("sparse")))
    return _dots(layers, 10, points, ("software-sparse", "engine-sparse"), titles, values)


def host(layers: Sequence[Mapping[str, Any]], precision: str) -> Dots | None:
    """Dense / winners of PyTorch on the host's CPU, weights gathered with each image, or packed beforehand."""
    times = [(layer["host"] or {}).get(precision) for layer in layers]
    return _dots(
        layers, 2, [{"packed": one.get("packed_ratio"), "winners": one["ratio"]} if one else {} for one in times],
        ("winners", "packed"),
        [[f"{name}: {seconds(one[key])}" for name, key in
          (("dense", "dense_seconds"), ("winners gathered", "winners_seconds"),
           ("weights packed beforehand", "packed_seconds")) if one.get(key)] if one else [] for one in times],
        [factor(one["ratio"]) if one else short(None) for one in times])
