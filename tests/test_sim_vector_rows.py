"""Strided layers of the vector unit whose tiles are rows of results: in RTL, against reference and model."""

import numpy as np

from golden.job import LayerJob, Ranking
from golden.numerics import quantize_multiplier
from golden.reference import run as reference
from hw.band import LayerShape
from hw.plan import PlanError, make_plan
from sim.execute import Chain, execute
from tests.hw_helpers import SMALL

JOBS = 40


def takes_rows(shape: LayerShape) -> bool:
    """Whether the plan has a tile for each row, of an input that lies as in memory."""
    try:
        plan = make_plan(shape, SMALL)
    except PlanError:
        return False
    return all(band.copy and band.tile_positions == band.cols.convs for band in plan.bands())


def draw_shape(rng: np.random.Generator) -> LayerShape | None:
    """A depthwise layer with a stride along the rows, or None where the window does not fit."""
    channels, multiplier = int(rng.integers(1, 12)), int(rng.choice([1, 1, 2]))
    kernel = int(rng.integers(2, 6)), int(rng.integers(1, 6))
    height, width = (int(size) for size in rng.integers(3, 20, 2))
    padding = tuple(int(rng.integers(0, min(2, size))) for size in (kernel[0], kernel[0], kernel[1], kernel[1]))
    if height + padding[0] + padding[1] < kernel[0] or width + padding[2] + padding[3] < kernel[1]:
        return None
    return LayerShape(channels=channels, height=height, width=width, out_channels=channels * multiplier, kernel=kernel,
                      stride=(int(rng.integers(2, 5)), int(rng.integers(1, 5))), padding=padding, vector=True)


def make_job(rng: np.random.Generator, shape: LayerShape) -> LayerJob:
    outputs = shape.out_channels
    multiplier, shift = quantize_multiplier(1 / (70 * np.sqrt(shape.taps)))
    return LayerJob(
        input=rng.integers(-128, 128, (shape.channels, shape.height, shape.width), np.int8),
        weight=rng.integers(-128, 128, (outputs, 1, *shape.kernel), np.int8),
        bias=rng.integers(-999, 999, outputs).astype(np.int32), multiplier=np.full(outputs, multiplier, np.int32),
        shift=np.full(outputs, shift, np.int32), input_zero_point=int(rng.integers(-128, 128)),
        output_zero_point=int(rng.integers(-128, 128)), activation_min=-128, activation_max=127,
        groups=shape.channels, stride=shape.stride, padding=shape.padding,
        channel_mask=(rng.random(shape.channels) < 0.6).astype(np.uint8) if rng.random() < 0.5 else None,
        ranking=Ranking(score="max", select="topk", value=int(rng.integers(1, outputs + 1))))


def test_rows_as_tiles(simulator):
    rng = np.random.default_rng(0)
    jobs, wide = [], 0
    while len(jobs) < JOBS:
        shape = draw_shape(rng)
        if shape is not None and shape.channels > 1 and takes_rows(shape):
            jobs.append(make_job(rng, shape))
            wide += shape.stride[1] > 1
    assert 5 < wide < JOBS
    chains = [Chain(names=[f"job {number}"], jobs=[job], expected=[reference(job)], config=SMALL)
              for number, job in enumerate(jobs)]
    for outcome in execute(simulator(SMALL, "fast"), chains):
        assert outcome.differences == []
        measured, = outcome.measures
        assert measured.bytes_as_predicted
        assert abs(measured.predicted.cycles - measured.cycles) <= max(50, measured.cycles / 100), measured.name
