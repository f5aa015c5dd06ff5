"""A small engine, a network of three layers and a job for it, for tests of the commands that simulate."""

from pathlib import Path

import numpy as np

from golden.job import LayerJob, Ranking
from golden.network import Layer, NetworkInput, QuantizedNetwork
from golden.numerics import quantize_multiplier

ENGINE = ["--rows", "4", "--cols", "4", "--axi-width", "64", "--act-buffer-bytes", "4096",
          "--weight-buffer-bytes", "4096"]


def layer(rng, name, outputs, channels, kernel, *, zero_points=(-128, -128), ranking=None, pool=None,
          padding=0) -> Layer:
    """A convolution with random weights whose results spread over int8."""
    multiplier, shift = quantize_multiplier(0.5 / (60 * np.sqrt(channels) * kernel))
    return Layer(
        name=name, weight=rng.integers(-127, 128, (outputs, channels, kernel, kernel), np.int8),
        bias=rng.integers(-2000, 2000, outputs).astype(np.int32), multiplier=np.full(outputs, multiplier, np.int32),
        shift=np.full(outputs, shift, np.int32), input_zero_point=zero_points[0], output_zero_point=zero_points[1],
        activation_min=zero_points[1], activation_max=127, stride=(1, 1), padding=(padding,) * 4, pool=pool,
        ranking=ranking, output_scale=1.0)


def save_network(path: Path) -> Path:
    """A network of three layers on a map of 3 x 6 x 9, the last one a 1x1."""
    rng = np.random.default_rng(5)
    QuantizedNetwork(
        name="tiny", input=NetworkInput(scale=1.0, zero_point=3, shape=(3, 6, 9)), layers=(
            layer(rng, "one", 10, 3, 3, zero_points=(3, -128), padding=1, pool=(2, 2, 2, 2),
                  ranking=Ranking(score="max", select="topk", value=4)),
            layer(rng, "two", 9, 10, 3, ranking=Ranking(score="max", select="energy", value=0.6), padding=1),
            layer(rng, "three", 5, 9, 1))).save(path)
    return path


def small_job() -> LayerJob:
    """A 3x3 layer of 8 channels, four of which win, on 7 x 5."""
    rng = np.random.default_rng(9)
    one = layer(rng, "job", 6, 8, 3, padding=1, ranking=Ranking(score="absmax", select="topk", value=2))
    return one.job(rng.integers(-128, 128, (8, 7, 5), np.int8), np.array([1, 0, 1, 1, 0, 0, 1, 0], np.uint8))
