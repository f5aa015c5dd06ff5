"""Multipliers that round as TFLite's fully connected reference kernel does: a product in float64, to the nearest."""

import numpy as np

from golden.checks import JobError
from golden.multipliers import INT32_MAX, INT32_MIN
from golden.tflite_scales import multiplier

_NEIGHBOURS = (0, 1, -1, 2, -2, 3, -3, 4, -4)


def nearest_factors(factors: np.ndarray, clamp: tuple[int, int], zero_point: int
                    ) -> tuple[np.ndarray, np.ndarray, str]:
    """Multipliers, shifts (int32 [n]) and the rounding by which sums become ``round(sum * factor)``, for each factor.

    They are equal for all sums behind the zero point and the clamp; ties, which go away from zero, decide between
    neighbouring multipliers. Where multipliers without a right shift do, which round once anyway, the rounding is
    "twice". Raises JobError where there are none.
    """
    for rounding in ("twice", "once"):
        found = {factor: _factor(factor, clamp, zero_point, rounding) for factor in dict.fromkeys(factors.tolist())}
        if None not in found.values():
            pairs = np.array([found[factor] for factor in factors.tolist()], np.int32)
            return np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1]), rounding
    raise JobError(f"weight: expected scales whose product has a multiplier of 31 bits, got {factors.tolist()[0]}")


def _factor(factor: float, clamp: tuple[int, int], zero_point: int, rounding: str) -> tuple[int, int] | None:
    first, shift = multiplier("weight", factor)
    if rounding == "twice":
        first, shift = (first, shift) if shift >= 0 else (round(factor * 2**31), 0)
    steps = np.arange(clamp[0] + 1, clamp[1] + 1) - zero_point
    ends = _first_sums(steps, factor)
    for candidate in (first + step for step in _NEIGHBOURS):
        if 0 <= candidate <= INT32_MAX and _steps_at(ends, steps, candidate, shift):
            return candidate, shift
    return None


def _first_sums(steps: np.ndarray, factor: float) -> np.ndarray:
    """For each of ``steps`` the least int32 sum that rounds to at least it; one above int32 where there is none."""
    low, high = (np.full(len(steps), end, np.int64) for end in (INT32_MIN, INT32_MAX + 1))
    while (low < high).any():  # Bisection: 32 times.
        middle = (low + high) >> 1
        product = middle.astype(np.float64) * factor
        reached = np.copysign(np.floor(np.abs(product) + 0.5), product) >= steps
        low, high = np.where(reached, low, middle + 1), np.where(reached, middle, high)
    return low


def _steps_at(ends: np.ndarray, steps: np.ndarray, candidate: int, shift: int) -> bool:
    """Whether a requantization that rounds once reaches each step at its end and not before: it grows with the sum."""
    left, right = max(shift, 0), max(-shift, 0)
    largest = INT32_MAX >> left  # What is shifted beyond int32 wraps.

    def reached(sums: np.ndarray) -> np.ndarray:
        product = (np.clip(sums, -largest, largest) << left) * candidate
        return (product + (1 << (30 + right))) >> (31 + right) >= steps

    at, before = reached(ends) | (ends > largest), ~reached(ends - 1) | (ends <= -largest)
    return bool((at & before).all())
