"""Weights, constants and masks in memory, against loops in Python."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.band import LayerShape
from hw.packing import (
    ALIGNMENT,
    align,
    block_mask_bytes,
    pack_block_masks,
    pack_mask,
    pack_parameters,
    pack_vector_weights,
    pack_weights,
    unpack_mask,
    used_blocks,
)

CHUNK = 16
"""Channels that a mask is read in."""


@pytest.mark.parametrize("columns", [1, 3, 4, 16])
@pytest.mark.parametrize("groups", [1, 2, 5])
def test_weights_lie_in_the_order_of_use(columns, groups):
    """Part, group, input channel, kernel row, kernel column, column of the group; nothing in between."""
    outputs, channels, height, width = 10, 3, 2, 5
    weight = np.random.default_rng(columns).integers(-128, 128, (outputs, channels, height, width), np.int8)
    expected, size = [], outputs // groups
    for part in range(0, outputs, size):
        for start in range(part, part + size, columns):
            for c in range(channels):
                for y in range(height):
                    for x in range(width):
                        expected += [int(weight[o, c, y, x]) & 0xFF
                                     for o in range(start, min(part + size, start + columns))]
    packed = pack_weights(weight, columns, groups)
    assert packed.dtype == np.uint8 and packed.tolist() == expected


@pytest.mark.parametrize("width", [1, 2, 3, 5, 11])
def test_depthwise_weights_lie_as_they_are_walked(width):
    """Channel, kernel row, kernel column; nothing in between, wherever the array itself lay."""
    weight = np.random.default_rng(width).integers(-128, 128, (6, 1, 3, width), np.int8)
    expected = [int(weight[o, 0, y, x]) & 0xFF for o in range(6) for y in range(3) for x in range(width)]
    for stored in (weight, np.asfortranarray(weight), np.repeat(weight, 2, axis=0)[::2]):
        packed = pack_vector_weights(stored)
        assert packed.dtype == np.uint8 and packed.tolist() == expected


def test_parameters_are_records():
    random = np.random.default_rng(0)
    bias, multiplier = random.integers(-2**31, 2**31, (2, 9)).astype(np.int32)
    shift = random.integers(-31, 31, 9).astype(np.int32)
    expected = b"".join(struct.pack("<iib7x", *record) for record in zip(bias, multiplier, shift, strict=True))
    assert pack_parameters(bias, multiplier, shift).tobytes() == expected


@given(st.lists(st.booleans(), min_size=1, max_size=300))
def test_masks(mask):
    packed = pack_mask(np.array(mask, np.uint8))
    assert len(packed) == (len(mask) + 7) // 8
    assert [bool(packed[n // 8] >> n % 8 & 1) for n in range(len(mask))] == mask
    assert unpack_mask(packed, len(mask)).tolist() == mask


@pytest.mark.parametrize(("groups", "depth", "width", "columns"), [
    (1, 3, 10, 4), (1, 16, 16, 16), (1, 40, 5, 1), (3, 7, 5, 2), (2, 33, 9, 16), (8, 2, 4, 4),
])
def test_block_masks(groups, depth, width, columns):
    """A bit is 1 where a block has a weight; the mask's first bit is a channel that divides by 16."""
    random = np.random.default_rng(depth)
    weight = random.integers(-1, 2, (groups * width, depth, 2, 3)) * (random.random((groups * width, depth, 1, 1)) < .1)
    used = used_blocks(weight.astype(np.int8), columns, groups)
    blocks = -(-width // columns)
    assert used.shape == (groups, blocks, depth)
    layer = LayerShape(channels=groups * depth, height=4, width=4, out_channels=groups * width, kernel=(2, 3),
                       groups=groups)
    size, packed = block_mask_bytes(layer), pack_block_masks(used, layer)
    assert size % 2 == 0 and packed.dtype == np.uint8 and packed.size == groups * blocks * size
    for part in range(groups):
        for block in range(blocks):
            first = part * width + block * columns
            last = min(first + columns, (part + 1) * width)
            mask = packed[(part * blocks + block) * size:][:size]
            ones = {n for n in range(8 * size) if mask[n // 8] >> n % 8 & 1}
            skip = part * depth % CHUNK
            assert skip + depth <= 8 * size
            expected = {skip + c for c in range(depth) if any(weight[o, c].any() for o in range(first, last))}
            assert ones == expected
            assert {skip + c for c in range(depth) if used[part, block, c]} == expected


@given(st.integers(0, 1 << 32))
def test_alignment(address):
    assert address <= align(address) < address + ALIGNMENT and align(address) % ALIGNMENT == 0
