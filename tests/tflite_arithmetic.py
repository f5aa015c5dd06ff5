"""TFLite's rounding in Python's integers, as its and gemmlowp's sources have it; what the hardware is compared with."""

HIGHEST = 2**31 - 1


def wrapped(value: int) -> int:
    """As int32."""
    return (value + 2**31) % 2**32 - 2**31


def high_multiply(a: int, b: int) -> int:
    """gemmlowp's SaturatingRoundingDoublingHighMul: C's division truncates."""
    if a == b == -2**31:
        return HIGHEST
    product = a * b
    nudged = product + (2**30 if product >= 0 else 1 - 2**30)
    return abs(nudged) // 2**31 * (1 if nudged >= 0 else -1)


def divide_by_power(value: int, exponent: int) -> int:
    """gemmlowp's RoundingDivideByPOT."""
    mask = 2**exponent - 1
    threshold = (mask >> 1) + (value < 0)
    return (value >> exponent) + ((value & mask) > threshold)


def multiply_by_quantized(value: int, multiplier: int, shift: int) -> int:
    """TFLite's MultiplyByQuantizedMultiplier, rounding twice; a positive shift is to the left."""
    return divide_by_power(high_multiply(wrapped(value << max(shift, 0)), multiplier), max(-shift, 0))


def requantized(total: int, bias: int, multiplier: int, shift: int, zero_point: int, low: int, high: int) -> int:
    """A convolution's sum as its result."""
    value = multiply_by_quantized(wrapped(total + bias), multiplier, shift) + zero_point
    return min(max(value, low), high)


def scaled_operand(operand: int, multiplier: int, right_shift: int) -> int:
    """One operand of TFLite's AddElementwise, zero point subtracted: a left shift of 20, then scaled."""
    return multiply_by_quantized(operand << 20, multiplier, -right_shift)


def rounded_once(value: int, multiplier: int, shift: int) -> int:
    """TFLite's MultiplyByQuantizedMultiplier, built for single rounding, of a value that is shifted left already."""
    total_shift = 31 - shift
    return (value * multiplier + (1 << (total_shift - 1))) >> total_shift
