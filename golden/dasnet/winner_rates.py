"""Winner rates from what a network computes: by the cumulative energy of neurons, and of singular values of maps."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from golden.checks import check
from golden.dasnet.winners import as_baseline, submodules

SCALE = 65536
"""Thresholds are multiples of 1 / ``SCALE``, as those of the selection are (docs/numerics.md)."""


class Neurons(NamedTuple):
    """The activations float [N,C] of a fully connected layer's C neurons for N images."""

    activations: Tensor

    def rates(self, energies: Sequence[float], *, power: int = 1) -> Tensor:
        """:func:`energy_rates` of these activations."""
        return energy_rates(self.activations, energies, power=power)


class FeatureMaps(NamedTuple):
    """The feature vectors of a convolutional layer, one a pixel and image, X [N,C], as ``gram`` = X^T X float64 [C,C].

    X itself is rarely worth its memory: the singular values of X are the square roots of the eigenvalues of ``gram``.
    """

    gram: Tensor

    def rates(self, energies: Sequence[float], *, power: int = 1) -> Tensor:
        """:func:`svd_rates` of these feature vectors."""
        values = torch.linalg.eigvalsh(self.gram).clamp(min=0).sqrt()
        return _needed(values[None], energies, power)


def energy_rates(activations: Tensor, energies: Sequence[float], *, power: int = 1) -> Tensor:
    """The winner rate of a fully connected layer at each of T ``energies`` (Eq. 2); float64 [T].

    ``activations`` float [N,C]: for each image the fraction of neurons that the selection "energy" of
    :func:`golden.dasnet.winners.mask` takes, the fewest whose summed ``activation ** power`` has this share of the
    whole, at least one; the mean over the images. Activations below 0 count as 0. Raises JobError.
    """
    check(activations.ndim == 2 and len(activations) > 0, "activations", "[N,C], N at least 1", list(activations.shape))
    return _needed(activations.clamp(min=0), energies, power)


def svd_rates(features: Tensor, energies: Sequence[float], *, power: int = 1) -> Tensor:
    """The winner rate of a convolutional layer at each of T ``energies`` (Eq. 5); float64 [T].

    ``features`` float [N,C]: the vectors of all channels at each pixel of each image. What is summed are the
    singular values (the diagonal of Sigma in ``features`` = U Sigma V^T, not centred), to this ``power``: the fewest of
    them whose sum has this share of the sum of all, at least one, divided by C. Power 1 is the paper's reading, power
    2 sums the eigenvalues of ``features^T features``. Precise to 1e-8 of the largest one. Raises JobError.
    """
    check(features.ndim == 2 and len(features) > 0, "features", "[N,C], N at least 1", list(features.shape))
    return FeatureMaps(_gram(features)).rates(energies, power=power)


def energy_rate(activations: Tensor, energy: float, *, power: int = 1) -> float:
    """:func:`energy_rates` at one energy."""
    return energy_rates(activations, [energy], power=power).item()


def svd_rate(features: Tensor, energy: float, *, power: int = 1) -> float:
    """:func:`svd_rates` at one energy."""
    return svd_rates(features, [energy], power=power).item()


def _needed(scores: Tensor, energies: Sequence[float], power: int) -> Tensor:
    """At each energy the fraction of the scores [N,C] that is needed, in the mean over the rows; float64 [T]."""
    check(power in (1, 2), "power", "1 or 2", power)
    for energy in energies:
        valid = isinstance(energy, (int, float)) and 0 <= energy <= 1
        check(valid, "energies", "numbers in 0..1", repr(energy))
    shares = torch.tensor([round(SCALE * energy) / SCALE for energy in energies], dtype=torch.float64)
    energy = scores.cpu().double().sort(dim=1, descending=True).values.pow(power).cumsum(1)
    too_few = torch.searchsorted(energy, shares * energy[:, -1:])
    return (too_few + 1).double().mean(0) / scores.shape[1]


def _gram(features: Tensor) -> Tensor:
    features = features.cpu().double()
    return features.T @ features


# Of a network


@torch.no_grad()
def collect(network: nn.Module, images: Tensor, names: Sequence[str], *,
            batch: int = 100) -> dict[str, Neurons | FeatureMaps]:
    """Run ``images`` [N,...] and keep the outputs of the submodules ``names``, as their winner rates need them.

    Outputs [N,C] are those of fully connected layers, [N,C,H,W] those of convolutional ones. The paper takes 1,000
    random images of the training set. The network runs in evaluation mode and without winners, whatever it is set to,
    and is then as it was; a submodule that is called more than once counts each time. Raises JobError for an unknown
    name, or an output of another form.
    """
    found = submodules(network, names)
    check(len(images) > 0, "images", "at least one", len(images))
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    grams: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor) -> None:
        check(isinstance(output, Tensor) and output.ndim in (2, 4), f"layer {name}", "an output [N,C] or [N,C,H,W]",
              list(getattr(output, "shape", ())))
        if output.ndim == 2:
            parts[name].append(output.to("cpu", copy=True))  # what follows may change it in place
        else:
            gram = _gram(output.movedim(1, -1).flatten(0, -2))
            grams[name] = grams[name] + gram if name in grams else gram

    hooks = [module.register_forward_hook(lambda _, __, output, name=name: keep(name, output))
             for name, module in found.items()]
    try:
        with as_baseline(network):
            for start in range(0, len(images), batch):
                network(images[start : start + batch])
    finally:
        for hook in hooks:
            hook.remove()
    for name in names:
        check(bool(parts[name]) or name in grams, f"layer {name}", "an output, as it is to be ranked", "none")
    return {name: FeatureMaps(grams[name]) if name in grams else Neurons(torch.cat(parts[name])) for name in names}


def rate_curves(network: nn.Module, images: Tensor, names: Sequence[str], energies: Sequence[float], *, power: int = 1,
                batch: int = 100) -> dict[str, list[float]]:
    """The winner rate of each submodule of ``names`` at each of ``energies``; see :func:`collect`."""
    collected = collect(network, images, names, batch=batch)
    return {name: one.rates(energies, power=power).tolist() for name, one in collected.items()}


def select_rates(network: nn.Module, images: Tensor, names: Sequence[str], energies: float | Mapping[str, float], *,
                 power: int = 1, batch: int = 100) -> dict[str, float]:
    """The winner rate of each submodule of ``names`` at its energy, or at one for all; see :func:`collect`."""
    energies = _energies_of(names, energies)
    return rates_at(collect(network, images, names, batch=batch), energies, power=power)


def rates_at(collected: Mapping[str, Neurons | FeatureMaps], energies: float | Mapping[str, float], *,
             power: int = 1) -> dict[str, float]:
    """The same of what :func:`collect` has kept, which serves any number of thresholds."""
    energies = _energies_of(list(collected), energies)
    return {name: one.rates([energies[name]], power=power).item() for name, one in collected.items()}


def _energies_of(names: Sequence[str], energies: float | Mapping[str, float]) -> Mapping[str, float]:
    """An energy for each name. Raises JobError."""
    if not isinstance(energies, Mapping):
        return dict.fromkeys(names, energies)
    for name in names:
        check(name in energies, "energies", f"one of each of {', '.join(names)}", f"none of {name}")
    return energies
