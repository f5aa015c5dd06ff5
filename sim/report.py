"""The measures of a layer and of a network, one meaning everywhere, and their tables and files.

    ideal_cycles   products of the winners / PEs
    utilization    ideal_cycles / cycles
    speed-up       dense cycles / sparse cycles, ranking included
    ideal          input channels / winners; of a network: dense cycles / those scaled by each layer's winner rate
    exploitation   speed-up / ideal
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .analytical import Prediction, ideal_cycles
from .workload import Workload

READ = {"activations": ("read_activations",), "weights": ("read_weights",),
        "parameters": ("read_parameters", "read_mask", "read_program")}
"""The counters of each kind of bytes read: parameters are requantization constants, input masks and descriptors."""
WRITTEN = {"activations": ("write_activations",), "mask": ("write_mask",)}
"""The counters of each kind of bytes written: the mask is scores and winners."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What a layer cost in RTL (``winners`` of ``channels`` took part), and what the analytical model says.

    ``skips``: it has weights, so losers save work. ``ideal_cycles``: 0 for operations without weights.
    """

    name: str
    skips: bool
    rows: int
    cols: int
    channels: int
    winners: int
    cycles: int
    array_active_cycles: int
    stall_cycles: dict[str, int]
    bytes_read: dict[str, int]
    bytes_written: dict[str, int]
    ideal_cycles: float
    predicted: Prediction
    bit_exact: bool

    @property
    def utilization(self) -> float | None:
        """The fraction of the array's products that were needed; None for operations without any."""
        return self.ideal_cycles / self.cycles if self.ideal_cycles else None

    @property
    def bytes_as_predicted(self) -> bool:
        """Every kind of traffic equals the analytical model's."""
        return self.bytes_read == self.predicted.bytes_read and self.bytes_written == self.predicted.bytes_written

    def fields(self) -> dict[str, Any]:
        """The fields of REPORT.json."""
        return {
            "rows": self.rows, "cols": self.cols, "cycles": self.cycles,
            "array_active_cycles": self.array_active_cycles, "stall_cycles": self.stall_cycles,
            "bytes_read": self.bytes_read, "bytes_written": self.bytes_written, "ideal_cycles": self.ideal_cycles,
            "utilization": self.utilization, "predicted_cycles": self.predicted.cycles,
            "predicted_bytes_read": self.predicted.bytes_read,
            "predicted_bytes_written": self.predicted.bytes_written, "bit_exact": self.bit_exact,
            "channels": self.channels, "winners": self.winners,
        }


def measure(*, name: str, workload: Workload, counters: Mapping[str, int], prediction: Prediction,
            bit_exact: bool) -> Measure:
    """The measure of one layer from its own counters (the names of ``hw.registers.COUNTERS``)."""
    layer, config, winners = workload.plan.layer, workload.plan.config, workload.winner_counts[0]
    return Measure(
        name=name, rows=config.rows, cols=config.columns, channels=layer.channels, winners=winners,
        skips=layer.weighted, cycles=counters["cycles"], array_active_cycles=counters["array_active"],
        stall_cycles={key.removeprefix("stall_"): value for key, value in counters.items() if key.startswith("stall_")},
        bytes_read={kind: sum(counters[key] for key in keys) for kind, keys in READ.items()},
        bytes_written={kind: sum(counters[key] for key in keys) for kind, keys in WRITTEN.items()},
        ideal_cycles=ideal_cycles(layer, winners, config), predicted=prediction, bit_exact=bit_exact)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One layer, or several in sum, dense and sparse on the same engine."""

    name: str
    channels: int | None
    winners: int | None
    dense_cycles: int
    sparse_cycles: int
    ideal: float | None
    """The ideal speed-up; None where nothing takes part."""

    @property
    def speedup(self) -> float:
        """Dense cycles / sparse cycles."""
        return self.dense_cycles / self.sparse_cycles

    @property
    def exploitation(self) -> float | None:
        """The fraction of the ideal speed-up that is realized."""
        return None if self.ideal is None else self.speedup / self.ideal

    def fields(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"speedup": self.speedup, "exploitation": self.exploitation}


def compare(dense: Sequence[Measure], sparse: Sequence[Measure]) -> list[Comparison]:
    """Every layer, and behind several of them the total; what does not skip has no ideal of its own, and counts as it
    is in the total's."""
    layers = [Comparison(name=one.name, channels=two.channels, winners=two.winners, dense_cycles=one.cycles,
                         sparse_cycles=two.cycles,
                         ideal=two.channels / two.winners if two.winners and two.skips else None)
              for one, two in zip(dense, sparse, strict=True)]
    if len(layers) == 1:
        return layers
    scaled = sum(one.cycles * (two.winners / two.channels if two.skips else 1)
                 for one, two in zip(dense, sparse, strict=True))
    cycles = sum(layer.dense_cycles for layer in layers)
    total = Comparison(name="total", channels=None, winners=None, dense_cycles=cycles,
                       sparse_cycles=sum(layer.sparse_cycles for layer in layers),
                       ideal=cycles / scaled if scaled else None)
    return [*layers, total]


def total(measures: Sequence[Measure], name: str = "total") -> Measure:
    """Layers in sum."""
    def added(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
        return {key: sum(part[key] for part in parts) for key in parts[0]}

    predictions = [one.predicted for one in measures]
    return Measure(
        name=name, rows=measures[0].rows, cols=measures[0].cols, skips=True,
        channels=sum(one.channels for one in measures), winners=sum(one.winners for one in measures),
        cycles=sum(one.cycles for one in measures),
        array_active_cycles=sum(one.array_active_cycles for one in measures),
        stall_cycles=added([one.stall_cycles for one in measures]),
        bytes_read=added([one.bytes_read for one in measures]),
        bytes_written=added([one.bytes_written for one in measures]),
        ideal_cycles=sum(one.ideal_cycles for one in measures),
        predicted=Prediction(cycles=sum(one.cycles for one in predictions),
                             bytes_read=added([one.bytes_read for one in predictions]),
                             bytes_written=added([one.bytes_written for one in predictions])),
        bit_exact=all(one.bit_exact for one in measures))


def with_total(measures: Sequence[Measure]) -> list[Measure]:
    """The layers, and behind several of them their total."""
    return [*measures, *([total(measures)] if len(measures) > 1 else [])]


def percent(value: float | None) -> str:
    """A fraction as a percentage with one decimal."""
    return "-" if value is None else f"{100 * value:.1f} %"


def factor(value: float | None) -> str:
    """A ratio with two decimals."""
    return "-" if value is None else f"{value:.2f}"


def deviation(predicted: int, measured: int) -> str:
    """A predicted count and how far it is from the measured one."""
    return f"{predicted:,} ({100 * (predicted / measured - 1):+.2f} %)"


def comparison_table(dense: Sequence[Measure], sparse: Sequence[Measure]) -> str:
    """Cycles of each layer dense and sparse, with the measures and the predictions."""
    rows = []
    for line, one, two in zip(compare(dense, sparse), with_total(dense), with_total(sparse), strict=True):
        rows.append([line.name, "" if line.winners is None else f"{line.winners} of {line.channels}",
                     f"{line.dense_cycles:,}", f"{line.sparse_cycles:,}", factor(line.speedup), factor(line.ideal),
                     percent(line.exploitation), percent(one.utilization), percent(two.utilization),
                     deviation(one.predicted.cycles, one.cycles), deviation(two.predicted.cycles, two.cycles)])
    return table(["layer", "winners", "dense", "sparse", "speed-up", "ideal", "exploitation", "util. dense",
                  "util. sparse", "predicted dense", "predicted sparse"], rows)


def cycles_table(measures: Sequence[Measure]) -> str:
    """Cycles of each layer of one run."""
    return table(["layer", "winners", "cycles", "ideal cycles", "utilization", "predicted cycles"],
                 [[one.name, f"{one.winners} of {one.channels}", f"{one.cycles:,}", f"{one.ideal_cycles:,.0f}",
                   percent(one.utilization), deviation(one.predicted.cycles, one.cycles)]
                  for one in with_total(measures)])


def bytes_table(runs: Mapping[str, Sequence[Measure]]) -> str:
    """Bytes by tensor of each layer, a row for each run, beside those of the analytical model."""
    rows = []
    for lines in zip(*(with_total(measures) for measures in runs.values()), strict=True):
        for name, one in zip(runs, lines, strict=True):
            read, written, predicted = one.bytes_read, one.bytes_written, one.predicted
            whole = sum(read.values()) + sum(written.values())
            model = sum(predicted.bytes_read.values()) + sum(predicted.bytes_written.values())
            rows.append([one.name, name, *(f"{value:,}" for value in [*read.values(), *written.values(), whole]),
                         f"{model:,}", "yes" if one.bytes_as_predicted else "NO"])
    return table(["layer", "run", "read activ.", "weights", "parameters", "written activ.", "mask", "total bytes",
                  "predicted", "equal"], rows)


def stall_table(runs: Mapping[str, Sequence[Measure]]) -> str:
    """Where each run's cycles went, in sum over its layers."""
    sums = {name: total(measures) for name, measures in runs.items()}
    causes = list(next(iter(sums.values())).stall_cycles)
    return table(["run", "array active", *(f"waits: {cause}" for cause in causes)],
                 [[name, percent(one.array_active_cycles / one.cycles),
                   *(percent(one.stall_cycles[cause] / one.cycles) for cause in causes)] for name, one in sums.items()])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text in columns: the first to the left, numbers to the right, a rule below the header and above a total."""
    widths = [max(len(line[column]) for line in [header, *rows]) for column in range(len(header))]
    left = {column for column, name in enumerate(header) if name in ("layer", "run", "name")}

    def text(line: Sequence[str]) -> str:
        return "  ".join(cell.ljust(width) if column in left else cell.rjust(width)
                         for column, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip()

    rule = "-" * (sum(widths) + 2 * len(widths) - 2)
    lines = [text(header), rule]
    for index, row in enumerate(rows):
        if row[0] == "total" and index and rows[index - 1][0] != "total":
            lines.append(rule)
        lines.append(text(row))
    return "\n".join(lines)


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report; the file appears whole or not at all."""
    write_whole(path, lambda partial: partial.write_text(json.dumps(report, indent=2) + "\n"))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a file under another name beside ``path``, and then move it there."""
    partial = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
