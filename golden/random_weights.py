"""Numbers for a network that has none: quantization and weights under which every layer's output is well spread.

The values of each tensor are followed through the network as a distribution (:class:`Spread`), from shapes and winner
rules alone. A convolution's weights are uniform, its bias removes the sums' expected mean, as batch normalization does,
and its multiplier scales the sums to the output's range. Nothing is run and no weight is drawn to know the next layer.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import NormalDist

import numpy as np

from golden.conv_tensors import ConvTensors
from golden.geometry import ConvGeometry
from golden.layers import Activation, LayerDescription, TensorSpec, activation_range
from golden.multipliers import quantize_multiplier
from golden.ranking_rule import Ranking

DEVIATIONS = 4
"""An output's range holds its values before the activation up to so many standard deviations."""
BIAS_DEVIATION = 0.25
"""Of the channels' offsets, in deviations of the sums: channels differ, so that winners do."""
_WEIGHT_DEVIATION = math.sqrt(127 * 128 / 3)  # uniform integers in -127..127
_POINTS = (np.arange(64) + 0.5) / 64


@cache
def _largest_normals(count: int) -> np.ndarray:
    """Equally likely values of the largest of ``count`` standard normal ones, ascending."""
    return np.array([NormalDist().inv_cdf(point) for point in _POINTS ** (1 / count)])


def _median_largest(count: int) -> float:
    """The median of the largest of ``count`` standard normal values."""
    return NormalDist().inv_cdf(0.5 ** (1 / count))


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A distribution of real values: normal, clipped to ``low``..``high``.

    ``shared`` is the part of the variance that a channel's pixels have in common: channels differ by it. Of the other
    part, a pixel is the largest of ``count`` draws, as a max-pool leaves it.
    """

    mean: float
    deviation: float
    shared: float = 0.0
    low: float = -math.inf
    high: float = math.inf
    count: int = 1

    def values(self) -> np.ndarray:
        """Equally likely values, a row a channel and a column a pixel."""
        channels = math.sqrt(self.shared) * _largest_normals(1)[:, None]
        values = channels + math.sqrt(1 - self.shared) * _largest_normals(self.count)
        return np.clip(self.mean + self.deviation * values, self.low, self.high)

    def scores(self, score: str, pixels: int) -> np.ndarray:
        """The median score of each row's channel, if it has so many pixels."""
        if score == "mean":
            return self.values().mean(1)
        middle, rest = math.sqrt(self.shared) * _largest_normals(1), math.sqrt(1 - self.shared)
        extremes = (middle - rest * _median_largest(pixels), middle + rest * _median_largest(pixels * self.count))
        lowest, highest = (np.clip(self.mean + self.deviation * end, self.low, self.high) for end in extremes)
        return np.maximum(np.abs(lowest), np.abs(highest)) if score == "absmax" else highest

    def moments(self) -> tuple[float, float, float]:
        """(mean, variance between channels, variance within a channel)."""
        return _moments(self.values())


def _moments(values: np.ndarray) -> tuple[float, float, float]:
    return float(values.mean()), float(values.mean(1).var()), float(values.var(1).mean())


def _normal(mean: float, between: float, within: float) -> Spread:
    """The normal distribution of these moments."""
    variance = between + within
    return Spread(mean=mean, deviation=math.sqrt(variance), shared=between / variance if variance else 0.0)


def input_spread(scale: float, zero_point: int) -> Spread:
    """Of an image whose bytes are all equally likely."""
    low, high = scale * (-128 - zero_point), scale * (127 - zero_point)
    return Spread(mean=(low + high) / 2, deviation=(high - low) / math.sqrt(12), low=low, high=high)


def seen_spread(spread: Spread, tensor: TensorSpec, ranking: Ranking | None) -> Spread:
    """What consumers see of a tensor: the channels that lose are zeros, and they are those of the smaller values."""
    if ranking is None or ranking.select == "all":
        return spread
    values = spread.values()
    scores = spread.scores(ranking.score, tensor.shape[1] * tensor.shape[2])
    order = np.argsort(-scores)
    steps = np.clip(scores[order] / tensor.scale, 0, 255)
    if ranking.select == "topk":
        rate = ranking.value / tensor.shape[0]
    elif ranking.select == "threshold":
        rate = (steps >= ranking.value).mean()
    else:
        energy = np.cumsum(steps**ranking.energy_power)
        rate = (1 + np.searchsorted(energy, ranking.value * energy[-1])) / len(energy)
    # A fraction of the last winning row takes part, so that small changes of the rate show.
    share = np.clip(rate * len(values) - np.arange(len(values)), 0, 1)[:, None]
    winners = values[order]
    mean, between, within = _moments(winners * share)
    return _normal(mean, between + float((share * (1 - share) * winners**2).mean()), within)


def choose_output(layer: LayerDescription, sizes: object, sources: Sequence[TensorSpec],
                  spreads: Sequence[Spread]) -> tuple[float, int, Spread]:
    """(scale, zero_point, spread) of a layer's output; a scale and zero point that the layer states are kept.

    ``spreads`` are those that the layer sees of its inputs ``sources``.
    """
    activation = getattr(layer, "activation", "none")
    if layer.op == "conv":
        spread = _sums(spreads[0], _deviation(layer, activation))
    else:
        spread = _combined(layer, sizes, sources, spreads)
    if layer.keeps_quantization:
        scale, zero_point = sources[0].scale, sources[0].zero_point
    elif layer.output_scale is not None:
        scale, zero_point = layer.output_scale, layer.output_zero_point
    else:
        scale, zero_point = _quantization(spread, activation)
    low, high = activation_range(activation, scale, zero_point)
    spread = replace(spread, low=max(spread.low, scale * (low - zero_point)),
                     high=min(spread.high, scale * (high - zero_point)))
    if layer.op == "conv" and sizes.pool is not None:
        spread = replace(spread, count=sizes.pool[0] * sizes.pool[1])
    shape = layer.output_shape(sources, sizes)
    if shape[1:] == (1, 1):  # A channel is a single pixel.
        spread = replace(spread, shared=1.0)
    return scale, zero_point, spread


def _sums(seen: Spread, deviation: float) -> Spread:
    """A convolution's results before the activation: what its inputs' channels share, its sums do too."""
    _, between, within = seen.moments()
    shared = between / (between + within) if between + within else 1.0
    return Spread(mean=0.0, deviation=deviation, shared=(shared + BIAS_DEVIATION**2) / (1 + BIAS_DEVIATION**2))


def _deviation(layer: LayerDescription, activation: Activation) -> float:
    """Of a convolution's results: what the stated range holds, 1 without one, 6 at the end of a ReLU6."""
    if layer.output_scale is None:
        return 6 / DEVIATIONS if activation == "relu6" else 1.0
    low, high = activation_range(activation, layer.output_scale, layer.output_zero_point)
    room = high - layer.output_zero_point
    if low < layer.output_zero_point:
        room = min(room, layer.output_zero_point - low)
    return layer.output_scale * max(room, DEVIATIONS) / DEVIATIONS


def _quantization(spread: Spread, activation: Activation) -> tuple[float, int]:
    """(scale, zero_point) that hold a spread's values, with 0 exact; from 0 for a ReLU and to 6 at most for a ReLU6."""
    low = max(spread.low, spread.mean - DEVIATIONS * spread.deviation)
    high = min(spread.high, spread.mean + DEVIATIONS * spread.deviation)
    if activation in ("relu", "relu6"):
        low, high = 0.0, min(high, 6.0) if activation == "relu6" else high
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255 or 1 / 255
    return scale, int(np.clip(np.rint(-128 - low / scale), -128, 127))


def _combined(layer: LayerDescription, sizes: object, sources: Sequence[TensorSpec],
              spreads: Sequence[Spread]) -> Spread:
    """The spread of an operation without weights, before its activation."""
    first, moments = spreads[0], np.array([spread.moments() for spread in spreads])
    if layer.op == "add":
        return _normal(*moments.sum(0).tolist())
    if layer.op == "max_pool":
        return replace(first, count=first.count * math.prod(sizes.kernel))
    if layer.op == "concat":
        shares = np.array([source.shape[0] for source in sources], float)
        mean, between, within = np.average(moments, axis=0, weights=shares).tolist()
        return _normal(mean, between + float(np.average((moments[:, 0] - mean) ** 2, weights=shares)), within)
    mean, between, within = moments[0].tolist()
    pixels = math.prod(sources[0].shape[1:] if sizes is None else sizes.kernel)
    return _normal(mean, between, within / pixels)


def draw_tensors(*, seed: int, name: str, sizes: ConvGeometry, source: TensorSpec, seen: Spread, deviation: float,
                 output_scale: float) -> ConvTensors:
    """A convolution's tensors, the same for the same seed and layer name; ``deviation`` is that of its real results."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    weight = rng.integers(-127, 128, sizes.weight_shape, np.int8)
    mean, between, within = seen.moments()
    mean, variance = mean / source.scale, (between + within) / source.scale**2
    terms = math.prod(sizes.weight_shape[1:])
    sums = _WEIGHT_DEVIATION * math.sqrt(terms * max(variance, 1))
    totals = weight.reshape(len(weight), -1).sum(1, dtype=np.int64)
    bias = BIAS_DEVIATION * sums * rng.standard_normal(len(weight)) - mean * totals
    factor = deviation / output_scale / sums / math.sqrt(1 + BIAS_DEVIATION**2)
    factors = [quantize_multiplier(factor * gain) for gain in rng.uniform(0.8, 1.2, len(weight))]
    multiplier, shift = np.array(factors, np.int32).T
    limit = 2**31 - 1
    return ConvTensors(weight=weight, bias=np.rint(np.clip(bias, -limit, limit)).astype(np.int32),
                       multiplier=np.ascontiguousarray(multiplier), shift=np.ascontiguousarray(shift))
