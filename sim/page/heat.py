"""The heat map of winners over inputs, from the statistics of ``winnow winners``."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from .text import percent, whole

LEVELS = 11
"""Of frequency: 0 never wins, 10 always, each between a ninth."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Channels of one level: from ``start``, ``length`` percent."""

    level: int
    start: float
    length: float
    title: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """A layer's channels, the most frequent winners first."""

    name: str
    cells: list[Cell]
    note: str
    """How many channels win for some inputs and lose for others."""
    value: str


def heat_rows(statistics: Mapping[str, Any] | None) -> list[Row]:
    """A row for each layer of the statistics; none without them."""
    return [_row(name, layer) for name, layer in ((statistics or {}).get("layers") or {}).items()]


def _row(name: str, layer: Mapping[str, Any]) -> Row:
    count, cells, start = len(layer["frequency"]), [], 0
    for level, group in groupby(sorted(layer["frequency"], reverse=True), key=_level):
        found = list(group)
        cells.append(Cell(level=level, start=round(100 * start / count, 3), length=round(100 * len(found) / count, 3),
                          title=f"{name}: {whole(len(found))} of {whole(count)} channels win {_words(level)}"))
        start += len(found)
    varied = sum(0 < value < 1 for value in layer["frequency"])
    return Row(name=name, cells=cells, note=f"{percent(varied / count)} vary",
               value=f"{layer['mean']:,.1f} of {whole(count)}")


def _level(frequency: float) -> int:
    if frequency in (0, 1):
        return int(frequency) * (LEVELS - 1)
    return 1 + int(frequency * (LEVELS - 2))


def _words(level: int) -> str:
    if level in (0, LEVELS - 1):
        return "always" if level else "never"
    between = LEVELS - 2
    return f"for {percent((level - 1) / between)} to {percent(level / between)} of the inputs"
