"""Weights, constants and masks in memory, and the image of a program, against loops in Python."""

import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden.random_jobs import random_job
from golden.reference import LayerResult
from hw.config import EngineConfig
from hw.descriptor import DESCRIPTOR_BYTES, MaskSource, unpack
from hw.lowering import ALIGNMENT, pack_mask, pack_parameters, pack_weights, unpack_mask
from hw.plan import PlanError
from hw.program import PROGRAM_BASE, build_program

from .hw_helpers import SMALL


@pytest.mark.parametrize("columns", [1, 3, 4, 16])
def test_weights_lie_in_the_order_of_use(columns):
    """Group, input channel, kernel row, kernel column, column of the group; nothing in between."""
    outputs, channels, height, width = 10, 3, 2, 5
    weight = np.random.default_rng(columns).integers(-128, 128, (outputs, channels, height, width), np.int8)
    expected = []
    for start in range(0, outputs, columns):
        for c in range(channels):
            for y in range(height):
                for x in range(width):
                    expected += [int(weight[o, c, y, x]) & 0xFF for o in range(start, min(outputs, start + columns))]
    packed = pack_weights(weight, columns)
    assert packed.dtype == np.uint8 and packed.tolist() == expected


def test_parameters_are_records():
    random = np.random.default_rng(0)
    bias, multiplier = random.integers(-2**31, 2**31, (2, 9)).astype(np.int32)
    shift = random.integers(-31, 31, 9).astype(np.int32)
    expected = b"".join(struct.pack("<iib7x", *record) for record in zip(bias, multiplier, shift, strict=True))
    assert pack_parameters(bias, multiplier, shift).tobytes() == expected


@given(st.lists(st.booleans(), min_size=1, max_size=300))
def test_masks(mask):
    packed = pack_mask(np.array(mask, np.uint8))
    assert len(packed) == (len(mask) + 7) // 8
    assert [bool(packed[n // 8] >> n % 8 & 1) for n in range(len(mask))] == mask
    assert unpack_mask(packed, len(mask)).tolist() == mask


@pytest.mark.parametrize("seed", range(20))
def test_program_images(seed):
    """Tensors do not overlap, lie inside the window, and are stored as they are."""
    job = random_job(seed, max_macs=50_000, max_channels=64)
    memory = build_program([job], SMALL)
    (layer,), image = memory.layers, memory.image
    addresses, outputs = layer.addresses, len(job.bias)
    parts = {
        "program": (memory.descriptors_address, memory.descriptor_count * DESCRIPTOR_BYTES),
        "input": (addresses.input, job.input.size), "weights": (addresses.weights, job.weight.size),
        "parameters": (addresses.parameters, 16 * outputs), "output": (addresses.output, np.prod(job.output_shape)),
        "scores": (addresses.scores, outputs), "winners": (addresses.winners, -(-outputs // 8)),
    }
    if job.channel_mask is not None:
        parts["mask"] = addresses.mask, -(-job.channel_mask.size // 8)
    end = 0
    for start, size in sorted(parts.values()):
        assert start >= end and start % ALIGNMENT == 0
        end = start + size
    assert memory.window == (PROGRAM_BASE, image.size)
    assert PROGRAM_BASE <= memory.descriptors_address and end <= image.size

    def stored(name):
        start, size = parts[name]
        return image[start:start + size]

    assert stored("input").tobytes() == job.input.tobytes()
    assert np.array_equal(stored("weights"), pack_weights(job.weight, SMALL.columns))
    assert np.array_equal(stored("parameters"), pack_parameters(job.bias, job.multiplier, job.shift))
    if job.channel_mask is not None:
        assert np.array_equal(stored("mask"), pack_mask(job.channel_mask))
    fields = unpack(stored("program")[:DESCRIPTOR_BYTES].tobytes())
    assert fields["mask_source"] == (MaskSource.ALL if job.channel_mask is None else MaskSource.MEMORY)
    assert (fields["in_zero_point"], fields["out_zero_point"]) == (job.input_zero_point, job.output_zero_point)
    assert (fields["activation_min"], fields["activation_max"]) == (job.activation_min, job.activation_max)


@pytest.mark.parametrize("seed", range(10))
def test_results_are_read_back(seed):
    job = random_job(seed, max_macs=50_000, max_channels=64)
    memory, random = build_program([job], SMALL), np.random.default_rng(seed)
    image, addresses, outputs = memory.image.copy(), memory.layers[0].addresses, len(job.bias)
    ranked = job.ranking is not None and job.ranking.select != "all"
    expected = LayerResult(
        output=random.integers(-128, 128, job.output_shape, np.int8), scores=random.integers(0, 256, outputs, np.uint8),
        winners=random.integers(0, 2, outputs, np.uint8) if ranked else np.ones(outputs, np.uint8))
    for start, part in ((addresses.output, expected.output.view(np.uint8)), (addresses.scores, expected.scores),
                        (addresses.winners, pack_mask(expected.winners))):
        image[start:start + part.size] = part.reshape(-1)
    (result,) = memory.results(image)
    for name in ("output", "scores", "winners"):
        assert np.array_equal(getattr(result, name), getattr(expected, name))


def test_dense_programs_skip_nothing():
    jobs = (random_job(seed, max_macs=50_000, max_channels=64) for seed in range(100))
    job = next(job for job in jobs if job.channel_mask is not None and job.ranking and job.ranking.select == "topk")
    memory = build_program([job], SMALL, dense=True)
    fields = unpack(memory.image[memory.descriptors_address:][:DESCRIPTOR_BYTES].tobytes())
    assert (fields["mask_source"], fields["select"]) == (MaskSource.ALL, 0)


def test_groups_are_refused():
    job = random_job(1, max_macs=10_000, max_channels=8)
    depthwise = replace(job, input=np.zeros((2, 5, 5), np.int8), weight=np.zeros((len(job.bias) * 2, 1, 1, 1), np.int8),
                        bias=np.zeros(2 * len(job.bias), np.int32), multiplier=np.zeros(2 * len(job.bias), np.int32),
                        shift=np.zeros(2 * len(job.bias), np.int32), groups=2, stride=(1, 1), padding=(0, 0, 0, 0),
                        channel_mask=None, pool=None, ranking=None)
    with pytest.raises(PlanError, match=r"^groups: expected 1, got 2$"):
        build_program([depthwise], EngineConfig())
