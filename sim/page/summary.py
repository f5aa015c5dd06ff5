"""What the comparison comes to: one sentence, its figures large, and what they rest on."""

from collections.abc import Mapping
from typing import Any

from ..cycle_parts import software_cycles
from .text import DASH, factor, percent, rounded, times, whole


def sentence(report: Mapping[str, Any]) -> str:
    """The comparison in one sentence with its numbers."""
    total, engine = report["total"], report["engine"]
    dense, sparse = total["engine"]["dense"], total["engine"]["sparse"]
    ideal = total["engine"]["exploitation"]
    cycles = f"{whole(sparse['cycles'])} cycles in place of {whole(dense['cycles'])}"
    clauses = [f"runs {factor(total['engine']['speedup'])} times as fast as dense on a "
               f"{engine['rows']}x{engine['cols']} engine ({cycles}"
               + (f", {percent(ideal)} of the ideal)" if ideal is not None else ")"),
               f"moves {percent(sparse['bytes'] / dense['bytes'])} of the bytes"]
    against = total["speedup_over_software"]
    if against:
        clauses.append(f"takes {factor(against['sparse'])} times fewer cycles than the best software with the same "
                       f"winners on {report['core']['name']}")
    listed = f"{clauses[0]}, {clauses[1]}, and {clauses[2]}" if against else " and ".join(clauses)
    return f"With its winners only, {report['network']} {listed}."


def figures(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The largest figures: (number, what it is, what it stands beside)."""
    total, engine = report["total"], report["total"]["engine"]
    dense, sparse = engine["dense"], engine["sparse"]
    found = [(times(engine["speedup"]), "as fast as dense",
              f"ideal {factor(engine['ideal'])}, {percent(engine['exploitation'])} of it" if engine["ideal"] else ""),
             (percent(sparse["bytes"] / dense["bytes"]), "of the bytes", f"{whole(sparse['bytes'])} of "
              f"{whole(dense['bytes'])}")]
    if total["speedup_over_software"]:
        found.append((times(total["speedup_over_software"]["sparse"]), "fewer cycles than software",
                      f"{whole(software_cycles(total['software'], 'sparse'))} cycles, same winners"))
    rates = total["frames_per_second"]
    if rates and rates.get("engine_sparse"):
        found.append((rounded(rates["engine_sparse"]), "frames a second",
                      f"{rounded(total['milliseconds']['engine_sparse'])} ms a frame at "
                      f"{report['engine']['mhz']:g} MHz"))
    return found


def grounds(report: Mapping[str, Any]) -> list[str]:
    """What a reader must know before believing the figures."""
    layers = report["layers"]
    runs = [layer["engine"][run] for layer in layers for run in ("dense", "sparse")]
    simulated = sum(all(layer["engine"][run]["source"] == "rtl" for run in ("dense", "sparse")) for layer in layers)
    found = []
    if all(run["source"] == "rtl" for run in runs):
        found.append("The engine's cycles are those of its RTL, simulated.")
    elif not simulated:
        found.append("The engine's cycles are predicted by the analytical model, not simulated.")
    else:
        found.append(f"The engine's cycles are simulated in RTL for {simulated} of {len(layers)} layers, and predicted "
                     "by the analytical model for the others.")
    scaled = [layer for layer in layers if is_extrapolated(layer)]
    if scaled:
        found.append(f"Software cycles of {len(scaled)} of {len(layers)} layers are extrapolated from a band of rows.")
    if report["weights_are_random"]:
        found.append("The weights are random: cycles and bytes are real, classes are not.")
    return found


def is_extrapolated(layer: Mapping[str, Any]) -> bool:
    """A layer's kernels were not all run whole."""
    return bool(layer["software"]) and any(kernel["extrapolated"] for run in ("dense", "sparse")
                                           for kernel in layer["software"][run].values())


def method(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How it was measured: (what, how)."""
    engine, core = report["engine"], report["core"]
    found = [
        ("command", report["command"]), ("Winnow", report["winnow"]), ("seed", str(report["seed"])),
        ("engine", f"{engine['rows']}x{engine['cols']} array, {engine['axi_width']}-bit AXI, "
                   f"{whole(engine['act_buffer_bytes'])} bytes of activation buffer, "
                   f"{whole(engine['weight_buffer_bytes'])} of weight buffer"),
        ("engine's memory", engine["memory"]), ("engine's frequency", _frequency(engine))]
    if report["core"]:
        found += [("processor", core["name"]), ("its compiler", core["compiler"] or DASH),
                  ("its memory", core["memory"] or DASH), ("its frequency", _frequency(core))]
    host = report.get("host")
    if host:
        found.append(("this computer", ", ".join(f"{name}: {value}" for name, value in host.items())))
    statistics = report["winner_statistics"]
    if statistics and statistics.get("images"):
        found.append(("winner statistics", f"{whole(statistics['images'])} inputs"))
    return found


def _frequency(part: Mapping[str, Any]) -> str:
    if not part["mhz"]:
        return "not known"
    return f"{part['mhz']:g} MHz" + (f" ({part['mhz_source']})" if part["mhz_source"] else "")
