"""PyTorch modules as int8 networks: weights, winners by the path of a submodule, arguments, files and programs."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from golden.dasnet.winners import attach, attached, detach
from golden.float_layers import FloatNetwork
from golden.import_torch import import_torch
from golden.job import JobError
from golden.network import QuantizedNetwork
from golden.preprocess import quantize_input
from golden.quantization import run_batch
from golden.winner_rule import WinnerRule
from hw.config import EngineConfig
from hw.program import build_program
from sim.network import layer_sources
from tests.torch_modules import IMAGE, Net, drawn, images_of, pixels_of, real_output


def test_weights_and_biases():
    """Per channel, symmetric; a channel whose bias dwarfs its weights keeps its bias."""
    module, images = drawn(nn.Conv2d(6, 4, 3)), images_of(*IMAGE)
    with torch.no_grad():
        module.weight[1] = 0
        module.weight[2] *= 1e-12
        module.weight[3], module.bias[3] = 0, 0
    network = import_torch(module, images, images, method="minmax")
    node = network.layers[0]
    weight = module.weight[0].detach().double()
    step = weight.abs().max().item() / 127
    np.testing.assert_array_equal(node.weight[0], np.round(weight.numpy() / step))
    assert node.bias[0] == round(module.bias[0].item() / step / network.input.scale)
    factors = node.multiplier[0] * 2.0 ** (node.shift[0] - 31)
    assert math.isclose(factors, network.input.scale * step / node.output_scale, rel_tol=1e-8)
    found = real_output(network, images).reshape(4, 4, -1)
    for channel in (1, 2, 3):
        assert np.abs(found[:, channel] - module.bias[channel].item()).max() <= node.output_scale
    assert not found[:, 3].any()


@pytest.mark.parametrize("method", ("minmax", "mse"))
@pytest.mark.parametrize("bias", (0.0, 3.0, -3.0))
def test_layer_of_one_value(method, bias):
    module, images = drawn(nn.Sequential(nn.Conv2d(6, 4, 3), nn.Conv2d(4, 2, 1))), images_of(*IMAGE)
    nn.init.zeros_(module[0].weight)
    nn.init.constant_(module[0].bias, bias)
    assert np.abs(real_output(import_torch(module[:1], images, images, method=method), images) - bias).max() < 0.01
    network = import_torch(module, images, images, method=method)
    off = real_output(network, images) - module(images).detach().flatten(1).numpy()
    assert np.abs(off).max() < 0.02 * max(1, abs(bias))


# Winners


class Blocks(nn.Module):
    """Two residual blocks with one ReLU for all of a block, a pool and a classifier."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.block = Net(lambda net, x: net.relu(net.conv2(net.relu(net.conv1(x))) + x), relu=nn.ReLU(),
                         conv1=nn.Conv2d(8, 8, 1), conv2=nn.Conv2d(8, 8, 1))
        self.dropout = nn.Dropout()
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        x = self.pool(self.relu(self.bn(self.conv(x))))
        return self.fc(self.flatten(self.mean(self.dropout(self.block(x)))))


RATE = WinnerRule(rate=0.5)


@pytest.mark.parametrize("path, layers", [
    ("pool", ["conv"]), ("block.conv2", ["block_conv2"]), ("block", ["block_add"]), ("dropout", ["block_add"]),
    ("block.relu", ["block_conv1", "block_add"]), ("mean", ["mean"]), ("flatten", ["mean"]), ("fc", ["fc"])])
def test_rule_belongs_to_the_layer_whose_output_it_is(path, layers):
    module, images = drawn(Blocks()), images_of(*IMAGE)
    network = import_torch(module, images, images, winners={path: RATE})
    ranked = {node.name: node.ranking for node in network.layers if node.ranking}
    assert list(ranked) == layers
    assert all(rule == RATE.ranking(network.layer(name).output_shape[0], 1) for name, rule in ranked.items())


@pytest.mark.parametrize("winners, message", [
    ({"bn": RATE}, r"winners: bn: expected a submodule that returns a layer's output, as pool does, got one within "
                   r"layer conv"),
    ({"relu": RATE}, r"winners: relu: expected a submodule .*, as pool does, got one within layer conv"),
    ({"block.conv1": RATE}, r"winners: block.conv1: expected a submodule .*, as block.relu does, got one within layer "
                            r"block_conv1"),
    ({"block.relu3": RATE}, r".*expected .* conv, bn, .*, got 'block.relu3'"),
    ({"pool": 0.5}, r"winners: pool: expected a WinnerRule, got float"),
    ({"block": RATE, "dropout": RATE}, r"winners: dropout: expected one rule for layer block_add, got that of block, "
                                       r"too"),
    ({"pool": WinnerRule(value=9)}, r"layer conv: select_value: expected k in 1..8 for topk, got 9")])
def test_refused_rules(winners, message, monkeypatch):
    images = images_of(*IMAGE)
    monkeypatch.setattr(FloatNetwork, "run", None)  # Before any image is run.
    with pytest.raises(JobError, match=f"^{message}$"):
        import_torch(drawn(Blocks()), images, images, winners=winners)


def test_rule_where_others_read_the_output_before_it():
    module = Net(lambda net, x: net.drop(y := net.conv(x).relu()) + y, conv=nn.Conv2d(6, 8, 3),
                 drop=nn.Identity())
    with pytest.raises(JobError, match=r"^winners: drop: expected a submodule that returns a layer's output, got one "
                                       r"within layer conv$"):
        import_torch(drawn(module), images_of(*IMAGE), images_of(*IMAGE), winners={"drop": RATE})
    flat = nn.Sequential(nn.Conv2d(6, 2, 3), nn.Flatten(), nn.Linear(2 * 56, 2))  # Its features are no channels.
    with pytest.raises(JobError, match=r"^winners: 1: expected a submodule .*, as 0 does, got one within layer 0$"):
        import_torch(flat, images_of(*IMAGE), images_of(*IMAGE), winners={"1": RATE})


def test_winners_of_the_module_itself_are_taken():
    """Attached rules are those of the int8 network, which selects as the float one; the module stays as it was."""
    module, images = drawn(Blocks()).train(), images_of(*IMAGE)
    module.dropout.eval()
    before = attach(module, {"pool": RATE, "block": WinnerRule(select="energy", eps=0.7)})
    before["block"].dense = True
    parameters = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    network = import_torch(module, images, images)
    assert attached(module) == before and before["block"].dense and not before["pool"].dense
    assert module.training and not module.dropout.training
    assert all(torch.equal(tensor, parameters[name]) for name, tensor in module.state_dict().items())

    assert {node.name for node in network.layers if node.ranking} == {"conv", "block_add"}
    before["block"].dense = False
    off = real_output(network, images) - module.eval()(images).detach().numpy()
    assert np.sqrt(np.square(off).mean()) < 0.1 * np.sqrt(np.square(real_output(network, images)).mean())
    winners = run_batch(network, quantize_input(network, images))[0].winners.numpy()
    assert (winners.sum(1) == 4).all()
    detach(module)
    scores = module.pool(module.relu(module.bn(module.conv(images)))).detach().amax((2, 3)).numpy()
    worst, best = (np.where(winners == won, scores, bound) for won, bound in ((1, np.inf), (0, -np.inf)))
    assert (worst.min(1) >= best.max(1) - network.layers[0].output_scale).all()


# Arguments


@pytest.mark.parametrize("changes, message", [
    ({"module": 3}, "module: expected an nn.Module, got int"),
    ({"example_input": images_of(1, 6, 9, 10).int()}, r"example_input: expected one float tensor \[N, ...\], got "
                                                      r"torch.int32 \[1, 6, 9, 10\]"),
    ({"example_input": (images_of(*IMAGE),)}, r"example_input: expected one float tensor \[N, ...\], got tuple"),
    ({"calibration": images_of(2, 6, 9, 9)}, r"calibration: expected float images \[N, 6, 9, 10\], at least one, got "
                                             r"torch.float32 \[2, 6, 9, 9\]"),
    ({"calibration": pixels_of(2, 6, 9, 10)}, r"calibration: expected float images .*, got torch.uint8 .*"),
    ({"calibration": images_of(0, 6, 9, 10)}, r"calibration: expected .*, got torch.float32 \[0, 6, 9, 10\]"),
    ({"calibration": [1.0]}, r"calibration: expected .*, got list"),
    ({"method": "best"}, r"method: expected one of minmax, mse, got 'best'"),
    ({"normalize": [0.5] * 6}, r"normalize: expected \(mean, std\), got .*"),
    ({"normalize": ([0.5] * 3, [1] * 3)}, r"normalize: expected numbers for 6 channels, got \(0.5, 0.5, 0.5\)"),
    ({"normalize": ([0.5] * 6, [0] * 6)}, r"normalize: std: expected numbers above 0, got .*"),
    ({"normalize": ([0.5] * 6, [1] * 5)}, r"normalize: std: expected as many numbers as mean, 6, got 5"),
    ({"normalize": (0.5, 1)}, r"normalize: mean: expected a number for each channel, got 0.5")])
def test_refused_arguments(changes, message):
    arguments = {"module": nn.Conv2d(6, 2, 1), "example_input": images_of(*IMAGE), "calibration": images_of(*IMAGE)}
    with pytest.raises(JobError, match=f"^{message}$"):
        import_torch(**arguments | changes)


# What becomes of the network


@pytest.fixture(scope="module")
def blocks() -> tuple[nn.Module, Tensor, QuantizedNetwork]:
    module, images = drawn(Blocks()), images_of(*IMAGE)
    return module, images, import_torch(module, images, images, winners={"pool": RATE, "block": RATE}, name="blocks")


def test_metadata(blocks):
    network = blocks[2]
    assert network.metadata == {
        "calibration": {"images": 4, "method": "mse"},
        "submodules": {"conv": "pool", "block_conv1": "block.relu", "block_conv2": "block.conv2",
                       "block_add": "block.relu", "mean": "mean", "fc": "fc"}}
    assert not network.weights_are_random
    module, images = nn.Sequential(nn.Conv2d(6, 2, 1), nn.Softmax(1)), images_of(*IMAGE)
    assert import_torch(drawn(module), images, images).metadata["host"] == "softmax"


@pytest.mark.parametrize("file", ("network.npz", "network.json"))
def test_saved_and_loaded(blocks, file, tmp_path):
    _, images, network = blocks
    network.save(tmp_path / file)
    loaded = QuantizedNetwork.load(tmp_path / file)
    inputs = quantize_input(network, images)
    for one, other in zip(run_batch(network, inputs), run_batch(loaded, inputs), strict=True):
        assert all(map(torch.equal, one, other))
    assert loaded.metadata == network.metadata


def test_runs_as_a_program(blocks):
    _, images, network = blocks
    jobs = [job for job, _ in network.run(quantize_input(network, images)[0])]
    config = EngineConfig(rows=4, columns=4, act_buffer_bytes=4096, weight_buffer_bytes=4096)
    program = build_program(jobs, config, sources=layer_sources(network))
    assert len(program.layers) == len(network.layers) and program.descriptor_count >= len(jobs)
