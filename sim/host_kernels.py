"""The ways in which PyTorch computes a convolution on this computer, whole or with its winners gathered.

All compute real numbers in the units of the job's output: (output value - output zero point) before the clamp, so that
float32 and int8 results can be compared with the golden model. The clamp and the pool behind it are left out.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from golden.job import LayerJob


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """What one call computes of a layer.

    ``channels``: int64 indices of the activations' channels to gather, None for all; ``rows``: those of the output
    channels, likewise; ``columns``: those of the weights' second dimension, likewise.
    """

    channels: Tensor | None = None
    rows: Tensor | slice | None = None
    columns: Tensor | None = None
    groups: int


def winner_parts(job: LayerJob) -> list[Part]:
    """The layer without its losers: a call, or of several groups that are no depthwise layer one for each.

    A depthwise layer's losers are not computed. Empty where nothing wins.
    """
    winners = torch.from_numpy(job.winner_indices)
    channels, outputs = len(job.input), len(job.weight)
    if job.groups == 1:
        return [Part(channels=winners, columns=winners, groups=1)] if len(winners) else []
    inside, each = channels // job.groups, outputs // job.groups
    if inside == 1:
        rows = (winners[:, None] * each + torch.arange(each)).flatten()
        return [Part(channels=winners, rows=rows, groups=len(winners))] if len(winners) else []
    groups = ((group, winners[winners // inside == group]) for group in range(job.groups))
    return [Part(channels=found, rows=slice(group * each, (group + 1) * each), columns=found % inside, groups=1)
            for group, found in groups if len(found)]


class Kernel(Protocol):
    """A way to compute a layer: ``pack`` makes of the weights what ``run`` takes."""

    input: Tensor
    """[1,C,H,W]"""

    def pack(self, part: Part) -> Any:
        """Gather and prepare the weights of a part."""

    def run(self, map: Tensor, packed: Any, part: Part) -> Tensor:
        """The output [1,rows,H_out,W_out] of the part's channels ``map`` [1,channels,H,W]."""


def compute(kernel: Kernel, parts: list[Part], packed: list[Any] | None = None) -> Tensor:
    """A layer's output [1,O,H_out,W_out] (of the parts' rows): gather activations, pack weights unless they are
    ``packed`` already, convolve."""
    outputs = []
    for number, part in enumerate(parts):
        map = kernel.input if part.channels is None else kernel.input.index_select(1, part.channels)
        outputs.append(kernel.run(map, packed[number] if packed else kernel.pack(part), part))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)


class FloatConvolution:
    """``torch.nn.functional.conv2d`` on float32, the weights as they are."""

    def __init__(self, job: LayerJob, layout: torch.memory_format):
        map, weight, scale = _float_map(job), _float_weight(job), _scales(job)
        self.input = map.contiguous(memory_format=layout)
        self.weight = (weight * scale[:, None, None, None]).contiguous(memory_format=layout)
        self.bias = torch.from_numpy(job.bias).float() * scale
        self.stride = list(job.stride)
        self.before, self.padding = _paddings(job)

    def pack(self, part: Part) -> tuple[Tensor, Tensor]:
        return _gather(self.weight, part), _rows(self.bias, part)

    def run(self, map: Tensor, packed: tuple[Tensor, Tensor], part: Part) -> Tensor:
        if self.before:
            map = functional.pad(map, self.before)
        return functional.conv2d(map, *packed, stride=self.stride, padding=self.padding, groups=part.groups)


class PackedFloatConvolution(FloatConvolution):
    """oneDNN's convolution on float32 with weights in the order that it chooses, as TorchInductor calls it."""

    def pack(self, part: Part) -> tuple[Tensor, Tensor]:
        weight, bias = super().pack(part)
        _, channels, height, width = self.input.shape
        left, right, top, bottom = self.before or (0, 0, 0, 0)
        shape = [1, channels if part.channels is None else len(part.channels), height + top + bottom,
                 width + left + right]
        # No public function packs float32 weights once; this is the one below Inductor's.
        return torch._C._nn.mkldnn_reorder_conv2d_weight(
            weight.to_mkldnn(), self.padding, self.stride, [1, 1], part.groups, shape), bias

    def run(self, map: Tensor, packed: tuple[Tensor, Tensor], part: Part) -> Tensor:
        if self.before:
            map = functional.pad(map, self.before)
        return torch.ops.mkldnn._convolution_pointwise(
            map, *packed, self.padding, self.stride, [1, 1], part.groups, "none", [], "")


class FloatProduct:
    """A fully connected layer on float32 as a product with a matrix [C * KH * KW, O], so that what belongs to an input
    channel is gathered as one piece."""

    def __init__(self, job: LayerJob):
        scale = _scales(job)
        self.input = _float_map(job)
        self.weight = (_float_weight(job) * scale[:, None, None, None]).permute(1, 2, 3, 0).flatten(1).contiguous()
        self.bias = torch.from_numpy(job.bias).float() * scale

    def pack(self, part: Part) -> Tensor:
        weight = self.weight if part.channels is None else self.weight.index_select(0, part.channels)
        return weight.view(-1, len(self.bias))

    def run(self, map: Tensor, packed: Tensor, part: Part) -> Tensor:
        return torch.addmm(self.bias, map.view(1, -1), packed)[:, :, None, None]


class Int8Convolution:
    """``quantized::conv2d``: int8 weights with a scale a channel, activations as uint8, results requantized."""

    def __init__(self, job: LayerJob, layout: torch.memory_format):
        map = torch.from_numpy((job.input.astype(np.int16) + 128).astype(np.uint8))[None]
        self.input = torch._make_per_tensor_quantized_tensor(
            map.contiguous(memory_format=layout), 1.0, job.input_zero_point + 128)
        self.weight = torch.from_numpy(job.weight).contiguous(memory_format=layout)
        self.scales = _scales(job)
        self.bias = torch.from_numpy(job.bias).float() * self.scales
        self.stride = list(job.stride)
        self.before, self.padding = _paddings(job)
        self.zero_point = job.output_zero_point + 128

    def pack(self, part: Part) -> Any:
        scales = _rows(self.scales, part)
        weight = torch._make_per_channel_quantized_tensor(
            _gather(self.weight, part), scales.double(), torch.zeros(len(scales), dtype=torch.int64), 0)
        return torch.ops.quantized.conv2d_prepack(weight, _rows(self.bias, part), self.stride, self.padding, [1, 1],
                                                  part.groups)

    def run(self, map: Tensor, packed: Any, part: Part) -> Tensor:
        if self.before:
            map = functional.pad(map, self.before)
        return torch.ops.quantized.conv2d(map, packed, 1.0, self.zero_point)


LAYOUTS = (torch.contiguous_format, torch.channels_last)
"""[C,H,W] and [H,W,C]: dense layers are faster in the second, gathering channels in the first."""


def float_kernels(job: LayerJob) -> list[Kernel]:
    """Every way for float32."""
    kernels: list[Kernel] = [FloatConvolution(job, layout) for layout in LAYOUTS]
    if torch.backends.mkldnn.is_available():
        kernels += [PackedFloatConvolution(job, layout) for layout in LAYOUTS]
    if job.groups == 1 and not any(job.padding) and job.weight.shape[2:] == job.input.shape[1:]:
        kernels.append(FloatProduct(job))
    return kernels


def int8_kernels(job: LayerJob) -> list[Kernel]:
    """Every way for int8."""
    return [Int8Convolution(job, layout) for layout in LAYOUTS]


def int8_missing(job: LayerJob) -> str | None:
    """Why this PyTorch cannot compute the layer in int8, or None."""
    if torch.backends.quantized.engine == "none":
        return "this PyTorch has no quantized convolutions"
    if job.weight_zero_point:
        return "PyTorch's quantized convolutions take no zero point of weights a channel"
    return None


def _scales(job: LayerJob) -> Tensor:
    """float32 [O]: what a sum is multiplied by."""
    return torch.from_numpy(np.ldexp(job.multiplier.astype(np.float64), job.shift - 31).astype(np.float32))


def _float_map(job: LayerJob) -> Tensor:
    return torch.from_numpy(job.input.astype(np.float32) - job.input_zero_point)[None]


def _float_weight(job: LayerJob) -> Tensor:
    return torch.from_numpy(job.weight.astype(np.float32) - job.weight_zero_point)


def _paddings(job: LayerJob) -> tuple[list[int], list[int]]:
    """For ``functional.pad`` before the convolution, where the sides differ, and the convolution's own."""
    top, bottom, left, right = job.padding
    if (top, left) == (bottom, right):
        return [], [top, left]
    return [left, right, top, bottom], [0, 0]


def _rows(values: Tensor, part: Part) -> Tensor:
    if part.rows is None:
        return values
    return values[part.rows] if isinstance(part.rows, slice) else values.index_select(0, part.rows)


def _gather(weight: Tensor, part: Part) -> Tensor:
    weight = _rows(weight, part)
    return weight if part.columns is None else weight.index_select(1, part.columns)
