"""The banked buffer against a list of bytes, cycle by cycle."""

from random import Random

import pytest

from hw.buffer import BankedBuffer

from .hw_helpers import bytes_of, refusal, simulate

SHAPES = [
    {"banks": 8, "ring_bytes": 64, "rings": 1, "write_bytes": 8, "read_bytes": 8},
    {"banks": 8, "ring_bytes": 40, "rings": 1, "write_bytes": 8, "read_bytes": 7},  # rows not a power of two
    {"banks": 8, "ring_bytes": 32, "rings": 3, "write_bytes": 2, "read_bytes": 8},
    {"banks": 16, "ring_bytes": 32, "rings": 4, "write_bytes": 16, "read_bytes": 5},
    {"banks": 4, "ring_bytes": 12, "rings": 2, "write_bytes": 3, "read_bytes": 1},
]


class Model:
    """The bytes, and what the documented latencies make of accesses: writes seen one cycle later, data four."""

    def __init__(self, shape: dict):
        self.ring_bytes = shape["ring_bytes"]
        self.memory = [[0] * self.ring_bytes for _ in range(shape["rings"])]
        self.read_bytes = shape["read_bytes"]
        self.pending: dict[int, list[int]] = {}
        self.data = [0] * self.read_bytes

    def cycle(self, now: int, write, read) -> None:
        """What is written (ring, offset, bytes) and read (ring, offset) in this cycle; None for nothing."""
        if read:  # before this cycle's write, which only later reads see
            ring, offset = read
            self.pending[now + BankedBuffer.READ_LATENCY] = [
                self.memory[ring][(offset + n) % self.ring_bytes] for n in range(self.read_bytes)]
        if write:
            ring, offset, values = write
            for n, value in enumerate(values):
                self.memory[ring][(offset + n) % self.ring_bytes] = value


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape.values())))
def test_random_accesses(shape):
    buffer, model, random = BankedBuffer(**shape), Model(shape), Random(str(shape))
    assert (buffer.WRITE_LATENCY, buffer.READ_LATENCY) == (1, 4)
    write_bytes, ring_bytes, rings = shape["write_bytes"], shape["ring_bytes"], shape["rings"]

    async def bench(ctx):
        held = None
        for now in range(1500):
            write = read = None
            place = random.randrange(rings), random.randrange(ring_bytes)
            ctx.set(buffer.write_enable, 0)
            if random.random() < 0.7:
                first = random.randrange(write_bytes)
                count = random.randint(0, write_bytes - first)
                value = random.getrandbits(8 * write_bytes)
                write = *place, bytes_of(value, write_bytes)[first:first + count]
                for name, setting in (("enable", 1), ("ring", place[0]), ("offset", place[1]), ("data", value),
                                      ("first", first), ("count", count)):
                    ctx.set(getattr(buffer, f"write_{name}"), setting)
            ctx.set(buffer.read_enable, 0)
            if random.random() < (0.9 if now % 200 < 150 else 0.2):
                # Often where the write of this cycle goes, and around the end of the ring.
                offset = random.choice((place[1], ring_bytes - 1, random.randrange(ring_bytes)))
                read = random.choice((place[0], random.randrange(rings))), offset
                for name, setting in (("enable", 1), ("ring", read[0]), ("offset", read[1])):
                    ctx.set(getattr(buffer, f"read_{name}"), setting)
            model.cycle(now, write, read)
            data = bytes_of(ctx.get(buffer.read_data), shape["read_bytes"])
            expected = model.pending.pop(now, held)
            assert expected is None or data == expected, f"cycle {now}"
            held = expected
            await ctx.tick()

    simulate(buffer, bench)


def test_a_read_sees_writes_of_the_cycle_before_and_not_of_its_own():
    buffer = BankedBuffer(banks=8, ring_bytes=64, write_bytes=8, read_bytes=8)

    async def bench(ctx):
        ctx.set(buffer.write_offset, 61)
        ctx.set(buffer.write_count, 8)
        ctx.set(buffer.read_offset, 61)
        ctx.set(buffer.read_enable, 1)
        seen = []
        for now in range(9):
            ctx.set(buffer.write_enable, now < 3)
            ctx.set(buffer.write_data, (now + 1) * 0x0101010101010101)
            seen.append(ctx.get(buffer.read_data) & 0xFF)
            await ctx.tick()
        assert seen == [0, 0, 0, 0, 0, 1, 2, 3, 3]

    simulate(buffer, bench)


@pytest.mark.parametrize(("change", "message"), [
    ({"banks": 6}, "banks: expected a power of two, got 6"),
    ({"ring_bytes": 60}, "ring_bytes: expected a multiple of 8, two at least, got 60"),
    ({"ring_bytes": 8}, "ring_bytes: expected a multiple of 8, two at least, got 8"),
    ({"read_bytes": 9}, "banks: expected at least 9, got 8"),
])
def test_sizes_that_cannot_be_built(change, message):
    assert refusal(BankedBuffer, **SHAPES[0] | change) == message
