"""What came out of place and route: area, clocks, the critical path in the names of our blocks, GOP/s."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import EngineConfig
from .presets import Board

USED = {"luts": "TRELLIS_COMB", "flip_flops": "TRELLIS_FF", "multipliers": "MULT18X18D", "block_rams": "DP16KD"}
"""nextpnr's names of what is counted."""


@dataclass(frozen=True, kw_only=True)
class Clock:
    """A clock in MHz: what it reaches, and what it was asked for."""

    achieved: float
    asked: float

    @property
    def reached(self) -> float:
        """What it reaches, as a part of what was asked for."""
        return self.achieved / self.asked


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What one seed gave.

    ``clocks`` by name; ``used`` and ``available`` by the keys of :data:`USED`; ``critical_path``, that of the slowest
    clock: blocks from register to register, each the instances from the top down.
    """

    seed: int
    clocks: Mapping[str, Clock]
    used: Mapping[str, int]
    available: Mapping[str, int]
    critical_path: Sequence[str]

    @property
    def reached(self) -> float:
        """What the clock that is worst off reaches, as a part of what was asked for."""
        return min((clock.reached for clock in self.clocks.values()), default=float("inf"))

    @property
    def met(self) -> bool:
        """All clocks are as fast as was asked for."""
        return self.reached >= 1


def read_report(path: Path, *, seed: int) -> Placement:
    """What nextpnr's ``--report`` says."""
    report = json.loads(path.read_text())
    clocks = {_clock(name): Clock(achieved=one["achieved"], asked=one["constraint"])
              for name, one in report["fmax"].items()}
    counts = {key: report["utilization"].get(name, {"used": 0, "available": 0}) for key, name in USED.items()}
    # Paths from a clock to itself; each begins with "posedge" or "negedge".
    paths = {_clock(one["from"].split()[-1]): one["path"] for one in report["critical_paths"]
             if one["from"].split()[-1] == one["to"].split()[-1]}
    slowest = min(paths, key=lambda name: clocks[name].reached, default=None)
    return Placement(
        seed=seed, clocks=clocks, used={key: one["used"] for key, one in counts.items()},
        available={key: one["available"] for key, one in counts.items()},
        critical_path=block_path(paths[slowest]) if paths else [])


def block_path(segments: Sequence[Mapping[str, Any]]) -> list[str]:
    """The blocks that a path goes through, in order."""
    blocks = [block_of(segment[end]["cell"]) for segment in segments for end in ("from", "to")]
    return [block for block, before in zip(blocks, [None, *blocks], strict=False) if block != before]


def block_of(cell: str) -> str:
    """The block, or the memory, that a cell is part of: its instances from the top of the system down.

    ``engine.core.loader`` of ``system.engine.core.loader.fifo_level_LUT4_Z_1``; a memory's cells end with two numbers.
    """
    memory = re.sub(r"(\.\d+)+$", "", cell)
    block = memory if memory != cell else cell.rpartition(".")[0]
    return block.removeprefix("system.") or "top"


def _clock(net: str) -> str:
    """A clock by its domain's signal, without nextpnr's mark of global nets and the block that it was found in."""
    return net.removeprefix("$glbnet$").rpartition(".")[2]


def summary(*, board: Board, config: EngineConfig, frequency_mhz: float, placements: Sequence[Placement], layer: str,
            utilization: float) -> dict[str, Any]:
    """The report, as JSON has it.

    Parameters: ``frequency_mhz``, what the clock was asked to be; ``placements``, the best first; ``layer``, its name,
    and the array's ``utilization`` in it.

    GOP/s count a multiplication and an addition for each MAC at the clock of the slowest path, or at ``frequency_mhz``
    where that is lower: at this the board runs. Per multiplier: peak, and multipliers that are used.
    """
    best = placements[0]
    macs = config.rows * config.columns
    peak = 2 * macs * min(frequency_mhz, *(clock.achieved for clock in best.clocks.values())) / 1000
    return {
        "board": board.name, "device": board.device, "rows": config.rows, "cols": config.columns,
        "seed": best.seed, "seeds": {one.seed: _mhz(one) for one in placements},
        **{key: {"used": best.used[key], "available": best.available[key]} for key in USED},
        "fmax_mhz": _mhz(best), "frequency_mhz": frequency_mhz, "met": best.met,
        "critical_path": list(best.critical_path), "macs": macs, "peak_gops": peak,
        "effective_gops": utilization * peak, "layer": layer, "utilization": utilization,
        "gops_per_multiplier": peak / max(best.used["multipliers"], 1),
    }


def _mhz(placement: Placement) -> dict[str, float]:
    return {name: round(clock.achieved, 2) for name, clock in placement.clocks.items()}


def summary_text(found: Mapping[str, Any]) -> str:
    """The report of :func:`summary`, for people."""
    def used(key: str) -> str:
        one = found[key]
        return f"{one['used']:,} of {one['available']:,} ({100 * one['used'] / max(one['available'], 1):.0f} %)"

    def clocks(one: Mapping[str, float]) -> str:
        return ", ".join(f"{name} {mhz:.1f} MHz" for name, mhz in one.items())

    path = " -> ".join(found["critical_path"])
    lines = [
        ("board", f"{found['board']}, {found['device']}"),
        ("array", f"{found['rows']}x{found['cols']}, {found['macs']} MACs"),
        *((key.replace("_", " ").replace("luts", "LUTs").replace("rams", "RAMs"), used(key)) for key in USED),
        ("fmax", f"{clocks(found['fmax_mhz'])}; asked {found['frequency_mhz']:g} MHz: "
                 + ("met" if found["met"] else "MISSED")),
        ("critical path", path),
        ("peak", f"{found['peak_gops']:.2f} GOP/s, {found['gops_per_multiplier']:.3f} a multiplier"),
        ("effective", f"{found['effective_gops']:.2f} GOP/s, {100 * found['utilization']:.1f} % of peak in "
                      f"{found['layer']} (predicted)"),
    ]
    if len(found["seeds"]) > 1:
        lines += [(f"seed {seed}", clocks(one) + (", kept" if seed == found["seed"] else ""))
                  for seed, one in found["seeds"].items()]
    lines.append(("bitstream", found["bitstream"]))
    return "\n".join(f"{name:14} {text}" for name, text in lines)
