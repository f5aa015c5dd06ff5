"""Winner rates by cumulative energy and by the SVD, against their definitions and constructed spectra."""

import numpy as np
import pytest
import torch
from torch import nn

from golden.checks import JobError
from golden.dasnet.winner_rates import (
    FeatureMaps,
    Neurons,
    collect,
    energy_rate,
    energy_rates,
    rate_curves,
    select_rates,
    svd_rate,
    svd_rates,
)
from golden.dasnet.winners import attach, mask
from golden.winner_rule import WinnerRule

ENERGIES = [0.0, 0.3, 0.5, 0.8, 0.9, 0.95, 0.99, 1.0]


def features_of(values: list[float], rows: int = 200, seed: int = 0) -> torch.Tensor:
    """float64 [rows, C] with these C singular values, between random rotations."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(rows, len(values), generator=generator, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=torch.float64)).Q
    return left * torch.tensor(values, dtype=torch.float64) @ right


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential()
    for name, module in (
            ("conv1", nn.Conv2d(1, 5, 3, padding=1)), ("bn1", nn.BatchNorm2d(5)), ("relu1", nn.ReLU()),
            ("flatten", nn.Flatten()), ("dropout", nn.Dropout(0.5)), ("fc1", nn.Linear(80, 12)),
            ("relu2", nn.ReLU(inplace=True)), ("fc2", nn.Linear(12, 3))):
        network.add_module(name, module)
    return network


# Neurons


def test_energy_rate_by_hand():
    activations = torch.tensor([[4.0, 3, 2, 1], [0, 10, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    # 0.7 of the sums 10, 10, 0 and 4: two, one, one (at least) and three neurons of four.
    assert energy_rate(activations, 0.7) == (2 + 1 + 1 + 3) / 16
    # 0.5 of the sums of squares 30, 100, 0 and 4: one, one, one, two.
    assert energy_rate(activations, 0.5, power=2) == 5 / 16
    assert energy_rate(-activations, 0.7) == 1 / 4  # nothing above 0
    # A threshold is a multiple of 1 / 65536, as the engine's.
    assert energy_rate(activations[3:], 0.5 + 2**-18) == 0.5 and energy_rate(activations[3:], 0.5 + 2**-16) == 0.75


@pytest.mark.parametrize("power", [1, 2])
def test_energy_curve_is_what_the_selection_takes(power):
    activations = torch.randn(60, 40, generator=torch.Generator().manual_seed(1)).relu()
    activations[::11] = 0
    taken = [mask(activations, WinnerRule(select="energy", eps=eps, power=power)).double().mean().item()
             for eps in ENERGIES]
    assert energy_rates(activations, ENERGIES, power=power).tolist() == pytest.approx(taken, rel=1e-12)
    assert taken == sorted(taken) and len(set(taken)) == len(taken)


# Maps


@pytest.mark.parametrize("rank, channels", [(1, 8), (3, 8), (8, 8), (5, 64)])
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_features_of_low_rank_need_their_rank(rank, channels, power, dtype):
    features = features_of([2.0] * rank + [0.0] * (channels - rank)).to(dtype)
    assert svd_rate(features, 0.999, power=power) == rank / channels
    assert svd_rate(features, 0.5 / rank, power=power) == 1 / channels


def test_svd_rate_sums_singular_values():
    features = features_of([8.0, 4.0, 2.0, 1.0, 1.0])
    shares = {0.49: 1, 0.51: 2, 0.74: 2, 0.76: 3, 0.86: 3, 0.88: 4, 0.93: 4, 0.95: 5, 1.0: 5}  # 8, 12, 14, 15, 16 of 16
    assert svd_rates(features, list(shares)).tolist() == [count / 5 for count in shares.values()]
    squares = {0.74: 1, 0.75: 2, 0.92: 2, 0.94: 3, 0.97: 3, 0.98: 4, 0.99: 5}  # 64, 80, 84, 85, 86 of 86
    assert svd_rates(features, list(squares), power=2).tolist() == [count / 5 for count in squares.values()]


def test_svd_curve_agrees_with_a_decomposition():
    features = torch.randn(300, 24, generator=torch.Generator().manual_seed(2)).relu() + 0.1
    values = np.linalg.svd(features.double().numpy(), compute_uv=False)
    shares = np.cumsum(values) / values.sum()
    expected = [(np.flatnonzero(shares >= energy)[0] + 1) / 24 for energy in ENERGIES[1:-1]]
    assert svd_rates(features, ENERGIES[1:-1]).tolist() == pytest.approx(expected)
    assert svd_rates(features[:10], [0.9999]).item() == 10 / 24  # fewer vectors than channels


# Of a network


def test_collect_keeps_what_the_layers_give():
    network, images = small_network(), torch.randn(13, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    attach(network, {"relu1": WinnerRule(value=1), "relu2": WinnerRule(value=1)})
    network.bn1.eval()
    training = {name: module.training for name, module in network.named_modules()}
    statistics = network.bn1.running_mean.clone()
    found = collect(network, images, ["relu1", "fc1", "relu2"], batch=5)
    assert list(found) == ["relu1", "fc1", "relu2"]
    assert {name: module.training for name, module in network.named_modules()} == training
    assert all(len(module._forward_hooks) == (name in ("relu1", "relu2")) for name, module in network.named_modules())

    # In evaluation mode, so without dropout, and without winners.
    with torch.no_grad():
        bn = network.bn1
        maps = ((network.conv1(images) - bn.running_mean[:, None, None]) / (bn.running_var + bn.eps).sqrt()[0]).relu()
        fc1 = network.fc1(maps.flatten(1))
    assert torch.equal(bn.running_mean, statistics)
    vectors = maps.permute(0, 2, 3, 1).reshape(13 * 16, 5).double()
    assert isinstance(found["relu1"], FeatureMaps) and isinstance(found["fc1"], Neurons)
    torch.testing.assert_close(found["relu1"].gram, vectors.T @ vectors, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found["fc1"].activations, fc1, rtol=1e-5, atol=1e-5)  # before the ReLU in its place
    torch.testing.assert_close(found["relu2"].activations, fc1.relu(), rtol=1e-5, atol=1e-5)

    curves = rate_curves(network, images, ["relu1", "relu2"], [0.6, 0.9], batch=4)
    assert curves["relu1"] == pytest.approx(svd_rates(vectors, [0.6, 0.9]).tolist())
    assert curves["relu2"] == pytest.approx(energy_rates(fc1.relu(), [0.6, 0.9]).tolist())
    assert select_rates(network, images, ["relu1", "relu2"], {"relu1": 0.6, "relu2": 0.9}) == pytest.approx(
        {"relu1": curves["relu1"][0], "relu2": curves["relu2"][1]})
    assert select_rates(network, images, ["relu2"], 0.6, power=2) == pytest.approx(
        {"relu2": energy_rate(fc1.relu(), 0.6, power=2)})


def test_bad_arguments_are_refused_by_name():
    network, images = small_network(), torch.zeros(2, 1, 4, 4)
    cases = [
        (lambda: energy_rate(torch.zeros(3), 0.5), r"activations: expected \[N,C\], N at least 1, got \[3\]"),
        (lambda: svd_rate(torch.zeros(0, 3), 0.5), r"features: expected \[N,C\], N at least 1, got \[0, 3\]"),
        (lambda: svd_rate(torch.zeros(2, 3), 1.5), r"energies: expected numbers in 0\.\.1, got 1\.5"),
        (lambda: energy_rate(torch.zeros(2, 3), 0.5, power=3), "power: expected 1 or 2, got 3"),
        (lambda: collect(network, images, ["relu9"]), "layer: expected one of conv1, .*, got 'relu9'"),
        (lambda: collect(network, images[:0], ["relu1"]), "images: expected at least one, got 0"),
        (lambda: select_rates(network, images, ["relu1", "relu2"], {"relu1": 0.5}),
         "energies: expected one of each of relu1, relu2, got none of relu2"),
    ]
    for call, message in cases:
        with pytest.raises(JobError, match=f"^{message}$"):
            call()
    network.add_module("unused", nn.ReLU())
    network.forward = lambda x: network.relu1(network.conv1(x).flatten(2))
    with pytest.raises(JobError, match=r"^layer relu1: expected an output \[N,C\] or \[N,C,H,W\], got \[2, 5, 16\]$"):
        collect(network, images, ["relu1"])
    with pytest.raises(JobError, match=r"^layer unused: expected an output, as it is to be ranked, got none$"):
        collect(network, images, ["unused"])
    assert all(not module._forward_hooks for module in network.modules())
