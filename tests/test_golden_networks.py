"""The networks by name against published counts, and their random weights: drawn late, repeatable, well spread."""

import math
from dataclasses import replace

import numpy as np
import pytest

from golden import network as network_module
from golden import networks
from golden.job import JobError
from golden.layers import AddLayer, AveragePoolLayer, ConcatLayer, ConvLayer, MaxPoolLayer, MeanLayer
from golden.network import NetworkInput, QuantizedNetwork, WinnerRule
from golden.numerics import quantize_multiplier

# Multiplications in millions, and parameters: weights and biases. Networks published with batch normalization have two
# trained parameters a channel in place of our one bias, so that many are taken off; MobileNets published with 1000
# classes have one less than ours, whose weights and bias are added.
PUBLISHED = {
    "alexnet": (724.4, 60_965_224),
    "vgg16": (15470, 138_357_544),
    "resnet18": (1814, 11_689_512 - 4_800),
    "resnet50": (4089, 25_557_032 - 26_560),
    "resnet8": (12.5, 0.078e6),
    "resnet20": (40.8, 0.27e6),
    "resnet56": (125.7, 0.85e6),
    "mobilenet_v1_1.0_224": (568.7, 4_231_976 - 10_944 + 1025),
    "mobilenet_v1_0.5_160": (76, 1_331_592 - 5_472 + 513),
    "mobilenet_v1_0.25_128": (13.6, 470_072 - 2_736 + 257),
    "mobilenet_v2_1.0_224": (300.8, 3_504_872 - 17_056 + 1281),
    "lenet4": (28 * 28 * 800 / 1e6 + 14 * 14 * 51_200 / 1e6 + 3.211264 + 0.01024, 832 + 51_264 + 3_212_288 + 10_250),
    "convnet5": (24 * 24 * 4800 / 1e6 + 12 * 12 * 102_400 / 1e6 + 0.884736 + 0.073728 + 0.00192, 1_068_298),
    "mlp3": (0.2662, 235_500 + 30_100 + 1010),
}


def near(found: float, published: float) -> bool:
    """Whether a count is the published one, which has so many digits as its number shows."""
    digits = len(f"{published:g}".replace(".", "").rstrip("0"))
    return math.isclose(found, published, rel_tol=1e-12) or abs(found / published - 1) <= 0.6 * 10 ** (1 - digits)


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_the_published_ones(name):
    network = networks.build(name)
    macs, parameters = (sum(getattr(node, what) for node in network.layers) for what in ("macs", "parameters"))
    published_macs, published_parameters = PUBLISHED[name]
    assert near(macs / 1e6, published_macs), macs
    assert near(parameters, published_parameters), parameters


def test_names():
    assert set(networks.names()) <= set(PUBLISHED)
    assert [networks.build(name).name for name in networks.names()] == list(networks.names())
    for name in ("resnet", "mobilenet_v3_1.0_224", "mobilenet_v1_0_224", "mobilenet_v1_1.0_9", "mobilenet_v1_1.0"):
        with pytest.raises(JobError, match=rf"^network: expected one of alexnet, .*, got '{name}'$"):
            networks.build(name)


def test_shapes():
    def shapes(name, *layers):
        return [networks.build(name).layer(layer).output_shape for layer in layers]

    assert shapes("alexnet", "conv1", "conv2", "conv5", "fc8") == [
        (96, 27, 27), (256, 13, 13), (256, 6, 6), (1000, 1, 1)]
    assert shapes("resnet50", "conv1", "stage1_1_add", "stage2_1_conv2", "stage4_3_add", "mean") == [
        (64, 56, 56), (256, 56, 56), (128, 28, 28), (2048, 7, 7), (2048, 1, 1)]
    assert shapes("mobilenet_v1_0.25_128", "conv", "block1_depthwise", "block13_pointwise", "pool", "fc") == [
        (8, 64, 64), (8, 64, 64), (256, 4, 4), (256, 1, 1), (1001, 1, 1)]
    assert shapes("mobilenet_v2_1.0_224", "block1_project", "block17_project", "conv_last") == [
        (16, 112, 112), (320, 7, 7), (1280, 7, 7)]
    assert shapes("resnet20", "stage3_1_shortcut", "fc") == [(64, 8, 8), (10, 1, 1)]
    assert shapes("convnet5", "conv1", "conv2", "fc1") == [(64, 12, 12), (64, 6, 6), (384, 1, 1)]
    first = networks.build("mobilenet_v1_1.0_224").layers[0]
    assert first.padding == (0, 1, 0, 1)  # TensorFlow's SAME at stride 2


def test_large_networks_are_built_without_weights(monkeypatch):
    def refuse(**_):
        raise AssertionError("weights were drawn")

    monkeypatch.setattr(network_module, "draw_tensors", refuse)
    for name in networks.names():
        network = networks.build(name)
        assert network.weights_are_random == (name != "lenet4")
        ranked = network.with_winners(0.25)
        profits = [node.name for node in network.layers
                   if any(consumer.op == "conv" for consumer in network.consumers(node.name))]
        assert [node.name for node in ranked.layers if node.ranking] == profits == list(network.ranked_with_profit())
        for node in ranked.layers:
            if node.ranking:
                assert node.ranking.value == max(1, round(node.output_shape[0] / 4))


def small(name: str) -> QuantizedNetwork:
    """A network by name on an eighth to a half of its image, which leaves all its layers."""
    network = networks.build(name)
    size = {"resnet18": 64, "resnet50": 64}.get(name)
    if size is None:
        return network
    return replace(network, input=replace(network.input, shape=(3, size, size)))


def assert_well_spread(network: QuantizedNetwork, *, least: float = 12) -> None:
    image = np.random.default_rng(1).integers(-128, 128, network.input.shape, np.int8)
    for node, (_, result) in zip(network.layers, network.run(image), strict=True):
        output = result.output
        ends = [end for end in (-128, 127) if end != node.output_zero_point]  # A ReLU's zeros are not saturated.
        assert least < output.std() < 110, node.name
        assert np.isin(output, ends).mean() < 0.15, node.name
        assert np.unique(output).size > min(output.size, 50) // 2 and len(set(result.scores.tolist())) > 3, node.name


@pytest.mark.parametrize("rate", [None, 0.5, 0.25])
@pytest.mark.parametrize("name", ["alexnet", "resnet50", "resnet56", "mobilenet_v1_0.25_128", "mobilenet_v2_0.35_96",
                                  "convnet5", "mlp3"])
def test_outputs_are_well_spread_through_all_layers(name, rate):
    network = small(name)
    assert_well_spread(network if rate is None else network.with_winners(rate))


@pytest.mark.parametrize(("rate", "rule"), [
    (0.3, {"score": "mean"}), (0.3, {"score": "absmax"}), (0.7, {"select": "energy"}), (90, {"select": "threshold"})])
def test_outputs_are_well_spread_for_every_winner_rule(rate, rule):
    assert_well_spread(networks.build("resnet20").with_winners(rate, **rule))


def test_outputs_are_well_spread_after_every_operation():
    conv = dict(out_channels=32, activation="relu")
    network = QuantizedNetwork(
        name="all", input=NetworkInput(scale=0.01, zero_point=3, shape=(3, 24, 24)), layers=(
            ConvLayer(name="one", kernel=(3, 3), padding="same", **conv),
            ConvLayer(name="two", kernel=(3, 3), padding="same", inputs="input", pool=(2, 2, 1, 1),
                      pool_padding=(1, 0, 1, 0), ranking=WinnerRule(rate=0.4), **conv),
            ConcatLayer(name="both", inputs=("two", "one")),
            ConvLayer(name="mix", out_channels=32, kernel=(1, 1)),
            AddLayer(name="sum", inputs=("mix", "one"), ranking=WinnerRule(rate=0.5)),
            MaxPoolLayer(name="largest", kernel=(2, 2)),
            ConvLayer(name="scaled", kernel=(3, 3), output_scale=0.5, output_zero_point=-60, **conv),
            AveragePoolLayer(name="smooth", kernel=(3, 3), stride=(1, 1), padding="same"),
            ConvLayer(name="bounded", kernel=(3, 3), out_channels=32, activation="relu6"),
            MeanLayer(name="mean"), ConvLayer(name="last", kernel=(1, 1), out_channels=30)))
    scaled = network.layer("scaled")
    assert (scaled.output_scale, scaled.output_zero_point, scaled.activation_min) == (0.5, -60, -60)
    assert_well_spread(network)


def test_weights_follow_the_seed_and_multipliers_the_winners():
    network = networks.build("mlp3", seed=4)
    again, other = networks.build("mlp3", seed=4), networks.build("mlp3", seed=5)
    sparse = network.with_winners(0.02)
    assert not np.array_equal(network.layers[1].weight, other.layers[1].weight)
    for name in ("weight", "bias", "multiplier", "shift"):
        assert np.array_equal(getattr(network.layers[1], name), getattr(again.layers[1], name))
    assert np.array_equal(network.layers[1].weight, sparse.layers[1].weight)
    factors = [node.multiplier * 2.0 ** (node.shift - 31) for node in (network.layers[1], sparse.layers[1])]
    # A fiftieth of the neurons takes part, but the largest ones. Of a standard normal value x with a ReLU the variance
    # is 0.341, of that with all but x > 2.05 set to zero 0.117: sums are smaller by sqrt(0.341 / 0.117) = 1.7.
    assert 1.5 < np.median(factors[1] / factors[0]) < 1.9
    weight = network.layers[0].weight
    assert weight.min() == -127 and weight.max() == 127 and abs(weight.mean()) < 1
    assert all(quantize_multiplier(factor) == (multiplier, shift) for factor, multiplier, shift in zip(
        factors[0], network.layers[1].multiplier, network.layers[1].shift, strict=True))
