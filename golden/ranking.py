"""Scores of channels and the selection of winners, on integer tensors (docs/numerics.md)."""

import torch
from torch import Tensor

from golden.job import Ranking
from golden.numerics import requantize, require_integer, wrap_int32

DEFAULT = Ranking(score="max", select="all")


def channel_scores(output: Tensor, zero_point: int, ranking: Ranking = DEFAULT) -> Tensor:
    """Score each channel of an integer map [...,O,OH,OW] above its zero point; returns int64 [...,O], 0..255."""
    require_integer(output=output)
    above = output.to(torch.int64).flatten(-2) - zero_point
    if ranking.score == "max":
        score = above.amax(-1)
    elif ranking.score == "absmax":
        score = above.abs().amax(-1)
    else:
        multiplier, shift = torch.tensor(ranking.score_multiplier), torch.tensor(ranking.score_shift)
        score = requantize(wrap_int32(above.sum(-1)), multiplier, shift)
    return score.clamp(0, 255)


def select_winners(scores: Tensor, ranking: Ranking = DEFAULT) -> Tensor:
    """Mark the winners among scores [...,O]; of equal scores the lower index ranks first. Returns uint8 [...,O]."""
    require_integer(scores=scores)
    scores = scores.to(torch.int64)
    if ranking.select == "all":
        return torch.ones_like(scores, dtype=torch.uint8)
    if ranking.select == "threshold":
        return (scores >= ranking.value).to(torch.uint8)
    order = scores.argsort(dim=-1, descending=True, stable=True)
    place = order.argsort(dim=-1)
    if ranking.select == "topk":
        return (place < ranking.value).to(torch.uint8)
    energy = scores.gather(-1, order).pow(ranking.energy_power).cumsum(-1)
    too_few = 65536 * energy < ranking.eps16 * energy[..., -1:]
    return (place <= too_few.sum(-1, keepdim=True)).to(torch.uint8)
