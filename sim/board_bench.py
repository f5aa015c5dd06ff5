"""The cocotb test that is a board's USB serial adapter: bytes from a pseudo-terminal to its UART pins, and back.

Started by :mod:`sim.board` inside the simulator. ``WINNOW_BOARD`` is JSON: ``terminal``, the file descriptor of the
pseudo-terminal's other end; ``memory``, the file that the memory chip's contents are; ``cycles_per_bit``;
``report``, a file that gets the cycles simulated and the seconds taken. Ends when the standard input does.
"""

import json
import logging
import mmap
import os
import sys
import time
from pathlib import Path
from select import select

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, Timer
from cocotbext.uart import UartSink, UartSource

from sim.bench import CLOCK_PERIOD_NS, FastMemory, now

SLICE_CYCLES = 256
"""Between two looks at the pseudo-terminal: some 6 bytes of the fastest UART, so that a look costs little."""
READ_BYTES = 4096


@cocotb.test()
async def serve(dut):
    """Pass on bytes until the standard input ends."""
    logging.getLogger("cocotb").setLevel(logging.ERROR)
    board = json.loads(os.environ["WINNOW_BOARD"])
    baud, terminal = 10**9 // (CLOCK_PERIOD_NS * board["cycles_per_bit"]), board["terminal"]
    dut.rst.value = 1
    dut.rx.value = 1
    Clock(dut.clk, CLOCK_PERIOD_NS, "ns", impl="gpi").start()
    with open(board["memory"], "r+b") as file:
        contents = mmap.mmap(file.fileno(), 0)
    FastMemory().attach(contents, (0, len(contents)), None)
    source, sink = UartSource(dut.rx, baud=baud), UartSink(dut.tx, baud=baud)
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0
    started = time.monotonic()
    await Timer(CLOCK_PERIOD_NS // 2, "ns")  # off the clock's edges
    while not await exchange(terminal, source, sink, sys.stdin.fileno()):
        await Timer(SLICE_CYCLES * CLOCK_PERIOD_NS, "ns")
    Path(board["report"]).write_text(json.dumps({"cycles": now(), "seconds": time.monotonic() - started}))


async def exchange(terminal: int, source, sink, until: int) -> bool:
    """Pass on what has come on either side; whether ``until``, a file descriptor, has ended.

    ``source`` and ``sink`` are those of cocotbext-uart, or have their ``write_nowait``, ``read_nowait`` and ``empty``.
    """
    if not sink.empty():
        os.write(terminal, sink.read_nowait())
    readable, _, _ = select([terminal, until], [], [], 0)
    if terminal in readable:
        source.write_nowait(os.read(terminal, READ_BYTES))
    return until in readable and not os.read(until, 1)
