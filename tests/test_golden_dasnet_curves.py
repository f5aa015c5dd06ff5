"""Curves over winner rates: rates of energies, accuracy at them, with and without fine-tuning."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from golden.dasnet.curves import accuracies_at, fine_tuned_accuracies_at, rates_of_energies
from golden.dasnet.finetune import fine_tune, rules_of
from golden.dasnet.recipes import recipe
from golden.dasnet.training import Schedule, accuracy, train
from golden.dasnet.winners import attach, attached
from golden.datasets import Split
from tests.test_golden_dasnet_training import make_split

QUICK = Schedule(epochs=1, learning_rate=3e-3, batch=32, bfloat16=False)
VIEW = recipe("mlp3").view
RATES = {"pool1": 0.06, "pool2": 0.03}
POINTS = [{"relu1": 0.5, "relu2": 0.3}, {"relu1": 1 / 300, "relu2": 1 / 100}]


def straight(batches, label):
    return batches


@pytest.fixture(scope="module")
def splits():
    return make_split(1100, 1), make_split(150, 2)


@pytest.fixture(scope="module")
def network(splits, tmp_path_factory):
    torch.manual_seed(0)
    network = recipe("mlp3").build()
    train(network, splits[0], VIEW, Schedule(epochs=2, learning_rate=3e-3, batch=32, bfloat16=False), seed=3,
          progress=straight, checkpoint=tmp_path_factory.mktemp("baseline") / "it.pt")
    return network


def test_rates_are_those_of_1000_training_images(network, splits):
    found = rates_of_energies(network, ["relu1", "relu2"], [0.5, 0.9], splits[0], VIEW, seed=4)
    rows = torch.randperm(1100, generator=torch.Generator().manual_seed(4))[:1000]
    outputs = torch.from_numpy(splits[0].images).float().flatten(1)[rows] / 255
    for number, name in enumerate(("relu1", "relu2")):
        outputs = network[2 * number + 1](network[2 * number](outputs)).detach()
        values = np.sort(outputs.double().numpy())[:, ::-1]
        shares = values.cumsum(1) / values.sum(1, keepdims=True)
        for energy, rate in zip((0.5, 0.9), found[name], strict=True):
            assert rate == pytest.approx((1 + (shares < round(energy * 65536) / 65536).sum(1)).mean() / len(shares[0]),
                                         abs=1e-4)


def test_accuracies_without_fine_tuning(network, splits):
    before = deepcopy(network.state_dict())
    other = deepcopy(network)
    attach(other, rules_of({"relu1": 1 / 300}))
    expected = []
    for rates in POINTS:
        copy = deepcopy(network)
        attach(copy, rules_of(rates))
        expected.append(accuracy(copy, splits[1], VIEW))
    assert expected[0] > 0.9 > 0.5 > expected[1]
    assert accuracies_at(network, POINTS, splits[1], VIEW) == expected
    assert accuracies_at(other, POINTS, splits[1], VIEW) == expected  # its own winners are not taken
    dense = accuracy(network, splits[1], VIEW)
    assert accuracies_at(other, [{"relu2": 1.0}], splits[1], VIEW) == [dense] != [accuracy(other, splits[1], VIEW)]
    assert attached(network) == {} and list(attached(other)) == ["relu1"]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_accuracies_are_of_the_score_asked_for():
    """The labels are what the network says with winners by the one score."""
    torch.manual_seed(1)
    network, view = recipe("lenet4").build().eval(), recipe("lenet4").view
    for module in network.modules():  # Biases alone would choose the class.
        if hasattr(module, "bias"):
            nn.init.zeros_(module.bias)
    images = torch.randint(0, 256, (100, 1, 28, 28), dtype=torch.uint8)
    for score, other in (("max", "mean"), ("mean", "max")):
        copy = deepcopy(network)
        attach(copy, rules_of(RATES, score))
        split = Split(images.numpy(), copy(view.plain(images)).argmax(1).numpy())
        assert accuracies_at(network, [RATES], split, view, score=score) == [1.0]
        assert accuracies_at(network, [RATES], split, view, score=other)[0] < 1


def test_each_point_is_tuned_for_itself_and_once(network, splits, tmp_path):
    labels = []

    def noted(batches, label):
        labels.append(label)
        return batches

    arguments = {"seed": 6, "folder": tmp_path, "progress": noted}
    found = fine_tuned_accuracies_at(network, POINTS, splits[0], splits[1], VIEW, QUICK, **arguments)
    expected = []
    for number, rates in enumerate(POINTS):
        copy = deepcopy(network)
        fine_tune(copy, rules_of(rates), splits[0], VIEW, QUICK, seed=6, checkpoint=tmp_path / f"own{number}.pt",
                  progress=straight, label="", teacher=deepcopy(network))
        expected.append(accuracy(copy, splits[1], VIEW))
    assert found == expected and found[1] > accuracies_at(network, POINTS[1:], splits[1], VIEW)[0]
    tuned = [label for label in labels if "epoch" in label]
    assert tuned == ["max 1/2 epoch 1/1", "max 2/2 epoch 1/1"]
    labels.clear()
    assert fine_tuned_accuracies_at(network, POINTS, splits[0], splits[1], VIEW, QUICK, **arguments) == found
    assert not [label for label in labels if "epoch" in label]
    assert attached(network) == {}
