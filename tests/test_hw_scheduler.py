"""Coordinates of positions, and the order and addresses of taps, against loops in Python."""

import itertools
from random import Random

import pytest

from hw.descriptor import unpack
from hw.lowering import Addresses, Ranking, lower_layer
from hw.plan import LayerShape, make_plan
from hw.scheduler import PositionGenerator, Scheduler

from .hw_helpers import SMALL, descriptor, receive, simulate


@pytest.mark.parametrize("rows", [1, 4, 7, 16])
@pytest.mark.parametrize("share", [1, 0.2])
def test_positions(rows, share):
    component, random = PositionGenerator(rows=rows), Random(f"{rows} {share}")

    async def bench(ctx):
        for _ in range(6):
            pitch, in_rows = random.choice((1, 3, rows, random.randint(1, 40))), random.randint(1, 30)
            fields = {"pitch": pitch, "in_rows": in_rows, "stride_y": random.randint(1, 4),
                      "tiles": random.randint(1, 6), "rows_ahead": random.randint(1, 11)}
            ctx.set(component.descriptor, descriptor(**fields))
            ctx.set(component.start, 1)
            await ctx.tick()
            ctx.set(component.start, 0)
            # For every group anew.
            tiles = await receive(ctx, component.o_tile, 2 * fields["tiles"] + 1, random, share)
            for number, tile in enumerate(tiles):
                places = [divmod(number % fields["tiles"] * rows + n, pitch) for n in range(rows)]
                assert [(tile.y[n], tile.x[n]) for n in range(rows)] == places
                needed = places[-1][0] * fields["stride_y"] + fields["rows_ahead"]
                assert tile.rows_needed == min(needed, in_rows)

    simulate(component, bench)


@pytest.mark.parametrize("rows", [1, 4, 7, 16])
def test_a_tile_every_rows_plus_two_cycles(rows):
    component = PositionGenerator(rows=rows)

    async def bench(ctx):
        ctx.set(component.descriptor, descriptor(pitch=5, in_rows=9, stride_y=1, tiles=3, rows_ahead=1))
        ctx.set(component.start, 1)
        await ctx.tick()
        ctx.set(component.start, 0)
        ctx.set(component.o_tile.ready, 1)
        times = []
        for now in range(5 * (rows + 2)):
            _, _, valid = await ctx.tick().sample(component.o_tile.valid)
            if valid:
                times.append(now)
        assert times == [rows + 1 + n * (rows + 2) for n in range(len(times))] and len(times) >= 4

    simulate(component, bench)


SHAPES = {
    "same": LayerShape(channels=3, height=5, width=6, out_channels=6, kernel=(3, 3), padding=(1, 1, 1, 1)),
    "valid": LayerShape(channels=2, height=6, width=5, out_channels=4, kernel=(2, 3)),
    "strided": LayerShape(channels=2, height=9, width=11, out_channels=5, kernel=(3, 5), stride=(2, 3),
                          padding=(1, 0, 2, 3)),
    "far strides": LayerShape(channels=1, height=13, width=9, out_channels=3, kernel=(5, 2), stride=(4, 1),
                              padding=(4, 4, 1, 0)),
    "one pixel": LayerShape(channels=5, height=1, width=1, out_channels=9, kernel=(1, 1)),
    "even kernel": LayerShape(channels=2, height=4, width=4, out_channels=2, kernel=(4, 4), stride=(1, 2),
                              padding=(3, 1, 2, 2)),
}


def slab(shape: LayerShape, fields: dict[str, int]) -> dict[int, tuple[int, int]]:
    """Offset in a channel's slab to the coordinates (y, x) that lie there."""
    sy, sx = shape.stride
    return {(y % sy * sx + x % sx) * fields["plane_bytes"] + y // sy * fields["pitch"] + x // sx: (y, x)
            for y in range(fields["in_rows"]) for x in range(fields["in_cols"])}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("winners", [0, 1, None])
def test_taps(name, winners):
    """Every lane of every tap reads the right input pixel, or is masked where there is none."""
    shape = SHAPES[name]
    winners = shape.channels if winners is None else winners
    plan = make_plan(shape, SMALL)
    addresses = Addresses(input=0, mask=None, weights=0, parameters=0, output=0, scores=0, winners=0)
    packed = lower_layer(plan, addresses, Ranking(), input_zero_point=0, output_zero_point=0, activation_min=-128,
                         activation_max=127)
    fields = unpack(packed) | {"act_base": 64}
    component, random = Scheduler(config=SMALL), Random(f"{name} {winners}")
    bytes_at, pitch, taps = slab(shape, fields), fields["pitch"], []

    async def bench(ctx):
        ctx.set(component.winners, winners)
        ctx.set(component.drain_free, 1)
        ctx.set(component.o_descriptor.ready, 1)
        ctx.set(component.i_descriptor.payload, descriptor(**fields))
        ctx.set(component.i_descriptor.valid, 1)
        await ctx.tick()
        ctx.set(component.i_descriptor.valid, 0)
        strips, arrived, used = fields["strips"], 0, 0
        while not ctx.get(component.idle):
            ctx.set(component.strip_loaded, strips > 0)
            strips -= strips > 0
            amount = random.choice((0, random.randint(0, 5))) if arrived - used < 256 else 0
            ctx.set(component.weights_loaded, amount)
            drain_free = random.random() < 0.8
            ctx.set(component.drain_free, drain_free)
            _, _, *tap, freed, waits = await ctx.tick().sample(
                component.issue, component.first, component.last, component.act_offset, component.weight_offset,
                component.lane_inside, component.weights_freed,
                component.waits_activations + component.waits_weights + component.waits_drain)
            assert waits == (not tap[0])  # exactly one reason
            if tap[0]:
                taps.append((*tap[1:], arrived))
                assert drain_free or not tap[2], "the last tap of a tile, before its sums may come"
            arrived, used = arrived + amount, used + freed
        assert used == (shape.out_channels * winners * shape.taps)

    simulate(component, bench)
    expected, weight_base = [], 0
    for group in range(plan.groups):
        columns = min(SMALL.columns, shape.out_channels - group * SMALL.columns)
        for tile in range(fields["tiles"]):
            walk = list(itertools.product(range(winners), *map(range, shape.kernel)))
            for n, (winner, ky, kx) in enumerate(walk):
                pixels = []
                for lane in range(SMALL.rows):
                    y, x = divmod(tile * SMALL.rows + lane, pitch)
                    y = y * shape.stride[0] + ky - shape.padding[0]
                    x = x * shape.stride[1] + kx - shape.padding[2]
                    inside = 0 <= y < shape.height and 0 <= x < shape.width
                    pixels.append((y, x) if inside else None)
                expected.append((n == 0, n == len(walk) - 1, winner, pixels, weight_base + n * columns, columns))
            if not walk:  # a single idle tap completes the sums
                expected.append((1, 1, None, [None] * SMALL.rows, weight_base, 0))
        weight_base += winners * shape.taps * columns
    assert len(taps) == len(expected)
    for (first, last, offset, weight_offset, inside, arrived), (is_first, is_last, winner, pixels, weight, size) in zip(
            taps, expected, strict=True):
        assert (first, last, weight_offset) == (is_first, is_last, weight % SMALL.weight_buffer_bytes)
        assert weight + size <= arrived, "a tap before its weights"
        for lane, pixel in enumerate(pixels):
            assert (inside >> lane & 1) == (pixel is not None)
            if pixel is not None:
                assert bytes_at[offset + lane - 64 - winner * fields["slab_bytes"]] == pixel
