"""The engine never hangs and never touches anything outside its window, whatever descriptors say and memory answers."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from golden.job import AddJob, Job, LayerJob, PoolJob, Ranking
from golden.reference import LayerResult
from golden.reference import run as reference
from hw.descriptor import DESCRIPTOR_BYTES, FIELDS, OP_VECTOR, MaskSource
from hw.program import MemoryProgram, build_program
from hw.registers import Error
from sim.simulator import Program

from .hw_helpers import POSITIVE, SMALL, assert_same, descriptor_fields, edited, highest, is_malformed, program_of

BOUND = 5_000_000
"""Cycles within which every program of this file must end."""
MARGIN = 8192
"""Bytes of memory behind the window."""


def random_mask(random: np.random.Generator, channels: int) -> np.ndarray:
    """More than half of the channels; the first one wins, so that its plane is read."""
    mask = (random.random(channels) < 0.6).astype(np.uint8)
    mask[0] = 1
    return mask


def convolution(seed: int = 0, *, channels: int = 20, side: int = 9, outputs: int = 10, kernel: int = 3,
                stride: int = 1, pool: tuple[int, int, int, int] | None = None, groups: int = 1, zeros: float = 0,
                input: np.ndarray | None = None) -> LayerJob:
    """A "same" convolution with a channel mask and ranked outputs; a part of its weights zero in blocks."""
    random = np.random.default_rng(seed)
    weight = random.integers(-128, 128, (outputs, channels // groups, kernel, kernel), np.int8)
    used = random.random((-(-outputs // 4), channels // groups)) >= zeros
    used[:, 0] = True
    weight *= used.repeat(4, 0)[:outputs, :, None, None]
    if input is None:
        input = random.integers(-128, 128, (channels, side, side), np.int8)
    return LayerJob(
        input=input, weight=weight, bias=random.integers(-5000, 5000, outputs).astype(np.int32),
        multiplier=random.integers(2**30, 2**31, outputs).astype(np.int32),
        shift=np.full(outputs, -11, np.int32), input_zero_point=-3, output_zero_point=-100, activation_min=-100,
        activation_max=127, groups=groups, stride=(stride, stride), padding=(kernel // 2,) * 4,
        channel_mask=random_mask(random, channels), pool=pool,
        pool_padding=(1, 1, 1, 1) if pool == (3, 3, 2, 2) else (0, 0, 0, 0),
        ranking=Ranking(score="max", select="topk", value=outputs // 2))


def pooling(kind: str, *, channels: int = 30, side: int = 9) -> PoolJob:
    """A padded pool with a channel mask and ranked outputs."""
    random = np.random.default_rng(7)
    return PoolJob(kind=kind, input=random.integers(-128, 128, (channels, side, side), np.int8), kernel=(3, 3),
                   stride=(2, 2), padding=(1, 1, 1, 1), input_zero_point=-3, output_zero_point=-3,
                   channel_mask=random_mask(random, channels),
                   ranking=Ranking(score="max", select="threshold", value=100))


def addition(*, channels: int = 21, side: int = 8) -> AddJob:
    random = np.random.default_rng(8)
    fields = {}
    for number in (1, 2):
        fields |= {f"input_{number}": random.integers(-128, 128, (channels, side, side), np.int8),
                   f"input_{number}_zero_point": number, f"input_{number}_multiplier": 2**30 + number,
                   f"input_{number}_shift": -number,
                   f"channel_mask_{number}": random_mask(random, channels)}
    return AddJob(**fields, output_zero_point=-20, output_multiplier=2**30, output_shift=-18,
                  ranking=Ranking(score="max", select="topk", value=5))


def chained() -> list[LayerJob]:
    """Two layers; the first one's output stays on chip."""
    first = convolution(9, channels=6, side=5, outputs=12)
    result = reference(first)
    second = convolution(10, channels=12, side=5, outputs=7, input=result.output)
    return [first, replace(second, channel_mask=result.winners, input_zero_point=first.output_zero_point)]


JOBS: dict[str, list[Job]] = {
    "flat": [convolution()],
    "pooled": [convolution(1, pool=(2, 2, 2, 2))],
    "padded pool": [convolution(11, pool=(3, 3, 2, 2))],
    "strided": [convolution(2, stride=2, side=11)],
    "banded": [convolution(3, side=26, channels=16, outputs=6)],
    "passes": [convolution(4, channels=240, side=4, outputs=5)],
    "chunks": [convolution(6, channels=300, side=6, kernel=5, outputs=3)],
    "one pixel": [convolution(5, channels=200, side=1, kernel=1, outputs=40)],
    "grouped": [convolution(7, channels=24, outputs=18, groups=3, side=6)],
    "blocks": [convolution(8, channels=40, outputs=10, side=5, zeros=0.8)],
    "depthwise": [convolution(12, channels=30, outputs=60, groups=30)],
    "strided depthwise": [convolution(13, channels=60, outputs=60, groups=60, stride=2, side=11)],
    "max pool": [pooling("max")],
    "average pool": [pooling("average")],
    "addition": [addition()],
    "chained": chained(),
}
RESULTS: dict[str, LayerResult] = {name: reference(jobs[-1]) for name, jobs in JOBS.items()}


@pytest.fixture(scope="module")
def engine(simulator):
    return simulator(SMALL)


def programs_of(name: str) -> tuple[MemoryProgram, Program]:
    """(memory program, program with a margin of memory behind the window)."""
    memory = build_program(JOBS[name], SMALL, keep_outputs=True)
    image = np.concatenate([memory.image, np.full(MARGIN, 0x5A, np.uint8)])
    return memory, program_of(memory, image=image)


def run_all(engine, programs: list[Program]) -> list:
    """Run erroneous programs, each followed without a reset by a correct one that must come out bit for bit."""
    memory, correct = programs_of("flat")
    sequence = []
    for index, program in enumerate(programs):
        sequence += [replace(program, reset=index == 0), replace(correct, reset=False)]
    runs = engine.run(sequence, timeout_cycles=BOUND)
    for index, run in enumerate(runs[1::2]):
        assert run.error == Error.NONE, f"the correct program after program {index}"
        assert_same(memory.results(run.image)[0], RESULTS["flat"], f"the correct program after program {index}")
    for program, run in zip(programs, runs[::2], strict=True):
        base, limit = program.window
        assert np.array_equal(run.image[:base], np.asarray(program.image)[:base]), "written below the window"
        assert np.array_equal(run.image[limit:], np.asarray(program.image)[limit:]), "written behind the window"
    return runs[::2]


@pytest.mark.parametrize("name", JOBS)
def test_correct_programs(engine, name):
    """What the others corrupt is right, and is of the kind that its name says."""
    memory, program = programs_of(name)
    (run,) = engine.run([program])
    assert run.error == Error.NONE
    assert_same(memory.results(run.image)[-1], RESULTS[name])
    first, last = (descriptor_fields(program, index) for index in (0, memory.descriptor_count - 1))
    assert (memory.descriptor_count > 1) == (name in ("banded", "chunks", "grouped", "depthwise", "strided depthwise",
                                                      "max pool", "average pool", "addition", "chained"))
    assert (first["pass_winners"] < first["in_channels"]) == (name == "passes")
    assert first["sum_end"] == (name != "chunks")
    assert first["lists"] == (name == "blocks") and last["act_resident"] == (name == "chained")
    assert (first["op"] == OP_VECTOR) == (name in ("depthwise", "strided depthwise", "max pool", "average pool",
                                                   "addition"))
    assert first["lane_step"] == (2 if name in ("strided depthwise", "average pool") else 1)
    assert first["add"] == (name == "addition")
    assert first["parameter_shared"] == (not isinstance(JOBS[name][0], LayerJob))


@pytest.mark.parametrize("name", ["flat", "depthwise", "addition"])
def test_malformed_descriptors_are_refused(engine, name):
    """One field out of bounds at a time; tests/test_hw_loader.py has every check from both sides."""
    _, program = programs_of(name)
    fields = descriptor_fields(program)
    widths = {field.name: field.bits for field in FIELDS}
    cases = [{field: 0} for field in POSITIVE]
    cases += [{field: high + 1} for field, high in highest(SMALL, fields["op"] == OP_VECTOR).items()
              if high + 1 < 1 << widths[field]]
    cases += [{"op": 0}, {"op": fields["op"] ^ 4}, {"first_channel": 65535}, {"mask_skip": 15, "in_channels": 15},
              {"parameter_base": fields["parameter_base"] + 8}, {"mask_base": fields["mask_base"] + 1}]
    assert all(is_malformed(fields | case, SMALL) for case in cases)
    runs = run_all(engine, [edited(program, **case) for case in cases])
    assert [(case, run.error) for case, run in zip(cases, runs, strict=True)] == [(c, Error.DESCRIPTOR) for c in cases]
    for run in runs:
        assert run.counters["write_activations"] == run.counters["write_mask"] == 0


ADDRESSES = ("in_base", "weight_base", "parameter_base", "mask_base", "out_base", "score_base", "winner_base")


def test_addresses_outside_the_window(engine):
    cases = []
    for name, fields in (("flat", ADDRESSES), ("pooled", ADDRESSES), ("passes", ADDRESSES), ("one pixel", ADDRESSES),
                         ("depthwise", ADDRESSES[:-2]), ("blocks", (*ADDRESSES, "block_mask_base")),
                         ("max pool", ("in_base", "parameter_base", "mask_base", "out_base")),
                         ("addition", ("in_base", "parameter_base", "mask_base", "mask_base_2", "out_base"))):
        _, program = programs_of(name)
        base, limit = program.window
        for field in fields:
            for address in (0, base - 16, limit, limit + 0x100, 0xFFFFFFF0, 0x80000000):
                cases.append((name, field, address, edited(program, **{field: address})))
        cases.append((name, "out_base", "one byte too far", edited(program, out_base=limit - 1)))
        for address in (0, base - DESCRIPTOR_BYTES, limit - DESCRIPTOR_BYTES + 16, limit, 0xFFFFFFF0):
            cases.append((name, "program", address, replace(program, descriptors_address=address)))
        if "winner_base" in fields:
            far = limit - -(-JOBS[name][0].output_shape[0] // 8) + 1
            cases.append((name, "winner_base", "one byte too far", edited(program, winner_base=far)))
        if name == "addition":
            step = (limit - descriptor_fields(program)["in_base"]) % 2**32
            cases.append((name, "strip_pitch", "the second operand", edited(program, strip_pitch=step)))
    runs = run_all(engine, [program for *_, program in cases])
    for (*case, _), run in zip(cases, runs, strict=True):
        assert run.error == Error.WINDOW, case


@pytest.mark.parametrize("name", ["flat", "blocks", "depthwise", "average pool", "addition", "chained"])
def test_windows_that_end_too_early(engine, name):
    """Every tensor in turn is cut off by the window's end or beginning."""
    memory, program = programs_of(name)
    starts = {}
    for layer in memory.layers:
        addresses, plan = layer.addresses, layer.plan
        starts |= dict.fromkeys([addresses.parameters, addresses.scores, addresses.winners, addresses.output])
        starts |= dict.fromkeys(one for one in (*addresses.masks, addresses.weights, addresses.block_masks) if one)
        # Of what is on chip nothing is read; of the first planes neither, if they lose.
        if not plan.shape.resident and name == "flat":
            starts |= dict.fromkeys(addresses.inputs)
    base, limit = program.window
    programs = [replace(program, window=(base, start)) for start in starts]
    programs += [replace(program, window=(base, start + 1)) for start in starts if start != memory.layers[0].addresses]
    programs += [replace(program, window=window) for window in ((limit, base), (0, 0), (base + 16, limit))]
    for (*_, window), run in zip([(one.window,) for one in programs], run_all(engine, programs), strict=True):
        assert run.error == Error.WINDOW, window


def error_cases(name: str) -> list[tuple[str, int, Error]]:
    """(tensor, an address of it that is read or written, the error) of a program's first layer."""
    memory, program = programs_of(name)
    layer, job = memory.layers[0], JOBS[name][0]
    addresses, found = layer.addresses, []
    operands = [(job.input_1, job.channel_mask_1), (job.input_2, job.channel_mask_2)] if isinstance(job, AddJob) else [
        (job.input, job.channel_mask)]
    for (input, mask), address, mask_address in zip(operands, addresses.inputs, addresses.masks, strict=True):
        winner = int(np.flatnonzero(mask)[-1])  # only winners are read
        found += [("input", address + winner * input[0].size, Error.READ), ("mask", mask_address, Error.READ)]
    if addresses.weights is not None:
        winner = int(np.flatnonzero(job.channel_mask)[0])
        block = layer.plan.shape.taps * (layer.plan.shape.depth_multiplier if layer.plan.shape.vector
                                         else min(SMALL.columns, len(job.weight)))
        found.append(("weights", addresses.weights + winner * block, Error.READ))
    found += [("program", program.descriptors_address, Error.READ), ("parameters", addresses.parameters, Error.READ),
              ("output", addresses.output, Error.WRITE), ("scores", addresses.scores, Error.WRITE),
              ("winners", addresses.winners, Error.WRITE)]
    return found


@pytest.mark.parametrize("memory", ["fast", "stall"])
def test_error_responses(simulator, memory):
    cases = []
    names = ("flat", "pooled", "passes", "one pixel", "depthwise", "average pool", "addition")
    for name in names if memory == "fast" else ("flat", "addition"):
        _, program = programs_of(name)
        for part, start, error in error_cases(name):
            for response in (2, 3) if memory == "fast" else (2,):
                cases.append((name, part, error, replace(program, fault=(start, start + 1, response))))
    runs = run_all(simulator(SMALL, memory), [program for *_, program in cases])
    for (*case, error, _), run in zip(cases, runs, strict=True):
        assert run.error == error, case


def test_contradictory_sizes_time_out(engine):
    flat, pooled, depthwise, added = (
        replace(program, window=(program.window[0], program.size))
        for _, program in map(programs_of, ("flat", "pooled", "depthwise", "addition")))
    fields = descriptor_fields(flat)
    cases = [
        (flat, {"weight_block": fields["weight_block"] * 8}),  # more weights than the buffer holds, none is freed
        (flat, {"weight_block": fields["weight_block"] - 1}),  # the last tap's weights never come
        (flat, {"weight_reuse": 1}),  # nothing was kept
        (flat, {"in_rows": 40}),  # rows that no strip brings
        (flat, {"out_strip_need": 1000, "positions": 1000}),  # a strip of results larger than the ring
        (pooled, {"out_strip_need": 1000, "positions": 1000}),
        (flat, {"tiles": fields["tiles"] + 100}),  # results that nothing makes room for
        (depthwise, {"weight_block": 1}),
        (depthwise, {"in_rows": 40}),
        (added, {"in_rows": 400}),
    ]
    runs = run_all(engine, [edited(program, **case) for program, case in cases])
    assert [(case, run.error) for (_, case), run in zip(cases, runs, strict=True)] == [
        (case, Error.TIMEOUT) for _, case in cases]


def corrupted(program: Program, random: Random) -> tuple[dict[str, int], Program]:
    """One bit of a descriptor flipped, or a field replaced by a random value."""
    index = random.randrange(program.descriptor_count)
    field = random.choice(FIELDS)
    value = descriptor_fields(program, index)[field.name]
    low, high = (-(1 << field.bits - 1), 1 << field.bits - 1) if field.signed else (0, 1 << field.bits)
    if random.random() < 0.5:
        value = ((value - low) ^ 1 << random.randrange(field.bits)) + low
    else:
        value = random.choice((low, high - 1, random.randrange(low, high), random.randrange(low, high) >> 8))
    return {"descriptor": index, field.name: value}, edited(program, index, **{field.name: value})


@pytest.mark.parametrize("name", JOBS)
def test_corrupted_descriptors_end_within_the_window(engine, name):
    """What would be read behind the window, or before it, answers an error; none is seen."""
    _, program = programs_of(name)
    random = Random(name)
    base, limit = program.window
    cases = []
    for number in range(40):
        case, changed = corrupted(program, random)
        outside = (limit, program.size) if number % 2 else (0, base)
        cases.append((case, replace(changed, fault=(*outside, 2))))
    runs = run_all(engine, [program for _, program in cases])
    for (case, program), run in zip(cases, runs, strict=True):
        malformed = is_malformed(descriptor_fields(program, case["descriptor"]), SMALL)
        first = program.descriptors_address
        last = first + DESCRIPTOR_BYTES * program.descriptor_count
        overwritten = not np.array_equal(run.image[first:last], program.image[first:last])
        assert overwritten or (run.error == Error.DESCRIPTOR) == malformed, case
        assert run.error in (Error.NONE, Error.DESCRIPTOR, Error.WINDOW, Error.TIMEOUT), case


def test_an_empty_program_ends_at_once(engine):
    _, program = programs_of("flat")
    (run,) = run_all(engine, [replace(program, descriptor_count=0, layers=0)])
    assert run.error == Error.NONE and run.counters["cycles"] < 10


def test_programs_that_are_not_aligned(engine):
    _, program = programs_of("flat")
    programs = [replace(program, descriptors_address=program.descriptors_address + offset) for offset in (1, 4, 7, 8)]
    assert [run.error for run in run_all(engine, programs)] == [Error.DESCRIPTOR] * 4


def test_mask_source_that_needs_no_mask(engine):
    """Without a mask in memory the engine walks all channels, whatever the mask's address."""
    memory, program = programs_of("flat")
    (run,) = run_all(engine, [edited(program, mask_source=MaskSource.ALL)])
    assert run.error == Error.NONE
    assert_same(memory.results(run.image)[0], reference(replace(JOBS["flat"][0], channel_mask=None)))
