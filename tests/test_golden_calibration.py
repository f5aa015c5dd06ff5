"""The quantization of a float network's tensors: ranges of dense and sparse runs, clipping, and what shares them."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from golden.calibration import calibrate
from golden.import_torch import import_torch
from golden.job import JobError
from golden.quantization import activation_scale
from golden.torch_operators import read_network
from golden.winner_rule import WinnerRule
from tests.torch_modules import IMAGE, Net, drawn, images_of, pixels_of


def test_activation_scale_holds_zero_exactly():
    assert activation_scale(0.0, 25.5) == (pytest.approx(0.1), -128)
    assert activation_scale(-1.0, 1.55) == (pytest.approx(0.01), -28)
    assert activation_scale(2.0, 5.1) == (pytest.approx(0.02), -128)
    with pytest.raises(ValueError, match="range: expected other values"):
        activation_scale(0.0, 0.0)


def test_pixels_have_their_own_scale():
    module, images = drawn(nn.Conv2d(6, 2, 1)), torch.tensor(pixels_of(2, 6, 9, 10)).float() / 255
    half = images / 2
    assert import_torch(module, images, images).input == import_torch(module, images, images * (images < 0.5)).input
    network = import_torch(module, images, images)
    assert (network.input.scale, network.input.zero_point) == (1 / 255, -128)
    assert math.isclose(import_torch(module, images, half).input.scale, half.max().item() / 255, rel_tol=1e-6)


def test_clipping_has_the_least_squared_error():
    """One value M far above N others: at a range c the mean error is (M - c)^2 / N + (c / 255)^2 / 12."""
    values = images_of(1, 1, 500, 500).abs()
    values[0, 0, 7, 8] = largest = 20.0
    module = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU())
    nn.init.ones_(module[0].weight)
    ranges = {method: 255 * import_torch(module, values, values, method=method).layers[0].output_scale
              for method in ("minmax", "mse")}
    assert math.isclose(ranges["minmax"], largest, rel_tol=1e-6)

    def error(end: float) -> float:
        return (largest - end) ** 2 / values.numel() + (end / 255) ** 2 / 12

    best = largest / (1 + values.numel() / (12 * 255**2))
    assert ranges["mse"] < 0.8 * largest and error(ranges["mse"]) < 1.01 * error(best)


@pytest.mark.parametrize("method", ("minmax", "mse"))
def test_ranges_hold_dense_and_sparse_values(method):
    """Two channels that nearly cancel: their difference is small, that of the winner and nothing is not."""
    module = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 1, 1, bias=False))
    module[0].weight.data = torch.tensor([1.0, 0.9]).view(2, 1, 1, 1)
    module[2].weight.data = torch.tensor([1.0, -1.0]).view(1, 2, 1, 1)
    images = images_of(4, 1, 9, 10).abs()
    dense, sparse, other = (
        255 * import_torch(module, images, images, winners={"1": rule} if rule else {}, method=method)
        .layers[-1].output_scale
        for rule in (None, WinnerRule(value=1), WinnerRule(select="all")))
    assert math.isclose(sparse, images.max(), rel_tol=0.05 if method == "mse" else 1e-6)
    assert math.isclose(dense, 0.1 * sparse, rel_tol=1e-5) and other == dense


def test_threshold_is_that_of_int8_scores():
    """Calibration with a threshold selects at the scale that the layer has: here all but nothing."""
    module, images = drawn(nn.Sequential(nn.Conv2d(6, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1))), images_of(*IMAGE)
    floats = read_network(module, images)
    scales = [calibrate(floats, images, rules, method="minmax") for rules in (
        {}, {"0": WinnerRule(select="threshold", value=255)}, {"0": WinnerRule(select="threshold", value=0)})]
    assert scales[0] == scales[2] and scales[0]["0"] == scales[1]["0"]
    assert scales[1]["2"].scale >= scales[0]["2"].scale


def test_values_that_are_not_finite_are_refused():
    images = images_of(*IMAGE)
    images[2, 3, 4, 5] = math.inf
    with pytest.raises(JobError, match=r"^calibration: input: expected finite values, got -.*\.\.inf$"):
        import_torch(nn.Conv2d(6, 2, 1), images, images)


def test_branches_of_a_concatenation_share_a_quantization():
    module = Net(lambda net, x: torch.cat([net.conv(x).relu(), functional.max_pool2d(net.other(x), 1), x], 1),
                 conv=nn.Conv2d(6, 3, 1), other=nn.Conv2d(6, 5, 1))
    images = images_of(*IMAGE)
    network = import_torch(drawn(module), images, images, method="minmax")
    maps = [module.conv(images).relu(), module.other(images), images]
    low, high = min(map.min().item() for map in maps), max(map.max().item() for map in maps)
    for spec in (network.input, *network.layers):
        scale = spec.scale if spec is network.input else spec.output_scale
        zero_point = spec.zero_point if spec is network.input else spec.output_zero_point
        assert math.isclose(scale, (high - low) / 255, rel_tol=1e-6)
        assert zero_point == round(-128 - low / scale)
    assert [node.activation_min for node in network.layers[:2]] == [network.input.zero_point, -128]
