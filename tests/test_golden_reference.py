"""The integer reference against a direct definition in Python integers, pixel by pixel, and against float64."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.job import JobError, LayerJob, Ranking
from golden.random_jobs import random_job
from golden.reference import LayerResult, convolve, run


def wrap(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


def scale(value: int, multiplier: int, shift: int) -> int:
    """Multiply, rounding half up; then divide by a power of two, rounding half away from zero."""
    high = math.floor(Fraction(wrap(value * 2 ** max(shift, 0)) * multiplier, 2**31) + Fraction(1, 2))
    magnitude = math.floor(Fraction(abs(high), 2 ** max(-shift, 0)) + Fraction(1, 2))
    return magnitude if high >= 0 else -magnitude


def direct_pixel(job: LayerJob, output: int, row: int, column: int) -> int:
    """One output of the convolution, after the activation, from its definition."""
    (_, height, width), (outputs, depth, kh, kw) = job.input.shape, job.weight.shape
    first = output // (outputs // job.groups) * depth
    total = int(job.bias[output])
    for channel in range(first, first + depth):
        if job.channel_mask is not None and not job.channel_mask[channel]:
            continue
        for y in range(kh):
            for x in range(kw):
                source = row * job.stride[0] + y - job.padding[0], column * job.stride[1] + x - job.padding[2]
                if 0 <= source[0] < height and 0 <= source[1] < width:
                    activation = int(job.input[channel, *source]) - job.input_zero_point
                    total += activation * int(job.weight[output, channel - first, y, x])
    result = scale(wrap(total), int(job.multiplier[output]), int(job.shift[output])) + job.output_zero_point
    return min(max(result, job.activation_min), job.activation_max)


def direct_map(job: LayerJob, output: int) -> list[list[int]]:
    """One channel's map: every window whose last row and column lie within the padded image, then the pool."""
    (_, height, width), (_, _, kh, kw) = job.input.shape, job.weight.shape
    top, bottom, left, right = job.padding
    rows = [row for row in range(height + top + bottom) if row * job.stride[0] + kh <= height + top + bottom]
    columns = [column for column in range(width + left + right) if column * job.stride[1] + kw <= width + left + right]
    pixels = [[direct_pixel(job, output, row, column) for column in columns] for row in rows]
    if job.pool is None:
        return pixels
    ph, pw, sh, sw = job.pool
    return [[max(pixels[row + y][column + x] for y in range(ph) for x in range(pw))
             for column in range(0, len(columns) - pw + 1, sw)] for row in range(0, len(rows) - ph + 1, sh)]


def direct_score(job: LayerJob, pixels: list[list[int]]) -> int:
    above = [pixel - job.output_zero_point for line in pixels for pixel in line]
    ranking = job.ranking
    if ranking is None or ranking.score == "max":
        score = max(above)
    elif ranking.score == "absmax":
        score = max(map(abs, above))
    else:
        score = scale(wrap(sum(above)), ranking.score_multiplier, ranking.score_shift)
    return min(max(score, 0), 255)


def direct_winners(job: LayerJob, scores: list[int]) -> list[int]:
    ranking, order = job.ranking, sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    if ranking is None or ranking.select == "all":
        return [1] * len(scores)
    if ranking.select == "threshold":
        return [int(score >= ranking.value) for score in scores]
    k = ranking.value
    if ranking.select == "energy":
        energy = [scores[index] ** ranking.energy_power for index in order]
        eps16 = round(65536 * Fraction(ranking.value))
        k = next(k for k in range(1, len(scores) + 1) if 65536 * sum(energy[:k]) >= eps16 * sum(energy))
    return [int(index in order[:k]) for index in range(len(scores))]


def assert_direct(job: LayerJob) -> None:
    result = run(job)
    maps = [direct_map(job, output) for output in range(job.weight.shape[0])]
    scores = [direct_score(job, pixels) for pixels in maps]
    assert result.output.dtype == np.int8 and result.scores.dtype == result.winners.dtype == np.uint8
    assert result.output.shape == job.output_shape
    assert result.output.tolist() == maps
    assert result.scores.tolist() == scores
    assert result.winners.tolist() == direct_winners(job, scores)


@st.composite
def small_jobs(draw):
    """Jobs of a few hundred multiplications, groups included, that shrink to simple ones."""
    def integer(low: int, high: int) -> int:
        return draw(st.integers(low, high))

    groups = integer(1, 2)
    channels, outputs = groups * integer(1, 2), groups * integer(1, 2)
    kernel = integer(1, 3), integer(1, 3)
    padding = tuple(integer(0, kernel[side // 2] - 1) for side in range(4))
    height, width = integer(kernel[0], 5), integer(kernel[1], 5)
    rng = np.random.default_rng(integer(0, 2**32 - 1))
    low, high = sorted((integer(-128, 127), integer(-128, 127)))
    fields = {
        "input": rng.integers(-128, 128, (channels, height, width), np.int8),
        "weight": rng.integers(-128, 128, (outputs, channels // groups, *kernel), np.int8),
        "bias": rng.integers(-(2 ** integer(1, 31)), 2 ** integer(1, 31), outputs).astype(np.int32),
        "multiplier": rng.integers(0, 2**31, outputs).astype(np.int32),
        "shift": rng.integers(-31, integer(-30, 31), outputs).astype(np.int32),
        "input_zero_point": integer(-128, 127), "output_zero_point": integer(-128, 127), "activation_min": low,
        "activation_max": high, "groups": groups, "stride": (integer(1, 4), integer(1, 4)), "padding": padding,
        "channel_mask": draw(st.none() | st.just(rng.integers(0, 2, channels).astype(np.uint8)))}
    _, rows, columns = LayerJob(**fields).conv_shape
    if draw(st.booleans()):
        fields["pool"] = integer(1, rows), integer(1, columns), integer(1, 3), integer(1, 3)
    select = draw(st.sampled_from(["all", "topk", "energy", "threshold"]))
    value = {"all": 0, "topk": integer(1, outputs), "threshold": integer(0, 255), "energy": draw(st.floats(0, 1))}
    fields["ranking"] = draw(st.none() | st.builds(
        Ranking, score=st.sampled_from(["max", "absmax", "mean"]), select=st.just(select), value=st.just(value[select]),
        score_multiplier=st.integers(0, 2**31 - 1), score_shift=st.integers(-31, 30),
        energy_power=st.sampled_from([1, 2])))
    return LayerJob(**fields)


@settings(max_examples=250, deadline=None)
@given(job=small_jobs())
def test_small_jobs_equal_the_definition(job):
    assert_direct(job)


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_random_jobs_equal_the_definition(first):
    for seed in range(first, first + 20):
        assert_direct(random_job(seed, max_macs=4000, max_channels=256))


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_large_sums_equal_float64(groups):
    """Sums below 2**53 are exact in float64, whatever the order: torch's own convolution is a second witness."""
    rng = np.random.default_rng(groups)
    input = torch.from_numpy(rng.integers(-128, 128, (3, 64, 23, 30), np.int8))
    weight = torch.from_numpy(rng.integers(-128, 128, (48, 64 // groups, 5, 3), np.int8))
    mask = torch.from_numpy(rng.integers(0, 2, (3, 64), np.uint8))
    sums = convolve(input, weight, zero_point=-128, stride=(2, 3), padding=(4, 1, 0, 2), groups=groups,
                    channel_mask=mask)
    centred = torch.nn.functional.pad((input.double() + 128) * mask[..., None, None], (0, 2, 4, 1))
    expected = torch.nn.functional.conv2d(centred, weight.double(), stride=(2, 3), groups=groups)
    assert sums.dtype == torch.int64 and torch.equal(sums.double(), expected)


def one_output(**fields) -> LayerJob:
    """4,096 channels of 11x11 that sum to 255 * -128 * 495,616, far below int32: -16,176,906,240."""
    defaults = {
        "input": np.full((4096, 11, 11), 127, np.int8), "weight": np.full((1, 4096, 11, 11), -128, np.int8),
        "bias": np.zeros(1, np.int32), "multiplier": np.full(1, 2**30, np.int32), "shift": np.full(1, -24, np.int32),
        "input_zero_point": -128, "output_zero_point": 3, "activation_min": -128, "activation_max": 127,
        "stride": (1, 1), "padding": (0, 0, 0, 0)}
    return LayerJob(**(defaults | fields))


def test_sums_wrap_like_int32():
    # -16,176,906,240 + 4 * 2**32 = 1,002,962,944; / 2 = 501,481,472; / 2**24 = 29.89 -> 30; + 3.
    assert run(one_output()).output.tolist() == [[[33]]]


def test_empty_mask_leaves_the_bias():
    # 2**26 / 2 / 2**24 = 2; + 3; the score is 2.
    result = run(one_output(channel_mask=np.zeros(4096, np.uint8), bias=np.full(1, 2**26, np.int32)))
    assert result.output.tolist() == [[[5]]] and result.scores.tolist() == [2] and result.winners.tolist() == [1]


def test_masked_channels_do_not_matter():
    job = random_job(3, max_macs=50_000)
    mask = (np.arange(job.input.shape[0]) % 3 == 0).astype(np.uint8)
    fields = {name: getattr(job, name) for name in job.__dataclass_fields__} | {"channel_mask": mask}
    changed = job.input.copy()
    changed[mask == 0] ^= 0x55
    first, second = run(LayerJob(**fields)), run(LayerJob(**(fields | {"input": changed})))
    assert np.array_equal(first.output, second.output)
    assert LayerJob(**fields).winner_indices.tolist() == [i for i in range(len(mask)) if i % 3 == 0]


def test_floating_point_is_refused_by_name():
    integers = torch.zeros(1, 1, 1, dtype=torch.int8)
    arguments = {"zero_point": 0, "stride": (1, 1), "padding": (0, 0, 0, 0)}
    with pytest.raises(TypeError, match=r"^input: expected an integer tensor, got torch\.float32"):
        convolve(integers.float(), integers[None], **arguments)
    with pytest.raises(TypeError, match=r"^weight: expected an integer tensor, got torch\.float64"):
        convolve(integers, integers[None].double(), **arguments)


def test_result_file(tmp_path):
    result = run(random_job(5, max_macs=2000))
    result.save(tmp_path / "out.result")
    loaded = LayerResult.load(tmp_path / "out.result")
    for name in ("output", "scores", "winners"):
        assert np.array_equal(getattr(loaded, name), getattr(result, name))
    with pytest.raises(JobError, match=r"^scores: expected uint8 \[\d+\], got uint8 \[1\]$"):
        LayerResult(output=np.zeros((2, 1, 1), np.int8), scores=np.zeros(1, np.uint8), winners=np.zeros(2, np.uint8))
