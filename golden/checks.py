"""Checks of what users write: each raises a JobError of one line, ``NAME: expected ..., got ...``."""

import math
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

MAX_CHANNELS = 65535


class JobError(ValueError):
    """A job, network or file that breaks its contract; the message is one line: the array and what was expected."""


def check(condition: bool, name: str, expected: str, got: object) -> None:
    """Raise the one-line JobError ``name: expected ..., got ...`` unless ``condition`` holds."""
    if not condition:
        raise JobError(f"{name}: expected {expected}, got {got}")


@contextmanager
def naming(path: object) -> Iterator[None]:
    """A JobError from inside gets ``path: `` before its line."""
    try:
        yield
    except JobError as error:
        raise JobError(f"{path}: {error}") from None


def check_integer(name: str, value: Any, low: int, high: int, expected: str | None = None) -> int:
    """Return ``value`` as a Python int, or raise JobError unless it is an integer in low..high."""
    expected = expected or f"an integer in {low}..{high}"
    try:
        result = operator.index(value)
    except TypeError:
        raise JobError(f"{name}: expected {expected}, got {value!r}") from None
    check(low <= result <= high, name, expected, result)
    return result


def check_integers(name: str, values: Any, count: int, low: int, high: int, expected: str) -> tuple[int, ...]:
    """Return ``values`` as a tuple of ``count`` Python ints, or raise JobError unless each is in low..high."""
    check(isinstance(values, (tuple, list, np.ndarray)) and np.ndim(values) == 1 and len(values) == count,
          name, expected, values if isinstance(values, (tuple, list)) else type(values).__name__)
    return tuple(check_integer(name, value, low, high, expected) for value in values)


def check_array(name: str, array: Any, dtype: type, shape: tuple[int | str, ...]) -> np.ndarray:
    """Return ``array`` C-contiguous, or raise JobError unless it has this dtype and shape (a str is any size)."""
    expected = f"{np.dtype(dtype).name} [{','.join(map(str, shape))}]"
    check(isinstance(array, np.ndarray), name, expected, type(array).__name__)
    same = (isinstance(n, str) or n == m for n, m in zip(shape, array.shape, strict=True))
    fits = array.ndim == len(shape) and all(same)
    check(array.dtype == dtype and fits, name, expected, f"{array.dtype} [{','.join(map(str, array.shape))}]")
    return np.ascontiguousarray(array)


def check_values(name: str, array: np.ndarray, low: int, high: int) -> None:
    """Raise JobError naming the first element of ``array`` outside low..high."""
    outside = np.flatnonzero((array < low) | (array > high))
    if outside.size:
        raise JobError(f"{name}: expected values in {low}..{high}, got {array.flat[outside[0]]} at index {outside[0]}")


def check_scale(name: str, scale: Any) -> float:
    """Return ``scale`` as a float, or raise JobError unless it is finite and positive."""
    valid = isinstance(scale, (int, float, np.number)) and math.isfinite(scale) and scale > 0
    check(valid, name, "a finite number above 0", repr(scale))
    return float(scale)


def check_map(name: str, array: Any) -> np.ndarray:
    """Return a map int8 [C,H,W] C-contiguous, or raise JobError unless it has a pixel and 1..MAX_CHANNELS channels."""
    array = check_array(name, array, np.int8, ("C", "H", "W"))
    check(min(array.shape) >= 1, name, "at least one channel, row and column", list(array.shape))
    check(array.shape[0] <= MAX_CHANNELS, name, f"at most {MAX_CHANNELS} channels", array.shape[0])
    return array


def check_mask(name: str, mask: Any, channels: int) -> np.ndarray | None:
    """Return a channel mask uint8 [``channels``] of 0 and 1, or None for None; raise JobError for anything else."""
    if mask is None:
        return None
    mask = check_array(name, mask, np.uint8, (channels,))
    check_values(name, mask, 0, 1)
    return mask


def check_activation(job: Any) -> tuple[int, int]:
    """Return ``job``'s (activation_min, activation_max) as Python ints, or raise JobError unless an int8 range."""
    low, high = (check_integer(name, getattr(job, name), -128, 127) for name in ("activation_min", "activation_max"))
    check(low <= high, "activation_min", f"at most activation_max = {high}", low)
    return low, high
