"""What uint8 models and fully connected layers need: weights' zero points, one rounding, averages whose ties go up."""

import numpy as np
import pytest
import torch

from golden.checks import JobError
from golden.conv_tensors import ConvTensors
from golden.job import LayerJob, PoolJob, load_job
from golden.layers import AveragePoolLayer, ConvLayer
from golden.network import NetworkInput, QuantizedNetwork
from golden.numerics import requantize
from golden.operators import add, average_pool
from golden.reference import run
from tests.tflite_arithmetic import requantized, rounded_once, scaled_operand, wrapped


def job(random: np.random.Generator, **changes) -> LayerJob:
    outputs = 5
    fields = dict(
        input=random.integers(-128, 128, (3, 4, 5), np.int8),
        weight=random.integers(-128, 128, (outputs, 3, 2, 2), np.int8),
        bias=random.integers(-5000, 5000, outputs).astype(np.int32),
        multiplier=random.integers(2**30, 2**31, outputs).astype(np.int32),
        shift=random.integers(-12, -6, outputs).astype(np.int32), input_zero_point=-7, output_zero_point=4,
        activation_min=-100, activation_max=110, stride=(1, 1), padding=(1, 0, 0, 1))
    return LayerJob(**(fields | changes))


@pytest.mark.parametrize("zero_point", [-128, -3, 0, 127])
@pytest.mark.parametrize("rounding", ["twice", "once"])
def test_convolution_by_hand(zero_point, rounding):
    one = job(np.random.default_rng(1), weight_zero_point=zero_point, rounding=rounding)
    output = run(one).output
    padded = np.full((3, 5, 6), one.input_zero_point, np.int64)
    padded[:, 1:, :5] = one.input
    for place in np.ndindex(output.shape):
        channel, row, column = place
        window = padded[:, row:row + 2, column:column + 2] - one.input_zero_point
        total = int((window * (one.weight[channel].astype(int) - zero_point)).sum())
        constants = int(one.bias[channel]), int(one.multiplier[channel]), int(one.shift[channel])
        if rounding == "twice":
            expected = requantized(total, *constants, one.output_zero_point, -100, 110)
        else:
            value = rounded_once(wrapped(total + constants[0]), *constants[1:]) + one.output_zero_point
            expected = min(max(value, -100), 110)
        assert output[place] == expected


@pytest.mark.parametrize("rounding", ["twice", "once"])
def test_requantization_in_floating_point_is_that_of_integers(rounding):
    """Small sums take the fast way: ties, powers of two and both signs among them."""
    random = np.random.default_rng(3)
    for _ in range(200):
        bits = int(random.integers(1, 31))
        sums = random.integers(-2**bits, 2**bits, 64)
        multiplier = int(random.choice([2**30, 2**31 - 1, 3 * 2**29, 0, int(random.integers(2**31))]))
        shift = int(random.integers(-31, 8))
        found = requantize(torch.from_numpy(sums), torch.tensor(multiplier), torch.tensor(shift), rounding=rounding)
        for value, result in zip(sums.tolist(), found.tolist(), strict=True):
            if rounding == "twice":
                assert result == requantized(value, 0, multiplier, shift, 0, -2**31, 2**31 - 1)
            else:
                assert result == rounded_once(wrapped(value << max(shift, 0)), multiplier, min(shift, 0))


@pytest.mark.parametrize("ties", ["away", "up"])
def test_averages_by_hand(ties):
    random = np.random.default_rng(2)
    map = random.integers(-128, 128, (4, 7, 6), np.int8)
    found = average_pool(torch.from_numpy(map), kernel=(2, 3), stride=(1, 1), padding=(1, 0, 1, 1), ties=ties).numpy()
    rounded = 0
    for place in np.ndindex(found.shape):
        channel, row, column = place
        window = map[channel, max(row - 1, 0):row + 1, max(column - 1, 0):column + 2].astype(int)
        total, count = int(window.sum()), window.size
        up = (2 * total + count) // (2 * count)
        away = abs(2 * total) + count
        expected = up if ties == "up" else (1 if total > 0 else -1) * (away // (2 * count))
        assert found[place] == expected
        rounded += 2 * total % count == 0 and total % count != 0
    assert rounded > 5


def test_addition_of_wide_and_narrow_ranges_is_the_same():
    random = np.random.default_rng(4)
    first, second = (torch.from_numpy(random.integers(-128, 128, 200)) for _ in range(2))
    factors = dict(zero_points=(3, -4), multipliers=(2**30, 1518500250, 1234567890), shifts=(0, -1, -18))
    found = add(first, second, **factors)
    wide = add(torch.cat([first, torch.tensor([2**11])]), torch.cat([second, torch.tensor([-2**11])]), **factors)
    torch.testing.assert_close(found, wide[:-1])
    for one, two, result in zip(first.tolist(), second.tolist(), found.tolist(), strict=True):
        total = scaled_operand(one - 3, 2**30, 0) + scaled_operand(two + 4, 1518500250, 1)
        assert result == requantized(total, 0, 1234567890, -18, 0, -2**31, 2**31 - 1)


def test_jobs_are_stored_with_what_differs(tmp_path):
    path = tmp_path / "job.npz"
    random = np.random.default_rng(0)
    for changes in (dict(), dict(weight_zero_point=-9, rounding="once")):
        one = job(random, **changes)
        one.save(path)
        with np.load(path) as file:
            assert {"weight_zero_point", "rounding"} & set(file.files) == set(changes)
        loaded = load_job(path)
        assert (loaded.weight_zero_point, loaded.rounding) == (one.weight_zero_point, one.rounding)
        np.testing.assert_array_equal(run(loaded).output, run(one).output)
    pool = PoolJob(kind="average", input=one.input, input_zero_point=1, output_zero_point=1, kernel=(2, 2), ties="up")
    pool.save(path)
    assert load_job(path).ties == "up"
    np.testing.assert_array_equal(run(load_job(path)).output, run(pool).output)


@pytest.mark.parametrize("changes, message", [
    (dict(weight_zero_point=128), "weight_zero_point: expected an integer in -128..127, got 128"),
    (dict(rounding="thrice"), "rounding: expected twice or once, got 'thrice'")])
def test_refused_jobs(changes, message):
    with pytest.raises(JobError, match=f"^{message}$"):
        job(np.random.default_rng(0), **changes)


def test_ties_belong_to_averages():
    fields = dict(input=np.zeros((1, 2, 2), np.int8), input_zero_point=0, output_zero_point=0, kernel=(2, 2))
    with pytest.raises(JobError, match=r"^ties: expected away for max_pool, got 'up'$"):
        PoolJob(kind="max", ties="up", **fields)
    with pytest.raises(JobError, match=r"^layer p: ties: expected away or up, got 'down'$"):
        AveragePoolLayer(name="p", kernel=(2, 2), ties="down")


@pytest.mark.parametrize("zero_point, blocks", [(0, [False, True, False]), (5, [False, False, False])])
def test_weights_with_a_zero_point_have_no_zero_blocks(zero_point, blocks):
    weight = np.full((2, 3, 1, 1), 5, np.int8)
    weight[:, 1] = 0
    tensors = ConvTensors(weight=weight, bias=np.zeros(2, np.int32), multiplier=np.full(2, 2**30, np.int32),
                          shift=np.zeros(2, np.int32), weight_zero_point=zero_point)
    layer = ConvLayer(name="conv", tensors=tensors, out_channels=2, kernel=(1, 1), output_scale=1.0,
                      output_zero_point=0)
    input = NetworkInput(scale=1.0, zero_point=0, shape=(3, 2, 2))
    network = QuantizedNetwork(name="net", input=input, layers=(layer,))
    assert network.zero_blocks(2)["conv"].tolist() == [blocks]
    assert network.run(np.ones((3, 2, 2), np.int8))[0][1].output[0, 0, 0] == (5 if zero_point == 0 else -2)
