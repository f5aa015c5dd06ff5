"""TFLite's multipliers and shifts from real scales (docs/numerics.md). Without torch: descriptions need no more."""

import math
import struct

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
SHIFT_MIN, SHIFT_MAX = -31, 30
ADD_LEFT_SHIFT = 20


def quantize_multiplier(real: float) -> tuple[int, int]:
    """TFLite's QuantizeMultiplier: the nearest ``multiplier * 2**(shift - 31)`` as (multiplier, shift).

    ``real`` is finite and not negative. Below 2**-32 or so the result is (0, 0), above 2**30 it saturates.
    """
    if not (math.isfinite(real) and real >= 0):
        raise ValueError(f"real: expected a finite number >= 0, got {real}")
    fraction, shift = math.frexp(real)
    multiplier = math.floor(fraction * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier, shift = 2**30, shift + 1
    if shift < SHIFT_MIN:
        return 0, 0
    if shift > SHIFT_MAX:
        return INT32_MAX, SHIFT_MAX
    return multiplier, shift


def mean_multiplier(input_scale: float, output_scale: float, pixels: int) -> tuple[int, int]:
    """(multiplier, shift) of the sum of ``pixels`` values, as TFLite's MEAN folds the division into the scale.

    TFLite quantizes ``input_scale / output_scale``, shifts the multiplier left as far as ``pixels`` allows and divides
    it, truncating. Scales are rounded to float32, as TFLite stores them.
    """
    multiplier, shift = quantize_multiplier(_float32(input_scale) / _float32(output_scale))
    left = min(pixels.bit_length() - 1, 32, 31 + shift)
    return (multiplier << left) // pixels, shift - left


def add_multipliers(scale_1: float, scale_2: float, output_scale: float) -> tuple[tuple[int, int], ...]:
    """(multiplier, shift) of both inputs and of the output, as TFLite's ADD derives them from the three scales.

    Scales are rounded to float32, as TFLite stores them. Raises ValueError where TFLite would: an output scale so
    small that the output's factor is not below 1, or inputs whose scales differ by a factor of 2**31 or more.
    """
    scale_1, scale_2, output_scale = map(_float32, (scale_1, scale_2, output_scale))
    twice = 2 * max(scale_1, scale_2)
    factors = {"scale_1": scale_1 / twice, "scale_2": scale_2 / twice,
               "output_scale": twice / (2**ADD_LEFT_SHIFT * output_scale)}
    results = []
    for name, factor in factors.items():
        multiplier, shift = quantize_multiplier(factor)
        if not (multiplier > 0 and shift <= 0):
            raise ValueError(f"{name}: expected a factor in 2**-32..1 from the scales, got {factor}")
        results.append((multiplier, shift))
    return tuple(results)


def _float32(value: float) -> float:
    return struct.unpack("f", struct.pack("f", value))[0]
