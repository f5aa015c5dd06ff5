"""The tables of all figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..cycle_parts import CAUSES
from .bars import RUNS, TENSORS, winners_of
from .text import DASH, GAP, factor, percent, rounded, seconds, whole

PREDICTED, EXTRAPOLATED = "†", "‡"
NOTES = {PREDICTED: "predicted by the analytical model", EXTRAPOLATED: "extrapolated from a band of rows"}

Layer = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Table:
    """``columns`` and ``lines`` of cells as text, from the line ``total`` on those of the total; behind the
    layer's name ``words`` columns of text, the others are numbers; ``notes``: what the signs in it mean."""

    title: str
    columns: list[str]
    lines: list[list[str]]
    total: int
    words: int
    notes: list[str]


def tables(layers: Sequence[Layer], total: Layer | None) -> list[Table]:
    """Every table that has something to show; ``total`` closes each, if there are several layers."""
    rows = [*layers, *([total] if total else [])]
    found = [_table("Cycles", CYCLES, rows, total), _by_run("Where the cycles went", WAITS, rows, total)]
    if any(layer["software"] for layer in layers):
        found.append(_table("Software, in cycles", SOFTWARE, rows, total))
    found.append(_by_run("Bytes", BYTES, rows, total))
    if any(layer["scale_sim"] and layer["scale_sim"]["os"] for layer in layers):
        found.append(_table("Plain arrays as SCALE-Sim counts them, in cycles", SCALE_SIM, rows, total))
    for precision in ("float32", "int8"):
        if any(_host(layer, precision) for layer in layers):
            found.append(_table(f"PyTorch on this computer, one thread, {precision}", host_columns(precision), rows,
                                total))
    if any(layer["milliseconds"] for layer in layers):
        found.append(_table("Milliseconds", TIMES, rows, total))
        if total and total["frames_per_second"]:
            # Frames a second belong to whole networks only.
            rates = {**total, "milliseconds": total["frames_per_second"], "name": "frames a second"}
            found[-1].lines.append(_cells(TIMES, rates))
    return found


def _table(title: str, columns: Mapping[str, Callable[[Layer], str]], rows: Sequence[Layer],
           total: Layer | None) -> Table:
    return _noted(title, ["layer", *columns], [_cells(columns, layer) for layer in rows],
                  len(rows) - bool(total), int("operation" in columns))


def _cells(columns: Mapping[str, Callable[[Layer], str]], layer: Layer) -> list[str]:
    return [layer["name"], *(cell(layer) for cell in columns.values())]


def _by_run(title: str, columns: Mapping[str, Callable[[Layer], str]], rows: Sequence[Layer],
            total: Layer | None) -> Table:
    lines = [[layer["name"], RUNS[run], *(cell(layer["engine"][run] | {"macs": layer["macs"][run]})
                                          for cell in columns.values())] for layer in rows for run in RUNS]
    return _noted(title, ["layer", "run", *columns], lines,
                  2 * (len(rows) - bool(total)), 1)


def _noted(title: str, columns: list[str], lines: list[list[str]], total: int, words: int) -> Table:
    cells = [cell for line in lines for cell in line[1:]]
    return Table(title=title, columns=columns, lines=lines, total=total, words=words,
                 notes=[f"{sign} {text}" for sign, text in NOTES.items() if any(sign in cell for cell in cells)])


def _cycles(run: Mapping[str, Any]) -> str:
    return whole(run["cycles"]) + (f"{GAP}{PREDICTED}" if run["source"] == "analytical" else "")


def _kernel(found: Mapping[str, Any] | None) -> str:
    if not found:
        return DASH
    return whole(found["cycles"]) + (f"{GAP}{EXTRAPOLATED}" if found["extrapolated"] else "")


def _of(*path: str, show: Callable[[Any], str] = whole) -> Callable[[Layer], str]:
    """A cell of the value at a path, a dash where something on it is None or absent."""
    def cell(layer: Layer) -> str:
        value: Any = layer
        for key in path:
            value = value.get(key) if value else None
        return DASH if value is None else show(value)

    return cell


def _host(layer: Layer, precision: str) -> Any:
    return (layer["host"] or {}).get(precision)


CYCLES = {
    "operation": _of("operation", show=lambda name: name.replace("_", " ")),
    "winners": lambda layer: winners_of(layer) or DASH,
    "MACs dense": _of("macs", "dense"), "MACs with winners": _of("macs", "sparse"),
    "cycles dense": lambda layer: _cycles(layer["engine"]["dense"]),
    "cycles with winners": lambda layer: _cycles(layer["engine"]["sparse"]),
    "speed-up": _of("engine", "speedup", show=factor), "ideal": _of("engine", "ideal", show=factor),
    "exploitation": _of("engine", "exploitation", show=percent),
    "utilization dense": _of("engine", "dense", "utilization", show=percent),
    "with winners": _of("engine", "sparse", "utilization", show=percent),
}
WAITS = {"cycles": _cycles, "array active": _of("array_active_cycles"),
         **{text: _of("stall_cycles", cause) for cause, text in CAUSES.items()}, "ranking": _of("ranking_cycles")}
SOFTWARE = {
    **{f"{run}: {kernel}": (lambda layer, run=run, kernel=kernel:
                            _kernel(layer["software"] and layer["software"][run].get(kernel)))
       for run, kernel in (("dense", "naive"), ("dense", "blocked"), ("sparse", "indexed"), ("sparse", "packed"))},
    "ranking": lambda layer: _kernel(layer["software"] and layer["software"]["ranking"]),
    "engine faster, dense": _of("speedup_over_software", "dense", show=factor),
    "engine faster, with winners": _of("speedup_over_software", "sparse", show=factor),
}
BYTES = {**{label: _of(*path) for path, label in TENSORS.items()}, "in sum": _of("bytes"),
         "compulsory": _of("compulsory_bytes"),
         "MACs a byte": lambda run: factor(run["macs"] / run["bytes"]) if run["bytes"] else DASH,
         "MACs a cycle": lambda run: factor(run["macs"] / run["cycles"])}
SCALE_SIM = {"output-stationary": _of("scale_sim", "os"), "weight-stationary": _of("scale_sim", "ws"),
             "Winnow dense": lambda layer: _cycles(layer["engine"]["dense"]),
             "Winnow with winners": lambda layer: _cycles(layer["engine"]["sparse"])}
TIMES = {"engine dense": _of("milliseconds", "engine_dense", show=rounded),
         "engine with winners": _of("milliseconds", "engine_sparse", show=rounded),
         "software dense": _of("milliseconds", "software_dense", show=rounded),
         "software with winners": _of("milliseconds", "software_sparse", show=rounded)}


def host_columns(precision: str) -> dict[str, Callable[[Layer], str]]:
    """Times of PyTorch on the host's CPU and their ratios."""
    return {"dense": _of("host", precision, "dense_seconds", show=seconds),
            "winners gathered": _of("host", precision, "winners_seconds", show=seconds),
            "weights packed beforehand": _of("host", precision, "packed_seconds", show=seconds),
            "dense / winners": _of("host", precision, "ratio", show=factor),
            "dense / packed": _of("host", precision, "packed_ratio", show=factor)}
