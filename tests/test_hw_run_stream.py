"""The slabs that tiles walk against nested loops in Python."""

from random import Random

import pytest

from hw.run_stream import RunStream

from .hw_helpers import descriptor, receive, simulate

MAX_CHANNELS = 40


def run(offset: int, channels: int, *, first: bool = True, last: bool = True, first_pass: bool = True,
        last_pass: bool = True) -> tuple[int, ...]:
    return offset, channels, first, last, first_pass, last_pass


def random_band(random: Random) -> tuple[dict[str, int], int, list, list]:
    """Fields, winners, lists and the runs that come of them."""
    groups, tiles, slab = random.randint(1, 4), random.randint(1, 5), random.randint(1, 300)
    fields = {"out_groups": groups, "tiles": tiles, "slab_bytes": slab, "pass_winners": 65535}
    winners, kind = random.choice((0, 1, random.randint(1, MAX_CHANNELS))), random.choice(("all", "passes", "lists",
                                                                                           "one list"))
    expected, lists = [], []
    if kind in ("lists", "one list"):
        fields |= {"lists": 1, "list_once": kind == "one list"}
        for _ in range(groups if kind == "lists" else 1):
            edges = sorted(random.sample(range(MAX_CHANNELS + 1), 2 * random.choice((0, 1, random.randint(0, 20)))))
            lists.append([(a, b - a) for a, b in zip(edges[::2], edges[1::2], strict=True)])
        for group in range(groups):
            runs = lists[group % len(lists)]
            for _ in range(tiles):
                expected += [run(start * slab, length, first=n == 0, last=n == len(runs) - 1)
                             for n, (start, length) in enumerate(runs)] or [(None, 0, True, True, True, True)]
    else:
        size = random.choice((1, 2, 3, max(1, winners), random.randint(1, MAX_CHANNELS))) if kind == "passes" else 65535
        fields["pass_winners"] = size
        starts = list(range(0, winners, size)) or [0]
        for _ in range(groups):
            for start in starts:
                for _ in range(tiles):
                    expected.append(run(start * slab, min(size, winners - start), first_pass=start == 0,
                                        last_pass=start == starts[-1]))
    return fields, winners, lists, expected


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


@pytest.mark.parametrize("share", [1, 0.4])
@pytest.mark.parametrize("seed", range(3))
def test_bands(share, seed):
    """Lists of the next band may come while this one is walked."""
    component, random = RunStream(max_channels=MAX_CHANNELS), Random(f"{share} {seed}")
    bands = [random_band(random) for _ in range(30)]

    async def walk(ctx):
        for fields, winners, _, expected in bands:
            ctx.set(component.descriptor, descriptor(**fields))
            ctx.set(component.winners, winners)
            ctx.set(component.start, 1)
            await ctx.tick()
            ctx.set(component.start, 0)
            found = await receive(ctx, component.o_run, len(expected), random, share)
            for one, (offset, *others) in zip(found, expected, strict=True):
                assert offset in (None, one.offset)
                assert [one.channels, one.tile_first, one.tile_last, one.first_pass, one.last_pass] == others
            for _ in range(4):
                await ctx.tick()
                assert not ctx.get(component.o_run.valid)

    async def lists(ctx):
        await fill(ctx, component, [one for _, _, of_band, _ in bands for one in of_band], random, share)

    simulate(component, walk, lists)


@pytest.mark.parametrize("lists", [0, 1])
def test_a_run_a_cycle(lists):
    """The first after 3 cycles; none waits, across tiles, passes, groups and lists."""
    component = RunStream(max_channels=MAX_CHANNELS)

    async def bench(ctx):
        if lists:
            await fill(ctx, component, [[(0, 3), (5, 1)], [(2, 2)]], Random(0), 1)
        ctx.set(component.descriptor, descriptor(lists=lists, out_groups=2, tiles=3, pass_winners=4, slab_bytes=7))
        ctx.set(component.winners, 10)
        ctx.set(component.start, 1)
        await ctx.tick()
        ctx.set(component.start, 0)
        ctx.set(component.o_run.ready, 1)
        times = []
        for now in range(1, 40):
            if ctx.get(component.o_run.valid):
                times.append(now)
            await ctx.tick()
        # 2 groups of 3 passes, 3 tiles each; or tiles of two runs, then of one.
        assert times == list(range(4, 4 + (3 * 2 + 3 * 1 if lists else 2 * 3 * 3)))

    simulate(component, bench)


def test_two_lists_wait():
    component = RunStream(max_channels=MAX_CHANNELS)

    async def bench(ctx):
        await fill(ctx, component, [[(1, 2)], []], Random(0), 1)
        assert not ctx.get(component.list_free)
        ctx.set(component.descriptor, descriptor(lists=1, out_groups=2, tiles=1, slab_bytes=1))
        ctx.set(component.start, 1)
        await ctx.tick()
        ctx.set(component.start, 0)
        (first, second) = await receive(ctx, component.o_run, 2)
        assert (first.offset, first.channels, second.channels) == (1, 2, 0)
        assert ctx.get(component.list_free)

    simulate(component, bench)
