"""The analytical model's bytes: exactly those that the hardware counts, by tensor."""

from hw.config import ceil_div
from hw.descriptor import DESCRIPTOR_BYTES, PARAMETER_BYTES
from hw.plan import Plan
from hw.winner_list import CHUNK

from .workload import Workload


def bytes_read(work: Workload) -> dict[str, int]:
    """Activations, weights, and parameters (constants, masks, descriptors)."""
    counted = _vector_bytes(work) if work.plan.shape.vector else _convolution_bytes(work)
    activations, weights, parameters = (round(count) for count in counted)
    if work.plan.shape.resident:
        activations = 0
    return {"activations": activations, "weights": weights,
            "parameters": parameters + DESCRIPTOR_BYTES * work.plan.descriptor_count}


def bytes_written(work: Workload) -> dict[str, int]:
    """Activations, and the mask (scores and winners)."""
    layer = work.plan.layer
    rows, cols = layer.out_extent
    planes = work.planes_written if work.in_memory else 0
    return {"activations": round(planes * rows * cols),
            "mask": layer.out_channels + (ceil_div(layer.out_channels, 8) if work.is_ranked else 0)}


def _input_pixels(plan: Plan) -> int:
    """Input pixels of all bands, of a channel and an operand."""
    return sum(band.rows.ins * band.cols.ins * count * row_count
               for bands, row_count in plan.band_classes for band, count in bands)


def _convolution_bytes(work: Workload) -> tuple[float, float, float]:
    plan, shape, groups = work.plan, work.plan.shape, work.plan.groups
    chunks, bands = plan.chunks, plan.band_count
    parts = plan.layer.groups
    times = 1 if plan.weights_kept else bands
    repeats = groups if plan.groups_outside or len(chunks) > 1 else 1
    activations = work.winner_counts[0] * _input_pixels(plan) * repeats
    weights = work.winner_counts[0] * shape.taps * shape.out_channels * times
    parameters = PARAMETER_BYTES * plan.layer.out_channels * bands
    if work.masked[0]:
        # A list is built from the mask for each chunk of channels, else once a part; once a descriptor where the lists
        # of the groups take its place.
        each_group = len(chunks) > 1 or (shape.blocks and plan.groups_outside)
        lists = bands * groups if each_group else bands if shape.blocks else 1
        parameters += lists * sum(_mask_bytes(part * shape.channels + first, count)
                                  for part in range(parts) for first, count in chunks)
    if shape.blocks:
        columns = [min(plan.config.columns, shape.out_channels)] * (groups - 1) + [plan.last_columns]
        weights = times * shape.taps * sum(
            columns[group] * work.listed(part, group)[0] for part in range(parts) for group in range(groups))
        parameters += bands * groups * sum(_mask_bytes(part * shape.channels, shape.channels) for part in range(parts))
    return activations, weights, parameters


def _vector_bytes(work: Workload) -> tuple[float, float, float]:
    plan, shape, bands = work.plan, work.plan.shape, work.plan.band_count
    activations = sum(work.winner_counts) * _input_pixels(plan)
    weights = work.winner_counts[0] * shape.taps * shape.depth_multiplier * bands if shape.weighted else 0
    parameters = 0
    for first, count in plan.chunks:
        records = count * shape.depth_multiplier
        if not shape.weighted:
            records = ceil_div(records, plan.config.columns)
        # The lists of an addition are built again for each band.
        lists = bands if shape.operands == 2 else 1
        parameters += PARAMETER_BYTES * records * bands + _mask_bytes(first, count) * sum(work.masked) * lists
    return activations, weights, parameters


def _mask_bytes(first: int, count: int) -> int:
    """A mask is read in whole chunks of channels from the one of its first channel on."""
    return ceil_div(count + first % CHUNK, 8)
