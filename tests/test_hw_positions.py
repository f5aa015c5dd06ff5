"""Coordinates of positions against division in Python."""

from random import Random

import pytest

from hw.positions import PositionGenerator

from .hw_helpers import descriptor, receive, simulate

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
        "stride_y": random.randint(1, 4), "in_rows": random.choice((1, random.randint(1, 60), 65535)),
        "tiles": random.randint(1, 9), "rows_ahead": random.randint(1, 20)}


async def start(ctx, component, fields: dict[str, int]) -> None:
    ctx.set(component.descriptor, descriptor(**fields))
    ctx.set(component.start, 1)
    await ctx.tick()
    ctx.set(component.start, 0)


def check_tile(tile, number: int, fields: dict[str, int]) -> None:
    """Tile ``number`` since the start: the tiles come over and over."""
    first, size = number % fields["tiles"] * fields["tile_bytes"], fields["tile_positions"]
    places = [divmod(first + n * fields["lane_step"], fields["pitch"]) for n in range(size)]
    assert [(tile.y[n], tile.x[n]) for n in range(size)] == places
    needed = places[-1][0] * fields["stride_y"] + fields["rows_ahead"]
    assert tile.rows_needed == min(needed, fields["in_rows"])


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
            count = random.randint(1, 2 * fields["tiles"] + 1)
            for number, tile in enumerate(await receive(ctx, component.o_tile, count, random, share)):
                check_tile(tile, number, fields)

    simulate(component, bench)


def test_rows_needed_at_the_limits():
    """No rows needed, and more than there are, of which all are."""
    component = PositionGenerator(lanes=4)
    fields = walk_fields(4, 4, 1) | {"stride_y": 1, "in_rows": 9, "tiles": 12}

    async def bench(ctx):
        for ahead in (1, 0, 20, 131071):
            await start(ctx, component, fields | {"rows_ahead": ahead})
            for y, tile in enumerate(await receive(ctx, component.o_tile, 12)):
                assert tile.rows_needed == min(9, y + ahead)

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
