"""The page of ``winnow compare``: one HTML file that holds all it needs, without scripts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from .cycle_parts import LABELS
from .page import bars, dots, heat, roofline, summary, tables
from .report import write_whole


def write_page(path: Path, report: Mapping[str, Any]) -> None:
    """Write the report of ``winnow compare`` as a page; the file appears whole or not at all."""
    text = page(report)
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def page(report: Mapping[str, Any]) -> str:
    """The page as text."""
    environment = Environment(loader=PackageLoader("sim", "page"), autoescape=True, trim_blocks=True,
                              lstrip_blocks=True, undefined=StrictUndefined)
    layers = report["layers"]
    total = report["total"] if len(layers) > 1 else None
    # The total stands above the layers in figures, which are read from above, and below them in tables.
    shown = [*([total] if total else []), *layers]
    cycles, traffic = bars.cycle_rows(shown), bars.byte_rows(shown)
    return environment.get_template("page.html").render(
        report=report, sentence=summary.sentence(report),
        figures=summary.figures(report), grounds=summary.grounds(report), method=summary.method(report),
        cycles=cycles, cycle_kinds=_present(cycles, LABELS | {bars.PREDICTED: "predicted, causes not known"}),
        timeline=bars.timeline(layers, report["engine"]["mhz"]), runs=bars.RUNS,
        traffic=traffic, tensor_kinds={f"{tensor}-{direction.removeprefix('bytes_')}": label
                                       for (direction, tensor), label in bars.TENSORS.items()},
        speedups=dots.speedups(shown), software=dots.software(shown),
        host={precision: found for precision in ("float32", "int8") if (found := dots.host(shown, precision))},
        roofline=roofline.roofline(layers, report["engine"]), roofline_height=roofline.HEIGHT,
        heat=heat.heat_rows(report["winner_statistics"]), heat_levels=range(heat.LEVELS),
        tables=tables.tables(layers, total))


def _present(rows: list[bars.Row], labels: Mapping[str, str]) -> dict[str, str]:
    """The kinds of pieces that occur, with their labels."""
    kinds = {piece.kind for row in rows for bar in row.bars for piece in bar.pieces}
    return {kind: label for kind, label in labels.items() if kind in kinds}
