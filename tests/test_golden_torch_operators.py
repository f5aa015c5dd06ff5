"""Every operator of PyTorch that can be imported: in float as the module itself, in int8 within what scales bound."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from golden.float_layers import FloatNetwork
from golden.import_torch import import_torch
from golden.job import JobError
from golden.network import QuantizedNetwork
from golden.operators import max_pool
from golden.preprocess import quantize_input, quantize_pixels
from golden.quantization import run_batch
from golden.quantize_network import quantize_network
from golden.torch_operators import read_network
from hw.config import EngineConfig
from hw.program import build_program
from sim.network import layer_sources
from tests.torch_modules import IMAGE, Net, drawn, images_of, pixels_of, real_output


def worst_errors(floats: FloatNetwork, network: QuantizedNetwork, images: Tensor) -> dict[str, float]:
    """For each tensor the most that the int8 one can be off, if no value of the float one leaves its range.

    Inputs and weights are off by half a step, or as far as the layers before are. A result is rounded by half a step,
    and the zero point of its range by another half. Activations and max-pools bring nothing further apart.
    """
    largest = {name: output.abs().max().item() for name, output in floats.run(images)}
    errors = {"input": network.input.scale / 2}
    for layer, node in zip(floats.layers, network.layers, strict=True):
        before = max(errors[name] for name in layer.inputs)
        if node.op == "conv" and not layer.exact:
            weight = layer.weight.flatten(1).abs().double()
            step = weight.amax(1) / 127
            size = largest[layer.inputs[0]] + before
            before = (weight.sum(1) * before + step / 2 * (weight.shape[1] * size + node.sources[0].scale)).max().item()
        if node.op == "add":
            before = sum(errors[name] for name in layer.inputs)
        rounded = {"mean": 1.01, "add": 1.02, "average_pool": 0.5, "conv": 0 if layer.exact else 1.01}
        six = 0.5 if getattr(layer.description, "activation", None) == "relu6" else 0
        errors[layer.name] = before + node.output_scale * (rounded.get(node.op, 0) + six)
    return errors


CONV = dict(conv=nn.Conv2d(6, 8, 3, padding=1))


def conv(net, x):
    return net.conv(x)


def shortcut(x):
    return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 3, 2), "constant", 0)


def in_place(net, x):
    y = net.conv(x)
    functional.relu(y, inplace=True)
    return y + functional.max_pool2d(y, 3, 1, 1)


def squeezed(net, x):
    return net.fc(functional.adaptive_avg_pool2d(x, 1).squeeze())


def unsqueezed(net, x):
    return net.conv(x.mean((2, 3)).unsqueeze(2)[..., None])


def flat_sum(net, x):
    y = net.conv(x)
    return net.fc(y.flatten(1) + torch.relu(y).view(len(x), -1))


def once_more(net, x):
    y = net.conv(x)
    return torch.cat([x, y, torch.cat([y, x], 1)], 1)


OPERATORS = {
    "convolution": (nn.Conv2d(6, 8, 3), ["conv"]),
    "without bias": (nn.Conv2d(6, 8, 3, bias=False), ["conv"]),
    "stride and padding": (nn.Conv2d(6, 8, (3, 5), (2, 3), (1, 2)), ["conv"]),
    "groups": (nn.Conv2d(6, 9, 3, groups=3), ["conv"]),
    "depthwise": (nn.Conv2d(6, 12, 3, padding=1, groups=6), ["conv"]),
    "same": (nn.Conv2d(6, 4, (4, 3), padding="same"), ["conv"]),
    "valid": (nn.Conv2d(6, 4, 3, padding="valid"), ["conv"]),
    "pad": (nn.Sequential(nn.ZeroPad2d((0, 1, 2, 1)), nn.Conv2d(6, 4, 3, 2, padding=(0, 1))), ["conv"]),
    "weight norm": (nn.utils.parametrizations.weight_norm(nn.Conv2d(6, 4, 3)), ["conv"]),
    "batch norm": (nn.Sequential(nn.Conv2d(6, 8, 3, bias=False), nn.BatchNorm2d(8)), ["conv"]),
    "batch norm without gain": (nn.Sequential(nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8, affine=False)), ["conv"]),
    "batch norm first": (nn.Sequential(nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3)), ["conv", "conv"]),
    "batch norm behind relu": (nn.Sequential(nn.Conv2d(6, 8, 3), nn.ReLU(), nn.BatchNorm2d(8)), ["conv", "conv"]),
    "batch norm of neurons": (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 7), nn.BatchNorm1d(7)),
                              ["mean", "conv"]),
    "relu": (nn.Sequential(nn.Conv2d(6, 8, 3), nn.ReLU()), ["conv"]),
    "relu6": (nn.Sequential(nn.Conv2d(6, 8, 3), nn.ReLU6(inplace=True), nn.ReLU()), ["conv"]),
    "hardtanh": (nn.Sequential(nn.Conv2d(6, 8, 3), nn.Hardtanh(0, 6)), ["conv"]),
    "clamp": (Net(lambda net, x: net.conv(x).clamp(0, 6), **CONV), ["conv"]),
    "clamp from 0": (Net(lambda net, x: net.conv(x).clamp_min(0), **CONV), ["conv"]),
    "relu first": (nn.Sequential(nn.ReLU(), nn.Conv2d(6, 8, 3)), ["max_pool", "conv"]),
    "relu of one reader": (Net(lambda net, x: (y := net.conv(x)).relu() + y, **CONV), ["conv", "max_pool", "add"]),
    "relu in place": (Net(in_place, **CONV), ["conv", "max_pool", "add"]),
    "max-pool": (nn.Sequential(nn.Conv2d(6, 8, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)), ["conv"]),
    "max-pool before relu": (nn.Sequential(nn.Conv2d(6, 8, 3), nn.MaxPool2d(2), nn.ReLU()), ["conv"]),
    "max-pool up": (nn.Sequential(nn.Conv2d(6, 8, 2), nn.MaxPool2d(3, (2, 3), ceil_mode=True)), ["conv"]),
    "max-pool twice": (nn.Sequential(nn.Conv2d(6, 8, 3), nn.MaxPool2d(2), nn.MaxPool2d(2, 1)), ["conv", "max_pool"]),
    "max-pool first": (nn.MaxPool2d((2, 3), (3, 2), (1, 1)), ["max_pool"]),
    "max-pool of zeros": (nn.Sequential(nn.ReLU(), nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, 2)),
                          ["max_pool", "max_pool"]),
    "average-pool": (nn.Sequential(nn.Conv2d(6, 8, 3), nn.AvgPool2d((2, 3), 2)), ["conv", "average_pool"]),
    "average-pool inside": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), ["average_pool"]),
    "average-pool up": (nn.AvgPool2d(4, 3, ceil_mode=True), ["average_pool"]),
    "average-pool of the map": (nn.Sequential(nn.Conv2d(6, 8, 3), nn.AvgPool2d((7, 8))), ["conv", "mean"]),
    "adaptive": (nn.Sequential(nn.Conv2d(6, 8, 2), nn.AdaptiveAvgPool2d((4, 3))), ["conv", "average_pool"]),
    "adaptive to the same": (nn.Sequential(nn.Conv2d(6, 8, 2), nn.AdaptiveAvgPool2d((8, 9))), ["conv"]),
    "mean": (Net(lambda net, x: net.conv(x).mean((-1, -2), keepdim=True), **CONV), ["conv", "mean"]),
    "linear": (nn.Sequential(nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(4 * 7 * 8, 5), nn.ReLU(), nn.Linear(5, 3)),
               ["conv", "conv", "conv"]),
    "linear of all pixels": (nn.Sequential(nn.Flatten(), nn.Linear(540, 5), nn.Dropout(), nn.Linear(5, 4)),
                             ["conv", "conv"]),
    "squeeze": (Net(squeezed, fc=nn.Linear(6, 5)), ["mean", "conv"]),
    "unsqueeze": (Net(unsqueezed, conv=nn.Conv2d(6, 5, 1)), ["mean", "conv"]),
    "flat": (Net(flat_sum, fc=nn.Linear(8 * 90, 3), **CONV), ["conv", "max_pool", "add", "conv"]),
    "add": (Net(lambda net, x: torch.relu(net.conv(x) + net.other(x)), **CONV, other=nn.Conv2d(6, 8, 1)),
            ["conv", "conv", "add"]),
    "add twice": (Net(lambda net, x: net.conv(x + x), **CONV), ["add", "conv"]),
    "cat": (Net(lambda net, x: torch.cat([net.conv(x), net.other(x)], 1).relu(), **CONV, other=nn.Conv2d(6, 2, 1)),
            ["conv", "conv", "concat", "max_pool"]),
    "cat of neurons": (Net(lambda net, x: net.fc(torch.cat([x.mean((2, 3)), net.conv(x).mean((2, 3))], -1)), **CONV,
                           fc=nn.Linear(14, 5)), ["mean", "conv", "mean", "concat", "conv"]),
    "cat once more": (Net(once_more, **CONV), ["conv", "max_pool", "concat", "max_pool", "max_pool", "concat"]),
    "shortcut": (Net(lambda net, x: shortcut(x) + net.conv(x), conv=nn.Conv2d(6, 11, 3, 2, 1)),
                 ["conv", "conv", "add"]),
    "shortcut with more": (Net(lambda net, x: functional.max_pool2d(shortcut(x).relu(), 2)), ["conv"]),
    "batch norm of a shortcut": (Net(lambda net, x: net.bn(shortcut(x)), bn=nn.BatchNorm2d(11)), ["conv"]),
    "nothing": (nn.Sequential(nn.Identity(), nn.Conv2d(6, 8, 3), nn.Dropout2d(), nn.Identity()), ["conv"]),
    "softmax": (nn.Sequential(nn.Conv2d(6, 8, (9, 10)), nn.Flatten(), nn.LogSoftmax(-1)), ["conv"]),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operator(name):
    module, operations = OPERATORS[name]
    module, images = drawn(module), images_of(*IMAGE)
    floats = read_network(module, images[:1])
    assert [layer.description.op for layer in floats.layers] == operations
    with torch.no_grad():
        expected = (module[:-1] if floats.host else module)(images).flatten(1)
    inputs = images.reshape(-1, *floats.input_shape)
    result = list(floats.run(inputs))[-1][1]
    torch.testing.assert_close(result.flatten(1), expected, rtol=1e-4, atol=1e-5)

    network = quantize_network(floats, inputs, name="net", method="minmax")
    bound = worst_errors(floats, network, inputs)[network.layers[-1].name]
    off = np.abs(real_output(network, inputs) - expected.double().numpy())
    assert off.max() <= bound
    assert np.sqrt(np.square(off).mean()) < 0.035 * expected.std().item()
    single = network.run(quantize_input(network, inputs[:1])[0])[-1][1].output
    np.testing.assert_array_equal(run_batch(network, quantize_input(network, inputs[:1]))[-1].output[0], single)


def test_two_dimensional_input():
    module, images = drawn(nn.Sequential(nn.Linear(30, 8), nn.ReLU(), nn.Linear(8, 3))), images_of(5, 30)
    network = import_torch(module, images[:1], images.numpy(), name="mlp")
    assert network.name == "mlp" and network.input.shape == (30, 1, 1)
    assert [node.kernel for node in network.layers] == [(1, 1), (1, 1)]
    assert np.abs(real_output(network, images) - module(images).detach().numpy()).max() < 0.1


def test_names_follow_the_modules():
    module = Net(lambda net, x: net.head(torch.relu(net.body(x) + net.body(x))), body=nn.Sequential(nn.Conv2d(6, 6, 1)),
                 head=Net(lambda net, x: functional.max_pool2d(shortcut(x), 2), **{"odd name": nn.Identity()}))
    names = [layer.name for layer in read_network(module, images_of(*IMAGE)).layers]
    assert names == ["body_0", "body_0_2", "add", "head_selection"]


def test_shortcut_without_weights_is_exact():
    """Option A: every other pixel and channels of zeros, in the bytes themselves."""
    pixels = pixels_of(3, 6, 9, 10)
    images = torch.tensor(pixels).float() / 255
    network = import_torch(Net(lambda net, x: shortcut(x)), images, images)
    selection, = network.layers
    assert (selection.kernel, selection.stride, selection.groups) == ((1, 1), (2, 2), 1)
    found = run_batch(network, quantize_pixels(network, pixels))[-1].output.numpy()
    np.testing.assert_array_equal(found[:, 3:9], (pixels[:, :, ::2, ::2] ^ 0x80).view(np.int8))
    assert (found[:, :3] == -128).all() and (found[:, 9:] == -128).all()  # The zero point: zeros.


def test_fused_max_pool_is_that_of_the_map():
    module, images = drawn(nn.Sequential(nn.Conv2d(6, 8, 3), nn.ReLU6(), nn.MaxPool2d(3, 2, 1))), images_of(*IMAGE)
    fused = import_torch(module, images, images, method="minmax")
    apart = import_torch(module[:2], images, images, method="minmax")
    maps = run_batch(apart, quantize_input(apart, images))[-1].output
    found = run_batch(fused, quantize_input(fused, images))[-1].output
    assert len(fused.layers) == 1 and fused.layers[0].pool == (3, 3, 2, 2)
    assert torch.equal(found, max_pool(maps, kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1)))


def test_every_operator_is_planned():
    images = images_of(*IMAGE)
    for module, _ in (OPERATORS[name] for name in ("shortcut", "cat once more", "max-pool of zeros", "add twice")):
        network = import_torch(drawn(module), images, images)
        jobs = [job for job, _ in network.run(quantize_input(network, images)[0])]
        build_program(jobs, EngineConfig(rows=4, columns=4), sources=layer_sources(network))


# Refusals


def replaced(part: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Sequential(nn.Conv2d(6, 8, 3)), part)


REFUSED = {
    "gelu": (replaced(nn.GELU()), r"module 1: operator: expected one of adaptive_avg_pool2d, .*, got gelu"),
    "function": (Net(lambda net, x: torch.sin(net.conv(x)), **CONV), r"module: operator: expected one of .*, got sin"),
    "conv1d": (nn.Sequential(nn.Flatten(2), nn.Conv1d(6, 2, 3)), r"module 0: .* size: expected the map \[6, 30, "
               r"30\] or all of it flat, \[5400\], for each image, got \[6, 900\]"),
    "dilation": (replaced(nn.Conv2d(8, 2, 3, dilation=2)), r"module 1: conv2d dilation: expected 1, got \(2, 2\)"),
    "stride": (replaced(nn.Conv2d(8, 2, 3, 5)), r"module 1: conv2d: stride: expected two integers in 1..4 .*"),
    "padding": (replaced(nn.Conv2d(8, 2, 1, padding=1)), r"module 1: conv2d: padding: expected .* each smaller .*"),
    "kernel": (nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(6 * 900, 2)), r"module 2: linear: weight: expected a "
               r"kernel of 1..11, got \[30, 30\]"),
    "reflected": (nn.Conv2d(6, 2, 3, padding=1, padding_mode="reflect"), r"module: pad value: expected zeros, got "
                  r"reflect None"),
    "cropped": (replaced(nn.ZeroPad2d(-1)), r"module 1: pad pad: expected zeros added .*, got \[-1, -1, -1, -1\]"),
    "padded": (replaced(nn.Sequential(nn.ZeroPad2d(1), nn.ReLU())), r"module 1.1: relu self: expected no zeros around "
               r"it but those of a convolution, got a pad of \(1, 1, 1, 1\)"),
    "padded end": (replaced(nn.ZeroPad2d(1)), r"module: expected a convolution behind pad, got the output"),
    "padded max": (replaced(nn.Sequential(nn.ZeroPad2d(1), nn.MaxPool2d(3))), r"module 1.1: max_pool2d self: expected "
                   r"no zeros around values that may be below, got a pad of .*"),
    "dilated max": (replaced(nn.MaxPool2d(2, dilation=2)), r"module 1: max_pool2d dilation: expected 1, got \(2, 2\)"),
    "average": (replaced(nn.AvgPool2d(3, padding=1)), r"module 1: avg_pool2d count_include_pad: expected False where "
                r"there is padding, got True"),
    "divisor": (replaced(nn.AvgPool2d(2, divisor_override=3)), r"module 1: avg_pool2d divisor_override: expected none,"
                r" got 3"),
    "adaptive": (replaced(nn.AdaptiveAvgPool2d(3)), r"module 1: adaptive_avg_pool2d output_size: expected a divisor of "
                 r"the map \[28, 28\], got \[3, 3\]"),
    "mean": (Net(lambda net, x: x.mean(1)), r"module: mean dim: expected rows and columns, 2 and 3, got \[1\]"),
    "mean of all": (Net(lambda net, x: x.mean()), r"module: mean dim: expected rows .*, got \[0, 1, 2, 3\]"),
    "slice": (Net(lambda net, x: x[:, :, 1:]), r"module: slice: expected steps over whole rows .*, got 1:.*:1 of "
              r"dimension 2"),
    "channels": (Net(lambda net, x: x[:, :3]), r"module: slice: expected .*, got 0:3:1 of dimension 1"),
    "constant": (Net(lambda net, x: x + 1), r"module: add other: expected a tensor that is computed from the input, "
                 r"got a constant"),
    "alpha": (Net(lambda net, x: torch.add(x, x, alpha=2)), r"module: add alpha: expected 1, got 2"),
    "broadcast": (Net(lambda net, x: x + x.mean((2, 3), True)), r"module: add other: expected the map of the first, "
                  r"\[6, 30, 30\], got \[6, 1, 1\]"),
    "cat": (Net(lambda net, x: torch.cat([x, x], 2)), r"module: cat dim: expected 1, the channels, got 2"),
    "maps of sizes": (Net(lambda net, x: torch.cat([x.flatten(1), x.mean((2, 3))], 1)), r"module: cat: inputs: "
                      r"expected maps of one size, .*"),
    "clamp": (replaced(nn.Hardtanh()), r"module 1: hardtanh: expected 0 and no limit \(relu\), or 0 and 6 \(relu6\), "
              r"got -1.0 and 1.0"),
    "statistics": (replaced(nn.BatchNorm2d(8, track_running_stats=False)), r"module 1: batch_norm: expected statistics "
                   r"of its own, got those of the batch"),
    "flat norm": (nn.Sequential(nn.Conv2d(6, 2, 3), nn.Flatten(), nn.BatchNorm1d(2 * 784)), r"module 2: batch_norm "
                  r"input: expected \[N,C,H,W\], or \[N,C\] of maps of one pixel, got maps \[28, 28\] that lie flat"),
    "dropout": (Net(lambda net, x: functional.dropout(net.conv(x)), **CONV), r"module: dropout train: expected False, "
                r"got True"),
    "conv of neurons": (nn.Sequential(nn.Conv2d(6, 2, 3), nn.Linear(28, 3)), r"module 1: linear input: expected "
                        r"\[N,C\], got 4 dimensions"),
    "weights": (Net(lambda net, x: functional.conv2d(x, x[0, :3, None, :3, :3].repeat(1, 6, 1, 1))), r"module: .*"),
    "softmax within": (nn.Sequential(nn.Softmax(1), nn.Conv2d(6, 2, 1)), r"module 1: conv2d input: expected nothing "
                       r"behind softmax, which is left to the host, got an operator"),
    "softmax of rows": (nn.Sequential(nn.Conv2d(6, 2, 1), nn.Softmax(3)), r"module 1: softmax dim: expected 1, the "
                        r"channels, got 3"),
    "two outputs": (Net(lambda net, x: (net.conv(x), x), **CONV), r"module: expected one tensor as output, got 2 "
                    r"values"),
    "nothing": (nn.Identity(), r"module: expected at least one layer, got none"),
    "control": (Net(lambda net, x: net.conv(x) if x.sum() > 0 else x, **CONV), r"module: expected one that torch.export"
                r" can trace, got: .*"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_module(name, monkeypatch):
    module, message = REFUSED[name]
    images = images_of(1, 6, 30, 30)
    monkeypatch.setattr(FloatNetwork, "run", None)
    with pytest.raises(JobError, match=f"^{message}$") as caught:
        import_torch(module, images, images)
    assert "\n" not in str(caught.value)
