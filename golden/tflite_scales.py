"""The integers that TFLite derives from scales, in float32 where it does: multipliers, clamps, tables."""

import math

import numpy as np

from golden.checks import check
from golden.multipliers import SHIFT_MAX, quantize_multiplier

ACTIVATIONS = {"NONE": None, "RELU": (0.0, None), "RELU_N1_TO_1": (-1.0, 1.0), "RELU6": (0.0, 6.0)}
"""The real range of each fused activation that is a clamp, None where it has no end."""


def multiplier(name: str, factor: float) -> tuple[int, int]:
    """:func:`golden.multipliers.quantize_multiplier`, with a JobError for what TFLite leaves undefined."""
    fits = math.isfinite(factor) and 0 <= factor and quantize_multiplier(factor)[1] <= SHIFT_MAX
    check(fits and factor < 2**SHIFT_MAX, name, f"scales whose ratio is below 2**{SHIFT_MAX}", factor)
    return quantize_multiplier(factor)


def channel_multipliers(input_scale: float, weight_scales: np.ndarray, output_scale: float,
                        outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """int32 multipliers and shifts [outputs] of a convolution, as TFLite has them channel by channel: in float64."""
    found = [multiplier("weight", input_scale * float(scale) / output_scale) for scale in weight_scales]
    if len(found) == 1:
        found *= outputs
    multipliers, shifts = np.array(found, np.int32).reshape(-1, 2).T
    return np.ascontiguousarray(multipliers), np.ascontiguousarray(shifts)


def tensor_multipliers(input_scale: float, weight_scale: float, output_scale: float,
                       outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """The same as TFLite has it for a whole tensor of weights: the product of the scales is a float32."""
    with np.errstate(over="ignore", under="ignore"):
        product = np.float32(input_scale) * np.float32(weight_scale)
    found = multiplier("weight", float(product) / output_scale)
    return np.full(outputs, found[0], np.int32), np.full(outputs, found[1], np.int32)


def activation_clamp(activation: str, scale: float, zero_point: int) -> tuple[int, int]:
    """The int8 clamp (low, high) of a fused activation for an output of this quantization."""
    ends = ACTIVATIONS[activation]
    if ends is None:
        return -128, 127
    low, high = (None if end is None else zero_point + _rounded(end, scale) for end in ends)
    low, high = max(-128, low), 127 if high is None else min(127, high)
    check(low <= high, "activation", "a range in that of the output", f"{low}..{high}")
    return low, high


def _rounded(value: float, scale: float) -> int:
    """``value / scale`` rounded to the nearest, ties away from zero, in float32."""
    with np.errstate(over="ignore"):
        steps = float(np.float32(value) / np.float32(scale))
    check(abs(steps) < 2**31, "activation", "a range in that of the output", steps)
    return int(math.copysign(math.floor(abs(steps) + 0.5), steps))


def rescaling(input_scale: float, output_scale: float, *, single: bool) -> tuple[int, int]:
    """Multiplier and shift of a tensor's other quantization; ``single``: the ratio is a float32."""
    if single:
        with np.errstate(over="ignore", under="ignore"):
            return multiplier("scale", float(np.float32(input_scale) / np.float32(output_scale)))
    return multiplier("scale", input_scale / output_scale)


def joined_table(scale: float, zero_point: int, output_scale: float, output_zero_point: int) -> np.ndarray:
    """What TFLite's CONCATENATION of uint8 makes of each value: int64 [256] for int8 values -128..127.

    It rescales in float32. Zero points are int8 values. Raises JobError where that overflows.
    """
    scale, zero_point, output_zero_point = np.float32(scale), zero_point + 128, output_zero_point + 128
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        factor = scale * (np.float32(1) / np.float32(output_scale))
        bias = -np.float32(zero_point) * factor
        steps = np.arange(256, dtype=np.float32) * factor + bias
    check(bool(np.isfinite(steps).all()), "inputs", "scales whose ratio float32 holds", float(scale))
    rounded = np.copysign(np.floor(np.abs(steps) + np.float32(0.5)), steps)
    return np.clip(rounded.astype(np.float64) + output_zero_point, 0, 255).astype(np.int64) - 128


def matching_factor(table: np.ndarray, source: tuple[float, int], output: tuple[float, int]) -> tuple[int, int] | None:
    """The multiplier and shift by which a requantization is ``table``, [256] for -128..127; None where there is none.

    ``source``, ``output``: scale and zero point of both sides.
    """
    values = np.arange(-128, 128) - source[1]
    nearest, shift = multiplier("scale", source[0] / output[0])
    if shift < 0:  # Without a right shift it rounds once, as floating point does.
        nearest, shift = round(source[0] / output[0] * 2**31), 0
    steps = np.array([0, *(sign << power for power in range(12) for sign in (1, -1))])
    for candidate in (nearest + steps).tolist():
        if 0 <= candidate < 2**31:
            found = (((values << shift) * candidate + 2**30) >> 31) + output[1]
            if (np.clip(found, -128, 127) == table).all():
                return candidate, shift
    return None
