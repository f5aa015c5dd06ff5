"""The vector unit's sums against sums in Python."""

from random import Random

import pytest

from hw.config import VECTOR_TAPS
from hw.vector_unit import VectorUnit

from .hw_helpers import StallRule, simulate

FEED_LATENCY = 4
"""Cycles from the strobe of a tile's last step to that step, as in the engine."""


def wrapped(value: int) -> int:
    return value & 0xFFFFFFFF


def random_step(random: Random, lanes: int) -> tuple[list[list[int]], list[int]]:
    """Activations of 9 bits [tap][lane], weights of 8 bits [tap]: often extreme ones."""
    def draw(low, high):
        return random.choice((low, high, random.randint(low, high)))
    return ([[draw(-255, 255) for _ in range(lanes)] for _ in range(VECTOR_TAPS)],
            [draw(-128, 127) for _ in range(VECTOR_TAPS)])


def random_tiles(random: Random, lanes: int, *, add: bool, count: int) -> list:
    """Tiles as (steps, sums): of an addition one step for each operand, in which one tap alone has a weight of 1."""
    tiles = []
    for _ in range(count):
        if add:
            operands = [[random.randint(-255, 255) for _ in range(lanes)] for _ in range(2)]
            zeros = [[0] * lanes] * (VECTOR_TAPS - 1)
            tiles.append(([([operand, *zeros], [1] * VECTOR_TAPS) for operand in operands],
                          [(b & 0xFFFF) << 16 | a & 0xFFFF for a, b in zip(*operands, strict=True)]))
        else:
            steps = [random_step(random, lanes) for _ in range(random.choice((1, 1, 2, random.randint(1, 30))))]
            tiles.append((steps, [wrapped(sum(acts[tap][lane] * weights[tap] for acts, weights in steps
                                              for tap in range(VECTOR_TAPS))) for lane in range(lanes)]))
    return tiles


def packed(values: list[int], bits: int) -> int:
    return sum((value & (1 << bits) - 1) << n * bits for n, value in enumerate(values))


async def issue(ctx, unit, steps, add: bool) -> None:
    """One cycle's inputs: a step (first, last, operand, (acts, weights)) or None."""
    ctx.set(unit.issue, steps is not None)
    first, last, operand, (acts, weights) = steps or (1, 1, 1, ([[7] * unit.lanes] * VECTOR_TAPS, [9] * VECTOR_TAPS))
    ctx.set(unit.first, first)
    ctx.set(unit.last, last)
    ctx.set(unit.operand, operand if steps is None or add else 0)
    ctx.set(unit.acts, packed([act for tap in acts for act in tap], 9))
    ctx.set(unit.weights, packed(weights, 8))


@pytest.mark.parametrize("lanes", [1, 3, 14])
@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("share", [1, 0.6, 0.08])
def test_tiles(lanes, add, share):
    """Steps come whenever a tile may end; its sums are taken late. None is lost, none is overwritten."""
    unit, random = VectorUnit(lanes=lanes), Random(f"{lanes} {add} {share}")
    tiles = random_tiles(random, lanes, add=add, count=60)
    expected = [packed(sums, 32) for _, sums in tiles]
    found, waits = [], 0

    async def scheduler(ctx):
        nonlocal waits
        ctx.set(unit.add, add)
        pipeline, free = [None] * FEED_LATENCY, True
        steps = [(n == 0, n == len(tile) - 1, n, step) for tile, _ in tiles for n, step in enumerate(tile)]
        while steps or any(pipeline):
            step = None
            if steps and random.random() < 0.9:
                blocked = steps[0][1] and not free
                waits += blocked
                step = None if blocked else steps.pop(0)
            ctx.set(unit.tile_issued, step is not None and step[1])
            pipeline.append(step)
            await issue(ctx, unit, pipeline.pop(0), add)
            _, _, free = await ctx.tick().sample(unit.next_free)
        await issue(ctx, unit, None, add)

    async def drain(ctx):
        rule = StallRule("o_sums")
        while len(found) < len(tiles):
            ctx.set(unit.o_sums.ready, random.random() < share)
            _, _, valid, ready, sums = await ctx.tick().sample(
                unit.o_sums.valid, unit.o_sums.ready, unit.o_sums.payload)
            if rule.check(valid, ready, sums):
                found.append(sums)

    simulate(unit, scheduler, drain)
    assert found == expected
    assert waits or share > 0.1


def test_latency_and_credits():
    """Sums come ``LATENCY`` cycles after the last step; as many tiles as there is room for stop the next."""
    unit, random = VectorUnit(lanes=2), Random(0)
    tiles = random_tiles(random, 2, add=False, count=VectorUnit.TILES)

    async def bench(ctx):
        for number, (steps, sums) in enumerate(tiles):
            assert ctx.get(unit.next_free)
            for n, step in enumerate(steps):
                await issue(ctx, unit, (n == 0, n == len(steps) - 1, 0, step), False)
                ctx.set(unit.tile_issued, n == len(steps) - 1)
                await ctx.tick()
            ctx.set(unit.tile_issued, 0)
            await issue(ctx, unit, None, False)
            if number == 0:
                for _ in range(VectorUnit.LATENCY - 1):
                    assert not ctx.get(unit.o_sums.valid)
                    await ctx.tick()
                assert ctx.get(unit.o_sums.valid) and ctx.get(unit.o_sums.payload) == packed(sums, 32)
        assert not ctx.get(unit.next_free)
        await ctx.tick().repeat(10)
        assert not ctx.get(unit.next_free)
        ctx.set(unit.o_sums.ready, 1)
        await ctx.tick()
        ctx.set(unit.o_sums.ready, 0)
        assert ctx.get(unit.next_free)

    simulate(unit, bench)
