"""The scaled operands of an addition against TFLite's kernel in Python's integers."""

from random import Random

import pytest

from hw.addition import Addition

from .hw_helpers import simulate
from .tflite_arithmetic import HIGHEST, scaled_operand


def run(lanes: int, settings: list[tuple[int, int, int, int]], operands: list[list[tuple[int, int]]]) -> None:
    """Every setting (multipliers, then shifts) with every cycle's operands, a result a lane each cycle."""
    component = Addition(lanes=lanes)

    async def bench(ctx):
        for multiplier_1, multiplier_2, shift_1, shift_2 in settings:
            ctx.set(component.multiplier_1, multiplier_1)
            ctx.set(component.multiplier_2, multiplier_2)
            ctx.set(component.shift_1, shift_1)
            ctx.set(component.shift_2, shift_2)
            await ctx.tick()
            for now in range(len(operands) + Addition.LATENCY):
                if now >= Addition.LATENCY:
                    found = ctx.get(component.sums)
                    for lane, (a, b) in enumerate(operands[now - Addition.LATENCY]):
                        expected = scaled_operand(a, multiplier_1, shift_1) + scaled_operand(b, multiplier_2, shift_2)
                        assert found >> 32 * lane & 0xFFFFFFFF == expected & 0xFFFFFFFF, (a, b)
                word = 0
                for lane, (a, b) in enumerate(operands[min(now, len(operands) - 1)]):
                    word |= (b & 0xFFFF) << 32 * lane + 16 | (a & 0xFFFF) << 32 * lane
                ctx.set(component.operands, word)
                await ctx.tick()

    simulate(component, bench, cycles=200_000)


@pytest.mark.parametrize("shift", range(0, 32, 3))
def test_every_operand(shift):
    """All values that int8 less a zero point can have, at shifts up to the largest; ties among them."""
    random = Random(shift)
    multipliers = (0, 1, 2**30, 2**30 + 1, HIGHEST, 2**10, 3 << 29, random.randrange(2**31))
    values = range(-255, 256)
    run(1, [(m, n, shift, 31 - shift) for m, n in zip(multipliers, reversed(multipliers), strict=True)],
        [[(a, -a)] for a in values])


def test_lanes():
    """Lanes do not meet; the operands' halves neither."""
    random = Random(0)
    settings = [(random.randrange(2**31), random.randrange(2**31), random.randrange(32), random.randrange(32))
                for _ in range(40)]
    run(5, settings, [[(random.randint(-255, 255), random.randint(-255, 255)) for _ in range(5)] for _ in range(30)])
