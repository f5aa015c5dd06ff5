"""Axes of figures: from values to percentages of the width, and their ticks."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from .text import factor, short

MARGIN = 4.0
"""Percent of the width at both ends of a logarithmic axis, where marks of the last values find room."""


@dataclass(frozen=True)
class Tick:
    """A line at ``at`` percent with its label."""

    at: float
    label: str

    @property
    def side(self) -> str:
        """The SVG text anchor: labels at the very ends stay inside the figure."""
        return "start" if self.at < 2 else "end" if self.at > 98 else "middle"


@dataclass(frozen=True)
class LogAxis:
    """A logarithmic axis from ``low`` to ``high``, whole powers of ``base``."""

    base: int
    low: int
    high: int

    @classmethod
    def around(cls, values: Iterable[float], base: int) -> "LogAxis":
        """The shortest axis of two powers or more that holds all values; they are above 0."""
        exponents = [math.log(value, base) for value in values if value > 0] or [0.0]
        low, high = math.floor(min(exponents) + 1e-9), math.ceil(max(exponents) - 1e-9)
        return cls(base, low, max(high, low + 1))

    def at(self, value: float) -> float:
        """The percentage at which a value stands."""
        part = (math.log(value, self.base) - self.low) / (self.high - self.low)
        return round(MARGIN + (100 - 2 * MARGIN) * part, 3)

    @property
    def ticks(self) -> list[Tick]:
        """Powers of the base, at most seven, evenly; 1 is among them if it is on the axis."""
        step = math.ceil((self.high - self.low) / 6)
        label = factor_label if self.base == 2 else short
        return [Tick(self.at(self.base**power), label(float(self.base)**power))
                for power in range(math.ceil(self.low / step) * step, self.high + 1, step)]


def factor_label(value: float) -> str:
    """A power of two as a factor: 1/2, 1, 2."""
    return f"1/{1 / value:.0f}" if value < 1 else f"{value:.0f}" if value < 1000 else factor(value)


def linear_ticks(largest: float) -> list[Tick]:
    """Round values from 0 to ``largest`` (above 0), which is at 100 percent; at most six."""
    raw = largest / 5
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * number for number in (1, 2, 2.5, 5, 10) if size * number >= raw * (1 - 1e-9))
    return [Tick(round(100 * number * step / largest, 3), short(number * step))
            for number in range(math.floor(largest / step + 1e-9) + 1)]
