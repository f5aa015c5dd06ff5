"""Layers on the host's CPU: what is timed computes what the golden model does, and how times become ratios."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from golden import reference
from golden.job import LayerJob, PoolJob
from golden.numerics import quantize_multiplier
from sim import host_cpu
from sim.host_cpu import HostCpu, Times, host_ratios, this_computer
from sim.host_kernels import (
    FloatProduct,
    PackedFloatConvolution,
    Part,
    compute,
    float_kernels,
    int8_kernels,
    int8_missing,
    winner_parts,
)


def a_job(channels=6, outputs=8, kernel=(3, 3), size=(9, 10), **fields):
    """A random layer, half of its channels winners."""
    rng = np.random.default_rng(channels * 1000 + outputs)
    groups = fields.get("groups", 1)
    real = 1 / (70 * np.sqrt(channels // groups * kernel[0] * kernel[1]))
    scales = real * rng.uniform(0.5, 2, outputs)
    multiplier, shift = zip(*map(quantize_multiplier, scales), strict=True)
    return LayerJob(**dict(
        # Activations of 7 bits: with 8, the 16-bit sums of pairs on processors without VNNI saturate.
        input=rng.integers(-128, 0, (channels, *size), np.int8),
        weight=rng.integers(-127, 128, (outputs, channels // groups, *kernel), np.int8),
        bias=rng.integers(-4000, 4000, outputs, np.int32), multiplier=np.array(multiplier, np.int32),
        shift=np.array(shift, np.int32), input_zero_point=-100, output_zero_point=-7, activation_min=-128,
        activation_max=127, stride=(1, 1), padding=(1, 1, 1, 1),
        channel_mask=rng.permutation(channels).astype(np.uint8) % 2) | fields)


def masked(job, mask):
    return replace(job, channel_mask=np.array(mask, np.uint8))


JOBS = {
    "conv": a_job(),
    "stride, other sides": a_job(stride=(2, 2), padding=(0, 1, 1, 0), kernel=(3, 2)),
    "depthwise": a_job(outputs=6, groups=6),
    "depthwise, two each": a_job(outputs=12, groups=6, stride=(2, 1)),
    "groups": masked(a_job(channels=8, groups=2), [1, 0, 0, 1, 1, 1, 0, 1]),
    "fully connected": a_job(channels=5, outputs=11, kernel=(4, 4), size=(4, 4), padding=(0, 0, 0, 0)),
    "all win": replace(a_job(), channel_mask=None),
}
MISSING = int8_missing(JOBS["conv"])
pytestmark = pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")


def rows_of(parts, outputs):
    """The output channels that parts compute, in their order."""
    return np.concatenate([np.arange(outputs)[slice(None) if part.rows is None else part.rows] for part in parts])


def largest_difference(job, kernel, parts):
    """Between a kernel's output and the golden model's, in units of the output."""
    with torch.inference_mode():
        found = compute(kernel, parts)
        again = compute(kernel, parts, [kernel.pack(part) for part in parts])
    assert torch.equal(found.dequantize(), again.dequantize())
    expected = reference.run(job).output[rows_of(parts, len(job.weight))]
    assert found.shape == (1, *expected.shape)
    assert 60 < np.ptp(expected.astype(int)) and np.mean(np.abs(expected.astype(int)) > 126) < 0.3
    values = np.clip(found[0].dequantize().numpy() + job.output_zero_point, -128, 127)
    return np.abs(values - expected).max()


@pytest.mark.parametrize("name", JOBS)
def test_float_kernels_compute_the_layer(name):
    job = JOBS[name]
    kernels = float_kernels(job)
    assert any(isinstance(kernel, FloatProduct) for kernel in kernels) == (name == "fully connected")
    packed = any(isinstance(kernel, PackedFloatConvolution) for kernel in kernels)
    assert packed == torch.backends.mkldnn.is_available()
    for kernel in kernels:
        # The golden model rounds twice, so a half can become 0.5 + 2**-9 or so.
        assert largest_difference(replace(job, channel_mask=None), kernel, [Part(groups=job.groups)]) < 0.51
        assert largest_difference(job, kernel, winner_parts(job)) < 0.51


@pytest.mark.skipif(MISSING is not None, reason=f"int8: {MISSING}")
@pytest.mark.parametrize("name", JOBS)
def test_int8_kernels_compute_the_layer(name):
    job = JOBS[name]
    for kernel in int8_kernels(job):
        # Requantized in float32, which rounds halves to even.
        assert largest_difference(replace(job, channel_mask=None), kernel, [Part(groups=job.groups)]) <= 1
        assert largest_difference(job, kernel, winner_parts(job)) <= 1


def test_parts_leave_losers_out():
    (part,) = winner_parts(masked(JOBS["conv"], [0, 1, 1, 0, 0, 1]))
    assert part.channels.tolist() == part.columns.tolist() == [1, 2, 5] and part.rows is None
    (part,) = winner_parts(masked(JOBS["depthwise, two each"], [0, 1, 0, 0, 0, 1]))
    assert (part.channels.tolist(), part.rows.tolist(), part.groups) == ([1, 5], [2, 3, 10, 11], 2)
    (part,) = winner_parts(masked(JOBS["groups"], [0, 0, 0, 0, 0, 1, 0, 1]))
    assert (part.channels.tolist(), part.columns.tolist(), part.rows) == ([5, 7], [1, 3], slice(4, 8))


def test_ratios_and_none_where_there_is_nothing_to_gather():
    pool = PoolJob(kind="max", input=JOBS["conv"].input, kernel=(2, 2), stride=(2, 2), padding=(0, 0, 0, 0),
                   activation_min=-128, activation_max=127, input_zero_point=0, output_zero_point=0)
    jobs = [pool, JOBS["fully connected"], masked(JOBS["conv"], [0] * 6)]
    torch.set_num_threads(2)
    progress = []
    try:
        none, found, no_winners = host_ratios(jobs, repetitions=1, progress=progress.append)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert none is None and no_winners is None and progress == [1, 2, 3]
    assert isinstance(found, HostCpu)
    assert (found.int8 is None) == (found.int8_missing is not None) == (MISSING is not None)
    fields = found.fields()["float32"]
    assert 0 < min(fields.values()) and fields["ratio"] == fields["dense_seconds"] / fields["winners_seconds"]
    with pytest.raises(ValueError, match="repetitions: expected at least 1, got 0"):
        host_ratios(jobs, repetitions=0)


def test_where_all_win_nothing_is_gathered(monkeypatch):
    def refuse(*_):
        raise AssertionError("gathered")

    monkeypatch.setattr(torch.Tensor, "index_select", refuse)
    (found,) = host_ratios([JOBS["all win"]], repetitions=1)
    assert found.float32.ratio == found.float32.packed_ratio == 1
    assert found.int8 is None or found.int8.ratio == found.int8.packed_ratio == 1


def test_what_pytorch_cannot_do_in_int8_is_a_reason(monkeypatch):
    def refuse(*_):
        raise RuntimeError("could not create a primitive\nRun workload with ...")

    monkeypatch.setattr(host_cpu, "int8_missing", lambda job: None)
    monkeypatch.setattr(host_cpu, "int8_kernels", refuse)
    (found,) = host_ratios([JOBS["fully connected"]], repetitions=1)
    assert found.int8 is None and found.int8_missing == "could not create a primitive"
    assert found.fields()["int8"] is None and found.float32.dense_seconds > 0


def test_ratio_is_above_one_where_gathering_pays():
    times = Times(dense_seconds=3.0, winners_seconds=2.0, packed_seconds=1.0)
    assert (times.ratio, times.packed_ratio) == (1.5, 3.0)


def test_what_int8_misses():
    job = replace(JOBS["conv"], weight_zero_point=3)
    assert "zero point" in int8_missing(job)
    (found,) = host_ratios([job], repetitions=1)
    assert found.int8 is None and found.int8_missing == int8_missing(job)


def test_the_computer_is_named():
    found = this_computer()
    assert all(found.values()) and found["PyTorch"] == torch.__version__
    assert set(found) == {"processor", "instructions", "int8 kernels", "PyTorch"}


class Clock:
    """Time that passes in calls only; ``calls`` notes them."""

    def __init__(self, monkeypatch):
        self.now, self.calls = 0.0, []
        monkeypatch.setattr(host_cpu.time, "perf_counter", lambda: self.now)

    def way(self, name, seconds):
        """A call that takes these seconds in turn, then the last for ever."""
        seconds = list(seconds)

        def call():
            self.calls.append(name)
            self.now += seconds.pop(0) if len(seconds) > 1 else seconds[0]
            return name

        return call


def test_medians_of_interleaved_repetitions(monkeypatch):
    clock = Clock(monkeypatch)
    seconds = {"slow": [9, 1.5], "fast": [9, 1.0, 0.8, 70.0, 1.2], "never": [9, 2.1]}
    ways = {"x": [clock.way(*item) for item in seconds.items()], "y": [clock.way("short", [0.002])]}
    # The first two calls of each are warm-up and trial; the median of 0.8, 70 and 1.2 is 1.2.
    assert host_cpu._medians(ways, repetitions=3) == pytest.approx({"x": 1.2, "y": 0.002})
    round = ["slow", "fast", "short", "short", "short"]
    assert clock.calls[8:] == 3 * round
