"""Reads of the word that is written in the same cycle: undefined, unless the port is to see the new word."""

import json
import re
import subprocess

from amaranth.back import rtlil
from amaranth.hdl import Module
from amaranth.lib.memory import Memory

from hw.boards.flow import YOSYS, synthesis
from hw.collisions import undefine_collisions
from hw.config import EngineConfig
from hw.verilog import emit


def memory_text(*, transparent: bool, domain: str = "sync") -> str:
    """RTLIL of the module ``memory``: 1024 bytes, a write port and a read port."""
    m = Module()
    m.submodules.memory = memory = Memory(shape=8, depth=1024, init=[])
    write = memory.write_port()
    read = memory.read_port(domain=domain, transparent_for=[write] if transparent else [])
    ports = [write.addr, write.data, write.en, read.addr, read.data, *([read.en] if domain == "sync" else [])]
    return rtlil.convert(m, name="memory", ports=ports, emit_src=False)


def masks(text: str) -> list[tuple[str, str]]:
    return re.findall(r"\\TRANSPARENCY_MASK (\S+)\n.*\\COLLISION_X_MASK (\S+)", text)


def test_which_reads_are_undefined():
    assert masks(undefine_collisions(memory_text(transparent=False))) == [("1'0", "1'1")]
    assert masks(undefine_collisions(memory_text(transparent=True))) == [("1'1", "1'0")]
    assert masks(undefine_collisions(memory_text(transparent=False, domain="comb"))) == [("1'0", "1'0")]
    text = memory_text(transparent=False)
    assert undefine_collisions(text).replace("COLLISION_X_MASK 1'1", "COLLISION_X_MASK 1'0") == text


def test_nothing_but_block_ram(tmp_path):
    """With Yosys: the old word takes logic beside the memory, an undefined one none."""
    cells = {}
    for name, text in (("old", memory_text(transparent=False)),
                       ("undefined", undefine_collisions(memory_text(transparent=False)))):
        (tmp_path / f"{name}.il").write_text(text)
        (tmp_path / f"{name}.ys").write_text("\n".join([
            f"read_rtlil {name}.il", *synthesis("memory"), f"tee -q -o {name}.json stat -json"]))
        subprocess.run(YOSYS.command("-q", f"{name}.ys"), cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
        cells[name] = json.loads((tmp_path / f"{name}.json").read_text())["design"]["num_cells_by_type"]
    assert cells["old"]["TRELLIS_FF"] > 8 and cells["old"]["LUT4"] > 8
    assert cells["undefined"] == {"DP16KD": 1}


def test_the_engine_in_verilog():
    """A simulator gets x for such a read, so that a test sees who relies on it; other tools get memories they know."""
    undefined = [len(re.findall(r"<= \d+'hx+;", emit(EngineConfig(rows=2, columns=2), simulated=simulated)))
                 for simulated in (True, False)]
    assert undefined[0] > 20 and undefined[1] == 0
