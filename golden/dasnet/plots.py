"""Plots like those of DASNet, from plain numbers: accuracy, winner rates, energy thresholds and MACs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from golden.checks import check
from golden.dasnet.finetune import Step

Points = Sequence[tuple[float, float]]

COLORS = ("#1f6f8b", "#e8a33d", "#b3452c", "#5fa8a0", "#6b5b95", "#8a9a3b", "#444444", "#c77ca0")
MARKERS = "osD^vPX*"
BASELINE = "#8c939b"
MOST_BARS = 72
"""Layers times thresholds that are still drawn as bars; beyond, each threshold is a line over the layers."""


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Layers of one kind over energy thresholds: ``rates`` (energy, winner rate) of each, and ``accuracies`` (energy,
    accuracy) with winners in these layers alone; all in 0..1, no accuracies where they have not been measured."""

    rates: Mapping[str, Points]
    accuracies: Points = ()


def plot_thresholds(kinds: Mapping[str, Curves], baseline: float, *, title: str) -> Figure:
    """Like Fig. 3 (neurons) and Fig. 6 (feature maps): winner rates and accuracy against the energy threshold.

    A row for each of ``kinds``, such as "neurons"; ``baseline``: the accuracy of all channels.
    """
    check(bool(kinds), "kinds", "at least one", "none")
    columns = 2 if any(one.accuracies for one in kinds.values()) else 1
    figure, panels = _figure(title, (1 + 4.8 * columns, 0.5 + 3.7 * len(kinds)), columns, rows=len(kinds))
    for row, (kind, curves) in enumerate(kinds.items()):
        _check_curves(curves.rates)
        left = panels[columns * row]
        for number, (layer, points) in enumerate(curves.rates.items()):
            _line(left, number, layer, points, count=len(curves.rates))
        _percent(left, "energy threshold", f"winner rate of {kind}")
        left.set_ylim(0, 1.05)
        _legend(left, columns=1 + (len(curves.rates) - 1) // 10)
        if curves.accuracies:
            right = panels[columns * row + 1]
            _line(right, 0, f"winners among {kind}", curves.accuracies)
            _baseline(right, baseline, "all take part")
            _percent(right, "energy threshold", "accuracy")
            _legend(right)
    return figure


def plot_scores(curves: Mapping[str, Points], baseline: float, *, across: str, title: str) -> Figure:
    """Like Fig. 5: accuracy with winners by either score. ``curves``: (x, accuracy) points by name, x being ``across``;
    ``baseline``: the accuracy of all channels."""
    _check_curves(curves)
    figure, (axes,) = _figure(title, (6.8, 4.4), 1)
    for number, (name, points) in enumerate(curves.items()):
        _line(axes, number, name, points)
    _baseline(axes, baseline, "all channels")
    _percent(axes, across, "accuracy")
    _legend(axes)
    return figure


def plot_layer_rates(rates: Mapping[str, Mapping[float, float]], *, title: str) -> Figure:
    """Like Fig. 9: the winner rate of each layer at several energy thresholds, layers in order.

    ``rates``: by layer {energy: winner rate}, the same energies for all. Bars for a few layers, lines for many.
    """
    check(bool(rates), "rates", "at least one layer", "none")
    energies = sorted(next(iter(rates.values())))
    for layer, found in rates.items():
        check(sorted(found) == energies, f"layer {layer}", f"rates at {energies}", sorted(found))
    bars = len(rates) * len(energies) <= MOST_BARS
    width = max(6.5, min(16, 1.6 + (0.16 * len(energies) + 0.25 if bars else 0.23) * len(rates)))
    figure, (axes,) = _figure(title, (width, 4.8), 1)
    places = range(len(rates))
    for number, energy in enumerate(energies):
        label, values = f"{100 * energy:g} %", [found[energy] for found in rates.values()]
        color = _shade(number, len(energies))
        if bars:
            step = 0.8 / len(energies)
            offset = (number - (len(energies) - 1) / 2) * step
            axes.bar([place + offset for place in places], values, 0.92 * step, color=color, label=label)
        else:
            axes.plot(places, values, color=color, marker=MARKERS[number % len(MARKERS)], markersize=4, linewidth=1.3,
                      label=label)
    longest = max(map(len, rates))
    upright = longest > 7 or not bars
    axes.set_xticks(places, list(rates), rotation=90 if upright else 0, fontsize=8 if upright else 9)
    axes.set_xlim(-0.6, len(rates) - 0.4)
    axes.set_ylim(0, 1.05)
    axes.set_ylabel("winner rate")
    axes.yaxis.set_major_formatter(FuncFormatter(_label))
    axes.grid(axis="y", color="#e3e6e9", linewidth=0.8)
    # Outside, where it hides no layer.
    axes.legend(title="energy", frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def plot_rounds(steps: Sequence[Step], *, max_drop: float, title: str) -> Figure:
    """The flow of Fig. 8: accuracy against MACs, from all of them, round by round; a round beyond ``max_drop`` is
    hollow, the one that is kept has a ring."""
    check(bool(steps), "steps", "at least one round", "none")
    figure, (axes,) = _figure(title, (7.2, 4.6), 1)
    baseline = steps[0].accuracy + steps[0].drop
    points = [(1.0, baseline), *((1 - step.reduction, step.accuracy) for step in steps)]
    axes.plot(*zip(*points, strict=True), color=COLORS[0], linewidth=1.4, zorder=1, label="_line")
    for label, kept, face in (("within the bound", True, COLORS[0]), ("beyond it", False, "white")):
        chosen = [point for point, step in zip(points[1:], steps, strict=True) if (step.drop <= max_drop) == kept]
        if chosen:
            axes.scatter(*zip(*chosen, strict=True), s=42, color=face, edgecolors=COLORS[0], zorder=2, label=label)
    within = [number for number, step in enumerate(steps) if step.drop <= max_drop]
    if within:
        axes.scatter(*points[1 + within[-1]], s=150, facecolors="none", edgecolors=COLORS[2], linewidth=1.6, zorder=3,
                     label="kept")
    for step, point in zip(steps, points[1:], strict=True):
        energies = sorted(set(step.energies.values()))
        axes.annotate(" / ".join(f"{100 * energy:g} %" for energy in energies[:3]), point, xytext=(0, 9), fontsize=8,
                      textcoords="offset points", ha="center")
    _baseline(axes, baseline, "all channels")
    axes.axhline(baseline - max_drop, color=COLORS[1], linewidth=1.2, linestyle=":", label=f"-{100 * max_drop:.3g} %")
    axes.margins(y=0.15)
    axes.invert_xaxis()
    _percent(axes, "MACs (energy threshold at the points)", "accuracy")
    _legend(axes)
    return figure


def _figure(title: str, size: tuple[float, float], columns: int, *, rows: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    found = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
    figure.suptitle(title, fontsize=12, fontweight="bold")
    return figure, found


def _color(number: int, count: int) -> object:
    """Colors that are told apart, or, of more lines than there are of these, shades in the lines' order."""
    return COLORS[number] if count <= len(COLORS) else _shade(number, count)


def _shade(number: int, count: int) -> object:
    """From light to dark, for what has an order."""
    return matplotlib.colormaps["viridis_r"](0.08 + 0.87 * number / max(1, count - 1))


def _line(axes: Axes, number: int, name: str, points: Points, *, count: int = 1) -> None:
    axes.plot(*zip(*sorted(points), strict=True), color=_color(number, count), marker=MARKERS[number % len(MARKERS)],
              markersize=5 if count <= len(COLORS) else 3, linewidth=1.6, label=name)


def _baseline(axes: Axes, value: float, name: str) -> None:
    axes.axhline(value, color=BASELINE, linewidth=1.2, linestyle=(0, (4, 3)), label=name)


def _percent(axes: Axes, across: str, up: str) -> None:
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(_label))
    axes.grid(color="#e3e6e9", linewidth=0.8)


def _label(value: float, _: int) -> str:
    return f"{100 * value:.6g} %"


def _legend(axes: Axes, columns: int = 1) -> None:
    axes.legend(frameon=False, fontsize=9 if columns == 1 else 7, loc="best", ncols=columns)


def _check_curves(curves: Mapping[str, Points]) -> None:
    check(bool(curves), "curves", "at least one", "none")
    for name, points in curves.items():
        check(len(points) > 0, f"curve {name}", "at least one point", "none")
