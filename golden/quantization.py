"""Post-training quantization to TFLite int8, and the integer evaluation of many images at once."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from golden.network import QuantizedNetwork
from golden.node import Node
from golden.ranking import DEFAULT, channel_scores, select_winners
from golden.reference import compute


class BatchResult(NamedTuple):
    """One layer's output int8 [N,O,OH,OW], scores uint8 [N,O] and winners uint8 [N,O] of 0 and 1."""

    output: Tensor
    scores: Tensor
    winners: Tensor


def activation_scale(low: float, high: float) -> tuple[float, int]:
    """The (scale, zero_point) that spread -128..127 over ``low``..``high``, widened to hold 0 exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        raise ValueError(f"range: expected other values than {low}")
    scale = (high - low) / 255
    return scale, int(np.clip(np.rint(-128 - low / scale), -128, 127))


def run_batch(network: QuantizedNetwork, images: np.ndarray, *, dense: bool = False) -> list[BatchResult]:
    """Run images int8 [N,C,H,W] through all layers; equal, bit for bit, to :meth:`QuantizedNetwork.run` on each."""
    tensors: dict[str, tuple[Tensor, Tensor | None]] = {"input": (torch.as_tensor(images), None)}
    results = []
    for node in network.layers:
        maps, masks = zip(*(tensors[name] for name in node.inputs), strict=True)
        ranking = DEFAULT if dense or node.ranking is None else node.ranking
        output = _batch_output(node, maps, masks)
        scores = channel_scores(output, node.output_zero_point, ranking)
        winners = select_winners(scores, ranking)
        if node.op == "concat":
            winners = torch.cat([torch.ones(map.shape[:2], dtype=torch.uint8) if mask is None else mask
                                 for map, mask in zip(maps, masks, strict=True)], 1)
        results.append(BatchResult(output, scores.to(torch.uint8), winners))
        tensors[node.name] = output, winners if node.output.masked and not dense else None
    return results


def _batch_output(node: Node, maps: tuple[Tensor, ...], masks: tuple[Tensor | None, ...]) -> Tensor:
    """A layer's output int8 [N,O,OH,OW] for maps int8 [N,C,H,W] and masks [N,C] or None."""
    if node.op == "concat":
        return torch.cat(maps, 1)
    rules = node.job(*(map[0].numpy() for map in maps))  # The first image stands for all: it has the same shape.
    return compute(rules, maps, masks).to(torch.int8)
