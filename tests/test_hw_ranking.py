"""The ranking unit against the golden selection rules."""

from random import Random

import pytest
import torch

from golden.job import Ranking
from golden.ranking import select_winners
from hw.descriptor import Select
from hw.ranking import RankingUnit

from .hw_helpers import descriptor, receive, simulate

CLEAR_CYCLES = 64
AFTER_REQUEST = 7
"""Cycles from a request to the next score, at the least."""


def random_scores(random: Random, channels: int) -> list[int]:
    """Uniform, few values (ties), all zero, all equal, mostly zero, or extremes."""
    kind = random.choice(("any", "any", "few", "few", "zero", "equal", "sparse", "extreme"))
    few = [random.randrange(256) for _ in range(3)]
    equal = random.randrange(256)
    return [{"any": random.randrange(256), "few": random.choice(few), "zero": 0, "equal": equal,
             "sparse": random.randrange(256) if random.random() < 0.1 else 0,
             "extreme": random.choice((0, 1, 254, 255))}[kind] for _ in range(channels)]


def random_rule(random: Random, channels: int) -> Ranking:
    select = random.choice(("topk", "energy", "energy", "threshold"))
    value = {"topk": random.choice((1, channels, random.randint(1, channels))),
             "energy": random.choice((0, 1, 0.5, random.random(), 1 / 65536, 65535 / 65536)),
             "threshold": random.choice((0, 1, 255, random.randrange(256)))}[select]
    return Ranking(score="max", select=select, value=value, energy_power=random.randint(1, 2))


def latency_bound(rule: Ranking, lanes: int) -> int:
    """Cycles from select to the first word, by the contract."""
    return (32 if rule.select == "energy" else 14) + lanes // 16


async def check_bound(ctx, component, before: int | None, expected: int, wait: int) -> None:
    """Request the running threshold as soon as allowed, and watch it for ``wait`` cycles.

    ``before``: the last one requested, which stands until the new one is there.
    """
    while not ctx.get(component.bound_valid):
        await ctx.tick()
    assert ctx.get(component.ready)
    before = ctx.get(component.bound) if before is None else before
    ctx.set(component.bound_request, 1)
    for cycle in range(1, wait + 1):
        await ctx.tick()
        ctx.set(component.bound_request, 0)
        assert ctx.get(component.ready) and not ctx.get(component.waiting)
        there = cycle >= RankingUnit.BOUND_CYCLES
        assert ctx.get(component.bound_valid) == there
        assert ctx.get(component.bound) == (expected if there else before)


async def start(ctx, component, channels: int, rule: Ranking) -> None:
    """Set the descriptor, and wait for the histogram to be cleared."""
    value = rule.eps16 if rule.select == "energy" else rule.value
    ctx.set(component.descriptor, descriptor(
        select=Select[rule.select.upper()], select_value=value, energy_square=rule.energy_power == 2,
        out_channels=channels))
    cycles = 0
    while not ctx.get(component.ready):
        await ctx.tick()
        cycles += 1
    assert cycles <= CLEAR_CYCLES + 2


async def put(ctx, component, channel: int, score: int) -> None:
    """Put a score in, in one cycle."""
    ctx.set(component.score_valid, 1)
    ctx.set(component.score_channel, channel)
    ctx.set(component.score, score)
    await ctx.tick()
    ctx.set(component.score_valid, 0)


async def enter(ctx, component, scores: list[int], rule: Ranking, random: Random, bounds: float = 0) -> None:
    """Put scores in, in any order; behind a share ``bounds`` of those of a top-k request the running threshold."""
    channels = len(scores)
    await start(ctx, component, channels, rule)
    order = list(range(channels))
    random.shuffle(order)
    dense, known = random.random() < 0.5, None
    for number, channel in enumerate(order, 1):
        while not dense and random.random() < 0.3:
            await ctx.tick()
        await put(ctx, component, channel, scores[channel])
        if rule.select == "topk" and random.random() < bounds:
            so_far = sorted((scores[n] for n in order[:number]), reverse=True)
            bound = so_far[rule.value - 1] if number >= rule.value else 0
            # The next score may come while the bound is found, the selection only when it is there.
            last = number == channels
            wait = RankingUnit.BOUND_CYCLES + random.choice((0, 5)) if last else random.randint(AFTER_REQUEST, 15)
            await check_bound(ctx, component, known, bound, wait)
            known = bound


async def select(ctx, component, channels: int, rule: Ranking, random: Random, share: float) -> list[int]:
    """Select as soon as allowed; the winners, and a check of every latency in the contract."""
    lanes = component.lanes
    await ctx.tick()
    ctx.set(component.select, 1)
    await ctx.tick()
    ctx.set(component.select, 0)
    waited = 1
    while not ctx.get(component.o_winners.valid):
        assert ctx.get(component.waiting)
        await ctx.tick()
        waited += 1
    assert waited <= latency_bound(rule, lanes)
    words = await receive(ctx, component.o_winners, -(-channels // lanes), random, share)
    assert not ctx.get(component.o_winners.valid)
    bits = [word >> n & 1 for word in words for n in range(lanes)]
    assert all(bits[channels:])
    return bits[:channels]


async def rank(ctx, component, scores: list[int], rule: Ranking, random: Random, share: float,
               bounds: float = 0) -> list[int]:
    """Put scores in, then select; the winners."""
    await enter(ctx, component, scores, rule, random, bounds)
    return await select(ctx, component, len(scores), rule, random, share)


@pytest.mark.parametrize("lanes", [8, 16, 64])
@pytest.mark.parametrize(("seed", "bounds"), [(0, 0), (1, 0.1), (2, 0.7), (3, 1)])
def test_random_layers(lanes, seed, bounds):
    """Layers of any size, one behind the other; the running threshold changes no selection."""
    component, random = RankingUnit(max_channels=150, lanes=lanes), Random(f"{lanes} {seed}")

    async def bench(ctx):
        for _ in range(14):
            scores = random_scores(random, random.choice((1, 2, lanes, lanes + 1, 150, random.randint(1, 150))))
            rule = random_rule(random, len(scores))
            if random.random() < 0.2:
                everyone = Ranking(score="max", select="all")
                await enter(ctx, component, scores, everyone, random)  # nothing is selected, nothing must be left
            winners = await rank(ctx, component, scores, rule, random, random.choice((0.3, 1)), bounds=bounds)
            assert winners == select_winners(torch.tensor(scores), rule).tolist(), (scores, rule)

    simulate(component, bench)


@pytest.mark.parametrize("gaps", [(1,), (2,), (3,), (1, 1), (1, 2), (2, 1)])
def test_scores_that_share_nodes(gaps):
    """Scores so many cycles apart, of one bin or of one node of any level, count once each.

    So says the running threshold, requested in the cycle behind the last one: of k scores the k-th highest is their
    lowest, and of k - 1 there is none. A last score, 0, leaves what is kept as it is.
    """
    component, random = RankingUnit(max_channels=4, lanes=8), Random(str(gaps))
    some = 0b10_10_10_10  # of each node the second highest child: sums are kept of the one above and the one below too
    pairs = [(some, some + change) for level in (1, 4, 16, 64) for change in (-level, level)]

    async def bench(ctx):
        for pair in [(some, some), *pairs, *(pair[::-1] for pair in pairs)]:
            scores = [*(*pair, pair[0])[: len(gaps) + 1], 0]
            for k in (len(scores) - 1, len(scores)):
                rule = Ranking(score="max", select="topk", value=k)
                await start(ctx, component, len(scores), rule)
                for channel, gap in enumerate((*gaps, 1)):
                    await put(ctx, component, channel, scores[channel])
                    for _ in range(gap - 1):
                        await ctx.tick()
                expected = sorted(scores, reverse=True)[k - 1]
                await check_bound(ctx, component, None, expected, RankingUnit.BOUND_CYCLES)
                await put(ctx, component, len(scores) - 1, 0)
                winners = await select(ctx, component, len(scores), rule, random, 1)
                assert winners == select_winners(torch.tensor(scores), rule).tolist(), (scores, rule)

    simulate(component, bench)


@pytest.mark.parametrize("rule", [
    Ranking(score="max", select="topk", value=700), Ranking(score="max", select="energy", value=0.9),
    Ranking(score="max", select="energy", value=1, energy_power=2),
    Ranking(score="max", select="threshold", value=128)],
    ids=lambda rule: f"{rule.select}-{rule.energy_power}")
@pytest.mark.parametrize("kind", ["any", "ones", "full"])
def test_as_many_channels_as_there_are(rule, kind):
    """The counts and energies of the largest layer fit; its words follow each other with a single gap for the ties."""
    component, random = RankingUnit(max_channels=2048, lanes=64), Random(rule.select)
    scores = [{"any": random.randrange(256), "ones": 1, "full": 255}[kind] for _ in range(2048)]
    times = []

    async def bench(ctx):
        winners = await rank(ctx, component, scores, rule, random, 1)
        assert winners == select_winners(torch.tensor(scores), rule).tolist()

    async def clock(ctx):
        for now in range(4000):
            _, _, valid, ready = await ctx.tick().sample(component.o_winners.valid, component.o_winners.ready)
            if valid and ready:
                times.append(now)

    simulate(component, bench, clock)
    assert len(times) == 32 and times[-1] - times[0] <= 31 + 64 // 16


@pytest.mark.parametrize("channels", [1, 2, 15, 16, 17, 255, 256, 257])
@pytest.mark.parametrize("rule", [
    Ranking(score="max", select="energy", value=1, energy_power=2), Ranking(score="max", select="energy", value=0.7),
    Ranking(score="max", select="threshold", value=255)], ids=lambda rule: f"{rule.select}-{rule.energy_power}")
def test_widths_that_follow_from_the_channels(channels, rule):
    """Counts, energies and quotients are as wide as so many channels of the highest score need them."""
    component = RankingUnit(max_channels=channels, lanes=8)

    async def bench(ctx):
        for scores in ([255] * channels, [255] * (channels - 1) + [254]):
            winners = await rank(ctx, component, scores, rule, Random(channels), 1)
            assert winners == select_winners(torch.tensor(scores), rule).tolist()

    simulate(component, bench)


def test_ties_go_to_the_lower_channels():
    component = RankingUnit(max_channels=64, lanes=16)

    async def bench(ctx):
        for k in range(1, 41):
            winners = await rank(ctx, component, [9] * 40, Ranking(score="max", select="topk", value=k), Random(k), 1)
            assert winners == [1] * k + [0] * (40 - k)

    simulate(component, bench)
