"""The analytical model against the counters of the hardware, in RTL with the fast memory."""

from dataclasses import replace

import numpy as np
import pytest

from golden.job import LayerJob, Ranking
from golden.reference import run as reference
from hw.config import EngineConfig
from hw.plan import LayerShape, PlanError, make_plan
from hw.program import build_program, job_inputs
from sim.analytical import ideal_cycles, output_stationary_cycles, predict, predict_program, weight_stationary_cycles
from sim.conformance import drawn_job
from sim.execute import as_simulation
from sim.workload import Workload

from .hw_helpers import SMALL


def counted(counters: dict[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """The hardware's bytes by tensor, as the model groups them."""
    return ({"activations": counters["read_activations"], "weights": counters["read_weights"],
             "parameters": counters["read_parameters"] + counters["read_mask"] + counters["read_program"]},
            {"activations": counters["write_activations"], "mask": counters["write_mask"]})


def predicted(program, jobs):
    """The model's predictions for a program's layers."""
    work = []
    for layer, job in zip(program.layers, jobs, strict=True):
        channels = layer.plan.layer.channels
        work.append(Workload(
            plan=layer.plan, ranking=layer.ranking, blocks=layer.blocks, scores=reference(job).scores,
            winners=[channels if mask is None else mask for _, mask in job_inputs(job)],
            masked=tuple(mask is not None for mask in layer.addresses.masks), in_memory=layer.in_memory))
    return predict_program(work)


def test_random_layers(simulator):
    """Of every operation: bytes exactly; cycles within 1 %, or 50 cycles where that is more."""
    jobs, programs = [], []
    for seed in range(120):
        job = drawn_job(seed, 60_000)
        try:
            programs.append(build_program([job], SMALL))
        except PlanError:
            continue
        jobs.append(job)
    assert len(jobs) >= 110 and len({job.op for job in jobs}) == 5
    runs = simulator(SMALL).run([as_simulation(program) for program in programs], timeout_cycles=2_000_000)
    for job, program, run in zip(jobs, programs, runs, strict=True):
        assert run.error == 0
        prediction, = predicted(program, [job])
        assert (prediction.bytes_read, prediction.bytes_written) == counted(run.counters)
        cycles = run.counters["cycles"]
        assert abs(prediction.cycles - cycles) <= max(50, cycles / 100), program.layers[0].plan


def layer(channels: int, out_channels: int, side: int, kernel: int, **options) -> LayerJob:
    rng = np.random.default_rng(channels + out_channels)
    return LayerJob(
        input=rng.integers(-128, 128, (channels, side, side), dtype=np.int8),
        weight=rng.integers(-127, 128, (out_channels, channels, kernel, kernel), dtype=np.int8),
        bias=np.zeros(out_channels, np.int32), multiplier=np.full(out_channels, 1 << 30, np.int32),
        shift=np.full(out_channels, -9, np.int32), input_zero_point=0, output_zero_point=0, activation_min=-128,
        activation_max=127, stride=(1, 1), padding=(kernel // 2,) * 4, **options)


def test_exact_where_compute_bound(simulator):
    """Dense unmasked layers whose taps bound everything: the prediction is the count, to the cycle."""
    jobs = [layer(12, 4, 14, 3), layer(8, 12, 12, 3), layer(16, 8, 8, 3), layer(24, 4, 8, 1), layer(4, 4, 16, 5)]
    programs = [build_program([job], SMALL) for job in jobs]
    runs = simulator(SMALL).run([as_simulation(program) for program in programs], timeout_cycles=1_000_000)
    for job, program, run in zip(jobs, programs, runs, strict=True):
        prediction, = predicted(program, [job])
        assert abs(prediction.cycles - run.counters["cycles"]) <= 1, job.weight.shape


def test_chain_of_layers(simulator):
    """A program of two layers, the second on the winners of the first: each layer's bytes, and the cycles of both."""
    first = layer(6, 12, 10, 3, ranking=Ranking(score="max", select="topk", value=5))
    result = reference(first)
    second = layer(12, 8, 10, 3)
    second = replace(second, input=result.output, channel_mask=result.winners)
    program = build_program([first, second], SMALL)
    run, = simulator(SMALL).run([as_simulation(program)], timeout_cycles=1_000_000)
    predictions = predicted(program, [first, second])
    read, written = counted(run.counters)
    for name in read:
        assert sum(one.bytes_read[name] for one in predictions) == read[name]
    for name in written:
        assert sum(one.bytes_written[name] for one in predictions) == written[name]
    assert abs(sum(one.cycles for one in predictions) - run.counters["cycles"]) <= 50


def test_weights_that_fall_behind(simulator):
    """Weights arrive more slowly than they are used, and are ahead at first: cycles within 1 %.

    Every other channel wins, so that a channel's four weights take a beat of eight bytes, and constants come besides;
    the input is on chip, so that the first weights are there when the layer begins.
    """
    first = layer(8, 192, 1, 1, ranking=Ranking(score="max", select="topk", value=96))
    weight = np.abs(first.weight)
    weight[::2] *= -1
    first = replace(first, weight=weight, input=np.full_like(first.input, 100))
    result = reference(first)
    assert result.winners[1::2].all() and not result.winners[::2].any()
    second = replace(layer(192, 160, 1, 1), input=result.output, channel_mask=result.winners)
    program = build_program([first, second], SMALL)
    run, = simulator(SMALL).run([as_simulation(program)], timeout_cycles=1_000_000)
    cycles = run.counters["cycles"]
    assert abs(sum(one.cycles for one in predicted(program, [first, second])) - cycles) <= cycles / 100


def test_results_on_chip_hold_up_rows(simulator):
    """Results that the next layer finds on chip take the buffer from rows still to come: cycles within 1 %.

    Rows are what bounds these layers: each is read once for every column of the stride.
    """
    chains = []
    for channels, side, kernel, stride in ((4, 32, 3, 3), (4, 32, 2, 3), (3, 44, 2, 4), (1, 48, 2, 3)):
        first = replace(layer(channels, 4, side, kernel), stride=(stride, stride))
        output = reference(first).output
        chains.append([first, replace(layer(4, 4, output.shape[1], 1), input=output)])
    programs = [build_program(jobs, SMALL) for jobs in chains]
    runs = simulator(SMALL).run([as_simulation(program) for program in programs], timeout_cycles=1_000_000)
    for jobs, program, run in zip(chains, programs, runs, strict=True):
        cycles = run.counters["cycles"]
        assert abs(sum(one.cycles for one in predicted(program, jobs)) - cycles) <= cycles / 100, jobs[0].weight.shape


def walked_cycles(shape: LayerShape, rows: int, columns: int) -> tuple[int, int]:
    """SCALE-Sim's OS and WS cycles, fold by fold: each fold takes its operands, its skew and its drain, and the last
    fold's final cycle is not counted."""
    out_rows, out_cols = shape.conv_extent
    m, k, n = out_rows * out_cols, shape.channels * shape.kernel[0] * shape.kernel[1], shape.out_channels
    output = sum(k + rows + columns - 2 for _ in range(0, m, rows) for _ in range(0, n, columns)) - 1
    weight = sum(rows + (m + rows + columns - 2) for _ in range(0, k, rows) for _ in range(0, n, columns)) - 1
    return output, weight


@pytest.mark.parametrize("shape", [
    LayerShape(channels=16, height=18, width=18, out_channels=32, kernel=(3, 3)),
    LayerShape(channels=3, height=227, width=227, out_channels=96, kernel=(11, 11), stride=(4, 4)),
    LayerShape(channels=4096, height=1, width=1, out_channels=1000, kernel=(1, 1))])
def test_closed_forms_of_plain_arrays(shape):
    config = EngineConfig()
    output, weight = walked_cycles(shape, 16, 16)
    assert output_stationary_cycles(shape, config) == output
    assert weight_stationary_cycles(shape, config) == weight


@pytest.mark.parametrize(("layer", "output", "weight"), [
    ({"channels": 16, "height": 18, "width": 18, "out_channels": 32, "kernel": (3, 3)}, 5567, 5435),
    ({"channels": 512, "height": 9, "width": 9, "out_channels": 512, "kernel": (3, 3)}, 593663, 875519),
    ({"channels": 256, "height": 16, "width": 16, "out_channels": 256, "kernel": (3, 3)}, 485471, 557567),
    ({"channels": 128, "height": 30, "width": 30, "out_channels": 128, "kernel": (3, 3)}, 463343, 478079),
    ({"channels": 256, "height": 15, "width": 15, "out_channels": 512, "kernel": (3, 3), "stride": (2, 2)},
     298751, 437759),
    ({"channels": 128, "height": 14, "width": 14, "out_channels": 256, "kernel": (1, 1)}, 32863, 30975),
    ({"channels": 512, "height": 1, "width": 1, "out_channels": 1000, "kernel": (1, 1)}, 34145, 94751)])
def test_plain_arrays_as_scalesim_counts_them(layer, output, weight):
    """What scalesim 3.0.0 itself printed for a 16x16 array, output- and weight-stationary."""
    shape, config = LayerShape(**layer), EngineConfig()
    assert (output_stationary_cycles(shape, config), weight_stationary_cycles(shape, config)) == (output, weight)


def test_ideal_cycles_and_winners():
    """Half of the channels are half of the ideal, and nearly half of the predicted cycles of a large layer."""
    shape = LayerShape(channels=128, height=28, width=28, out_channels=128, kernel=(3, 3), padding=(1, 1, 1, 1))
    config = EngineConfig()
    assert ideal_cycles(shape, 128, config) == 128 * 9 * 128 * 784 / 256
    assert ideal_cycles(shape, 64, config) == ideal_cycles(shape, 128, config) / 2
    plan = make_plan(shape, config)
    dense = predict(Workload(plan=plan, winners=[128]))
    sparse = predict(Workload(plan=plan, winners=[np.arange(128) % 2 == 0], masked=(True,)))
    assert 1.97 < dense.cycles / sparse.cycles <= 2.0
    assert sparse.bytes_read["weights"] * 2 == dense.bytes_read["weights"]
