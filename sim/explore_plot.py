"""The picture of an exploration: the front among the engines that it was found in."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from .engine_space import Engines
from .explore import Point
from .network_bounds import Bounds
from .report import write_whole

SAMPLE = 3000
"""Engines drawn beside the front."""
OTHERS, CHOSEN = "#c4c9d0", "#b3452c"
COLOURS = ListedColormap(colormaps["viridis"](np.linspace(0, 0.88, 256)))
"""Of equal steps for every kind of colour vision, and in grey; the end that is too light on white is left out."""
SLOWEST = 40
"""Engines that take more times the least cycles are left out."""
LABELS = 14
"""Arrays that are named at most in each half."""


def plot_exploration(path: Path, *, title: str, engines: Engines, bounds: Bounds, front: Sequence[Point],
                     chosen: Point, named: Sequence[Point]) -> None:
    """Draw cycles by multipliers and by bytes into a PNG file, which appears whole or not at all.

    ``engines`` and their ``bounds``: what the ``front`` was found in; ``named``: points of it whose arrays are named,
    where there is room.
    """
    figure = Figure(figsize=(13, 5.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    sample = _sample(engines, bounds)
    # Left of the dots there is room where they fall to the right.
    for axes, x, colour, label, side in ((left, 2, 1, "bytes", "right"), (right, 1, 2, "multipliers", "left")):
        _draw(axes, sample, front, chosen, x, colour, label)
        _name(axes, [chosen, *named], x, side)
    left.set_xlabel("multipliers (logarithmic)")
    right.set_xlabel("bytes to and from memory (logarithmic)")
    left.set_ylabel(f"cycles (logarithmic, up to {SLOWEST} times the least)")
    left.legend(frameon=False, loc="upper right", fontsize=9)
    figure.suptitle(title, fontsize=13, fontweight="bold")
    write_whole(path, lambda partial: figure.savefig(partial, dpi=150))


def _sample(engines: Engines, bounds: Bounds) -> np.ndarray:
    """Bounds and multipliers [S, 3] of some engines that can run the network."""
    able = np.flatnonzero(~bounds.refused)
    if len(able) > SAMPLE:
        able = np.random.default_rng(0).choice(able, SAMPLE, replace=False)
    return np.stack([bounds.cycles, bounds.bytes, engines.multipliers], 1)[able]


def _draw(axes, sample: np.ndarray, points: Sequence[Point], chosen: Point, x: int, colour: int, label: str) -> None:
    axes.scatter(sample[:, x], sample[:, 0], s=5, color=OTHERS, linewidths=0, label="other engines (a sample, bounds)",
                 rasterized=True)
    front = np.array([point.figures for point in points])
    dots = axes.scatter(front[:, x], front[:, 0], s=26, c=front[:, colour], cmap=COLOURS, edgecolors="white",
                        linewidths=0.4, label="Pareto front", zorder=3)
    axes.scatter([chosen.figures[x]], [chosen.cycles], s=150, facecolors="none", edgecolors=CHOSEN, linewidths=1.8,
                 label="chosen", zorder=4)
    axes.set_xscale("log")
    axes.set_yscale("log")
    least = front[:, 0].min()
    seen = np.concatenate([sample, front])
    seen = seen[seen[:, 0] <= SLOWEST * least][:, x]
    axes.set_ylim(least / 1.3, SLOWEST * least)
    axes.set_xlim(seen.min() / 1.15, seen.max() * 1.08)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(EngFormatter(sep=" "))
        axis.set_minor_formatter(NullFormatter())
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", labelleft=True)
    bar = axes.figure.colorbar(dots, ax=axes, pad=0.01, aspect=40, label=f"{label} of those on the front")
    bar.ax.yaxis.set_major_formatter(EngFormatter(sep=" "))
    bar.outline.set_visible(False)


def _name(axes, points: Sequence[Point], x: int, side: str) -> None:
    """The arrays of points that lie apart from all named before; the ``side`` of each name is at its point."""
    figure = axes.figure
    figure.draw_without_rendering()
    taken: list[np.ndarray] = []
    for point in points:
        if point.cycles > axes.get_ylim()[1]:
            continue
        place = axes.transData.transform((point.figures[x], point.cycles))
        # A name is about 45 by 14 points wide and high.
        if len(taken) < LABELS and all(abs(place - other)[0] > 60 or abs(place - other)[1] > 22 for other in taken):
            taken.append(place)
            axes.annotate(f"{point.config.rows}x{point.config.columns}", (point.figures[x], point.cycles),
                          xytext=(9 if side == "left" else -9, -9), textcoords="offset points", ha=side, fontsize=8,
                          zorder=5)
