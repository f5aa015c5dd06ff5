"""The sizes of a layer, without its values: what shapes, windows and groups fit together, and what comes out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from golden.checks import MAX_CHANNELS, check, check_integer, check_integers
from golden.multipliers import INT32_MAX

MAX_KERNEL = 11
MAX_STRIDE = 4
NO_PADDING = (0, 0, 0, 0)


def window_extent(extent: Sequence[int], kernel: Sequence[int], stride: Sequence[int],
                  padding: Sequence[int]) -> tuple[int, int]:
    """(rows, columns) of the positions of a window over a map of ``extent`` (H, W); below 1 where none fits."""
    top, bottom, left, right = padding
    rows = (extent[0] + top + bottom - kernel[0]) // stride[0] + 1
    return rows, (extent[1] + left + right - kernel[1]) // stride[1] + 1


def same_padding(extent: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> tuple[int, int, int, int]:
    """TFLite's SAME padding, for ceil(size / stride) positions: of an odd number of pixels the last side gets more."""
    padding = []
    for size, window, step in zip(extent, kernel, stride, strict=True):
        total = max((-(-size // step) - 1) * step + window - size, 0)
        padding += [total // 2, total - total // 2]
    return tuple(padding)


def check_padding(name: str, padding: Any, kernel: Sequence[int], what: str) -> tuple[int, ...]:
    """Return (top, bottom, left, right) as Python ints, or raise JobError unless each is smaller than ``kernel``."""
    expected = f"four integers (top, bottom, left, right), each smaller than {what}"
    padding = check_integers(name, padding, 4, 0, max(kernel) - 1, expected)
    smaller = max(padding[:2]) < kernel[0] and max(padding[2:]) < kernel[1]
    check(smaller, name, f"each smaller than {what} {list(kernel)}", padding)
    return padding


def _check_fits(name: str, window: Sequence[int], extent: Sequence[int], padding: Sequence[int], got: object) -> None:
    rows, columns = extent[0] + sum(padding[:2]), extent[1] + sum(padding[2:])
    fits = window[0] <= rows and window[1] <= columns
    check(fits, name, f"a kernel no larger than the map [{rows}, {columns}]", got)


@dataclass(frozen=True, kw_only=True)
class ConvGeometry:
    """The sizes of a convolution with its max-pool; fields as in :class:`golden.job.LayerJob`, which they check.

    ``input_shape`` is a valid (C, H, W), ``kernel`` two integers. Raises JobError naming the array of JOB.npz.
    """

    input_shape: tuple[int, int, int]
    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    groups: int = 1
    pool: tuple[int, int, int, int] | None = None
    pool_padding: tuple[int, int, int, int] = NO_PADDING

    def __post_init__(self):
        put = object.__setattr__
        channels, outputs, kernel = self.input_shape[0], self.out_channels, list(self.kernel)
        check(1 <= outputs <= MAX_CHANNELS, "weight", f"1..{MAX_CHANNELS} output channels", outputs)
        put(self, "groups", check_integer("groups", self.groups, 1, MAX_CHANNELS))
        divides = channels % self.groups == 0 and outputs % self.groups == 0
        check(divides, "groups", f"a divisor of {channels} input and {outputs} output channels", self.groups)
        check(1 <= min(kernel) and max(kernel) <= MAX_KERNEL, "weight", f"a kernel of 1..{MAX_KERNEL}", kernel)
        expected = f"two integers in 1..{MAX_STRIDE} (vertical, horizontal)"
        put(self, "stride", check_integers("stride", self.stride, 2, 1, MAX_STRIDE, expected))
        put(self, "padding", check_padding("padding", self.padding, kernel, "the kernel"))
        check(min(self.conv_shape) >= 1, "input", f"rows and columns with the padding at least the kernel {kernel}",
              list(self.input_shape))
        if self.pool is None:
            expected = "no pool padding (four zeros) without a pool"
            put(self, "pool_padding", check_integers("pool_padding", self.pool_padding, 4, 0, 0, expected))
            return
        expected = "four positive integers (kernel rows, kernel columns, stride rows, stride columns)"
        put(self, "pool", check_integers("pool", self.pool, 4, 1, INT32_MAX, expected))
        put(self, "pool_padding", check_padding("pool_padding", self.pool_padding, self.pool[:2], "the pool's kernel"))
        _check_fits("pool", self.pool[:2], self.conv_shape[1:], self.pool_padding, self.pool)

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(O, C/groups, KH, KW)."""
        return self.out_channels, self.input_shape[0] // self.groups, *self.kernel

    @property
    def conv_shape(self) -> tuple[int, int, int]:
        """(O, H_out, W_out) of the convolution, before the pool."""
        return self.out_channels, *window_extent(self.input_shape[1:], self.kernel, self.stride, self.padding)

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(O, OH, OW) of the layer's output, after the pool."""
        if self.pool is None:
            return self.conv_shape
        outputs, *extent = self.conv_shape
        return outputs, *window_extent(extent, self.pool[:2], self.pool[2:], self.pool_padding)

    @property
    def macs(self) -> int:
        """Multiplications of the dense convolution, those with padding included."""
        return math.prod(self.conv_shape) * math.prod(self.weight_shape[1:])


@dataclass(frozen=True, kw_only=True)
class PoolGeometry:
    """The sizes of a pooling over windows; fields as in :class:`golden.job.PoolJob`. Raises JobError."""

    input_shape: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int] | None = None
    padding: tuple[int, int, int, int] = NO_PADDING

    def __post_init__(self):
        put = object.__setattr__
        expected = "two positive integers (rows, columns)"
        put(self, "kernel", check_integers("kernel", self.kernel, 2, 1, INT32_MAX, expected))
        stride = self.kernel if self.stride is None else self.stride
        put(self, "stride", check_integers("stride", stride, 2, 1, INT32_MAX, expected))
        put(self, "padding", check_padding("padding", self.padding, self.kernel, "the kernel"))
        _check_fits("kernel", self.kernel, self.input_shape[1:], self.padding, self.kernel)

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(C, OH, OW)."""
        return self.input_shape[0], *window_extent(self.input_shape[1:], self.kernel, self.stride, self.padding)
