"""The layer job: one int8 layer with its input, as tensors in memory and as JOB.npz (docs/numerics.md)."""

import operator
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from golden.numerics import INT32_MAX, SHIFT_MAX, SHIFT_MIN

MAX_CHANNELS = 4096
MAX_KERNEL = 11
MAX_STRIDE = 4
SCORES = ("max", "absmax", "mean")
SELECTS = ("all", "topk", "energy", "threshold")


class JobError(ValueError):
    """A layer job or file that breaks its contract; the message is one line: the array and what was expected."""


def check(condition: bool, name: str, expected: str, got: object) -> None:
    """Raise the one-line JobError ``name: expected ..., got ...`` unless ``condition`` holds."""
    if not condition:
        raise JobError(f"{name}: expected {expected}, got {got}")


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


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How the output channels are scored and which of them win.

    Parameters
    ----------
    score : "max", "absmax" or "mean"
    select : "all", "topk", "energy" or "threshold"
    value : k (topk, at least 1), eps in 0..1 (energy), the least winning score 0..255 (threshold); 0 for all
    score_multiplier, score_shift : the requantization of the mean's sum; both 0 for other scores
    energy_power : 1 or 2, the power of the score that energy sums; 1 for other selections

    Raises JobError, naming the array of JOB.npz that the parameter is stored as.
    """

    score: str
    select: str
    value: float | int = 0
    score_multiplier: int = 0
    score_shift: int = 0
    energy_power: int = 1

    def __post_init__(self):
        check(self.score in SCORES, "score", f"one of {', '.join(SCORES)}", repr(self.score))
        check(self.select in SELECTS, "select", f"one of {', '.join(SELECTS)}", repr(self.select))
        put = object.__setattr__
        put(self, "value", self._checked_value())
        mean, energy = self.score == "mean", self.select == "energy"
        multiplier = check_integer("score_multiplier", self.score_multiplier, 0, INT32_MAX) if mean else 0
        shift = check_integer("score_shift", self.score_shift, SHIFT_MIN, SHIFT_MAX) if mean else 0
        put(self, "score_multiplier", multiplier)
        put(self, "score_shift", shift)
        put(self, "energy_power", check_integer("energy_power", self.energy_power, 1, 2, "1 or 2") if energy else 1)

    def _checked_value(self) -> float | int:
        value = self.value
        if self.select == "all":
            return 0
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise JobError(f"select_value: expected a number, got {value!r}") from None
        if self.select == "energy":
            check(0 <= number <= 1, "select_value", "eps in 0..1 for energy", value)
            return number
        low, high, what = (1, MAX_CHANNELS, "k") if self.select == "topk" else (0, 255, "a score")
        expected = f"{what} in {low}..{high} (an integer) for {self.select}"
        check(low <= number <= high and number == int(number), "select_value", expected, value)
        return int(number)

    @property
    def eps16(self) -> int:
        """``round(65536 * eps)``, ties to even, 0..65536: the energy rule's threshold."""
        return round(65536 * self.value)


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerJob:
    """One convolution layer and its input; a fully connected layer is a convolution whose kernel is the map.

    Parameters
    ----------
    input : int8 [C,H,W]
    weight : int8 [O,C/groups,KH,KW]; C and O 1..4096, KH and KW 1..11
    bias : int32 [O]
    multiplier : int32 [O], not negative
    shift : int32 [O], -31..30; positive shifts left
    input_zero_point, output_zero_point : int8 values
    activation_min, activation_max : int8 values, the clamp after the output zero point
    groups : divides C and O
    stride : (vertical, horizontal), 1..4 each
    padding : (top, bottom, left, right), each smaller than the kernel in its direction
    channel_mask : uint8 [C] of 0 and 1 (1 = winner), or None: every input channel takes part
    pool : max-pooling (KH, KW, SH, SW) after the activation, no larger than the convolution's map, or None
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
    ranking: Ranking | None = None

    def __post_init__(self):
        put = object.__setattr__
        put(self, "input", check_array("input", self.input, np.int8, ("C", "H", "W")))
        check(min(self.input.shape) >= 1, "input", "at least one channel, row and column", self._shape("input"))
        channels = self.input.shape[0]
        check(channels <= MAX_CHANNELS, "input", f"at most {MAX_CHANNELS} channels", channels)

        put(self, "weight", check_array("weight", self.weight, np.int8, ("O", "C/groups", "KH", "KW")))
        outputs, depth, *kernel = self.weight.shape
        check(1 <= outputs <= MAX_CHANNELS, "weight", f"1..{MAX_CHANNELS} output channels", outputs)
        put(self, "groups", check_integer("groups", self.groups, 1, MAX_CHANNELS))
        divides = channels % self.groups == 0 and outputs % self.groups == 0
        check(divides, "groups", f"a divisor of {channels} input and {outputs} output channels", self.groups)
        check(depth == channels // self.groups, "weight", f"C/groups = {channels // self.groups} input channels", depth)
        check(1 <= min(kernel) and max(kernel) <= MAX_KERNEL, "weight", f"a kernel of 1..{MAX_KERNEL}", kernel)

        for name in ("bias", "multiplier", "shift"):
            put(self, name, check_array(name, getattr(self, name), np.int32, (outputs,)))
        check_values("multiplier", self.multiplier, 0, INT32_MAX)
        check_values("shift", self.shift, SHIFT_MIN, SHIFT_MAX)
        for name in ("input_zero_point", "output_zero_point", "activation_min", "activation_max"):
            put(self, name, check_integer(name, getattr(self, name), -128, 127))
        check(self.activation_min <= self.activation_max, "activation_min",
              f"at most activation_max = {self.activation_max}", self.activation_min)

        expected = f"two integers in 1..{MAX_STRIDE} (vertical, horizontal)"
        put(self, "stride", check_integers("stride", self.stride, 2, 1, MAX_STRIDE, expected))
        expected = "four integers (top, bottom, left, right), each smaller than the kernel"
        put(self, "padding", check_integers("padding", self.padding, 4, 0, MAX_KERNEL - 1, expected))
        smaller = max(self.padding[:2]) < kernel[0] and max(self.padding[2:]) < kernel[1]
        check(smaller, "padding", f"each smaller than the kernel {kernel}", self.padding)
        check(min(self.conv_shape) >= 1, "input", f"rows and columns with the padding at least the kernel {kernel}",
              self._shape("input"))

        if self.channel_mask is not None:
            put(self, "channel_mask", check_array("channel_mask", self.channel_mask, np.uint8, (channels,)))
            check_values("channel_mask", self.channel_mask, 0, 1)
        if self.pool is not None:
            expected = "four positive integers (kernel rows, kernel columns, stride rows, stride columns)"
            put(self, "pool", check_integers("pool", self.pool, 4, 1, INT32_MAX, expected))
            _, rows, columns = self.conv_shape
            fits = self.pool[0] <= rows and self.pool[1] <= columns
            check(fits, "pool", f"a kernel no larger than the map [{rows}, {columns}]", self.pool)
        if self.ranking is not None:
            check(isinstance(self.ranking, Ranking), "ranking", "a Ranking", type(self.ranking).__name__)
            if self.ranking.select == "topk":
                check(self.ranking.value <= outputs, "select_value", f"k in 1..{outputs} for topk", self.ranking.value)

    def _shape(self, name: str) -> list[int]:
        return list(getattr(self, name).shape)

    @property
    def conv_shape(self) -> tuple[int, int, int]:
        """(O, H_out, W_out) of the convolution, before the pool."""
        (_, height, width), (outputs, _, kh, kw) = self.input.shape, self.weight.shape
        top, bottom, left, right = self.padding
        rows = (height + top + bottom - kh) // self.stride[0] + 1
        columns = (width + left + right - kw) // self.stride[1] + 1
        return outputs, rows, columns

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(O, OH, OW) of the layer's output, after the pool."""
        if self.pool is None:
            return self.conv_shape
        (outputs, rows, columns), (kh, kw, sh, sw) = self.conv_shape, self.pool
        return outputs, (rows - kh) // sh + 1, (columns - kw) // sw + 1

    @property
    def winner_indices(self) -> np.ndarray:
        """int64 indices of the input channels that take part, ascending."""
        if self.channel_mask is None:
            return np.arange(self.input.shape[0])
        return np.flatnonzero(self.channel_mask)

    def save(self, path: str | Path) -> None:
        """Write JOB.npz; the file appears whole or not at all."""
        names = ("input", "weight", "bias", "multiplier", "shift", "channel_mask")
        arrays = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        for name in ("input_zero_point", "output_zero_point", "activation_min", "activation_max", "groups"):
            arrays[name] = np.int64(getattr(self, name))
        for name in ("stride", "padding", "pool"):
            if getattr(self, name) is not None:
                arrays[name] = np.array(getattr(self, name), np.int64)
        write_npz(path, arrays | ranking_arrays(self.ranking))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read and validate JOB.npz. Arrays of other names are ignored. Raises JobError."""
        names = ("input", "weight", "bias", "multiplier", "shift")
        scalars = ("input_zero_point", "output_zero_point", "activation_min", "activation_max", "groups")
        with NpzReader(path) as npz:
            fields = {name: npz.array(name) for name in names}
            fields |= {name: npz.scalar(name, "iu") for name in scalars}
            fields |= {name: npz.array(name) for name in ("stride", "padding")}
            fields |= {name: npz.array(name) for name in ("channel_mask", "pool") if name in npz}
            return cls(ranking=read_ranking(npz), **fields)


def ranking_arrays(ranking: Ranking | None, prefix: str = "") -> dict[str, Any]:
    """The arrays of JOB.npz that store ``ranking``: none of them for None."""
    if ranking is None:
        return {}
    arrays = {"score": np.array(ranking.score), "select": np.array(ranking.select)}
    if ranking.select != "all":
        arrays["select_value"] = np.array(ranking.value)
    if ranking.score == "mean":
        arrays |= {name: np.int64(getattr(ranking, name)) for name in ("score_multiplier", "score_shift")}
    if ranking.select == "energy":
        arrays["energy_power"] = np.int64(ranking.energy_power)
    return {prefix + name: array for name, array in arrays.items()}


def read_ranking(npz: "NpzReader", prefix: str = "") -> Ranking | None:
    """The inverse of :func:`ranking_arrays`. ``score`` alone selects all; ``select`` needs ``score``."""
    if prefix + "score" not in npz and prefix + "select" not in npz:
        return None
    score = npz.scalar(prefix + "score", "U")
    select = npz.scalar(prefix + "select", "U") if prefix + "select" in npz else "all"
    fields = {}
    if select != "all":
        fields["value"] = npz.scalar(prefix + "select_value", "iuf")
    if score == "mean":
        fields |= {name: npz.scalar(prefix + name, "iu") for name in ("score_multiplier", "score_shift")}
    if prefix + "energy_power" in npz:
        fields["energy_power"] = npz.scalar(prefix + "energy_power", "iu")
    return Ranking(score=score, select=select, **fields)


def write_npz(path: str | Path, arrays: Mapping[str, Any], *, compressed: bool = False) -> None:
    """Write an npz file under exactly this name, whole or not at all."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(partial, "wb") as file:
            (np.savez_compressed if compressed else np.savez)(file, allow_pickle=False, **arrays)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


class NpzReader:
    """A context that reads named arrays of an npz file; anything amiss with it raises JobError."""

    _UNREADABLE = (OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)

    def __init__(self, path: str | Path):
        try:
            self._file = np.load(path, allow_pickle=False)
        except FileNotFoundError:
            raise JobError(f"{path}: expected an npz file, got no such file") from None
        except self._UNREADABLE:
            raise JobError(f"{path}: expected an npz file, got something unreadable") from None
        check(isinstance(self._file, np.lib.npyio.NpzFile), str(path), "an npz file", "a single array")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, name: str) -> bool:
        return name in self._file.files

    def array(self, name: str) -> np.ndarray:
        """The array of this name, as stored."""
        check(name in self, name, "an array of this name", "none")
        try:
            array = self._file[name]
        except self._UNREADABLE:
            array = None
        check(isinstance(array, np.ndarray), name, "a plain array", "an unreadable or object array")
        return array

    def scalar(self, name: str, kinds: str) -> Any:
        """The Python value of a 0-d or [1] array whose ``dtype.kind`` is one of ``kinds``."""
        array = self.array(name)
        what = {"iu": "an integer", "iuf": "a number", "U": "a string"}[kinds]
        fits = array.dtype.kind in kinds and array.shape in ((), (1,))
        check(fits, name, f"{what}, 0-d or [1]", f"{array.dtype} {list(array.shape)}")
        return array.item()
