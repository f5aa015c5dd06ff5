"""Steps and their addresses against loops in Python: every lane reads the right pixel, or none."""

from dataclasses import replace
from random import Random

import pytest

from hw.band import LayerShape
from hw.scheduler import WeightRing

from .hw_helpers import SMALL, simulate
from .scheduler_bench import World, convolution, vector

SHAPES = {
    "same": LayerShape(channels=3, height=5, width=6, out_channels=6, kernel=(3, 3), padding=(1, 1, 1, 1)),
    "valid": LayerShape(channels=2, height=6, width=5, out_channels=4, kernel=(2, 3)),
    "strided": LayerShape(channels=2, height=9, width=11, out_channels=5, kernel=(3, 5), stride=(2, 3),
                          padding=(1, 0, 2, 3)),
    "far strides": LayerShape(channels=1, height=13, width=9, out_channels=3, kernel=(5, 2), stride=(4, 1),
                              padding=(4, 4, 1, 0)),
    "kernel below stride": LayerShape(channels=3, height=10, width=9, out_channels=3, kernel=(1, 2), stride=(3, 4),
                                      padding=(0, 0, 1, 0)),
    "one pixel": LayerShape(channels=5, height=1, width=1, out_channels=9, kernel=(1, 1)),
    "even kernel": LayerShape(channels=2, height=4, width=4, out_channels=2, kernel=(4, 4), stride=(1, 2),
                              padding=(3, 1, 2, 2)),
    "many channels": LayerShape(channels=40, height=3, width=2, out_channels=5, kernel=(1, 2), padding=(0, 0, 1, 0)),
    "strips": LayerShape(channels=2, height=12, width=22, out_channels=2, kernel=(3, 3), padding=(1, 1, 1, 1)),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("rate", [0, 0.5, 1])
def test_convolutions(name, rate):
    """All winners at once, then in passes, then by lists, then of rows that are on chip already."""
    shape, random = SHAPES[name], Random(f"{name} {rate}")
    bands = [convolution(shape, SMALL, random, rate=rate),
             convolution(shape, SMALL, random, rate=rate, size=random.randint(1, 3)),
             convolution(shape, SMALL, random, rate=rate, lists="blocks", strips=1, strip_rows=60),
             convolution(shape, SMALL, random, rate=rate, lists="once", act_resident=1)]
    assert (bands[0].fields["strips"] > 1) == (name == "strips")
    random.shuffle(bands)
    World(SMALL, bands, random).run()


VECTOR_SHAPES = {
    "depthwise": dict(channels=5, out_channels=5, kernel=(3, 3), padding=(1, 1, 1, 1)),
    "two outputs": dict(channels=3, out_channels=6, kernel=(5, 4), padding=(2, 1, 0, 3)),
    "strided": dict(channels=4, out_channels=4, kernel=(3, 7), stride=(2, 2), padding=(1, 1, 3, 2)),
    "far strides": dict(channels=2, out_channels=4, kernel=(2, 11), stride=(3, 4), padding=(0, 1, 5, 5)),
    "kernel below stride": dict(channels=3, out_channels=3, kernel=(1, 2), stride=(4, 4)),
    "stride 3": dict(channels=3, out_channels=3, kernel=(2, 5), stride=(1, 3), padding=(1, 0, 4, 1)),
    "rows of results": dict(channels=3, out_channels=3, kernel=(3, 5), stride=(2, 4), padding=(1, 1, 0, 0)),
    "pool": dict(channels=4, out_channels=4, kernel=(3, 3), weighted=False),
    "whole map": dict(channels=6, out_channels=6, kernel=(7, 9), weighted=False),
    "addition": dict(channels=6, out_channels=6, kernel=(1, 1), operands=2, weighted=False),
}


@pytest.mark.parametrize("name", VECTOR_SHAPES)
@pytest.mark.parametrize("rate", [0, 0.5, 1])
def test_vector_layers(name, rate):
    random = Random(f"{name} {rate}")
    shape = LayerShape(height=7, width=9, vector=True, **VECTOR_SHAPES[name])
    changes = {} if shape.weighted else {"unit_weight": 0 if shape.operands == 2 else -5}
    bands = [vector(shape, SMALL, random, rate=rate, **changes) for _ in range(2)]
    if shape.operands == 1:
        bands.append(vector(replace(shape, resident=True), SMALL, random, rate=rate, act_resident=1, **changes))
        # Planes that lie as in memory: from a tile to the next are the rows that a stride passes over.
        by_rows = bands[-1].fields["tile_bytes"] != bands[-1].fields["tile_positions"] * shape.stride[1]
        assert by_rows == (name == "rows of results") and (not by_rows or bands[-1].fields["tile_rows"] == 2)
    bands.append(convolution(SHAPES["valid"], SMALL, random, rate=rate))
    World(SMALL, bands, random).run()


def test_kept_weights():
    """Bands that keep their weights free none; those that reuse them load none and read the same."""
    random, shape = Random(0), SHAPES["strided"]
    bands = [convolution(SHAPES["valid"], SMALL, random, rate=1)]
    for keep, reuse in ((1, 0), (1, 1), (0, 1)):
        bands.append(convolution(shape, SMALL, random, rate=1, weight_keep=keep, weight_reuse=reuse))
        bands[-1].reused = bool(reuse)
    bands.append(convolution(SHAPES["same"], SMALL, random, rate=1))
    World(SMALL, bands, random).run()


@pytest.mark.parametrize("name", ["same", "many channels", "strided"])
def test_a_step_a_cycle(name):
    """Where everything is there: across taps, winners, tiles and groups. The first comes when the first tile does.

    Its coordinates are counted two a cycle; four cycles more from the descriptor to the step.
    """
    random = Random(0)
    band = convolution(SHAPES[name], SMALL, random, rate=1, act_resident=1)
    world = World(SMALL, [band], random, eager=True)
    world.run()
    assert len(world.issued) == len(band.steps)
    assert world.issued == list(range(world.issued[0], world.issued[0] + len(band.steps)))
    assert world.issued[0] == SMALL.rows // 2 + 4


@pytest.mark.parametrize(("name", "size"), [("depthwise", 6), ("strided", 3), ("stride 3", 2)])
def test_a_vector_step_a_cycle(name, size):
    """Of tiles of so many positions: as many as are in eight bytes, three of each. Of one or two, the first comes when
    the first run does."""
    random = Random(0)
    shape = LayerShape(height=7, width=9, vector=True, **VECTOR_SHAPES[name])
    band = vector(shape, SMALL, random, rate=1, act_resident=1)
    world = World(SMALL, [band], random, eager=True)
    world.run()
    assert world.issued == list(range(world.issued[0], world.issued[0] + len(band.steps)))
    assert world.issued[0] == max(-(-size // 2), 2) + 4


@pytest.mark.parametrize("seed", range(4))
def test_weight_ring(seed):
    """Tiles read the same weights over and over; bands may read them all again; what is freed is never read again.

    Steps come in turn one behind the other, or later.
    """
    random, size = Random(seed), 40
    ring = WeightRing(buffer_bytes=size, read_bytes=6, axi_bytes=8)

    async def bench(ctx):
        loaded = freed = start = 0
        for _ in range(25):
            keep_for = random.choice((1, 1, 1, 3))  # bands that use the same
            parts = []  # (steps, tiles) of groups, or of channels
            room = size
            for _ in range(random.randint(1, 3)):
                steps = [random.randint(0, 6) for _ in range(random.randint(1, 4))]
                steps = steps if sum(steps) <= room or keep_for == 1 else [0]
                room -= sum(steps)
                parts.append((steps, random.randint(1, 4)))
            wanted = sum(sum(steps) for steps, _ in parts)
            loads, to_come, place = wanted, [], start
            for steps, tiles in parts:
                for tile in range(tiles):
                    for n, need in enumerate(steps):
                        to_come.append((place + sum(steps[:n]), need, n == len(steps) - 1, tile < tiles - 1))
                place += sum(steps)
            for band in range(keep_for):
                keep, rest, turn = band < keep_for - 1, list(to_come), None
                ctx.set(ring.band_start, 1)
                ctx.set(ring.keep, keep)
                await ctx.tick()
                ctx.set(ring.band_start, 0)
                while rest or turn:
                    amount = min(loads, size - (loaded - freed), random.randint(0, 8))
                    ctx.set(ring.loaded, amount)
                    issue = False
                    if turn:
                        at, need, ends, again = turn
                        assert ctx.get(ring.ready) == (at + need <= loaded)
                        assert not need or ctx.get(ring.offset) == at % size
                        issue = at + need <= loaded and random.random() < 0.8
                        ctx.set(ring.again, again)
                    ctx.set(ring.tile_ends, bool(turn) and ends)
                    ctx.set(ring.issue, issue)
                    moves = issue or not turn
                    ctx.set(ring.moves, moves)
                    following = rest.pop(0) if moves and rest and random.random() < 0.8 else None
                    ctx.set(ring.next_need, following[1] if following else 0)
                    frees = ctx.get(ring.freed)
                    assert frees == (need if issue and not again and not keep else 0)
                    await ctx.tick()
                    loaded, freed, loads = loaded + amount, freed + frees, loads - amount
                    turn = following if moves else turn
                for name in ("loaded", "issue", "tile_ends", "next_need"):
                    ctx.set(getattr(ring, name), 0)
                ctx.set(ring.moves, 1)
                ctx.set(ring.band_again, keep)
                await ctx.tick()
                ctx.set(ring.band_again, 0)
            start += wanted
            assert freed == start

    simulate(ring, bench)
