"""A trained network with its winner rules: its file, its int8 form, and what both classify rightly."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from golden.checks import JobError, check
from golden.dasnet.recipes import Recipe, recipe
from golden.dasnet.training import Progress, accuracy, take
from golden.dasnet.winners import attach, attached, set_dense
from golden.datasets import Dataset, Split
from golden.import_torch import import_torch
from golden.int8_images import Int8Run, run_images
from golden.network import QuantizedNetwork
from golden.winner_rule import WinnerRule

CALIBRATION_IMAGES = 500
FORMAT = "winnow trained network 1"


@dataclass(kw_only=True)
class Trained:
    """A float network of :data:`golden.dasnet.recipes.RECIPES`, with winners attached where it ranks.

    ``metadata``: any JSON object: the command, the data's source, accuracies.
    """

    name: str
    network: nn.Module
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        """Of the network's name."""
        return recipe(self.name)

    @property
    def rules(self) -> dict[str, WinnerRule]:
        """The winner rules by submodule."""
        return {path: taking.rule for path, taking in attached(self.network).items()}

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        partial = path.with_suffix(".partial")
        torch.save({"format": FORMAT, "name": self.name, "state": self.network.state_dict(),
                    "rules": {name: rule.text() for name, rule in self.rules.items()}, "metadata": self.metadata},
                   partial)
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote. Raises JobError."""
        try:
            stored = torch.load(path, weights_only=True)
            fits = stored.get("format") == FORMAT
        except Exception:  # torch names its own reasons by many classes, none of them helps
            fits = False
        check(fits, str(path), "a file that winnow train wrote", "something else")
        network = recipe(stored["name"]).build()
        network.load_state_dict(stored["state"])
        attach(network, {name: WinnerRule.read(rule) for name, rule in stored["rules"].items()})
        network.eval()
        return cls(name=stored["name"], network=network, metadata=stored["metadata"])

    def accuracy(self, split: Split, *, dense: bool, progress: Progress | None = None) -> float:
        """The fraction of ``split`` that the float network classifies rightly."""
        set_dense(self.network, dense)
        try:
            return accuracy(self.network, split, self.recipe.view, progress=progress)
        finally:
            set_dense(self.network, False)

    def quantize(self, data: Dataset, *, seed: int = 0) -> QuantizedNetwork:
        """The int8 form, calibrated on training images drawn by ``seed``; its metadata is this one's and more."""
        view, generator = self.recipe.view, torch.Generator().manual_seed(seed)
        rows = torch.randperm(len(data.train.labels), generator=generator)[:CALIBRATION_IMAGES]
        images = view.plain(take(data.train.images, rows))
        # As it is read from its file: training leaves channels last, whose sums are rounded in another order.
        self.network.to(memory_format=torch.contiguous_format)
        mean, std = self.recipe.mean, self.recipe.std
        found = import_torch(self.network, images[:1], images, name=self.name,
                             normalize=None if mean is None else (mean, std))
        found.metadata.update(self.metadata, recipe=self.name)
        return found


def read_published(network: nn.Module, path: Path) -> None:
    """Load akamaster's weights, a file with ``state_dict`` of a parallel module. Raises JobError."""
    try:
        stored = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
        network.load_state_dict({name.removeprefix("module."): value for name, value in stored.items()})
    except Exception:  # a pickle, a shape or a name: all mean that the file is another one
        raise JobError(f"{path}: expected the published weights of this network, got something else") from None
    network.eval()


def recipe_of(network: QuantizedNetwork) -> Recipe:
    """The recipe of an int8 network that :meth:`Trained.quantize` made. Raises JobError."""
    name = network.metadata.get("recipe")
    if name is None:
        raise JobError(f"{network.name}: expected a network that winnow train wrote, its metadata name no recipe")
    return recipe(name)


def run_int8(network: QuantizedNetwork, split: Split, *, dense: bool = False,
             progress: Progress | None = None) -> Int8Run:
    """Run the images of ``split`` through an int8 network of :meth:`Trained.quantize`, as its recipe views them."""
    return run_images(network, split, dense=dense, crop=recipe_of(network).view.crop, progress=progress)
