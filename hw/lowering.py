"""From a layer to descriptors and the bytes that they refer to, and back to tensors."""

from dataclasses import dataclass

import numpy as np

from .config import ceil_div
from .descriptor import OP_CONVOLUTION, PARAMETER_BYTES, MaskSource, Score, Select, pack
from .plan import MAX_EXTENT, Band, Plan

ALIGNMENT = 64

SCORES = {"max": Score.MAX, "absmax": Score.ABSMAX, "mean": Score.MEAN}
SELECTS = {"all": Select.ALL, "topk": Select.TOPK, "energy": Select.ENERGY, "threshold": Select.THRESHOLD}


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """A layer's score and selection rule in the descriptor's terms."""

    score: Score = Score.MAX
    select: Select = Select.ALL
    value: int = 0
    energy_square: bool = False
    multiplier: int = 0
    shift: int = 0


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where a layer's tensors lie. ``mask``: None for all channels."""

    input: int
    mask: int | None
    weights: int
    parameters: int
    output: int
    scores: int
    winners: int


def pack_weights(weight: np.ndarray, columns: int) -> np.ndarray:
    """Weights int8 [O, C, KH, KW] as ``[output-channel group][input channel][tap][column]``, bytes in memory order.

    The last group has only the columns that are left, so a layer's weights take exactly ``O * C * KH * KW`` bytes.
    """
    groups = [np.ascontiguousarray(weight[start:start + columns].transpose(1, 2, 3, 0)).reshape(-1)
              for start in range(0, weight.shape[0], columns)]
    return np.concatenate(groups).view(np.uint8)


def pack_parameters(bias: np.ndarray, multiplier: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """One ``PARAMETER_BYTES`` record for each output channel."""
    records = np.zeros((len(bias), PARAMETER_BYTES), np.uint8)
    for column, (values, dtype) in {0: (bias, "<i4"), 4: (multiplier, "<i4"), 8: (shift, "i1")}.items():
        raw = values.astype(dtype).view(np.uint8).reshape(len(bias), -1)
        records[:, column:column + raw.shape[1]] = raw
    return records.reshape(-1)


def pack_mask(mask: np.ndarray) -> np.ndarray:
    """A bit a channel, channel 0 in bit 0 of byte 0."""
    return np.packbits(mask.astype(bool), bitorder="little")


def unpack_mask(packed: np.ndarray, channels: int) -> np.ndarray:
    """The inverse of :func:`pack_mask`: uint8 [channels] of 0 and 1."""
    return np.unpackbits(packed, bitorder="little", count=channels)


def lower_layer(plan: Plan, addresses: Addresses, ranking: Ranking, *, input_zero_point: int, output_zero_point: int,
                activation_min: int, activation_max: int) -> bytes:
    """The layer's descriptors, one behind the other."""
    bands = plan.bands()
    groups, chunks = range(plan.groups), plan.chunks
    if plan.groups_outside:
        order = [(number, group, 1, chunks[0]) for group in groups for number in range(len(bands))]
    elif len(chunks) > 1:
        order = [(number, group, 1, chunk) for number in range(len(bands)) for group in groups for chunk in chunks]
    else:
        order = [(number, 0, plan.groups, chunks[0]) for number in range(len(bands))]
    constants = {
        "in_zero_point": input_zero_point, "out_zero_point": output_zero_point, "activation_min": activation_min,
        "activation_max": activation_max, "score_kind": ranking.score, "select": ranking.select,
        "select_value": ranking.value, "energy_square": ranking.energy_square, "score_multiplier": ranking.multiplier,
        "score_shift": ranking.shift,
    }
    packed = []
    for index, (number, group, group_count, chunk) in enumerate(order):
        band = bands[number]
        values = (_band_fields(plan, band) | _group_fields(plan, addresses, band, group, group_count, chunk)
                  | constants)
        first, last = index == 0, index == len(order) - 1
        first_band, last_band = number == 0, number == len(bands) - 1
        keep_mask = not first and len(chunks) == 1
        values |= {
            "op": OP_CONVOLUTION,
            "barrier": first,
            "act_prefetch": plan.double and not first,
            "act_base": (index % 2) * (plan.config.act_buffer_bytes // 2) if plan.double else 0,
            "mask_source": MaskSource.KEEP if keep_mask else MaskSource.ALL if addresses.mask is None
            else MaskSource.MEMORY,
            "mask_base": 0 if addresses.mask is None else addresses.mask + chunk[0] // 8,
            "sum_start": chunk == chunks[0],
            "sum_end": chunk == chunks[-1],
            "weight_stream": not plan.weights_resident,
            "weight_keep": plan.weights_kept and not last_band,
            "weight_reuse": plan.weights_kept and not first_band,
            "layer_end": last,
            "score_resume": not first_band,
            "score_final": last_band,
        }
        packed.append(pack(values))
    return b"".join(packed)


def _band_fields(plan: Plan, band: Band) -> dict[str, int]:
    """Everything that depends on the band's geometry alone."""
    shape, config = plan.shape, plan.config
    rows, cols = band.rows, band.cols
    stride_y, stride_x = shape.stride
    tap_y, phase_y = divmod(-rows.pad, stride_y)
    tap_x, phase_x = divmod(-cols.pad, stride_x)
    plane = band.plane_bytes
    last_strip_rows = rows.ins - (band.strips - 1) * band.strip_rows
    out_row_pitch = band.out_cols if band.flat else shape.out_extent[1]
    return {
        "act_copy": band.copy, "act_contiguous": band.contiguous, "act_merge": band.merge,
        "in_plane": shape.height * shape.width, "in_row_pitch": shape.width,
        "in_rows": rows.ins, "in_cols": cols.ins, "strip_rows": min(band.strip_rows, MAX_EXTENT),
        "last_strip_rows": last_strip_rows, "strips": band.strips,
        "strip_bytes": band.strip_rows // stride_y * band.pitch, "strip_pitch": band.strip_rows * shape.width,
        "strip_load": (band.strip_rows if band.strips > 1 else rows.ins) * cols.ins,
        "last_strip_load": last_strip_rows * cols.ins,
        "slab_bytes": band.slab_bytes, "plane_bytes": plane, "pitch": band.pitch,
        "stride_x": stride_x, "stride_y": stride_y,
        "kernel_h": shape.kernel[0], "kernel_w": shape.kernel[1],
        "phase_y": phase_y, "phase_x": phase_x, "tap_y": tap_y, "tap_x": tap_x,
        "tap_base": (phase_y * stride_x + phase_x) * plane + tap_y * band.pitch + tap_x,
        "step_x": plane, "step_x_wrap": 1 - (stride_x - 1) * plane,
        "step_y": stride_x * plane, "step_y_wrap": band.pitch - (stride_y - 1) * stride_x * plane,
        "phase_rows": rows.ins // stride_y, "phase_rows_more": rows.ins % stride_y,
        "phase_cols": cols.ins // stride_x, "phase_cols_more": cols.ins % stride_x,
        "rows_ahead": shape.kernel[0] - rows.pad,
        "tiles": band.tiles, "last_rows": band.last_rows,
        "out_contiguous": band.out_contiguous,
        "out_plane": shape.out_extent[0] * shape.out_extent[1], "out_row_pitch": out_row_pitch,
        "out_rows": band.out_rows, "out_cols": band.out_cols, "out_cols_last": band.out_cols_last,
        "out_strip_rows": band.out_strip_rows, "out_strip_step": band.out_strip_step,
        "out_strip_need": band.out_strip_need, "out_row_step": band.out_row_step, "out_pitch": band.pitch,
        "out_strip_pitch": band.out_strip_rows * out_row_pitch,
        "positions": band.positions, "span": band.tiles * config.rows,
        "pool_h": shape.pool[0], "pool_w": shape.pool[1], "pool_stride_x": shape.pool[3],
        "chunk": band.chunk, "chunk_step": min(255, band.chunk * shape.pool[3]),
    }


def _group_fields(plan: Plan, addresses: Addresses, band: Band, group: int, groups: int,
                  chunk: tuple[int, int]) -> dict[str, int]:
    """Everything that depends on which output channels the descriptor computes, and where the tensors lie."""
    shape, columns = plan.shape, min(plan.config.columns, plan.shape.out_channels)
    ends_layer = group + groups == plan.groups
    last_columns = plan.last_columns if ends_layer else columns
    block = shape.taps * columns
    out_rows, out_cols = shape.out_extent
    first_channel = group * columns
    first_input, inputs = chunk
    return {
        "in_channels": inputs,
        "in_base": (addresses.input + (first_input * shape.height + band.rows.in0) * shape.width + band.cols.in0),
        "weight_base": addresses.weights + first_channel * shape.channels * shape.taps
        + first_input * shape.taps * last_columns,
        "weight_group": shape.channels * block, "weight_block": block, "weight_block_last": shape.taps * last_columns,
        "parameter_base": addresses.parameters + first_channel * PARAMETER_BYTES,
        "out_groups": groups, "group_columns": columns, "last_columns": last_columns,
        "out_base": addresses.output + first_channel * out_rows * out_cols + band.rows.out0 * out_cols + band.cols.out0,
        "first_channel": first_channel, "out_channels": shape.out_channels,
        "score_base": addresses.scores, "winner_base": addresses.winners,
    }


def align(address: int) -> int:
    """The next address that tensors start at."""
    return ceil_div(address, ALIGNMENT) * ALIGNMENT
