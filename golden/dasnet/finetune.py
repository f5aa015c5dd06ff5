"""DASNet's fine-tuning flow (Fig. 8): baseline, thresholds, fine-tuning, accuracy against MACs, next threshold."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from golden.checks import check
from golden.dasnet import macs
from golden.dasnet.training import Progress, Schedule, View, accuracy, take, train
from golden.dasnet.winner_rates import collect, rates_at
from golden.dasnet.winners import WinnerStatistics, attach, detach, record
from golden.datasets import Split
from golden.winner_rule import WinnerRule

ANALYSED_IMAGES = 1000
"""Training images whose activations select the winner rates (section III-A)."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One round of the flow.

    ``energies`` {layer: threshold}; ``rates`` {layer: winner rate that it selects}; ``accuracy`` with winners after
    fine-tuning; ``drop`` from the baseline's; ``macs``: of an image, ``reduction`` the fraction saved; ``checkpoint``:
    the file of the network's weights.
    """

    energies: dict[str, float]
    rates: dict[str, float]
    accuracy: float
    drop: float
    macs: float
    reduction: float
    checkpoint: str

    def fields(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))


def rules_of(rates: Mapping[str, float], score: str | Mapping[str, str] = "max") -> dict[str, WinnerRule]:
    """Fixed winner rates as rules; ``score``: of all layers, or of each."""
    return {name: WinnerRule(score=score if isinstance(score, str) else score[name], select="topk", rate=rate)
            for name, rate in rates.items()}


def analysed_images(training: Split, view: View, *, seed: int) -> Tensor:
    """1,000 training images that ``seed`` draws, as the network's input."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(training.labels), generator=generator)[:ANALYSED_IMAGES]
    return view.plain(take(training.images, rows))


def fine_tune(network: nn.Module, rules: Mapping[str, WinnerRule], training: Split, view: View, schedule: Schedule, *,
              seed: int, checkpoint: Path, progress: Progress, label: str, teacher: nn.Module | None = None,
              after_step: Callable[[], None] | None = None) -> None:
    """Fine-tune ``network`` in place with winners by ``rules``, which stay attached (Algorithm 1).

    ``after_step``: as of :func:`golden.dasnet.training.train`.
    """
    detach(network)
    attach(network, rules)
    train(network, training, view, schedule, seed=seed, checkpoint=checkpoint, progress=progress, label=label,
          teacher=teacher, after_step=after_step)


def winner_statistics(network: nn.Module, split: Split, view: View) -> dict[str, WinnerStatistics]:
    """The winners of each ranked layer over the first 1,000 images of a split; leaves evaluation mode on."""
    rows = torch.arange(min(ANALYSED_IMAGES, len(split.labels)))
    network.eval()
    with torch.no_grad(), record(network) as statistics:
        network(view.plain(take(split.images, rows)))
    return statistics


def mean_rates(network: nn.Module, split: Split, view: View) -> dict[str, float]:
    """The winner rate of each ranked layer, as :func:`winner_statistics` has it."""
    return {name: one.rate for name, one in winner_statistics(network, split, view).items()}


def flow(network: nn.Module, ranked: Sequence[str], energies: Sequence[Mapping[str, float]], training: Split,
         test: Split, view: View, schedule: Schedule, *, max_drop: float, seed: int, folder: Path,
         progress: Progress, report: Callable[[Step], None], score: str | Mapping[str, str] = "max",
         rules: Mapping[str, WinnerRule] | None = None, teacher: nn.Module | None = None,
         after_step: Callable[[], None] | None = None) -> list[Step]:
    """Lower the thresholds round by round while the accuracy's drop stays within ``max_drop``.

    ``energies``: the thresholds of each round, falling, for the layers ``ranked``; ``score``: as of :func:`rules_of`;
    ``rules``: of layers beside them, the same in every round; ``after_step``: as of
    :func:`golden.dasnet.training.train`. Rates follow from the baseline's activations on 1,000 training images
    (:mod:`golden.dasnet.winner_rates`); each round fine-tunes the weights of the one before, taught by
    ``teacher``, or by the baseline where it is None. Returns all rounds, of which the last may be beyond the bound;
    ``network`` then has weights and winners of the one with the fewest MACs within it, of the baseline if there is
    none. Every round leaves a file in ``folder``: after an interruption finished ones are not repeated, and one begun
    goes on behind its last epoch.
    """
    check(len(energies) > 0, "energies", "at least one round of thresholds", len(energies))
    folder.mkdir(parents=True, exist_ok=True)
    images = analysed_images(training, view, seed=seed)
    baseline = deepcopy(network)
    detach(baseline)
    baseline_accuracy = accuracy(baseline, test, view)
    collected = collect(baseline, images, list(ranked))
    best, steps = None, []
    for number, thresholds in enumerate(energies):
        rates = rates_at(collected, thresholds)
        label = f"round {number + 1}/{len(energies)}"
        checkpoint = folder / f"round{number + 1}.pt"
        chosen_rules = rules_of(rates, score) | dict(rules or {})
        fine_tune(network, chosen_rules, training, view, schedule, seed=seed + number, checkpoint=checkpoint,
                  progress=progress, label=label, teacher=teacher or baseline, after_step=after_step)
        counted = macs.count(network, images[:1], mean_rates(network, test, view))
        found = accuracy(network, test, view)
        steps.append(Step(energies=dict(thresholds), rates=rates, accuracy=found, drop=baseline_accuracy - found,
                          macs=macs.total(counted)[1], reduction=macs.reduction(counted), checkpoint=checkpoint.name))
        report(steps[-1])
        if steps[-1].drop > max_drop:
            break
        best = deepcopy(network.state_dict()), chosen_rules
    detach(network)
    state, chosen_rules = best or (baseline.state_dict(), {})
    network.load_state_dict(state)
    attach(network, chosen_rules)
    return steps
