"""Bands of a layer: some of its rows and output channels, from whose cycles those of the whole are extrapolated.

A band is computed where the whole layer lies in memory, so that the caches see the same addresses.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from golden.job import AddJob, Job, LayerJob, PoolJob

from .ways import BLOCK, RANK

CACHE_BYTES = 4096
STREAMED_BYTES = 3 * CACHE_BYTES
"""Of a band's input, so that it does not stay in the cache from one block of output channels to the next."""

LEAST_BLOCKS = 8
"""Blocks of output channels of a band at least, so that what their addresses do to the caches averages out."""


@dataclass(frozen=True, order=True)
class Band:
    """Rows ``begin`` .. ``end`` - 1 of a layer's output, of every ``block_step``-th block of its output channels."""

    begin: int
    end: int
    block_step: int = 1

    def outputs(self, channels: int) -> list[int]:
        """Which of so many output channels."""
        return [channel for channel in range(channels) if channel // BLOCK % self.block_step == 0]


def whole_of(job: Job) -> Band:
    """All of a layer."""
    return Band(0, job.output_shape[1])


def conv_rows(job: Job, band: Band) -> tuple[int, int]:
    """The rows, before the pool behind a convolution, that a band of the output needs: the first, and behind the last.
    """
    if not isinstance(job, LayerJob) or job.pool is None:
        return band.begin, band.end
    (height, _, stride, _), top, rows = job.pool, job.pool_padding[0], job.conv_shape[1]
    return max(0, band.begin * stride - top), min(rows, (band.end - 1) * stride - top + height)


def work(job: Job, band: Band) -> float:
    """What a band's time is proportional to: rows of its windows that lie in the map."""
    begin, end = conv_rows(job, band)
    if isinstance(job, AddJob):
        return end - begin
    kernel = job.kernel[0] if isinstance(job, PoolJob) else job.weight.shape[2]
    height, stride, top = job.input.shape[1], job.stride[0], job.padding[0]
    return sum(min(kernel, height + top - row * stride) - max(0, top - row * stride) for row in range(begin, end))


def bands(job: Job, way: str, cost: float, limit: float) -> list[Band]:
    """What to run of a layer that would cost ``cost`` cycles in one way, so that no run costs much more than ``limit``.

    The whole; or two shares of the blocks of output channels, the smaller of which is a single block where the kernel
    goes through the map once for each; where these alone are still too much, two heights. Rows are those in the middle.
    """
    whole = whole_of(job)
    if cost <= limit:
        return [whole]
    steps, heights, share = [1], [whole.end], limit / cost
    ungrouped = isinstance(job, LayerJob) and job.groups == 1 and way != RANK
    blockwise = ungrouped and way != "naive"
    if ungrouped:
        blocks, least = -(-job.output_shape[0] // BLOCK), LEAST_BLOCKS
        if way == "naive":
            # It reads the weights of all blocks for each pixel: those of a few must not fit the cache.
            least = max(least, math.ceil(STREAMED_BYTES / (BLOCK * job.weight[0].size)))
        # Odd, so that the blocks' addresses are spread over the lines of the cache.
        step = (min(math.ceil(1 / share), blocks // least) - 1) // 2 * 2 + 1
        if step > 1:
            steps, share = [blocks if blockwise else 2 * step, step], share * step
    if share < 1:
        least = 2
        if blockwise:
            streamed = job.input.size if way != "packed" or job.channel_mask is None else (
                job.input.size * job.channel_mask.mean())
            least = max(2, math.ceil(STREAMED_BYTES * whole.end / max(1, streamed)))
        many = max(2 * least, int(whole.end * share))
        if least + many < whole.end:
            heights = [least, many]
    return [Band((whole.end - height) // 2, (whole.end - height) // 2 + height, step)
            for height in heights for step in steps]


def extrapolate(job: Job, cycles: Mapping[Band, int]) -> int:
    """The whole layer's cycles from those of its :func:`bands`, linear in work and in output channels."""
    whole, channels = whole_of(job), job.output_shape[0]
    steps = sorted({band.block_step for band in cycles}, reverse=True)
    heights = sorted({(band.begin, band.end) for band in cycles}, key=lambda rows: rows[1] - rows[0])

    def line(sizes: list[float], values: list[float], size: float) -> float:
        if len(sizes) == 1:
            return values[0]
        return values[0] + (values[1] - values[0]) / (sizes[1] - sizes[0]) * (size - sizes[0])

    outputs = [len(Band(0, 1, step).outputs(channels)) for step in steps]
    along = [line(outputs, [cycles[Band(*rows, step)] for step in steps], channels) for rows in heights]
    sizes = [work(job, Band(*rows)) for rows in heights]
    return round(line(sizes, along, work(job, whole)))
