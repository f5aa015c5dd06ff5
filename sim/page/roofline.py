"""The roofline: multiplications a byte against multiplications a cycle, under the array's peak and the bus."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .axes import LogAxis, Tick
from .bars import RUNS
from .text import factor, whole

HEIGHT = 340
"""Of the figure in pixels."""
MOST_NAMES = 8
"""Layers that still have their names beside their points."""
LINE = 15
"""Pixels between names, at least, and between a point and its name below it."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A layer's run: ``x`` in percent, ``y`` in pixels."""

    kind: str
    x: float
    y: float
    title: str


@dataclass(frozen=True, kw_only=True)
class Name:
    """A layer's name below its point, to the side where there is more room."""

    text: str
    x: float
    y: float
    side: str


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """``lines``: (x1, y1, x2, y2) of the two roofs, and of each layer from dense to sparse; ``ticks`` across, and
    ``heights``: (pixels, label) up."""

    ticks: list[Tick]
    heights: list[tuple[float, str]]
    roofs: list[tuple[float, float, float, float]]
    moves: list[tuple[float, float, float, float]]
    points: list[Point]
    names: list[Name]
    peak: str
    bus: str


def roofline(layers: Sequence[Mapping[str, Any]], engine: Mapping[str, Any]) -> Roofline | None:
    """Of the layers with multiplications; None where there are none."""
    found = [(layer, {run: (layer["macs"][run] / layer["engine"][run]["bytes"],
                            layer["macs"][run] / layer["engine"][run]["cycles"]) for run in RUNS})
             for layer in layers if layer["macs"]["sparse"] and all(layer["engine"][run]["bytes"] for run in RUNS)]
    if not found:
        return None
    peak, bus = engine["macs"], engine["axi_width"] // 8
    ridge = peak / bus
    points = [point for _, runs in found for point in runs.values()]
    across = LogAxis.around([*(x for x, _ in points), ridge / 10, ridge * 10], 10)
    up = LogAxis.around([*(y for _, y in points), peak], 10)

    def place(x: float, y: float) -> tuple[float, float]:
        return across.at(x), round(HEIGHT * (1 - up.at(y) / 100), 1)

    left = max(10.0**across.low, 10.0**up.low / bus)
    corner = place(ridge, peak)
    marks = [Point(kind=run, title=f"{layer['name']}, {RUNS[run]}\n{factor(x)} MACs a byte\n{factor(y)} MACs a cycle",
                   **dict(zip("xy", place(x, y), strict=True)))
             for layer, runs in found for run, (x, y) in runs.items()]
    moves = [(*place(*runs["dense"]), *place(*runs["sparse"])) for _, runs in found]
    names = [(layer["name"], *place(*runs["sparse"])) for layer, runs in found] if len(found) <= MOST_NAMES else []
    return Roofline(
        ticks=across.ticks, heights=[(round(HEIGHT * (1 - tick.at / 100), 1), tick.label) for tick in up.ticks],
        roofs=[(*place(left, left * bus), *corner), (*corner, *place(10.0**across.high, peak))], moves=moves,
        points=marks, names=_apart(names), peak=f"{whole(peak)} MACs a cycle", bus=f"{bus} bytes a cycle")


def _apart(names: Sequence[tuple[str, float, float]]) -> list[Name]:
    """Names from above to below, pushed down where they would touch."""
    placed: list[Name] = []
    for text, x, y in sorted(names, key=lambda name: name[2]):
        y = max(y + LINE, placed[-1].y + LINE if placed else 0)
        placed.append(Name(text=text, x=x, y=y, side="end" if x > 50 else "start"))
    return placed
