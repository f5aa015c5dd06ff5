"""The analytical model: bytes exactly, cycles in closed form, without simulating anything.

A layer's time is followed through the four things that can bound it: the read channel, the array or the vector unit,
the drain and the write-back. Tests hold it against the counters of the hardware.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hw.config import EngineConfig, ceil_div
from hw.descriptor import DESCRIPTOR_BYTES, Select
from hw.plan import LayerShape

from .array_timeline import follow_convolution
from .costs import CHECK, FIRST_WINNERS, LAYER_END, NEXT_LAYER, PROGRAM_START, RANKING, SELECT, WINNERS_END
from .descriptors import fetch
from .timeline import Timeline
from .traffic import bytes_read, bytes_written
from .vector_timeline import follow_vector
from .workload import Workload


@dataclass(frozen=True)
class Prediction:
    """What a layer costs: cycles, and bytes by tensor.

    ``bytes_read``: activations, weights, parameters (constants, masks, descriptors). ``bytes_written``: activations,
    mask (scores and winners).
    """

    cycles: int
    bytes_read: dict[str, int]
    bytes_written: dict[str, int]


def ideal_cycles(shape: LayerShape, winners: int, config: EngineConfig) -> float:
    """Products of the winners divided by the PEs; 0 for a layer without weights."""
    return shape.products * winners / shape.channels / (config.rows * config.columns)


def output_stationary_cycles(shape: LayerShape, config: EngineConfig) -> int:
    """Cycles of a plain output-stationary array as SCALE-Sim counts them; 0 for a layer without weights."""
    parts, m, k, n = _matrices(shape)
    rows, columns = config.rows, config.columns
    return parts * (ceil_div(m, rows) * ceil_div(n, columns) * (k + rows + columns - 2) - 1)


def weight_stationary_cycles(shape: LayerShape, config: EngineConfig) -> int:
    """Cycles of a plain weight-stationary array as SCALE-Sim counts them; 0 for a layer without weights."""
    parts, m, k, n = _matrices(shape)
    rows, columns = config.rows, config.columns
    return parts * (ceil_div(k, rows) * ceil_div(n, columns) * (m + 2 * rows + columns - 2) - 1)


def _matrices(shape: LayerShape) -> tuple[int, int, int, int]:
    """A layer as matrix products, one a group: how many, results of a channel, products of a result, channels."""
    rows, cols = shape.conv_extent
    groups = shape.channels if shape.vector else shape.groups
    parts = groups if shape.weighted else 0
    return parts, rows * cols, shape.channels // groups * shape.taps, shape.out_channels // groups


def predict_program(layers: Sequence[Workload]) -> list[Prediction]:
    """Cost of each layer of a program, in order.

    The cycles are the differences of the profile's records; the last layer's go on to the interrupt.
    """
    predictions = []
    time, end, barrier = None, 0.0, None
    for index, work in enumerate(layers):
        if time is None:
            config = work.plan.config
            time = Timeline(0.0, config.output_ring_bytes)
            time.load(PROGRAM_START, 1, DESCRIPTOR_BYTES / config.axi_bytes)
            time.issue = time.data + CHECK
        else:
            fetch(work, time)
        time.claiming, time.claims, time.claimed_chunks = work.stays_on_chip, [], time.chunks
        (follow_vector if work.plan.shape.vector else follow_convolution)(work, time, barrier)
        # The next layer begins when this one is in memory, and its counters have been recorded.
        barrier = _finish(work, time)
        now = barrier if index == len(layers) - 1 else barrier - NEXT_LAYER
        predictions.append(Prediction(round(now) - round(end), bytes_read(work), bytes_written(work)))
        end = now
    return predictions


def _finish(work: Workload, time: Timeline) -> float:
    """The end of a program behind its last scores: winners are selected and written."""
    if not work.is_ranked:
        return time.next_run + LAYER_END
    config, select = work.plan.config, work.ranking.select
    first = time.scored + SELECT + RANKING[select]
    if select == Select.ENERGY:
        first += (config.max_channels - 1).bit_length()
    words = ceil_div(work.plan.layer.out_channels, config.rank_lanes)
    return max(first, time.next_run + FIRST_WINNERS) + words - 1 + WINNERS_END


def predict(work: Workload) -> Prediction:
    """Cost of one layer run alone, from the start register to the interrupt."""
    return predict_program([work])[0]
