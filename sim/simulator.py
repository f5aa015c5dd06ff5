"""Run programs on the engine in RTL simulation: one compiled simulator per configuration, one process per batch."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cocotb_tools.check_results import get_results

from sim.verilator import OPTIMIZATION, SimulationError, build, cache_folder, digest, locked, simulation_environment

_SIM = Path(__file__).parent


@dataclass(frozen=True, kw_only=True, eq=False)
class Program:
    """What the engine is to run.

    Parameters
    ----------
    image:
        The whole memory from address 0, a multiple of 16 bytes; accesses beyond it answer SLVERR.
    descriptors_address, descriptor_count:
        The layer descriptors in the image.
    window:
        First address, and the one behind the last, that the engine may use. A write outside ends the simulation.
    layers:
        Profile records to read after the run.
    fault:
        ``(base, limit, response)``: beats that touch this region answer an error, 2 (SLVERR) or 3 (DECERR, only with
        the fast memory); for tests of the engine's error paths.
    reset:
        Whether the engine is reset before the program. Without, it is as the program before has left it, whose writes
        have all been answered; the first program of a run needs one.
    restart_after:
        Where it is not None: so many cycles behind its start, in the midst of what it does, the engine and its memory
        are reset and the program is started again; for tests of the reset.
    """

    image: bytes | bytearray | memoryview | np.ndarray
    descriptors_address: int
    descriptor_count: int
    window: tuple[int, int]
    layers: int
    fault: tuple[int, int, int] | None = None
    reset: bool = True
    restart_after: int | None = None

    @property
    def size(self) -> int:
        """Bytes of the image."""
        return memoryview(self.image).nbytes


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """What a program left behind.

    ``image`` is the memory afterwards (uint8, the image's size); ``counters`` and each record of ``profile`` map the
    names of ``hw.registers.COUNTERS`` to values; ``status`` is the status register and ``error`` its error code, 0 if
    none; ``cycles_simulated`` and ``wall_seconds`` count from the reset to the interrupt.
    """

    image: np.ndarray
    counters: dict[str, int]
    profile: list[dict[str, int]]
    status: int
    error: int
    cycles_simulated: int
    wall_seconds: float


class Simulator:
    """The engine of one configuration, compiled (or found in the cache) on creation.

    Parameters
    ----------
    config:
        The ``EngineConfig``.
    memory:
        ``"fast"``: AXI memory in HDL with fixed latencies (sim/fast_memory.sv). ``"stall"``: cocotbext-axi's, with
        random stalls on every channel, slow.
    waves:
        Folder that gets ``winnow.fst``, the waveforms of the last :meth:`run`; None for none (faster).
    announce:
        Called with a line of text before and after a build; by default printed to stderr.
    source:
        SystemVerilog to simulate in place of what ``hw.verilog.emit`` gives, for tests of this harness.

    Raises :class:`SimulationError` where the simulator cannot be built.
    """

    def __init__(
        self,
        config,
        memory: str = "fast",
        waves: str | Path | None = None,
        *,
        announce: Callable[[str], None] | None = None,
        source: str | None = None,
    ):
        if memory not in ("fast", "stall"):
            raise ValueError(f'memory: expected "fast" or "stall", got {memory!r}')
        self.config = config
        self.memory = memory
        self.waves = None if waves is None else Path(waves)
        names = ["axi_checker.sv", "testbench.sv", "testbench.vlt"]
        names += ["fast_memory.sv", "fast_memory.cpp"] if memory == "fast" else ["stall.vlt"]
        announce = announce or (lambda line: print(line, file=sys.stderr, flush=True))
        sources = {name: (_SIM / name).read_text() for name in names}
        sources["engine.sv"] = source if source is not None else engine_source(config, announce)
        parameters = {
            "ADDRESS_BITS": config.address_bits, "DATA_BITS": config.axi_data_bits, "FAST": int(memory == "fast"),
        }  # fmt: skip
        self._executable = build(
            top="testbench", sources=sources, parameters=parameters, waves=waves is not None, announce=announce,
            optimization=OPTIMIZATION if source is None else "-O1",
        )

    def run(
        self,
        programs: Sequence[Program],
        *,
        seed: int = 0,
        timeout_cycles: int = 100_000_000,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Run]:
        """Run the programs one after the other, in one simulator process.

        ``seed`` fixes the stalls of the stall memory. ``progress(finished programs, cycles simulated in all)`` is
        called several times a second. An exception or Ctrl-C ends the simulator at once.

        Raises ``ValueError`` for a program that cannot be, and :class:`SimulationError` (one line, naming the log that
        is then kept) where an interrupt does not come within ``timeout_cycles``, the engine breaks a rule of AXI or
        writes outside the window, or the simulator fails in any other way.
        """
        for index, program in enumerate(programs):
            self._check(index, program)
        if not programs:
            return []
        folder = Path(tempfile.mkdtemp(prefix="winnow-"))
        keep = False
        try:
            reports = self._simulate(folder, programs, seed, timeout_cycles, progress)
            return [
                Run(
                    image=np.fromfile(folder / f"{index}.bin", dtype=np.uint8),
                    counters=report["counters"],
                    profile=report["profile"],
                    status=report["status"],
                    error=report["status"] >> 8 & 0xFF if report["status"] & 4 else 0,
                    cycles_simulated=report["cycles"],
                    wall_seconds=report["seconds"],
                )
                for index, report in enumerate(reports)
            ]
        except SimulationError:
            keep = True
            raise
        finally:
            for image in folder.glob("*.bin"):
                image.unlink()
            if not keep:
                shutil.rmtree(folder, ignore_errors=True)

    def _check(self, index: int, program: Program) -> None:
        """Raise ValueError unless the program can be run."""

        def require(holds: bool, expected: str) -> None:
            if not holds:
                raise ValueError(f"program {index}: {expected}")

        require(program.size > 0 and program.size % 16 == 0, "image: expected a multiple of 16 bytes")
        require(0 <= program.layers <= self.config.profile_layers, f"layers: expected 0..{self.config.profile_layers}")
        require(index > 0 or program.reset, "reset: the first program needs one")
        require(program.fault is None or program.fault[2] in (2, 3), "fault: expected the response 2 or 3")
        require(
            program.fault is None or program.fault[2] == 2 or self.memory == "fast",
            "fault: the stall memory can only answer 2 (SLVERR)",
        )

    def _simulate(self, folder: Path, programs, seed: int, timeout_cycles: int, progress) -> list[dict]:
        """Run the child process in ``folder``; the reports of the finished programs in order."""
        request = {"memory": self.memory, "timeout_cycles": timeout_cycles, "programs": []}
        for index, program in enumerate(programs):
            path = folder / f"{index}.bin"
            path.write_bytes(memoryview(program.image))
            request["programs"].append(
                {
                    "image": str(path),
                    "descriptors_address": int(program.descriptors_address),
                    "descriptor_count": int(program.descriptor_count),
                    "window": [int(address) for address in program.window],
                    "layers": program.layers,
                    "fault": program.fault,
                    "reset": program.reset,
                    "restart_after": program.restart_after,
                }
            )
        (folder / "request.json").write_text(json.dumps(request))
        command = [str(self._executable)]
        if self.waves is not None:
            self.waves.mkdir(parents=True, exist_ok=True)
            command += ["--trace", "--trace-file", str(self.waves.absolute() / "winnow.fst")]
        environment = simulation_environment(
            top="testbench", module="sim.bench", seed=seed, results=folder / "results.xml"
        )
        reader, writer = os.pipe()
        environment |= {"WINNOW_REQUEST": str(folder / "request.json"), "WINNOW_REPORT": str(writer)}
        environment["PYTHONPATH"] = os.pathsep.join([str(_SIM.parent), environment["PYTHONPATH"]])
        reports: list[dict] = []
        cycles = 0
        with open(folder / "simulation.log", "wb") as log, open(reader) as lines:
            # A session of its own: Ctrl-C reaches only this process, which then ends the child without its traceback.
            child = subprocess.Popen(
                command, cwd=folder, env=environment, pass_fds=[writer], start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
            try:
                os.close(writer)
                for line in lines:
                    report = json.loads(line)
                    if "status" in report:
                        reports.append(report)
                    if progress:
                        progress(len(reports), cycles + report["cycles"])
                    if "status" in report:
                        cycles += report["cycles"]
                child.wait()
            finally:
                child.kill()
                child.wait()
        self._check_result(folder, child.returncode, len(reports) == len(programs))
        return reports

    @staticmethod
    def _check_result(folder: Path, returncode: int, complete: bool) -> None:
        """Raise SimulationError unless cocotb ran its test, it passed, and all programs were reported."""
        log = folder / "simulation.log"
        try:
            passed = get_results(folder / "results.xml") == (1, 0)
        except (RuntimeError, OSError):
            passed = False
        if returncode == 0 and passed and complete:
            return
        text = log.read_text(errors="replace")
        found = re.search(r"%(?:Fatal|Error): (?:\S+ Assertion failed in \S+ )?(.*)", text)
        found = found or re.search(r"^ +AssertionError: (.*)", text, re.M)
        reason = found[1].strip() if found else f"the simulator failed (exit status {returncode})"
        raise SimulationError(f"{reason}; log: {log}")


def engine_source(config, announce: Callable[[str], None]) -> str:
    """SystemVerilog of the engine, kept in the cache under a hash of the configuration and of the package ``hw``."""
    import hw

    files = sorted(Path(hw.__file__).parent.glob("*.py"))
    path = cache_folder() / f"engine-{digest(repr(config), *(file.read_bytes() for file in files))}.sv"
    with locked(path.with_suffix(".lock")):
        if not path.exists():
            from hw.verilog import emit

            announce("Generating the engine's SystemVerilog ...")
            partial = path.with_suffix(".partial")
            partial.write_text(emit(config, simulated=True))
            partial.rename(path)
    return path.read_text()
