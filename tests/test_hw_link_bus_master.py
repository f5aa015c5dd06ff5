"""The bus master: every burst that a job is cut into, and jobs that are aborted at any time."""

from random import Random

import pytest

from hw.link.bus_master import BusMaster
from tests.hw_helpers import PERIOD, simulate
from tests.link_bench import MEMORY_SIZE, Bus

WORD_BYTES = 4
MEMORY, REGISTERS = 16, 1
"""Words of the longest bursts."""


class Bench:
    """A master, its bus, and the bytes that it is given and gives."""

    def __init__(self, burst_words: int, seed: int, share: float):
        self.random, self.share = Random(seed), share
        self.master = BusMaster(burst_words=burst_words)
        self.bus = Bus(self.master.axi, word_bytes=WORD_BYTES, random=self.random, share=share)
        self.read = bytearray()

    def run(self, bench):
        simulate(self.master, bench, background=[self.bus.serve])

    async def start(self, ctx, address: int, length: int, write: bool):
        master = self.master
        assert not ctx.get(master.busy)
        ctx.set(master.job, {"address": address, "words": length // WORD_BYTES, "write": write})
        ctx.set(master.start, 1)
        await ctx.tick()
        ctx.set(master.start, 0)
        self.read.clear()

    async def cycle(self, ctx, data: list[int]):
        """One cycle, in which the next of the bytes may be taken, or one given."""
        master = self.master
        offered = bool(data) and self.random.random() < self.share
        ctx.set(master.i.valid, offered)
        ctx.set(master.i.payload, data[0] if offered else 0)
        _, _, ready, valid, byte = await ctx.tick().sample(master.i.ready, master.o.valid, master.o.payload)
        if offered and ready:
            data.pop(0)
        if valid:
            self.read.append(byte)


def bursts_of(address: int, length: int, burst_words: int) -> list[tuple[int, int]]:
    """(address, words) of the fewest bursts that stay between multiples of the longest."""
    longest = WORD_BYTES * burst_words
    ends = [*range(address - address % longest + longest, address + length, longest), address + length]
    starts = [address, *ends[:-1]]
    return [(start, (end - start) // WORD_BYTES) for start, end in zip(starts, ends, strict=True)]


@pytest.mark.parametrize("share", [1, 0.4])
@pytest.mark.parametrize("burst_words", [MEMORY, REGISTERS])
def test_jobs(burst_words, share):
    bench = Bench(burst_words, 2, share)

    async def jobs(ctx):
        for _ in range(14):
            words = bench.random.choice([1, 2, bench.random.randint(1, 40)])
            length, write = words * WORD_BYTES, bench.random.random() < 0.5
            address = bench.random.randrange(0, MEMORY_SIZE - length, WORD_BYTES)
            data, before = bench.random.randbytes(length), bytes(bench.bus.memory)
            left = list(data) if write else []
            bench.bus.bursts.clear()
            await bench.start(ctx, address, length, write)
            cycles = 0
            while ctx.get(bench.master.busy):
                await bench.cycle(ctx, left)
                cycles += 1
            assert not left and not ctx.get(bench.master.failed)
            assert bench.bus.bursts == bursts_of(address, length, burst_words)
            if write:
                assert bench.bus.memory == before[:address] + data + before[address + length:]
            else:
                assert bench.read == before[address:address + length] and bench.bus.memory == before
            if share == 1:  # the bus answers in the second cycle
                assert cycles <= words * (WORD_BYTES + 1) + (3 + 3) * len(bench.bus.bursts) + 1

    bench.run(jobs)


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("burst_words", [MEMORY, REGISTERS])
def test_abort_at_any_time(burst_words, write):
    """The bus sees its burst to the end; what had not been offered is not written; the next job is right."""
    bench = Bench(burst_words, 5, 0.6)
    length = 4 * WORD_BYTES

    async def jobs(ctx):
        for wait in range(0, 100, 2 if burst_words == MEMORY else 1):
            data, before = bench.random.randbytes(length), bytes(bench.bus.memory)
            left = list(data)
            address = 128 - 2 * WORD_BYTES
            bench.bus.writes.clear()
            bench.bus.silent = bench.random.random() < 0.5
            await bench.start(ctx, address, length, write)
            for _ in range(wait):
                await bench.cycle(ctx, left)
            ctx.set(bench.master.abort, 1)
            await bench.cycle(ctx, left)
            ctx.set(bench.master.abort, 0)
            await bench.cycle(ctx, left)
            await ctx.delay(PERIOD / 10)  # the bus has noted what it took in this cycle
            taken, given, bursts = length - len(left), len(bench.read), len(bench.bus.bursts)
            bursts += ctx.get(bench.master.axi.aw_valid) or ctx.get(bench.master.axi.ar_valid)
            bench.bus.silent = False
            while ctx.get(bench.master.busy):
                await bench.cycle(ctx, left)
            assert (length - len(left), len(bench.read)) == (taken, given)
            assert len(bench.bus.bursts) == bursts
            written = taken - taken % WORD_BYTES
            if write:
                # All words that were whole, in order; none behind them.
                after = before[:address] + data[:written] + before[address + written:]
                assert bench.bus.memory == after
            await bench.start(ctx, address, length, True)
            left = list(data)
            while ctx.get(bench.master.busy):
                await bench.cycle(ctx, left)
            assert bench.bus.memory[address:address + length] == data

    bench.run(jobs)


@pytest.mark.parametrize("burst_words", [MEMORY, REGISTERS])
def test_no_burst_after_an_error(burst_words):
    bench = Bench(burst_words, 3, 1)
    bench.bus.errors = {0x40}

    async def jobs(ctx):
        for write in (False, True):
            bench.bus.bursts.clear()
            await bench.start(ctx, 0x40, 256, write)
            while ctx.get(bench.master.busy):
                await bench.cycle(ctx, [0])
            assert ctx.get(bench.master.failed)
            assert bench.bus.bursts == bursts_of(0x40, 256, burst_words)[:1]
            await bench.start(ctx, 0x80, WORD_BYTES, write)
            while ctx.get(bench.master.busy):
                await bench.cycle(ctx, [0])
            assert not ctx.get(bench.master.failed)

    bench.run(jobs)
