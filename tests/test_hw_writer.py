"""The AXI write master against a memory model with random stalls."""

from collections import deque
from dataclasses import dataclass, field
from random import Random

import pytest

from hw.reader import BURST_BEATS
from hw.writer import HEADROOM, Packer, WriteKind, Writer

from .hw_helpers import StallRule, bytes_of, issue_counter, simulate

MEMORY = 1 << 16


@dataclass
class Memory:
    """Takes what ``component`` writes and answers in order; checks the rules of AXI, cycle by cycle."""

    component: Writer
    random: Random
    share: float = 1
    errors: set[int] = field(default_factory=set)
    written: dict[int, int] = field(default_factory=dict)
    bursts: list[tuple[int, int]] = field(default_factory=list)
    beats: list[int] = field(default_factory=list)
    running: bool = True

    async def serve(self, ctx):
        """A testbench: until :attr:`running` is False."""
        component, size = self.component, self.component.axi_bytes
        addresses, answers, offered = deque(), deque(), False
        address_rule, data_rule, now = StallRule("AW"), StallRule("W"), 0
        while self.running:
            aw_ready, w_ready = (self.random.random() < self.share for _ in range(2))
            w_ready = w_ready and bool(addresses)
            offered = offered or (bool(answers) and self.random.random() < self.share)
            ctx.set(component.aw_ready, aw_ready)
            ctx.set(component.w_ready, w_ready)
            ctx.set(component.b_valid, offered)
            ctx.set(component.b_response, answers[0] if offered else 0)
            _, _, aw_valid, address, length, w_valid, data, strobe, last, b_ready = await ctx.tick().sample(
                component.aw_valid, component.aw_address, component.aw_length, component.w_valid, component.w_data,
                component.w_strobe, component.w_last, component.b_ready)
            now += 1
            if offered and b_ready:
                answers.popleft()
                offered = False
            if w_valid:
                announced = sum(beats for _, beats in self.bursts) + (length + 1 if aw_valid else 0)
                assert len(self.beats) < announced, "a beat before its address"
            if address_rule.check(aw_valid, aw_ready, address, length):
                assert address % size == 0 and length < BURST_BEATS
                assert address % 4096 + (length + 1) * size <= 4096, "a burst crosses 4 KiB"
                self.bursts.append((address, length + 1))
                addresses.append((address, length + 1, 0))
            if data_rule.check(w_valid, w_ready, data, strobe, last):
                address, beats, beat = addresses[0]
                assert last == (beat == beats - 1), "wlast"
                assert strobe, "a beat of nothing"
                for n, value in enumerate(bytes_of(data, size)):
                    if strobe >> n & 1:
                        assert address + beat * size + n not in self.written, "written twice"
                        self.written[address + beat * size + n] = value
                self.beats.append(now)
                addresses[0] = address, beats, beat + 1
                if last:
                    addresses.popleft()
                    answers.append(2 if address in self.errors else 0)


def chunks_of(address: int, values: list[int], sizes: list[int], axi_bytes: int) -> list[dict[str, int]]:
    """A run's bytes in chunks of these sizes, junk behind them."""
    chunks, at = [], 0
    for n, size in enumerate(sizes):
        data = values[at:at + size] + [0xEE] * (axi_bytes - size)
        chunks.append({"valid": 1, "data": int.from_bytes(bytes(data), "little"), "count": size, "first": n == 0,
                       "last": n == len(sizes) - 1, "lane": address % axi_bytes,
                       "beat": address // axi_bytes % BURST_BEATS})
        at += size
    assert at == len(values)
    return chunks


def random_sizes(random: Random, total: int, axi_bytes: int) -> list[int]:
    """Chunk sizes of a run: full ones, or of any size."""
    sizes, full = [], random.random() < 0.5
    while total:
        sizes.append(min(total, axi_bytes if full else random.randint(1, axi_bytes)))
        total -= sizes[-1]
    return sizes


def random_runs(random: Random, count: int, axi_bytes: int) -> list[tuple[int, list[int], list[dict]]]:
    """(address, bytes, chunks) of runs that do not overlap, of any length and alignment."""
    runs, address = [], 0x1000
    for _ in range(count):
        address += random.choice((0, 1, random.randrange(300), 4096 - address % 4096))
        values = random.choices(range(256), k=random.choice((1, random.randint(1, 20), random.randint(1, 600))))
        sizes = random_sizes(random, len(values), axi_bytes)
        runs.append((address, values, chunks_of(address, values, sizes, axi_bytes)))
        address += len(values)
    random.shuffle(runs)
    return runs


async def write(ctx, component, runs, random: Random, share: float) -> None:
    """Offer each run, then its chunks; an idle cycle at least between runs; chunks heed ``hold``, late."""
    held = deque([0] * (HEADROOM - 2))  # the reads and registers before the writer
    for address, values, chunks in runs:
        ctx.set(component.i_run.payload, {"address": address, "bytes": len(values), "kind": WriteKind.ACTIVATIONS})
        ctx.set(component.i_run.valid, 1)
        await ctx.tick().until(component.i_run.ready)
        ctx.set(component.i_run.valid, 0)
        for chunk in chunks:
            while True:
                held.append(ctx.get(component.hold))
                go = not held.popleft() and random.random() < share
                ctx.set(component.chunk, chunk if go else {"valid": 0})
                await ctx.tick()
                if go:
                    break
            ctx.set(component.chunk, {"valid": 0})


def open_window(ctx, component, base: int = 0, limit: int = MEMORY) -> None:
    ctx.set(component.window_base, base)
    ctx.set(component.window_limit, limit)


@pytest.mark.parametrize("axi_bytes", [8, 16])
@pytest.mark.parametrize(("memory_share", "share"), [(1, 1), (0.3, 1), (1, 0.3), (0.6, 0.6)])
def test_runs_arrive_whole(axi_bytes, memory_share, share):
    component, random = Writer(axi_bytes=axi_bytes), Random(f"{axi_bytes} {memory_share} {share}")
    memory, runs = Memory(component, random, memory_share), random_runs(random, 30, axi_bytes)
    counted, counter = issue_counter(component, memory)

    async def bench(ctx):
        open_window(ctx, component)
        await write(ctx, component, runs, random, share)
        while not ctx.get(component.idle):
            await ctx.tick()
        await ctx.tick().repeat(20)
        assert ctx.get(component.idle) and not ctx.get(component.failed) and not ctx.get(component.outside)
        memory.running = False

    simulate(component, bench, memory.serve, counter)
    assert memory.written == {address + n: value for address, values, _ in runs for n, value in enumerate(values)}
    assert counted["bytes"] == sum(len(values) for _, values, _ in runs)
    assert counted["beats"] == sum(beats for _, beats in memory.bursts) == len(memory.beats)


def test_a_beat_a_cycle():
    component, random = Writer(axi_bytes=8), Random(0)
    memory, values = Memory(component, random), [n % 256 for n in range(2000)]

    async def bench(ctx):
        open_window(ctx, component)
        await write(ctx, component, [(5, values, chunks_of(5, values, [8] * 250, 8))], random, 1)
        while not ctx.get(component.idle):
            await ctx.tick()
        memory.running = False

    simulate(component, bench, memory.serve)
    assert len(memory.beats) == 251 and memory.beats[-1] - memory.beats[0] <= 251


def test_a_run_every_other_cycle():
    """Runs of a beat, as fast as the write-back announces them."""
    component, random = Writer(axi_bytes=8), Random(0)
    memory, addresses = Memory(component, random), range(0x1000, 0x1400, 24)

    async def bench(ctx):
        open_window(ctx, component)
        for address in addresses:
            assert ctx.get(component.i_run.ready)
            ctx.set(component.i_run.payload, {"address": address, "bytes": 8, "kind": WriteKind.ACTIVATIONS})
            ctx.set(component.i_run.valid, 1)
            ctx.set(component.chunk, {"valid": 0})
            await ctx.tick()
            ctx.set(component.i_run.valid, 0)
            ctx.set(component.chunk, *chunks_of(address, [1] * 8, [8], 8))
            await ctx.tick()
        ctx.set(component.chunk, {"valid": 0})
        while not ctx.get(component.idle):
            await ctx.tick()
        memory.running = False

    simulate(component, bench, memory.serve)
    assert memory.written == {address + n: 1 for address in addresses for n in range(8)}
    assert memory.beats[-1] - memory.beats[0] == 2 * (len(addresses) - 1)


@pytest.mark.parametrize(("address", "size"), [
    (0xFFF, 2), (0x1FFF, 2), (0x2000, 1), (0, 1), (0xFFFFFFFF, 1), (0xFFFFFFFF, 0x1002), (0x1000, 0xFFFFFFFF)])
def test_nothing_is_written_outside_the_window(address, size):
    """Such a run is refused whole; with ``abort`` the writer comes to rest, whatever else is offered."""
    component, random = Writer(axi_bytes=8), Random(0)
    memory = Memory(component, random)

    async def bench(ctx):
        open_window(ctx, component, 0x1000, 0x2000)
        good = [(start, [1] * 8, chunks_of(start, [1] * 8, [8], 8)) for start in (0x1000, 0x1FF8)]
        await write(ctx, component, good, random, 1)
        ctx.set(component.i_run.payload, {"address": address, "bytes": size, "kind": 0})
        ctx.set(component.i_run.valid, 1)
        await ctx.tick().until(component.i_run.ready)
        ctx.set(component.i_run.valid, 0)
        await ctx.tick().repeat(40)
        assert ctx.get(component.outside) and not ctx.get(component.idle)
        ctx.set(component.abort, 1)
        await ctx.tick().repeat(2)
        assert ctx.get(component.idle)
        assert memory.bursts == [(0x1000, 1), (0x1FF8, 1)]
        memory.running = False

    simulate(component, bench, memory.serve)


@pytest.mark.parametrize("seed", range(6))
def test_abort_completes_what_was_issued(seed):
    """Aborted at any time, with a slow memory: every issued burst gets its own bytes, and the writer comes to rest."""
    component, random = Writer(axi_bytes=8), Random(seed)
    memory, runs = Memory(component, random, 0.2), random_runs(random, 8, 8)
    at = random.randint(20, 400)

    async def bench(ctx):
        open_window(ctx, component)
        await write(ctx, component, runs, random, 1)
        while asked is None or not ctx.get(component.idle):
            await ctx.tick()
        await ctx.tick().repeat(50)
        assert ctx.get(component.idle) and not memory.bursts[asked:]
        memory.running = False

    async def abort(ctx):
        nonlocal asked
        await ctx.tick().repeat(at)
        ctx.set(component.abort, 1)
        await ctx.tick()
        asked = len(memory.bursts) + ctx.get(component.aw_valid)

    asked = None
    simulate(component, bench, abort, memory.serve, cycles=20_000)
    expected = {address + n: value for address, values, _ in runs for n, value in enumerate(values)}
    assert sum(beats for _, beats in memory.bursts) == len(memory.beats)
    assert all(expected[address] == value for address, value in memory.written.items())


def test_an_error_response_is_remembered():
    component, random = Writer(axi_bytes=8), Random(0)
    memory = Memory(component, random, errors={0x1100})

    async def bench(ctx):
        open_window(ctx, component)
        for address, failed in ((0x1000, 0), (0x1100, 1), (0x1200, 1)):
            await write(ctx, component, [(address, [1] * 8, chunks_of(address, [1] * 8, [8], 8))], random, 1)
            while not ctx.get(component.idle):
                await ctx.tick()
            assert ctx.get(component.failed) == failed
        memory.running = False

    simulate(component, bench, memory.serve)


@pytest.mark.parametrize("axi_bytes", [8, 16])
def test_packer(axi_bytes):
    """Runs one idle cycle apart: the beats of each lie where its address says, one cycle after their last byte."""
    component, random = Packer(axi_bytes=axi_bytes), Random(axi_bytes)
    runs, beats = random_runs(random, 60, axi_bytes), []

    async def bench(ctx):
        sequence = [chunk for _, _, chunks in runs for chunk in [*chunks, {"valid": 0}]] + [{"valid": 0}] * 2
        for chunk in sequence:
            ctx.set(component.chunk, chunk)
            await ctx.tick()
            ports = component.beat_data, component.beat_strobe, component.beat_last
            if ctx.get(component.beat_valid):
                beats.append(tuple(map(ctx.get, ports)))

    simulate(component, bench)
    for address, values, _ in runs:
        end = address + len(values)
        for base in range(address - address % axi_bytes, end, axi_bytes):
            data, strobe, last = beats.pop(0)
            lanes = [n for n in range(axi_bytes) if address <= base + n < end]
            assert strobe == sum(1 << n for n in lanes)
            assert [data >> 8 * n & 0xFF for n in lanes] == [values[base + n - address] for n in lanes]
            next_beat = base + axi_bytes
            assert last == (next_beat >= end or next_beat % (BURST_BEATS * axi_bytes) == 0)
    assert not beats
