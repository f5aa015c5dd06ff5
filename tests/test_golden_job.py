"""JOB.npz: the round trip, the shapes, and one exact line for everything that breaks the contract."""

import json
import zipfile

import numpy as np
import pytest

from golden.job import JobError, LayerJob, Ranking, write_npz
from golden.random_jobs import random_job


def arrays(**changes) -> dict:
    """The arrays of a valid JOB.npz: 6 channels of 9x7 to 4, 3x5 kernel; a change to None removes an array."""
    rng = np.random.default_rng(0)
    valid = {
        "input": rng.integers(-128, 128, (6, 9, 7), np.int8), "weight": rng.integers(-128, 128, (4, 6, 3, 5), np.int8),
        "bias": np.zeros(4, np.int32), "multiplier": np.full(4, 2**30, np.int32), "shift": np.full(4, -8, np.int32),
        "input_zero_point": np.int64(-3), "output_zero_point": np.int8(5), "activation_min": np.array([-128]),
        "activation_max": np.array([127], np.uint8), "groups": np.array(1, np.uint16),
        "stride": np.array([2, 1], np.int32), "padding": np.array([1, 0, 4, 3]),
    }
    return {name: array for name, array in (valid | changes).items() if array is not None}


def load(tmp_path, **changes) -> LayerJob:
    path = tmp_path / "job.npz"
    np.savez(path, allow_pickle=True, **arrays(**changes))
    return LayerJob.load(path)


def test_load_and_shapes(tmp_path):
    job = load(tmp_path)
    assert (job.input_zero_point, job.output_zero_point, job.activation_min, job.activation_max) == (-3, 5, -128, 127)
    assert job.stride == (2, 1) and job.padding == (1, 0, 4, 3) and job.groups == 1
    assert job.channel_mask is job.pool is job.ranking is None
    assert job.conv_shape == job.output_shape == (4, 4, 10)
    assert job.winner_indices.tolist() == list(range(6)) and job.winner_indices.dtype == np.int64
    pooled = load(tmp_path, pool=np.array([3, 2, 1, 3]), channel_mask=np.array([0, 1, 0, 0, 1, 1], np.uint8))
    assert pooled.conv_shape == (4, 4, 10) and pooled.output_shape == (4, 2, 3)
    assert pooled.winner_indices.tolist() == [1, 4, 5]


@pytest.mark.parametrize(("changes", "expected"), [
    ({"score": np.array("max")}, Ranking(score="max", select="all")),
    ({"score": np.array(["absmax"]), "select": np.array("all"), "select_value": np.array(9)},
     Ranking(score="absmax", select="all")),
    ({"score": np.array("max"), "select": np.array("topk"), "select_value": np.array([4], np.uint8)},
     Ranking(score="max", select="topk", value=4)),
    ({"score": np.array("max"), "select": np.array("topk"), "select_value": np.float64(2)},
     Ranking(score="max", select="topk", value=2)),
    ({"score": np.array("mean"), "score_multiplier": np.int32(7), "score_shift": np.int32(-2),
      "select": np.array("threshold"), "select_value": np.array(255)},
     Ranking(score="mean", select="threshold", value=255, score_multiplier=7, score_shift=-2)),
    ({"score": np.array("max"), "select": np.array("energy"), "select_value": np.float32(0.5)},
     Ranking(score="max", select="energy", value=0.5, energy_power=1)),
    ({"score": np.array("max"), "select": np.array("energy"), "select_value": np.int64(1), "energy_power": np.int8(2)},
     Ranking(score="max", select="energy", value=1.0, energy_power=2)),
])
def test_load_ranking(tmp_path, changes, expected):
    assert load(tmp_path, **changes).ranking == expected


@pytest.mark.parametrize("seed", range(40))
def test_round_trip(tmp_path, seed):
    job = random_job(seed, max_macs=5000)
    job.save(tmp_path / "named exactly so")
    loaded = LayerJob.load(tmp_path / "named exactly so")
    for name in LayerJob.__dataclass_fields__:
        before, after = getattr(job, name), getattr(loaded, name)
        if isinstance(before, np.ndarray):
            assert before.dtype == after.dtype and np.array_equal(before, after), name
        else:
            assert type(before) is type(after) and before == after, name
    assert [path.name for path in tmp_path.iterdir()] == ["named exactly so"]


TOPK = {"score": np.array("max"), "select": np.array("topk")}
MALFORMED = [
    ({"weight": None}, "weight: expected an array of this name, got none"),
    ({"groups": None}, "groups: expected an array of this name, got none"),
    ({"padding": None}, "padding: expected an array of this name, got none"),
    ({"bias": np.array([None] * 4)}, "bias: expected a plain array, got an unreadable or object array"),
    ({"input": np.zeros((6, 9, 7), np.uint8)}, "input: expected int8 [C,H,W], got uint8 [6,9,7]"),
    ({"input": np.zeros((9, 7), np.int8)}, "input: expected int8 [C,H,W], got int8 [9,7]"),
    ({"input": np.zeros((6, 0, 7), np.int8)}, "input: expected at least one channel, row and column, got [6, 0, 7]"),
    ({"input": np.zeros((65536, 1, 1), np.int8)}, "input: expected at most 65535 channels, got 65536"),
    ({"input": np.zeros((6, 1, 7), np.int8)},
     "input: expected rows and columns with the padding at least the kernel [3, 5], got [6, 1, 7]"),
    ({"weight": np.zeros((4, 6, 3, 5), np.float32)},
     "weight: expected int8 [O,C/groups,KH,KW], got float32 [4,6,3,5]"),
    ({"weight": np.zeros((4, 5, 3, 5), np.int8)}, "weight: expected C/groups = 6 input channels, got 5"),
    ({"weight": np.zeros((0, 6, 3, 5), np.int8)}, "weight: expected 1..65535 output channels, got 0"),
    ({"weight": np.zeros((4, 6, 12, 5), np.int8)}, "weight: expected a kernel of 1..11, got [12, 5]"),
    ({"weight": np.zeros((4, 6, 3, 0), np.int8)}, "weight: expected a kernel of 1..11, got [3, 0]"),
    ({"bias": np.zeros(4, np.int64)}, "bias: expected int32 [4], got int64 [4]"),
    ({"bias": np.zeros(3, np.int32)}, "bias: expected int32 [4], got int32 [3]"),
    ({"multiplier": np.array([0, 1, -5, 1], np.int32)},
     "multiplier: expected values in 0..2147483647, got -5 at index 2"),
    ({"shift": np.array([0, 31, 0, 0], np.int32)}, "shift: expected values in -31..30, got 31 at index 1"),
    ({"shift": np.array([-32, 0, 0, 0], np.int32)}, "shift: expected values in -31..30, got -32 at index 0"),
    ({"input_zero_point": np.int64(128)}, "input_zero_point: expected an integer in -128..127, got 128"),
    ({"output_zero_point": np.float32(0)}, "output_zero_point: expected an integer, 0-d or [1], got float32 []"),
    ({"output_zero_point": np.zeros(2, int)}, "output_zero_point: expected an integer, 0-d or [1], got int64 [2]"),
    ({"activation_min": np.int64(9), "activation_max": np.int64(8)},
     "activation_min: expected at most activation_max = 8, got 9"),
    ({"activation_max": np.int64(200)}, "activation_max: expected an integer in -128..127, got 200"),
    ({"groups": np.int64(0)}, "groups: expected an integer in 1..65535, got 0"),
    ({"groups": np.int64(4)}, "groups: expected a divisor of 6 input and 4 output channels, got 4"),
    ({"groups": np.int64(2)}, "weight: expected C/groups = 3 input channels, got 6"),
    ({"stride": np.array([0, 1])}, "stride: expected two integers in 1..4 (vertical, horizontal), got 0"),
    ({"stride": np.array([1, 5])}, "stride: expected two integers in 1..4 (vertical, horizontal), got 5"),
    ({"stride": np.array(2)}, "stride: expected two integers in 1..4 (vertical, horizontal), got ndarray"),
    ({"stride": np.array([1.0, 1.0])},
     "stride: expected two integers in 1..4 (vertical, horizontal), got np.float64(1.0)"),
    ({"padding": np.array([-1, 0, 0, 0])},
     "padding: expected four integers (top, bottom, left, right), each smaller than the kernel, got -1"),
    ({"padding": np.array([0, 3, 0, 0])}, "padding: expected each smaller than the kernel [3, 5], got (0, 3, 0, 0)"),
    ({"channel_mask": np.ones(6, bool)}, "channel_mask: expected uint8 [6], got bool [6]"),
    ({"channel_mask": np.ones(5, np.uint8)}, "channel_mask: expected uint8 [6], got uint8 [5]"),
    ({"channel_mask": np.full(6, 255, np.uint8)}, "channel_mask: expected values in 0..1, got 255 at index 0"),
    ({"pool": np.array([2, 2])},
     "pool: expected four positive integers (kernel rows, kernel columns, stride rows, stride columns), got ndarray"),
    ({"pool": np.array([2, 2, 0, 2])},
     "pool: expected four positive integers (kernel rows, kernel columns, stride rows, stride columns), got 0"),
    ({"pool": np.array([5, 1, 1, 1])}, "pool: expected a kernel no larger than the map [4, 10], got (5, 1, 1, 1)"),
    ({"select": np.array("all")}, "score: expected an array of this name, got none"),
    ({"score": np.array("sum")}, "score: expected one of max, absmax, mean, got 'sum'"),
    ({"score": np.array(1)}, "score: expected a string, 0-d or [1], got int64 []"),
    ({"score": np.array("mean")}, "score_multiplier: expected an array of this name, got none"),
    (TOPK, "select_value: expected an array of this name, got none"),
    (TOPK | {"select_value": np.int64(0)}, "select_value: expected k in 1..65535 (an integer) for topk, got 0"),
    (TOPK | {"select_value": np.int64(5)}, "select_value: expected k in 1..4 for topk, got 5"),
    (TOPK | {"select_value": np.array("2")}, "select_value: expected a number, 0-d or [1], got <U1 []"),
]


@pytest.mark.parametrize(("changes", "message"), MALFORMED, ids=[message[:40] for _, message in MALFORMED])
def test_malformed(tmp_path, changes, message):
    with pytest.raises(JobError) as error:
        load(tmp_path, **changes)
    assert str(error.value) == message


def test_other_arrays_are_ignored(tmp_path):
    assert load(tmp_path, note=np.array([{"an": "object"}]), comment=np.array("hello")).ranking is None


def test_unreadable_files(tmp_path):
    path = tmp_path / "job.npz"
    expected = f"{path}: expected an npz file, got"
    with pytest.raises(JobError) as error:
        LayerJob.load(path)
    assert str(error.value) == f"{expected} no such file"
    np.savez(path, **arrays())
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[:200], whole[: len(whole) // 2], json.dumps([1]).encode()):
        path.write_bytes(content)
        with pytest.raises(JobError) as error:
            LayerJob.load(path)
        assert str(error.value) == f"{expected} something unreadable"
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(JobError) as error:
        LayerJob.load(path)
    assert str(error.value) == f"{expected} a single array"
    with pytest.raises(JobError, match=r"got something unreadable"):
        LayerJob.load(tmp_path)


def test_damaged_array(tmp_path):
    path = tmp_path / "job.npz"
    np.savez(path, **arrays())
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        content[archive.getinfo("weight.npy").header_offset + 300] ^= 0xFF  # The checksum no longer fits.
    path.write_bytes(content)
    with pytest.raises(JobError, match=r"^weight: expected a plain array, got an unreadable or object array$"):
        LayerJob.load(path)


def test_a_failed_write_leaves_the_file_before(tmp_path):
    path = tmp_path / "out.npz"
    write_npz(path, {"a": np.arange(3)})
    with pytest.raises(ValueError, match=r"Object arrays"):
        write_npz(path, {"a": np.arange(9), "b": np.array([None])})
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.npz"]
    assert np.load(path)["a"].tolist() == [0, 1, 2]


def test_values_are_plain(tmp_path):
    job = load(tmp_path, input=np.asfortranarray(arrays()["input"]))
    assert job.input.flags.c_contiguous and type(job.groups) is int and type(job.stride[0]) is int
    with pytest.raises(JobError, match=r"^ranking: expected a Ranking, got str$"):
        LayerJob(**({name: getattr(job, name) for name in LayerJob.__dataclass_fields__} | {"ranking": "max"}))
    with pytest.raises(JobError, match=r"^bias: expected int32 \[4\], got list$"):
        LayerJob(**({name: getattr(job, name) for name in LayerJob.__dataclass_fields__} | {"bias": [0] * 4}))
