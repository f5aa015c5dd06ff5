"""What uint8 models and TFLite's fully connected kernel ask of the engine: 9-bit weights, one rounding, ties up."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from golden.job import LayerJob, PoolJob
from golden.numerics import requantize
from golden.reference import run
from hw.jobs import job_shape
from hw.plan import PlanError
from hw.program import STORED, build_program
from hw.requantize import Requantizer
from sim.execute import as_simulation, difference
from tests.hw_helpers import SMALL, simulate

WIDE = replace(SMALL, weight_bits=9)
LANES = 4


def conv(random: np.random.Generator, shape, outputs, kernel, groups=1, **changes) -> LayerJob:
    """Weights of all int8 values with a zero point of their own, sums that spread over int8."""
    depth = shape[0] // groups
    shift = int(np.log2(depth * kernel * kernel) / 2) + 7
    fields = dict(
        input=random.integers(-128, 128, shape, np.int8),
        weight=random.integers(-128, 128, (outputs, depth, kernel, kernel), np.int8),
        bias=random.integers(-5000, 5000, outputs).astype(np.int32),
        multiplier=random.integers(2**30, 2**31, outputs).astype(np.int32),
        shift=np.full(outputs, -shift, np.int32), input_zero_point=int(random.integers(-128, 128)),
        output_zero_point=5, activation_min=-128, activation_max=127, groups=groups, stride=(1, 1),
        padding=(kernel // 2,) * 4, weight_zero_point=int(random.choice([-128, -60, 60, 127])))
    return LayerJob(**(fields | changes))


def jobs() -> list:
    random = np.random.default_rng(4)
    wide = random.integers(-128, 128, (6, 5, 5), np.int8)
    average = dict(kind="average", input=wide, input_zero_point=-9, output_zero_point=-9, ties="up")
    return [
        conv(random, (6, 7, 9), 10, 3), conv(random, (6, 7, 9), 6, 3, groups=6),
        conv(random, (6, 7, 9), 12, 3, groups=6), conv(random, (8, 6, 6), 8, 1, groups=2),
        conv(random, (300, 3, 3), 20, 3),  # In passes: the psum memory.
        conv(random, (20, 1, 1), 30, 1, rounding="once"), conv(random, (6, 5, 5), 5, 3, rounding="once", stride=(2, 2)),
        PoolJob(**average, kernel=(2, 2), stride=(1, 1)), PoolJob(**average, kernel=(4, 2), padding=(2, 0, 1, 1)),
        PoolJob(**average, kernel=(5, 5))]


def test_layers_in_rtl(simulator):
    """Each alone: outputs, scores and winners."""
    every = jobs()
    programs = [build_program([job], WIDE, sources=[(STORED,)]) for job in every]
    for job, program, outcome in zip(every, programs, simulator(WIDE).run([as_simulation(one) for one in programs]),
                                     strict=True):
        assert difference(program.results(outcome.image)[0], run(job)) is None, (job.op, job.output_shape)


def test_engine_of_8_bit_weights_refuses_zero_points():
    job = conv(np.random.default_rng(0), (3, 5, 5), 4, 3, weight_zero_point=3)
    job_shape(job, SMALL)  # Sizes, and so predictions, do not depend on it.
    with pytest.raises(PlanError, match=r"^weight_zero_point: expected 0 for an engine of 8-bit weights, got 3$"):
        build_program([job], SMALL)


def test_requantizer_rounds_once():
    random, count = np.random.default_rng(1), 3000
    sums = random.integers(-2**31, 2**31, (count, LANES)) >> random.integers(0, 31, (count, LANES))
    multipliers, shifts, once = (random.integers(*ends, count) for ends in ((0, 2**31), (-31, 10), (0, 2)))
    multipliers[::2] = 1 << random.integers(16, 31, len(multipliers[::2]))  # Ties.
    component, found = Requantizer(lanes=LANES, width=16), []

    async def bench(ctx):
        ctx.set(component.minimum, -512)
        ctx.set(component.maximum, 511)
        for now in range(count + Requantizer.LATENCY):
            if now < count:
                words = sums[now].astype("<i4").tobytes()
                ctx.set(component.sums, int.from_bytes(words, "little"))
                ctx.set(component.parameters, {"bias": 0, "multiplier": int(multipliers[now]),
                                               "shift": int(shifts[now]), "once": int(once[now])})
            if now >= Requantizer.LATENCY:
                found.append(np.frombuffer(ctx.get(component.results).to_bytes(2 * LANES, "little"), np.int16))
            await ctx.tick()

    simulate(component, bench)
    for number, results in enumerate(found):
        expected = requantize(torch.from_numpy(sums[number]), torch.tensor(multipliers[number]),
                              torch.tensor(shifts[number]), rounding="once" if once[number] else "twice")
        np.testing.assert_array_equal(results, expected.clamp(-512, 511))
