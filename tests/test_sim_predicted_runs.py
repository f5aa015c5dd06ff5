"""Predicted runs of a network with zero blocks, against the same network with and without them."""

from dataclasses import replace

import pytest

from golden.networks import build
from hw.config import EngineConfig
from sim.network import estimate_network
from sim.predicted_runs import predicted_runs

ENGINE = EngineConfig(rows=8, columns=16)


def with_zero_blocks(network):
    """``network`` without the weights of every other input channel, for the first of its groups of output channels."""
    layers = []
    for node in network.layers:
        layer = node.layer
        if node.name in ("conv2", "fc1"):
            weight = layer.tensors.weight.copy()
            weight[:ENGINE.columns, ::2] = 0
            layer = replace(layer, tensors=replace(layer.tensors, weight=weight))
        layers.append(layer)
    return replace(network, layers=tuple(layers))


@pytest.fixture(scope="module")
def lenet4():
    return build("lenet4")


def costs(layers):
    return [(one.name, one.predicted.cycles, one.predicted.bytes_read, one.predicted.bytes_written) for one in layers]


def test_each_run_is_that_of_the_network_alone(lenet4):
    pruned = with_zero_blocks(lenet4)
    runs = predicted_runs(pruned, ENGINE)
    assert list(runs) == ["dense", "winners", "blocks", "both"]
    for name, network, dense in (("dense", lenet4, True), ("winners", lenet4, False), ("blocks", pruned, True),
                                 ("both", pruned, False)):
        assert costs(runs[name]) == costs(estimate_network(network, ENGINE, dense=dense)), name
    cycles = {name: sum(one.predicted.cycles for one in layers) for name, layers in runs.items()}
    assert len(set(cycles.values())) == 4 and cycles["both"] < cycles["winners"] and cycles["blocks"] < cycles["dense"]


def test_runs_that_are_not_there_are_left_out(lenet4):
    assert list(predicted_runs(lenet4, ENGINE)) == ["dense", "winners"]
    assert list(predicted_runs(lenet4.without_winners(), ENGINE)) == ["dense"]
    assert list(predicted_runs(with_zero_blocks(lenet4).without_winners(), ENGINE)) == ["dense", "blocks"]
