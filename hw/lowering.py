"""From a planned layer to its descriptors."""

from dataclasses import dataclass, field

from .band import MAX_EXTENT, Band
from .config import ceil_div
from .descriptor import (
    FIELDS,
    OP_CONVOLUTION,
    OP_VECTOR,
    PARAMETER_BYTES,
    MaskSource,
    Score,
    Select,
    pack,
)
from .packing import block_mask_bytes
from .plan import Plan, PlanError
from .winner_list import CHUNK

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
    """Where a layer's tensors lie. ``masks``: of each input, None where every channel takes part.

    ``weights``: None where there are none. ``block_masks``: of each group of output channels a mask of input channels.
    ``parameters``: a record a channel; of pooling and addition one a region. ``chip_input``: offset of the input in the
    activation buffer, where it is on chip beforehand; ``chip_output``: of the output, where it stays there;
    ``keeps_output``: the output is in memory, too.
    """

    inputs: tuple[int, ...]
    masks: tuple[int | None, ...]
    weights: int | None
    block_masks: int | None
    parameters: int
    output: int
    scores: int
    winners: int
    chip_input: int | None = None
    chip_output: int | None = None
    keeps_output: bool = True


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """Zero points and clamp of a layer. ``result_zero_point``: added to results, ``output_zero_point`` that of scores.

    ``unit_weight``: every weight of a layer without weights; ``weight_zero_point``: subtracted from others. ``scales``:
    (multiplier, right shift) of an addition's operands.
    """

    input_zero_points: tuple[int, ...]
    output_zero_point: int
    result_zero_point: int
    activation_min: int
    activation_max: int
    unit_weight: int = 0
    weight_zero_point: int = 0
    scales: tuple[tuple[int, int], ...] = field(default=((0, 0), (0, 0)))


def lower_layer(plan: Plan, addresses: Addresses, ranking: Ranking, arithmetic: Arithmetic) -> bytes:
    """The layer's descriptors, one behind the other.

    Raises :class:`PlanError` for a layer whose ranking this engine cannot do.
    """
    limit = plan.config.max_channels
    if plan.layer.out_channels > limit and (ranking.select != Select.ALL or plan.band_count > 1):
        raise PlanError(f"max_channels: the engine ranks, and gathers the scores of bands, of at most {limit} output "
                        f"channels, the layer has {plan.layer.out_channels}")
    common = {field.name: 0 for field in FIELDS} | {
        "result_zero_point": arithmetic.result_zero_point, "out_zero_point": arithmetic.output_zero_point,
        "in_zero_point": arithmetic.input_zero_points[0], "in_zero_point_2": arithmetic.input_zero_points[-1],
        "weight_zero_point": arithmetic.weight_zero_point,
        "activation_min": arithmetic.activation_min, "activation_max": arithmetic.activation_max,
        "score_kind": ranking.score, "select": ranking.select, "select_value": ranking.value,
        "energy_square": ranking.energy_square, "score_multiplier": ranking.multiplier, "score_shift": ranking.shift,
        "score_base": addresses.scores, "winner_base": addresses.winners, "out_channels": plan.layer.out_channels,
        "depth_multiplier": 1, "pass_winners": plan.pass_winners,
        "skip_losers": plan.skips_losers, "weight_block": 1, "weight_block_last": 1, "sum_start": 1, "sum_end": 1,
        "out_to_memory": addresses.keeps_output or addresses.chip_output is None,
        "out_to_chip": addresses.chip_output is not None,
        "chip_offset": ((addresses.chip_output or 0) - addresses.output) % (1 << 24),
    }
    make = _vector if plan.shape.vector else _convolution
    layer = [common | values for values in make(plan, addresses, arithmetic)]
    for index, values in enumerate(layer):
        values |= {
            "barrier": index == 0,
            "weights_ahead": index == 0 and _reads_ahead(plan, addresses),
            "layer_end": index == len(layer) - 1, "act_prefetch": plan.double and index > 0,
        }
        if addresses.chip_input is None:
            values["act_base"] = (index % 2) * (plan.act_bytes // 2) if plan.double else 0
        else:
            masked = addresses.masks[0] is not None and not plan.shape.vector
            values |= {"act_resident": 1, "act_dense": 1, "lists": masked or values["lists"],
                       "list_once": masked and not values["lists"],
                       "act_base": addresses.chip_input + values["act_base"]}
    return b"".join(pack(values) for values in layer)


def _reads_ahead(plan: Plan, addresses: Addresses) -> bool:
    """The first group's weights are known before the layer begins, and fit on chip."""
    shape = plan.shape
    group_bytes = shape.channels * shape.taps * min(plan.config.columns, shape.out_channels)
    fits = shape.vector or (len(plan.chunks) == 1 and group_bytes <= plan.config.weight_buffer_bytes)
    return addresses.masks[0] is None and shape.operands == 1 and not shape.blocks and fits


def _convolution(plan: Plan, addresses: Addresses, arithmetic: Arithmetic):
    """The fields of each descriptor, part by part, in the plan's loop order."""
    bands = plan.bands()
    groups, chunks = range(plan.groups), plan.chunks
    if plan.groups_outside:
        order = [(number, group, 1, chunks[0]) for group in groups for number in range(len(bands))]
    elif len(chunks) > 1:
        order = [(number, group, 1, chunk) for number in range(len(bands)) for group in groups for chunk in chunks]
    else:
        order = [(number, 0, plan.groups, chunks[0]) for number in range(len(bands))]
    for part in range(plan.layer.groups):
        for index, (number, group, group_count, chunk) in enumerate(order):
            band, first_band, last_band = bands[number], number == 0, number == len(bands) - 1
            first_input = part * plan.shape.channels + chunk[0]
            # The list of the band before is that of its last group's blocks.
            keep = index > 0 and len(chunks) == 1 and not plan.shape.blocks
            masks = _mask_fields(addresses.masks[0], first_input, chunk[1], keep, aligned=plan.shape.blocks)
            yield (_band_fields(plan, band) | _group_fields(plan, addresses, band, part, group, group_count, chunk)
                   | masks | _block_fields(plan, addresses, part * plan.groups + group) | {
                "op": OP_CONVOLUTION,
                "sum_start": chunk == chunks[0],
                "sum_end": chunk == chunks[-1],
                "weight_keep": plan.weights_kept and not last_band,
                "weight_reuse": plan.weights_kept and not first_band,
                "score_resume": not first_band,
                "score_final": last_band,
            })


def _mask_fields(mask: int | None, first: int, count: int, keep: bool, *, aligned: bool = False) -> dict[str, int]:
    """The list of winners among ``count`` channels from ``first``; a mask is read in whole chunks of channels.

    ``aligned``: the channels are counted like that without a mask, too.
    """
    skip = first % CHUNK if aligned or mask is not None else 0
    source = MaskSource.KEEP if keep else MaskSource.ALL if mask is None else MaskSource.MEMORY
    return {"mask_source": source, "mask_base": 0 if mask is None else mask + (first - skip) // 8,
            "mask_skip": skip, "in_channels": count + skip}


def _block_fields(plan: Plan, addresses: Addresses, group: int) -> dict[str, int]:
    """Of a layer whose zero blocks are left out: from which group on."""
    if not plan.shape.blocks:
        return {}
    stride = block_mask_bytes(plan.layer)
    return {"act_dense": 1, "lists": 1, "block_mask_base": addresses.block_masks + group * stride,
            "block_mask_group": stride}


def _band_fields(plan: Plan, band: Band) -> dict[str, int]:
    """Everything that depends on the band's geometry alone."""
    shape = plan.shape
    rows, cols = band.rows, band.cols
    stride_y, stride_x = band.row_phases, band.column_phases
    row_pitch = shape.width * rows.step
    tap_y, phase_y = divmod(-rows.pad, stride_y)
    tap_x, phase_x = divmod(-cols.pad, stride_x)
    plane = band.plane_bytes
    last_strip_rows = rows.ins - (band.strips - 1) * band.strip_rows
    out_row_pitch = band.out_cols if band.flat else shape.out_extent[1]
    tile = band.tile_positions
    return {
        "act_copy": band.copy, "act_contiguous": band.contiguous, "act_merge": band.merge,
        "in_plane": shape.height * shape.width, "in_row_pitch": row_pitch,
        "in_rows": rows.ins, "in_cols": cols.ins, "strip_rows": min(band.strip_rows, MAX_EXTENT),
        "last_strip_rows": last_strip_rows, "strips": band.strips,
        "strip_bytes": band.strip_rows // stride_y * band.row_bytes, "strip_pitch": band.strip_rows * row_pitch,
        "strip_load": (band.strip_rows if band.strips > 1 else rows.ins) * cols.ins,
        "last_strip_load": last_strip_rows * cols.ins,
        "slab_bytes": band.slab_bytes, "plane_bytes": plane, "pitch": band.row_bytes,
        "lane_step": shape.lane_step,
        "stride_x": stride_x, "stride_y": stride_y, "load_phases": band.phases,
        "kernel_h": shape.kernel[0], "kernel_w": shape.kernel[1],
        "phase_y": phase_y, "phase_x": phase_x, "tap_y": tap_y, "tap_x": tap_x,
        "tap_base": (phase_y * stride_x + phase_x) * plane + tap_y * band.row_bytes + tap_x,
        "step_x": plane, "step_x_wrap": 1 - (stride_x - 1) * plane,
        "step_y": stride_x * plane, "step_y_wrap": band.row_bytes - (stride_y - 1) * stride_x * plane,
        "phase_rows": rows.ins // stride_y, "phase_rows_more": rows.ins % stride_y,
        "phase_cols": cols.ins // stride_x, "phase_cols_more": cols.ins % stride_x,
        "rows_ahead": shape.kernel[0] - rows.pad,
        "tiles": band.tiles, "last_rows": band.last_rows, "tile_positions": tile,
        "tile_bytes": band.tile_bytes,
        "tile_rows": band.tile_bytes // band.row_bytes, "tile_cols": band.tile_bytes % band.row_bytes,
        "out_contiguous": band.out_contiguous,
        "out_plane": shape.out_extent[0] * shape.out_extent[1], "out_row_pitch": out_row_pitch,
        "out_rows": band.out_rows, "out_cols": band.out_cols, "out_cols_last": band.out_cols_last,
        "out_strip_rows": band.out_strip_rows, "out_strip_step": band.out_strip_step,
        "out_strip_need": band.out_strip_need, "out_row_step": band.out_row_step, "out_pitch": band.pitch,
        "out_strip_pitch": band.out_strip_rows * out_row_pitch,
        "positions": band.positions, "span": band.tiles * tile,
        "pool_h": shape.pool[0], "pool_w": shape.pool[1],
        "pool_stride_y": shape.pool[2], "pool_stride_x": shape.pool[3], "pool_y": rows.pool0, "pool_x": cols.pool0,
        **_map_fields(band),
        "chunk": band.chunk, "chunk_step": min(255, band.chunk * shape.pool[3]),
    }


def _map_fields(band: Band) -> dict[str, int]:
    """The map of results before pooling; no end where results are written as they lie."""
    if band.flat:
        return {"pool_rows": MAX_EXTENT, "pool_cols": MAX_EXTENT}
    return {"pool_rows": band.rows.convs, "pool_cols": band.cols.convs}


def _out_base(plan: Plan, addresses: Addresses, band: Band, channel: int) -> int:
    rows, cols = plan.shape.out_extent
    return addresses.output + channel * rows * cols + band.rows.out0 * cols + band.cols.out0


def _group_fields(plan: Plan, addresses: Addresses, band: Band, part: int, group: int, groups: int,
                  chunk: tuple[int, int]) -> dict[str, int]:
    """Everything that depends on which output channels the descriptor computes, and where the tensors lie."""
    shape, columns = plan.shape, min(plan.config.columns, plan.shape.out_channels)
    last_columns = plan.last_columns if group + groups == plan.groups else columns
    block = shape.taps * columns
    first_channel = part * shape.out_channels + group * columns
    first_input = part * shape.channels + chunk[0]
    return {
        "in_base": (addresses.inputs[0] + (first_input * shape.height + band.rows.in0) * shape.width + band.cols.in0),
        "weight_base": addresses.weights + first_channel * shape.channels * shape.taps
        + chunk[0] * shape.taps * (columns if groups > 1 else last_columns),
        "weight_group": shape.channels * block, "weight_block": block, "weight_block_last": shape.taps * last_columns,
        "parameter_base": addresses.parameters + first_channel * PARAMETER_BYTES,
        "out_groups": groups, "group_columns": columns, "last_columns": last_columns,
        "out_base": _out_base(plan, addresses, band, first_channel), "first_channel": first_channel,
    }


def _vector(plan: Plan, addresses: Addresses, arithmetic: Arithmetic):
    """The fields of each descriptor: chunks of channels, bands of each."""
    shape, columns = plan.shape, plan.config.columns
    bands = plan.bands()
    regions = _region_numbers(plan)
    block = shape.taps * shape.depth_multiplier
    (scale_1, shift_1), (scale_2, shift_2) = arithmetic.scales
    for first, count in plan.chunks:
        first_output, outputs = first * shape.depth_multiplier, count * shape.depth_multiplier
        groups = ceil_div(outputs, columns)
        for number, band in enumerate(bands):
            offset = (first * shape.height + band.rows.in0) * shape.width + band.cols.in0
            values = _band_fields(plan, band) | {
                "op": OP_VECTOR, "act_dense": 1, "act_base": first * band.slab_bytes,
                "in_base": addresses.inputs[0] + offset,
                "depth_multiplier": shape.depth_multiplier, "unit_weight": arithmetic.unit_weight,
                "out_groups": groups, "group_columns": min(columns, outputs),
                "last_columns": outputs - (groups - 1) * min(columns, outputs),
                "first_channel": first_output, "out_base": _out_base(plan, addresses, band, first_output),
                "score_resume": number > 0, "score_final": number == len(bands) - 1,
            }
            if shape.weighted:
                values |= {"weight_base": addresses.weights + first * block, "weight_block": block,
                           "weight_block_last": block,
                           "parameter_base": addresses.parameters + first_output * PARAMETER_BYTES}
            else:
                values |= {"parameter_shared": 1,
                           "parameter_base": addresses.parameters + regions[number] * PARAMETER_BYTES}
            if shape.operands == 2:
                values |= _mask_fields(addresses.masks[0], first, count, False)
                second = _mask_fields(addresses.masks[1], first, count, False)
                values |= {
                    "add": 1, "mask_source_2": second["mask_source"], "mask_base_2": second.get("mask_base", 0),
                    "mask_skip": first % CHUNK, "in_channels": count + first % CHUNK,
                    "add_multiplier_1": scale_1, "add_shift_1": shift_1, "add_multiplier_2": scale_2,
                    "add_shift_2": shift_2, "strips": 2, "strip_rows": band.rows.ins, "last_strip_rows": band.rows.ins,
                    "strip_pitch": (addresses.inputs[1] - addresses.inputs[0]) % (1 << 32),
                    "strip_bytes": band.plane_bytes, "step_y_wrap": band.plane_bytes,
                    "in_rows": 2 * band.rows.ins, "rows_ahead": 2 * band.rows.ins,
                }
            else:
                values |= _mask_fields(addresses.masks[0], first, count, number > 0)
            yield values


def _region_numbers(plan: Plan) -> list[int]:
    """For every band the number of its region, rows of regions first."""
    def numbers(axis: int, size: int) -> list[int]:
        return [number for number, (_, count, _) in enumerate(plan.regions[axis])
                for _ in range(ceil_div(count, size))]

    return [row * len(plan.regions[1]) + col
            for row in numbers(0, plan.band_rows) for col in numbers(1, plan.band_cols)]
