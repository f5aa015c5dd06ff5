"""The integer reference: a layer job's exact output, scores and winners."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from golden.job import AddJob, Job, LayerJob, PoolJob
from golden.numerics import requantize, wrap_int32
from golden.operators import add, average_pool, convolve, max_pool, mean
from golden.ranking import DEFAULT, channel_scores, select_winners
from golden.result import LayerResult

__all__ = ["LayerResult", "compute", "convolve", "run"]


def run(job: Job) -> LayerResult:
    """Compute a layer job as the hardware must: the operation, its clamp and pool, then scores and winners."""
    if isinstance(job, AddJob):
        maps, masks = (job.input_1, job.input_2), (job.channel_mask_1, job.channel_mask_2)
    else:
        maps, masks = (job.input,), (job.channel_mask,)
    output = compute(job, [torch.from_numpy(map) for map in maps],
                     [None if mask is None else torch.from_numpy(mask) for mask in masks])
    ranking = job.ranking or DEFAULT
    scores = channel_scores(output, job.output_zero_point, ranking)
    winners = select_winners(scores, ranking)
    return LayerResult(output=output.to(torch.int8).numpy(), scores=scores.to(torch.uint8).numpy(),
                       winners=winners.numpy())


def compute(job: Job, maps: Sequence[Tensor], masks: Sequence[Tensor | None]) -> Tensor:
    """The output of ``job``'s layer for other inputs, int8 [...,C,H,W] each with a mask [...,C] or None.

    Returns integers [...,O,OH,OW] in the int8 range. The job's own inputs, masks and ranking are not looked at.
    """
    if isinstance(job, LayerJob):
        return _convolution(job, maps[0], masks[0])
    if isinstance(job, PoolJob):
        return _pooling(job, _winners_alone(maps[0], masks[0], job.input_zero_point))
    zero_points = job.input_1_zero_point, job.input_2_zero_point
    first, second = map(_winners_alone, maps, masks, zero_points)
    output = add(first, second, zero_points=zero_points,
                 multipliers=(job.input_1_multiplier, job.input_2_multiplier, job.output_multiplier),
                 shifts=(job.input_1_shift, job.input_2_shift, job.output_shift))
    return (output + job.output_zero_point).clamp(job.activation_min, job.activation_max)


def _convolution(job: LayerJob, map: Tensor, mask: Tensor | None) -> Tensor:
    def per_channel(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.int64))[:, None, None]

    sums = convolve(map, torch.from_numpy(job.weight), zero_point=job.input_zero_point, stride=job.stride,
                    padding=job.padding, groups=job.groups, channel_mask=mask,
                    weight_zero_point=job.weight_zero_point)
    acc = wrap_int32(sums + per_channel(job.bias))
    output = requantize(acc, per_channel(job.multiplier), per_channel(job.shift), rounding=job.rounding)
    output += job.output_zero_point
    output = output.clamp(job.activation_min, job.activation_max).to(torch.int8)
    if job.pool is None:
        return output
    return max_pool(output, kernel=job.pool[:2], stride=job.pool[2:], padding=job.pool_padding)


def _pooling(job: PoolJob, map: Tensor) -> Tensor:
    if job.kind == "mean":
        output = mean(map, zero_point=job.input_zero_point, multiplier=job.multiplier, shift=job.shift)
        output += job.output_zero_point
    else:
        windows = dict(kernel=job.kernel, stride=job.stride, padding=job.padding)
        output = max_pool(map, **windows) if job.kind == "max" else average_pool(map, **windows, ties=job.ties)
    return output.clamp(job.activation_min, job.activation_max)


def _winners_alone(map: Tensor, mask: Tensor | None, zero_point: int) -> Tensor:
    """The map [...,C,H,W] with its losers, whose mask [...,C] is 0, at the zero point."""
    return map if mask is None else torch.where(mask[..., None, None] == 1, map, zero_point)
