"""Multiplications of float networks, against numbers worked out by hand and torch's own counter."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from golden.checks import JobError
from golden.dasnet.macs import LayerMacs, count, reduction, total, without_zeros
from golden.dasnet.recipes import recipe
from golden.dasnet.winners import attach, attached
from golden.networks import build
from golden.winner_rule import WinnerRule


class Net(nn.Module):
    """Submodules by name, and any function of them as the forward pass."""

    def __init__(self, forward, **modules: nn.Module):
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.function = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def conv(channels: int, outputs: int, kernel: int = 3, **options: int) -> nn.Conv2d:
    return nn.Conv2d(channels, outputs, kernel, padding=kernel // 2, **options)


def behind(operation, channels: int = 8, **modules: nn.Module) -> Net:
    """relu, ranked, then ``operation`` on its output [N,8,4,4], then a 1x1 convolution of ``channels`` inputs."""
    return Net(lambda net, x: net.conv(operation(net, net.relu(x))), relu=nn.ReLU(), conv=conv(channels, 2, 1),
               **modules)


def test_a_chain_by_hand():
    network = nn.Sequential()
    for name, module in (
            ("conv1", conv(3, 8)), ("relu1", nn.ReLU()), ("pool1", nn.MaxPool2d(2)), ("conv2", conv(8, 16, stride=2)),
            ("relu2", nn.ReLU(inplace=True)), ("flatten", nn.Flatten()), ("dropout", nn.Dropout()),
            ("fc1", nn.Linear(144, 20)), ("relu3", nn.ReLU()), ("fc2", nn.Linear(20, 5))):
        network.add_module(name, module)
    attach(network, {"pool1": WinnerRule(value=1)})
    found = count(network, torch.zeros(2, 3, 12, 12), {"pool1": 0.25, "relu2": 12, "relu3": 3.5})
    assert found == [
        LayerMacs("conv1", 12 * 12 * 8 * 3 * 9, 12 * 12 * 8 * 3 * 9, False),
        LayerMacs("conv2", 3 * 3 * 16 * 8 * 9, 3 * 3 * 16 * 2 * 9, True),
        LayerMacs("fc1", 144 * 20, 12 * 9 * 20, True),  # each of 16 channels has 9 pixels
        LayerMacs("fc2", 20 * 5, 3.5 * 5, True),
    ]
    assert total(found) == (31104 + 10368 + 2880 + 100, 31104 + 2592 + 2160 + 17.5)
    assert reduction(found) == 1 - 35873.5 / 44452
    assert network.training and not attached(network)["pool1"].dense
    assert len(network.pool1._forward_hooks) == 1 and not network.conv1._forward_hooks
    everyone = count(network, torch.zeros(1, 3, 12, 12), {"pool1": 1})  # a rate
    assert everyone[1] == LayerMacs("conv2", 10368, 10368, True)
    dense = count(network, torch.zeros(1, 3, 12, 12), {})
    assert [layer.winners for layer in dense] == [layer.dense for layer in found]
    assert not any(layer.masked for layer in dense) and reduction(dense) == 0


OPERATIONS = {
    "nothing": lambda net, x: x,
    "relu6": lambda net, x: functional.relu6(x),
    "hardswish": lambda net, x: functional.hardswish(x),
    "dropout": lambda net, x: functional.dropout(x),
    "max pool": lambda net, x: functional.max_pool2d(x, 2),
    "average pool": lambda net, x: functional.avg_pool2d(x, 2),
    "adaptive pool": lambda net, x: functional.adaptive_avg_pool2d(x, 1),
    "mean": lambda net, x: x.mean(dim=(2, 3), keepdim=True),
    "negative axes": lambda net, x: x.mean((-1, -2), True),
    "maximum": lambda net, x: x.amax((2, 3), keepdim=True),
    "every other pixel": lambda net, x: x[:, :, ::2, 1::2],
    "in place": lambda net, x: x.relu_(),
    "rows in a row": lambda net, x: x.view(-1, 8, 1, 16),
    "contiguous": lambda net, x: x.contiguous(memory_format=torch.channels_last),
}
UNKNOWN = {
    "batch norm": lambda net, x: net.bn(x),
    "sum": lambda net, x: x + x,
    "sum in place": lambda net, x: x.add_(1),
    "product": lambda net, x: x * 2,
    "sigmoid": lambda net, x: x.sigmoid(),
    "softplus": lambda net, x: functional.softplus(x),
    "turned": lambda net, x: x.flip(1),
    "shuffled": lambda net, x: x.view(-1, 2, 4, 4, 4).transpose(1, 2).reshape(-1, 8, 4, 4),
    "halves of images": lambda net, x: x.reshape(-1, 8, 2, 4),
    "maps of neurons": lambda net, x: x.flatten(1).view(-1, 8, 4, 4),
    "other axes": lambda net, x: x.permute(0, 2, 1, 3).repeat(1, 2, 1, 1),
    "more channels": lambda net, x: functional.pad(x[:, :4], (0, 0, 0, 0, 2, 2)),
    "ranked over columns": lambda net, x: x.mean(1, keepdim=True).expand(-1, 8, -1, -1),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_that_keep_channels_apart_and_zeros_zero(name):
    found, = count(behind(OPERATIONS[name]), torch.rand(2, 8, 4, 4), {"relu": 0.5})
    assert found.masked and found.winners == found.dense / 2


@pytest.mark.parametrize("name", UNKNOWN)
def test_behind_other_operations_all_channels_count(name):
    found, = count(behind(UNKNOWN[name], bn=nn.BatchNorm2d(8)), torch.rand(2, 8, 4, 4), {"relu": 0.5})
    assert not found.masked and found.winners == found.dense


@pytest.mark.parametrize("operation", [
    lambda x: functional.adaptive_avg_pool2d(x, 1).squeeze(3).squeeze(2), lambda x: x.mean((2, 3)),
    lambda x: x.amax((2, 3)), lambda x: x[:, :, 0, 0], lambda x: functional.max_pool2d(x, 4).view(len(x), -1)])
def test_maps_become_neurons(operation):
    network = Net(lambda net, x: net.fc(operation(net.relu(x))), relu=nn.ReLU(), fc=nn.Linear(8, 3))
    assert count(network, torch.rand(2, 8, 4, 4), {"relu": 2}) == [LayerMacs("fc", 24, 6, True)]


def test_masks_hold_what_is_counted():
    """Where the count says that losers are skipped, they are indeed zero in the input of the convolution."""
    x = torch.rand(2, 8, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.1
    for operation in OPERATIONS.values():
        network, seen = behind(operation).eval(), []
        network.conv.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        attach(network, {"relu": WinnerRule(value=3)})
        network(x)
        assert (seen[0].ne(0).flatten(2).any(2).sum(1) == 3).all()


def test_a_mean_over_channels_is_no_ranked_tensor():
    """Of as many rows as channels, so that the shape does not tell."""
    network = Net(lambda net, x: net.fc(net.relu(x).mean(1).flatten(1)), relu=nn.ReLU(), fc=nn.Linear(64, 3))
    found, = count(network, torch.rand(2, 8, 8, 8), {"relu": 0.5})
    assert found == LayerMacs("fc", 64 * 3, 64 * 3, False)


def test_depthwise_and_grouped_layers_multiply_winners_only():
    network = nn.Sequential(conv(4, 12), nn.ReLU(), conv(12, 12, groups=12), nn.ReLU(), conv(12, 6, 1), nn.ReLU(),
                            conv(6, 4, groups=2))
    found = count(network, torch.zeros(1, 4, 5, 5), {"1": 0.25, "5": 0.5})
    assert [(layer.dense, layer.winners, layer.masked) for layer in found] == [
        (25 * 12 * 4 * 9, 25 * 12 * 4 * 9, False), (25 * 12 * 9, 25 * 3 * 9, True), (25 * 6 * 12, 25 * 6 * 12, False),
        (25 * 4 * 3 * 9, 25 * 2 * 3 * 9, True)]


def residual(net: Net, x: Tensor) -> Tensor:
    x = net.relu0(net.conv0(x))
    y = net.conv2(net.relu1(net.conv1(x)))
    return net.conv3(net.relu2(x + y))


def test_a_sum_is_dense_unless_it_is_ranked_itself():
    modules = {f"conv{number}": conv(4, 4) for number in range(4)} | {f"relu{n}": nn.ReLU() for n in range(3)}
    network, x, dense = Net(residual, **modules), torch.zeros(1, 4, 6, 6), 36 * 4 * 4 * 9
    both = count(network, x, {"relu0": 0.5, "relu1": 0.25})
    assert [layer.winners for layer in both] == [dense, dense / 2, dense / 4, dense]
    ranked = count(network, x, {"relu1": 0.25, "relu2": 3})
    assert [layer.winners for layer in ranked] == [dense, dense, dense / 4, dense * 3 / 4]
    assert [layer.path for layer in ranked] == ["conv0", "conv1", "conv2", "conv3"]


def test_a_concatenation_adds_winners_up():
    network = Net(lambda net, x: net.conv(torch.cat([net.one(x), x, net.two(x[:, :4])], 1)), one=nn.ReLU(),
                  two=nn.ReLU(), conv=conv(20, 2, 1))
    found, = count(network, torch.zeros(1, 8, 3, 3), {"one": 0.25, "two": 1.5})
    assert found.masked and found.winners == pytest.approx(9 * 2 * (2 + 8 + 1.5))
    assert not count(network, torch.zeros(1, 8, 3, 3), {})[0].masked
    stacked = Net(lambda net, x: net.conv(torch.cat([net.one(x), x], 2)), one=nn.ReLU(), conv=conv(8, 2, 1))
    assert not count(stacked, torch.zeros(1, 8, 3, 3), {"one": 0.25})[0].masked


def test_a_block_can_be_ranked_as_a_whole():
    network = nn.Sequential(nn.Sequential(conv(3, 6), nn.ReLU()), nn.Identity(), conv(6, 2))
    found = count(network, torch.zeros(1, 3, 4, 4), {"0": 2})
    assert [(layer.path, layer.masked) for layer in found] == [("0.0", False), ("2", True)]
    assert found[1].winners == found[1].dense / 3


def test_products_outside_of_layers_are_counted_or_refused():
    kernel = torch.ones(2, 8, 1, 1)
    found, = count(Net(lambda net, x: functional.conv2d(net.relu(x), kernel), relu=nn.ReLU()), torch.zeros(1, 8, 3, 3),
                   {"relu": 0.5})
    assert found == LayerMacs("", 9 * 16, 9 * 8, True)
    attention = nn.Sequential(nn.Sequential(nn.ReLU(), Net(lambda net, x: x.flatten(2) @ x.flatten(2).mT)))
    with pytest.raises(JobError, match=r"^layer 0\.1: expected products of conv2d and linear, got matmul$"):
        count(attention, torch.zeros(1, 2, 3, 3), {})
    assert all(not (module._forward_hooks or module._forward_pre_hooks) for module in attention.modules())


def test_dense_counts_are_those_of_torch_and_of_the_int8_network():
    network = nn.Sequential(conv(3, 10, stride=2), nn.ReLU(), conv(10, 20, 5, groups=5), nn.MaxPool2d(2),
                            nn.Conv2d(20, 8, (1, 3), padding="same", dilation=2), nn.Flatten(), nn.Linear(128, 9))
    x = torch.zeros(3, 3, 16, 16)
    with FlopCounterMode(display=False) as counter:
        network(x)
    assert 2 * 3 * total(count(network, x, {}))[0] == counter.get_total_flops()

    example = torch.zeros(1, 1, 28, 28)
    found = count(recipe("lenet4").build(), example, {"pool1": 16, "pool2": 24, "relu3": 154})
    nodes = build("lenet4").layers
    assert [(layer.path, layer.dense) for layer in found] == [(node.name, node.macs) for node in nodes]
    assert [layer.winners / layer.dense for layer in found] == pytest.approx([1, 16 / 32, 24 / 64, 154 / 1024])


def test_zero_weights_of_winners():
    """Counted value by value: which products have a weight that is not zero, and an input that wins."""
    generator = torch.Generator().manual_seed(3)
    network = nn.Sequential()
    for name, module in (
            ("conv1", conv(2, 8)), ("relu1", nn.ReLU()), ("conv2", conv(8, 12, groups=2)), ("relu2", nn.ReLU()),
            ("flatten", nn.Flatten()), ("fc1", nn.Linear(12 * 16, 10)), ("relu3", nn.ReLU()),
            ("fc2", nn.Linear(10, 3))):
        network.add_module(name, module)
    for module in network.modules():
        if hasattr(module, "weight"):
            module.weight.data *= torch.rand(module.weight.shape, generator=generator) < 0.3
    often = {"relu1": torch.rand(8, generator=generator), "relu2": torch.rand(12, generator=generator),
             "relu3": torch.rand(10, generator=generator)}
    found = {layer.path: layer for layer in count(network, torch.zeros(1, 2, 4, 4), often)}
    used = {name: (network.get_submodule(name).weight != 0).double() for name in found}
    expected = {"conv1": used["conv1"].sum() * 16, "conv2": 0.0, "fc1": 0.0}
    for output in range(12):
        for channel in range(4):  # of the output's group
            expected["conv2"] += 16 * used["conv2"][output, channel].sum() * often["relu1"][4 * (output // 6) + channel]
    for neuron in range(12 * 16):
        expected["fc1"] += used["fc1"][:, neuron].sum() * often["relu2"][neuron // 16]
    expected["fc2"] = (used["fc2"] * often["relu3"]).sum()
    for name, value in expected.items():
        assert found[name].winners - found[name].winner_zeros == pytest.approx(value.item(), rel=1e-6), name
        assert found[name].dense - found[name].zeros == used[name].sum() * (16 if name.startswith("conv") else 1)
    assert found["conv2"].winners == pytest.approx(found["conv2"].dense * often["relu1"].mean().item())
    static, both = without_zeros(list(found.values()))
    assert static == sum(layer.dense - layer.zeros for layer in found.values())
    assert both == pytest.approx(sum(expected.values()).item())


def test_winners_of_joined_tensors_keep_their_places():
    network = Net(lambda net, x: net.last(torch.cat((net.right(x), net.left(x)), 1)), left=conv(2, 2, 1),
                  right=conv(2, 3, 1), last=conv(5, 1, 1))
    network.last.weight.data = torch.tensor([0.0, 1, 0, 1, 0]).reshape(1, 5, 1, 1)
    layer = count(network, torch.zeros(1, 2, 1, 1), {"left": torch.tensor([0.25, 0.5])})[-1]
    assert layer.winners == 3 + 0.75 and layer.winners - layer.winner_zeros == 1 + 0.25


def test_bad_arguments_are_refused_by_name():
    network, x = behind(OPERATIONS["nothing"]), torch.zeros(1, 8, 4, 4)
    for winners, message in (
            ({"relu9": 0.5}, "layer: expected one of relu, conv, got 'relu9'"),
            ({"relu": 0}, "layer relu: expected a winner rate or a number of winners, above 0, got 0"),
            ({"relu": "half"}, "layer relu: expected a winner rate or a number of winners, above 0, got 'half'"),
            ({"relu": torch.ones(7)}, "layer relu: expected how often each of 8 channels wins, got 7"),
            ({"relu": torch.full((8,), 1.5)},
             r"layer relu: expected how often each channel wins, \[C\] in 0\.\.1, got \[8\]"),
            ({"relu": 8.5}, r"layer relu: expected at most 8 winners, got 8\.5")):
        with pytest.raises(JobError, match=f"^{message}$"):
            count(network, x, winners)
    assert not network.relu._forward_hooks
