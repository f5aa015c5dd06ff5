"""The layer descriptor: one definition for the hardware, the lowering and the documentation.

A program is an array of descriptors in memory. One descriptor computes one *band* of a layer: a rectangle of output
pixels of ``out_groups`` groups of output channels, from input rows that fit the activation buffer. Layers that do not
fit are several descriptors; nothing in the hardware knows about bands.

Positions: output pixels are numbered over the pitch ``P`` of the on-chip planes, ``p = y * pitch + x``; a tile is
``rows`` consecutive positions. On chip a channel's slab holds ``stride_y * stride_x`` sub-planes, one for each phase
(coordinate modulo stride), so that a tap of consecutive positions reads consecutive bytes.
"""

from dataclasses import dataclass
from enum import IntEnum

from amaranth.hdl import signed, unsigned
from amaranth.lib import data

OP_CONVOLUTION = 0xC1
DESCRIPTOR_BYTES = 208
PARAMETER_BYTES = 16
"""Bytes of one output channel's record: bias int32, multiplier int32, shift int8, 7 bytes of zero."""


class MaskSource(IntEnum):
    """Where a descriptor's list of winning input channels comes from."""

    ALL = 0
    MEMORY = 1
    KEEP = 2


class Score(IntEnum):
    """How a channel's map becomes its score (docs/numerics.md)."""

    MAX = 0
    ABSMAX = 1
    MEAN = 2


class Select(IntEnum):
    """How scores become winners (docs/numerics.md)."""

    ALL = 0
    TOPK = 1
    ENERGY = 2
    THRESHOLD = 3


@dataclass(frozen=True)
class Field:
    """One field of the descriptor: its name, width in bits, sign and meaning."""

    name: str
    bits: int
    doc: str
    signed: bool = False


FIELDS = (
    # What this descriptor is, and how it overlaps its neighbours.
    Field("op", 8, "OP_CONVOLUTION; anything else is an error"),
    Field("barrier", 1, "start after everything before is in memory"),
    Field("act_prefetch", 1, "its activations may load while the descriptor before computes (regions are disjoint)"),
    Field("act_copy", 1, "a strip is the same bytes on chip as in memory (stride 1, pitch = in_cols = in_row_pitch)"),
    Field("act_contiguous", 1, "rows follow each other in memory: a strip of a channel is one segment"),
    Field("act_merge", 1, "planes follow each other in memory and on chip: a run of winners is one segment"),
    Field("weight_stream", 1, "blocks are read anew for every tile and freed as they are used"),
    Field("weight_keep", 1, "blocks stay on chip for the next descriptor"),
    Field("weight_reuse", 1, "blocks are those the descriptor before kept: nothing is read"),
    Field("mask_source", 2, "MaskSource of the winning input channels"),
    Field("layer_end", 1, "last descriptor of its layer: select winners, record the counters"),
    Field("sum_start", 1, "sums start at zero; else they go on from the descriptor before (one tile, one group)"),
    Field("sum_end", 1, "sums are complete with this descriptor: drain them"),
    Field("score_resume", 1, "channels' scores continue those of an earlier band"),
    Field("score_final", 1, "channels' scores are complete with this band"),
    Field("score_kind", 2, "Score"),
    Field("select", 2, "Select"),
    Field("energy_square", 1, "energy is the sum of squared scores"),
    Field("out_contiguous", 1, "the rows of a strip follow each other in memory: one run of bytes"),
    # Input activations.
    Field("in_base", 32, "address of the band's first byte of channel 0"),
    Field("in_plane", 32, "bytes from one channel to the next"),
    Field("in_row_pitch", 16, "bytes from one row to the next"),
    Field("in_channels", 16, "input channels, winners and losers"),
    Field("in_rows", 16, "rows loaded"),
    Field("in_cols", 16, "bytes loaded of each row"),
    Field("strip_rows", 16, "rows loaded of every winner before the next rows; a multiple of stride_y"),
    Field("last_strip_rows", 16, "rows of the last strip"),
    Field("strips", 16, "strips of the band"),
    Field("strip_bytes", 24, "bytes from one strip to the next on chip: strip_rows / stride_y * pitch"),
    Field("strip_pitch", 32, "bytes from one strip to the next in memory: strip_rows * in_row_pitch"),
    Field("strip_load", 24, "bytes of one channel's strip in memory (where rows are contiguous)"),
    Field("last_strip_load", 24, "the same of the last strip"),
    Field("mask_base", 32, "even address of the input mask, a bit a channel, bit 0 of byte 0 first"),
    Field("act_base", 24, "offset of the first slab in the activation buffer"),
    Field("slab_bytes", 24, "bytes from one winner's slab to the next"),
    Field("plane_bytes", 24, "bytes of a sub-plane: rows of one phase times pitch"),
    Field("pitch", 16, "bytes from one row to the next on chip"),
    Field("stride_x", 3, "1..4"),
    Field("stride_y", 3, "1..4"),
    # Weights and parameters.
    Field("weight_base", 32, "address of the first group's blocks"),
    Field("weight_group", 32, "bytes from one group's blocks to the next"),
    Field("weight_block", 16, "bytes of one input channel's block: taps times the group's columns"),
    Field("weight_block_last", 16, "the same in the last group"),
    Field("parameter_base", 32, "address of the first channel's record"),
    Field("out_groups", 16, "groups of output channels"),
    Field("group_columns", 7, "columns of every group but the last"),
    Field("last_columns", 7, "columns of the last group"),
    # The walk over the taps.
    Field("kernel_h", 4, "1..11"),
    Field("kernel_w", 4, "1..11"),
    Field("phase_y", 2, "phase of the first tap: -pad_top modulo stride_y"),
    Field("phase_x", 2, "phase of the first tap: -pad_left modulo stride_x"),
    Field("tap_y", 8, "row of the first tap in its sub-plane: floor(-pad_top / stride_y)", signed=True),
    Field("tap_x", 8, "column of the first tap in its sub-plane: floor(-pad_left / stride_x)", signed=True),
    Field("tap_base", 24, "offset of the first tap from the slab at position 0", signed=True),
    Field("step_x", 24, "offset to the next tap in a row, same sub-plane column", signed=True),
    Field("step_x_wrap", 24, "the same when the phase returns to 0", signed=True),
    Field("step_y", 24, "offset to the next row of taps, same sub-plane row", signed=True),
    Field("step_y_wrap", 24, "the same when the phase returns to 0", signed=True),
    Field("phase_rows", 16, "rows of a sub-plane: in_rows div stride_y"),
    Field("phase_rows_more", 3, "phases with one row more: in_rows mod stride_y"),
    Field("phase_cols", 16, "columns of a sub-plane: in_cols div stride_x"),
    Field("phase_cols_more", 3, "phases with one column more: in_cols mod stride_x"),
    Field("rows_ahead", 8, "rows that position row 0 needs: kernel_h - pad_top", signed=True),
    Field("tiles", 24, "tiles of one group"),
    Field("last_rows", 7, "positions of the last tile"),
    # Requantization.
    Field("in_zero_point", 8, "subtracted from every activation", signed=True),
    Field("out_zero_point", 8, "added to every result", signed=True),
    Field("activation_min", 8, "lower clamp", signed=True),
    Field("activation_max", 8, "upper clamp", signed=True),
    # Pooling and write-back.
    Field("out_base", 32, "address of the band's first byte of its first channel"),
    Field("out_plane", 32, "bytes from one channel to the next"),
    Field("out_row_pitch", 16, "bytes from one row to the next"),
    Field("out_rows", 16, "rows written (after pooling)"),
    Field("out_cols", 16, "bytes written of each row"),
    Field("out_cols_last", 16, "bytes written of the last row"),
    Field("out_strip_rows", 16, "rows written of every channel before the next rows"),
    Field("out_strip_step", 24, "positions from one strip to the next"),
    Field("out_strip_need", 24, "positions that the first strip needs"),
    Field("out_row_step", 24, "positions from one written row to the next"),
    Field("out_pitch", 16, "positions from one result row to the next"),
    Field("out_strip_pitch", 32, "bytes from one strip to the next in memory"),
    Field("positions", 24, "positions of one group up to the last pixel"),
    Field("span", 24, "positions of one group in whole tiles: tiles * rows"),
    Field("pool_h", 8, "rows of the pooling window"),
    Field("pool_w", 8, "columns of the pooling window"),
    Field("pool_stride_x", 8, "columns from one window to the next"),
    Field("chunk", 8, "bytes of a row pooled at once"),
    Field("chunk_step", 8, "positions they span: chunk * pool_stride_x"),
    # Scores and winners.
    Field("first_channel", 16, "output channel of the first group's first column"),
    Field("out_channels", 16, "output channels of the whole layer"),
    Field("select_value", 17, "k, round(65536 * eps) or the threshold"),
    Field("score_shift", 8, "shift of the mean score", signed=True),
    Field("score_multiplier", 32, "multiplier of the mean score", signed=True),
    Field("score_base", 32, "address of the scores, a byte a channel"),
    Field("winner_base", 32, "address of the output mask"),
)


def _layout() -> data.StructLayout:
    """Fields in order; none straddles a 32-bit word, so that software may pack and read it as words."""
    members, bit, padding = {}, 0, 0
    for field in FIELDS:
        room = 32 - bit % 32
        if field.bits > room:
            members[f"_padding{padding}"] = unsigned(room)
            padding += 1
            bit += room
        members[field.name] = signed(field.bits) if field.signed else unsigned(field.bits)
        bit += field.bits
    if bit > 8 * DESCRIPTOR_BYTES:
        raise AssertionError(f"the descriptor needs {bit} bits, {8 * DESCRIPTOR_BYTES} are there")
    if bit < 8 * DESCRIPTOR_BYTES:
        members["_tail"] = unsigned(8 * DESCRIPTOR_BYTES - bit)
    return data.StructLayout(members)


LAYOUT = _layout()
"""The descriptor as the hardware sees it: an ``amaranth.lib.data`` structure of ``DESCRIPTOR_BYTES`` bytes."""


class DescriptorError(ValueError):
    """A field's value does not fit its width; names the field."""


def pack(values: dict[str, int]) -> bytes:
    """Pack one value for every field into the ``DESCRIPTOR_BYTES`` bytes of a descriptor.

    Raises :class:`DescriptorError` for a missing or unknown field and for a value outside its field's range.
    """
    unknown = set(values) - {field.name for field in FIELDS}
    if unknown:
        raise DescriptorError(f"{sorted(unknown)[0]}: not a field of the descriptor")
    word = 0
    for field in FIELDS:
        if field.name not in values:
            raise DescriptorError(f"{field.name}: missing")
        value = int(values[field.name])
        low, high = (-(1 << field.bits - 1), 1 << field.bits - 1) if field.signed else (0, 1 << field.bits)
        if not low <= value < high:
            raise DescriptorError(f"{field.name}: expected {low}..{high - 1}, got {value}")
        word |= (value & (1 << field.bits) - 1) << LAYOUT[field.name].offset
    return word.to_bytes(DESCRIPTOR_BYTES, "little")


def unpack(packed: bytes) -> dict[str, int]:
    """The inverse of :func:`pack`."""
    word = int.from_bytes(packed, "little")
    values = {}
    for field in FIELDS:
        value = word >> LAYOUT[field.name].offset & (1 << field.bits) - 1
        values[field.name] = value - (1 << field.bits) if field.signed and value >> field.bits - 1 else value
    return values
