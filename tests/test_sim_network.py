"""Networks on the engine: every operation in one program, and what is known of a network before it runs."""

from dataclasses import replace

import numpy as np
import pytest

from golden.job import JobError
from golden.network import QuantizedNetwork
from golden.networks import build
from hw.config import ConfigError, EngineConfig
from hw.jobs import job_shape
from hw.plan import PlanError
from hw.program import STORED, build_program
from sim import network as sim_network
from sim.execute import execute
from sim.network import (
    estimate_network,
    golden_layers,
    layer_chain,
    layer_shape,
    layer_sources,
    network_chain,
    recording,
    sample_layers,
)
from tests.every_operation import EVERY_OPERATION, with_stored_weights
from tests.hw_helpers import SMALL


def image_of(network: QuantizedNetwork, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, network.input.shape, np.int8)


@pytest.fixture(scope="module")
def network() -> QuantizedNetwork:
    """Every operation, with random weights."""
    return QuantizedNetwork.load(EVERY_OPERATION)


@pytest.fixture(scope="module")
def own_weights(tmp_path_factory) -> QuantizedNetwork:
    """The same with stored weights, of which whole blocks are zero in the layer ``sparse``."""
    path = tmp_path_factory.mktemp("network") / "own.json"
    found = with_stored_weights(path)
    assert path.with_suffix(".npz").exists() and not found.weights_are_random
    return found


def test_the_networks_have_every_operation(network, own_weights):
    conv = [node for node in network.layers if node.op == "conv"]
    assert {node.op for node in network.layers} == {"conv", "max_pool", "average_pool", "mean", "add", "concat"}
    assert any(node.groups == node.input_shapes[0][0] for node in conv)  # depthwise
    assert any(1 < node.groups < node.input_shapes[0][0] for node in conv)
    assert any(any(node.pool_padding) for node in conv) and any(node.kernel == (1, 1) for node in conv)
    # A ReLU6 that cuts off: its largest value is not int8's.
    assert any(node.layer.activation == "relu6" and node.activation_max < 127 for node in own_weights.layers
               if node.op in ("conv", "add"))
    rules = [node.ranking for node in network.layers if node.ranking]
    assert {rule.select for rule in rules} == {"topk", "energy", "threshold"}
    assert {rule.score for rule in rules} == {"max", "absmax", "mean"}
    by_name = {node.name: node for node in network.layers}
    assert all(by_name[name].ranking for name in by_name["both"].inputs)
    assert by_name["sum"].inputs == ("stem", "mix") and by_name["again"].inputs == ("sparse", "sparse")


@pytest.mark.parametrize("memory", ["stall", "fast"])
@pytest.mark.parametrize("keep_outputs", [True, False])
def test_every_operation_as_one_program(memory, keep_outputs, own_weights, simulator):
    chains = [network_chain(own_weights, list(golden_layers(own_weights, image_of(own_weights), dense=dense)), SMALL,
                            dense=dense, keep_outputs=keep_outputs) for dense in (True, False)]
    outcomes = execute(simulator(SMALL, memory), chains, seed=4)
    names = [node.name for node in own_weights.layers if node.op != "concat"]
    for outcome in outcomes:
        assert outcome.differences == []
        assert [one.name for one in outcome.measures] == names
        assert all(one.bytes_as_predicted for one in outcome.measures)
    dense, sparse = (dict(zip(names, chain.program.layers, strict=True)) for chain in chains)
    assert dense["sparse"].plan.shape.blocks
    assert any(placed.ranking.value for placed in sparse.values())
    assert outcomes[1].measures[names.index("grouped")].winners < 16


def test_layers_alone(network, simulator):
    chains = [layer_chain(layer, SMALL) for layer in golden_layers(network, image_of(network)) if layer.job is not None]
    outcomes = execute(simulator(SMALL, "fast"), chains)
    assert [outcome.differences for outcome in outcomes] == [[]] * 11


@pytest.mark.parametrize("dense", [True, False])
def test_golden_layers_are_the_network_s_run(dense, network):
    image = image_of(network, 7)
    expected = network.run(image, dense=dense)
    for node, (job, result), layer in zip(network.layers, expected, golden_layers(network, image, dense=dense),
                                          strict=True):
        assert layer.node is node and (layer.job is None) == (job is None)
        for name in ("output", "scores", "winners"):
            assert np.array_equal(getattr(layer.result, name), getattr(result, name)), node.name


def test_golden_layers_run_as_far_as_they_are_asked(network, monkeypatch):
    import golden.reference

    ran = []
    run = golden.reference.run
    monkeypatch.setattr("golden.reference.run", lambda job: ran.append(job) or run(job))
    layers = golden_layers(network, image_of(network))
    assert [next(layers).node.name for _ in range(3)] == ["stem", "depthwise", "grouped"]
    assert len(ran) == 3


def test_sources(network):
    assert layer_sources(network) == [(STORED,), (0,), (0,), (1, 2), (3,), (0, 4), (5,), (6,), (7,), (8, 8), (9,),
                                      (10,)]
    assert sim_network.STORED == STORED


@pytest.mark.parametrize("config", [SMALL, EngineConfig(), EngineConfig(rows=7, columns=32)])
def test_shapes_without_weights_are_those_of_the_jobs(config, network):
    for model in (network, build("mobilenet_v1_0.25_32"), build("convnet5")):
        for layer in golden_layers(model, image_of(model)):
            drawn = "tensors" in vars(layer.node)
            vars(layer.node).pop("tensors", None)
            shape = layer_shape(layer.node, config, winners=3)
            assert "tensors" not in vars(layer.node) and drawn == (layer.node.op == "conv")
            assert shape == (None if layer.job is None else job_shape(layer.job, config, 3)), layer.node.name


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("config", [SMALL, EngineConfig()])
def test_estimates_are_the_program_s_predictions(config, dense, own_weights):
    """A network whose winners an image has settled is estimated as the program that runs the image is predicted."""
    layers = list(golden_layers(own_weights, image_of(own_weights), dense=dense))
    chain = network_chain(own_weights, layers, config, dense=dense)
    results = {layer.node.name: layer.result for layer in layers}
    estimates = estimate_network(own_weights, config, dense=dense, results=results)
    assert [one.predicted for one in estimates] == chain.predictions
    assert [one.winners for one in estimates] == [
        one.winners for one in estimate_network(own_weights, config, dense=dense, results=results)]


def test_estimates_of_rates_draw_no_weights():
    model = build("mobilenet_v2_0.35_96").with_winners(0.25)
    estimates = estimate_network(model, EngineConfig())
    assert not any("tensors" in vars(node) for node in model.layers)
    by_name = {one.name: one for one in estimates}
    node = model.layer("block3_expand")
    assert by_name["block3_expand"].winners == model.winner_count(node.inputs[0])
    assert by_name["block3_expand"].products == node.macs * by_name["block3_expand"].winners // node.input_shapes[0][0]
    dense = estimate_network(model, EngineConfig(), dense=True)
    assert sum(one.products for one in dense) == sum(node.macs for node in model.layers)
    assert [one.ideal_cycles == 0 for one in dense] == [node.op != "conv" for node in model.layers]


def test_an_estimate_names_the_layer_that_the_engine_cannot_run(network):
    tiny = EngineConfig(rows=4, columns=4, act_buffer_bytes=64, weight_buffer_bytes=64, axi_data_bits=64,
                        requantize_lanes=2, output_ring_bytes=64)
    with pytest.raises(PlanError, match=r"^layer stem: act_buffer_bytes: "):
        estimate_network(network, tiny, dense=True)
    with pytest.raises(PlanError):
        build_program([layer.job for layer in golden_layers(network, image_of(network))], tiny,
                      sources=layer_sources(network))


def test_a_number_of_winners_that_depends_on_the_image_has_to_be_known(network):
    with pytest.raises(JobError, match=r"^layer depthwise: expected its winner rate in .*, got none$"):
        estimate_network(network, SMALL)
    known = replace(network, metadata={"winner_rates": {"depthwise": 0.25, "sum": 0.5}})
    estimates = {one.name: one.winners for one in estimate_network(known, SMALL)}
    assert (estimates["mix"], estimates["largest"]) == (4 + 5, 8)


def test_compulsory_bytes(own_weights):
    """Counted by hand: planes and weights of the winners, results, a bit for each channel of a mask."""
    estimates = {one.name: one for one in estimate_network(
        own_weights.with_winners({"stem": 0.5, "mix": 0.25, "sparse": 0.5}), EngineConfig())}
    compulsory = {name: one.compulsory_bytes for name, one in estimates.items()}
    assert compulsory["stem"] == 5 * 13 * 11 + 9 * 5 * 16 + 16 * 30 + 2
    assert compulsory["depthwise"] == 8 * 30 + 8 * 9 + 16 * 30 + 2
    assert compulsory["grouped"] == 8 * 30 + 8 * 3 * 3 + 12 * 30 + 2
    assert compulsory["mix"] == 28 * 30 + 28 * 16 + 16 * 30 + 2
    assert compulsory["sum"] == (8 + 4) * 30 + 16 * 30 + 2 + 2
    assert compulsory["largest"] == 16 * 30 + 16 * 30
    assert compulsory["again"] == (10 + 10) * 4 + 20 * 4 + 3 + 3
    assert compulsory["fc"] == 20 + 200 + 10


def test_sampled_layers(network):
    config = EngineConfig()
    layers = estimate_network(network, config, dense=True)
    names = [one.name for one in layers]
    assert sample_layers(network, config, 100, 0) == names
    drawn = [sample_layers(network, config, 3, seed) for seed in range(200)]
    assert drawn[:5] == [sample_layers(network, config, 3, seed) for seed in range(5)]
    assert all(len(set(one)) == 3 and sorted(one, key=names.index) == one for one in drawn)
    cycles = {one.name: one.predicted.cycles for one in layers}
    single = [sample_layers(network, config, 1, seed)[0] for seed in range(400)]
    for name, count in cycles.items():
        share = count / sum(cycles.values())
        assert abs(single.count(name) / 400 - share) < 4 * (share * (1 - share) / 400) ** 0.5 + 0.005, name


def test_engines_that_record_enough():
    config = EngineConfig(profile_layers=4)
    assert recording(config, 4) is config
    assert recording(config, 5) == replace(config, profile_layers=8)
    assert recording(EngineConfig(), 86).profile_layers == 128
    with pytest.raises(ConfigError, match=r"^profile_layers: the engine cannot record 300 layers of one program; "):
        recording(EngineConfig(), 300)
