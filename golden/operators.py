"""The int8 operators on tensors, exact and batched: convolution, pools, mean, addition (docs/numerics.md)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from golden.geometry import NO_PADDING
from golden.numerics import ADD_LEFT_SHIFT, requantize, require_integer, wrap_int32

_EXACT, _EXACT_FLOAT32 = 2**53, 2**24
_WEIGHTS_AT_ONCE = 2**25  # 256 MiB of float64


def convolve(input: Tensor, weight: Tensor, *, zero_point: int, stride: tuple[int, int],
             padding: tuple[int, int, int, int], groups: int = 1, channel_mask: Tensor | None = None,
             weight_zero_point: int = 0) -> Tensor:
    """Convolve ``input - zero_point`` [...,C,H,W] with ``weight - weight_zero_point`` [O,C/groups,KH,KW], exactly.

    ``padding`` is (top, bottom, left, right). Padded pixels, and channels whose ``channel_mask`` [...,C] is 0,
    contribute exact zeros. Returns int64 sums [...,O,H_out,W_out], not wrapped. Inside it is floating point, where
    integers are exact whatever the order of the additions: float32 if no sum can reach 2**24, otherwise float64; raises
    ValueError for values whose sums might reach 2**53.
    """
    require_integer(input=input, weight=weight)
    narrow = input.dtype in (torch.int8, torch.uint8, torch.int16)
    activations = input.to(torch.int32 if narrow else torch.int64) - zero_point
    if channel_mask is not None:
        require_integer(channel_mask=channel_mask)
        activations *= channel_mask[..., None, None]
    if weight_zero_point:
        weight = weight.to(torch.int32 if narrow else torch.int64) - weight_zero_point
    # No partial sum is larger than the largest activation times all weights of an output.
    bound = _largest(activations) * int(weight.long().abs().flatten(1).sum(1).max())
    if bound >= _EXACT:
        raise ValueError(f"input, weight: expected sums below 2**53, got values that may sum to {bound}")
    dtype = torch.float32 if bound < _EXACT_FLOAT32 else torch.float64
    top, bottom, left, right = padding
    batch = activations.shape[:-3]
    activations = functional.pad(activations.reshape(-1, *activations.shape[-3:]).to(dtype), (left, right, top, bottom))
    outputs = len(weight)
    part = outputs if groups > 1 else max(1, _WEIGHTS_AT_ONCE * outputs // weight.numel())
    # NNPACK would transform windows (Winograd), which is not exact.
    with torch.backends.nnpack.flags(enabled=False):
        sums = [functional.conv2d(activations, some.to(dtype), stride=stride, groups=groups).long()
                for some in weight.split(part)]
    result = torch.cat(sums, 1)
    return result.reshape(*batch, *result.shape[1:])


def _largest(tensor: Tensor) -> int:
    low, high = tensor.aminmax()
    return max(abs(int(low)), abs(int(high)))


def max_pool(map: Tensor, *, kernel: Sequence[int], stride: Sequence[int],
             padding: Sequence[int] = NO_PADDING) -> Tensor:
    """The largest value of each window of an integer map [...,H,W]; returns its dtype, [...,OH,OW].

    ``padding`` is (top, bottom, left, right), each smaller than the kernel, and never wins. Windows that do not fit
    into the padded map are dropped.
    """
    require_integer(map=map)
    lowest = torch.iinfo(map.dtype).min
    # The largest of a rectangle is the largest of its columns' largest.
    map = _windows(map, kernel, stride, padding, lowest, dimension=-2).amax(-1)
    return _windows(map, kernel, stride, padding, lowest, dimension=-1).amax(-1)


def average_pool(map: Tensor, *, kernel: Sequence[int], stride: Sequence[int],
                 padding: Sequence[int] = NO_PADDING, ties: str = "away") -> Tensor:
    """The mean of each window's pixels inside an integer map [...,H,W], rounded to the nearest; int64 [...,OH,OW].

    As for :func:`max_pool`; a window's sum is divided by the number of its pixels that are not padding. ``ties`` go
    "away" from zero or "up".
    """
    require_integer(map=map)

    def total(values: Tensor) -> Tensor:
        values = _windows(values, kernel, stride, padding, 0, dimension=-2).sum(-1)
        return _windows(values, kernel, stride, padding, 0, dimension=-1).sum(-1)

    sums, counts = total(map.long()), total(torch.ones(map.shape[-2:], dtype=torch.int64))
    if ties == "up":
        return (sums + counts // 2).div(counts, rounding_mode="floor")
    return sums.sign() * ((sums.abs() + counts // 2) // counts)


def _windows(map: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], fill: int, *,
             dimension: int) -> Tensor:
    """Padded windows of one dimension, -2 or -1, their pixels as a new last dimension."""
    axis = dimension + 2
    before, after = padding[2 * axis : 2 * axis + 2]
    edges = (before, after) if axis else (0, 0, before, after)
    return functional.pad(map, edges, value=fill).unfold(dimension, kernel[axis], stride[axis])


def mean(map: Tensor, *, zero_point: int, multiplier: int, shift: int) -> Tensor:
    """The requantized sum of ``map - zero_point`` over [...,H,W]; int64 [...,1,1], no zero point added."""
    require_integer(map=map)
    sums = (map.long() - zero_point).sum((-2, -1), keepdim=True)
    return requantize(wrap_int32(sums), torch.tensor(multiplier), torch.tensor(shift))


def add(first: Tensor, second: Tensor, *, zero_points: Sequence[int], multipliers: Sequence[int],
        shifts: Sequence[int]) -> Tensor:
    """The rescaled sum of two integer maps of one shape; int64 of that shape, no output zero point added.

    ``zero_points`` of both inputs; ``multipliers`` and ``shifts`` of both inputs and of the sum.
    """
    require_integer(first=first, second=second)
    scaled = []
    for map, zero_point, multiplier, shift in zip((first, second), zero_points, multipliers[:2], shifts[:2],
                                                  strict=True):
        low, high = (int(end) for end in map.aminmax())
        table = map if high - low >= 2**16 else torch.arange(low, high + 1)  # Of a few values only each once.
        found = requantize((table.long() - zero_point) << ADD_LEFT_SHIFT, torch.tensor(multiplier), torch.tensor(shift))
        scaled.append(found if table is map else found[map.long() - low])
    return requantize(scaled[0] + scaled[1], torch.tensor(multipliers[2]), torch.tensor(shifts[2]))
