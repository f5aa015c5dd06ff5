"""The cost of ranking against what it saves: operations by hand, cycles against the analytical model's own totals."""

import math

import pytest

from golden.checks import JobError
from golden.layers import ConcatLayer, ConvLayer
from golden.network import NetworkInput, QuantizedNetwork
from golden.networks import build
from golden.winner_rule import WinnerRule
from hw.config import EngineConfig
from sim.network import estimate_network, network_questions
from sim.ranking_cost import RankingCost, predict, ranking_cost, total

ENGINE = EngineConfig(rows=8, columns=16)


@pytest.fixture(scope="module")
def lenet4():
    return build("lenet4")


@pytest.mark.parametrize("name", ["lenet4", "resnet20", "mobilenet_v1_0.25_128"])
@pytest.mark.parametrize("dense", [True, False])
def test_prediction_is_that_of_the_whole_network(name, dense):
    network = build(name)
    network = network if name == "lenet4" else network.with_winners(0.5)
    found = predict(network, network_questions(network, ENGINE, dense=dense), ENGINE)
    expected = estimate_network(network, ENGINE, dense=dense)
    assert {name: one.predicted for name, one in found.items()} == {one.name: one.predicted for one in expected}


def test_operations_by_hand(lenet4):
    conv1, conv2, fc1 = ranking_cost(lenet4, ENGINE)
    winners = lenet4.winner_count("fc1")
    assert [(cost.name, cost.channels, cost.winners) for cost in (conv1, conv2, fc1)] == [
        ("conv1", 32, 16), ("conv2", 64, 24), ("fc1", 1024, winners)]
    # Of the maps after pooling, 14x14 and 7x7: a maximum a channel, and a sort; a neuron is its own maximum (Eq. 6).
    assert [cost.comparisons for cost in (conv1, conv2, fc1)] == [32 * 196 + 32 * 5, 64 * 49 + 64 * 6, 1024 * 10]
    assert [cost.saved_products for cost in (conv1, conv2, fc1)] == [
        14 * 14 * 64 * 25 * 16, 49 * 1024 * 40, 10 * (1024 - winners)]
    assert conv2.operations_ratio == (64 * 49 + 64 * 6) / (49 * 1024 * 40)


@pytest.mark.parametrize("name", ["lenet4", "convnet5", "resnet20"])
def test_cycles_add_up_to_those_of_the_network(name):
    """dense - saved + ranking = with winners: in these networks no layer is faster or slower for any other reason."""
    network = build(name)
    network = network if name == "lenet4" else network.with_winners(0.5)
    dense, sparse = (sum(one.predicted.cycles for one in estimate_network(network, ENGINE, dense=dense))
                     for dense in (True, False))
    costs = ranking_cost(network, ENGINE)
    found = total(costs)
    assert dense - found.saved_cycles + found.ranking_cycles == pytest.approx(sparse, abs=0.001 * sparse)
    # The ranking unit counts, and does not sort: the same few cycles for a layer of any size, energy a few more.
    assert all(0 < cost.ranking_cycles < 60 for cost in costs)
    assert found.name == "total" and found.saved_cycles == sum(cost.saved_cycles for cost in costs)
    assert 0 < found.cycles_ratio < 0.01 and found.cycles_ratio == found.ranking_cycles / found.saved_cycles


@pytest.mark.parametrize("name, layers", [("convnet5", ["conv1", "conv2", "fc1"]), ("vgg16", ["conv3_1", "conv5_1"])])
def test_ranking_costs_what_a_layer_takes_longer_for_it(name, layers):
    """Also in conv5_1 of VGG-16, whose planes wait for their scores before they are written."""
    network = build(name).with_winners(0.5)
    costs = {cost.name: cost.ranking_cycles for cost in ranking_cost(network, ENGINE)}
    for layer in layers:
        rates = {node.name: 0.5 for node in network.layers if node.ranking is not None and node.name != layer}
        ranked, unranked = ({one.name: one.predicted.cycles for one in estimate_network(other, ENGINE)}[layer]
                            for other in (network, network.with_winners(rates)))
        assert costs[layer] == ranked - unranked


def test_all_readers_of_a_layer_save():
    network = build("resnet20").with_winners(0.5)
    costs = {cost.name: cost for cost in ranking_cost(network, ENGINE)}
    # A convolution and, beside that one's branch, a sum, which multiplies by no weights; then a projection too.
    readers = {"conv1": ["stage1_1_conv1"], "stage1_3_add": ["stage2_1_conv1", "stage2_1_shortcut"]}
    for name, consumers in readers.items():
        assert costs[name].saved_products == sum(network.layer(consumer).macs for consumer in consumers) / 2


def test_layers_that_share_a_reader_share_what_it_saves():
    pixels = NetworkInput(scale=1 / 255, zero_point=-128, shape=(3, 16, 16))
    conv = dict(kernel=(3, 3), padding="same", activation="relu")
    half = WinnerRule(rate=0.5)
    network = QuantizedNetwork(name="shared", input=pixels, layers=(
        ConvLayer(name="left", out_channels=16, inputs=("input",), ranking=half, output_scale=0.1,
                  output_zero_point=-128, **conv),
        ConvLayer(name="right", out_channels=16, inputs=("input",), ranking=half, output_scale=0.1,
                  output_zero_point=-128, **conv),
        ConcatLayer(name="both", inputs=("left", "right")),
        ConvLayer(name="mix", out_channels=32, **conv)))
    left, right = ranking_cost(network, ENGINE)
    assert left.saved_products == right.saved_products == network.layer("mix").macs / 4
    dense, sparse = ({one.name: one.predicted.cycles for one in estimate_network(network, ENGINE, dense=dense)}["mix"]
                     for dense in (True, False))
    assert left.saved_cycles == right.saved_cycles == (dense - sparse) / 2


def test_nothing_saved_is_an_infinite_ratio():
    cost = RankingCost(name="conv", channels=8, winners=8, comparisons=24.0, saved_products=0, ranking_cycles=10,
                       saved_cycles=-3.0)
    assert cost.operations_ratio == math.inf and cost.cycles_ratio == math.inf


def test_a_network_without_ranking_is_refused(lenet4):
    with pytest.raises(JobError, match=r"^winners: expected at least one layer that is ranked, got none$"):
        ranking_cost(lenet4.without_winners(), ENGINE)
    unmeasured = build("mlp3").with_winners({"fc1": 0.8}, select="energy")
    with pytest.raises(JobError, match=r"^layer fc1: expected its winner rate in the network's metadata, got none$"):
        ranking_cost(unmeasured, ENGINE)
