"""The AXI4 arbiter between masters with random stalls and a memory model that checks what it is sent."""

from collections import deque
from dataclasses import dataclass, field
from functools import partial
from random import Random

import pytest

from hw.boards.arbiter import PAYLOADS, AxiArbiter

from .hw_helpers import StallRule, refusal, simulate

REGION = 1 << 12
"""Bytes that each master has to itself: it reads the lower half and writes the upper one."""
BEAT = 8


async def offer(ctx, axi, channel: str, items: list[dict], random: Random | None = None, share: float = 1) -> None:
    """Offer the items on a channel, in a ``share`` of the cycles, each until it is taken."""
    valid, ready = getattr(axi, f"{channel}_valid"), getattr(axi, f"{channel}_ready")
    for item in items:
        while random and random.random() >= share:
            await ctx.tick()
        for name, value in item.items():
            ctx.set(getattr(axi, f"{channel}_{name}"), value)
        ctx.set(valid, 1)
        await ctx.tick().until(ready)
        ctx.set(valid, 0)


async def accept(ctx, axi, channel: str, count: int, random: Random | None = None, share: float = 1) -> list[dict]:
    """Take ``count`` items from a channel that keeps AXI's rules, ready in a ``share`` of the cycles."""
    valid, ready = getattr(axi, f"{channel}_valid"), getattr(axi, f"{channel}_ready")
    names, rule, taken = PAYLOADS[channel], StallRule(channel), []
    while len(taken) < count:
        is_ready = random is None or random.random() < share
        ctx.set(ready, is_ready)
        _, _, is_valid, *values = await ctx.tick().sample(valid, *(getattr(axi, f"{channel}_{name}") for name in names))
        if rule.check(is_valid, is_ready, *values):
            taken.append(dict(zip(names, values, strict=True)))
    ctx.set(ready, 0)
    return taken


@dataclass
class Memory:
    """A slave that answers in order, with random stalls; ``granted`` lists the masters of its bursts."""

    axi: object
    random: Random
    share: float = 1
    contents: bytearray = field(default_factory=lambda: bytearray(Random(0).randbytes(8 * REGION)))
    granted: dict[str, list[int]] = field(default_factory=lambda: {"ar": [], "aw": []})
    beats: deque = field(default_factory=deque)
    writes: deque = field(default_factory=deque)
    responses: deque = field(default_factory=deque)

    async def _addresses(self, ctx, channel: str, queue: deque):
        while True:
            (burst,) = await accept(ctx, self.axi, channel, 1, self.random, self.share)
            address, length = burst["address"], burst["length"]
            assert address % BEAT == 0 and length < 16
            self.granted[channel].append(address // REGION)
            queue.extend((address + BEAT * index, index == length) for index in range(length + 1))

    async def _read(self, ctx):
        while True:
            while not self.beats:
                await ctx.tick()
            address, last = self.beats.popleft()
            data = int.from_bytes(self.contents[address:address + BEAT], "little")
            beat = {"data": data, "response": address // BEAT % 4, "last": last}
            await offer(ctx, self.axi, "r", [beat], self.random, self.share)

    async def _write(self, ctx):
        while True:
            (beat,) = await accept(ctx, self.axi, "w", 1, self.random, self.share)
            while not self.writes:
                await ctx.tick()
            address, last = self.writes.popleft()
            assert beat["last"] == last, "beats of another burst"
            for lane, byte in enumerate(beat["data"].to_bytes(BEAT, "little")):
                if beat["strobe"] >> lane & 1:
                    self.contents[address + lane] = byte
            if last:
                self.responses.append(address // BEAT % 4)

    async def _respond(self, ctx):
        while True:
            while not self.responses:
                await ctx.tick()
            await offer(ctx, self.axi, "b", [{"response": self.responses.popleft()}], self.random, self.share)

    @property
    def benches(self) -> list:
        """What serves the slave, to run in the background."""
        async def read_addresses(ctx):
            await self._addresses(ctx, "ar", self.beats)

        async def write_addresses(ctx):
            await self._addresses(ctx, "aw", self.writes)

        return [read_addresses, write_addresses, self._read, self._write, self._respond]


def any_bursts(random: Random, count: int, base: int) -> list[dict]:
    """Bursts within half a region."""
    bursts = []
    for _ in range(count):
        length = random.randrange(16)
        bursts.append({"address": base + random.randrange(0, REGION // 2 - 16 * BEAT, BEAT), "length": length})
    return bursts


def beats_of(bursts: list[dict]) -> list[tuple[int, bool]]:
    """Address and last of each beat."""
    return [(burst["address"] + BEAT * index, index == burst["length"]) for burst in bursts
            for index in range(burst["length"] + 1)]


def data_of(random: Random, bursts: list[dict]) -> list[dict]:
    """Data to write for bursts."""
    return [{"data": random.getrandbits(64), "strobe": random.getrandbits(8), "last": last}
            for _, last in beats_of(bursts)]


@pytest.mark.parametrize("masters", [1, 2, 3])
@pytest.mark.parametrize(("memory_share", "master_share"), [(1, 1), (0.5, 0.7), (1, 0.3), (0.3, 1)])
def test_each_master_reads_and_writes_its_own(masters, memory_share, master_share):
    arbiter, random = AxiArbiter(masters=masters, data_bits=64), Random(f"{masters} {memory_share} {master_share}")
    memory = Memory(arbiter.slave, random, memory_share)
    expected = bytearray(memory.contents)
    benches = []
    for index in range(masters):
        axi, base = arbiter.masters[index], index * REGION
        reads, writes = any_bursts(random, 12, base), any_bursts(random, 12, base + REGION // 2)
        data = data_of(random, writes)
        beats = [{"data": int.from_bytes(expected[address:address + BEAT], "little"),
                  "response": address // BEAT % 4, "last": last} for address, last in beats_of(reads)]
        responses = [{"response": address // BEAT % 4} for address, last in beats_of(writes) if last]
        for (address, _), beat in zip(beats_of(writes), data, strict=True):
            for lane, byte in enumerate(beat["data"].to_bytes(BEAT, "little")):
                if beat["strobe"] >> lane & 1:
                    expected[address + lane] = byte

        async def answers(ctx, axi, channel, wanted):
            assert await accept(ctx, axi, channel, len(wanted), random, master_share) == wanted

        for channel, items in (("ar", reads), ("aw", writes), ("w", data)):
            benches.append(partial(offer, axi=axi, channel=channel, items=items, random=random, share=master_share))
        benches += [partial(answers, axi=axi, channel="r", wanted=beats),
                    partial(answers, axi=axi, channel="b", wanted=responses)]
    simulate(arbiter, *benches, background=memory.benches)
    assert memory.contents == expected


def test_masters_take_turns():
    """Each that asks all the time is granted once in three bursts; one that asks now and then is next but one."""
    arbiter = AxiArbiter(masters=3, data_bits=64)
    memory = Memory(arbiter.slave, Random(0))
    bursts = [[{"address": index * REGION, "length": 3}] * 20 for index in range(3)]
    beat = {"data": 0, "strobe": 0, "last": 0}
    benches = []
    for index, axi in enumerate(arbiter.masters):
        benches += [
            partial(offer, axi=axi, channel="ar", items=bursts[index]),
            partial(offer, axi=axi, channel="aw", items=bursts[index]),
            partial(offer, axi=axi, channel="w", items=[beat, beat, beat, beat | {"last": 1}] * 20),
            partial(accept, axi=axi, channel="r", count=80), partial(accept, axi=axi, channel="b", count=20),
        ]
    simulate(arbiter, *benches, background=memory.benches)
    for granted in memory.granted.values():
        assert granted == [0, 1, 2] * 20 or granted == granted[:3] * 20
        assert sorted(granted[:3]) == [0, 1, 2]


def test_a_beat_every_second_cycle():
    arbiter = AxiArbiter(masters=2, data_bits=64)
    memory = Memory(arbiter.slave, Random(0))
    arrivals = []

    async def reader(ctx):
        axi = arbiter.masters[0]
        ctx.set(axi.r_ready, 1)
        now = 0
        while len(arrivals) < 64:
            _, _, valid = await ctx.tick().sample(axi.r_valid)
            now += 1
            if valid:
                arrivals.append(now)

    simulate(arbiter, reader, partial(offer, axi=arbiter.masters[0], channel="ar",
                                      items=[{"address": 128 * n, "length": 15} for n in range(4)]),
             background=memory.benches)
    assert arrivals[-1] - arrivals[0] == 2 * 63


def test_a_write_without_data_is_passed_over_and_a_stopped_one_keeps_no_read_waiting():
    arbiter = AxiArbiter(masters=2, data_bits=64)
    memory = Memory(arbiter.slave, Random(0))
    slow, other = arbiter.masters
    expected = bytearray(memory.contents)
    expected[:16] = bytes([1] * 8 + [2] * 8)
    expected[REGION:REGION + 8] = bytes([3] * 8)

    def beat(byte: int, last: int) -> dict:
        return {"data": int.from_bytes([byte] * 8, "little"), "strobe": 0xFF, "last": last}

    async def stopped(ctx):
        await offer(ctx, slow, "aw", [{"address": 0, "length": 1}])
        await ctx.tick().repeat(100)
        # The other's write has gone first. Now the first beat, and then none for a while.
        assert memory.granted["aw"] == [1]
        await offer(ctx, slow, "w", [beat(1, 0)])
        await offer(ctx, slow, "ar", [{"address": 64, "length": 15}])
        await accept(ctx, slow, "r", 16)
        await ctx.tick().repeat(100)
        assert memory.granted["aw"] == [1, 0] and sorted(memory.granted["ar"]) == [0, 1]
        await offer(ctx, slow, "w", [beat(2, 1)])
        await accept(ctx, slow, "b", 1)

    async def going_on(ctx):
        for written in (4, 3):
            await offer(ctx, other, "aw", [{"address": REGION, "length": 0}])
            await offer(ctx, other, "w", [beat(written, 1)])
            await accept(ctx, other, "b", 1)
            while memory.granted["aw"] == [1]:
                await ctx.tick()
        assert memory.granted["aw"] == [1, 0, 1]

    async def reading(ctx):
        while memory.granted["aw"] != [1, 0]:
            await ctx.tick()
        await offer(ctx, other, "ar", [{"address": REGION + 64, "length": 15}])
        await accept(ctx, other, "r", 16)

    simulate(arbiter, stopped, going_on, reading, background=memory.benches, cycles=2000)
    assert memory.contents == expected


@pytest.mark.parametrize("masters", [0, 9])
def test_a_number_of_masters_out_of_range_is_refused(masters):
    assert refusal(AxiArbiter, masters=masters, data_bits=64) == f"masters: expected 1..8, got {masters}"
