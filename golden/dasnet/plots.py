"""Plots like those of DASNet, from plain numbers: accuracy, winner rates and energy thresholds against each other."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from golden.checks import check

Points = Sequence[tuple[float, float]]

COLORS = ("#1f6f8b", "#e8a33d", "#b3452c", "#5fa8a0", "#6b5b95", "#8a9a3b", "#444444", "#c77ca0")
MARKERS = "osD^vPX*"
BASELINE = "#8c939b"
MOST_BARS = 72
"""Layers times thresholds that are still drawn as bars; beyond, each threshold is a line over the layers."""


def plot_pruned_neurons(curves: Mapping[str, Points], baselines: Mapping[str, float], *, title: str) -> Figure:
    """Like Fig. 3: accuracy against the winner rate of the fully connected layers, a line for each network.

    ``curves``: (winner rate, accuracy) of each network, ``baselines``: its dense accuracy, all in 0..1.
    """
    _check_curves(curves)
    figure, (axes,) = _figure(title, (7, 4.6), 1)
    for number, (name, points) in enumerate(curves.items()):
        _line(axes, number, name, points)
        if name in baselines:
            _baseline(axes, baselines[name], f"{name}, all neurons", COLORS[number % len(COLORS)])
    _percent(axes, "winner rate of the fully connected layers", "accuracy")
    _legend(axes)
    return figure


def plot_scores(curves: Mapping[str, Mapping[str, Points]], baselines: Mapping[str, float], *, title: str) -> Figure:
    """Like Fig. 5: accuracy against the energy threshold for each score, a panel for each network.

    ``curves``: by network and score the (energy, accuracy) points; ``baselines``: dense accuracies.
    """
    check(bool(curves), "curves", "at least one network", "none")
    figure, panels = _figure(title, (1 + 4.6 * len(curves), 4.4), len(curves))
    for axes, (network, scores) in zip(panels, curves.items(), strict=True):
        _check_curves(scores)
        for number, (score, points) in enumerate(scores.items()):
            _line(axes, number, f"{score} score", points)
        if network in baselines:
            _baseline(axes, baselines[network], "all channels", BASELINE)
        _percent(axes, "energy threshold", "accuracy")
        axes.set_title(network, loc="left", fontsize=10)
        _legend(axes)
    return figure


def plot_pruned_maps(rates: Mapping[str, Points], accuracies: Points, baseline: float | None = None, *,
                     title: str) -> Figure:
    """Like Fig. 6: the winner rate of each layer, and the accuracy, against the energy threshold.

    ``rates``: (energy, winner rate) of each layer; ``accuracies``: (energy, accuracy); ``baseline``: dense accuracy.
    """
    _check_curves(rates)
    figure, (left, right) = _figure(title, (10.2, 4.4), 2)
    for number, (layer, points) in enumerate(rates.items()):
        _line(left, number, layer, points)
    _percent(left, "energy threshold", "winner rate")
    left.set_ylim(0, 1.05)
    _legend(left)
    _line(right, 0, "winners only", accuracies)
    if baseline is not None:
        _baseline(right, baseline, "all channels", BASELINE)
    _percent(right, "energy threshold", "accuracy")
    _legend(right)
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
        color = COLORS[number % len(COLORS)]
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


def _figure(title: str, size: tuple[float, float], panels: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    found = list(figure.subplots(1, panels, squeeze=False)[0])
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
    figure.suptitle(title, fontsize=12, fontweight="bold")
    return figure, found


def _line(axes: Axes, number: int, name: str, points: Points) -> None:
    axes.plot(*zip(*sorted(points), strict=True), color=COLORS[number % len(COLORS)],
              marker=MARKERS[number % len(MARKERS)], markersize=5, linewidth=1.6, label=name)


def _baseline(axes: Axes, value: float, name: str, color: str) -> None:
    axes.axhline(value, color=color, linewidth=1.2, linestyle=(0, (4, 3)), label=name)


def _percent(axes: Axes, across: str, up: str) -> None:
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(_label))
    axes.grid(color="#e3e6e9", linewidth=0.8)


def _label(value: float, _: int) -> str:
    return f"{100 * value:.6g} %"


def _legend(axes: Axes) -> None:
    axes.legend(frameon=False, fontsize=9, loc="best")


def _check_curves(curves: Mapping[str, Points]) -> None:
    check(bool(curves), "curves", "at least one", "none")
    for name, points in curves.items():
        check(len(points) > 0, f"curve {name}", "at least one point", "none")
