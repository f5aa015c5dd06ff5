"""What descriptors mean, executed by numpy, is what the reference computes: of any layer and program, on any engine."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from golden.job import LayerJob, Ranking
from golden.random_jobs import OPERATIONS, random_operation
from golden.reference import run as reference
from hw.config import EngineConfig
from hw.plan import PlanError
from hw.program import STORED, build_program

from .descriptor_model import Machine
from .hw_helpers import SMALL
from .random_networks import assert_results, convolution, random_network


def random_config(random: Random) -> EngineConfig:
    """Any sizes, mostly small ones, so that layers are cut in every way."""
    rows, bits = random.choice((1, 4, 7, 16)), random.choice((64, 128))
    return EngineConfig(
        rows=rows, columns=random.choice((1, 3, 5, 16)), axi_data_bits=bits, requantize_lanes=random.randint(1, rows),
        act_buffer_bytes=random.choice((1024, 4096, 1 << 16)), vector_lanes=random.choice((1, 3, 14, 62)),
        weight_buffer_bytes=random.choice((256, 1024, 1 << 16)), psum_tiles=random.choice((1, 4, 32)),
        output_ring_bytes=random.choice((64, 256, 1024)), max_channels=random.choice((300, 4096)))


@pytest.mark.parametrize("kind", OPERATIONS)
@pytest.mark.parametrize("seed", range(6))
def test_layers(kind, seed):
    """One job, on several engines; every byte of the output is written."""
    random = Random(f"{kind} {seed}")
    job = random_operation(seed, kind=kind, max_macs=25_000, max_channels=150)
    ran, expected = kind == "fully_connected", reference(job)
    for _ in range(1 if kind == "fully_connected" else 5):
        config = random_config(random)
        try:
            program = build_program([job], config)
        except PlanError:
            continue
        ran += 1
        (result,) = program.results(Machine(program, config).run())
        for name in ("output", "scores", "winners"):
            assert np.array_equal(getattr(result, name), getattr(expected, name)), (name, config)
    assert ran


@pytest.mark.parametrize("seed", range(60))
def test_programs(seed):
    """Residual blocks, concatenations, outputs that stay on chip: the same results, wherever they pass."""
    random = Random(seed)
    jobs, sources, expected = random_network(random)
    config = replace(SMALL, act_buffer_bytes=random.choice((1024, 4096, 1 << 15)))
    for chaining, keep in ((False, False), (True, True), (True, False)):
        program = build_program(jobs, config, sources=sources, chaining=chaining, keep_outputs=keep)
        results = program.results(Machine(program, config).run())
        assert_results(program, results, expected, all_outputs=keep or not chaining)
        on_chip = [placed for placed in program.layers if placed.addresses.chip_output is not None]
        assert chaining or not on_chip


def test_outputs_stay_on_chip():
    """The programs above have layers whose input and output are both on chip, at the buffer's end and at its start."""
    found = set()
    for seed in range(60):
        random = Random(seed)
        jobs, sources, _ = random_network(random)
        config = replace(SMALL, act_buffer_bytes=random.choice((1024, 4096, 1 << 15)))
        layers = build_program(jobs, config, sources=sources).layers
        found |= {(placed.plan.shape.resident, placed.addresses.chip_output is not None,
                   placed.addresses.chip_output == 0) for placed in layers}
    assert found >= {(False, True, False), (True, False, False), (True, True, True), (True, True, False)}


@pytest.mark.parametrize("bytes", range(512, 2560, 128))
def test_outputs_on_chip_leave_room_for_inputs(bytes):
    """Whether the buffer's size lets the output stay beside all of the input, beside a band of it, or not at all."""
    random = Random(0)
    first = convolution(random, (np.full((20, 6, 6), 3, np.int8), None, -3), depthwise=False)
    first = replace(first, weight=np.ones((24, 20, 3, 3), np.int8), padding=(1, 1, 1, 1), bias=np.zeros(24, np.int32),
                    multiplier=np.full(24, 2**30, np.int32), shift=np.full(24, -5, np.int32), ranking=None)
    jobs, results = [first], [reference(first)]
    for _ in range(2):
        jobs.append(replace(first, input=results[-1].output, weight=np.ones((24, 24, 3, 3), np.int8),
                            input_zero_point=first.output_zero_point))
        results.append(reference(jobs[-1]))
    program = build_program(jobs, replace(SMALL, act_buffer_bytes=bytes), keep_outputs=True)
    machine = Machine(program, replace(SMALL, act_buffer_bytes=bytes))
    assert_results(program, program.results(machine.run()), results)


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("changes", [
    {"stride": (2, 2), "padding": (0, 0, 0, 1)}, {"stride": (2, 2), "padding": (0, 1, 0, 1)},
    {"stride": (2, 2), "padding": (1, 0, 0, 1)}, {"stride": (3, 2), "padding": (0, 0, 0, 1)},
    {"stride": (4, 1), "padding": (2, 2, 1, 1)}, {"stride": (1, 3), "padding": (1, 1, 1, 2)},
    {"pool": (2, 1, 2, 1), "padding": (0, 0, 1, 1)}, {"pool": (3, 1, 3, 1), "padding": (1, 0, 1, 1)},
], ids=str)
def test_inputs_on_chip_of_which_rows_are_left_out(changes, depthwise):
    """Strides and windows that do not reach the last rows: channels lie as far from each other as they do in memory."""
    random, rng = Random(str(changes)), np.random.default_rng(0)
    for height in (5, 6, 7):
        first = convolution(random, (rng.integers(-128, 128, (6, height, 6), np.int8), None, -3), depthwise=True)
        first = replace(first, ranking=None)
        jobs, results = [first], [reference(first)]
        second = convolution(random, (results[0].output, None, first.output_zero_point), depthwise=depthwise)
        outputs, depth = second.weight.shape[:2]
        weight = rng.integers(-128, 128, (outputs, depth, 3, 3), np.int8)
        jobs.append(replace(second, **{"weight": weight, "ranking": None} | changes))
        results.append(reference(jobs[-1]))
        program = build_program(jobs, SMALL, keep_outputs=True)
        assert_results(program, program.results(Machine(program, SMALL).run()), results)


@pytest.mark.parametrize("kernel", [1, 2, 3])
@pytest.mark.parametrize("stride", [2, 3, 4])
@pytest.mark.parametrize("depthwise", [False, True])
def test_kernels_no_wider_than_the_stride(kernel, stride, depthwise):
    """Columns that no tap needs are not kept; which ones they are depends on the padding."""
    random = Random(f"{kernel} {stride}")
    for pad in range(kernel):
        rng = np.random.default_rng(pad)
        job = convolution(random, (rng.integers(-128, 128, (6, 9, 11), np.int8), None, -3), depthwise=depthwise)
        outputs, depth = job.weight.shape[:2]
        job = replace(job, weight=rng.integers(-128, 128, (outputs, depth, kernel, kernel), np.int8), ranking=None,
                      stride=(stride, stride), padding=(pad, 0, pad, 0))
        program = build_program([job], SMALL)
        (result,) = program.results(Machine(program, SMALL).run())
        assert np.array_equal(result.output, reference(job).output)


@pytest.mark.parametrize("channels", [16, 20])
def test_masks_of_a_concatenation(channels):
    """The winners of one part leave the bits of the next alone; where they cannot, the concatenation is refused."""
    random, rng = Random(channels), np.random.default_rng(channels)
    ranked = convolution(random, (rng.integers(-128, 128, (3, 4, 4), np.int8), None, -3), depthwise=False)

    def layer(outputs: int, **changes) -> LayerJob:
        inputs = len(changes.get("input", ranked.input))
        return replace(ranked, bias=np.zeros(outputs, np.int32), multiplier=np.full(outputs, 2**30, np.int32),
                       shift=np.full(outputs, -8, np.int32), padding=(0, 0, 0, 0), output_zero_point=0,
                       weight=rng.integers(-128, 128, (outputs, inputs, 1, 1), np.int8), **changes)

    parts = [layer(channels, ranking=Ranking(score="max", select="topk", value=3)), layer(channels, ranking=None)]
    results = [reference(part) for part in parts]
    last = layer(9, input=np.concatenate([result.output for result in results]), input_zero_point=0, ranking=None,
                 channel_mask=np.concatenate([result.winners for result in results]))
    try:
        program = build_program([*parts, None, last], SMALL, sources=[(STORED,), (STORED,), (0, 1), (2,)])
    except PlanError as error:
        assert channels == 20 and str(error).startswith("concatenation 2: ")
        return
    assert_results(program, program.results(Machine(program, SMALL).run()), [*results, reference(last)])
