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

from .losers import mean_planes, written_planes

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
    in_memory : whether the output is written to memory
    on_chip : whether it stays on chip; unless given, where it is not in memory
    """

    plan: Plan
    ranking: Ranking = NO_RANKING
    winners: Sequence[int | np.ndarray]
    masked: Sequence[bool] = (False,)
    blocks: np.ndarray | None = None
    scores: np.ndarray | int | None = None
    in_memory: bool = True
    on_chip: bool | None = None

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

    @property
    def reads_ahead(self) -> bool:
        """Its first group's constants and weights may be read while the layer before computes (hw/lowering.py)."""
        plan, shape = self.plan, self.plan.shape
        if self.masked[0] or shape.operands > 1 or shape.blocks:
            return False
        group_bytes = shape.channels * shape.taps * min(plan.config.columns, shape.out_channels)
        return shape.vector or (len(plan.chunks) == 1 and group_bytes <= plan.config.weight_buffer_bytes)

    @property
    def stays_on_chip(self) -> bool:
        """The output is written on chip, where it takes the place of activations that arrive."""
        return not self.in_memory if self.on_chip is None else self.on_chip

    @cached_property
    def written(self) -> np.ndarray | None:
        """Which output planes are written (bool [O]), if the scores are known."""
        known = isinstance(self.scores, np.ndarray)
        return written_planes(self.plan, self.ranking, self.scores) if known else None

    @property
    def planes_written(self) -> float:
        """Output planes that are written; a mean if the scores are not known."""
        if self.written is not None:
            return int(self.written.sum())
        return mean_planes(self.plan, self.ranking, self.scores)

    def judged(self, first: int, count: int) -> float | None:
        """How many of ``count`` output channels from ``first`` are written, where they are scored first; else None."""
        if not self.plan.skips_losers or (self.ranking.select == Select.TOPK
                                          and first + count <= self.ranking.value):
            return None
        if self.written is not None:
            return int(self.written[first:first + count].sum())
        if self.ranking.select == Select.TOPK:
            return count * self.ranking.value / (first + count)
        return count * self.planes_written / self.plan.layer.out_channels

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
