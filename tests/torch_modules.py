"""Small PyTorch modules with drawn weights, their images, and the real values of the int8 networks that they become."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from golden.network import QuantizedNetwork
from golden.preprocess import quantize_input
from golden.quantization import run_batch

IMAGE = (4, 6, 9, 10)
"""Sizes of the images that most modules take."""


class Net(nn.Module):
    """``forward(net, x)`` with submodules by name."""

    def __init__(self, forward: Callable, **parts: nn.Module):
        super().__init__()
        self.function = forward
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x):
        return self.function(self, x)


def drawn(module: nn.Module, seed: int = 0) -> nn.Module:
    """``module`` in evaluation mode with weights, and statistics of normalization, drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            spread = 1 / math.sqrt(tensor[0].numel()) if tensor.ndim > 1 else 0.3
            tensor.normal_(0, spread, generator=generator)
            if name.endswith(("running_var", "bn.weight")):
                tensor.abs_().add_(0.5)
    return module.eval()


def images_of(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pixels_of(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def real_output(network: QuantizedNetwork, images: Tensor, **options) -> np.ndarray:
    """The last layer's real values, all of an image in a row."""
    last = network.layers[-1]
    output = run_batch(network, quantize_input(network, images), **options)[-1].output.flatten(1).numpy()
    return (output.astype(np.float64) - last.output_zero_point) * last.output_scale
