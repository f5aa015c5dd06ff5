"""Random layer jobs for tests: every size, rule and corner case that the engine must handle, from one seed each."""

import math

import numpy as np

from golden.job import MAX_KERNEL, MAX_STRIDE, LayerJob, Ranking
from golden.numerics import INT32_MAX, SHIFT_MAX, SHIFT_MIN, quantize_multiplier

# (kind, weight): what a seed's sizes look like.
_SIZES = (("any", 7), ("map", 4), ("channels", 3), ("one pixel", 3), ("one channel", 2), ("tiny", 1))
# How outputs spread: over int8, clipped by it, all near the zero point (score ties), or any register value at all.
_SPREADS = (("normal", 10), ("saturated", 2), ("flat", 1), ("wild", 1))


def _choose(rng: np.random.Generator, weighted: tuple[tuple[str, float], ...]) -> str:
    weights = np.array([weight for _, weight in weighted], float)
    return weighted[rng.choice(len(weighted), p=weights / weights.sum())][0]


def _between(rng: np.random.Generator, low: int, high: int) -> int:
    """A log-uniform integer in low..high, so that small and large sizes are equally frequent."""
    return min(high, int(math.exp(rng.uniform(math.log(low), math.log(high + 1)))))


def _sizes(rng: np.random.Generator, max_macs: int, max_channels: int) -> tuple[tuple[int, ...], ...]:
    """Draw ((C, H, W, O), (KH, KW), stride, padding) of at most ``max_macs`` multiplications."""
    kind = _choose(rng, _SIZES)
    few_channels = min(64, max_channels)
    channel_range, side_range, output_range = {
        "any": ((2, 64), (3, 40), (2, 64)), "map": ((1, 8), (40, 120), (1, 24)),
        "channels": ((few_channels, 512), (2, 6), (32, 256)), "one channel": ((1, 1), (4, 60), (1, 40)),
        "one pixel": ((few_channels, max_channels), (1, 7), (16, 512)), "tiny": ((1, 3), (1, 4), (1, 3))}[kind]
    channels, outputs = (min(_between(rng, *limits), max_channels) for limits in (channel_range, output_range))
    height, width = (_between(rng, *side_range) for _ in range(2))
    square, even = rng.random(2) < (0.6, 0.7)
    kernel = [int(size) for size in rng.choice([1, 2, 3, 5, 7, MAX_KERNEL, rng.integers(1, MAX_KERNEL + 1)], 2,
                                               p=[0.15, 0.1, 0.35, 0.1, 0.1, 0.05, 0.15])]
    stride = [int(step) for step in rng.choice(MAX_STRIDE, 2, p=[0.6, 0.2, 0.1, 0.1]) + 1]
    if square:
        kernel[1], stride[1] = kernel[0], stride[0]
    if kind == "one pixel":
        kernel = [min(height, MAX_KERNEL), min(width, MAX_KERNEL)]
        height, width = kernel
        padding = [0, 0, 0, 0]
    elif even:
        padding = [(kernel[0] - 1) // 2] * 2 + [(kernel[1] - 1) // 2] * 2
    else:
        padding = [int(rng.integers(0, kernel[side // 2])) for side in range(4)]
    height = max(height, kernel[0] - padding[0] - padding[1])
    width = max(width, kernel[1] - padding[2] - padding[3])

    def macs() -> int:
        rows = (height + padding[0] + padding[1] - kernel[0]) // stride[0] + 1
        columns = (width + padding[2] + padding[3] - kernel[1]) // stride[1] + 1
        return channels * outputs * math.prod(kernel) * rows * columns

    while macs() > max_macs and channels * outputs > 1:
        if outputs >= channels:
            outputs = -(-outputs * 3 // 4) if outputs > 4 else outputs - 1
        else:
            channels = -(-channels * 3 // 4) if channels > 4 else channels - 1
    while macs() > max_macs and (kernel[0] > 1 or kernel[1] > 1):
        kernel = [max(1, size // 2) for size in kernel]
        padding = [min(padding[side], kernel[side // 2] - 1) for side in range(4)]
    while macs() > max_macs:
        height, width = max(1, height // 2), max(1, width // 2)
    return (channels, height, width, outputs), tuple(kernel), tuple(stride), tuple(padding)


def _channel_mask(rng: np.random.Generator, channels: int) -> np.ndarray | None:
    kind = _choose(rng, (("absent", 4), ("rate", 8), ("empty", 1), ("full", 1), ("one", 1)))
    if kind == "absent":
        return None
    mask = np.full(channels, kind == "full", np.uint8)
    if kind == "rate":
        mask[:] = rng.random(channels) < rng.uniform(0.05, 0.95)
    elif kind == "one":
        mask[rng.integers(channels)] = 1
    return mask


def _ranking(rng: np.random.Generator, outputs: int, pixels: int) -> Ranking | None:
    if rng.random() < 0.1:
        return None
    score = str(rng.choice(["max", "absmax", "mean"]))
    select = str(rng.choice(["all", "topk", "energy", "threshold"], p=[0.1, 0.4, 0.3, 0.2]))
    value = {"all": 0,
             "topk": int(rng.choice([1, outputs, rng.integers(1, outputs + 1)], p=[0.1, 0.1, 0.8])),
             "energy": float(rng.choice([0, 1, 0.5, rng.uniform()], p=[0.05, 0.1, 0.15, 0.7])),
             "threshold": int(rng.choice([0, 255, rng.integers(256)], p=[0.1, 0.1, 0.8]))}[select]
    # A mean over the map, scaled by up to 8 as quantized scores are, or a drawn register value.
    multiplier, shift = quantize_multiplier(rng.uniform(0.5, 8) / pixels)
    if rng.random() < 0.1:
        multiplier, shift = int(rng.integers(INT32_MAX, endpoint=True)), int(rng.integers(SHIFT_MIN, SHIFT_MAX + 1))
    return Ranking(score=score, select=select, value=value, score_multiplier=multiplier, score_shift=shift,
                   energy_power=int(rng.integers(1, 3)))


def _scaling(rng: np.random.Generator, outputs: int, deviation: float) -> dict[str, np.ndarray]:
    """Bias, multiplier and shift of ``outputs`` channels whose sums have about this standard deviation."""
    spread = _choose(rng, _SPREADS)
    if spread == "wild":
        return {"bias": rng.integers(-2**31, 2**31, outputs).astype(np.int32),
                "multiplier": rng.integers(0, 2**31, outputs).astype(np.int32),
                "shift": rng.integers(SHIFT_MIN, SHIFT_MAX + 1, outputs).astype(np.int32)}
    target = {"normal": 40, "saturated": 1000, "flat": 0.2}[spread]
    scales = [quantize_multiplier(target / deviation * rng.uniform(0.5, 2)) for _ in range(outputs)]
    multiplier, shift = np.array(scales, np.int32).T
    return {"bias": (rng.normal(0, deviation, outputs)).astype(np.int32), "multiplier": multiplier, "shift": shift}


def _activation(rng: np.random.Generator) -> dict[str, int]:
    """An output zero point and a clamp: none, ReLU, ReLU6-like, or a single value (every score ties)."""
    kind = _choose(rng, (("none", 4), ("relu", 6), ("bounded", 2), ("constant", 0.4)))
    zero_point = int(rng.choice([-128, 127, rng.integers(-128, 128)], p=[0.5, 0.05, 0.45]))
    low, high = -128, 127
    if kind in ("relu", "bounded"):
        low = zero_point
    if kind == "bounded":
        high = int(rng.integers(zero_point, 128))
    elif kind == "constant":
        low = high = int(rng.integers(-128, 128))
    return {"output_zero_point": zero_point, "activation_min": low, "activation_max": high}


def _pool(rng: np.random.Generator, rows: int, columns: int) -> tuple[int, int, int, int] | None:
    if rng.random() < 0.65:
        return None
    if rng.random() < 0.5 and min(rows, columns) >= 2:
        return 2, 2, 2, 2
    kernel = [int(rng.integers(1, min(size, 4) + 1)) for size in (rows, columns)]
    return *kernel, *(int(step) for step in rng.integers(1, 5, 2))


def random_job(seed: int, *, max_macs: int = 1_000_000, max_channels: int = 2048) -> LayerJob:
    """Draw a valid layer job (groups = 1) of at most ``max_macs`` dense multiplications; the same job for a seed.

    Over seeds there occur: large maps, many channels, one pixel, one channel, odd and strided maps, kernels 1..11,
    asymmetric padding, absent, partial, empty and full channel masks, score ties, saturated and constant outputs,
    wrapping int32 sums, all scores and selections, and pools.
    """
    rng = np.random.default_rng(seed)
    (channels, height, width, outputs), kernel, stride, padding = _sizes(rng, max_macs, max_channels)
    input = rng.integers(-128, 128, (channels, height, width), np.int8)
    if rng.random() < 0.3:  # The sparse activations that a ReLU leaves.
        input[rng.random(input.shape) < rng.uniform(0.3, 1)] = -128
    weight = rng.integers(-128, 128, (outputs, channels, *kernel), np.int8)
    mask = _channel_mask(rng, channels)
    terms = max(1, channels if mask is None else int(mask.sum())) * math.prod(kernel)
    conv_rows = (height + padding[0] + padding[1] - kernel[0]) // stride[0] + 1
    conv_columns = (width + padding[2] + padding[3] - kernel[1]) // stride[1] + 1
    fields = dict(
        input=input, weight=weight, stride=stride, padding=padding, channel_mask=mask,
        input_zero_point=int(rng.choice([-128, 127, rng.integers(-128, 128)], p=[0.4, 0.1, 0.5])),
        pool=_pool(rng, conv_rows, conv_columns), **_activation(rng), **_scaling(rng, outputs, 8000 * math.sqrt(terms)))
    pixels = math.prod(LayerJob(**fields).output_shape[1:])
    return LayerJob(**fields, ranking=_ranking(rng, outputs, pixels))
