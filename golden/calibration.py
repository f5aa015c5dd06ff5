"""The scale and zero point of every tensor of a float network, from what calibration images make of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from golden.checks import check
from golden.dasnet.winners import WinnersTakeAll
from golden.float_layers import FloatNetwork
from golden.preprocess import PIXEL_SCALE, PIXEL_ZERO_POINT
from golden.quantization import activation_scale
from golden.winner_rule import WinnerRule

METHODS = ("minmax", "mse")
_IMAGES_AT_ONCE = 32
_BINS = 2048
_STEPS = 40
_LEAST = 0.2
"""Of the range that calibration saw, the shortest part that the method mse tries."""


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """Real value = ``scale`` * (q - ``zero_point``)."""

    scale: float
    zero_point: int


def calibrate(network: FloatNetwork, images: Tensor, rules: Mapping[str, WinnerRule], *, method: str,
              input_range: tuple[float, float] | None = None) -> dict[str, Quantization]:
    """The quantization of "input" and of each layer's output, by name.

    ``images`` float [N,C,H,W] are run as they are and, where ``rules`` gives layers' winners, once more with those;
    ranges hold the values of both. "minmax" spans -128..127 over all of them, "mse" over the part in which their mean
    squared error is least. Tensors that must share a quantization (the inputs of a concatenation, of what keeps it)
    share the whole of their ranges. The input is never clipped: its range is that of the images, and ``input_range``
    if stated; where all images are whole numbers of 1/255 from 0 to 1 it has the scale 1/255 and zero point -128.
    Raises JobError for values that are not finite.
    """
    pixels = input_range is None and _are_pixels(images)
    ranges = _Ranges(network, input_range)
    ranges.observe(images, {})
    winners: dict[str, WinnersTakeAll] = {}
    if rules:
        scales = ranges.quantizations("minmax", pixels)
        winners = {name: WinnersTakeAll(rule, scale=scales[name].scale) for name, rule in rules.items()}
        ranges.observe(images, winners)
    if method == "mse":
        for selection in ({}, winners)[:1 + bool(rules)]:
            ranges.count(images, selection)
    return ranges.quantizations(method, pixels)


class _Ranges:
    """What was seen of the tensors of a network, group by group of those that share a quantization."""

    def __init__(self, network: FloatNetwork, input_range: tuple[float, float] | None):
        self.network = network
        self.group = _groups(network)
        self.low = dict.fromkeys(self.group.values(), math.inf)
        self.high = dict.fromkeys(self.group.values(), -math.inf)
        self.counts: dict[str, Tensor] = {}
        if input_range:
            self._widen("input", *input_range)

    def _widen(self, name: str, low: float, high: float) -> None:
        group = self.group[name]
        self.low[group], self.high[group] = min(self.low[group], low), max(self.high[group], high)

    def observe(self, images: Tensor, winners: Mapping[str, WinnersTakeAll]) -> None:
        """Widen the ranges by what ``images`` give with ``winners``."""
        for some in images.split(_IMAGES_AT_ONCE):
            for name, output in self.network.run(some, winners):
                low, high = (end.item() for end in output.aminmax())
                check(math.isfinite(low) and math.isfinite(high), f"calibration: {name}", "finite values",
                      f"{low}..{high}")
                self._widen(name, low, high)

    def _span(self, group: str) -> tuple[float, float]:
        """The range, 0 in it."""
        return min(self.low[group], 0.0), max(self.high[group], 0.0)

    def count(self, images: Tensor, winners: Mapping[str, WinnersTakeAll]) -> None:
        """Count the values that ``images`` give with ``winners``, in bins over the ranges; zeros are left out."""
        for some in images.split(_IMAGES_AT_ONCE):
            for name, output in self.network.run(some, winners):
                group = self.group[name]
                low, high = self._span(group)
                if low < high:
                    counts = torch.histc(output[output != 0], _BINS, low, high)
                    self.counts[group] = self.counts.get(group, 0) + counts.double()

    def quantizations(self, method: str, pixels: bool) -> dict[str, Quantization]:
        """By tensor; ``pixels``: the input is whole numbers of 1/255."""
        found = {}
        for group in self.low:
            low, high = self._span(group)
            holds_input = group == self.group["input"]
            if holds_input and pixels and low == 0 and high <= 1:
                found[group] = Quantization(scale=PIXEL_SCALE, zero_point=PIXEL_ZERO_POINT)
                continue
            if low == high:  # Nothing but zeros, which any scale holds.
                high = 1.0
            elif method == "mse" and not holds_input:
                low, high = _clipped(self.counts[group], low, high)
            scale, zero_point = activation_scale(low, high)
            found[group] = Quantization(scale=scale, zero_point=zero_point)
        return {name: found[group] for name, group in self.group.items()}


def _groups(network: FloatNetwork) -> dict[str, str]:
    """For each tensor the one that stands for all that share its quantization."""
    group = {"input": "input"}
    for layer in network.layers:
        group[layer.name] = layer.name
        if layer.keeps_quantization:
            joined = {group[name] for name in layer.inputs} | {layer.name}
            first = group[layer.inputs[0]]
            group = {name: first if found in joined else found for name, found in group.items()}
    return group


def _clipped(counts: Tensor, low: float, high: float) -> tuple[float, float]:
    """The part of ``low``..``high``, 0 in it, in which the values counted in its bins have the least squared error."""
    values = low + (high - low) * (torch.arange(_BINS, dtype=torch.float64) + 0.5) / _BINS
    parts = torch.linspace(1, _LEAST, _STEPS, dtype=torch.float64)
    # A range of one sign has one end to choose, and one row or column of candidates.
    lows, highs = (low * parts)[:None if low else 1, None], (high * parts)[None, :None if high else 1]
    scales = ((highs - lows) / 255)[..., None]
    zero_points = (-128 - lows[..., None] / scales).round().clamp(-128, 127)
    steps = ((values / scales).round() + zero_points).clamp(-128, 127) - zero_points
    errors = ((steps * scales - values).square() * counts).sum(-1)
    row, column = np.unravel_index(int(errors.argmin()), errors.shape)
    return lows[row, 0].item(), highs[0, column].item()


def _are_pixels(images: Tensor) -> bool:
    """Whether all values are whole numbers of 1/255 from 0 to 1."""
    steps = images.double() / PIXEL_SCALE
    return bool(((steps - steps.round()).abs() < 1e-3).all() and steps.min() >= 0 and steps.max() <= 255)
