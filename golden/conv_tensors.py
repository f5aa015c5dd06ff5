"""What a convolution has learnt: its weights, bias and requantization."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from golden.checks import MAX_CHANNELS, check, check_array, check_integer, check_values
from golden.multipliers import INT32_MAX, SHIFT_MAX, SHIFT_MIN
from golden.npz import NpzReader

NAMES = ("weight", "bias", "multiplier", "shift")
"""The arrays of a convolution."""
DEFAULTS = {"weight_zero_point": 0, "rounding": "twice"}
"""What belongs to them, and is stored only where it differs from this."""
ROUNDINGS = ("twice", "once")
"""How sums are requantized: as TFLite's convolutions, or to the nearest, as its fully connected reference kernel."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ConvTensors:
    """A convolution's tensors.

    Parameters
    ----------
    weight : int8 [O,C/groups,KH,KW]; O 1..65535
    bias : int32 [O]
    multiplier : int32 [O], not negative
    shift : int32 [O], -31..30; positive shifts left
    weight_zero_point : an int8 value that is subtracted from every weight; other than 0 in models of uint8 only
    rounding : "twice" or "once" (:data:`ROUNDINGS`)

    Raises JobError naming the array for anything else.
    """

    weight: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray
    weight_zero_point: int = DEFAULTS["weight_zero_point"]
    rounding: str = DEFAULTS["rounding"]

    def __post_init__(self):
        put = object.__setattr__
        put(self, "weight", check_array("weight", self.weight, np.int8, ("O", "C/groups", "KH", "KW")))
        outputs = len(self.weight)
        check(1 <= outputs <= MAX_CHANNELS, "weight", f"1..{MAX_CHANNELS} output channels", outputs)
        for name in ("bias", "multiplier", "shift"):
            put(self, name, check_array(name, getattr(self, name), np.int32, (outputs,)))
        check_values("multiplier", self.multiplier, 0, INT32_MAX)
        check_values("shift", self.shift, SHIFT_MIN, SHIFT_MAX)
        put(self, "weight_zero_point", check_integer("weight_zero_point", self.weight_zero_point, -128, 127))
        check(self.rounding in ROUNDINGS, "rounding", " or ".join(ROUNDINGS), repr(self.rounding))

    def arrays(self) -> dict[str, Any]:
        """The four arrays by name, and what differs from :data:`DEFAULTS`."""
        return {name: getattr(self, name) for name in NAMES} | changed(self)


def changed(tensors: Any) -> dict[str, np.ndarray]:
    """What of a convolution's tensors, or its job, differs from :data:`DEFAULTS`, for an npz file."""
    return {name: np.array(getattr(tensors, name)) for name, default in DEFAULTS.items()
            if getattr(tensors, name) != default}


def stored_arrays(npz: NpzReader, prefix: str = "") -> dict[str, Any]:
    """The arguments of :class:`ConvTensors` from an npz file with its arrays, behind a prefix. Raises JobError."""
    fields = {name: npz.array(prefix + name) for name in NAMES}
    kinds = {name: "U" if isinstance(default, str) else "iu" for name, default in DEFAULTS.items()}
    return fields | {name: npz.scalar(prefix + name, kind) for name, kind in kinds.items() if prefix + name in npz}
