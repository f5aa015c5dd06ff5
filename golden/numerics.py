"""TFLite int8 arithmetic on int64 tensors: int32 wrap-around and requantization (docs/numerics.md)."""

import torch
from torch import Tensor

from golden.multipliers import (
    ADD_LEFT_SHIFT,
    INT32_MAX,
    INT32_MIN,
    SHIFT_MAX,
    SHIFT_MIN,
    add_multipliers,
    mean_multiplier,
    quantize_multiplier,
)

__all__ = [
    "ADD_LEFT_SHIFT",
    "INT32_MAX",
    "INT32_MIN",
    "SHIFT_MAX",
    "SHIFT_MIN",
    "add_multipliers",
    "mean_multiplier",
    "quantize_multiplier",
    "requantize",
    "require_integer",
    "rounding_divide_by_pot",
    "saturating_rounding_doubling_high_mul",
    "wrap_int32",
]


def require_integer(**tensors: Tensor) -> None:
    """Raise TypeError naming the first tensor that is not of an integer dtype (bool is not one)."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
            raise TypeError(f"{name}: expected an integer tensor, got {tensor.dtype}")


def wrap_int32(x: Tensor) -> Tensor:
    """Reduce an integer tensor modulo 2**32 to the int32 range; returns int64."""
    require_integer(x=x)
    if x.numel() and INT32_MIN <= x.min() and x.max() <= INT32_MAX:
        return x.to(torch.int64)
    return ((x.to(torch.int64) - INT32_MIN) & 0xFFFF_FFFF) + INT32_MIN


def saturating_rounding_doubling_high_mul(a: Tensor, b: Tensor) -> Tensor:
    """Round ``a * b / 2**31`` to the nearest integer, ties towards plus infinity, for int32 values in integer tensors.

    The only product that does not fit, ``INT32_MIN * INT32_MIN``, saturates to ``INT32_MAX``. Returns int64.
    """
    require_integer(a=a, b=b)
    product = a.to(torch.int64) * b.to(torch.int64)
    # gemmlowp adds 2**30 or 1 - 2**30 and divides truncating towards zero, which is floor((product + 2**30) / 2**31).
    return ((product + 2**30) >> 31).clamp(max=INT32_MAX)


def rounding_divide_by_pot(x: Tensor, exponent: Tensor) -> Tensor:
    """Round ``x / 2**exponent`` to the nearest integer, ties away from zero; exponent 0..31. Returns int64."""
    require_integer(x=x, exponent=exponent)
    x, exponent = x.to(torch.int64), exponent.to(torch.int64)
    mask = (1 << exponent) - 1
    threshold = (mask >> 1) + (x < 0)
    return (x >> exponent) + ((x & mask) > threshold)


def requantize(acc: Tensor, multiplier: Tensor, shift: Tensor, *, rounding: str = "twice") -> Tensor:
    """TFLite's MultiplyByQuantizedMultiplier: ``acc * multiplier * 2**(shift - 31)`` with double rounding.

    Integer tensors that broadcast against each other; ``acc`` and ``multiplier`` hold int32 values, ``shift`` values
    in -31..30 (positive shifts left). A left shift that overflows int32 wraps (undefined in TFLite). ``rounding``
    "once": as TFLite built for single rounding, to the nearest, ties towards plus infinity. Returns int64.
    """
    require_integer(acc=acc, multiplier=multiplier, shift=shift)
    multiplier, shift = multiplier.to(torch.int64), shift.to(torch.int64)
    left, right = shift.clamp(min=0), (-shift).clamp(min=0)
    acc = wrap_int32(acc.to(torch.int64) << left if left.any() else acc)
    if _is_exact_in_float64(acc, multiplier, right, rounding):
        return _requantize_float64(acc, multiplier, right, rounding)
    if rounding == "once":
        return (acc * multiplier + (1 << (30 + right))) >> (31 + right)
    return rounding_divide_by_pot(saturating_rounding_doubling_high_mul(acc, multiplier), right)


def _is_exact_in_float64(acc: Tensor, multiplier: Tensor, right: Tensor, rounding: str) -> bool:
    """Whether no product, and no half that is added to it, takes more than 53 bits."""
    if not acc.numel() or (rounding == "once" and right.max() > 22):
        return False
    low, high = acc.aminmax()
    return max(-int(low), int(high)) * int(multiplier.abs().max()) < 2**52


def _requantize_float64(acc: Tensor, multiplier: Tensor, right: Tensor, rounding: str) -> Tensor:
    """The same in floating point, several times as fast; a right shift ``right`` of 0 changes nothing."""
    scaled, power = acc.double() * (multiplier.double() * 2.0**-31), torch.exp2(-right.double())
    if rounding == "once":
        return scaled.mul_(power).add_(0.5).floor_().long()
    scaled.add_(0.5).floor_()
    rounded = scaled.abs().mul_(power).add_(0.5).floor_()
    return rounded.copysign_(scaled).long()
