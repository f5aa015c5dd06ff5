"""The engine never hangs and never writes outside its window, whatever its descriptors say and the memory answers."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from golden.job import LayerJob, Ranking
from golden.reference import run as reference
from hw.descriptor import DESCRIPTOR_BYTES, FIELDS, MaskSource
from hw.registers import Error
from sim.simulator import Program

from .hw_helpers import SMALL, assert_same, build, descriptor_fields, edited

BOUND = 5_000_000
"""Cycles within which every program of this file must end."""
MARGIN = 8192
"""Bytes of memory behind the window."""

POSITIVE = (
    "in_channels", "in_rows", "in_cols", "in_row_pitch", "strip_rows", "last_strip_rows", "strips", "pitch", "stride_x",
    "stride_y", "weight_block", "weight_block_last", "out_groups", "group_columns", "last_columns", "kernel_h",
    "kernel_w", "tiles", "last_rows", "out_rows", "out_cols", "out_cols_last", "out_strip_rows", "positions", "pool_h",
    "pool_w", "pool_stride_x", "chunk", "out_channels",
)
HIGHEST = {
    "stride_x": 4, "stride_y": 4, "kernel_h": 11, "kernel_w": 11, "mask_source": 2, "in_channels": SMALL.max_channels,
    "out_channels": SMALL.max_channels, "group_columns": SMALL.columns, "last_columns": SMALL.columns,
    "last_rows": SMALL.rows, "chunk": SMALL.axi_bytes,
}


def make_job(seed: int = 0, *, channels: int = 20, side: int = 9, outputs: int = 10, kernel: int = 3, stride: int = 1,
             pool: tuple[int, int, int, int] | None = None) -> LayerJob:
    """A "same" convolution with a channel mask and ranked outputs."""
    random = np.random.default_rng(seed)
    return LayerJob(
        input=random.integers(-128, 128, (channels, side, side), np.int8),
        weight=random.integers(-128, 128, (outputs, channels, kernel, kernel), np.int8),
        bias=random.integers(-5000, 5000, outputs).astype(np.int32),
        multiplier=random.integers(2**30, 2**31, outputs).astype(np.int32),
        shift=np.full(outputs, -11, np.int32), input_zero_point=-3, output_zero_point=-100, activation_min=-100,
        activation_max=127, stride=(stride, stride), padding=(kernel // 2,) * 4,
        channel_mask=(random.random(channels) < 0.6).astype(np.uint8), pool=pool,
        ranking=Ranking(score="max", select="topk", value=outputs // 2))


JOBS = {
    "flat": make_job(),
    "pooled": make_job(1, pool=(2, 2, 2, 2)),
    "strided": make_job(2, stride=2, side=11),
    "banded": make_job(3, side=26, channels=16, outputs=6),
    "streamed weights": make_job(4, channels=240, side=4, outputs=5),
    "sums in chunks": make_job(6, channels=300, side=6, kernel=5, outputs=3),
    "one pixel": make_job(5, channels=200, side=1, kernel=1, outputs=40),
}


@pytest.fixture(scope="module")
def engine(simulator):
    return simulator(SMALL)


def programs_of(name: str) -> tuple:
    """(job, memory program, program with a margin of memory behind the window)."""
    job = JOBS[name]
    memory, program = build(job)
    image = np.concatenate([memory.image, np.full(MARGIN, 0x5A, np.uint8)])
    return job, memory, replace(program, image=image)


def run_all(engine, programs: list[Program]) -> list:
    """Run erroneous programs, each followed without a reset by a correct one that must come out bit for bit."""
    job, memory, correct = programs_of("flat")
    sequence = []
    for index, program in enumerate(programs):
        sequence += [replace(program, reset=index == 0), replace(correct, reset=False)]
    runs = engine.run(sequence, timeout_cycles=BOUND)
    expected = reference(job)
    for index, run in enumerate(runs[1::2]):
        assert run.error == Error.NONE, f"the correct program after program {index}"
        assert_same(memory.results(run.image)[0], expected, f"the correct program after program {index}")
    for program, run in zip(programs, runs[::2], strict=True):
        base, limit = program.window
        assert np.array_equal(run.image[:base], np.asarray(program.image)[:base]), "written below the window"
        assert np.array_equal(run.image[limit:], np.asarray(program.image)[limit:]), "written behind the window"
    return runs[::2]


@pytest.mark.parametrize("name", JOBS)
def test_correct_programs(engine, name):
    job, memory, program = programs_of(name)
    (run,) = engine.run([program])
    assert run.error == Error.NONE
    assert_same(memory.results(run.image)[0], reference(job))
    assert (memory.descriptor_count > 1) == (name in ("banded", "sums in chunks"))
    assert descriptor_fields(program)["weight_stream"] == (name in ("streamed weights", "sums in chunks"))
    assert descriptor_fields(program)["sum_end"] == (name != "sums in chunks")


def test_malformed_descriptors_are_refused(engine):
    _, _, program = programs_of("flat")
    fields = descriptor_fields(program)
    widths = {field.name: field.bits for field in FIELDS}
    cases = [{name: 0} for name in POSITIVE]
    cases += [{name: high + 1} for name, high in HIGHEST.items() if high + 1 < 1 << widths[name]]
    cases += [{"op": 0}, {"op": fields["op"] ^ 1}, {"first_channel": 1}, {"first_channel": 65535},
              {"parameter_base": fields["parameter_base"] + 8}, {"mask_base": fields["mask_base"] + 1}]
    runs = run_all(engine, [edited(program, **case) for case in cases])
    assert [(case, run.error) for case, run in zip(cases, runs, strict=True)] == [(c, Error.DESCRIPTOR) for c in cases]
    for run in runs:
        assert run.counters["write_activations"] == run.counters["write_mask"] == 0


def test_addresses_outside_the_window(engine):
    cases = []
    for name in ("flat", "pooled", "streamed weights", "one pixel"):
        _, _, program = programs_of(name)
        base, limit = program.window
        for field in ("in_base", "weight_base", "parameter_base", "mask_base", "out_base", "score_base", "winner_base"):
            for address in (0, base - 16, limit, limit + 0x100, 0xFFFFFFF0, 0x80000000):
                cases.append((name, field, address, edited(program, **{field: address})))
        winner_bytes = -(-len(JOBS[name].weight) // 8)
        cases.append((name, "out_base", "one byte too far", edited(program, out_base=limit - 1)))
        cases.append((name, "winner_base", "one byte too far", edited(program, winner_base=limit - winner_bytes + 1)))
        for address in (0, base - DESCRIPTOR_BYTES, limit - DESCRIPTOR_BYTES + 16, limit, 0xFFFFFFF0):
            cases.append((name, "program", address, replace(program, descriptors_address=address)))
    runs = run_all(engine, [program for *_, program in cases])
    for (*case, _), run in zip(cases, runs, strict=True):
        assert run.error == Error.WINDOW, case


def test_windows_that_end_too_early(engine):
    """Every tensor in turn is cut off by the window's end or beginning."""
    _, memory, program = programs_of("flat")
    addresses = memory.layers[0].addresses
    starts = [addresses.input, addresses.mask, addresses.weights, addresses.parameters, addresses.output,
              addresses.scores, addresses.winners]
    base, limit = program.window
    programs = [replace(program, window=(base, start + 1)) for start in starts[1:]]
    programs += [replace(program, window=(base, start)) for start in starts] + [replace(program, window=(limit, base))]
    programs += [replace(program, window=window) for window in ((0, 0), (base + 16, limit))]
    assert [run.error for run in run_all(engine, programs)] == [Error.WINDOW] * len(programs)


@pytest.mark.parametrize("memory", ["fast", "stall"])
def test_error_responses(simulator, memory):
    cases = []
    for name in ("flat", "pooled", "streamed weights", "one pixel"):
        _, image, program = programs_of(name)
        addresses = image.layers[0].addresses
        for response in (2, 3) if memory == "fast" else (2,):
            for part, error in (("input", Error.READ), ("mask", Error.READ), ("weights", Error.READ),
                                ("parameters", Error.READ), ("output", Error.WRITE), ("scores", Error.WRITE),
                                ("winners", Error.WRITE)):
                start = getattr(addresses, part)
                winner = int(JOBS[name].winner_indices[-1])  # only winners are read
                if part == "input":
                    start += winner * JOBS[name].input[0].size
                if part == "weights":
                    start += winner * JOBS[name].weight[0, 0].size * SMALL.columns
                cases.append((name, part, error, replace(program, fault=(start, start + 1, response))))
            start = program.descriptors_address
            cases.append((name, "program", Error.READ, replace(program, fault=(start, start + 1, response))))
    runs = run_all(simulator(SMALL, memory), [program for *_, program in cases])
    for (*case, error, _), run in zip(cases, runs, strict=True):
        assert run.error == error, case


def test_contradictory_sizes_time_out(engine):
    flat, pooled = (replace(program, window=(program.window[0], program.size))
                    for _, _, program in map(programs_of, ("flat", "pooled")))
    fields = descriptor_fields(flat)
    cases = [
        (flat, {"weight_block": fields["weight_block"] * 8}),  # more weights than the buffer holds, none is freed
        (flat, {"weight_block": fields["weight_block"] - 1}),  # the last tap's weights never come
        (flat, {"weight_reuse": 1}),  # nothing was kept
        (flat, {"in_rows": 40}),  # rows that no strip brings
        (flat, {"out_strip_need": 1000, "positions": 1000}),  # a strip of results larger than the ring
        (pooled, {"out_strip_need": 1000, "positions": 1000}),
        (flat, {"tiles": fields["tiles"] + 100}),  # results that nothing makes room for
    ]
    runs = run_all(engine, [edited(program, **case) for program, case in cases])
    assert [(case, run.error) for (_, case), run in zip(cases, runs, strict=True)] == [
        (case, Error.TIMEOUT) for _, case in cases]


def is_malformed(fields: dict[str, int]) -> bool:
    """What a descriptor must not be, independent of the hardware's check."""
    channels = fields["first_channel"] + (fields["out_groups"] - 1) * fields["group_columns"] + fields["last_columns"]
    return (fields["op"] != 0xC1 or any(fields[name] == 0 for name in POSITIVE)
            or any(fields[name] > high for name, high in HIGHEST.items()) or channels > fields["out_channels"]
            or fields["parameter_base"] % 16 != 0 or fields["mask_base"] % 2 != 0)


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
    _, _, program = programs_of(name)
    random = Random(name)
    cases = [corrupted(program, random) for _ in range(30)]
    runs = run_all(engine, [program for _, program in cases])
    for (case, program), run in zip(cases, runs, strict=True):
        malformed = is_malformed(descriptor_fields(program, case["descriptor"]))
        assert (run.error == Error.DESCRIPTOR) == malformed, case
        assert run.error in (Error.NONE, Error.DESCRIPTOR, Error.WINDOW, Error.TIMEOUT), case


def test_an_empty_program_ends_at_once(engine):
    _, _, program = programs_of("flat")
    (run,) = run_all(engine, [replace(program, descriptor_count=0, layers=0)])
    assert run.error == Error.NONE and run.counters["cycles"] < 10


def test_programs_that_are_not_aligned(engine):
    _, _, program = programs_of("flat")
    programs = [replace(program, descriptors_address=program.descriptors_address + offset) for offset in (1, 4, 7, 8)]
    assert [run.error for run in run_all(engine, programs)] == [Error.DESCRIPTOR] * 4


def test_mask_source_that_needs_no_mask(engine):
    """Without a mask in memory the engine walks all channels, whatever the mask's address."""
    job, memory, program = programs_of("flat")
    (run,) = run_all(engine, [edited(program, mask_source=MaskSource.ALL)])
    assert run.error == Error.NONE
    assert_same(memory.results(run.image)[0], reference(replace(job, channel_mask=None)))
