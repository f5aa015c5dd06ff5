"""Training and fine-tuning, resumable after an interruption, and the accuracy of a float network."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from golden.checks import check
from golden.dasnet.winners import gradually
from golden.datasets import Split

Progress = Callable[[Iterable, str], Iterable]
"""Wraps the batches of an epoch, whose label it gets."""
Augment = Callable[[Tensor, torch.Generator], Tensor]
"""Images uint8 [N,C,H,W] as float input of the network in 0..1, moved about at random."""
EVALUATION_BATCH = 500


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How a network is trained: AdamW or SGD with momentum, the learning rate falling as a cosine to zero.

    ``distillation``: weight of the divergence from the teacher's outputs, where there is a teacher, beside that of the
    labels, which has the rest. ``gradual``: the fraction of the steps in which fixed winner rates fall evenly from 1 to
    their own; 0 where these hold from the first step.
    """

    epochs: int
    learning_rate: float
    batch: int = 128
    weight_decay: float = 0.0
    optimizer: str = "adamw"
    label_smoothing: float = 0.0
    distillation: float = 0.0
    gradual: float = 0.0
    bfloat16: bool = True

    def __post_init__(self):
        check(self.epochs >= 0, "epochs", "a number of at least 0", self.epochs)
        check(self.optimizer in ("adamw", "sgd"), "optimizer", "adamw or sgd", self.optimizer)
        check(0 < self.learning_rate < 10, "learning_rate", "a number above 0, below 10", self.learning_rate)
        check(0 <= self.gradual <= 1, "gradual", "a fraction in 0..1", self.gradual)

    def start(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """An optimizer at the first step."""
        if self.optimizer == "sgd":
            return torch.optim.SGD(parameters, lr=self.learning_rate, momentum=0.9, nesterov=True,
                                   weight_decay=self.weight_decay)
        return torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)

    def way(self, step: int, steps: int) -> float:
        """How far fixed winner rates have come from 1 to their own in step ``step`` of ``steps``, counted from 0."""
        return min(1.0, (step + 1) / (self.gradual * steps)) if self.gradual else 1.0


@dataclass(frozen=True, kw_only=True)
class View:
    """How a network sees images: ``augment`` for training; for evaluation ``crop``, uint8 as uint8, and ``scale``,
    uint8 as the network's float input."""

    augment: Augment
    crop: Callable[[Tensor], Tensor]
    scale: Callable[[Tensor], Tensor]

    def plain(self, images: Tensor) -> Tensor:
        """Images uint8 [N,C,H,W] as the network's float input."""
        return self.scale(self.crop(images))


@dataclass(kw_only=True)
class _State:
    """What a checkpoint holds, beside the run that it belongs to."""

    parts: dict[str, object]
    run: dict[str, object]
    epoch: int = field(default=0)

    def load(self, path: Path) -> None:
        try:
            state = torch.load(path, weights_only=True)
            found = state["run"]
        except Exception as error:
            raise ValueError(f"checkpoint: expected a readable one, remove {path} to start again ({error})") from None
        if found != self.run:
            raise ValueError(f"checkpoint: expected a training of {self.run}, found {found} in {path}")
        self.epoch = state["epoch"]
        for name, part in self.parts.items():
            part.load_state_dict(state[name])

    def save(self, path: Path) -> None:
        partial = path.with_suffix(".partial")
        torch.save({name: part.state_dict() for name, part in self.parts.items()}
                   | {"run": self.run, "epoch": self.epoch}, partial)
        partial.replace(path)


def train(network: nn.Module, split: Split, view: View, schedule: Schedule, *, seed: int, checkpoint: Path,
          progress: Progress, label: str = "", teacher: nn.Module | None = None,
          after_step: Callable[[], None] | None = None) -> None:
    """Train ``network`` in place on ``split``; winners are taken where they are attached, by their rules when it ends.

    The state is kept in the file ``checkpoint`` after each epoch and taken up from there: an epoch draws from its own
    seed, so that an interrupted training gives the same result. ``after_step`` runs behind each step (to keep pruned
    weights at zero). Raises ValueError for a checkpoint of another training.
    """
    optimizer = schedule.start(network.parameters())
    steps = math.ceil(len(split.labels) / schedule.batch)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, schedule.epochs * steps))
    state = _State(parts={"network": network, "optimizer": optimizer, "decay": decay},
                   run={"label": label, "seed": seed, "epochs": schedule.epochs, "rate": schedule.learning_rate,
                        "gradual": schedule.gradual, "images": len(split.labels)})
    if checkpoint.exists():
        state.load(checkpoint)
    network.train().to(memory_format=torch.channels_last)
    if teacher is not None:
        teacher.eval().to(memory_format=torch.channels_last)
    with gradually(network) as come:
        for epoch in range(state.epoch, schedule.epochs):
            generator = torch.Generator().manual_seed(seed * 1000 + epoch)
            torch.manual_seed(seed * 1000 + epoch)  # dropout draws from the one that all share
            batches = torch.randperm(len(split.labels), generator=generator).split(schedule.batch)
            epoch_label = f"{label} epoch {epoch + 1}/{schedule.epochs}".strip()
            for step, rows in enumerate(progress(batches, epoch_label), epoch * steps):
                come(schedule.way(step, schedule.epochs * steps))
                images = _channels_last(view.augment(take(split.images, rows), generator))
                loss = _loss(network, teacher, images, take(split.labels, rows), schedule)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                decay.step()
                if after_step:
                    after_step()
            state.epoch = epoch + 1
            state.save(checkpoint)
    network.eval()


def take(array: np.ndarray, rows: Tensor) -> Tensor:
    """Rows of a memory-mapped array, read in the order of the file."""
    order = rows.sort()
    return torch.from_numpy(array[order.values.numpy()])[order.indices.argsort()]


def _channels_last(images: Tensor) -> Tensor:
    """Planes as PyTorch convolves them fastest on a CPU: 1.25 to 1.8 times as fast as planes one behind the other."""
    return images.contiguous(memory_format=torch.channels_last) if images.dim() == 4 else images


def _loss(network: nn.Module, teacher: nn.Module | None, images: Tensor, labels: Tensor, schedule: Schedule) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=schedule.bfloat16):
        outputs = network(images)
        target = None
        if teacher is not None and schedule.distillation:
            with torch.no_grad():
                target = teacher(images)
    outputs = outputs.float()
    loss = functional.cross_entropy(outputs, labels, label_smoothing=schedule.label_smoothing)
    if target is None:
        return loss
    divergence = functional.kl_div(outputs.log_softmax(1), target.float().log_softmax(1), reduction="batchmean",
                                   log_target=True)
    return (1 - schedule.distillation) * loss + schedule.distillation * divergence


@torch.no_grad()
def accuracy(network: nn.Module, split: Split, view: View, *, progress: Progress | None = None) -> float:
    """The fraction of ``split`` that the float network classifies rightly, in evaluation mode."""
    network.eval()
    batches = torch.arange(len(split.labels)).split(EVALUATION_BATCH)
    right = 0
    for rows in progress(batches, "accuracy") if progress else batches:
        images = view.plain(take(split.images, rows))
        right += (network(images).argmax(1).numpy() == split.labels[rows.numpy()]).sum()
    return float(right / len(split.labels))
