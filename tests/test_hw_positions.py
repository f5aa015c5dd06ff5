"""Coordinates of positions against division in Python."""

from random import Random

import pytest

from hw.positions import PositionGenerator

from .hw_helpers import descriptor, receive, simulate

LANES = (1, 4, 7, 16)


def random_fields(random: Random, lanes: int, pitch: int | None = None) -> dict[str, int]:
    """A descriptor's fields for tiles of at most ``lanes`` positions."""
    size = random.choice((lanes, random.randint(1, lanes)))
    pitch = pitch or random.choice((1, 2, size, size + 1, random.randint(1, 40), 65535))
    return {"pitch": pitch, "tile_positions": size, "tile_rows": size // pitch, "tile_cols": size % pitch,
            "stride_y": random.randint(1, 4), "in_rows": random.choice((1, random.randint(1, 60), 65535)),
            "tiles": random.randint(1, 9), "rows_ahead": random.randint(1, 20)}


async def start(ctx, component, fields: dict[str, int]) -> None:
    ctx.set(component.descriptor, descriptor(**fields))
    ctx.set(component.start, 1)
    await ctx.tick()
    ctx.set(component.start, 0)


def check_tile(tile, number: int, fields: dict[str, int]) -> None:
    """Tile ``number`` since the start: the tiles come over and over."""
    size = fields["tile_positions"]
    places = [divmod(number % fields["tiles"] * size + n, fields["pitch"]) for n in range(size)]
    assert [(tile.y[n], tile.x[n]) for n in range(size)] == places
    needed = places[-1][0] * fields["stride_y"] + fields["rows_ahead"]
    assert tile.rows_needed == min(needed, fields["in_rows"])


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("share", [1, 0.3])
def test_coordinates(lanes, share):
    """Of bands one after the other, each walked more than once, as its groups do, and left at any tile."""
    component, random = PositionGenerator(lanes=lanes), Random(f"{lanes} {share}")

    async def bench(ctx):
        for pitch in (1, None, 3, lanes, *[None] * 12):
            fields = random_fields(random, lanes, pitch)
            await start(ctx, component, fields)
            count = random.randint(1, 2 * fields["tiles"] + 1)
            for number, tile in enumerate(await receive(ctx, component.o_tile, count, random, share)):
                check_tile(tile, number, fields)

    simulate(component, bench)


def test_rows_needed_at_the_limits():
    """No rows needed, and more than there are, of which all are."""
    component, fields = PositionGenerator(lanes=4), {
        "pitch": 4, "tile_positions": 4, "tile_rows": 1, "tile_cols": 0, "stride_y": 1, "in_rows": 9, "tiles": 12}

    async def bench(ctx):
        for ahead in (1, 0, 20, 131071):
            await start(ctx, component, fields | {"rows_ahead": ahead})
            for y, tile in enumerate(await receive(ctx, component.o_tile, 12)):
                assert tile.rows_needed == min(9, y + ahead)

    simulate(component, bench)


@pytest.mark.parametrize("lanes", LANES)
def test_a_tile_every_second_cycle(lanes):
    """The first ``lanes + 2`` cycles after the start, whatever the size of the tiles."""
    component = PositionGenerator(lanes=lanes)

    async def bench(ctx):
        for size, pitch in ((lanes, 5), (1, 1)):
            fields = random_fields(Random(lanes), lanes, pitch) | {
                "tile_positions": size, "tile_rows": size // pitch, "tile_cols": size % pitch}
            await start(ctx, component, fields)
            ctx.set(component.o_tile.ready, 1)
            times = []
            for now in range(1, lanes + 30):
                if ctx.get(component.o_tile.valid):
                    times.append(now)
                await ctx.tick()
            ctx.set(component.o_tile.ready, 0)
            assert times == list(range(lanes + 2, lanes + 30, 2))

    simulate(component, bench)
