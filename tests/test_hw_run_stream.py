"""The slabs that tiles walk against nested loops in Python."""

from dataclasses import dataclass, field
from random import Random

import pytest

from hw.config import VECTOR_TAPS
from hw.run_stream import RunStream

from .hw_helpers import descriptor, receive, simulate

MAX_CHANNELS = 40
TILE = ("last", "first_pass", "last_pass", "last_group", "ends_group")


@dataclass(kw_only=True)
class Band:
    """A descriptor's fields, what else a band needs, and the runs that come of it.

    ``masks``: of the vector unit, a bit a channel of each operand. ``runs``: offset (None where nothing is read),
    channels, weights, first and last of the tile, the ``TILE`` fields, ``loses``.
    """

    fields: dict[str, int]
    vector: bool = False
    winners: int = 0
    lists: list[list[tuple[int, int]]] = field(default_factory=list)
    masks: list[list[int]] = field(default_factory=list)
    runs: list[tuple] = field(default_factory=list)


def common_fields(random: Random) -> dict[str, int]:
    groups, columns = random.randint(1, 4), random.randint(1, 5)
    return {"out_groups": groups, "tiles": random.randint(1, 5), "slab_bytes": random.randint(1, 300),
            "pass_winners": 65535, "act_base": random.randint(0, 99), "tap_base": random.randint(-50, 50),
            "tile_bytes": random.randint(1, 65535), "group_columns": columns,
            "last_columns": random.randint(1, columns), "kernel_w": random.randint(1, 5)}


def add_tile(band: Band, tile: int, group: int, slabs: list[tuple[int, int]], *, first_pass=True, last_pass=True,
             ends_part=True, weights=None, loses=(0, 0)) -> None:
    """The runs (first slab, slabs) of a tile."""
    fields = band.fields
    last_tile, last_group = tile == fields["tiles"] - 1, group == fields["out_groups"] - 1
    columns = fields["last_columns" if last_group else "group_columns"]
    base = fields["act_base"] + fields["tap_base"] + tile * fields["tile_bytes"]
    for n, (start, length) in enumerate(slabs or [(None, 0)]):
        offset = None if start is None else (base + start * fields["slab_bytes"]) % (1 << 24)
        reads = columns if weights is None else weights
        band.runs.append((offset, length, reads if length else 0, n == 0, n == max(0, len(slabs) - 1),
                          (last_tile, first_pass, last_pass, last_group, last_tile and ends_part), loses))


def convolution(random: Random, kind: str) -> Band:
    """All winners at once, in passes, in the runs of a list for each group, or of one list."""
    fields, winners = common_fields(random), random.choice((0, 1, random.randint(1, MAX_CHANNELS)))
    band = Band(fields=fields, winners=winners)
    groups, tiles = range(fields["out_groups"]), range(fields["tiles"])
    if kind in ("lists", "one list"):
        fields |= {"lists": 1, "list_once": kind == "one list"}
        for _ in groups if kind == "lists" else range(1):
            edges = sorted(random.sample(range(MAX_CHANNELS + 1), 2 * random.choice((0, 1, random.randint(0, 20)))))
            band.lists.append([(a, b - a) for a, b in zip(edges[::2], edges[1::2], strict=True)])
        for group in groups:
            for tile in tiles:
                add_tile(band, tile, group, band.lists[group % len(band.lists)])
        return band
    if kind == "passes":
        fields["pass_winners"] = random.choice((1, 2, 3, max(1, winners), random.randint(1, MAX_CHANNELS)))
    size = fields["pass_winners"]
    starts = list(range(0, winners, size)) or [0]
    for group in groups:
        for start in starts:
            for tile in tiles:
                count, last = min(size, winners - start), start == starts[-1]
                add_tile(band, tile, group, [(start, count)] if count else [], first_pass=start == 0, last_pass=last,
                         ends_part=last)
    return band


def vector(random: Random, kind: str) -> Band:
    """A slab a tile, none where the channel loses unless it is added; several channels of results for each if there is
    a depth multiplier."""
    fields = common_fields(random) | {"mask_skip": random.randrange(16), "depth_multiplier": random.randint(1, 3)}
    band = Band(fields=fields, vector=True)
    if kind == "add":
        fields |= {"add": 1, "depth_multiplier": 1}
    elif kind == "pool":
        fields["unit_weight"] = random.choice((-1, 64))
    groups = [fields["group_columns"]] * (fields["out_groups"] - 1) + [fields["last_columns"]]
    channels = -(-sum(groups) // fields["depth_multiplier"])
    band.masks = [[random.randrange(2) for _ in range(fields["mask_skip"] + channels)] for _ in range(2)]
    output = 0
    for group, columns in enumerate(groups):
        for column in range(columns):
            slab = output // fields["depth_multiplier"]
            wins = [mask[fields["mask_skip"] + slab] for mask in band.masks]
            for tile in range(fields["tiles"]):
                add_tile(band, tile, group, [(slab, 1)] if wins[0] or kind == "add" else [],
                         ends_part=column == columns - 1, loses=(1 - wins[0], 1 - wins[1]),
                         weights=min(VECTOR_TAPS, fields["kernel_w"]) if kind == "depthwise" else 0)
            output += 1
    return band


def random_band(random: Random) -> Band:
    kind = random.choice(("all", "passes", "lists", "one list", "depthwise", "pool", "add"))
    return (vector if kind in ("depthwise", "pool", "add") else convolution)(random, kind)


async def fill(ctx, component, lists: list, random: Random, share: float) -> None:
    """Runs of the lists in order, as long as there is room; a list ends with its last run or behind it."""
    for runs in lists:
        while not ctx.get(component.list_free):
            await ctx.tick()
        with_last = bool(runs) and random.random() < 0.5
        for n, (start, length) in enumerate(runs):
            while random.random() >= share:
                await ctx.tick()
            ctx.set(component.run_valid, 1)
            ctx.set(component.run, {"start": start, "length": length})
            ctx.set(component.list_done, with_last and n == len(runs) - 1)
            await ctx.tick()
            ctx.set(component.run_valid, 0)
            ctx.set(component.list_done, 0)
        if not with_last:
            ctx.set(component.list_done, 1)
            await ctx.tick()
            ctx.set(component.list_done, 0)


async def start(ctx, component, band: Band) -> None:
    """The winners and the descriptor that is to start are there in the cycle of the strobe alone."""
    ctx.set(component.starting, descriptor(**band.fields))
    ctx.set(component.winners, band.winners)
    ctx.set(component.start, 1)
    await ctx.tick()
    ctx.set(component.start, 0)
    ctx.set(component.starting, descriptor())
    ctx.set(component.winners, 0)
    ctx.set(component.descriptor, descriptor(**band.fields))
    ctx.set(component.vector, band.vector)


def check_runs(found: list, band: Band) -> None:
    for one, (offset, channels, weights, first, last, tile, loses) in zip(found, band.runs, strict=True):
        assert offset in (None, one.offset)
        assert (one.channels, one.weights, one.first, one.last) == (channels, weights, first, last)
        assert tuple(getattr(one.tile, name) for name in TILE) == tile
        assert not band.vector or one.loses == loses[0] | loses[1] << 1


def answers(component, masks: list[list[list[int]]]):
    """The bench that answers for the masks of the band in work, the last ones."""
    async def bench(ctx):
        later = [0, 0]
        while True:
            _, _, ask, channel = await ctx.tick().sample(component.ask, component.channel)
            if ask:
                ctx.set(component.flags, later.pop(0))
                later.append(sum((channel < len(mask) and mask[channel]) << n for n, mask in enumerate(masks[-1])))
    return bench


@pytest.mark.parametrize("share", [1, 0.4])
@pytest.mark.parametrize("seed", range(3))
def test_bands(share, seed):
    """Lists of the next band may come while this one is walked."""
    component, random = RunStream(max_channels=MAX_CHANNELS), Random(f"{share} {seed}")
    bands, masks = [random_band(random) for _ in range(40)], [[]]

    async def walk(ctx):
        for band in bands:
            masks.append(band.masks)
            await start(ctx, component, band)
            check_runs(await receive(ctx, component.o_run, len(band.runs), random, share), band)
            for _ in range(5):
                await ctx.tick()
                assert not ctx.get(component.o_run.valid)

    async def lists(ctx):
        await fill(ctx, component, [one for band in bands for one in band.lists], random, share)

    simulate(component, walk, lists, background=[answers(component, masks)])


@pytest.mark.parametrize("kind", ["passes", "lists", "vector"])
def test_a_run_a_cycle(kind):
    """The first after 4 cycles; none waits, across tiles, passes, groups, channels and lists."""
    component = RunStream(max_channels=MAX_CHANNELS)
    fields = {"lists": kind == "lists", "out_groups": 2, "tiles": 3, "pass_winners": 4, "slab_bytes": 7,
              "group_columns": 2, "last_columns": 1, "depth_multiplier": 1, "kernel_w": 1}

    async def bench(ctx):
        if kind == "lists":
            await fill(ctx, component, [[(0, 3), (5, 1)], [(2, 2)]], Random(0), 1)
        await start(ctx, component, Band(fields=fields, vector=kind == "vector", winners=10))
        ctx.set(component.o_run.ready, 1)
        times = []
        for now in range(1, 40):
            if ctx.get(component.o_run.valid):
                times.append(now)
            await ctx.tick()
        # 2 groups of 3 passes, 3 tiles each; or tiles of two runs, then of one; or 3 channels.
        assert times == list(range(5, 5 + {"passes": 2 * 3 * 3, "lists": 3 * 2 + 3 * 1, "vector": 3 * 3}[kind]))

    simulate(component, bench)


def test_two_lists_wait():
    component = RunStream(max_channels=MAX_CHANNELS)

    async def bench(ctx):
        await fill(ctx, component, [[(1, 2)], []], Random(0), 1)
        assert not ctx.get(component.list_free)
        await start(ctx, component, Band(fields={"lists": 1, "out_groups": 2, "tiles": 1, "slab_bytes": 1}))
        (first, second) = await receive(ctx, component.o_run, 2)
        assert (first.offset, first.channels, second.channels) == (1, 2, 0)
        assert ctx.get(component.list_free)

    simulate(component, bench)
