"""Winner rates from what a network's outputs lose: each layer's own cost, and the rates that save the MACs wanted."""

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from golden.checks import check
from golden.dasnet import macs
from golden.dasnet.finetune import rules_of
from golden.dasnet.training import Progress
from golden.dasnet.winners import attach, detach, record

UNITS = 100_000
"""MACs are counted in this fraction of all, rounded down, where rates are chosen."""


@dataclass(frozen=True)
class Choice:
    """Winners in one layer alone.

    ``rate``: of those that win; ``saved``: the fraction of the network's multiplications; ``divergence``: of its
    outputs from those without winners, the mean over the images, in nats.
    """

    score: str
    rate: float
    saved: float
    divergence: float


@torch.no_grad()
def choices(network: nn.Module, images: Tensor, layers: Mapping[str, str], rates: Sequence[float],
            scores: Sequence[str], *, progress: Progress, batch: int = 256,
            bfloat16: bool = False) -> dict[str, list[Choice]]:
    """What winners in each layer cost and save by themselves, as the weights of ``network`` are.

    Parameters
    ----------
    network : classifies; it is not changed, winners that are attached to it are not taken
    images : float [N,...], its inputs
    layers : {submodule: "conv" or "fc"}; of neurons the scores are the same, and the first alone is taken
    rates, scores : each is tried with each; rates of the same number of winners once
    bfloat16 : products of bfloat16, as in training

    The divergence is that of Kullback and Leibler, sum p log(p / q), p being without winners. Raises JobError.
    """
    check(len(images) > 0, "images", "at least one", len(images))
    copy = deepcopy(network).eval()
    detach(copy)
    parts = [part.contiguous(memory_format=torch.channels_last) if part.ndim == 4 else part
             for part in images.split(batch)]
    copy.to(memory_format=torch.channels_last)

    def log_probabilities() -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            return [copy(part).double().log_softmax(1) for part in parts]

    expected = log_probabilities()
    tried = [(name, score, rate) for name, kind in layers.items()
             for score in (scores if kind == "conv" else scores[:1]) for rate in sorted(rates)]
    found: dict[str, list[Choice]] = {name: [] for name in layers}
    for name, score, rate in progress(tried, "divergence"):
        attach(copy, rules_of({name: rate}, score))
        with record(copy) as statistics:
            outputs = log_probabilities()
        detach(copy)
        exact = statistics[name].rate
        if any(one.score == score and one.rate == exact for one in found[name]):
            continue
        lost = sum(functional.kl_div(output, target, reduction="sum", log_target=True).item()
                   for output, target in zip(outputs, expected, strict=True))
        saved = macs.reduction(macs.count(copy, images[:1], {name: exact}))
        found[name].append(Choice(score=score, rate=exact, saved=saved, divergence=lost / len(images)))
    return found


def cheapest(found: Mapping[str, Sequence[Choice]], saved: float) -> dict[str, Choice]:
    """Of each layer at most one choice, that save at least this fraction of the multiplications with the least sum of
    divergences; a layer without one ranks nothing.

    What layers save adds up exactly, what they cost only about. Exact, by dynamic programming, but that what a layer
    saves is rounded down to :data:`UNITS`. Raises JobError where so much cannot be saved.
    """
    most = sum(max((one.saved for one in options), default=0) for options in found.values())
    check(0 < saved <= most, "saved", f"a fraction of the MACs above 0, at most {most:.4f}", saved)
    units = math.ceil(saved * UNITS)
    cost = np.full(units + 1, np.inf)
    cost[0] = 0
    picks = []
    for options in found.values():
        # cost[u] of the layers so far, saving u units or more; behind this layer by each of its options, none first.
        behind = np.stack([cost, *(_shifted(cost, _units(one)) + one.divergence for one in options)])
        picks.append(behind.argmin(0))
        cost = behind.min(0)
    check(bool(np.isfinite(cost[units])), "saved", f"a fraction of the MACs below {most:.4f}", saved)
    chosen, left = {}, units
    for name, pick in reversed(list(zip(found, picks, strict=True))):
        if option := pick[left]:
            chosen[name] = found[name][option - 1]
            left = max(0, left - _units(chosen[name]))
    return {name: chosen[name] for name in found if name in chosen}


def _units(choice: Choice) -> int:
    return math.floor(choice.saved * UNITS + 1e-6)


def _shifted(cost: np.ndarray, units: int) -> np.ndarray:
    """What the other layers cost that have so many units less to save."""
    return cost[np.maximum(0, np.arange(len(cost)) - units)]
