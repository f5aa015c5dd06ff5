"""The whole engine on random jobs: stalls of the memory change no bit, and layers chain through memory."""

import numpy as np

from golden.job import LayerJob
from golden.random_jobs import random_job
from golden.reference import run as reference
from hw.program import build_program
from hw.registers import Error

from .hw_helpers import SMALL, assert_same, build, program_of


def test_stalls_change_no_bit(simulator):
    """Ten random jobs, the same bytes and the same results on both memories; the AXI checker watches."""
    jobs = [random_job(seed, max_macs=25_000, max_channels=300) for seed in range(10)]
    memories, programs = zip(*map(build, jobs), strict=True)
    fast = simulator(SMALL).run(programs)
    stalled = simulator(SMALL, "stall").run(programs, seed=7)
    for seed, (job, memory, run, other) in enumerate(zip(jobs, memories, fast, stalled, strict=True)):
        expected = reference(job)
        for one in (run, other):
            assert one.error == Error.NONE
            assert_same(memory.results(one.image)[0], expected, f"job {seed}")
        assert other.counters["cycles"] != run.counters["cycles"]
        for name in run.counters:
            if name.startswith(("read_", "write_", "array_active")):
                assert run.counters[name] == other.counters[name], name


def test_layers_chain(simulator):
    """Winners of a layer are the channels of the next, without the processor in between; and again without a reset."""
    random = np.random.default_rng(0)
    first = next(job for job in (random_job(seed, max_macs=30_000, max_channels=64) for seed in range(200))
                 if job.ranking and job.ranking.select == "energy" and min(job.output_shape) > 4)
    jobs, results = [first], [reference(first)]
    for outputs in (13, 5):
        before = jobs[-1]
        jobs.append(LayerJob(
            input=results[-1].output, weight=random.integers(-128, 128, (outputs, len(before.bias), 3, 3), np.int8),
            bias=np.zeros(outputs, np.int32), multiplier=np.full(outputs, 2**30, np.int32),
            shift=np.full(outputs, -9, np.int32), input_zero_point=before.output_zero_point, output_zero_point=-128,
            activation_min=-128, activation_max=127, stride=(1, 1), padding=(1, 1, 1, 1),
            channel_mask=results[-1].winners, ranking=first.ranking))
        results.append(reference(jobs[-1]))
    memory = build_program(jobs, SMALL)
    runs = simulator(SMALL).run([program_of(memory), program_of(memory, reset=False)])
    for run in runs:
        assert run.error == Error.NONE
        for index, (found, expected) in enumerate(zip(memory.results(run.image), results, strict=True)):
            assert_same(found, expected, f"layer {index}")
    assert runs[0].counters == runs[1].counters and runs[0].profile == runs[1].profile
    assert runs[0].profile[-1]["array_active"] == runs[0].counters["array_active"]


def test_output_ring_over_many_groups(simulator):
    """Room in the ring is neither lost nor invented: results come faster than they are written, or in odd strips."""
    random, outputs = np.random.default_rng(1), 400
    jobs = [LayerJob(
        input=random.integers(-128, 128, (3, side, side), np.int8),
        weight=random.integers(-128, 128, (outputs, 3, 1, 1), np.int8), bias=np.zeros(outputs, np.int32),
        multiplier=np.full(outputs, 2**30, np.int32), shift=np.full(outputs, -8, np.int32), input_zero_point=0,
        output_zero_point=0, activation_min=-128, activation_max=127, stride=(1, 1), padding=(0, 0, 0, 0), pool=pool)
        for side, pool in ((3, None), (9, (3, 3, 1, 1)), (8, (2, 4, 3, 2)))]
    memories, programs = zip(*map(build, jobs), strict=True)
    for memory in ("fast", "stall"):
        runs = simulator(SMALL, memory).run(programs)
        for job, image, run in zip(jobs, memories, runs, strict=True):
            assert run.error == Error.NONE
            assert_same(image.results(run.image)[0], reference(job), f"{memory}: {job.input.shape} {job.pool}")
