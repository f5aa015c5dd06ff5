"""Plots of measured cycles and bytes."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .report import Measure, compare, percent, with_total, write_whole

DENSE, SPARSE = "#b8bec6", "#1f6f8b"
TENSORS = (("read", "weights", "#1f6f8b"), ("read", "activations", "#5fa8a0"), ("read", "parameters", "#c9d6a3"),
           ("written", "activations", "#e8a33d"), ("written", "mask", "#b3452c"))
BAR = 0.38


def plot_comparison(path: Path, *, title: str, dense: Sequence[Measure], sparse: Sequence[Measure]) -> None:
    """Draw cycles and bytes of each layer, dense and sparse, into a PNG file, which appears whole or not at all."""
    figure = Figure(figsize=(13, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    cycles, traffic = figure.subplots(1, 2)
    _draw_cycles(cycles, dense, sparse)
    _draw_bytes(traffic, with_total(dense), with_total(sparse))
    for axes in (cycles, traffic):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="x", length=0)
    figure.suptitle(title, fontsize=13, fontweight="bold")
    write_whole(path, lambda partial: figure.savefig(partial, dpi=150))


def _draw_cycles(axes, dense: Sequence[Measure], sparse: Sequence[Measure]) -> None:
    lines = compare(dense, sparse)
    for index, line in enumerate(lines):
        for side, cycles, color, label in ((-1, line.dense_cycles, DENSE, "dense"),
                                           (1, line.sparse_cycles, SPARSE, "winners only")):
            axes.bar(index + side * BAR / 2, cycles, BAR, color=color, label=label if index == 0 else None)
            axes.text(index + side * BAR / 2, cycles * 1.03, _short(cycles), ha="center", va="bottom", fontsize=8,
                      color="#444444")
    axes.set_yscale("log")
    low = min(line.sparse_cycles for line in lines)
    axes.set_ylim(low / 4, max(line.dense_cycles for line in lines) * 3)
    labels = [f"{line.name}\n" + ("" if line.winners is None else f"{line.winners} of {line.channels}")
              + f"\n{line.speedup:.2f}x\n{percent(line.exploitation)}" for line in lines]
    axes.set_xticks(range(len(lines)), labels)
    axes.set_ylabel("cycles (logarithmic)")
    axes.set_title("Cycles.  Below: winners, speed-up, exploitation of the ideal", fontsize=10, loc="left")
    axes.legend(frameon=False, loc="upper left", ncols=2)


def _draw_bytes(axes, dense: Sequence[Measure], sparse: Sequence[Measure]) -> None:
    for index, pair in enumerate(zip(dense, sparse, strict=True)):
        whole = _bytes(pair[0])
        for side, one in zip((-1, 1), pair, strict=True):
            bottom = 0.0
            for direction, kind, color in TENSORS:
                part = 100 * (one.bytes_read if direction == "read" else one.bytes_written)[kind] / whole
                label = f"{kind} {direction}" if index == 0 and side < 0 else None
                axes.bar(index + side * BAR / 2, part, BAR * 0.94, bottom=bottom, color=color, label=label)
                bottom += part
            axes.text(index + side * BAR / 2, bottom + 1, _short(_bytes(one)), ha="center", va="bottom", fontsize=8,
                      color="#444444")
    axes.set_xticks(range(len(dense)), [one.name for one in dense])
    axes.set_ylim(0, 135)
    axes.set_yticks(range(0, 101, 25), [f"{value} %" for value in range(0, 101, 25)])
    axes.set_ylabel("bytes to and from memory, dense = 100 %")
    axes.set_title("Bytes by tensor.  Left bar: dense, right bar: winners only", fontsize=10, loc="left")
    axes.legend(frameon=False, loc="upper left", ncols=3, fontsize=8.5)


def _bytes(one: Measure) -> int:
    return sum(one.bytes_read.values()) + sum(one.bytes_written.values())


def _short(count: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
