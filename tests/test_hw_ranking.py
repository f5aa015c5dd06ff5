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


async def rank(ctx, component, scores: list[int], rule: Ranking, random: Random, share: float) -> list[int]:
    """Put scores in, in any order; select; the winners, and a check of every latency in the contract."""
    lanes, channels = component.lanes, len(scores)
    value = rule.eps16 if rule.select == "energy" else rule.value
    ctx.set(component.descriptor, descriptor(
        select=Select[rule.select.upper()], select_value=value, energy_square=rule.energy_power == 2,
        out_channels=channels))
    cycles = 0
    while not ctx.get(component.ready):
        await ctx.tick()
        cycles += 1
    assert cycles <= CLEAR_CYCLES + 2
    order = list(range(channels))
    random.shuffle(order)
    dense = random.random() < 0.5
    for channel in order:
        while not dense and random.random() < 0.3:
            await ctx.tick()
        ctx.set(component.score_valid, 1)
        ctx.set(component.score_channel, channel)
        ctx.set(component.score, scores[channel])
        await ctx.tick()
        ctx.set(component.score_valid, 0)
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
    assert not any(bits[channels:])
    return bits[:channels]


@pytest.mark.parametrize("lanes", [8, 16, 64])
@pytest.mark.parametrize("seed", range(3))
def test_random_layers(lanes, seed):
    """Layers of any size, one behind the other."""
    component, random = RankingUnit(max_channels=150, lanes=lanes), Random(f"{lanes} {seed}")

    async def bench(ctx):
        for _ in range(14):
            scores = random_scores(random, random.choice((1, 2, lanes, lanes + 1, 150, random.randint(1, 150))))
            rule = random_rule(random, len(scores))
            winners = await rank(ctx, component, scores, rule, random, random.choice((0.3, 1)))
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


def test_ties_go_to_the_lower_channels():
    component = RankingUnit(max_channels=64, lanes=16)

    async def bench(ctx):
        for k in range(1, 41):
            winners = await rank(ctx, component, [9] * 40, Ranking(score="max", select="topk", value=k), Random(k), 1)
            assert winners == [1] * k + [0] * (40 - k)

    simulate(component, bench)
