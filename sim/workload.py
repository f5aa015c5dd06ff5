"""A layer as the analytical model sees it: its plan, and who takes part."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hw.config import ceil_div
from hw.descriptor import Score, Select
from hw.lowering import Ranking
from hw.plan import Plan
from hw.winner_list import CHUNK

NO_RANKING = Ranking()
"""Maximum scores, and every channel wins."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Workload:
    """A planned layer and what is known of its channels.

    Parameters
    ----------
    plan, ranking : of the layer
    winners : for each input how many of its channels take part, or which (bool or uint8 [C])
    masked : for each input whether its winners are read from memory
    blocks : of a layer whose zero blocks are left out, those of :func:`hw.packing.used_blocks`
    scores : of the outputs (uint8 [O]), or how many of these win; of a layer that leaves out its losers' planes
    in_memory : whether the output is written to memory; else it only stays on chip
    """

    plan: Plan
    ranking: Ranking = NO_RANKING
    winners: Sequence[int | np.ndarray]
    masked: Sequence[bool] = (False,)
    blocks: np.ndarray | None = None
    scores: np.ndarray | int | None = None
    in_memory: bool = True

    @cached_property
    def masks(self) -> list[np.ndarray | None]:
        """Of each input its winners (bool [C]), where they are known."""
        return [np.asarray(one, bool) if isinstance(one, np.ndarray) else None for one in self.winners]

    @cached_property
    def winner_counts(self) -> list[int]:
        """Of each input how many channels take part."""
        return [int(one.sum()) if isinstance(one, np.ndarray) else int(one) for one in self.winners]

    @property
    def is_mean(self) -> bool:
        """Scores are means."""
        return self.ranking.score == Score.MEAN

    @property
    def is_ranked(self) -> bool:
        """Winners are selected, and written."""
        return self.ranking.select != Select.ALL

    def chosen(self, first: int, count: int, operand: int = 0) -> tuple[float, float]:
        """Winners among ``count`` channels from ``first``, and the runs that they form; means if only their number is
        known."""
        mask, total = self.masks[operand], self.plan.layer.channels
        if mask is not None:
            return runs_of(mask[first:first + count])
        rate = self.winner_counts[operand] / total
        return count * rate, count * rate * (1 - rate) + rate

    def listed(self, part: int, group: int) -> tuple[float, float]:
        """Of a layer whose zero blocks are left out: the winners on a group's list, and their runs."""
        used = self.blocks[part, group]
        depth = len(used)
        if self.masks[0] is not None:
            return runs_of(used & self.masks[0][part * depth:(part + 1) * depth])
        winners, runs = runs_of(used)
        rate = self.winner_counts[0] / self.plan.layer.channels
        # A winner starts a run where the one before it on the list does not take part, or is not its neighbour.
        return winners * rate, winners * rate * (1 - rate) + runs * rate * rate

    def list_cycles(self, first: int, count: int, operand: int = 0, listed: np.ndarray | None = None) -> float:
        """Cycles that the winner list takes for its chunks of 16 channels: a cycle a run that goes through one."""
        skip = first % CHUNK
        chunks = ceil_div(count + skip, CHUNK)
        mask = self.masks[operand]
        if listed is not None or mask is not None:
            taking = np.ones(count, bool) if mask is None else mask[first:first + count]
            bits = np.zeros(chunks * CHUNK, bool)
            bits[skip:skip + count] = taking if listed is None else taking & listed
            rows = bits.reshape(chunks, CHUNK)
            begins = rows[:, 0].astype(int) + (rows[:, 1:] & ~rows[:, :-1]).sum(1)
            # A run that ended with the chunk before is listed in this one.
            begins[1:] += rows[:-1, -1] & ~rows[1:, 0]
            return float(np.maximum(begins, 1).sum())
        _, runs = self.chosen(first, count, operand)
        return runs + chunks * np.exp(-runs / chunks)


def runs_of(mask: np.ndarray) -> tuple[int, int]:
    """How many channels take part, and how many runs they form."""
    winners = int(np.count_nonzero(mask))
    if not winners:
        return 0, 0
    return winners, int(mask[0]) + int(np.count_nonzero(mask[1:] & ~mask[:-1]))
