"""Random layer jobs for tests: every size, rule and corner case that the engine must handle, from one seed each."""

import math
from dataclasses import replace

import numpy as np

from golden import draws
from golden.geometry import window_extent
from golden.job import MAX_KERNEL, MAX_STRIDE, AddJob, Job, LayerJob, PoolJob
from golden.multipliers import INT32_MAX, SHIFT_MAX, SHIFT_MIN, add_multipliers, mean_multiplier

OPERATIONS = ("conv", "grouped", "depthwise", "fully_connected", "padded_pool", "block_sparse", "max_pool",
              "average_pool", "mean", "add")
"""The kinds of :func:`random_operation`."""

# (kind, weight): what a seed's sizes look like.
_SIZES = (("any", 7), ("map", 4), ("channels", 3), ("one pixel", 3), ("one channel", 2), ("tiny", 1))


def _sizes(rng: np.random.Generator, max_macs: int, max_channels: int) -> tuple[tuple[int, ...], ...]:
    """Draw ((C, H, W, O), (KH, KW), stride, padding) of at most ``max_macs`` multiplications."""
    kind = draws.choose(rng, _SIZES)
    few_channels = min(64, max_channels)
    channel_range, side_range, output_range = {
        "any": ((2, 64), (3, 40), (2, 64)), "map": ((1, 8), (40, 120), (1, 24)),
        "channels": ((few_channels, 512), (2, 6), (32, 256)), "one channel": ((1, 1), (4, 60), (1, 40)),
        "one pixel": ((few_channels, max_channels), (1, 7), (16, 512)), "tiny": ((1, 3), (1, 4), (1, 3))}[kind]
    channels, outputs = (min(draws.between(rng, *limits), max_channels) for limits in (channel_range, output_range))
    height, width = (draws.between(rng, *side_range) for _ in range(2))
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
    mask = draws.channel_mask(rng, channels)
    terms = max(1, channels if mask is None else int(mask.sum())) * math.prod(kernel)
    conv_rows = (height + padding[0] + padding[1] - kernel[0]) // stride[0] + 1
    conv_columns = (width + padding[2] + padding[3] - kernel[1]) // stride[1] + 1
    fields = dict(
        input=input, weight=weight, stride=stride, padding=padding, channel_mask=mask,
        input_zero_point=int(rng.choice([-128, 127, rng.integers(-128, 128)], p=[0.4, 0.1, 0.5])),
        pool=_pool(rng, conv_rows, conv_columns), **draws.activation(rng),
        **draws.scaling(rng, outputs, 8000 * math.sqrt(terms)))
    pixels = math.prod(LayerJob(**fields).output_shape[1:])
    return LayerJob(**fields, ranking=draws.ranking(rng, outputs, pixels))


def random_operation(seed: int, *, kind: str | None = None, max_macs: int = 1_000_000,
                     max_channels: int = 2048) -> Job:
    """Draw a valid job of any operation, or of one ``kind`` of :data:`OPERATIONS`; the same for the same arguments.

    A convolution has at most ``max_macs`` dense multiplications, a pooling as many pixels in all its windows, an
    addition as many pixels. Only a fully connected layer exceeds ``max_channels`` (4097..10000 inputs) and, with its
    one output, a smaller ``max_macs``.
    "conv" is :func:`random_job`'s; "grouped" has 2..24 groups of any depth; "depthwise" 1..4 outputs a channel;
    "padded_pool" a max-pool over the padded map of the convolution; "block_sparse" weights of zero in blocks of an
    input channel and 4, 8, 16 or 32 output channels, and for whole input channels; "max_pool" and "average_pool"
    windows up to 15x15, strides up to 9, padding; "mean" maps up to 40x40; "add" masks on either input, multipliers
    derived from scales and any others.
    """
    rng = np.random.default_rng([seed, 1])
    kind = kind or str(rng.choice(OPERATIONS))
    if kind not in OPERATIONS:
        raise ValueError(f"kind: expected one of {', '.join(OPERATIONS)}, got {kind!r}")
    if kind == "conv":
        return random_job(seed, max_macs=max_macs, max_channels=max_channels)
    if kind == "fully_connected":
        channels = int(rng.integers(4097, 10001))
        outputs = draws.between(rng, 1, min(40, max(1, max_macs // channels)))
        return _convolution(rng, (channels, outputs, 1), (1, 1), (1, 1), (1, 1), (0, 0, 0, 0))
    draw = {"max_pool": _random_pool, "average_pool": _random_pool, "mean": _random_mean,
            "add": _random_add}.get(kind, _random_convolution)
    return draw(rng, kind, max_macs, max_channels)


def _random_convolution(rng: np.random.Generator, kind: str, max_macs: int, max_channels: int) -> LayerJob:
    while True:  # Small sizes are as likely as large ones: a few draws give one that fits.
        groups, depth, width = 1, draws.between(rng, 1, 80), draws.between(rng, 1, 96)
        if kind == "grouped":
            groups, depth, width = draws.between(rng, 2, 24), draws.between(rng, 1, 40), draws.between(rng, 1, 24)
        elif kind == "depthwise":
            groups, depth = draws.between(rng, 1, 1024), 1
            width = int(rng.choice([1, 2, 3, 4], p=[0.7, 0.1, 0.1, 0.1]))
        kernel, stride, padding = _window(rng, MAX_KERNEL, MAX_STRIDE)
        extent = _extent(rng, 60, kernel, padding)
        channels, outputs = groups * depth, groups * width
        rows, columns = window_extent(extent, kernel, stride, padding)
        if max(channels, outputs) <= max_channels and outputs * depth * math.prod(kernel) * rows * columns <= max_macs:
            break
    fields = {}
    while kind == "padded_pool" or rng.random() < 0.2:
        pool, steps, edges = _window(rng, 7, 4)
        if (any(edges) or kind != "padded_pool") and min(window_extent((rows, columns), pool, (1, 1), edges)) >= 1:
            fields = {"pool": (*pool, *steps), "pool_padding": edges}
            break
    return _convolution(rng, (channels, outputs, groups), extent, kernel, stride, padding,
                        block_sparse=kind == "block_sparse", **fields)


def _window(rng: np.random.Generator, max_kernel: int, max_stride: int) -> tuple[tuple[int, ...], ...]:
    """Draw (kernel, stride, padding) of a window: often square, often with the padding that keeps a map's size."""
    kernel, stride = [draws.between(rng, 1, max_kernel) for _ in range(2)], list(rng.integers(1, max_stride + 1, 2))
    square, ones, even = rng.random(3) < (0.6, 0.4, 0.5)
    if square:
        kernel[1], stride[1] = kernel[0], stride[0]
    if ones:
        stride = [1, 1]
    padding = [int(rng.integers(0, kernel[side // 2])) for side in range(4)]
    if even:
        padding = [(kernel[side // 2] - 1) // 2 for side in range(4)]
    return tuple(kernel), tuple(int(step) for step in stride), tuple(padding)


def _extent(rng: np.random.Generator, limit: int, kernel: tuple[int, int], padding: tuple[int, ...]) -> tuple[int, int]:
    """Draw a map's rows and columns up to ``limit``, at least what the window needs."""
    least = (kernel[0] - padding[0] - padding[1], kernel[1] - padding[2] - padding[3])
    rows, columns = (max(draws.between(rng, 1, limit), size) for size in least)
    return rows, columns


def _convolution(rng: np.random.Generator, sizes: tuple[int, int, int], extent: tuple[int, int],
                 kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, ...], *,
                 block_sparse: bool = False, **fields) -> LayerJob:
    """Draw the tensors and rules of a convolution with ``sizes`` (C, O, groups)."""
    channels, outputs, groups = sizes
    depth = channels // groups
    weight = rng.integers(-128, 128, (outputs, depth, *kernel), np.int8)
    if block_sparse:
        block = int(rng.choice([4, 8, 16, 32]))
        zero = rng.random((-(-outputs // block), depth)) < rng.choice([0.3, 0.7, 0.95])
        zero[:, rng.random(depth) < rng.choice([0, 0.3])] = True
        weight[np.repeat(zero, block, axis=0)[:outputs]] = 0
    mask = draws.channel_mask(rng, channels)
    share = 1 if mask is None else mask.mean()
    terms = max(1, share * np.count_nonzero(weight) / outputs)
    fields |= dict(
        input=_map(rng, (channels, *extent)), weight=weight, groups=groups, stride=stride, padding=padding,
        channel_mask=mask, input_zero_point=_zero_point(rng), **draws.activation(rng),
        **draws.scaling(rng, outputs, 8000 * math.sqrt(terms)))
    return _ranked(rng, LayerJob(**fields))


def _random_pool(rng: np.random.Generator, kind: str, max_macs: int, max_channels: int) -> PoolJob:
    while True:
        kernel, stride, padding = _window(rng, 15, 9)
        extent, channels = _extent(rng, 64, kernel, padding), draws.between(rng, 1, 256)
        positions = math.prod(window_extent(extent, kernel, stride, padding))
        if channels <= max_channels and channels * positions * math.prod(kernel) <= max_macs:
            break
    fields = draws.activation(rng)
    return _ranked(rng, PoolJob(
        kind=kind.removesuffix("_pool"), input=_map(rng, (channels, *extent)), kernel=kernel, stride=stride,
        padding=padding, input_zero_point=fields["output_zero_point"], channel_mask=draws.channel_mask(rng, channels),
        **fields))


def _random_mean(rng: np.random.Generator, kind: str, max_macs: int, max_channels: int) -> PoolJob:
    extent = draws.between(rng, 1, 40), draws.between(rng, 1, 40)
    if math.prod(extent) > max_macs:
        extent = 1, 1
    channels = draws.between(rng, 1, min(max_channels, 512, max_macs // math.prod(extent)))
    multiplier, shift = mean_multiplier(0.02, 0.02 * rng.uniform(0.3, 2), math.prod(extent))
    if rng.random() < 0.15:
        multiplier, shift = int(rng.integers(0, INT32_MAX, endpoint=True)), int(rng.integers(SHIFT_MIN, SHIFT_MAX + 1))
    return _ranked(rng, PoolJob(
        kind=kind, input=_map(rng, (channels, *extent)), input_zero_point=_zero_point(rng), multiplier=multiplier,
        shift=shift, channel_mask=draws.channel_mask(rng, channels), **draws.activation(rng)))


def _random_add(rng: np.random.Generator, kind: str, max_macs: int, max_channels: int) -> AddJob:
    while True:
        shape = draws.between(rng, 1, 512), draws.between(rng, 1, 48), draws.between(rng, 1, 48)
        if shape[0] <= max_channels and math.prod(shape) <= max_macs:
            break
    scales = np.exp(rng.uniform(-2, 2, 2))
    factors = add_multipliers(*scales, scales.max() * np.exp(rng.uniform(-1, 1)))
    if rng.random() < 0.2:
        factors = [(int(rng.integers(1, INT32_MAX, endpoint=True)), int(rng.integers(SHIFT_MIN, high + 1)))
                   for high in (0, 0, SHIFT_MAX)]
    (multiplier_1, shift_1), (multiplier_2, shift_2), (multiplier, shift) = factors
    return _ranked(rng, AddJob(
        input_1=_map(rng, shape), input_2=_map(rng, shape), input_1_zero_point=_zero_point(rng),
        input_2_zero_point=_zero_point(rng), input_1_multiplier=multiplier_1, input_1_shift=shift_1,
        input_2_multiplier=multiplier_2, input_2_shift=shift_2, output_multiplier=multiplier, output_shift=shift,
        channel_mask_1=draws.channel_mask(rng, shape[0]), channel_mask_2=draws.channel_mask(rng, shape[0]),
        **draws.activation(rng)))


def _map(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """A map int8: uniform pixels, or pixels about a level of each channel; with a ReLU's zeros or without."""
    if rng.random() < 0.5:
        values = rng.integers(-128, 128, shape, np.int8)
    else:
        level = rng.uniform(-128, 128, (shape[0], 1, 1))
        values = np.clip(np.rint(rng.normal(level, rng.uniform(1, 60), shape)), -128, 127).astype(np.int8)
    if rng.random() < 0.3:
        values[rng.random(shape) < rng.uniform(0.3, 1)] = -128
    return values


def _zero_point(rng: np.random.Generator) -> int:
    return int(rng.choice([-128, 127, rng.integers(-128, 128)], p=[0.4, 0.1, 0.5]))


def _ranked(rng: np.random.Generator, job: Job) -> Job:
    """``job`` with a drawn ranking."""
    outputs, rows, columns = job.output_shape
    return replace(job, ranking=draws.ranking(rng, outputs, rows * columns))
