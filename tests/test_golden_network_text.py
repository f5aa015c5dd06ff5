"""NETWORK.json: the documented example, round trips with and without weights, and a line for what is wrong."""

import copy
import json
import re
from pathlib import Path

import numpy as np
import pytest

from golden import network_text
from golden.job import JobError, Ranking
from golden.layers import ConvLayer
from golden.network import NetworkInput, QuantizedNetwork
from golden.networks import MODEL_PATH

DOCUMENT = Path(__file__).parents[1] / "docs" / "network.md"
EXAMPLE = json.loads(re.search(r"```json\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[1])


def load(tmp_path, text) -> QuantizedNetwork:
    path = tmp_path / "network.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return QuantizedNetwork.load(path)


def image(network: QuantizedNetwork) -> np.ndarray:
    return np.random.default_rng(5).integers(-128, 128, network.input.shape, np.int8)


def assert_same_results(one: QuantizedNetwork, other: QuantizedNetwork) -> None:
    for (_, found), (_, expected) in zip(one.run(image(one)), other.run(image(other)), strict=True):
        for name in ("output", "scores", "winners"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_the_documented_example(tmp_path):
    network = load(tmp_path, EXAMPLE)
    nodes = {node.name: node for node in network.layers}
    assert [(node.name, node.op, node.output_shape) for node in network.layers] == [
        ("conv1", "conv", (32, 8, 8)), ("left", "conv", (32, 8, 8)), ("right", "conv", (32, 8, 8)),
        ("both", "concat", (64, 8, 8)), ("mix", "conv", (32, 8, 8)), ("sum", "add", (32, 8, 8)),
        ("largest", "max_pool", (32, 4, 4)), ("smooth", "average_pool", (32, 4, 4)), ("mean", "mean", (32, 1, 1)),
        ("fc", "conv", (10, 1, 1))]
    assert network.input == NetworkInput(scale=0.00392, zero_point=-128, shape=(3, 32, 32))
    assert network.weights_are_random and network.seed == 0
    assert nodes["conv1"].pool == (3, 3, 2, 2) and nodes["conv1"].pool_padding == (0, 1, 0, 1)
    assert nodes["conv1"].padding == (3, 3, 3, 3) and nodes["left"].padding == (1, 1, 0, 0)
    assert nodes["right"].groups == 32 and nodes["right"].inputs == ("conv1",) and nodes["left"].inputs == ("conv1",)
    assert nodes["conv1"].ranking == Ranking(score="max", select="topk", value=16)
    assert nodes["right"].ranking == Ranking(score="absmax", select="energy", value=0.8, energy_power=2)
    assert nodes["largest"].ranking.value == 12
    mean = nodes["mean"].ranking
    assert (mean.score, mean.value, mean.score_multiplier, mean.score_shift) == ("mean", 9, 2**30, 1)  # of one pixel
    assert (nodes["sum"].output_scale, nodes["sum"].activation_min) == (0.02, -128)
    assert nodes["smooth"].output_scale == nodes["sum"].output_scale
    results = network.run(image(network))
    assert all(result.output.shape == node.output_shape and 5 < result.output.std() < 110
               for node, (_, result) in zip(network.layers, results, strict=True))


def test_the_seed_makes_the_network(tmp_path):
    first, again, other = load(tmp_path, EXAMPLE), load(tmp_path, EXAMPLE), load(tmp_path, EXAMPLE | {"seed": 1})
    assert_same_results(first, again)
    assert not np.array_equal(first.layers[0].weight, other.layers[0].weight)
    assert not np.array_equal(first.layer("left").weight[:, :, :1], first.layer("mix").weight[:, :32])


def test_a_network_without_weights_of_its_own_is_a_text_alone(tmp_path):
    network = load(tmp_path, EXAMPLE)
    network.save(tmp_path / "again.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.json", "network.json"]
    text = json.loads((tmp_path / "again.json").read_text())
    assert "output_scale" not in text["layers"][0] and text["layers"][5]["output_scale"] == 0.02
    assert_same_results(network, QuantizedNetwork.load(tmp_path / "again.json"))
    ranked = network.with_winners(0.25, score="mean")
    ranked.save(tmp_path / "ranked.json")
    assert_same_results(ranked, QuantizedNetwork.load(tmp_path / "ranked.json"))


def test_weights_lie_beside_the_text(tmp_path):
    network = QuantizedNetwork.load(MODEL_PATH)
    network.save(tmp_path / "lenet.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lenet.json", "lenet.npz"]
    after = QuantizedNetwork.load(tmp_path / "lenet.json")
    assert after.metadata == network.metadata and not after.weights_are_random
    for one, other in zip(network.layers, after.layers, strict=True):
        assert one.ranking == other.ranking and one.output == other.output
    assert_same_results(network, after)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    text = {"name": "small", "input": {"shape": [2, 4, 4]}, "weights": "w.npz",
            "layers": [{"name": "a", "out_channels": 3, "kernel": 1, "output_scale": 1, "output_zero_point": 0}]}
    arrays = {"a.weight": np.ones((3, 2, 1, 1), np.int8), "a.bias": np.zeros(3, np.int32),
              "a.multiplier": np.full(3, 2**30, np.int32), "a.shift": np.zeros(3, np.int32)}
    unscaled = copy.deepcopy(text)
    del unscaled["layers"][0]["output_scale"], unscaled["layers"][0]["output_zero_point"]
    for stated, changes, message in (
            (text, {"a.weight": np.ones((3, 2, 3, 1), np.int8)},
             "layer a: weight: expected int8 [3, 2, 1, 1], got [3, 2, 3, 1]"),
            (text, {"a.bias": np.zeros(2, np.int32)}, "layer a: bias: expected int32 [3], got int32 [2]"),
            (text, {"a.shift": None}, "a.shift: expected an array of this name, got none"),
            (unscaled, {}, "layer a: output_scale: expected that of the output, as there are tensors, got none"),
            (text | {"weights": 5}, {}, "weights: expected the name of an npz file, got 5"),
            (text | {"weights": "none.npz"}, {}, f"{tmp_path / 'none.npz'}: expected an npz file, got no such file")):
        np.savez(tmp_path / "w.npz", **{name: array for name, array in (arrays | changes).items() if array is not None})
        with pytest.raises(JobError) as error:
            load(tmp_path, stated)
        assert str(error.value) == message
    np.savez(tmp_path / "w.npz", **arrays)
    network = load(tmp_path, text)
    (_, result), = network.run(np.full((2, 4, 4), 2, np.int8))
    assert (result.output == 127).all() and not network.weights_are_random  # 2 * 130 / 2 = 130


LAYER = {"name": "a", "out_channels": 4, "kernel": 1}
REFUSED = [
    ("{\n \"name\": 1,}", "{path}: expected JSON, got "),
    ("[]", "network: expected an object with name, input, layers, got []"),
    ({"layers": None}, "layers: expected a list of layers, got NoneType"),
    ({"colour": 1}, "colour: expected fields among name, input, layers, weights, seed, metadata, got this one"),
    ({"name": 1}, "name: expected a string, got 1"),
    ({"metadata": []}, "metadata: expected an object, got []"),
    ({"seed": "x"}, "seed: expected an integer in 0..9223372036854775807, got 'x'"),
    ({"input": {"scale": 1}}, "shape: expected this field, got none"),
    ({"input": {"shape": [1, 2]}}, "input_shape: expected three positive integers (C, H, W), got [1, 2]"),
    ({"input": {"shape": [2, 4, 4], "scale": "a"}}, "input_scale: expected a finite number above 0, got 'a'"),
    ([5], "layers[0]: expected an object with a name, got 5"),
    ([LAYER | {"name": "b c"}], "layer b c: name: expected letters, digits, _ and -, got 'b c'"),
    ([LAYER | {"op": "softmax"}],
     "layer a: op: expected one of conv, max_pool, average_pool, mean, add, concat, got 'softmax'"),
    ([{"name": "a", "kernel": 1}], "layer a: out_channels: expected this field, got none"),
    ([LAYER | {"strides": 2}], "layer a: strides: expected fields among name, op, inputs, "),
    ([{"name": "a", "op": "max_pool", "kernel": 1, "output_scale": 1}],
     "layer a: output_scale: expected fields among name, op, inputs, winners, kernel, stride, padding, activation, "
     "got this one"),
    ([LAYER | {"op": "max_pool"}], "layer a: out_channels: expected fields among name, op, inputs, "),
    ([LAYER | {"kernel": [1, 2, 3]}],
     "layer a: kernel: expected a positive integer, or two (rows, columns), got [1, 2, 3]"),
    ([LAYER | {"kernel": 1.5}], "layer a: kernel: expected a positive integer, or two (rows, columns), got 1.5"),
    ([LAYER | {"kernel": 12}], "layer a: weight: expected a kernel of 1..11, got [12, 12]"),
    ([LAYER | {"padding": [1, 1]}],
     "layer a: padding: expected same, valid, an integer, or four (top, bottom, left, right), got [1, 1]"),
    ([LAYER | {"padding": "half"}], "layer a: padding: expected same, valid or four integers, got 'half'"),
    ([LAYER | {"padding": 1}],
     "layer a: padding: expected four integers (top, bottom, left, right), each smaller than the kernel, got 1"),
    ([LAYER | {"out_channels": "many"}], "layer a: out_channels: expected an integer in 1..2147483647, got 'many'"),
    ([LAYER | {"activation": "gelu"}],
     "layer a: activation: expected one of none, relu, relu6, or two integers, got 'gelu'"),
    ([LAYER | {"activation": 6}], "layer a: activation: expected one of none, relu, relu6, or two integers, got 6"),
    ([LAYER | {"pool": 2}], "layer a: pool: expected an object with kernel, got 2"),
    ([LAYER | {"pool": {"kernel": 5}}],
     "layer a: pool: expected a kernel no larger than the map [4, 4], got (5, 5, 5, 5)"),
    ([LAYER | {"pool": {"kernel": 0}}],
     "layer a: pool kernel: expected a positive integer, or two (rows, columns), got 0"),
    ([LAYER | {"winners": 0.5}], "layer a: winners: expected an object such as {\"rate\": 0.5}, got 0.5"),
    ([LAYER | {"winners": {"fraction": 1}}],
     "layer a: winners: expected fields among score, select, rate, value, eps, power, score_multiplier, score_shift, "
     "got 'fraction'"),
    ([LAYER | {"winners": {"rate": 2}}], "layer a: rate: expected a number above 0, at most 1, got 2"),
    ([LAYER | {"winners": {"value": 5}}], "layer a: select_value: expected k in 1..4 for topk, got 5"),
    ([LAYER | {"inputs": "b"}], "layer a: inputs: expected names of earlier layers, or input, got 'b'"),
    ([LAYER | {"inputs": 3}], "layer a: inputs: expected names of layers, got 3"),
    ([LAYER, {"name": "b", "op": "concat", "winners": {"rate": 0.5}}],
     "layer b: ranking: expected none on a concat, but on its inputs, got one"),
    ([LAYER, LAYER], "layer a: name: expected one that no layer before has, got 'a'"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[message[:50] for _, message in REFUSED])
def test_refuses(tmp_path, change, message):
    text = {"name": "small", "input": {"shape": [2, 4, 4]}, "layers": [LAYER]}
    if isinstance(change, list):
        change = {"layers": change}
    with pytest.raises(JobError) as error:
        load(tmp_path, text | change if isinstance(change, dict) else change)
    assert str(error.value).startswith(message.replace("{path}", str(tmp_path / "network.json")))
    assert "\n" not in str(error.value)


def test_refuses_files(tmp_path):
    with pytest.raises(JobError, match=r"none\.json: expected a JSON file, got no such file$"):
        QuantizedNetwork.load(tmp_path / "none.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(JobError, match=r"bytes\.json: expected a JSON file, got something unreadable$"):
        QuantizedNetwork.load(tmp_path / "bytes.json")


def test_defaults():
    network = network_text.read({"name": "small", "input": {"shape": [2, 4, 4]}, "layers": [LAYER]})
    (node,), (layer,) = network.layers, [node.layer for node in network.layers]
    assert isinstance(layer, ConvLayer)
    assert network.input == NetworkInput(scale=1 / 255, zero_point=-128, shape=(2, 4, 4))
    assert (node.stride, node.padding, node.groups, node.pool, node.inputs) == (
        (1, 1), (0, 0, 0, 0), 1, None, ("input",))
    assert (node.activation_min, node.activation_max, node.ranking) == (-128, 127, None)
