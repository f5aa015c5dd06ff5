"""The systolic array against numpy."""

import numpy as np
import pytest

from hw.array import SystolicArray

from .hw_helpers import simulate


def packed(values, bits: int) -> int:
    """Signed values side by side, the first in the low bits."""
    return sum((int(value) & (1 << bits) - 1) << bits * n for n, value in enumerate(values))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 4), (5, 2), (4, 4)])
@pytest.mark.parametrize("bubbles", [0, 0.3])
def test_tiles_back_to_back(rows, columns, bubbles):
    """Each PE's sum stands from ``LATENCY + r + c`` cycles after the last tap until the next tile's replaces it."""
    component, random = SystolicArray(rows=rows, columns=columns), np.random.default_rng(rows * 64 + columns)
    acts, weights, control = [], [], []
    tiles = []  # (cycle of the last tap, sums)
    for length in (1, 1, 2, 7, 1, 20, 3, 1):
        taps = random.integers(-255, 256, (length, rows)), random.integers(-128, 128, (length, columns))
        if length == 20:
            taps = np.full((length, rows), -255), np.full((length, columns), -128)
        for n in range(length):
            while random.random() < bubbles:  # idle: zero activations, any weights
                acts.append(np.zeros(rows, int))
                weights.append(random.integers(-128, 128, columns))
                control.append((0, 0))
            acts.append(taps[0][n])
            weights.append(taps[1][n])
            control.append((n == 0, n == length - 1))
        tiles.append((len(acts) - 1, taps[0].T @ taps[1]))
    cycles = len(acts) + SystolicArray.LATENCY + rows + columns

    async def bench(ctx):
        for now in range(cycles):
            running = now < len(acts)
            ctx.set(component.acts, packed(acts[now], 9) if running else 0)
            ctx.set(component.weights, packed(weights[now], 8) if running else 0)
            ctx.set(component.first, int(running and control[now][0]))
            ctx.set(component.last, int(running and control[now][1]))
            sums = ctx.get(component.sums)
            for r in range(rows):
                for c in range(columns):
                    done = [total[r, c] for end, total in tiles if end + SystolicArray.LATENCY + r + c <= now]
                    if done:
                        assert sums >> 32 * (c * rows + r) & 0xFFFFFFFF == int(done[-1]) & 0xFFFFFFFF, (now, r, c)
            await ctx.tick()

    simulate(component, bench)


def test_sums_wrap_at_32_bits():
    component, taps = SystolicArray(rows=1, columns=1), 66_000

    async def bench(ctx):
        ctx.set(component.acts, packed([-255], 9))
        ctx.set(component.weights, packed([-128], 8))
        ctx.set(component.first, 1)
        await ctx.tick()
        ctx.set(component.first, 0)
        await ctx.tick().repeat(taps - 2)
        ctx.set(component.last, 1)
        await ctx.tick()
        ctx.set(component.last, 0)
        await ctx.tick().repeat(SystolicArray.LATENCY)
        assert 255 * 128 * taps > 2**31
        assert ctx.get(component.sums) == 255 * 128 * taps % 2**32

    simulate(component, bench)
