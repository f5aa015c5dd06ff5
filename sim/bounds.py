"""What the bounds of array and vector layers share: how a layer is cut, and what comes before and behind its work.

A bound is never above the analytical model's figure (:mod:`sim.analytical`). It counts, for many engines at once, what
each part of an engine does of a layer by itself: loading, computing, draining, writing. The slowest one is the bound,
with the latency before its first and behind its last piece of work. What it leaves out is that these parts wait for
each other in between: for constants, buffers, the output ring, and for the first weights of every later band.
"""

from dataclasses import dataclass, fields

import numpy as np

from hw.config import ceil_div
from hw.descriptor import Select
from hw.winner_list import CHUNK

from .costs import (
    ISSUE_TO_BEAT,
    LAYER_END,
    LIST,
    RANKING,
    RUN_TO_BURST,
    SCORES,
    SELECT,
    WAIT_TO_LIST,
    WALK,
    WINNERS_END,
)
from .engine_space import Engines
from .estimate import LayerQuestion


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """How engines cut a layer (:class:`hw.plan.Plan`): [P] each.

    ``kind``: which of the layer's tables holds; ``bands`` and ``descriptors``; ``repeats``: times that the activations
    are read; ``kept``: weights stay on chip for all bands; ``passes``: the weights of a group do not fit at once.
    ``refused``: the layer cannot run; ``loose``: how it is cut is not followed, the others are least values then.
    """

    kind: np.ndarray
    bands: np.ndarray
    descriptors: np.ndarray
    repeats: np.ndarray
    kept: np.ndarray
    passes: np.ndarray
    refused: np.ndarray
    loose: np.ndarray

    def where(self, mask: np.ndarray, other: "Cut") -> "Cut":
        """The ``other`` one where ``mask`` holds."""
        return Cut(**{one.name: np.where(mask, getattr(other, one.name), getattr(self, one.name))
                      for one in fields(self)})


@dataclass(frozen=True, kw_only=True, eq=False)
class Cost:
    """Of a layer on many engines: cycles at least, and bytes at least, [P] each."""

    cycles: np.ndarray
    bytes: np.ndarray


def ceiling(a, b):
    """Smallest integers >= a / b of arrays."""
    return -(-a // b)


def first_strip(question: LayerQuestion, strip, channels: int) -> tuple[float, np.ndarray]:
    """Cycles from a layer's begin to the complete list of winners among its first ``channels``, and to the mark behind
    the first strip of activations, which takes ``strip`` cycles."""
    if question.winners[0] is None:
        return WAIT_TO_LIST - 1, WALK + ISSUE_TO_BEAT + strip
    rate = question.counts[0] / question.shape.channels
    runs = channels * rate * (1 - rate) + rate
    chunks = ceil_div(channels, CHUNK)
    scan = runs + chunks * np.exp(-runs / chunks)
    begun = WAIT_TO_LIST + ISSUE_TO_BEAT + LIST
    # Runs are loaded as they are found.
    behind = np.maximum(scan / max(1.0, runs) + strip, scan + strip / max(1.0, runs))
    return begun + scan, begun + RUN_TO_BURST + ISSUE_TO_BEAT - 1 + behind


def finish(question: LayerQuestion, engines: Engines, outputs) -> np.ndarray:
    """Cycles from a layer's last strip in memory to its end: the scores of ``outputs`` channels, and the ranking."""
    scores = SCORES + ceiling(outputs, engines.axi_bytes)
    select = question.ranking.select
    if select == Select.ALL:
        return scores + LAYER_END
    config = engines.base
    search = SELECT + RANKING[select] + ((config.max_channels - 1).bit_length() if select == Select.ENERGY else 0)
    return search + ceil_div(question.shape.out_channels, config.rank_lanes) - 1 + WINNERS_END + 0 * scores


def mask_bytes_written(question: LayerQuestion) -> int:
    """Scores and winners."""
    outputs = question.shape.out_channels
    return outputs + (ceil_div(outputs, 8) if question.ranking.select != Select.ALL else 0)
