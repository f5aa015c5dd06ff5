"""Scores and selections against their definitions, written out with Python integers and sorting."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.job import JobError, Ranking
from golden.ranking import channel_scores, select_winners

SCORES = st.lists(st.integers(0, 255), min_size=1, max_size=40) | st.lists(st.integers(0, 2), min_size=1, max_size=40)


def best_first(scores: list[int]) -> list[int]:
    return sorted(range(len(scores)), key=lambda index: (-scores[index], index))


def marked(scores: list[int], winners: list[int]) -> list[int]:
    return [int(index in winners) for index in range(len(scores))]


def select(scores: list[int], **fields) -> list[int]:
    winners = select_winners(torch.tensor(scores), Ranking(score="max", **fields))
    assert winners.dtype == torch.uint8
    return winners.tolist()


@settings(deadline=None)
@given(scores=SCORES, data=st.data())
def test_topk(scores, data):
    k = data.draw(st.integers(1, len(scores)))
    assert select(scores, select="topk", value=k) == marked(scores, best_first(scores)[:k])


@settings(max_examples=400, deadline=None)
@given(scores=SCORES, power=st.sampled_from([1, 2]),
       eps=st.floats(0, 1) | st.integers(0, 2**17).map(lambda n: n / 2**17) | st.sampled_from([0, 1]))
def test_energy(scores, power, eps):
    order, eps16 = best_first(scores), round(65536 * Fraction(eps))
    total = sum(score**power for score in scores)
    k = next(k for k in range(1, len(scores) + 1)
             if 65536 * sum(scores[i] ** power for i in order[:k]) >= eps16 * total)
    assert select(scores, select="energy", value=eps, energy_power=power) == marked(scores, order[:k])


@given(scores=SCORES, value=st.integers(0, 255))
def test_threshold_and_all(scores, value):
    assert select(scores, select="threshold", value=value) == [int(score >= value) for score in scores]
    assert select(scores, select="all") == [1] * len(scores)


@pytest.mark.parametrize(("scores", "fields", "expected"), [
    ([5, 9, 9, 5, 1], {"select": "topk", "value": 1}, [0, 1, 0, 0, 0]),
    ([5, 9, 9, 5, 1], {"select": "topk", "value": 3}, [1, 1, 1, 0, 0]),
    ([0, 0, 0], {"select": "energy", "value": 1.0}, [1, 0, 0]),  # No energy at all: one winner.
    ([3, 4], {"select": "energy", "value": 0.0}, [0, 1]),
    ([1, 2, 1], {"select": "energy", "value": 0.5}, [0, 1, 0]),  # Exactly half the energy is enough.
    ([1, 2, 1], {"select": "energy", "value": 0.50001}, [1, 1, 0]),
    ([3, 1, 1], {"select": "energy", "value": 0.75, "energy_power": 1}, [1, 1, 0]),
    ([3, 1, 1], {"select": "energy", "value": 0.75, "energy_power": 2}, [1, 0, 0]),
    ([3, 1, 0], {"select": "energy", "value": 1.0}, [1, 1, 0]),  # Zeros add nothing and are left out.
    ([7, 8], {"select": "threshold", "value": 9}, [0, 0]),
])
def test_known_selections(scores, fields, expected):
    assert select(scores, **fields) == expected


def test_energy_is_exact_at_the_largest_size():
    scores = [255] * 4096
    assert sum(select(scores, select="energy", value=0.5, energy_power=2)) == 2048
    assert sum(select(scores, select="energy", value=32769 / 65536, energy_power=2)) == 2049


@pytest.mark.parametrize(("eps", "eps16"), [(0, 0), (1, 65536), (0.5, 32768), (0.5 / 65536, 0), (1.5 / 65536, 2),
                                            (2.5 / 65536, 2), (0.9, 58982)])
def test_eps16_rounds_ties_to_even(eps, eps16):
    assert Ranking(score="max", select="energy", value=eps).eps16 == eps16


def test_batches_rank_row_by_row():
    scores = torch.tensor([[1, 5, 5], [9, 0, 0]])
    for fields in ({"select": "topk", "value": 2}, {"select": "energy", "value": 0.6}):
        rows = [select(row.tolist(), **fields) for row in scores]
        assert select_winners(scores, Ranking(score="max", **fields)).tolist() == rows


def mean_score(values: list[int], zero_point: int, multiplier: int, shift: int) -> int:
    total = sum(value - zero_point for value in values)
    shifted = (total * 2 ** max(shift, 0) + 2**31) % 2**32 - 2**31
    high = math.floor(Fraction(shifted * multiplier, 2**31) + Fraction(1, 2))
    magnitude = math.floor(Fraction(abs(high), 2 ** max(-shift, 0)) + Fraction(1, 2))
    return min(max(magnitude if high >= 0 else -magnitude, 0), 255)


@settings(max_examples=300, deadline=None)
@given(values=st.lists(st.integers(-128, 127), min_size=1, max_size=30), zero_point=st.integers(-128, 127),
       multiplier=st.integers(0, 2**31 - 1), shift=st.integers(-31, 30) | st.integers(-6, 2))
def test_scores(values, zero_point, multiplier, shift):
    output = torch.tensor(values, dtype=torch.int8).view(1, 1, -1)
    above = [value - zero_point for value in values]
    expected = {"max": min(max(max(above), 0), 255), "absmax": min(max(map(abs, above)), 255),
                "mean": mean_score(values, zero_point, multiplier, shift)}
    for score, value in expected.items():
        ranking = Ranking(score=score, select="all", score_multiplier=multiplier, score_shift=shift)
        assert channel_scores(output, zero_point, ranking).tolist() == [value]


def test_floating_point_is_refused_by_name():
    with pytest.raises(TypeError, match=r"^output: expected an integer tensor"):
        channel_scores(torch.zeros(1, 1, 1), 0)
    with pytest.raises(TypeError, match=r"^scores: expected an integer tensor"):
        select_winners(torch.zeros(1))


@pytest.mark.parametrize(("fields", "message"), [
    ({"score": "sum"}, "score: expected one of max, absmax, mean, got 'sum'"),
    ({"select": "best"}, "select: expected one of all, topk, energy, threshold, got 'best'"),
    ({"select": "topk"}, "select_value: expected k in 1..65535 (an integer) for topk, got 0"),
    ({"select": "topk", "value": 1.5}, "select_value: expected k in 1..65535 (an integer) for topk, got 1.5"),
    ({"select": "topk", "value": None}, "select_value: expected a number, got None"),
    ({"select": "energy", "value": 1.01}, "select_value: expected eps in 0..1 for energy, got 1.01"),
    ({"select": "energy", "value": math.nan}, "select_value: expected eps in 0..1 for energy, got nan"),
    ({"select": "threshold", "value": 256},
     "select_value: expected a score in 0..255 (an integer) for threshold, got 256"),
    ({"select": "energy", "energy_power": 3}, "energy_power: expected 1 or 2, got 3"),
    ({"score": "mean", "score_multiplier": -1}, "score_multiplier: expected an integer in 0..2147483647, got -1"),
    ({"score": "mean", "score_shift": 31}, "score_shift: expected an integer in -31..30, got 31"),
])
def test_ranking_refuses(fields, message):
    with pytest.raises(JobError) as error:
        Ranking(**({"score": "max", "select": "all"} | fields))
    assert str(error.value) == message
