"""The simulated board without its simulator: the bridge to its pins, its pseudo-terminal, and how it ends."""

import json
import os
import stat
import sys
import time

import pytest

import sim.board
from hw.boards.presets import BOARDS
from hw.boards.system import MEMORY_BYTES
from hw.link.client import Link, LinkLost, open_port
from sim.board import SimulatedBoard
from sim.board_bench import exchange
from sim.verilator import SimulationError

from .test_hw_link_client import IDENTITY


class Pins:
    """What a UartSource and a UartSink are to the bridge: bytes that were sent, and those that have come."""

    def __init__(self):
        self.sent, self.come = bytearray(), bytearray()

    def write_nowait(self, data):
        self.sent += data

    def read_nowait(self):
        data, self.come = self.come, bytearray()
        return data

    def empty(self):
        return not self.come


def run(awaitable):
    """The result of a coroutine that waits for nothing."""
    with pytest.raises(StopIteration) as ended:
        awaitable.send(None)
    return ended.value.value


def test_bytes_go_both_ways_until_the_input_ends():
    terminal, end = os.openpty()
    reader, writer = os.pipe()
    sim.board.tty.setraw(end)
    pins = Pins()
    assert run(exchange(terminal, pins, pins, reader)) is False and not pins.sent
    every_byte = bytes(range(256))
    os.write(end, every_byte)
    pins.come += every_byte[::-1]
    assert run(exchange(terminal, pins, pins, reader)) is False
    assert pins.sent == every_byte and os.read(end, 4096) == every_byte[::-1] and not pins.come
    os.close(writer)
    assert run(exchange(terminal, pins, pins, reader)) is True
    for one in (terminal, end, reader):
        os.close(one)


# A program in the place of the simulator.
ANSWERS = """
import json, os, sys, threading
sys.path.insert(0, {root!r})
from tests.test_hw_link_client import Board
settings, board = json.loads(os.environ["WINNOW_BOARD"]), Board()
assert os.path.getsize(settings["memory"]) == {size} and settings["cycles_per_bit"] == 4

def answer():
    while True:
        os.write(settings["terminal"], board.answer(os.read(settings["terminal"], 4096)))

threading.Thread(target=answer, daemon=True).start()
sys.stdin.read()
open(settings["report"], "w").write(json.dumps({{"cycles": 12, "seconds": 3.5}}))
"""
FAILS = """
print("[100] %Fatal: sdram_model.sv:127: Assertion failed in board.chip: tRCD: 1 of 3 cycles in cycle 50")
raise SystemExit(1)
"""
HANGS = "import time; time.sleep(1000)"


@pytest.fixture
def program(monkeypatch, tmp_path):
    """``program(text)``: what runs as the simulator."""
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sim.board, "board_source", lambda board, cycles_per_bit, announce: "module board; endmodule")

    def use(text: str):
        path = tmp_path / "simulator"
        path.write_text(f"#!{sys.executable}\n" + text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(sim.board, "build", lambda **_: path)

    return use


def ended(pid: int) -> bool:
    """Whether a child has been waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_client_at_the_terminal(program, tmp_path):
    program(ANSWERS.format(root=os.getcwd(), size=MEMORY_BYTES))
    with SimulatedBoard("ulx3s-45f") as board:
        assert board.board is BOARDS["ulx3s-45f"]
        link = Link(open_port(board.port, 3_000_000), timeout=0.01, slowdown=1000)
        assert link.identity == IDENTITY and board.failure is None
        link.write_memory(8, bytes(range(256)))
        assert link.read_memory(8, 256) == bytes(range(256))
        with pytest.raises(SimulationError,
                           match=r"^ulx3s-45f: another process simulates this board; end it first$"):
            SimulatedBoard("ulx3s-45f")
        link.close()
        pid, folder = board._child.pid, board._folder
        assert board.stop() == (12, 3.5)
    assert ended(pid) and not folder.exists() and board.stop() is None
    assert (tmp_path / "cache" / "ulx3s-45f.sdram").stat().st_size == MEMORY_BYTES


def test_a_simulation_that_fails(program):
    program(FAILS)
    with SimulatedBoard("ulx3s-45f") as board:
        with pytest.raises(LinkLost):
            Link(open_port(board.port, 3_000_000), timeout=0.01, slowdown=1000)
        assert board.failure.startswith("tRCD: 1 of 3 cycles in cycle 50; log: ")
        log = board.failure.rpartition(" ")[2]
        assert board.stop() is None and os.path.exists(log)


def test_a_simulation_that_does_not_end(program, monkeypatch):
    program(HANGS)
    monkeypatch.setattr(sim.board, "PATIENCE", 0.1)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), SimulatedBoard("ulx3s-45f") as board:
        pid = board._child.pid
        raise KeyboardInterrupt
    assert ended(pid) and time.monotonic() - started < 5


def test_a_client_that_is_gone(program, tmp_path):
    """The simulator ends with the process that started it, whatever ends that."""
    program(ANSWERS.format(root=os.getcwd(), size=MEMORY_BYTES))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        board = SimulatedBoard("ulx3s-45f")
        os.write(writer, json.dumps(board._child.pid).encode())
        os._exit(9)
    pid = json.loads(os.read(reader, 100))
    os.waitpid(child, 0)
    end = time.monotonic() + 10
    while not ended(pid) and not _zombie(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert ended(pid) or _zombie(pid)
    os.close(reader)
    os.close(writer)


def _zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
