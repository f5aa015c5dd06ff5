"""An int8 network on many images: what it classifies rightly, and which channels win."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from golden.datasets import Split
from golden.network import QuantizedNetwork
from golden.preprocess import quantize_pixels
from golden.quantization import run_batch

BATCH = 100


@dataclass(kw_only=True)
class Int8Run:
    """What an int8 network made of many images: ``accuracy``, and for each ranked layer ``counts`` [images], the number
    of winners, and ``frequency`` [C], the fraction of images in which each channel wins."""

    accuracy: float
    counts: Mapping[str, np.ndarray]
    frequency: Mapping[str, np.ndarray]

    @property
    def rates(self) -> dict[str, float]:
        """The mean winner rate of each ranked layer."""
        return {name: float(counts.mean() / len(self.frequency[name])) for name, counts in self.counts.items()}


def run_images(network: QuantizedNetwork, split: Split, *, dense: bool = False,
               crop: Callable[[Tensor], Tensor] | None = None,
               progress: Callable[[Iterable, str], Iterable] | None = None) -> Int8Run:
    """Run the images of ``split`` through ``network``, as the engine does, bit for bit.

    ``crop``: what is done to images uint8 [N,C,H,W] first; ``progress(batches, label)`` wraps the batches. The class is
    that of the largest output, the first among equals.
    """
    ranked = [node.name for node in network.layers if node.ranking is not None and not dense]
    counts, wins, right = {name: [] for name in ranked}, dict.fromkeys(ranked, 0), 0
    batches = np.array_split(np.arange(len(split.labels)), max(1, len(split.labels) // BATCH))
    for rows in progress(batches, "int8, dense" if dense else "int8") if progress else batches:
        images = torch.from_numpy(split.images[rows])
        pixels = (crop(images) if crop else images).numpy().reshape(-1, *network.input.shape)
        results = run_batch(network, quantize_pixels(network, pixels), dense=dense)
        right += int((results[-1].output.flatten(1).argmax(1).numpy() == split.labels[rows]).sum())
        for node, result in zip(network.layers, results, strict=True):
            if node.name in counts:
                counts[node.name].append(result.winners.sum(1, dtype=torch.int64).numpy())
                wins[node.name] = wins[node.name] + result.winners.sum(0, dtype=torch.int64).numpy()
    return Int8Run(accuracy=right / len(split.labels), counts={name: np.concatenate(counts[name]) for name in ranked},
                   frequency={name: wins[name] / len(split.labels) for name in ranked})
