"""What a convolution has learnt: its weights, bias and requantization."""

from dataclasses import dataclass, fields

import numpy as np

from golden.checks import MAX_CHANNELS, check, check_array, check_values
from golden.multipliers import INT32_MAX, SHIFT_MAX, SHIFT_MIN


@dataclass(frozen=True, kw_only=True, eq=False)
class ConvTensors:
    """A convolution's tensors.

    Parameters
    ----------
    weight : int8 [O,C/groups,KH,KW]; O 1..65535
    bias : int32 [O]
    multiplier : int32 [O], not negative
    shift : int32 [O], -31..30; positive shifts left

    Raises JobError naming the array for anything else.
    """

    weight: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray

    def __post_init__(self):
        put = object.__setattr__
        put(self, "weight", check_array("weight", self.weight, np.int8, ("O", "C/groups", "KH", "KW")))
        outputs = len(self.weight)
        check(1 <= outputs <= MAX_CHANNELS, "weight", f"1..{MAX_CHANNELS} output channels", outputs)
        for name in ("bias", "multiplier", "shift"):
            put(self, name, check_array(name, getattr(self, name), np.int32, (outputs,)))
        check_values("multiplier", self.multiplier, 0, INT32_MAX)
        check_values("shift", self.shift, SHIFT_MIN, SHIFT_MAX)

    def arrays(self) -> dict[str, np.ndarray]:
        """The four arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


NAMES = tuple(field.name for field in fields(ConvTensors))
"""The names of a convolution's tensors."""
