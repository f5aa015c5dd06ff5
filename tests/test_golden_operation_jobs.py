"""JOB.npz of every operation: round trips, the op that tells them apart, and one exact line for what breaks."""

import numpy as np
import pytest

from golden.job import AddJob, Job, JobError, LayerJob, PoolJob, Ranking, load_job
from golden.random_jobs import OPERATIONS, random_operation
from golden.reference import run

MAP = np.random.default_rng(0).integers(-128, 128, (6, 9, 7), np.int8)


def same(one: Job, other: Job) -> None:
    assert type(one) is type(other)
    for name in one.__dataclass_fields__:
        before, after = getattr(one, name), getattr(other, name)
        if isinstance(before, np.ndarray):
            assert before.dtype == after.dtype and np.array_equal(before, after), name
        else:
            assert type(before) is type(after) and before == after, name


@pytest.mark.parametrize("kind", OPERATIONS)
def test_round_trip(tmp_path, kind):
    for seed in range(10):
        job = random_operation(seed, kind=kind, max_macs=3000)
        path = tmp_path / f"{seed}.npz"
        job.save(path)
        same(load_job(path), job)
        same(type(job).load(path), job)
        with np.load(path) as arrays:
            assert ("op" in arrays) == (not isinstance(job, LayerJob))
            assert ("pool_padding" in arrays) == any(getattr(job, "pool_padding", ()))


def test_names_and_shapes():
    job = pool(kernel=(3, 2), stride=(2, 3), padding=(1, 0, 0, 1))
    assert (job.op, job.output_shape) == ("max_pool", (6, 4, 3))
    assert pool(kind="average").stride == (2, 2) and pool(kind="average").op == "average_pool"
    whole = pool(kind="mean", kernel=None, multiplier=2**30)
    assert (whole.op, whole.kernel, whole.stride, whole.output_shape) == ("mean", (9, 7), (9, 7), (6, 1, 1))
    assert (addition().op, addition().output_shape) == ("add", (6, 9, 7))
    assert convolution().op == "conv"
    padded = convolution(pool=(3, 3, 2, 2), pool_padding=(1, 0, 1, 2))
    assert padded.conv_shape == (4, 9, 7) and padded.output_shape == (4, 4, 4)


def test_a_file_of_another_operation_is_refused(tmp_path):
    addition().save(tmp_path / "add.npz")
    pool().save(tmp_path / "pool.npz")
    for loader, name, message in (
            (LayerJob, "add", "op: expected conv, got 'add'"), (AddJob, "pool", "op: expected add, got 'max_pool'"),
            (PoolJob, "add", "op: expected one of max_pool, average_pool, mean, got 'add'")):
        with pytest.raises(JobError) as error:
            loader.load(tmp_path / f"{name}.npz")
        assert str(error.value) == message
    with np.load(tmp_path / "add.npz") as arrays:
        np.savez(tmp_path / "other.npz", **(dict(arrays) | {"op": np.array("mul")}))
        kept = {name: array for name, array in arrays.items() if name != "output_shift"}
        np.savez(tmp_path / "less.npz", **kept)
    for name, message in (("other", "op: expected one of conv, max_pool, average_pool, mean, add, got 'mul'"),
                          ("less", "output_shift: expected an array of this name, got none")):
        with pytest.raises(JobError) as error:
            load_job(tmp_path / f"{name}.npz")
        assert str(error.value) == message


def convolution(**changes) -> LayerJob:
    fields = dict(input=MAP, weight=np.ones((4, 6, 3, 3), np.int8), bias=np.zeros(4, np.int32),
                  multiplier=np.full(4, 2**30, np.int32), shift=np.zeros(4, np.int32), input_zero_point=0,
                  output_zero_point=0, activation_min=-128, activation_max=127, stride=(1, 1), padding=(1, 1, 1, 1))
    return LayerJob(**(fields | changes))


def pool(**changes) -> PoolJob:
    return PoolJob(**(dict(kind="max", input=MAP, input_zero_point=3, output_zero_point=3, kernel=(2, 2)) | changes))


def addition(**changes) -> AddJob:
    fields = dict(input_1=MAP, input_2=MAP, input_1_zero_point=0, input_2_zero_point=1, output_zero_point=2,
                  input_1_multiplier=2**30, input_2_multiplier=2**30, output_multiplier=2**30, input_1_shift=0,
                  input_2_shift=-1, output_shift=-19)
    return AddJob(**(fields | changes))


@pytest.mark.parametrize(("make", "changes", "message"), [
    (pool, {"kind": "min"}, "kind: expected one of max, average, mean, got 'min'"),
    (pool, {"input": MAP[0]}, "input: expected int8 [C,H,W], got int8 [9,7]"),
    (pool, {"kernel": None}, "kernel: expected two positive integers (rows, columns), got NoneType"),
    (pool, {"kernel": (2, 0)}, "kernel: expected two positive integers (rows, columns), got 0"),
    (pool, {"kernel": (10, 2)}, "kernel: expected a kernel no larger than the map [9, 7], got (10, 2)"),
    (pool, {"stride": (0, 1)}, "stride: expected two positive integers (rows, columns), got 0"),
    (pool, {"padding": (2, 0, 0, 0)}, "padding: expected four integers (top, bottom, left, right), each smaller than"
                                      " the kernel, got 2"),
    (pool, {"kernel": (3, 2), "padding": (0, 0, 2, 0)},
     "padding: expected each smaller than the kernel [3, 2], got (0, 0, 2, 0)"),
    (pool, {"output_zero_point": 4}, "output_zero_point: expected the input's, 3, for max_pool, got 4"),
    (pool, {"kind": "average", "shift": -1}, "shift: expected 0 for average_pool, got -1"),
    (pool, {"channel_mask": np.ones(5, np.uint8)}, "channel_mask: expected uint8 [6], got uint8 [5]"),
    (pool, {"activation_min": 9, "activation_max": 8}, "activation_min: expected at most activation_max = 8, got 9"),
    (pool, {"ranking": Ranking(score="max", select="topk", value=7)},
     "select_value: expected k in 1..6 for topk, got 7"),
    (pool, {"kind": "mean"}, "kernel: expected none or the whole map [9, 7] for mean, got (2, 2)"),
    (pool, {"kind": "mean", "kernel": None, "padding": (1, 0, 0, 0)}, "padding: expected four zeros for mean, got 1"),
    (pool, {"kind": "mean", "kernel": None, "multiplier": -1},
     "multiplier: expected an integer in 0..2147483647, got -1"),
    (pool, {"kind": "mean", "kernel": None, "shift": 31}, "shift: expected an integer in -31..30, got 31"),
    (addition, {"input_2": MAP[:5]}, "input_2: expected the shape of input_1 [6, 9, 7], got [5, 9, 7]"),
    (addition, {"input_1": MAP.astype(int)}, "input_1: expected int8 [C,H,W], got int64 [6,9,7]"),
    (addition, {"input_2_zero_point": 128}, "input_2_zero_point: expected an integer in -128..127, got 128"),
    (addition, {"input_1_multiplier": 0}, "input_1_multiplier: expected an integer in 1..2147483647, got 0"),
    (addition, {"input_2_shift": 1}, "input_2_shift: expected an integer in -31..0, got 1"),
    (addition, {"output_shift": 31}, "output_shift: expected an integer in -31..30, got 31"),
    (addition, {"channel_mask_2": np.full(6, 2, np.uint8)},
     "channel_mask_2: expected values in 0..1, got 2 at index 0"),
    (addition, {"ranking": "max"}, "ranking: expected a Ranking, got str"),
    (convolution, {"pool_padding": (0, 1, 0, 0)},
     "pool_padding: expected no pool padding (four zeros) without a pool, got 1"),
    (convolution, {"pool": (2, 2, 2, 2), "pool_padding": (0, 2, 0, 0)},
     "pool_padding: expected four integers (top, bottom, left, right), each smaller than the pool's kernel, got 2"),
    (convolution, {"pool": (12, 2, 2, 2), "pool_padding": (1, 1, 0, 0)},
     "pool: expected a kernel no larger than the map [11, 7], got (12, 2, 2, 2)"),
])
def test_malformed(make, changes, message):
    with pytest.raises(JobError) as error:
        make(**changes)
    assert str(error.value) == message


def test_fully_connected_layers_of_any_size():
    rng = np.random.default_rng(1)
    job = convolution(input=rng.integers(-128, 128, (9216, 1, 1), np.int8), padding=(0, 0, 0, 0), shift=np.full(
        5000, -10, np.int32), weight=rng.integers(-128, 128, (5000, 9216, 1, 1), np.int8),
        bias=np.zeros(5000, np.int32), multiplier=np.full(5000, 2**30, np.int32),
        ranking=Ranking(score="max", select="topk", value=4500))
    result = run(job)
    sums = job.weight[:, :, 0, 0].astype(np.int64) @ job.input.ravel().astype(np.int64)
    # 2**30 and -10 halve, rounding up, and divide by 1024, rounding ties away from zero.
    halves = (sums + 1) >> 1
    expected = np.clip(np.sign(halves) * ((np.abs(halves) + 512) >> 10), -128, 127)
    np.testing.assert_array_equal(result.output.ravel(), expected)
    assert result.winners.sum() == 4500


# What random operations promise

def test_same_arguments_same_job():
    for seed in range(30):
        same(random_operation(seed), random_operation(seed))
    with pytest.raises(ValueError, match=r"^kind: expected one of conv, .*, got 'relu'$"):
        random_operation(0, kind="relu")


def macs(job: Job) -> int:
    if isinstance(job, LayerJob):
        return int(np.prod(job.conv_shape) * np.prod(job.weight.shape[1:]))
    return int(np.prod(job.output_shape) * (np.prod(job.kernel) if isinstance(job, PoolJob) else 1))


def test_limits_hold():
    for seed in range(300):
        job = random_operation(seed, max_macs=1500, max_channels=40)
        channels = len(job.input_1 if isinstance(job, AddJob) else job.input)
        if channels > 4096:  # fully connected
            assert channels <= 10_000 and job.output_shape == (1, 1, 1)
        else:
            assert macs(job) <= 1500 and channels <= 40 and job.output_shape[0] <= 40


def test_every_corner_occurs():
    seen: dict[str, int] = {}

    def count(**cases: bool) -> None:
        for name, occurs in cases.items():
            seen[name] = seen.get(name, 0) + bool(occurs)

    for seed in range(150):
        for kind in OPERATIONS[1:]:
            job = random_operation(seed, kind=kind)
            assert macs(job) <= 1_000_000
            count(**{f"{kind} spread": 20 < run(job).output.std() < 90, f"{kind} ranked": job.ranking is not None})
            masks = [getattr(job, name, None) for name in ("channel_mask", "channel_mask_1", "channel_mask_2")]
            count(**{f"{kind} partial": any(mask is not None and 0 < mask.sum() < len(mask) for mask in masks),
                     f"{kind} empty": any(mask is not None and len(mask) > 2 and not mask.any() for mask in masks),
                     f"{kind} full": any(mask is not None and len(mask) > 2 and mask.all() for mask in masks)})
            if kind == "grouped":
                depth = job.weight.shape[1]
                count(uneven_depth=depth > 16 and depth % 16, shallow=1 < depth < 16, one_a_group=depth == 1,
                      pooled=job.pool, strided=max(job.stride) > 1)
            elif kind == "depthwise":
                factor = job.weight.shape[0] // len(job.input)
                kernel, stride = job.weight.shape[2], job.stride[0]
                count(**{f"factor {factor}": True, f"stride {stride}": True, f"kernel {kernel}": True},
                      asymmetric=job.padding[0] != job.padding[1] and job.padding[2] != job.padding[3],
                      many_channels=len(job.input) > 256)
            elif kind == "padded_pool":
                count(pool_padded=any(job.pool_padding), pool_asymmetric=len(set(job.pool_padding)) > 2,
                      overlapping=job.pool[0] > job.pool[2], apart=job.pool[0] < job.pool[2])
            elif kind == "block_sparse":
                zero = ~job.weight.any((2, 3))
                count(zero_channel=zero.all(0).any(), zero_block=len(zero) >= 32 and zero[:32].all(0).any(),
                      some_work=not zero.all())
            elif kind in ("max_pool", "average_pool"):
                count(**{f"window {job.kernel[0]}": True, f"step {job.stride[1]}": True}, padded=any(job.padding))
            elif kind == "mean":
                count(large_map=job.input[0].size > 600, one_pixel=job.input[0].size == 1,
                      rescaled=job.input_zero_point != job.output_zero_point)
            elif kind == "add":
                count(both_masked=masks[1] is not None and masks[2] is not None, shifted_left=job.output_shift > 0,
                      one_masked=(masks[1] is None) != (masks[2] is None), wild=job.output_shift < -24)
            elif kind == "fully_connected":
                count(wide=4097 <= len(job.input) <= 10_000, outputs=len(job.weight) > 20)
    names = [f"kernel {size}" for size in range(1, 12)] + [f"window {size}" for size in range(1, 16)]
    names += [f"stride {step}" for step in range(1, 5)] + [f"step {step}" for step in range(1, 10)]
    names += [f"factor {factor}" for factor in range(1, 5)]
    missing = [name for name in {*names, *seen} if seen.get(name, 0) < 2]
    assert not missing
