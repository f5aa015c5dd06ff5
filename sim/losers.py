"""Which output planes a layer leaves out: those of channels that are known to lose before they are written."""

import numpy as np

from hw.descriptor import Select
from hw.lowering import Ranking
from hw.plan import Plan


def written_planes(plan: Plan, ranking: Ranking, scores: np.ndarray) -> np.ndarray:
    """Which output planes are written (bool [O]), from their scores (uint8 [O]).

    A plane is left out if its score is below the threshold; of top-k below the k-th highest score of all channels up to
    and including those that are judged with it: those of its group, in the vector unit itself alone.
    """
    written = np.ones(len(scores), bool)
    if not plan.skips_losers:
        return written
    if ranking.select == Select.THRESHOLD:
        return scores >= ranking.value
    first = 0
    for judged, count in judgements(plan):
        if judged > ranking.value:
            bound = np.partition(scores[:judged], judged - ranking.value)[judged - ranking.value]
            written[first:judged] = scores[first:judged] >= bound
        first += count
    return written


def mean_planes(plan: Plan, ranking: Ranking, winners: int | None) -> float:
    """How many output planes are written in the mean; ``winners``: as many as the threshold lets win, if known."""
    total = plan.layer.out_channels
    if not plan.skips_losers:
        return total
    if ranking.select == Select.THRESHOLD:
        return total if winners is None else winners
    # Of n channels in random order the last one is among the k best with probability k / n.
    return sum(min(1.0, ranking.value / judged) * count for judged, count in judgements(plan))


def judgements(plan: Plan) -> list[tuple[int, int]]:
    """Channels that are judged together: (how many up to and including them, how many)."""
    if plan.shape.vector:
        return [(channel + 1, 1) for channel in range(plan.layer.out_channels)]
    found, last = [], 0
    for _ in range(plan.layer.groups):
        for group in range(plan.groups):
            count = plan.last_columns if group == plan.groups - 1 else plan.config.columns
            last += count
            found.append((last, count))
    return found
