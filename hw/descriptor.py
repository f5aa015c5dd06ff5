"""The layer descriptor: one definition for the hardware, the lowering and the documentation.

A program is an array of descriptors in memory. One descriptor computes one *band* of a layer: a rectangle of output
pixels of ``out_groups`` groups of output channels, from input rows that fit the activation buffer. Layers that do not
fit are several descriptors; nothing in the hardware knows about bands.

``OP_CONVOLUTION`` runs on the array, every output channel from all winners. ``OP_VECTOR`` runs on the vector unit,
every output channel from one input channel (depthwise, pooling) or from that channel of two operands (addition); its
input channels, winners or not, each have their slab on chip.

Positions: output pixels are numbered over the pitch ``P`` of the on-chip planes, ``p = y * pitch + x``; a tile is
``rows`` consecutive positions. On chip a channel's slab holds ``stride_y * stride_x`` sub-planes, one for each phase
(coordinate modulo stride), so that a tap of consecutive positions reads consecutive bytes. The vector unit reads every
``lane_step``-th byte instead: there ``stride_x`` is 1, and ``lane_step`` the layer's stride. Where its tiles are rows
of results, ``stride_y`` is 1, too, and ``tile_bytes`` as many rows of input as the stride.
"""

from dataclasses import dataclass
from enum import IntEnum

from amaranth.hdl import signed, unsigned
from amaranth.lib import data

OP_CONVOLUTION = 0xC1
OP_VECTOR = 0xC2
DESCRIPTOR_BYTES = 224
PARAMETER_BYTES = 16
"""Bytes of one output channel's record: bias int32, multiplier int32, shift int8, once uint8, 6 bytes of zero."""


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
    Field("op", 8, "OP_CONVOLUTION or OP_VECTOR; anything else is an error"),
    Field("barrier", 1, "start after everything before is in memory"),
    Field("act_prefetch", 1, "its activations may load while the descriptor before computes (regions are disjoint)"),
    Field("act_copy", 1, "a strip is the same bytes on chip as in memory (stride 1, pitch = in_cols = in_row_pitch)"),
    Field("act_contiguous", 1, "rows follow each other in memory: a strip of a channel is one segment"),
    Field("act_merge", 1, "planes follow each other in memory and on chip: a run of winners is one segment"),
    Field("act_resident", 1, "activations are on chip: the layer before has put them there"),
    Field("weights_ahead", 1, "with barrier: first constants and weights are read while the layer before computes"),
    Field("weight_keep", 1, "blocks stay on chip for the next descriptor"),
    Field("weight_reuse", 1, "blocks are those the descriptor before kept: nothing is read"),
    Field("mask_source", 2, "MaskSource of the winning input channels"),
    Field("layer_end", 1, "last descriptor of its layer: select winners, record the counters"),
    Field("sum_start", 1, "sums start at zero; else they go on from the descriptor before (of one group)"),
    Field("sum_end", 1, "sums are complete with this descriptor; else they wait in the psum memory"),
    Field("score_resume", 1, "channels' scores continue those of an earlier band"),
    Field("score_final", 1, "channels' scores are complete with this band"),
    Field("score_kind", 2, "Score"),
    Field("select", 2, "Select"),
    Field("energy_square", 1, "energy is the sum of squared scores"),
    Field("out_contiguous", 1, "the rows of a strip follow each other in memory: one run of bytes"),
    Field("out_to_memory", 1, "results are written to memory"),
    Field("out_to_chip", 1, "results are written into the activation buffer"),
    Field("skip_losers", 1, "a plane whose score is below the running threshold is not written (one strip, one band)"),
    Field("unit_weight", 8, "vector: every weight, where none is read (pooling); 0: they are read", signed=True),
    Field("add", 1, "vector: strip 0 is the first operand, strip 1 the second; their scaled sum is requantized"),
    Field("act_dense", 1, "slabs lie by channel, losers leave holes; else by winner"),
    Field("lists", 1, "convolution of dense slabs: each group walks the winners whose block is in its block mask"),
    Field("list_once", 1, "with lists: the winners for all groups, there are no block masks"),
    Field("mask_source_2", 2, "addition: MaskSource of the second operand, never KEEP"),
    Field("parameter_shared", 1, "one record of constants serves all channels of a group"),
    # Input activations.
    Field("in_base", 32, "address of the band's first byte of channel 0"),
    Field("in_plane", 32, "bytes from one channel to the next"),
    Field("in_row_pitch", 16, "bytes from one row to the next"),
    Field("in_channels", 16, "input channels, winners and losers"),
    Field("in_rows", 17, "rows loaded, of both operands of an addition"),
    Field("in_cols", 16, "bytes loaded of each row"),
    Field("strip_rows", 16, "rows loaded of every winner before the next rows; a multiple of stride_y"),
    Field("last_strip_rows", 16, "rows of the last strip"),
    Field("strips", 16, "strips of the band"),
    Field("strip_bytes", 24, "bytes from one strip to the next on chip: strip_rows / stride_y * pitch"),
    Field("strip_pitch", 32, "bytes from one strip to the next in memory: strip_rows * in_row_pitch"),
    Field("strip_load", 24, "bytes of one channel's strip in memory (where rows are contiguous)"),
    Field("last_strip_load", 24, "the same of the last strip"),
    Field("mask_base", 32, "even address of the input mask, a bit a channel, bit 0 of byte 0 first"),
    Field("mask_skip", 4, "bits of the mask, and channels, before the first that takes part"),
    Field("mask_base_2", 32, "addition: the mask of the second operand"),
    Field("act_base", 24, "offset of the first slab in the activation buffer"),
    Field("slab_bytes", 24, "bytes from one winner's slab to the next"),
    Field("plane_bytes", 24, "bytes of a sub-plane: rows of one phase times pitch"),
    Field("pitch", 16, "bytes from one row to the next on chip"),
    Field("lane_step", 3, "bytes from a position's input to that of the next: 1; vector: 1..4"),
    Field("stride_x", 3, "1..4"),
    Field("stride_y", 3, "1..4"),
    Field("load_phases", 3, "column phases that are kept, 1..stride_x"),
    # Weights and parameters.
    Field("weight_base", 32, "address of the first group's blocks"),
    Field("weight_group", 32, "bytes from one group's blocks to the next"),
    Field("block_mask_base", 32, "even address of the first group's block mask, a bit an input channel"),
    Field("block_mask_group", 16, "bytes from one group's block mask to the next"),
    Field("weight_block", 16, "bytes of one input channel's block: taps times the group's columns"),
    Field("weight_block_last", 16, "the same in the last group"),
    Field("pass_winners", 16, "winners of a pass; the sums of all tiles wait for the next pass in the psum memory"),
    Field("parameter_base", 32, "address of the first channel's record"),
    Field("out_groups", 16, "groups of output channels"),
    Field("group_columns", 7, "columns of every group but the last"),
    Field("last_columns", 7, "columns of the last group"),
    # The walk over the taps.
    Field("kernel_h", 8, "rows of taps"),
    Field("kernel_w", 8, "columns of taps"),
    Field("depth_multiplier", 8, "vector: output channels for each input channel"),
    Field("phase_y", 2, "phase of the first tap: -pad_top modulo stride_y"),
    Field("phase_x", 2, "phase of the first tap: -pad_left modulo stride_x"),
    Field("tap_y", 9, "row of the first tap in its sub-plane: floor(-pad_top / stride_y)", signed=True),
    Field("tap_x", 9, "column of the first tap in its sub-plane: floor(-pad_left / stride_x)", signed=True),
    Field("tap_base", 24, "offset of the first tap from the slab at position 0", signed=True),
    Field("step_x", 24, "offset to the next tap in a row, same sub-plane column", signed=True),
    Field("step_x_wrap", 24, "the same when the phase returns to 0", signed=True),
    Field("step_y", 24, "offset to the next row of taps, same sub-plane row", signed=True),
    Field("step_y_wrap", 24, "the same when the phase returns to 0", signed=True),
    Field("phase_rows", 16, "rows of a sub-plane: in_rows div stride_y"),
    Field("phase_rows_more", 3, "phases with one row more: in_rows mod stride_y"),
    Field("phase_cols", 16, "columns of a sub-plane: in_cols div stride_x"),
    Field("phase_cols_more", 3, "phases with one column more: in_cols mod stride_x"),
    Field("rows_ahead", 18, "rows that position row 0 needs: kernel_h - pad_top", signed=True),
    Field("tiles", 24, "tiles of one group (vector: of one channel)"),
    Field("tile_positions", 7, "positions of a tile: the array's rows, the vector unit's lanes"),
    Field("tile_bytes", 16, "bytes from a tile's input to the next: tile_positions * lane_step, or rows of input"),
    Field("tile_rows", 7, "from a tile to the next: rows on chip, tile_bytes div pitch"),
    Field("tile_cols", 7, "and columns, tile_bytes mod pitch"),
    Field("last_rows", 7, "positions of the last tile"),
    # Requantization.
    Field("in_zero_point", 8, "subtracted from every activation", signed=True),
    Field("in_zero_point_2", 8, "the same of an addition's second operand", signed=True),
    Field("weight_zero_point", 8, "subtracted from every weight; 0 for an engine of 8-bit weights", signed=True),
    Field("add_multiplier_1", 32, "addition: scale of the first operand", signed=True),
    Field("add_multiplier_2", 32, "addition: scale of the second operand", signed=True),
    Field("add_shift_1", 5, "addition: right shift of the first operand"),
    Field("add_shift_2", 5, "addition: right shift of the second operand"),
    Field("result_zero_point", 8, "added to every result", signed=True),
    Field("out_zero_point", 8, "subtracted from a result for its score", signed=True),
    Field("activation_min", 8, "lower clamp", signed=True),
    Field("activation_max", 8, "upper clamp", signed=True),
    # Pooling and write-back.
    Field("out_base", 32, "address of the band's first byte of its first channel"),
    Field("chip_offset", 24, "from an address in memory to the offset in the activation buffer, modulo 2**24"),
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
    Field("positions", 24, "positions of one group (vector: of one channel) up to the last pixel"),
    Field("span", 24, "the same in whole tiles: tiles * tile_positions"),
    Field("pool_h", 8, "rows of the pooling window"),
    Field("pool_w", 8, "columns of the pooling window"),
    Field("pool_stride_x", 8, "columns from one window to the next"),
    Field("pool_stride_y", 8, "rows from one window to the next"),
    Field("pool_x", 9, "column of the first window's first tap: minus the padding before", signed=True),
    Field("pool_y", 9, "row of the first window's first tap: minus the padding before", signed=True),
    Field("pool_cols", 16, "columns of results; taps beyond are left out"),
    Field("pool_rows", 16, "rows of results; taps beyond are left out"),
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
    """Every field in the first 32-bit word with room, wide fields first: software may pack and read it as words."""
    words: list[list[Field]] = []
    for field in sorted(FIELDS, key=lambda field: -field.bits):
        for word in words:
            if sum(other.bits for other in word) + field.bits <= 32:
                word.append(field)
                break
        else:
            words.append([field])
    if 4 * len(words) > DESCRIPTOR_BYTES:
        raise AssertionError(f"the descriptor needs {4 * len(words)} bytes, {DESCRIPTOR_BYTES} are there")
    members = {}
    for number, word in enumerate(words):
        for field in word:
            members[field.name] = signed(field.bits) if field.signed else unsigned(field.bits)
        unused = 32 - sum(field.bits for field in word)
        if unused:
            members[f"_unused{number}"] = unsigned(unused)
    if 4 * len(words) < DESCRIPTOR_BYTES:
        members["_tail"] = unsigned(8 * DESCRIPTOR_BYTES - 32 * len(words))
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
