"""The analytical model: bytes exactly, cycles in closed form, without simulating anything.

A descriptor's time is followed through the four things that can bound it: the read channel, the array, the drain and
the write-back (sim/timeline.py). Tests hold it against the counters of the hardware.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hw.config import EngineConfig, ceil_div
from hw.descriptor import DESCRIPTOR_BYTES, PARAMETER_BYTES, Select
from hw.lowering import Ranking
from hw.plan import LayerShape, Plan

from .costs import CHECK, GROUP_GAP, LAYER_END, NEXT_LAYER, PROGRAM_START, RANKING, Layer
from .timeline import Timeline, flat, follow_layer


@dataclass(frozen=True)
class Prediction:
    """What a layer costs: cycles, and bytes by tensor.

    ``bytes_read``: activations, weights, parameters (constants, input mask, descriptors). ``bytes_written``:
    activations, mask (scores and winners).
    """

    cycles: int
    bytes_read: dict[str, int]
    bytes_written: dict[str, int]


def ideal_cycles(shape: LayerShape, winners: int, config: EngineConfig) -> float:
    """Products of the winners divided by the PEs: ``winners * KH * KW * OC * M / (R * C)``, M before pooling."""
    rows, cols = shape.conv_extent
    return winners * shape.taps * shape.out_channels * rows * cols / (config.rows * config.columns)


def output_stationary_cycles(shape: LayerShape, config: EngineConfig) -> int:
    """Cycles of a plain output-stationary array as SCALE-Sim counts them."""
    m, k, n = _matrix(shape)
    rows, columns = config.rows, config.columns
    return ceil_div(m, rows) * ceil_div(n, columns) * (k + rows + columns - 2) - 1


def weight_stationary_cycles(shape: LayerShape, config: EngineConfig) -> int:
    """Cycles of a plain weight-stationary array as SCALE-Sim counts them."""
    m, k, n = _matrix(shape)
    rows, columns = config.rows, config.columns
    return ceil_div(k, rows) * ceil_div(n, columns) * (m + 2 * rows + columns - 2) - 1


def _matrix(shape: LayerShape) -> tuple[int, int, int]:
    rows, cols = shape.conv_extent
    return rows * cols, shape.channels * shape.taps, shape.out_channels


def _bytes(layer: Layer) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes read and written by tensor, exactly."""
    plan, shape = layer.plan, layer.shape
    winners = layer.winners
    chunks, groups = len(plan.chunks), plan.groups
    classes = flat(plan.band_classes)
    input_pixels = sum(band.rows.ins * band.cols.ins * count for band, count in classes)
    bands, tiles = plan.band_count, sum(band.tiles * count for band, count in classes)
    repeats = groups if plan.groups_outside or chunks > 1 else 1
    weight_bytes = winners * shape.taps * shape.out_channels
    weight_times = 1 if plan.weights_kept else bands if plan.weights_resident else tiles
    list_bytes = sum(ceil_div(count, 8) for _, count in plan.chunks) if layer.masked else 0
    lists = bands * groups if chunks > 1 else 1
    ranked = layer.ranking.select != Select.ALL
    return (
        {"activations": winners * input_pixels * repeats, "weights": weight_bytes * weight_times,
         "parameters": PARAMETER_BYTES * shape.out_channels * bands + list_bytes * lists
         + DESCRIPTOR_BYTES * plan.descriptor_count},
        {"activations": shape.out_channels * shape.out_extent[0] * shape.out_extent[1],
         "mask": shape.out_channels + (ceil_div(shape.out_channels, 8) if ranked else 0)},
    )


def predict_program(layers: Sequence[tuple]) -> list[Prediction]:
    """Cost of each layer of a program: ``(plan, ranking, winners, masked)`` in order.

    ``winners``: number of input channels that win, or their mask (bool or uint8 [C]), which fixes how they lie;
    ``masked``: whether a mask is read at all. The cycles are the differences of the profile's records; the last layer's
    go on to the interrupt.
    """
    predictions = []
    end = 0.0
    for index, (plan, ranking, winners, masked) in enumerate(layers):
        layer = Layer(plan, ranking, winners, masked)
        if index == 0:
            time = Timeline(0.0)
            time.load(PROGRAM_START, 1, DESCRIPTOR_BYTES / layer.axi)
            time.issue = time.data + CHECK
        else:
            time = Timeline(end + NEXT_LAYER)
        follow_layer(layer, time)
        words = ceil_div(plan.shape.out_channels, plan.config.rank_lanes) if ranking.select != Select.ALL else 0
        now = time.next_run - GROUP_GAP + LAYER_END + RANKING[ranking.select] + words
        if index < len(layers) - 1:
            now -= NEXT_LAYER
        read, written = _bytes(layer)
        predictions.append(Prediction(round(now) - round(end), read, written))
        end = now
    return predictions


def predict(plan: Plan, ranking: Ranking, *, winners, masked: bool) -> Prediction:
    """Cost of one layer run alone, from the start register to the interrupt."""
    return predict_program([(plan, ranking, winners, masked)])[0]
