"""VexRiscv, the soft core that the engine is compared with, as a Verilator model with its memory (core.cpp)."""

import importlib.util
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from sim.verilator import SimulationError, build

from .compiler import required, version_of
from .memory_image import MemoryImage

CORE = "VexRiscv (RV32IM, caches of 4 KiB)"
"""With static branch prediction, and multiplier and shifter of one a cycle: LiteX' standard variant."""
LATENCY = 16
"""Cycles from an address to the first word of its burst, as of the engine's fast memory; then a word a cycle."""
PACKAGE = "pythondata-cpu-vexriscv"


class Core:
    """The compiled core. Raises SimulationError where its package is missing or it cannot be compiled."""

    def __init__(self, announce: Callable[[str], None] | None = None):
        version_of(PACKAGE)
        found = importlib.util.find_spec("pythondata_cpu_vexriscv")
        verilog = Path(found.origin).parent / "verilog" / "VexRiscv.v" if found and found.origin else None
        if verilog is None or not verilog.is_file():
            raise SimulationError(f"VexRiscv.v: not found in the package {PACKAGE}: pip install --force-reinstall "
                                  f"{required(PACKAGE)}")
        model = (Path(__file__).parent / "core.cpp").read_text()
        self.executable = build(top="VexRiscv", sources={"VexRiscv.v": verilog.read_text(), "core.cpp": model},
                                parameters={}, cocotb=False, announce=announce)

    def run(self, image: MemoryImage, limit: int) -> tuple[int, bytes]:
        """Cycles of the program in ``image`` and its result's bytes.

        Raises SimulationError where the core does not come to an end within ``limit`` cycles, or is trapped.
        """
        with tempfile.TemporaryDirectory(prefix="winnow-core-") as folder:
            memory, output = Path(folder) / "memory", Path(folder) / "output"
            image.data.tofile(memory)
            command = [self.executable, memory, output, image.first, image.last, limit, LATENCY]
            result = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT, text=True)
            if result.returncode != 0:
                raise SimulationError(f"the core failed (exit status {result.returncode}): "
                                      f"{result.stdout.strip() or 'no message'}")
            return int(result.stdout), output.read_bytes()
