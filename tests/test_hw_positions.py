"""Coordinates of positions against division in Python."""

from random import Random

import pytest

from hw.positions import PositionGenerator

from .hw_helpers import StallRule, descriptor, receive, simulate

LANES = (1, 4, 7, 16, 24)


def walk_fields(size: int, columns: int, step: int) -> dict[str, int]:
    """The fields of tiles of ``size`` positions over rows of ``columns``, a position every ``step`` bytes."""
    rows, cols = divmod(size, columns)
    return {"pitch": columns * step, "lane_step": step, "tile_positions": size, "tile_bytes": size * step,
            "tile_rows": rows, "tile_cols": cols * step}


def row_fields(random: Random, size: int, step: int) -> dict[str, int]:
    """The fields of tiles that are a row of positions, their input at the start of every first to fourth row."""
    pitch, rows = (size - 1) * step + random.randint(1, 20), random.randint(1, 4)
    return {"pitch": pitch, "lane_step": step, "tile_positions": size, "tile_bytes": rows * pitch, "tile_rows": rows,
            "tile_cols": 0}


def random_fields(random: Random, lanes: int, step: int, columns: int | None = None) -> dict[str, int]:
    """A descriptor's fields for tiles of at most ``lanes`` positions."""
    size = random.choice((lanes, random.randint(1, lanes)))
    columns = columns or random.choice((0, 1, 2, size, size + 1, random.randint(1, 40), 65535 // step))
    walk = walk_fields(size, columns, step) if columns else row_fields(random, size, step)
    return walk | {
        "stride_y": random.randint(1, 4), "tiles": random.randint(1, 9), "rows_ahead": random.randint(-9, 20)}


async def start(ctx, component, fields: dict[str, int]) -> None:
    ctx.set(component.descriptor, descriptor(**fields))
    ctx.set(component.start, 1)
    await ctx.tick()
    ctx.set(component.start, 0)


def tile_places(number: int, fields: dict[str, int]) -> list[tuple[int, int]]:
    """Row and column of each position of tile ``number`` since the start: the tiles come over and over."""
    first, size = number % fields["tiles"] * fields["tile_bytes"], fields["tile_positions"]
    return [divmod(first + n * fields["lane_step"], fields["pitch"]) for n in range(size)]


async def walk_tiles(ctx, component, fields: dict[str, int], count: int, random: Random, share: float) -> None:
    """Take so many tiles: each needs the right rows, and has its coordinates from the second cycle behind on."""
    rule, number, taken = StallRule("o_tile"), 0, [None, None]
    while number < count or taken[0] != number - 1:
        ctx.set(component.o_tile.ready, number < count and random.random() < share)
        if taken[0] is not None:
            places = tile_places(taken[0], fields)
            x, y = ctx.get(component.x), ctx.get(component.y)
            assert [(y >> 16 * n & 0xFFFF, x >> 16 * n & 0xFFFF) for n in range(len(places))] == places
        _, _, valid, ready, rows = await ctx.tick().sample(
            component.o_tile.valid, component.o_tile.ready, component.o_tile.payload)
        taken = [taken[1], taken[1]]
        if rule.check(valid, ready, rows):
            assert rows == tile_places(number, fields)[-1][0] * fields["stride_y"] + fields["rows_ahead"]
            taken[1] = number
            number += 1
    ctx.set(component.o_tile.ready, 0)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("share", [1, 0.3])
def test_coordinates(lanes, share):
    """Of bands one after the other, each walked more than once, as its groups do, and left at any tile."""
    component, random = PositionGenerator(lanes=lanes), Random(f"{lanes} {share}")
    cases = [(columns, step) for columns in (1, 3, lanes, None, None, None) for step in (1, 2, 3, 4)]
    random.shuffle(cases)

    async def bench(ctx):
        for columns, step in cases:
            fields = random_fields(random, lanes, step, columns)
            await start(ctx, component, fields)
            await walk_tiles(ctx, component, fields, random.randint(1, 2 * fields["tiles"] + 1), random, share)

    simulate(component, bench)


def test_rows_needed_at_the_limits():
    """Fewer than none, where all rows lie in the padding, and more than there can be."""
    component = PositionGenerator(lanes=4)
    fields = walk_fields(4, 4, 1) | {"stride_y": 1, "tiles": 12}

    async def bench(ctx):
        for ahead in (1, 0, -5, 20, 131071):
            await start(ctx, component, fields | {"rows_ahead": ahead})
            assert await receive(ctx, component.o_tile, 12) == [y + ahead for y in range(12)]

    simulate(component, bench)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("step", [1, 4])
def test_a_tile_every_second_cycle(lanes, step):
    """The first after a cycle for every two of its positions, and two more."""
    component = PositionGenerator(lanes=lanes)

    async def bench(ctx):
        for size in range(1, lanes + 1):
            fields = random_fields(Random(size), lanes, step) | walk_fields(size, 5, step)
            await start(ctx, component, fields)
            ctx.set(component.o_tile.ready, 1)
            times = []
            for now in range(1, lanes + 30):
                if ctx.get(component.o_tile.valid):
                    times.append(now)
                await ctx.tick()
            ctx.set(component.o_tile.ready, 0)
            assert times == list(range((size + 1) // 2 + 2, lanes + 30, 2))

    simulate(component, bench)
