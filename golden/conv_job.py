"""The convolution job: one int8 convolution with its input, as tensors in memory and as JOB.npz (docs/numerics.md)."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from golden.checks import check, check_activation, check_integer, check_map, check_mask
from golden.conv_tensors import DEFAULTS, NAMES, ConvTensors, changed, stored_arrays
from golden.geometry import NO_PADDING, ConvGeometry
from golden.npz import NpzReader, check_op, write_npz
from golden.ranking_rule import Ranking, check_ranking, ranking_arrays, read_ranking


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerJob:
    """One convolution layer and its input; a fully connected layer is a convolution whose kernel is the map.

    Parameters
    ----------
    input : int8 [C,H,W]; C 1..65535
    weight : int8 [O,C/groups,KH,KW]; O 1..65535, KH and KW 1..11
    bias : int32 [O]
    multiplier : int32 [O], not negative
    shift : int32 [O], -31..30; positive shifts left
    input_zero_point, output_zero_point : int8 values
    activation_min, activation_max : int8 values, the clamp after the output zero point
    groups : divides C and O
    stride : (vertical, horizontal), 1..4 each
    padding : (top, bottom, left, right), each smaller than the kernel in its direction
    channel_mask : uint8 [C] of 0 and 1 (1 = winner), or None: every input channel takes part
    pool : max-pooling (KH, KW, SH, SW) after the activation, no larger than the convolution's padded map, or None
    pool_padding : the pool's (top, bottom, left, right), each smaller than its kernel; what is outside is ignored
    weight_zero_point : an int8 value that is subtracted from every weight
    rounding : "twice" or "once", how sums are requantized
    ranking : Ranking, or None: max scores, every channel wins

    Raises JobError for anything else.
    """

    input: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray
    input_zero_point: int
    output_zero_point: int
    activation_min: int
    activation_max: int
    groups: int = 1
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    channel_mask: np.ndarray | None = None
    pool: tuple[int, int, int, int] | None = None
    pool_padding: tuple[int, int, int, int] = NO_PADDING
    weight_zero_point: int = DEFAULTS["weight_zero_point"]
    rounding: str = DEFAULTS["rounding"]
    ranking: Ranking | None = None

    def __post_init__(self):
        put = object.__setattr__
        put(self, "input", check_map("input", self.input))
        channels = self.input.shape[0]
        names = (*NAMES, *DEFAULTS)
        tensors = ConvTensors(**{name: getattr(self, name) for name in names})
        for name in names:
            put(self, name, getattr(tensors, name))
        for name in ("groups", "stride", "padding", "pool", "pool_padding"):
            put(self, name, getattr(self.geometry, name))
        outputs, depth = self.weight.shape[:2]
        check(depth == channels // self.groups, "weight", f"C/groups = {channels // self.groups} input channels", depth)

        for name in ("input_zero_point", "output_zero_point"):
            put(self, name, check_integer(name, getattr(self, name), -128, 127))
        low, high = check_activation(self)
        put(self, "activation_min", low)
        put(self, "activation_max", high)
        put(self, "channel_mask", check_mask("channel_mask", self.channel_mask, channels))
        check_ranking(self.ranking, outputs)

    @cached_property
    def geometry(self) -> ConvGeometry:
        """The layer's sizes, checked."""
        outputs, _, *kernel = self.weight.shape
        return ConvGeometry(
            input_shape=self.input.shape, out_channels=outputs, kernel=tuple(kernel), stride=self.stride,
            padding=self.padding, groups=self.groups, pool=self.pool, pool_padding=self.pool_padding)

    @property
    def op(self) -> str:
        """The operation's name in JOB.npz, "conv"."""
        return "conv"

    @property
    def conv_shape(self) -> tuple[int, int, int]:
        """(O, H_out, W_out) of the convolution, before the pool."""
        return self.geometry.conv_shape

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(O, OH, OW) of the layer's output, after the pool."""
        return self.geometry.output_shape

    @property
    def winner_indices(self) -> np.ndarray:
        """int64 indices of the input channels that take part, ascending."""
        if self.channel_mask is None:
            return np.arange(self.input.shape[0])
        return np.flatnonzero(self.channel_mask)

    def save(self, path: str | Path) -> None:
        """Write JOB.npz; the file appears whole or not at all."""
        names = ("input", *NAMES, "channel_mask")
        arrays = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        for name in ("input_zero_point", "output_zero_point", "activation_min", "activation_max", "groups"):
            arrays[name] = np.int64(getattr(self, name))
        for name in ("stride", "padding", "pool"):
            if getattr(self, name) is not None:
                arrays[name] = np.array(getattr(self, name), np.int64)
        if any(self.pool_padding):
            arrays["pool_padding"] = np.array(self.pool_padding, np.int64)
        write_npz(path, arrays | changed(self) | ranking_arrays(self.ranking))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read and validate JOB.npz. Arrays of other names are ignored. Raises JobError."""
        with NpzReader(path) as npz:
            check_op(npz, "conv")
            return cls.read(npz)

    @classmethod
    def read(cls, npz: NpzReader) -> Self:
        """:meth:`load` from an open file, whose ``op`` is not looked at."""
        scalars = ("input_zero_point", "output_zero_point", "activation_min", "activation_max", "groups")
        fields = {"input": npz.array("input")} | stored_arrays(npz)
        fields |= {name: npz.scalar(name, "iu") for name in scalars}
        fields |= {name: npz.array(name) for name in ("stride", "padding")}
        fields |= {name: npz.array(name) for name in ("channel_mask", "pool", "pool_padding") if name in npz}
        return cls(ranking=read_ranking(npz), **fields)
