"""A chained network: masks passed on, dense runs, the file, and what the chain refuses."""

import dataclasses

import numpy as np
import pytest

from golden.job import JobError, LayerJob, Ranking
from golden.network import Layer, NetworkInput, QuantizedNetwork
from golden.reference import run


def layer(name: str, shape: tuple[int, ...], seed: int, **changes) -> Layer:
    rng = np.random.default_rng(seed)
    outputs = shape[0]
    fields = {
        "name": name, "weight": rng.integers(-127, 128, shape, np.int8),
        "bias": rng.integers(-999, 999, outputs, np.int32), "shift": np.full(outputs, -9, np.int32),
        "multiplier": rng.integers(2**30, 2**31, outputs).astype(np.int32), "input_zero_point": -128,
        "output_zero_point": -128, "activation_min": -128, "activation_max": 127, "stride": (1, 1),
        "padding": (0, 0, 0, 0), "output_scale": 0.5}
    return Layer(**(fields | changes))


def network() -> QuantizedNetwork:
    """A pooled convolution, a fully connected layer whose kernel is the map, and one of 1x1."""
    return QuantizedNetwork(
        name="small", input=NetworkInput(scale=1 / 255, zero_point=-128, shape=(2, 8, 8)), metadata={"seed": 1},
        layers=(layer("conv", (6, 2, 3, 3), 0, padding=(1, 1, 1, 1), pool=(2, 2, 2, 2),
                      ranking=Ranking(score="max", select="topk", value=3)),
                layer("fc-1", (9, 6, 4, 4), 1, ranking=Ranking(score="mean", select="energy", value=0.5,
                                                               score_multiplier=2**30, score_shift=1, energy_power=2)),
                layer("fc_2", (5, 9, 1, 1), 2)))


IMAGE = np.random.default_rng(9).integers(-128, 128, (2, 8, 8), np.int8)


def test_winners_mask_the_next_layer():
    (conv, conv_out), (fc1, fc1_out), (fc2, fc2_out) = network().run(IMAGE)
    assert conv.channel_mask is None and conv_out.output.shape == (6, 4, 4) and conv_out.winners.sum() == 3
    assert np.array_equal(fc1.channel_mask, conv_out.winners) and np.array_equal(fc1.input, conv_out.output)
    assert np.array_equal(fc2.channel_mask, fc1_out.winners) and fc1_out.output.shape == (9, 1, 1)
    assert 1 <= fc1_out.winners.sum() < 9 and fc2_out.winners.all() and fc2.ranking is None
    losers_zeroed = np.where(conv_out.winners[:, None, None] == 1, conv_out.output, np.int8(-128))
    assert np.array_equal(run(network().layer_job(1, losers_zeroed)).output, fc1_out.output)


def test_dense():
    results = network().run(IMAGE, dense=True)
    assert all(job.channel_mask is None and job.ranking is None and out.winners.all() for job, out in results)
    assert np.array_equal(results[0][1].output, network().run(IMAGE)[0][1].output)


def test_file(tmp_path):
    before = network()
    before.save(tmp_path / "net.npz")
    after = QuantizedNetwork.load(tmp_path / "net.npz")
    assert (after.name, after.input, after.metadata) == (before.name, before.input, before.metadata)
    assert [item.name for item in after.layers] == ["conv", "fc-1", "fc_2"]
    for one, other in zip(before.layers, after.layers, strict=True):
        assert one.ranking == other.ranking and one.output_scale == other.output_scale
    for (job, out), (loaded_job, loaded_out) in zip(before.run(IMAGE), after.run(IMAGE), strict=True):
        assert all(np.array_equal(getattr(job, name), getattr(loaded_job, name))
                   for name in LayerJob.__dataclass_fields__)
        assert np.array_equal(out.output, loaded_out.output)


@pytest.mark.parametrize(("index", "changes", "message"), [
    (1, {"input_zero_point": 0}, "layer fc-1: input_zero_point: expected -128, that of the tensor before, got 0"),
    (1, {"weight": np.zeros((9, 5, 4, 4), np.int8)}, "layer fc-1: weight: expected C/groups = 6 input channels, got 5"),
    (0, {"ranking": Ranking(score="max", select="topk", value=7)},
     "layer conv: select_value: expected k in 1..6 for topk, got 7"),
    (2, {"name": "conv"}, "layers: expected at least one, names that differ, got ['conv', 'fc-1', 'conv']"),
    (2, {"name": "a.b"}, "name: expected letters, digits, _ and -, got 'a.b'"),
    (2, {"output_scale": 0.0}, "output_scale: expected a finite number above 0, got 0.0"),
])
def test_refuses(index, changes, message):
    with pytest.raises(JobError) as error:
        layers = list(network().layers)
        layers[index] = dataclasses.replace(layers[index], **changes)
        dataclasses.replace(network(), layers=layers)
    assert str(error.value) == message


def test_refuses_images_and_files(tmp_path):
    with pytest.raises(JobError, match=r"^image: expected int8 \[2, 8, 8\], got \[8, 8\]$"):
        network().run(IMAGE[0])
    with pytest.raises(JobError, match=r"^input: expected int8 \[C,H,W\], got float64 \[2,8,8\]$"):
        network().run(IMAGE.astype(float))
    with pytest.raises(JobError, match=r"^input_shape: expected three positive integers"):
        NetworkInput(scale=1.0, zero_point=0, shape=(1, 2))
    np.savez(tmp_path / "other.npz", weight=np.zeros(3))
    with pytest.raises(JobError, match=r"^layers: expected an array of this name, got none$"):
        QuantizedNetwork.load(tmp_path / "other.npz")
