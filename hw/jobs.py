"""What the engine makes of a layer job: its shape, its arithmetic, and the bytes of its weights and constants."""

from dataclasses import dataclass

import numpy as np

from golden.job import AddJob, Job, LayerJob, PoolJob
from golden.job import Ranking as RankingRule

from .band import LayerShape
from .config import EngineConfig, ceil_div
from .lowering import SCORES, SELECTS, Arithmetic, Ranking
from .packing import pack_block_masks, pack_parameters, pack_vector_weights, pack_weights, used_blocks
from .plan import MAX_WINDOW, Plan, PlanError

IDENTITY = (1 << 30, 1)
"""Multiplier and shift of a requantization that changes nothing."""
AVERAGE_WEIGHT = 64
"""Weight of an average's pixels, so that rounding twice, by multiplier and by shift, is rounding once."""
MAX_STRIDE = 4


def job_shape(job: Job, config: EngineConfig, winners: int | None = None) -> LayerShape:
    """The sizes of a job. ``winners``: most input channels that can win, None for all.

    Raises :class:`hw.plan.PlanError` for a pooling window that the engine cannot take.
    """
    if isinstance(job, AddJob):
        channels, height, width = job.input_1.shape
        return LayerShape(channels=channels, height=height, width=width, out_channels=channels, kernel=(1, 1),
                          vector=True, operands=2, weighted=False)
    channels, height, width = job.input.shape
    if isinstance(job, LayerJob):
        out_channels, depth, *kernel = job.weight.shape
        depthwise = job.groups > 1 and depth == 1
        return LayerShape(
            channels=channels, height=height, width=width, out_channels=out_channels, kernel=tuple(kernel),
            stride=tuple(job.stride), padding=tuple(job.padding), pool=tuple(job.pool or (1, 1, 1, 1)),
            pool_padding=tuple(job.pool_padding), groups=1 if depthwise else job.groups, vector=depthwise,
            blocks=not depthwise and _leaves_out_blocks(job, config), winners=None if depthwise else winners)
    sizes = {"channels": channels, "height": height, "width": width, "out_channels": channels, "vector": True,
             "weighted": False}
    if max(job.kernel) > MAX_WINDOW:
        raise PlanError(f"kernel: expected a pooling window of at most {MAX_WINDOW} rows and columns, got {job.kernel}")
    if job.kind == "max":
        return LayerShape(**sizes, kernel=(1, 1), pool=(*job.kernel, *job.stride), pool_padding=tuple(job.padding))
    if tuple(job.kernel) == (height, width) and not any(job.padding) and height * width <= MAX_WINDOW:
        # One window is the whole plane: its rows follow each other on chip, so it may as well be one row of taps.
        sizes |= {"height": 1, "width": height * width}
        return LayerShape(**sizes, kernel=(1, height * width), average=job.kind == "average")
    if job.kind == "mean":
        return LayerShape(**sizes, kernel=tuple(job.kernel))
    # Strides beyond the engine's own are a stride and a choice among the results; a window as large as the map needs
    # none.
    top, bottom, left, right = job.padding
    room = height + top + bottom - job.kernel[0], width + left + right - job.kernel[1]
    strides = [stride if free else 1 for free, stride in zip(room, job.stride, strict=True)]
    steps = [max(step for step in range(1, MAX_STRIDE + 1) if stride % step == 0) for stride in strides]
    return LayerShape(**sizes, kernel=tuple(job.kernel), stride=tuple(steps), padding=tuple(job.padding), average=True,
                      pool=(1, 1, *(stride // step for stride, step in zip(strides, steps, strict=True))))


def _leaves_out_blocks(job: LayerJob, config: EngineConfig) -> bool:
    """More bytes of weights are saved than the block masks take; weights with a zero point have no zeros to spare."""
    if job.weight_zero_point:
        return False
    used = used_blocks(job.weight, config.columns, job.groups)
    block_bytes = job.weight[0, 0].size * min(config.columns, len(job.weight) // job.groups)
    return used.size - int(used.sum()) > ceil_div(used.size, 8 * block_bytes) + 2 * used.shape[0] * used.shape[1]


def ranking_fields(rule: RankingRule | None) -> Ranking:
    """A job's ranking in the descriptor's terms; none is the maximum of every channel, and all of them win."""
    if rule is None:
        return Ranking()
    value = {"all": 0, "topk": rule.value, "energy": rule.eps16, "threshold": rule.value}[rule.select]
    return Ranking(score=SCORES[rule.score], select=SELECTS[rule.select], value=int(value),
                   energy_square=rule.energy_power == 2, multiplier=rule.score_multiplier, shift=rule.score_shift)


@dataclass(frozen=True, kw_only=True, eq=False)
class Constants:
    """What a layer reads beside its inputs: ``weights``, ``parameters``, ``block_masks``, uint8 in memory order.

    ``blocks``: of a layer whose zero blocks are left out, those of :func:`hw.packing.used_blocks`.
    """

    arithmetic: Arithmetic
    weights: np.ndarray | None
    parameters: np.ndarray
    blocks: np.ndarray | None = None
    block_masks: np.ndarray | None = None


def job_constants(job: Job, plan: Plan, config: EngineConfig) -> Constants:
    """The constants of a planned job. Raises PlanError for weights that the engine's multipliers do not take."""
    clamp = {"output_zero_point": job.output_zero_point, "activation_min": job.activation_min,
             "activation_max": job.activation_max}
    if isinstance(job, AddJob):
        return Constants(
            arithmetic=Arithmetic(
                input_zero_points=(job.input_1_zero_point, job.input_2_zero_point),
                result_zero_point=job.output_zero_point, **clamp,
                scales=((job.input_1_multiplier, -job.input_1_shift), (job.input_2_multiplier, -job.input_2_shift))),
            weights=None, parameters=pack_parameters([0], [job.output_multiplier], [job.output_shift]))
    clamp |= {"input_zero_points": (job.input_zero_point,), "result_zero_point": job.output_zero_point}
    if isinstance(job, PoolJob):
        clamp |= {"unit_weight": AVERAGE_WEIGHT if job.kind == "average" else 1,
                  "result_zero_point": 0 if job.kind == "average" else job.output_zero_point}
        return Constants(arithmetic=Arithmetic(**clamp), weights=None, parameters=_pool_parameters(job, plan))
    if job.weight_zero_point and config.weight_bits == 8:
        raise PlanError(f"weight_zero_point: expected 0 for an engine of 8-bit weights, got {job.weight_zero_point}")
    clamp["weight_zero_point"] = job.weight_zero_point
    weights = (pack_vector_weights(job.weight) if plan.shape.vector
               else pack_weights(job.weight, config.columns, job.groups))
    blocks = used_blocks(job.weight, config.columns, job.groups) if plan.shape.blocks else None
    return Constants(arithmetic=Arithmetic(**clamp), weights=weights, blocks=blocks,
                     block_masks=None if blocks is None else pack_block_masks(blocks, plan.layer),
                     parameters=pack_parameters(job.bias, job.multiplier, job.shift,
                                                once=job.rounding == "once"))


def _pool_parameters(job: PoolJob, plan: Plan) -> np.ndarray:
    """One record; of an average one for each region, whose windows hold equally many pixels."""
    if job.kind == "max":
        return pack_parameters([0], *([value] for value in IDENTITY))
    if job.kind == "mean":
        return pack_parameters([0], [job.multiplier], [job.shift])
    rows, cols = plan.regions
    pixels = [row * col for _, _, row in rows for _, _, col in cols]
    scales = [average_scale(count) for count in pixels]
    # The sum is of what is above the zero point; rounding looks at the sign of the whole. Less than a pixel's weight
    # more lifts ties.
    return pack_parameters([count * job.input_zero_point * AVERAGE_WEIGHT + (job.ties == "up") for count in pixels],
                           [scale[0] for scale in scales], [scale[1] for scale in scales])


def average_scale(pixels: int) -> tuple[int, int]:
    """Multiplier and shift that divide ``AVERAGE_WEIGHT`` times a sum of int8 by ``pixels`` (65,025 at most).

    The multiplier is rounded up and the shift leaves at least five bits for rounding, so that a tie stays one and
    nothing else becomes one: the result is the quotient rounded half away from zero, as TFLite's average pooling.
    """
    divisor = AVERAGE_WEIGHT * pixels
    shift = -(divisor.bit_length() - 1)
    return min(-(-(1 << 31 - shift) // divisor), (1 << 31) - 1), shift
