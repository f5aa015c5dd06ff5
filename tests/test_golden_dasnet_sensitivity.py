"""Winner rates from what each layer costs: divergences by their definition, and the cheapest rates by trying all."""

import itertools
from copy import deepcopy

import numpy as np
import pytest
import torch

from golden.checks import JobError
from golden.dasnet.finetune import rules_of
from golden.dasnet.recipes import recipe
from golden.dasnet.sensitivity import Choice, cheapest, choices
from golden.dasnet.winners import attach, attached

LAYERS = {"pool1": "conv", "pool2": "conv", "relu3": "fc"}


def straight(items, label):
    return items


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    network = recipe("lenet4").build().eval()
    with torch.no_grad():
        network.fc2.weight *= 40  # Outputs that are far from each other, as those of a trained network.
    return network


@pytest.fixture(scope="module")
def images():
    return torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(4))


def test_each_choice_is_of_its_layer_alone(network, images):
    attached_before = deepcopy(network)
    attach(attached_before, rules_of({"pool1": 0.1}))
    found = choices(attached_before, images, LAYERS, [0.5, 0.25], ["max", "mean"], progress=straight, batch=4)
    assert list(attached(attached_before)) == ["pool1"]
    assert found == choices(network, images, LAYERS, [0.25, 0.5], ["max", "mean"], progress=straight, batch=4)
    assert {name: [(one.score, one.rate) for one in options] for name, options in found.items()} == {
        "pool1": [("max", 0.25), ("max", 0.5), ("mean", 0.25), ("mean", 0.5)],
        "pool2": [("max", 0.25), ("max", 0.5), ("mean", 0.25), ("mean", 0.5)],
        "relu3": [("max", 0.25), ("max", 0.5)]}
    # conv1, conv2, fc1, fc2 of 28x28 digits; the losers of a layer are left out by the one behind it.
    of_layers = 32 * 25 * 784, 64 * 32 * 25 * 196, 3136 * 1024, 1024 * 10
    for (name, options), following in zip(found.items(), of_layers[1:], strict=True):
        for one in options:
            assert one.saved == pytest.approx((1 - one.rate) * following / sum(of_layers))
            copy = deepcopy(network)
            attach(copy, rules_of({name: one.rate}, one.score))
            with torch.no_grad():
                p, q = (torch.softmax(net(images).double(), 1).numpy() for net in (network, copy))
            assert one.divergence == pytest.approx((p * np.log(p / q)).sum(1).mean(), rel=1e-3, abs=1e-6)
            assert one.divergence > 0
    assert found["pool1"][0].divergence != found["pool1"][2].divergence


def test_rates_of_the_same_winners_are_one_choice(network, images):
    found = choices(network, images, {"pool1": "conv"}, [0.25, 0.251, 8 / 32], ["max"], progress=straight)
    assert [one.rate for one in found["pool1"]] == [0.25]


@pytest.mark.parametrize("seed", range(20))
def test_cheapest_of_all_combinations(seed):
    rng = np.random.default_rng(seed)
    found = {f"layer{number}": [Choice("max", float(rate), int(rng.integers(1, 300)) / 1000, float(rng.random()))
                                for rate in range(rng.integers(0, 4))] for number in range(5)}
    most = sum(max((one.saved for one in options), default=0) for options in found.values())
    saved = float(rng.uniform(0.01, most - 0.001))
    best = min((sum(one.divergence for one in pick if one), pick)[0]
               for pick in itertools.product(*([None, *options] for options in found.values()))
               if sum(one.saved for one in pick if one) >= saved - 1e-12)
    chosen = cheapest(found, saved)
    assert all(one in found[name] for name, one in chosen.items())
    assert sum(one.saved for one in chosen.values()) >= saved
    assert sum(one.divergence for one in chosen.values()) == pytest.approx(best)


def test_more_than_can_be_saved_is_refused():
    found = {"a": [Choice("max", 0.5, 0.25, 1.0), Choice("max", 0.75, 0.125, 0.5)], "b": []}
    assert cheapest(found, 0.25) == {"a": found["a"][0]}
    for saved in (0.26, 0.0):
        with pytest.raises(JobError, match=r"saved: expected a fraction of the MACs above 0, at most 0\.2500"):
            cheapest(found, saved)


def test_no_images_are_refused(network, images):
    with pytest.raises(JobError, match="images: expected at least one"):
        choices(network, images[:0], LAYERS, [0.5], ["max"], progress=straight)
