"""Weight pruning: what is left out, that it stays out, and that the engine's blocks are zero."""

import pytest
import torch
from torch import nn

from golden.checks import JobError
from golden.dasnet.pruning import (
    Pruning,
    block_masks,
    block_norms,
    linear_taps,
    magnitude_masks,
    prunable,
    prune,
    sparsity,
    zero_masks,
)
from golden.dasnet.recipes import recipe
from golden.import_torch import import_torch
from golden.sparsity import zero_blocks
from hw.packing import used_blocks


def small_network() -> nn.Sequential:
    """Convolutions 3x3, grouped and depthwise, then fc of a flattened 2x2 map, and fc."""
    torch.manual_seed(0)
    network = nn.Sequential()
    for name, module in (
            ("conv", nn.Conv2d(5, 12, 3, padding=1)), ("relu1", nn.ReLU()),
            ("grouped", nn.Conv2d(12, 10, 3, padding=1, groups=2)), ("relu2", nn.ReLU()),
            ("depthwise", nn.Conv2d(10, 10, 3, padding=1, groups=10)), ("relu3", nn.ReLU()), ("pool", nn.MaxPool2d(2)),
            ("flatten", nn.Flatten()), ("fc1", nn.Linear(40, 11)), ("relu4", nn.ReLU()), ("fc2", nn.Linear(11, 3))):
        network.add_module(name, module)
    return network


def int8_weight(layer: nn.Module, kernel: tuple[int, int]):
    """The weight int8 [O,C/groups,KH,KW] of the layer quantized as a convolution, each output channel to 127."""
    weight = layer.weight.detach().reshape(len(layer.weight), -1, *kernel)
    return (127 * weight / weight.abs().amax((1, 2, 3), keepdim=True)).round().to(torch.int8).numpy()


def test_magnitude_masks_leave_out_the_smallest():
    network = small_network()
    masks = magnitude_masks(network, {"fc1": 0.828, "fc2": 0.5, "conv": 0})
    assert [int((~mask).sum()) for mask in masks.values()] == [round(0.828 * 440), 16, 0]  # 16.5 goes to the even one
    for name, mask in masks.items():
        magnitudes = network.get_submodule(name).weight.detach().abs()
        assert mask.shape == magnitudes.shape and mask.dtype == torch.bool
        assert not (~mask).any() or magnitudes[~mask].max() <= magnitudes[mask].min()
    network.fc2.weight.data.fill_(-1)
    assert magnitude_masks(network, {"fc2": 0.5})["fc2"].flatten().tolist() == [False] * 16 + [True] * 17


@pytest.mark.parametrize("name, taps, kernel", [("conv", 1, (3, 3)), ("grouped", 1, (3, 3)), ("depthwise", 1, (3, 3)),
                                                ("fc1", 4, (2, 2)), ("fc2", 1, (1, 1))])
@pytest.mark.parametrize("columns", [1, 4, 5, 16])
def test_blocks_are_those_that_the_engine_skips(name, taps, kernel, columns):
    network = small_network()
    layer = network.get_submodule(name)
    groups = getattr(layer, "groups", 1)
    weight = layer.weight.detach().double().reshape(len(layer.weight), -1, *kernel)
    width, depth = len(weight) // groups, weight.shape[1]
    norms = torch.tensor([[weight[first + start : first + min(start + columns, width), channel].norm().item()
                           for channel in range(depth)]
                          for first in range(0, len(weight), width) for start in range(0, width, columns)])
    torch.testing.assert_close(block_norms(layer, columns, taps=taps).float(), norms)

    # A block that int8 rounds away would be zero too: there is none in weights of this spread but by the mask.
    masks = block_masks(network, {name: 0.4}, columns=columns, taps={name: taps} if taps > 1 else None)
    Pruning(network, masks)
    least = norms.flatten().argsort()[: round(0.4 * norms.numel())]
    expected = torch.zeros(norms.numel(), dtype=torch.bool).index_fill(0, least, True).reshape(norms.shape)
    quantized = int8_weight(layer, kernel)
    assert zero_blocks(quantized, columns, groups=groups).tolist() == expected.tolist()
    assert used_blocks(quantized, columns, groups).reshape(expected.shape).tolist() == (~expected).tolist()
    assert (layer.weight[masks[name]] != 0).all()


@pytest.mark.parametrize("optimizer", [
    lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01),
    lambda parameters: torch.optim.AdamW(parameters, lr=0.01)])
def test_masks_hold_through_fine_tuning(optimizer):
    network = small_network()
    optimizer = optimizer(network.parameters())
    x, labels = torch.randn(20, 5, 4, 4, generator=torch.Generator().manual_seed(1)), torch.arange(20) % 3

    def step():
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), labels).backward()
        optimizer.step()

    step()  # There is momentum before the weights are pruned.
    masks = magnitude_masks(network, {"fc1": 0.7}) | block_masks(network, {"conv": 0.5}, columns=4)
    pruning = Pruning(network, masks)
    assert all((network.get_submodule(name).weight[~mask] == 0).all() for name, mask in masks.items())
    before = {name: network.get_submodule(name).weight.detach().clone() for name in masks}
    handle = pruning.follow(optimizer)
    for _ in range(3):
        step()
    for name, mask in masks.items():
        weight = network.get_submodule(name).weight
        assert (weight[~mask] == 0).all() and (weight[mask] != before[name][mask]).float().mean() > 0.9
    handle.remove()
    step()
    assert any((network.get_submodule(name).weight[~mask] != 0).any() for name, mask in masks.items())
    pruning.apply()
    assert all((network.get_submodule(name).weight[~mask] == 0).all() for name, mask in masks.items())


def test_masks_outlive_a_checkpoint(tmp_path):
    network = small_network()
    pruning = Pruning(network, magnitude_masks(network, {"fc1": 0.7}))
    torch.save({"network": network.state_dict(), "masks": pruning.masks}, tmp_path / "state")
    state = torch.load(tmp_path / "state", weights_only=True)
    other = small_network()
    assert list(state["network"]) == list(other.state_dict())
    resumed = Pruning(other, state["masks"])
    assert torch.equal(other.fc1.weight, network.fc1.weight) and torch.equal(resumed.masks["fc1"], pruning.masks["fc1"])


def test_blocks_and_weights_together():
    network, x = small_network(), torch.zeros(1, 5, 4, 4)
    blocks, magnitudes = {"conv": 0.4, "fc1": 0.3}, {"fc1": 0.5, "fc2": 0.25}
    before = {path: layer.weight.detach().clone() for path, layer in prunable(network).items()}
    pruning = prune(network, x, magnitudes=magnitudes, blocks=blocks, columns=4)
    zeros = {path: one.zeros for path, one in sparsity(network).items()}
    # conv: 3 of 5 groups of 4 outputs times 5 inputs stay; fc1: half of all, its blocks among them; fc2: 8 of 33.
    assert zeros == {"conv": 6 * 4 * 9, "grouped": 0, "depthwise": 0, "fc1": 220, "fc2": 8}
    expected = block_masks(small_network(), {"fc1": 0.3}, columns=4, taps={"fc1": 4})["fc1"]
    assert (network.fc1.weight[~expected] == 0).all()
    left = before["fc1"][expected].abs()
    assert torch.equal(network.fc1.weight != 0, expected & (before["fc1"].abs() >= left.sort().values[-220]))
    assert sorted(pruning.masks) == ["conv", "fc1", "fc2"]
    assert all(torch.equal(mask, network.get_submodule(path).weight != 0) for path, mask in pruning.masks.items())
    # A second time the same fractions leave out what is zero already.
    prune(network, x, magnitudes=magnitudes, blocks=blocks, columns=4)
    assert {path: one.zeros for path, one in sparsity(network).items()} == zeros
    # The engine's network has these blocks.
    images = torch.rand(8, 5, 4, 4, generator=torch.Generator().manual_seed(2))
    found = import_torch(network.eval(), images[:1], images).zero_blocks(4)
    assert found["conv"].sum() == 6 and found["fc1"].sum() >= round(0.3 * 30)


@pytest.mark.parametrize("name, taps", [("mlp3", {"fc1": 1, "fc2": 1, "fc3": 1}), ("lenet4", {"fc1": 49, "fc2": 1}),
                                        ("resnet20", {"linear": 1}), ("alexnet", {"fc6": 16, "fc7": 1, "fc8": 1})])
def test_taps_of_linear_layers(name, taps):
    shape = {"mlp3": (784,), "lenet4": (1, 28, 28)}.get(name, (3, 32, 32))
    assert linear_taps(recipe(name).build(), torch.zeros(1, *shape)) == taps


def test_masks_of_what_is_zero():
    network = small_network()
    assert zero_masks(network) == {}
    network.fc2.weight.data[1, 2] = 0
    masks = zero_masks(network)
    assert list(masks) == ["fc2"] and (~masks["fc2"]).nonzero().tolist() == [[1, 2]]


def test_sparsity_counts_zeros():
    network = small_network()
    assert {path: (one.weights, one.zeros) for path, one in sparsity(network).items()} == {
        "conv": (540, 0), "grouped": (540, 0), "depthwise": (90, 0), "fc1": (440, 0), "fc2": (33, 0)}
    Pruning(network, magnitude_masks(network, {"fc1": 0.828}))
    assert sparsity(network)["fc1"].zeros == 364 and sparsity(network)["fc1"].kept == pytest.approx(76 / 440)


def test_bad_arguments_are_refused_by_name():
    network = small_network()
    mask = torch.ones(11, 40)
    cases = [
        (lambda: prune(network, torch.zeros(1, 5, 4, 4), magnitudes={}, blocks={"pool": 0.5}, columns=4),
         "blocks: expected layers among conv, grouped, depthwise, fc1, fc2, got 'pool'"),
        (lambda: magnitude_masks(network, {"fc9": 0.5}), "layer: expected one of conv, .*, got 'fc9'"),
        (lambda: magnitude_masks(network, {"relu1": 0.5}), "layer relu1: expected a Conv2d or Linear, got ReLU"),
        (lambda: magnitude_masks(network, {"fc1": 1.5}), r"layer fc1: expected a fraction in 0\.\.1, got 1\.5"),
        (lambda: block_masks(network, {"fc1": "half"}, columns=4),
         r"layer fc1: expected a fraction in 0\.\.1, got 'half'"),
        (lambda: block_masks(network, {"fc1": 0.5}, columns=0), r"columns: expected an integer in 1\.\..*, got 0"),
        (lambda: block_masks(network, {"fc1": 0.5}, columns=4, taps={"fc2": 4}),
         "taps: expected layers among fc1, got 'fc2'"),
        (lambda: block_masks(network, {"fc1": 0.5}, columns=4, taps={"fc1": 3}),
         "layer fc1: taps: expected a divisor of 40 inputs, got 3"),
        (lambda: block_masks(network, {"conv": 0.5}, columns=4, taps={"conv": 9}),
         "layer conv: taps: expected none for a Conv2d, whose kernel says them, got 9"),
        (lambda: Pruning(network, {"fc1": mask}),
         r"layer fc1: expected a mask bool \[11, 40\], got torch\.float32 \[11, 40\]"),
        (lambda: Pruning(network, {"fc1": mask.bool().T}),
         r"layer fc1: expected a mask bool \[11, 40\], got torch\.bool \[40, 11\]"),
    ]
    for call, message in cases:
        with pytest.raises(JobError, match=f"^{message}$"):
            call()
