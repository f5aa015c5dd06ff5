"""Post-training quantization to TFLite int8, and the integer evaluation of many images at once."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from golden.job import Ranking
from golden.layers import ConvLayer, conv_layer
from golden.network import QuantizedNetwork
from golden.node import Node
from golden.numerics import quantize_multiplier
from golden.ranking import DEFAULT, channel_scores, select_winners
from golden.reference import compute

PIXEL_SCALE, PIXEL_ZERO_POINT = 1 / 255, -128
_IMAGES_AT_ONCE = 50


class BatchResult(NamedTuple):
    """One layer's output int8 [N,O,OH,OW], scores uint8 [N,O] and winners uint8 [N,O] of 0 and 1."""

    output: Tensor
    scores: Tensor
    winners: Tensor


def quantize_pixels(images: np.ndarray) -> np.ndarray:
    """Images uint8 [N,H,W] as network input int8 [N,1,H,W] of scale 1/255 and zero point -128: exact."""
    return (np.asarray(images, dtype=np.uint8) ^ 0x80).view(np.int8)[:, None]


def activation_scale(low: float, high: float) -> tuple[float, int]:
    """The (scale, zero_point) that spread -128..127 over ``low``..``high``, widened to hold 0 exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        raise ValueError(f"range: expected other values than {low}")
    scale = (high - low) / 255
    return scale, int(np.clip(np.rint(-128 - low / scale), -128, 127))


def quantize_layer(*, name: str, weight: Tensor, bias: Tensor, input_scale: float, input_zero_point: int,
                   output_range: tuple[float, float], relu: bool, padding: tuple[int, int, int, int] = (0, 0, 0, 0),
                   pool: tuple[int, int, int, int] | None = None, ranking: Ranking | None = None) -> ConvLayer:
    """Quantize a stride-1 convolution, ``weight`` float [O,C,KH,KW] and ``bias`` float [O].

    Weights are symmetric, -127..127, with a scale for each output channel; the bias has the scale of the sums. The
    output spans ``output_range``, from 0 if ``relu``: the activation is then the clamp at the output's zero point.
    """
    weight, bias = weight.detach().double(), bias.detach().double()
    weight_scale = weight.flatten(1).abs().amax(1).clamp(min=1e-9) / 127
    sum_scale = input_scale * weight_scale
    output_scale, output_zero_point = activation_scale(0.0 if relu else output_range[0], output_range[1])
    multipliers, shifts = zip(*map(quantize_multiplier, (sum_scale / output_scale).tolist()), strict=True)
    int32 = torch.iinfo(torch.int32)
    return conv_layer(
        name=name,
        weight=(weight / weight_scale[:, None, None, None]).round().to(torch.int8).numpy(),
        bias=(bias / sum_scale).round().clamp(int32.min, int32.max).to(torch.int32).numpy(),
        multiplier=np.array(multipliers, dtype=np.int32),
        shift=np.array(shifts, dtype=np.int32),
        input_zero_point=input_zero_point,
        output_zero_point=output_zero_point,
        activation_min=output_zero_point if relu else -128,
        activation_max=127,
        stride=(1, 1),
        padding=padding,
        pool=pool,
        ranking=ranking,
        output_scale=output_scale,
    )


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


def run_batches(network: QuantizedNetwork, images: np.ndarray, *, dense: bool = False) -> Iterator[list[BatchResult]]:
    """:func:`run_batch` over images uint8 [N,H,W], a few at once to bound the memory."""
    pixels = quantize_pixels(images)
    for start in range(0, len(pixels), _IMAGES_AT_ONCE):
        yield run_batch(network, pixels[start : start + _IMAGES_AT_ONCE], dense=dense)


def accuracy(network: QuantizedNetwork, images: np.ndarray, labels: np.ndarray, *, dense: bool = False) -> float:
    """The fraction of ``images`` uint8 [N,H,W] whose largest output, the first among equals, is at its label."""
    outputs = [results[-1].output.flatten(1).numpy() for results in run_batches(network, images, dense=dense)]
    return float((np.concatenate(outputs).argmax(1) == labels).mean())


def winner_rates(network: QuantizedNetwork, images: np.ndarray) -> dict[str, float]:
    """The mean fraction of winners among the channels of each ranked layer, over ``images`` uint8 [N,H,W]."""
    wins = [[result.winners.double().mean(1) for result in results] for results in run_batches(network, images)]
    means = (torch.cat(parts).mean().item() for parts in zip(*wins, strict=True))
    return {layer.name: mean for layer, mean in zip(network.layers, means, strict=True)
            if layer.ranking is not None}
