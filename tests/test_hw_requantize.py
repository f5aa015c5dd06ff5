"""The requantizer against the golden numerics, and the store of its constants."""

import struct
from random import Random

import pytest
import torch

from golden.numerics import INT32_MAX, INT32_MIN, SHIFT_MAX, SHIFT_MIN, requantize, wrap_int32
from hw.requantize import ParameterStore, Requantizer

from .hw_helpers import simulate

EXTREMES = (INT32_MIN, INT32_MIN + 1, -(2**30) - 1, -(2**30), -3, -2, -1, 0, 1, 2, 3, 2**30 - 1, 2**30, INT32_MAX - 1,
            INT32_MAX)


def run_requantizer(vectors: list[tuple], *, width: int, zero_point: int, minimum: int,
                    maximum: int) -> list[list[int]]:
    """Results of (sums, bias, multiplier, shift) vectors, one vector a cycle; all with as many sums."""
    lanes = len(vectors[0][0])
    component, results = Requantizer(lanes=lanes, width=width), []

    async def bench(ctx):
        ctx.set(component.zero_point, zero_point)
        ctx.set(component.minimum, minimum)
        ctx.set(component.maximum, maximum)
        for now in range(len(vectors) + Requantizer.LATENCY):
            if now < len(vectors):
                sums, bias, multiplier, shift = vectors[now]
                ctx.set(component.sums, sum((value & 0xFFFFFFFF) << 32 * n for n, value in enumerate(sums)))
                ctx.set(component.parameters, {"bias": bias, "multiplier": multiplier, "shift": shift})
            if now >= Requantizer.LATENCY:
                packed = ctx.get(component.results)
                results.append([packed >> width * n & (1 << width) - 1 for n in range(lanes)])
            await ctx.tick()

    simulate(component, bench)
    return results


def expected(vectors: list[tuple], *, width: int, zero_point: int, minimum: int, maximum: int) -> list[list[int]]:
    sums = torch.tensor([sums for sums, *_ in vectors])
    bias, multiplier, shift = (torch.tensor([vector[n] for vector in vectors])[:, None] for n in (1, 2, 3))
    result = requantize(wrap_int32(sums + bias), multiplier, shift) + zero_point
    return (result.clamp(minimum, maximum) & (1 << width) - 1).tolist()


@pytest.mark.parametrize("shift", range(SHIFT_MIN, SHIFT_MAX + 1))
def test_every_shift(shift):
    """Extreme and random sums and multipliers, ties of the rounding among them."""
    random = Random(shift)
    vectors = []
    for multiplier in (*EXTREMES, 2**30 + 1, *(random.randint(0, INT32_MAX) for _ in range(6))):
        sums = [*EXTREMES, *(random.randint(INT32_MIN, INT32_MAX) for _ in range(5))]
        # After the multiplication by a half, exactly between two results.
        sums += [(2 * random.randint(-200, 200) + 1) << max(0, -shift) for _ in range(4)]
        vectors += [([*sums[n:n + 4]], random.choice((0, 0, *EXTREMES)), multiplier, shift) for n in range(0, 24, 4)]
    for settings in ({"zero_point": 0, "minimum": -128, "maximum": 127},
                     {"zero_point": -128, "minimum": -100, "maximum": 90}):
        assert run_requantizer(vectors, width=8, **settings) == expected(vectors, width=8, **settings)


def test_constants_change_from_cycle_to_cycle():
    random = Random(1)
    vectors = [([random.randint(INT32_MIN, INT32_MAX) for _ in range(3)], random.choice(EXTREMES),
                random.randint(0, INT32_MAX), random.randint(SHIFT_MIN, SHIFT_MAX)) for _ in range(2000)]
    settings = {"zero_point": -7, "minimum": -128, "maximum": 127}
    assert run_requantizer(vectors, width=8, **settings) == expected(vectors, width=8, **settings)


def test_scores_are_unsigned():
    random = Random(0)
    vectors = [([random.randint(-70_000, 70_000)], 0, random.randint(2**30, INT32_MAX), -8) for _ in range(300)]
    settings = {"zero_point": 0, "minimum": 0, "maximum": 255}
    results = run_requantizer(vectors, width=8, **settings)
    assert results == expected(vectors, width=8, **settings)
    assert {0, 255} < {score for score, in results}


@pytest.mark.parametrize("axi_bytes", [8, 16])
@pytest.mark.parametrize("columns", [1, 4, 6, 16])
def test_parameter_store(axi_bytes, columns):
    """A group is loaded while the one before is in use; its constants come one cycle after their column."""
    component, random = ParameterStore(columns=columns, axi_bytes=axi_bytes), Random(columns)
    groups = [[(random.randint(INT32_MIN, INT32_MAX), random.randint(INT32_MIN, INT32_MAX), random.randint(-128, 127))
               for _ in range(random.choice((columns, random.randint(1, columns))))] for _ in range(6)]
    loaded = used = 0

    async def loader(ctx):
        nonlocal loaded
        for group in groups:
            while loaded - used > 1:
                await ctx.tick()
            record = b"".join(struct.pack("<iib7x", *constants) for constants in group)
            beats = [record[n:n + axi_bytes] for n in range(0, len(record), axi_bytes)]
            for n, beat in enumerate(beats):
                while random.random() < 0.3:
                    await ctx.tick()
                ctx.set(component.i_beat.valid, 1)
                ctx.set(component.i_beat.payload, {
                    "data": int.from_bytes(beat, "little"), "first": 0, "count": axi_bytes, "start": n == 0,
                    "kind": 2, "destination": 0,
                    "strip_end": n == len(beats) - 1})
                assert ctx.get(component.i_beat.ready)
                await ctx.tick()
                ctx.set(component.i_beat.valid, 0)
                assert ctx.get(component.loaded) == (n == len(beats) - 1)
            loaded += 1

    async def user(ctx):
        nonlocal used
        asked = None  # in the cycle before
        for group in groups:
            while loaded == used:
                asked = None
                await ctx.tick()
            for n in range(20):
                column = random.randrange(len(group))
                ctx.set(component.column, column)
                # The last in the cycle that switches.
                ctx.set(component.switch, n == 19)
                await ctx.tick()
                found = ctx.get(component.parameters)
                assert asked is None or (found.bias, found.multiplier, found.shift) == asked
                asked = group[column]
            ctx.set(component.switch, 0)
            used += 1

    simulate(component, loader, user)
