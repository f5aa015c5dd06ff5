"""The AXI read master against an in-order memory model with random stalls."""

from collections import deque
from dataclasses import dataclass, field
from random import Random

import pytest

from hw.reader import BURST_BEATS, Kind, Reader

from .hw_helpers import StallRule, bytes_of, issue_counter, receive, send, simulate

MEMORY = 1 << 16
WEIGHT_BUFFER = 1 << 10


@dataclass
class Memory:
    """Answers the read port of ``component`` in order; checks what it asks for, cycle by cycle."""

    component: Reader
    random: Random
    share: float = 1
    errors: set[int] = field(default_factory=set)
    contents: bytes = Random(0).randbytes(MEMORY)
    bursts: list[tuple[int, int]] = field(default_factory=list)
    most_outstanding: int = 0
    running: bool = True

    async def serve(self, ctx):
        """A testbench: until :attr:`running` is False."""
        component, size = self.component, self.component.axi_bytes
        beats, rule, waiting = deque(), StallRule("AR"), 0
        offered = False
        while self.running:
            ready = self.random.random() < self.share
            offered = offered or (bool(beats) and self.random.random() < self.share)
            ctx.set(component.ar_ready, ready)
            ctx.set(component.r_valid, offered)
            ctx.set(component.r_response, self.random.randrange(4))  # of no beat: it does not count
            if offered:
                address = beats[0][0]
                ctx.set(component.r_data, int.from_bytes(self.contents[address:address + size], "little"))
                ctx.set(component.r_response, 2 if address in self.errors else 0)
            _, _, valid, address, length, taken = await ctx.tick().sample(
                component.ar_valid, component.ar_address, component.ar_length, component.r_ready)
            if offered and taken:
                waiting -= beats.popleft()[1]
                offered = False
            if rule.check(valid, ready, address, length):
                assert address % size == 0 and length < BURST_BEATS
                assert address % 4096 + (length + 1) * size <= 4096, "a burst crosses 4 KiB"
                self.bursts.append((address, length + 1))
                beats += [(address + n * size, n == length) for n in range(length + 1)]
                waiting += 1
                self.most_outstanding = max(self.most_outstanding, waiting)


def make(axi_bytes: int = 8, outstanding: int = 4) -> Reader:
    return Reader(axi_bytes=axi_bytes, outstanding=outstanding, weight_buffer_bytes=WEIGHT_BUFFER)


def open_window(ctx, component, base: int = 0, limit: int = MEMORY) -> None:
    ctx.set(component.window_base, base)
    ctx.set(component.window_limit, limit)


def segment(kind: Kind, address: int, size: int, **values: int) -> dict[str, int]:
    return {"kind": kind, "address": address, "bytes": size, "destination": 0, "start": 0, "strip_end": 0} | values


def random_segments(random: Random, count: int) -> list[dict[str, int]]:
    """Segments of all kinds, short and long, some of them marks."""
    segments = []
    for _ in range(count):
        size = random.choice((1, random.randint(1, 40), random.randint(1, 600)))
        kind = random.choice((Kind.DESCRIPTOR, Kind.MASK, Kind.PARAMETERS, Kind.ACTIVATIONS))
        if random.random() < 0.15:
            kind, size = Kind.ACTIVATIONS, 0
        segments.append(segment(kind, random.randrange(MEMORY - size), size, destination=random.randrange(1 << 20),
                                start=random.randrange(2), strip_end=random.randrange(2)))
    return segments


def beats_of(request: dict[str, int], axi_bytes: int) -> list[dict[str, int]]:
    """Expected labels and bytes of a segment's beats."""
    address, end, beats = request["address"], request["address"] + request["bytes"], []
    if address == end:
        return [dict(first=address % axi_bytes, values=[], **marks(request, True, True))]
    while address < end:
        stop = min(end, address - address % axi_bytes + axi_bytes)
        beats.append(dict(
            first=address % axi_bytes, values=list(Memory.contents[address:stop]),
            **marks(request, address == request["address"], stop == end)))
        address = stop
    for beat in beats:
        beat["destination"] = request["destination"] + sum(len(other["values"]) for other in beats[:beats.index(beat)])
    return beats


def marks(request: dict[str, int], first: bool, last: bool) -> dict[str, int]:
    return {"kind": request["kind"], "destination": request["destination"], "start": request["start"] & first,
            "strip_end": request["strip_end"] & last}


def seen(beat) -> dict[str, int]:
    values = bytes_of(beat.data, beat.first + beat.count)[beat.first:]
    return {"first": beat.first, "values": values, "kind": beat.kind, "destination": beat.destination,
            "start": beat.start, "strip_end": beat.strip_end}


@pytest.mark.parametrize(("axi_bytes", "outstanding"), [(8, 4), (16, 4), (8, 2), (8, 3)])
@pytest.mark.parametrize(("memory_share", "taker_share"), [(1, 1), (0.4, 1), (1, 0.4), (0.6, 0.6)])
def test_beats_come_back_in_order_with_their_labels(axi_bytes, outstanding, memory_share, taker_share):
    component, random = make(axi_bytes, outstanding), Random(f"{axi_bytes} {memory_share} {taker_share}")
    memory = Memory(component, random, memory_share)
    segments = random_segments(random, 40)
    expected = [beat for request in segments for beat in beats_of(request, axi_bytes)]
    counted, counter = issue_counter(component, memory)

    async def sender(ctx):
        open_window(ctx, component)
        await send(ctx, component.i_segment, segments, random, 0.8)

    async def receiver(ctx):
        beats = await receive(ctx, component.o_beat, len(expected), random, taker_share)
        assert [seen(beat) for beat in beats] == expected
        await ctx.tick().repeat(3)
        assert ctx.get(component.idle) and not ctx.get(component.outside) and not ctx.get(component.failed)
        memory.running = False

    simulate(component, sender, receiver, memory.serve, counter)
    assert counted["bytes"] == sum(request["bytes"] for request in segments)
    assert counted["beats"] == sum(beats for _, beats in memory.bursts)
    assert counted["beats"] == sum(bool(beat["values"]) for beat in expected)
    # A queue of ``outstanding`` bursts, and the one at the port.
    assert memory.most_outstanding <= component.outstanding + 2


def test_one_burst_and_one_beat_a_cycle():
    component = make(outstanding=32)
    memory = Memory(component, Random(0))

    async def sender(ctx):
        open_window(ctx, component)
        await send(ctx, component.i_segment, [segment(Kind.ACTIVATIONS, 8 * n, 8) for n in range(20)]
                   + [segment(Kind.ACTIVATIONS, 1024, 4096)])

    async def receiver(ctx):
        ctx.set(component.o_beat.ready, 1)
        arrived = []
        while len(arrived) < 20 + 512:
            _, _, valid = await ctx.tick().sample(component.o_beat.valid)
            now = len(times)
            times.append(valid)
            if valid:
                arrived.append(now)
        assert arrived[-1] - arrived[0] == len(arrived) - 1
        memory.running = False

    times: list = []
    simulate(component, sender, receiver, memory.serve)


def test_weights_wait_for_room():
    """No more than the weight buffer holds is asked for before room is freed; other kinds do not wait."""
    component, random = make(outstanding=16), Random(5)
    memory = Memory(component, random)
    freed = issued = 0

    async def sender(ctx):
        open_window(ctx, component)
        await send(ctx, component.i_segment, [segment(Kind.WEIGHTS, random.randrange(4096), random.randint(1, 700))
                                              for _ in range(20)])

    async def receiver(ctx):
        nonlocal freed, issued
        total = None
        ctx.set(component.o_beat.ready, 1)
        for now in range(4000):
            amount = random.randint(0, min(issued - freed, 40)) if now > 200 and random.random() < 0.3 else 0
            ctx.set(component.weights_freed, amount)
            _, _, go, size = await ctx.tick().sample(component.issued, component.issued_bytes)
            issued += go * size
            freed += amount
            assert issued - freed <= WEIGHT_BUFFER
            if now == 200:
                total = issued
                assert WEIGHT_BUFFER - 16 * 8 < total <= WEIGHT_BUFFER
        memory.running = False

    simulate(component, sender, receiver, memory.serve)
    assert issued > 2 * WEIGHT_BUFFER


@pytest.mark.parametrize(("address", "size"), [
    (0xFFF, 16), (0x1FF1, 16), (0x2000, 1), (0x0, 8), (0xFFFFFFF8, 8), (0xFFFFFFF8, 0x1010), (0x1000, 0xFFFFFFFF)])
def test_nothing_is_asked_for_outside_the_window(address, size):
    component = make()
    memory = Memory(component, Random(0))

    async def bench(ctx):
        open_window(ctx, component, 0x1000, 0x2000)
        await send(ctx, component.i_segment, [segment(Kind.MASK, 0x1000, 8), segment(Kind.MASK, 0x1FF0, 16),
                                              segment(Kind.MASK, address, size)])
        ctx.set(component.o_beat.ready, 1)
        await ctx.tick().repeat(60)
        assert ctx.get(component.outside)
        assert memory.bursts == [(0x1000, 1), (0x1FF0, 2)]
        memory.running = False

    simulate(component, bench, memory.serve)


def test_abort_ends_what_is_outstanding_and_asks_for_nothing_more():
    component, random = make(), Random(3)
    memory = Memory(component, random, 0.3)

    async def bench(ctx):
        open_window(ctx, component)
        await send(ctx, component.i_segment, [segment(Kind.ACTIVATIONS, 0, 1000)])
        await ctx.tick().repeat(40)
        assert ctx.get(component.o_beat.valid)  # nobody takes it
        ctx.set(component.abort, 1)
        await ctx.tick().repeat(2)
        asked = len(memory.bursts) + ctx.get(component.ar_valid)
        await send(ctx, component.i_segment, [segment(Kind.ACTIVATIONS, 8 * n, 100) for n in range(5)])
        while not ctx.get(component.idle):
            await ctx.tick()
        await ctx.tick().repeat(50)
        assert ctx.get(component.idle) and len(memory.bursts) == asked
        assert not ctx.get(component.o_beat.valid) and not ctx.get(component.failed)
        memory.running = False

    simulate(component, bench, memory.serve, cycles=5000)


def test_an_error_response_is_remembered():
    component = make()
    memory = Memory(component, Random(3), errors={64})

    async def bench(ctx):
        open_window(ctx, component)
        await send(ctx, component.i_segment, [segment(Kind.ACTIVATIONS, 0, 64), segment(Kind.ACTIVATIONS, 64, 8)])
        ctx.set(component.o_beat.ready, 1)
        failed_at = []
        for _ in range(40):
            _, _, valid, response, failed = await ctx.tick().sample(
                component.r_valid, component.r_response, component.failed)
            failed_at.append((bool(valid and response), failed))
        at = [error for error, _ in failed_at].index(True)
        assert [failed for _, failed in failed_at] == [0] * (at + 1) + [1] * (len(failed_at) - at - 1)
        memory.running = False

    simulate(component, bench, memory.serve)
