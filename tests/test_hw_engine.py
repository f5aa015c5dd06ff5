"""The whole engine on random jobs and networks: stalls of the memory change no bit, and layers chain through memory.

Results are those of the reference, bytes read and written those of tests/descriptor_model.py.
"""

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from golden.job import LayerJob
from golden.random_jobs import OPERATIONS, random_job, random_operation
from golden.reference import run as reference
from hw.plan import PlanError
from hw.program import build_program
from hw.registers import Error

from .descriptor_model import Machine
from .hw_helpers import SMALL, assert_same, build, program_of
from .random_networks import assert_results, random_network


def assert_traffic(memory, run) -> None:
    """Every byte is asked for once."""
    machine = Machine(memory, SMALL)
    machine.run()
    assert {name: run.counters[name] for name in machine.traffic} == machine.traffic


def small_jobs() -> list:
    """Convolutions of all kinds, and two of every operation that fits the engine."""
    jobs = [random_job(seed, max_macs=25_000, max_channels=300) for seed in range(8)]
    for kind in OPERATIONS:
        drawn = (random_operation(seed, kind=kind, max_macs=10_000, max_channels=100) for seed in range(20))
        fitting = []
        while len(fitting) < 2:
            job = next(drawn)
            try:
                build(job)
            except PlanError:
                continue
            fitting.append(job)
        jobs += fitting
    return jobs


def test_stalls_change_no_bit(simulator):
    """The same bytes and the same results on both memories; the AXI checker watches."""
    jobs = small_jobs()
    memories, programs = zip(*map(build, jobs), strict=True)
    fast = simulator(SMALL).run(programs)
    stalled = simulator(SMALL, "stall").run(programs, seed=7)
    for index, (job, memory, run, other) in enumerate(zip(jobs, memories, fast, stalled, strict=True)):
        expected = reference(job)
        for one in (run, other):
            assert one.error == Error.NONE
            assert_same(memory.results(one.image)[0], expected, f"job {index}, {job.op}")
            assert_traffic(memory, one)
        for name in ("read_beats", "write_beats", "array_active"):
            assert run.counters[name] == other.counters[name], name
    assert [run.counters["cycles"] for run in fast] != [run.counters["cycles"] for run in stalled]


def test_networks(simulator):
    """Layers of all kinds behind each other, with outputs on chip and without; again without a reset."""
    sequence, checks = [], []
    for seed in range(25):
        random = Random(seed)
        jobs, sources, expected = random_network(random)
        keep, chaining = random.random() < 0.5, random.random() < 0.8
        memory = build_program(jobs, SMALL, sources=sources, chaining=chaining, keep_outputs=keep)
        checks.append((memory, expected, keep or not chaining))
        sequence.append(program_of(memory, reset=random.random() < 0.3 or seed == 0))
    for name, runs in (("fast", simulator(SMALL).run(sequence)), ("stall", simulator(SMALL, "stall").run(sequence))):
        for seed, (run, (memory, expected, all_outputs)) in enumerate(zip(runs, checks, strict=True)):
            assert run.error == Error.NONE, (name, seed)
            assert_results(memory, memory.results(run.image), expected, all_outputs=all_outputs)
            assert_traffic(memory, run)


@pytest.mark.parametrize("memory", ["fast", "stall"])
def test_a_reset_in_the_midst_of_a_program(simulator, memory):
    """Wherever it is in it, nothing of it is left: the same results, in as many cycles, as of an engine that rested."""
    jobs, programs, random = small_jobs(), [], Random(5)
    memories, undisturbed = zip(*map(build, jobs), strict=True)
    runs = simulator(SMALL, memory).run(undisturbed, seed=3)
    for program, run in zip(undisturbed, runs, strict=True):
        programs += [replace(program, restart_after=random.randrange(run.counters["cycles"])) for _ in range(4)]
    for index, run in enumerate(simulator(SMALL, memory).run(programs, seed=3)):
        which = index // 4
        assert run.error == Error.NONE
        assert_same(memories[which].results(run.image)[0], reference(jobs[which]), f"job {which}")
        if memory == "fast":
            assert run.counters == runs[which].counters


@pytest.mark.parametrize("chaining", [False, True])
def test_layers_chain(simulator, chaining):
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
    memory = build_program(jobs, SMALL, chaining=chaining, keep_outputs=True)
    assert any(placed.plan.shape.resident for placed in memory.layers) == chaining
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
        output_zero_point=0, activation_min=-128, activation_max=127, stride=(1, 1), padding=(0, 0, 0, 0), pool=pool,
        pool_padding=padding)
        for side, pool, padding in ((3, None, (0,) * 4), (9, (3, 3, 1, 1), (0,) * 4), (8, (2, 4, 3, 2), (0,) * 4),
                                    (7, (3, 3, 2, 2), (1, 1, 1, 1)))]
    # The same pixels through the vector unit: a plane a channel.
    jobs += [replace(job, input=np.repeat(job.input[:1], outputs, axis=0), weight=job.weight[:, :1], groups=outputs)
             for job in jobs]
    memories, programs = zip(*map(build, jobs), strict=True)
    for memory in ("fast", "stall"):
        runs = simulator(SMALL, memory).run(programs)
        for job, image, run in zip(jobs, memories, runs, strict=True):
            assert run.error == Error.NONE
            assert_same(image.results(run.image)[0], reference(job), f"{memory}: {job.input.shape} {job.pool}")
