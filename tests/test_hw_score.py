"""The score unit against the golden scores."""

import itertools
from random import Random

import numpy as np
import pytest
import torch

from golden.job import Ranking
from golden.numerics import quantize_multiplier
from golden.ranking import channel_scores
from hw.descriptor import Score
from hw.score import ScoreUnit

from .hw_helpers import descriptor, simulate

CHUNK, LABEL_BITS = 8, 5
LATENCY = {"max": 4, "absmax": 4, "mean": 12}


def visits_of(maps: np.ndarray, random: Random) -> list[dict]:
    """Each channel's map cut into one to three visits, in bands of channels; each visit a list of chunks."""
    parts = random.randint(1, min(3, maps.shape[1]))
    cuts = [0, *sorted(random.sample(range(1, maps.shape[1]), parts - 1)), maps.shape[1]]
    visits = []
    for n, (start, end) in enumerate(itertools.pairwise(cuts)):
        for channel, values in enumerate(maps):
            chunks, at = [], start
            while at < end:
                count = min(end - at, random.choice((CHUNK, random.randint(1, CHUNK))))
                chunks.append(values[at:at + count])
                at += count
            visits.append({"channel": channel, "chunks": chunks, "resume": n > 0, "final": n == parts - 1})
    return visits


@pytest.mark.parametrize("zero_point", [-128, 127, 0, -37])
@pytest.mark.parametrize("score", ["max", "absmax", "mean"])
def test_scores(score, zero_point):
    component = ScoreUnit(chunk_bytes=CHUNK, max_channels=16, label=LABEL_BITS)
    random = Random(f"{score} {zero_point}")
    arrays = np.random.default_rng(zero_point + 128)

    async def bench(ctx):
        for case in range(8):
            channels, size = random.choice((1, 2, random.randint(1, 16))), random.choice((1, 7, 8, 50))
            low, high = random.choice(((-128, 128), (zero_point, 128), (-128, zero_point + 1), (127, 128)))
            maps = arrays.integers(low, max(high, low + 1), (channels, size))
            multiplier, shift = quantize_multiplier(random.choice((0.01, 1, 3)) / size)
            if case == 7:
                multiplier, shift = 2**31 - 1, 30
            rule = Ranking(score=score, select="all", score_multiplier=multiplier, score_shift=shift)
            expected = channel_scores(torch.from_numpy(maps)[:, None], zero_point, rule).tolist()
            ctx.set(component.descriptor, descriptor(
                out_zero_point=zero_point, score_kind=Score[score.upper()], score_multiplier=multiplier,
                score_shift=shift))
            await run(ctx, maps, expected)

    async def run(ctx, maps, expected):
        found, due, ended, now = {}, {}, {}, 0
        earliest = random.random() < 0.5
        pending = [dict(visit, at=n, of=len(visit["chunks"]), chunk=chunk)
                   for visit in visits_of(maps, random) for n, chunk in enumerate(visit["chunks"])]
        while pending or len(found) < len(maps):
            ctx.set(component.valid, 0)
            one = pending[0] if pending else None
            allowed = one and (one["at"] or now >= ended.get(one["channel"], -100) + ScoreUnit.REVISIT)
            if allowed and (earliest or random.random() < 0.7):
                pending.pop(0)
                last = one["at"] == one["of"] - 1
                junk = [random.randrange(256) for _ in range(CHUNK - len(one["chunk"]))]
                values = bytes([int(value) & 0xFF for value in one["chunk"]] + junk)
                label = random.randrange(1 << LABEL_BITS)
                for name, value in {"valid": 1, "data": int.from_bytes(values, "little"), "count": len(one["chunk"]),
                                    "start": one["at"] == 0, "end": last, "resume": one["resume"],
                                    "final": one["final"], "channel": one["channel"], "label": label}.items():
                    ctx.set(getattr(component, name), int(value))
                if last:
                    ended[one["channel"]] = now
                    if one["final"]:
                        due[one["channel"]] = now + LATENCY[score], label
            _, _, valid, channel, value, label = await ctx.tick().sample(
                component.score_valid, component.score_channel, component.score, component.score_label)
            if valid:
                assert (now, label) == due[channel] and channel not in found
                found[channel] = value
            now += 1
            assert now < 10_000
        assert [found[n] for n in range(len(maps))] == expected

    simulate(component, bench)
