"""The image of a program: what lies where, and results read back."""

from dataclasses import replace

import numpy as np
import pytest

from golden.job import AddJob, LayerJob, PoolJob, Ranking
from golden.random_jobs import OPERATIONS, random_job, random_operation
from golden.reference import LayerResult
from hw.descriptor import DESCRIPTOR_BYTES, MaskSource, Select, unpack
from hw.jobs import job_constants
from hw.packing import ALIGNMENT, pack_mask
from hw.plan import PlanError
from hw.program import PROGRAM_BASE, STORED, MemoryProgram, build_program, job_inputs

from .hw_helpers import SMALL


def descriptors(memory: MemoryProgram) -> list[dict[str, int]]:
    """The fields of all descriptors."""
    start, size = memory.descriptors_address, DESCRIPTOR_BYTES
    return [unpack(memory.image[start + n * size:][:size].tobytes()) for n in range(memory.descriptor_count)]


def check_no_overlap(memory: MemoryProgram, parts: list[tuple[int, int]]) -> None:
    """Pieces (address, size) lie behind each other, aligned, in the window."""
    end = 0
    for start, size in sorted({(memory.descriptors_address, memory.descriptor_count * DESCRIPTOR_BYTES), *parts}):
        assert start >= end and start % ALIGNMENT == 0
        end = start + size
    assert memory.window == (PROGRAM_BASE, memory.image.size)
    assert memory.descriptors_address >= PROGRAM_BASE and end <= memory.image.size


@pytest.mark.parametrize("kind", OPERATIONS)
@pytest.mark.parametrize("seed", range(6))
def test_images(kind, seed):
    """Tensors do not overlap, lie inside the window, and are stored as they are; outputs are filled with 0xA5."""
    job = random_operation(seed, kind=kind, max_macs=50_000, max_channels=64)
    try:
        memory = build_program([job], SMALL)
    except PlanError:
        assert kind in ("fully_connected", "max_pool", "average_pool", "mean")
        return
    (layer,), image = memory.layers, memory.image
    addresses, outputs = layer.addresses, job.output_shape[0]
    constants = job_constants(job, layer.plan, SMALL)
    stored = {addresses.parameters: constants.parameters}
    if constants.weights is not None:
        stored[addresses.weights] = constants.weights
    if constants.block_masks is not None:
        stored[addresses.block_masks] = constants.block_masks
    for (tensor, mask), address, mask_address in zip(job_inputs(job), addresses.inputs, addresses.masks, strict=True):
        stored[address] = tensor.view(np.uint8).reshape(-1)
        assert (mask is None) == (mask_address is None)
        if mask is not None:
            stored[mask_address] = pack_mask(mask)
    written = [(addresses.output, int(np.prod(job.output_shape))), (addresses.scores, outputs)]
    ranked = job.ranking is not None and job.ranking.select != "all"
    if ranked:
        written.append((addresses.winners, -(-outputs // 8)))
    check_no_overlap(memory, [*((start, raw.size) for start, raw in stored.items()), *written])
    for start, raw in stored.items():
        assert np.array_equal(image[start:start + raw.size], raw)
    for start, size in written:
        assert (image[start:start + size] == 0xA5).all()
    bands = descriptors(memory)
    assert [band["layer_end"] for band in bands] == [0] * (len(bands) - 1) + [1]
    for band in bands:
        assert band["score_base"] == addresses.scores and (not ranked or band["winner_base"] == addresses.winners)
        assert band["out_zero_point"] == job.output_zero_point
        assert (band["activation_min"], band["activation_max"]) == (job.activation_min, job.activation_max)


@pytest.mark.parametrize("seed", range(10))
def test_results_are_read_back(seed):
    job = random_job(seed, max_macs=50_000, max_channels=64)
    memory, random = build_program([job], SMALL), np.random.default_rng(seed)
    image, addresses, outputs = memory.image.copy(), memory.layers[0].addresses, len(job.bias)
    ranked = job.ranking is not None and job.ranking.select != "all"
    expected = LayerResult(
        output=random.integers(-128, 128, job.output_shape, np.int8), scores=random.integers(0, 256, outputs, np.uint8),
        winners=random.integers(0, 2, outputs, np.uint8) if ranked else np.ones(outputs, np.uint8))
    parts = [(addresses.output, expected.output.view(np.uint8)), (addresses.scores, expected.scores)]
    parts += [(addresses.winners, pack_mask(expected.winners))] if ranked else []
    for start, part in parts:
        image[start:start + part.size] = part.reshape(-1)
    (result,) = memory.results(image)
    for name in ("output", "scores", "winners"):
        assert np.array_equal(getattr(result, name), getattr(expected, name))


def test_dense_programs_skip_nothing():
    jobs = (random_job(seed, max_macs=50_000, max_channels=64) for seed in range(100))
    job = next(job for job in jobs if job.channel_mask is not None and job.ranking and job.ranking.select == "topk")
    assert [(band["mask_source"], band["select"]) for band in descriptors(build_program([job], SMALL))] == [
        (MaskSource.MEMORY, Select.TOPK)]
    assert [(band["mask_source"], band["select"]) for band in descriptors(build_program([job], SMALL, dense=True))] == [
        (MaskSource.ALL, Select.ALL)]


TOP = Ranking(score="max", select="topk", value=5)


def convolution(channels: int, outputs: int, ranking: Ranking | None = TOP, side: int = 6) -> LayerJob:
    """A "same" convolution whose input and weights are zero."""
    return LayerJob(
        input=np.zeros((channels, side, side), np.int8), weight=np.zeros((outputs, channels, 3, 3), np.int8),
        bias=np.zeros(outputs, np.int32), multiplier=np.zeros(outputs, np.int32), shift=np.zeros(outputs, np.int32),
        input_zero_point=0, output_zero_point=0, activation_min=-128, activation_max=127, stride=(1, 1),
        padding=(1, 1, 1, 1), ranking=ranking)


def addition(channels: int, side: int = 6) -> AddJob:
    """Of two maps of zeros."""
    zeros = np.zeros((channels, side, side), np.int8)
    points = {f"{name}_zero_point": 0 for name in ("input_1", "input_2", "output")}
    factors = {f"{name}_multiplier": 1 << 30 for name in ("input_1", "input_2", "output")}
    return AddJob(input_1=zeros, input_2=zeros, **points, **factors,
                  **{f"{name}_shift": 0 for name in ("input_1", "input_2", "output")})


def average(channels: int, side: int = 6) -> PoolJob:
    return PoolJob(kind="average", input=np.zeros((channels, side, side), np.int8), input_zero_point=0,
                   output_zero_point=0, kernel=(3, 3), stride=(1, 1), padding=(1, 1, 1, 1))


def bands_of(memory: MemoryProgram, index: int) -> list[dict[str, int]]:
    """The descriptors of a layer."""
    start = sum(layer.descriptors for layer in memory.layers[:index])
    return descriptors(memory)[start:start + memory.layers[index].descriptors]


def test_layers_take_winners_and_planes_where_they_were_left():
    """A residual block: an addition of a ranked and of an unranked layer, each with its own mask."""
    jobs = [convolution(3, 20), convolution(20, 20, None), addition(20), average(20)]
    memory = build_program(jobs, SMALL, sources=[(STORED,), (0,), (1, 0), (2,)])
    first, second, third, last = (layer.addresses for layer in memory.layers)
    assert second.inputs == (first.output,) and second.masks == (first.winners,)
    assert third.inputs == (second.output, first.output) and third.masks == (None, first.winners)
    assert last.inputs == (third.output,) and last.masks == (None,)
    for band in bands_of(memory, 2):
        assert (band["mask_source"], band["mask_source_2"]) == (MaskSource.ALL, MaskSource.MEMORY)
        assert (band["in_base"] + band["strip_pitch"]) % 2**32 == first.output + band["in_base"] - second.output


def test_a_concatenation_is_addresses():
    """Its parts lie in it, and their masks in its mask; a part without a rule takes part in whole."""
    jobs = [convolution(3, 32), convolution(3, 16, None), convolution(3, 7), None, convolution(55, 4, None)]
    memory = build_program(jobs, SMALL, sources=[(STORED,), (STORED,), (STORED,), (0, 1, 2), (3,)])
    parts, after = [layer.addresses for layer in memory.layers[:3]], memory.layers[3].addresses
    assert len(memory.layers) == 4
    assert [part.output for part in parts] == [after.inputs[0] + channel * 36 for channel in (0, 32, 48)]
    assert (parts[0].winners, parts[2].winners) == (after.masks[0], after.masks[0] + 6)
    assert memory.image[after.masks[0] + 4:][:2].tolist() == [255, 255]
    results = memory.results(memory.image)
    assert [len(result.output) for result in results] == [32, 16, 7, 4]


@pytest.mark.parametrize(("jobs", "sources", "message"), [
    ([convolution(3, 20), convolution(3, 16), None], [(STORED,), (STORED,), (0, 1)],
     "concatenation 2: expected ranked inputs from multiples of 16 channels on, got 20"),
    ([convolution(3, 16), None, None], [(STORED,), (0,), (0,)],
     "concatenation 2: expected layers that are part of no other, got 0 again"),
    ([convolution(3, 16), None], [(STORED,), (0, STORED)],
     "concatenation 1: expected layers that are part of no other, got the network input again"),
])
def test_concatenations_that_cannot_be(jobs, sources, message):
    with pytest.raises(PlanError, match=f"^{message}$"):
        build_program(jobs, SMALL, sources=sources)


@pytest.mark.parametrize("chaining", [False, True])
@pytest.mark.parametrize(("select", "value", "consumers", "left_out", "stays"), [
    ("topk", 5, [convolution(20, 4, None)], 1, True), ("threshold", 9, [convolution(20, 4, None)], 1, True),
    ("energy", 0.5, [convolution(20, 4, None)], 0, True), ("all", 0, [convolution(20, 4, None)], 0, True),
    ("topk", 5, [], 0, False), ("topk", 5, [average(20)], 0, False),
    ("topk", 5, [convolution(20, 4, None), addition(20)], 0, False),
    ("topk", 5, [convolution(20, 4, None), convolution(20, 2, None)], 1, False),
])
def test_planes_that_need_not_be_written(select, value, consumers, left_out, stays, chaining):
    """Those of a rule whose losers are known early, where only convolutions read them; never the last layer's.

    Nor where they stay on chip: nothing is saved.
    """
    first = convolution(3, 20, Ranking(score="max", select=select, value=value), side=6)
    sources = [(STORED,), *((0, 0) if isinstance(job, AddJob) else (0,) for job in consumers)]
    memory = build_program([first, *consumers], SMALL, sources=sources, chaining=chaining)
    stays = stays and chaining
    (band,) = bands_of(memory, 0)
    assert (band["out_to_chip"], band["out_to_memory"], memory.layers[0].plan.shape.stays_on_chip) == (
        stays, not stays, stays)
    assert band["skip_losers"] == (left_out and not stays)
    # 36 results: a strip is 32 of them, in memory 36.
    assert band["out_cols"] == (32 if stays else 36)


def test_planes_are_written_where_judging_takes_longer():
    """A 1x1 convolution of few channels is computed in less time than its results take to be read twice."""
    def skips(channels: int) -> int:
        zeros = np.zeros((20, channels, 1, 1), np.int8)
        jobs = [replace(convolution(channels, 20), weight=zeros, padding=(0, 0, 0, 0)), convolution(20, 4, None)]
        (band,) = bands_of(build_program(jobs, SMALL, chaining=False), 0)
        return band["skip_losers"]
    # 9 tiles of 4 positions, 5 reads of 8 results: a channel's share of the steps is 9 / 4 for each input channel.
    assert [skips(channels) for channels in (11, 12)] == [0, 1]


def test_planes_that_are_too_large_to_wait_are_written():
    jobs = [convolution(3, 20, side=24), convolution(20, 4, None, side=24)]
    memory = build_program(jobs, SMALL)
    assert {band["skip_losers"] for band in bands_of(memory, 0)} == {0}


def test_blocks_of_zero_are_left_out():
    """Where that saves more than the lists take; the layer then has a list for each group of output channels."""
    random = np.random.default_rng(0)
    job = replace(convolution(40, 9, None), weight=random.integers(1, 128, (9, 40, 3, 3), np.int8))
    (layer,) = build_program([job], SMALL).layers
    assert layer.blocks is None and layer.addresses.block_masks is None
    weight = job.weight.copy()
    weight[4:8, 5:30] = 0
    memory = build_program([replace(job, weight=weight)], SMALL)
    (layer,) = memory.layers
    assert layer.blocks.tolist() == [[[True] * 40, [not 5 <= c < 30 for c in range(40)], [True] * 40]]
    (band,) = descriptors(memory)
    assert (band["lists"], band["act_dense"], band["strips"]) == (1, 1, 1)
    assert band["block_mask_base"] == layer.addresses.block_masks and band["block_mask_group"] == 6
