"""The integer reference: a layer job's exact output, scores and winners."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from golden.job import LayerJob, NpzReader, check_array, check_values, write_npz
from golden.numerics import requantize, require_integer, wrap_int32
from golden.ranking import DEFAULT, channel_scores, select_winners


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerResult:
    """What a layer leaves in memory: ``output`` int8 [O,OH,OW], ``scores`` uint8 [O], ``winners`` uint8 [O] of 0 and 1.

    Losers' planes in ``output`` are as computed. Raises JobError for other dtypes and shapes.
    """

    output: np.ndarray
    scores: np.ndarray
    winners: np.ndarray

    def __post_init__(self):
        output = check_array("output", self.output, np.int8, ("O", "OH", "OW"))
        object.__setattr__(self, "output", output)
        for name in ("scores", "winners"):
            object.__setattr__(self, name, check_array(name, getattr(self, name), np.uint8, output.shape[:1]))
        check_values("winners", self.winners, 0, 1)

    def save(self, path: str | Path) -> None:
        """Write OUT.npz; the file appears whole or not at all."""
        write_npz(path, {"output": self.output, "scores": self.scores, "winners": self.winners})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read OUT.npz. Raises JobError."""
        with NpzReader(path) as npz:
            return cls(**{name: npz.array(name) for name in ("output", "scores", "winners")})


def convolve(input: Tensor, weight: Tensor, *, zero_point: int, stride: tuple[int, int],
             padding: tuple[int, int, int, int], groups: int = 1, channel_mask: Tensor | None = None) -> Tensor:
    """Convolve ``input - zero_point`` [...,C,H,W] with ``weight`` [O,C/groups,KH,KW], exactly.

    ``padding`` is (top, bottom, left, right). Padded pixels, and channels whose ``channel_mask`` [...,C] is 0,
    contribute exact zeros. Returns int64 sums [...,O,H_out,W_out], not wrapped.
    """
    require_integer(input=input, weight=weight)
    activations = input.to(torch.int64) - zero_point
    if channel_mask is not None:
        require_integer(channel_mask=channel_mask)
        activations = activations * channel_mask[..., None, None]
    top, bottom, left, right = padding
    activations = functional.pad(activations, (left, right, top, bottom))
    outputs, depth, kh, kw = weight.shape
    weight = weight.to(torch.int64).view(groups, outputs // groups, depth, kh, kw)
    batch, (height, width) = activations.shape[:-3], activations.shape[-2:]
    rows, columns = (height - kh) // stride[0] + 1, (width - kw) // stride[1] + 1

    sums = torch.zeros(*batch, groups, outputs // groups, rows * columns, dtype=torch.int64)
    for y in range(kh):
        for x in range(kw):
            tap = activations[..., y : y + (rows - 1) * stride[0] + 1 : stride[0],
                              x : x + (columns - 1) * stride[1] + 1 : stride[1]]
            sums += weight[..., y, x] @ tap.reshape(*batch, groups, depth, rows * columns)
    return sums.view(*batch, outputs, rows, columns)


def max_pool(output: Tensor, pool: tuple[int, int, int, int]) -> Tensor:
    """Max-pool the last two dimensions with (KH, KW, SH, SW), without padding; windows that do not fit are dropped."""
    kh, kw, sh, sw = pool
    return output.unfold(-2, kh, sh).unfold(-2, kw, sw).amax((-2, -1))


def per_channel(values: np.ndarray) -> Tensor:
    """A numpy vector [O] as an int64 tensor [O,1,1], to broadcast over a map."""
    return torch.from_numpy(values.astype(np.int64))[:, None, None]


def run(job: LayerJob) -> LayerResult:
    """Compute a layer job as the hardware must: convolve, requantize, clamp, pool, score, select."""
    mask = None if job.channel_mask is None else torch.from_numpy(job.channel_mask.astype(np.int64))
    sums = convolve(torch.from_numpy(job.input.astype(np.int64)), torch.from_numpy(job.weight.astype(np.int64)),
                    zero_point=job.input_zero_point, stride=job.stride, padding=job.padding, groups=job.groups,
                    channel_mask=mask)
    acc = wrap_int32(sums + per_channel(job.bias))
    output = requantize(acc, per_channel(job.multiplier), per_channel(job.shift)) + job.output_zero_point
    output = output.clamp(job.activation_min, job.activation_max)
    if job.pool is not None:
        output = max_pool(output, job.pool)
    ranking = job.ranking or DEFAULT
    scores = channel_scores(output, job.output_zero_point, ranking)
    winners = select_winners(scores, ranking)
    return LayerResult(output=output.to(torch.int8).numpy(), scores=scores.to(torch.uint8).numpy(),
                       winners=winners.numpy())
