"""LeNet-4 with winners-take-all, as in Table I of DASNet: the float network, its training and its int8 form."""

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from golden.dasnet.winners import WinnersTakeAll, set_dense
from golden.digits import SIZE, Digits
from golden.job import Ranking
from golden.network import NetworkInput, QuantizedNetwork
from golden.networks import MODEL_PATH as MODEL_PATH
from golden.quantization import PIXEL_SCALE, PIXEL_ZERO_POINT, quantize_layer
from golden.winner_rule import WinnerRule

WINNER_RATES = {"conv1": 0.5, "conv2": 0.375, "fc1": 0.15}
FC1_ENERGY = 0.8
BATCH = 128
LEARNING_RATE = 1e-3


class LeNet4(nn.Module):
    """conv 5x5x32, pool, conv 5x5x64, pool, fc 3136-1024, fc 1024-10; ReLU, then winners-take-all, between them.

    Input float [N,1,28,28] in 0..1, output the class scores [N,10]. Convolutions keep the size of the map.
    """

    def __init__(self, *, rates: dict[str, float] = WINNER_RATES):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 5, padding=2)
        self.conv2 = nn.Conv2d(32, 64, 5, padding=2)
        self.fc1 = nn.Linear(64 * 7 * 7, 1024)
        self.fc2 = nn.Linear(1024, 10)
        self.winners = nn.ModuleDict({name: WinnersTakeAll(WinnerRule(rate=rate)) for name, rate in rates.items()})

    def layers(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The name and output of each layer in turn, as it is before the winners are taken (after ReLU and pool)."""
        for name in ("conv1", "conv2"):
            x = functional.max_pool2d(functional.relu(self.get_submodule(name)(x)), 2)
            yield name, x
            x = self.winners[name](x)
        x = functional.relu(self.fc1(x.flatten(1)))
        yield "fc1", x
        yield "fc2", self.fc2(self.winners["fc1"](x))

    def forward(self, x: Tensor) -> Tensor:
        return dict(self.layers(x))["fc2"]


def as_input(images: np.ndarray | Tensor) -> Tensor:
    """Images uint8 [N,28,28] as the float input [N,1,28,28] in 0..1."""
    return torch.as_tensor(images).unsqueeze(1).float() / 255


def augment(x: Tensor, *, generator: torch.Generator) -> Tensor:
    """Move each image by up to 2 pixels, turn it by up to 10 degrees and scale it by up to 10 %, at random."""
    angle, size, dx, dy = (2 * torch.rand(4, len(x), generator=generator) - 1)
    angle, size = angle * math.radians(10), 1 + 0.1 * size
    cosine, sine = size * angle.cos(), size * angle.sin()
    shift = 2 * 2 / SIZE  # the image spans -1..1
    theta = torch.stack((cosine, -sine, shift * dx, sine, cosine, shift * dy), dim=1).reshape(-1, 2, 3)
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)


def train(network: LeNet4, digits: Digits, *, epochs: int, seed: int, checkpoint: Path,
          progress: Callable[[Iterable, str], Iterable]) -> None:
    """Train ``network`` in place; one set of weights then serves dense and with winners-take-all.

    The first half of the epochs is dense; afterwards each batch is dense or takes winners with equal chance. The
    learning rate falls as a cosine over all of them. The state is kept in the file ``checkpoint`` after each epoch and
    taken up from there: an epoch draws from its own seed, so that an interrupted training gives the same result.
    ``progress(batches, label)`` wraps the batches of an epoch.
    """
    images, labels = as_input(digits.images), torch.as_tensor(digits.labels)
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * math.ceil(len(labels) / BATCH))
    parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
    run = {"epochs": epochs, "seed": seed}
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state["run"] != run:
            raise ValueError(f"checkpoint: expected a training of {run}, found {state['run']} in {checkpoint}")
        start = state["epoch"]
        for name, part in parts.items():
            part.load_state_dict(state[name])
    network.train()
    for epoch in range(start, epochs):
        generator = torch.Generator().manual_seed(seed * 1000 + epoch)
        batches = torch.randperm(len(labels), generator=generator).split(BATCH)
        sparse = torch.rand(len(batches), generator=generator) < (0.5 if epoch >= epochs // 2 else 0)
        steps = list(zip(batches, sparse.tolist(), strict=True))
        for rows, take_winners in progress(steps, f"epoch {epoch + 1}/{epochs}"):
            set_dense(network, not take_winners)
            loss = functional.cross_entropy(network(augment(images[rows], generator=generator)), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        partial = checkpoint.with_suffix(".partial")
        states = {name: part.state_dict() for name, part in parts.items()}
        torch.save({**states, "run": run, "epoch": epoch + 1}, partial)
        partial.replace(checkpoint)
    network.eval()


@torch.no_grad()
def float_accuracy(network: LeNet4, digits: Digits, *, dense: bool) -> float:
    """The fraction of ``digits`` that the float network classifies rightly."""
    set_dense(network, dense)
    guesses = torch.cat([network(as_input(images)).argmax(1) for images in torch.as_tensor(digits.images).split(500)])
    return (guesses == torch.as_tensor(digits.labels)).double().mean().item()


@torch.no_grad()
def quantize(network: LeNet4, images: np.ndarray) -> QuantizedNetwork:
    """The int8 form of ``network``, with output ranges from training ``images`` uint8 [N,28,28], dense and sparse.

    conv1 and conv2 keep the winners' number of the float network. The neurons of fc1 win until together they have
    the share ``FC1_ENERGY`` of all the neurons' sum. fc1 becomes a convolution whose kernel is the 7x7 map, fc2 a 1x1
    one.
    """
    outputs: dict[str, list[Tensor]] = {}
    for dense in (True, False):
        set_dense(network, dense)
        for name, output in network.layers(as_input(images)):
            outputs.setdefault(name, []).append(output)
    ranges = {name: (min(map(float, map(Tensor.min, parts))), max(map(float, map(Tensor.max, parts))))
              for name, parts in outputs.items()}
    rankings = {name: network.winners[name].rule.ranking(len(module.weight), 1)
                for name, module in (("conv1", network.conv1), ("conv2", network.conv2))}
    rankings["fc1"] = Ranking(score="max", select="energy", value=FC1_ENERGY, energy_power=1)

    layers, scale, zero_point = [], PIXEL_SCALE, PIXEL_ZERO_POINT
    for name, kernel in (("conv1", (5, 5)), ("conv2", (5, 5)), ("fc1", (7, 7)), ("fc2", (1, 1))):
        module, conv = network.get_submodule(name), name.startswith("conv")
        layers.append(quantize_layer(
            name=name, weight=module.weight.reshape(len(module.weight), -1, *kernel), bias=module.bias,
            input_scale=scale, input_zero_point=zero_point, output_range=ranges[name], relu=name != "fc2",
            padding=(2, 2, 2, 2) if conv else (0, 0, 0, 0), pool=(2, 2, 2, 2) if conv else None,
            ranking=rankings.get(name)))
        scale, zero_point = layers[-1].output_scale, layers[-1].output_zero_point
    pixels = NetworkInput(scale=PIXEL_SCALE, zero_point=PIXEL_ZERO_POINT, shape=(1, SIZE, SIZE))
    return QuantizedNetwork(name="lenet4", input=pixels, layers=tuple(layers))
