"""The addition job: TFLite's int8 ADD of two maps, each with its own scale (docs/numerics.md)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from golden.checks import check, check_activation, check_integer, check_map, check_mask
from golden.multipliers import INT32_MAX, SHIFT_MAX, SHIFT_MIN
from golden.npz import NpzReader, check_op, write_npz
from golden.ranking_rule import Ranking, check_ranking, ranking_arrays, read_ranking

_MAPS = ("input_1", "input_2")
_MASKS = ("channel_mask_1", "channel_mask_2")
_ZERO_POINTS = ("input_1_zero_point", "input_2_zero_point", "output_zero_point")
_MULTIPLIERS = ("input_1_multiplier", "input_2_multiplier", "output_multiplier")
_SHIFTS = ("input_1_shift", "input_2_shift", "output_shift")
_SCALARS = (*_ZERO_POINTS, *_MULTIPLIERS, *_SHIFTS, "activation_min", "activation_max")


@dataclass(frozen=True, kw_only=True, eq=False)
class AddJob:
    """The sum of two maps of one shape. A masked channel of either counts as a map of real zeros (its zero point).

    Parameters
    ----------
    input_1, input_2 : int8 [C,H,W]; C 1..65535
    input_1_zero_point, input_2_zero_point, output_zero_point : int8 values
    input_1_multiplier, input_2_multiplier, output_multiplier : 1..2**31-1
    input_1_shift, input_2_shift : -31..0
    output_shift : -31..30; positive shifts left
    activation_min, activation_max : int8 values, the clamp after the output zero point
    channel_mask_1, channel_mask_2 : uint8 [C] of 0 and 1 (1 = winner), or None: every channel takes part
    ranking : Ranking, or None: max scores, every channel wins

    :func:`golden.numerics.add_multipliers` gives multipliers and shifts from the three scales.
    Raises JobError for anything else.
    """

    input_1: np.ndarray
    input_2: np.ndarray
    input_1_zero_point: int
    input_2_zero_point: int
    output_zero_point: int
    input_1_multiplier: int
    input_2_multiplier: int
    output_multiplier: int
    input_1_shift: int
    input_2_shift: int
    output_shift: int
    activation_min: int = -128
    activation_max: int = 127
    channel_mask_1: np.ndarray | None = None
    channel_mask_2: np.ndarray | None = None
    ranking: Ranking | None = None

    def __post_init__(self):
        put = object.__setattr__
        for name in _MAPS:
            put(self, name, check_map(name, getattr(self, name)))
        shape = self.input_1.shape
        check(self.input_2.shape == shape, "input_2", f"the shape of input_1 {list(shape)}", list(self.input_2.shape))
        for name in _ZERO_POINTS:
            put(self, name, check_integer(name, getattr(self, name), -128, 127))
        for name in _MULTIPLIERS:
            put(self, name, check_integer(name, getattr(self, name), 1, INT32_MAX))
        for name, high in zip(_SHIFTS, (0, 0, SHIFT_MAX), strict=True):
            put(self, name, check_integer(name, getattr(self, name), SHIFT_MIN, high))
        low, high = check_activation(self)
        put(self, "activation_min", low)
        put(self, "activation_max", high)
        for name in _MASKS:
            put(self, name, check_mask(name, getattr(self, name), shape[0]))
        check_ranking(self.ranking, shape[0])

    @property
    def op(self) -> str:
        """The operation's name in JOB.npz, "add"."""
        return "add"

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(C, H, W), that of the inputs."""
        return self.input_1.shape

    def save(self, path: str | Path) -> None:
        """Write JOB.npz; the file appears whole or not at all."""
        arrays = {"op": np.array(self.op)}
        arrays |= {name: getattr(self, name) for name in _MAPS + _MASKS if getattr(self, name) is not None}
        arrays |= {name: np.int64(getattr(self, name)) for name in _SCALARS}
        write_npz(path, arrays | ranking_arrays(self.ranking))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read and validate JOB.npz. Arrays of other names are ignored. Raises JobError."""
        with NpzReader(path) as npz:
            check_op(npz, "add")
            return cls.read(npz)

    @classmethod
    def read(cls, npz: NpzReader) -> Self:
        """:meth:`load` from an open file, whose ``op`` is not looked at."""
        fields = {name: npz.array(name) for name in _MAPS}
        fields |= {name: npz.array(name) for name in _MASKS if name in npz}
        return cls(ranking=read_ranking(npz), **fields, **{name: npz.scalar(name, "iu") for name in _SCALARS})
