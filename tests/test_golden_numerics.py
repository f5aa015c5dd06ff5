"""Requantization against an exact definition in rational numbers, and against results worked out by hand."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import numerics

INT32 = st.integers(-(2**31), 2**31 - 1)
EDGES = st.sampled_from([-(2**31), -(2**31) + 1, -(2**30), -3, -2, -1, 0, 1, 2, 3, 2**30 - 1, 2**30, 2**31 - 1])


def exact_requantize(acc: int, multiplier: int, shift: int) -> int:
    left, right = max(shift, 0), max(-shift, 0)
    shifted = (acc * 2**left + 2**31) % 2**32 - 2**31
    high = min(math.floor(Fraction(shifted * multiplier, 2**31) + Fraction(1, 2)), 2**31 - 1)
    magnitude = math.floor(Fraction(abs(high), 2**right) + Fraction(1, 2))
    return magnitude if high >= 0 else -magnitude


def gemmlowp_high_mul(a: int, b: int) -> int:
    """The C++ text of gemmlowp: a nudge, then a division that truncates towards zero."""
    if a == b == -(2**31):
        return 2**31 - 1
    nudged = a * b + (2**30 if a * b >= 0 else 1 - 2**30)
    return abs(nudged) // 2**31 * (1 if nudged >= 0 else -1)


@settings(max_examples=1000, deadline=None)
@given(acc=INT32 | EDGES, multiplier=INT32 | EDGES, shift=st.integers(-31, 30))
def test_requantize_is_exact(acc, multiplier, shift):
    assert int(numerics.requantize(*map(torch.tensor, (acc, multiplier, shift)))) == \
        exact_requantize(acc, multiplier, shift)


@settings(max_examples=500, deadline=None)
@given(a=INT32 | EDGES, b=INT32 | EDGES)
def test_high_mul_is_gemmlowps(a, b):
    assert int(numerics.saturating_rounding_doubling_high_mul(torch.tensor(a), torch.tensor(b))) == \
        gemmlowp_high_mul(a, b)


@pytest.mark.parametrize(("acc", "multiplier", "shift", "expected"), [
    (10, 2**30, 0, 5),
    (3, 2**30, 0, 2),  # 1.5: the multiply rounds ties towards plus infinity,
    (-3, 2**30, 0, -1),  # -1.5 too.
    (6, 2**30, -1, 2),  # 3 / 2: the division rounds ties away from zero,
    (-6, 2**30, -1, -2),  # -3 / 2 too.
    (5, 2**30, -1, 2),  # 5/4 is 1 when rounded once; 5/2 -> 3, 3/2 -> 2 when rounded twice.
    (-5, 2**30, -1, -1),  # -5/2 -> -2, -2/2 -> -1.
    (100, 2**30, 3, 400),
    (2**31 - 1, 2**31 - 1, 0, 2**31 - 2),
    (-(2**31), 2**31 - 1, 0, -(2**31) + 1),
    (-(2**31), -(2**31), 0, 2**31 - 1),  # The one product that saturates.
    (2**31 - 1, 2**31 - 1, -31, 1),
    (-(2**31), 2**31 - 1, -31, -1),
    (2**30, 2**30, 1, -(2**30)),  # The left shift wraps to -2**31.
    (3, 2**30, 30, -(2**29)),  # 3 * 2**30 wraps to -2**30.
])
def test_known_results(acc, multiplier, shift, expected):
    assert int(numerics.requantize(*map(torch.tensor, (acc, multiplier, shift)))) == expected


@given(x=st.integers(-(2**62), 2**62))
def test_wrap_int32(x):
    wrapped = int(numerics.wrap_int32(torch.tensor(x)))
    assert -(2**31) <= wrapped < 2**31 and (wrapped - x) % 2**32 == 0


def test_broadcast_per_channel():
    acc = torch.tensor([[7, -7], [100, -100]], dtype=torch.int32)
    multiplier, shift = torch.tensor([[2**30], [2**30]], dtype=torch.int32), torch.tensor([[1], [-2]])
    result = numerics.requantize(acc, multiplier, shift)
    assert result.dtype == torch.int64 and result.tolist() == [[7, -7], [13, -13]]


@pytest.mark.parametrize("name", ["acc", "multiplier", "shift"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bool])
def test_floating_point_is_refused_by_name(name, dtype):
    arguments = {"acc": torch.tensor(1), "multiplier": torch.tensor(1), "shift": torch.tensor(1)}
    arguments[name] = arguments[name].to(dtype)
    with pytest.raises(TypeError, match=rf"^{name}: expected an integer tensor, got {dtype}$"):
        numerics.requantize(**arguments)


@given(real=st.floats(2.0**-31, 2.0**29))
def test_quantize_multiplier_is_the_nearest(real):
    multiplier, shift = numerics.quantize_multiplier(real)
    assert 2**30 <= multiplier < 2**31 and -31 <= shift <= 30
    step = Fraction(2) ** (shift - 31)
    assert abs(multiplier * step - Fraction(real)) <= step / 2


@pytest.mark.parametrize(("real", "expected"), [
    (0.0, (0, 0)), (0.5, (2**30, 0)), (1.0, (2**30, 1)), (0.75, (3 * 2**29, 0)), (2.0**-40, (0, 0)),
    (2.0**40, (2**31 - 1, 30)), (math.nextafter(1.0, 0.0), (2**30, 1)),
])
def test_quantize_multiplier_known(real, expected):
    assert numerics.quantize_multiplier(real) == expected


@pytest.mark.parametrize("real", [-1.0, math.inf, math.nan])
def test_quantize_multiplier_refuses(real):
    with pytest.raises(ValueError, match="real: expected a finite number >= 0"):
        numerics.quantize_multiplier(real)
