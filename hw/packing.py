"""Tensors as they lie in memory, and back."""

import numpy as np

from .band import LayerShape
from .config import ceil_div
from .descriptor import PARAMETER_BYTES
from .winner_list import CHUNK

ALIGNMENT = 64


def pack_weights(weight: np.ndarray, columns: int, groups: int = 1) -> np.ndarray:
    """Weights int8 [O, C/groups, KH, KW] as ``[group][output-channel group][input channel][tap][column]``.

    Bytes in memory order. The last output-channel group has only the columns that are left, so a layer's weights take
    exactly as many bytes as there are.
    """
    outputs = len(weight) // groups
    parts = [np.ascontiguousarray(part[start:start + columns].transpose(1, 2, 3, 0)).reshape(-1)
             for part in np.split(weight, groups) for start in range(0, outputs, columns)]
    return np.concatenate(parts).view(np.uint8)


def pack_vector_weights(weight: np.ndarray) -> np.ndarray:
    """Depthwise weights int8 [O, 1, KH, KW] as they lie: ``[channel][row][tap]``."""
    return np.ascontiguousarray(weight).reshape(-1).view(np.uint8)


def pack_parameters(bias: np.ndarray, multiplier: np.ndarray, shift: np.ndarray, *, once: bool = False) -> np.ndarray:
    """One ``PARAMETER_BYTES`` record for each output channel."""
    records = np.zeros((len(bias), PARAMETER_BYTES), np.uint8)
    records[:, 9] = once
    for column, (values, dtype) in {0: (bias, "<i4"), 4: (multiplier, "<i4"), 8: (shift, "i1")}.items():
        raw = np.asarray(values).astype(dtype).view(np.uint8).reshape(len(bias), -1)
        records[:, column:column + raw.shape[1]] = raw
    return records.reshape(-1)


def pack_mask(mask: np.ndarray) -> np.ndarray:
    """A bit a channel, channel 0 in bit 0 of byte 0."""
    return np.packbits(mask.astype(bool), bitorder="little")


def unpack_mask(packed: np.ndarray, channels: int) -> np.ndarray:
    """The inverse of :func:`pack_mask`: uint8 [channels] of 0 and 1."""
    return np.unpackbits(packed, bitorder="little", count=channels)


def used_blocks(weight: np.ndarray, columns: int, groups: int = 1) -> np.ndarray:
    """Blocks of weights int8 [O, C/groups, KH, KW] that are not all zero: bool [group, output-channel group, C/groups].

    A block is one input channel's weights for ``columns`` output channels.
    """
    outputs = len(weight) // groups
    used = (weight != 0).any((2, 3)).reshape(groups, outputs, -1)
    return np.logical_or.reduceat(used, range(0, outputs, columns), axis=1)


def block_mask_bytes(layer: LayerShape) -> int:
    """Bytes from one group's block mask to the next: whole chunks of channels, that before the first one's included."""
    depth = layer.channels // layer.groups
    return 2 * (ceil_div(depth, CHUNK) + (layer.groups > 1))


def pack_block_masks(used: np.ndarray, layer: LayerShape) -> np.ndarray:
    """The masks of :func:`used_blocks`, a bit an input channel, as the layer's input mask lies in its chunks."""
    masks = np.zeros((*used.shape[:2], 8 * block_mask_bytes(layer)), bool)
    for group, rows in enumerate(masks):
        skip = group * used.shape[2] % CHUNK
        rows[:, skip:skip + used.shape[2]] = used[group]
    return np.packbits(masks, bitorder="little")


def align(address: int) -> int:
    """The next address that tensors start at."""
    return ceil_div(address, ALIGNMENT) * ALIGNMENT
