"""The networks of the field, written in PyTorch, as int8 networks of the engine."""

from collections import Counter

import pytest
import torch
from torch import nn

from golden.import_torch import import_torch
from golden.preprocess import quantize_input
from golden.quantization import run_batch
from golden.quantize_network import quantize_network
from golden.torch_operators import read_network
from golden.winner_rule import WinnerRule
from hw.config import EngineConfig
from hw.program import build_program
from sim.network import layer_sources
from tests.torch_networks import AlexNet, CifarResNet, MobileNetV2, ResNet, mobilenet_v1, vgg16

# The module, the size of its images, how many layers of each operation and how many max-pools in convolutions.
NETWORKS = {
    "resnet18": (lambda: ResNet((2, 2, 2, 2), 8), 64, dict(conv=21, add=8, mean=1), 1),
    "resnet50": (lambda: ResNet((3, 4, 6, 3), 4, bottleneck=True), 48, dict(conv=54, add=16, mean=1), 1),
    "mobilenet_v1": (lambda: mobilenet_v1(8), 64, dict(conv=28, mean=1), 0),
    "mobilenet_v2": (lambda: MobileNetV2(4), 64, dict(conv=53, add=10, mean=1), 0),
    "vgg16": (lambda: vgg16(8), 32, dict(conv=16), 5),
    "alexnet": (lambda: AlexNet(8), 127, dict(conv=8), 3),
    "resnet20": (CifarResNet, 32, dict(conv=22, add=9, mean=1), 0),
}


def normalized(module: nn.Module) -> nn.Module:
    """``module`` with weights as training begins, and the batch statistics of random images."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(part.weight)
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None  # The mean of all batches, so that of the first.
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.5)
    return module


@pytest.mark.parametrize("name", NETWORKS)
def test_network(name):
    make, size, operations, pools = NETWORKS[name]
    module = normalized(make())
    images = torch.randn(8, 3, size, size)
    with torch.no_grad():
        module.train()(images)
        expected = module.eval()(images)
    floats = read_network(module, images)
    assert Counter(layer.description.op for layer in floats.layers) == operations
    assert sum(getattr(layer.description, "pool", None) is not None for layer in floats.layers) == pools
    output = list(floats.run(images))[-1][1].flatten(1)
    if floats.host:
        output = output.softmax(1)
    assert (output - expected).abs().max() < 1e-3 * expected.std()

    # Random networks amplify what rounding does: each int8 layer is near the float one on the inputs that it has.
    network = quantize_network(floats, images, name=name)
    inputs = quantize_input(network, images)
    real = {"input": (torch.from_numpy(inputs).float() - network.input.zero_point) * network.input.scale}
    for layer, node, result in zip(floats.layers, network.layers, run_batch(network, inputs), strict=True):
        real[node.name] = (result.output.float() - node.output_zero_point) * node.output_scale
        low, high = ((end - node.output_zero_point) * node.output_scale for end in (-128, 127))
        wanted = layer(*(real[source] for source in node.inputs)).clamp(low, high)
        assert (real[node.name] - wanted).square().mean().sqrt() < 0.04 * wanted.std(), node.name


def test_program_of_a_network_with_winners():
    """ResNet-20 with a rule by path on the functional ReLU at a block's end, as one program of a small engine."""
    module = normalized(CifarResNet(1)).eval()
    images = torch.randn(2, 3, 32, 32)
    rules = {f"layer{stage}.0": WinnerRule(rate=0.5) for stage in (1, 2, 3)}
    network = import_torch(module, images, images, winners=rules)
    assert [node.name for node in network.layers if node.ranking] == [f"layer{stage}_0_add" for stage in (1, 2, 3)]
    results = network.run(quantize_input(network, images)[0])
    winners = {node.name: result.winners.sum() for node, (_, result) in zip(network.layers, results, strict=True)}
    assert [winners[f"layer{stage}_0_add"] for stage in (1, 2, 3)] == [8, 16, 32]
    config = EngineConfig(rows=8, columns=8, act_buffer_bytes=16384, weight_buffer_bytes=8192)
    program = build_program([job for job, _ in results], config, sources=layer_sources(network))
    assert len(program.layers) == len(network.layers)
