"""Accuracy at many winner rates: with and without fine-tuning, by either score (Fig. 3, 5 and 6 of DASNet)."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path

from torch import nn

from golden.dasnet.finetune import analysed_images, fine_tune, rules_of
from golden.dasnet.training import Progress, Schedule, View, accuracy
from golden.dasnet.winner_rates import rate_curves
from golden.dasnet.winners import attach, detach
from golden.datasets import Split


def rates_of_energies(network: nn.Module, layers: Sequence[str], energies: Sequence[float], training: Split, view: View,
                      *, seed: int) -> dict[str, list[float]]:
    """The winner rate of each of ``layers`` at each of ``energies``, by Eq. 2 for neurons and Eq. 5 for channels.

    Activations are those of ``network``, without winners, for 1,000 training images that ``seed`` draws, the same as
    :func:`golden.dasnet.finetune.flow` takes.
    """
    return rate_curves(network, analysed_images(training, view, seed=seed), layers, energies)


def accuracies_at(network: nn.Module, points: Sequence[Mapping[str, float]], test: Split, view: View, *,
                  score: str | Mapping[str, str] = "max", progress: Progress | None = None) -> list[float]:
    """The accuracy on ``test`` with winners at each of ``points`` {layer: rate}, as the weights of ``network`` are.

    ``score``: as of :func:`golden.dasnet.finetune.rules_of`. ``network`` is not changed; winners that are attached to
    it are not taken.
    """
    copy, found = deepcopy(network), []
    for rates in points:
        detach(copy)
        attach(copy, rules_of(rates, score))
        found.append(accuracy(copy, test, view, progress=progress))
    return found


def fine_tuned_accuracies_at(network: nn.Module, points: Sequence[Mapping[str, float]], training: Split, test: Split,
                             view: View, schedule: Schedule, *, seed: int, folder: Path, progress: Progress,
                             score: str = "max") -> list[float]:
    """The same, each point after its own fine-tuning of the weights of ``network``, which teaches it.

    Each leaves a file in ``folder``: after an interruption finished ones are not repeated.
    """
    found = []
    for number, rates in enumerate(points):
        copy, teacher = deepcopy(network), deepcopy(network)
        detach(teacher)
        fine_tune(copy, rules_of(rates, score), training, view, schedule, seed=seed, progress=progress,
                  checkpoint=folder / f"{score}{number + 1}.pt", label=f"{score} {number + 1}/{len(points)}",
                  teacher=teacher)
        found.append(accuracy(copy, test, view, progress=progress))
    return found
