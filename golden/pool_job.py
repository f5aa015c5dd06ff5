"""The pooling job: MAX_POOL_2D, AVERAGE_POOL_2D or a global MEAN of one int8 map (docs/numerics.md)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from golden.checks import check, check_activation, check_integer, check_integers, check_map, check_mask
from golden.geometry import NO_PADDING, PoolGeometry, window_extent
from golden.multipliers import INT32_MAX, SHIFT_MAX, SHIFT_MIN
from golden.npz import NpzReader, check_op, write_npz
from golden.ranking_rule import Ranking, check_ranking, ranking_arrays, read_ranking

OPS = {"max": "max_pool", "average": "average_pool", "mean": "mean"}
TIES = ("away", "up")
"""Where an average goes that lies between two integers: away from zero, as in TFLite's int8 kernel, or up, as in its
uint8 kernel."""
_KINDS = {op: kind for kind, op in OPS.items()}
_SCALARS = ("input_zero_point", "output_zero_point", "activation_min", "activation_max")


@dataclass(frozen=True, kw_only=True, eq=False)
class PoolJob:
    """One pooling layer and its input. A masked channel counts as a map of real zeros (its zero point).

    Parameters
    ----------
    kind : "max" or "average" over windows, "mean" over the whole map
    input : int8 [C,H,W]; C 1..65535
    input_zero_point, output_zero_point : int8 values; equal unless ``kind`` is mean
    activation_min, activation_max : int8 values, the clamp of the result
    kernel : (KH, KW), no larger than the padded map; None for mean, which takes the whole map
    stride : (vertical, horizontal), positive; None: the kernel's size, as for mean
    padding : (top, bottom, left, right), each smaller than the kernel; pixels outside do not count. Zeros for mean
    multiplier, shift : 0..2**31-1 and -31..30, the requantization of mean's sum; both 0 for the others
    ties : "away" or, of an average, "up" (:data:`TIES`)
    channel_mask : uint8 [C] of 0 and 1 (1 = winner), or None: every channel takes part
    ranking : Ranking, or None: max scores, every channel wins

    After construction ``kernel`` and ``stride`` are never None. Raises JobError for anything else.
    """

    kind: str
    input: np.ndarray
    input_zero_point: int
    output_zero_point: int
    activation_min: int = -128
    activation_max: int = 127
    kernel: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    padding: tuple[int, int, int, int] = NO_PADDING
    multiplier: int = 0
    shift: int = 0
    ties: str = "away"
    channel_mask: np.ndarray | None = None
    ranking: Ranking | None = None

    def __post_init__(self):
        put = object.__setattr__
        check(self.kind in OPS, "kind", f"one of {', '.join(OPS)}", repr(self.kind))
        put(self, "input", check_map("input", self.input))
        channels, *extent = self.input.shape
        for name in ("input_zero_point", "output_zero_point"):
            put(self, name, check_integer(name, getattr(self, name), -128, 127))
        allowed = TIES if self.kind == "average" else TIES[:1]
        check(self.ties in allowed, "ties", f"{' or '.join(allowed)} for {self.op}", repr(self.ties))
        low, high = check_activation(self)
        put(self, "activation_min", low)
        put(self, "activation_max", high)
        if self.kind == "mean":
            self._check_mean(tuple(extent))
        else:
            self._check_windows()
        put(self, "channel_mask", check_mask("channel_mask", self.channel_mask, channels))
        check_ranking(self.ranking, channels)

    def _check_mean(self, extent: tuple[int, int]) -> None:
        put = object.__setattr__
        for name in ("kernel", "stride"):
            value = getattr(self, name)
            if value is not None:
                expected = f"none or the whole map {list(extent)} for mean"
                check(check_integers(name, value, 2, 1, INT32_MAX, expected) == extent, name, expected, value)
            put(self, name, extent)
        put(self, "padding", check_integers("padding", self.padding, 4, 0, 0, "four zeros for mean"))
        put(self, "multiplier", check_integer("multiplier", self.multiplier, 0, INT32_MAX))
        put(self, "shift", check_integer("shift", self.shift, SHIFT_MIN, SHIFT_MAX))

    def _check_windows(self) -> None:
        put = object.__setattr__
        geometry = PoolGeometry(input_shape=self.input.shape, kernel=self.kernel, stride=self.stride,
                                padding=self.padding)
        for name in ("kernel", "stride", "padding"):
            put(self, name, getattr(geometry, name))
        check(self.output_zero_point == self.input_zero_point, "output_zero_point",
              f"the input's, {self.input_zero_point}, for {self.op}", self.output_zero_point)
        for name in ("multiplier", "shift"):
            put(self, name, check_integer(name, getattr(self, name), 0, 0, f"0 for {self.op}"))

    @property
    def op(self) -> str:
        """The operation's name in JOB.npz, "max_pool", "average_pool" or "mean"."""
        return OPS[self.kind]

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(C, OH, OW) of the layer's output; (C, 1, 1) of mean."""
        channels, *extent = self.input.shape
        return channels, *window_extent(extent, self.kernel, self.stride, self.padding)

    def save(self, path: str | Path) -> None:
        """Write JOB.npz; the file appears whole or not at all."""
        arrays = {"op": np.array(self.op), "input": self.input}
        arrays |= {name: np.int64(getattr(self, name)) for name in _SCALARS}
        if self.kind == "mean":
            arrays |= {name: np.int64(getattr(self, name)) for name in ("multiplier", "shift")}
        else:
            arrays |= {name: np.array(getattr(self, name), np.int64) for name in ("kernel", "stride", "padding")}
        if self.ties != "away":
            arrays["ties"] = np.array(self.ties)
        if self.channel_mask is not None:
            arrays["channel_mask"] = self.channel_mask
        write_npz(path, arrays | ranking_arrays(self.ranking))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read and validate JOB.npz. Arrays of other names are ignored. Raises JobError."""
        with NpzReader(path) as npz:
            return cls.read(npz, check_op(npz, *_KINDS))

    @classmethod
    def read(cls, npz: NpzReader, op: str) -> Self:
        """:meth:`load` from an open file whose ``op`` is known."""
        fields = {name: npz.scalar(name, "iu") for name in _SCALARS}
        if op == "mean":
            fields |= {name: npz.scalar(name, "iu") for name in ("multiplier", "shift")}
        else:
            fields |= {name: npz.array(name) for name in ("kernel", "stride", "padding")}
        if "channel_mask" in npz:
            fields["channel_mask"] = npz.array("channel_mask")
        if "ties" in npz:
            fields["ties"] = npz.scalar("ties", "U")
        return cls(kind=_KINDS[op], input=npz.array("input"), ranking=read_ranking(npz), **fields)
