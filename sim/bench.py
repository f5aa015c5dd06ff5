"""The cocotb test that runs programs on the engine; started by :mod:`sim.simulator` inside the simulator.

It reads its request from the JSON file named by ``WINNOW_REQUEST`` and writes one JSON object a line to the file
descriptor ``WINNOW_REPORT``: ``{"program", "cycles"}`` while a program runs, and the fields of a run at its end.
"""

import ctypes
import json
import logging
import mmap
import os
import time
from pathlib import Path
from random import Random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, First, RisingEdge, Timer
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiSlave

from hw.registers import COUNTERS, PROFILE_WORDS, Register

CLOCK_PERIOD_NS = 10
PROGRESS_SECONDS = 0.2
POLL_CYCLES = 4096


class FastMemory:
    """The memory in HDL: the mapped image itself is its storage."""

    violation = None  # the HDL stops the simulation itself
    _attached = None  # keeps the image mapped while the simulator has its address

    def __init__(self):
        self._library = ctypes.CDLL(None)
        self._library.memory_attach.argtypes = [ctypes.c_void_p, *[ctypes.c_uint64] * 3]
        self._library.memory_fault.argtypes = [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint8]

    def attach(self, image: mmap.mmap, window: tuple[int, int], fault: tuple[int, int, int] | None) -> None:
        address = ctypes.addressof(ctypes.c_char.from_buffer(image))
        self._library.memory_attach(address, len(image), *window)
        FastMemory._attached = image
        if fault:
            self._library.memory_fault(*fault)


class StallMemory:
    """cocotbext-axi's memory, with random stalls on all channels of both ports of the engine."""

    def __init__(self, dut, registers: AxiLiteMaster):
        slave = AxiSlave(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, target=self)
        channels = [
            slave.read_if.ar_channel, slave.read_if.r_channel, slave.write_if.aw_channel, slave.write_if.w_channel,
            slave.write_if.b_channel, registers.read_if.ar_channel, registers.read_if.r_channel,
            registers.write_if.aw_channel, registers.write_if.w_channel, registers.write_if.b_channel,
        ]  # fmt: skip
        for index, channel in enumerate(channels):
            channel.set_pause_generator(stalls(Random(f"{cocotb.RANDOM_SEED} {index}")))
        self._beat_bytes = slave.write_if.byte_lanes
        self._image, self._window, self._fault, self.violation = b"", (0, 0), None, None

    def attach(self, image: mmap.mmap, window: tuple[int, int], fault: tuple[int, int, int] | None) -> None:
        self._image, self._window, self._fault = image, window, fault

    def _check(self, address: int, length: int) -> None:
        """AxiSlave answers SLVERR to an exception."""
        if address + length > len(self._image):
            raise IndexError
        if self._fault and address < self._fault[1] and address + length > self._fault[0]:
            raise IndexError

    async def read(self, address: int, length: int) -> bytes:
        self._check(address, length)
        return self._image[address : address + length]

    async def write(self, address: int, data: bytes) -> None:
        self._check(address - address % self._beat_bytes, self._beat_bytes)
        if self.violation is None and not self._window[0] <= address <= self._window[1] - len(data):
            self.violation = f"write at 0x{address:x} is outside the window"
        self._image[address : address + len(data)] = data


def stalls(random: Random):
    """Endless pause values, cycle by cycle: phases of 1..200 cycles, each with its own share of stalled cycles."""
    while True:
        share = random.choice((0, 0, 0.1, 0.5, 0.9))
        for _ in range(random.randint(1, 200)):
            yield random.random() < share


@cocotb.test()
async def run_programs(dut):
    """Run the programs of the request one after the other, each on its own memory image."""
    logging.getLogger("cocotb.testbench").setLevel(logging.ERROR)
    request = json.loads(Path(os.environ["WINNOW_REQUEST"]).read_text())
    with os.fdopen(int(os.environ["WINNOW_REPORT"]), "w", buffering=1) as report:
        dut.rst.value = 1
        # A clock in HDL saves 0.3 us a cycle, but then cocotb would sample after the edge.
        Clock(dut.clk, CLOCK_PERIOD_NS, "ns", impl="gpi").start()
        registers = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        memory = FastMemory() if request["memory"] == "fast" else StallMemory(dut, registers)
        for index, program in enumerate(request["programs"]):
            result = await run_program(dut, registers, memory, program, request["timeout_cycles"], index, report)
            assert memory.violation is None, memory.violation
            print(json.dumps({"program": index, **result}), file=report)


def now() -> int:
    """Cycles since the simulation began."""
    return int(get_sim_time("ns")) // CLOCK_PERIOD_NS


async def start_program(registers, program: dict) -> None:
    """Write the registers of a program, and start it."""
    base, limit = program["window"]
    for register, value in (
        (Register.PROGRAM_ADDRESS, program["descriptors_address"]),
        (Register.PROGRAM_LENGTH, program["descriptor_count"]),
        (Register.WINDOW_BASE, base),
        (Register.WINDOW_LIMIT, limit),
        (Register.CONTROL, 1),
    ):
        await registers.write_dword(register, value)


async def run_program(dut, registers, memory, program: dict, timeout_cycles: int, index: int, report) -> dict:
    """Reset (where asked for), start, wait for the interrupt, read the registers: the fields of a run but its image."""
    begin, begin_seconds = now(), time.monotonic()
    dut.rst.value = int(program["reset"])
    await ClockCycles(dut.clk, 4)  # a program that ended with an error may have had writes on their way
    with open(program["image"], "r+b") as file:
        memory.attach(mmap.mmap(file.fileno(), 0), program["window"], program["fault"])
    dut.rst.value = 0
    await ClockCycles(dut.clk, 4)
    await start_program(registers, program)
    if program["restart_after"] is not None:
        await ClockCycles(dut.clk, program["restart_after"])
        dut.rst.value = 1
        await ClockCycles(dut.clk, 4)
        dut.rst.value = 0
        await ClockCycles(dut.clk, 4)
        await start_program(registers, program)
    start, reported = now(), time.monotonic()
    interrupt = RisingEdge(dut.irq)
    while not dut.irq.value:
        left = start + timeout_cycles - now()
        assert left > 0, f"program {index}: no interrupt within {timeout_cycles} cycles"
        await First(interrupt, Timer(min(POLL_CYCLES, left) * CLOCK_PERIOD_NS, "ns"))
        if time.monotonic() > reported + PROGRESS_SECONDS:
            reported = time.monotonic()
            print(json.dumps({"program": index, "cycles": now() - begin}), file=report)
    cycles, seconds = now() - begin, time.monotonic() - begin_seconds
    status = await registers.read_dword(Register.STATUS)
    words = await registers.read_dwords(Register.COUNTERS, len(COUNTERS))
    profile = []
    for layer in range(program["layers"]):
        record = await registers.read_dwords(Register.PROFILE + 4 * PROFILE_WORDS * layer, len(COUNTERS))
        profile.append(dict(zip(COUNTERS, record, strict=True)))
    await registers.write_dword(Register.CONTROL, 2)
    await ClockCycles(dut.clk, 4)
    assert not dut.irq.value, f"program {index}: the interrupt stays after it was cleared"
    return {
        "status": status, "counters": dict(zip(COUNTERS, words, strict=True)), "profile": profile,
        "cycles": cycles, "seconds": seconds,
    }  # fmt: skip
