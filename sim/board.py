"""A simulated board behind a pseudo-terminal, which a client opens as it opens a serial port."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tty
from collections.abc import Callable
from pathlib import Path
from typing import IO

from hw.boards.presets import BOARDS
from hw.boards.system import MEMORY_BYTES

from .board_design import board_source
from .verilator import SimulationError, build, cache_folder, simulation_environment

_SIM = Path(__file__).parent
CYCLES_PER_BIT = 4
"""Of the UART: the fewest, because every cycle takes time."""
PATIENCE = 10
"""Seconds for the simulator to end by itself."""


class SimulatedBoard:
    """The board of this name, simulated in a child process until :meth:`stop`, or the end of this process.

    Its UART's pins are the only way in: what a client writes to ``port`` comes out of a UART at ``rx``, and what leaves
    ``tx`` can be read there. Its memory chip is a file, by default in the cache: as that of a board whose power stays
    on, it keeps what it holds.

    Parameters
    ----------
    name:
        One of :data:`hw.boards.presets.BOARDS`.
    memory:
        The file of the memory chip's contents; created.
    cycles_per_bit:
        Of the UART, 4 or more.
    announce:
        Called with a line of text before and after a build; by default printed to stderr.

    Raises :class:`SimulationError` where the simulator cannot be built, or another process uses the memory.
    """

    def __init__(self, name: str, *, memory: Path | None = None, cycles_per_bit: int = CYCLES_PER_BIT,
                 announce: Callable[[str], None] | None = None):
        self.board = BOARDS[name]
        announce = announce or (lambda line: print(line, file=sys.stderr, flush=True))
        sources = {file: (_SIM / file).read_text() for file in ("sdram_model.sv", "fast_memory.cpp", "board.vlt")}
        sources["board.sv"] = board_source(self.board, cycles_per_bit, announce)
        executable = build(top="board", sources=sources, parameters={}, announce=announce)
        memory = (memory or cache_folder() / f"{name}.sdram").absolute()
        self._memory = _locked_memory(memory)
        self._folder = Path(tempfile.mkdtemp(prefix="winnow-"))
        self._report = self._folder / "report.json"
        terminal, self._end = os.openpty()
        tty.setraw(self._end)
        self.port = os.ttyname(self._end)
        environment = simulation_environment(
            top="board", module="sim.board_bench", seed=0, results=self._folder / "results.xml")
        environment["PYTHONPATH"] = os.pathsep.join([str(_SIM.parent), environment["PYTHONPATH"]])
        environment["WINNOW_BOARD"] = json.dumps({
            "terminal": terminal, "memory": str(memory), "cycles_per_bit": cycles_per_bit,
            "report": str(self._report)})
        with open(self._folder / "simulation.log", "wb") as log:
            # A session of its own: Ctrl-C reaches only this process, which then ends the child.
            self._child = subprocess.Popen(
                [str(executable)], cwd=self._folder, env=environment, pass_fds=[terminal], start_new_session=True,
                stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT)
        os.close(terminal)

    def __enter__(self) -> "SimulatedBoard":
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def failure(self) -> str | None:
        """Why the simulation has ended by itself, one line that names its log; None if it goes on for a second."""
        try:
            self._child.wait(1)
        except subprocess.TimeoutExpired:
            return None
        log = self._folder / "simulation.log"
        text = log.read_text(errors="replace")
        found = re.search(r"%(?:Fatal|Error): (?:\S+ Assertion failed in \S+ )?(.*)", text)
        reason = found[1].strip() if found else f"the simulator failed (exit status {self._child.returncode})"
        return f"{reason}; log: {log}"

    def stop(self) -> tuple[int, float] | None:
        """End the simulation: the cycles that were simulated, and the seconds; None if it had failed before."""
        if self._child is None:
            return None
        failed = self._child.poll() is not None
        self._child.stdin.close()
        try:
            self._child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._child.kill()
            self._child.wait()
            os.close(self._end)
            self._memory.close()
        self._child = None
        report = json.loads(self._report.read_text()) if self._report.exists() else None
        if not failed:
            shutil.rmtree(self._folder, ignore_errors=True)
        return report and (report["cycles"], report["seconds"])


def _locked_memory(path: Path) -> IO[bytes]:
    """The memory chip's file, all of it there, for this process alone."""
    file = open(path, "ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise SimulationError(f"{path.stem}: another process simulates this board; end it first") from None
    os.truncate(path, MEMORY_BYTES)
    return file
