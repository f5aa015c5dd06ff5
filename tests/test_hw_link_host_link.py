"""The whole link at its pins: the client's own Link talks to it, bit by bit, in simulated time."""

from collections import deque
from random import Random

import pytest
from amaranth.sim import Simulator

from hw.link import client
from hw.link.client import Link, LinkError
from hw.link.host_link import HostLink
from tests.hw_helpers import PERIOD, refusal
from tests.link_bench import MEMORY_SIZE, STATUS_ADDRESS, Bus

CYCLES_PER_BIT, CYCLES_PER_MILLISECOND = 5, 60
BYTE_CYCLES = 10 * CYCLES_PER_BIT
POLL_CYCLES = 4 * BYTE_CYCLES
IDENTITY = b"board"


class SimulatedPort:
    """A port of pyserial whose line ends at the pins of a simulated HostLink; reading lets time pass.

    ``damage`` are bits to flip in the next writes, ``lose`` is the number of bytes that will be lost on the way back,
    ``interrupt_at`` a cycle.
    """

    name = "simulation"

    def __init__(self):
        self.link = HostLink(cycles_per_bit=CYCLES_PER_BIT, cycles_per_millisecond=CYCLES_PER_MILLISECOND,
                             identity=IDENTITY, quiet_milliseconds=5, bus_milliseconds=60)
        random = Random(1)
        self.memory = Bus(self.link.axi, word_bytes=4, random=random, share=0.7)
        self.registers = Bus(self.link.registers, word_bytes=4, random=random, share=0.7)
        self.to_board, self.from_board, self.damage = deque(), bytearray(), deque()
        self.running, self.lose, self.interrupt_at, self.now, self.timeout = True, 0, None, 0, 0.0
        self.simulator = Simulator(self.link)
        self.simulator.add_clock(PERIOD)
        for bench in (self._send, self._receive, self._interrupt, self.memory.serve, self.registers.serve):
            self.simulator.add_testbench(bench, background=True)

    def monotonic(self) -> float:
        """Simulated seconds."""
        return self.now / (1000 * CYCLES_PER_MILLISECOND)

    @property
    def in_waiting(self) -> int:
        return len(self.from_board)

    def write(self, data: bytes):
        error = self.damage.popleft() if self.damage else 0
        self.to_board.extend((int.from_bytes(data, "little") ^ error).to_bytes(len(data), "little"))

    def read(self, length: int) -> bytes:
        end = self.now + POLL_CYCLES
        while len(self.from_board) < length and self.now < end:
            self._run(BYTE_CYCLES)
        data, self.from_board = bytes(self.from_board[:length]), self.from_board[length:]
        return data

    def close(self):
        self.running = self.memory.running = self.registers.running = False
        self._run(2 * BYTE_CYCLES)

    def _run(self, cycles: int):
        self.now += cycles
        self.simulator.run_until(self.now * PERIOD)

    async def _send(self, ctx):
        while self.running:
            if self.to_board:
                byte = self.to_board.popleft()
                for bit in (0, *(byte >> n & 1 for n in range(8)), 1):
                    ctx.set(self.link.rx, bit)
                    await ctx.tick().repeat(CYCLES_PER_BIT)
            else:
                await ctx.tick().repeat(CYCLES_PER_BIT)

    async def _receive(self, ctx):
        while True:
            await ctx.negedge(self.link.tx)
            await ctx.tick().repeat(CYCLES_PER_BIT // 2)
            bits = [ctx.get(self.link.tx)]
            for _ in range(9):
                await ctx.tick().repeat(CYCLES_PER_BIT)
                bits.append(ctx.get(self.link.tx))
            assert (bits[0], bits[9]) == (0, 1), "no start bit or no stop bit"
            if self.lose:
                self.lose -= 1
            else:
                self.from_board.append(sum(bit << n for n, bit in enumerate(bits[1:9])))

    async def _interrupt(self, ctx):
        while self.running:
            await ctx.tick().repeat(BYTE_CYCLES)
            ctx.set(self.link.irq, self.interrupt_at is not None and self.now >= self.interrupt_at)


@pytest.fixture
def port(monkeypatch):
    port = SimulatedPort()
    monkeypatch.setattr(client, "time", port)
    yield port
    port.close()


def register_writes(port: SimulatedPort) -> list[tuple[int, int]]:
    """(address, value)."""
    return [(address, int.from_bytes(data, "little")) for address, _, data in port.registers.writes]


def test_client_and_board(port):
    link = Link(port)
    assert link.identity == IDENTITY
    data, before, done = bytes(range(24)), bytes(port.memory.memory), []
    link.write_memory(0x38, data, progress=lambda *values: done.append(values))
    assert port.memory.memory == before[:0x38] + data + before[0x38 + 24:] and done == [(24, 24)]
    assert link.read_memory(0x30, 24) == before[0x30:0x38] + data[:16]
    link.write_register(0x18, 0x89ABCDEF)
    link.write_registers(0x0C, [1, 0xFFFFFFFF])
    assert register_writes(port) == [(0x18, 0x89ABCDEF), (0x0C, 1), (0x10, 0xFFFFFFFF)]
    assert link.read_registers(0x0C, 2) == [1, 0xFFFFFFFF]
    with pytest.raises(LinkError, match=r"^simulation: the board refuses: bus error$"):
        link.read_memory(MEMORY_SIZE, 8)


def test_wait(port):
    link = Link(port)
    port.registers.memory[STATUS_ADDRESS:STATUS_ADDRESS + 4] = (0x302).to_bytes(4, "little")
    begin = port.now
    assert link.wait(0.02) is None
    assert 1200 < port.now - begin < 1200 + 30 * BYTE_CYCLES
    begin, port.interrupt_at = port.now, port.now + 3000
    assert link.wait(1) == 0x302
    assert 3000 < port.now - begin < 3000 + 30 * BYTE_CYCLES


def test_damage_on_the_line(port):
    """Requests that are damaged on their way, and those whose reply is lost, are sent again and executed once."""
    link = Link(port, timeout=0.05)
    port.damage.append(1 << 8 * 12 + 3)
    link.write_register(0x10, 7)
    assert register_writes(port) == [(0x10, 7)]
    port.lose = 9
    link.write_register(0x10, 8)
    assert register_writes(port) == [(0x10, 7), (0x10, 8)] and port.lose == 0


def test_sizes():
    sizes = dict(cycles_per_bit=33, cycles_per_millisecond=100_000, identity=b"")
    assert refusal(HostLink, **sizes | {"cycles_per_bit": 2}) == "cycles_per_bit: expected at least 4, got 2"
    assert refusal(HostLink, **sizes | {"cycles_per_millisecond": 0}) == (
        "cycles_per_millisecond: expected at least 1, got 0")
    assert refusal(HostLink, **sizes | {"identity": bytes(1024)}) == "identity: expected at most 1023 bytes, got 1024"
    assert refusal(HostLink, **sizes | {"bus_milliseconds": 0}) == "bus_milliseconds: expected 1..65535, got 0"
    assert refusal(HostLink, **sizes | {"cycles_per_bit": 10_000, "quiet_milliseconds": 3}) == (
        "quiet_milliseconds: expected at least 4, the time of 4 bytes, got 3")
