"""DASNet's training: resumable, rounds that end at the bound, files, and the int8 form of what was trained."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from golden.checks import JobError
from golden.dasnet import macs
from golden.dasnet.finetune import fine_tune, flow, mean_rates, rules_of
from golden.dasnet.recipes import RECIPES, recipe
from golden.dasnet.trained import Trained, read_published, recipe_of, run_int8
from golden.dasnet.training import Schedule, accuracy, train
from golden.dasnet.winners import attach, attached
from golden.datasets import Dataset, Split
from golden.network import QuantizedNetwork
from golden.preprocess import quantize_pixels

QUICK = Schedule(epochs=3, learning_rate=3e-3, batch=32, bfloat16=False)


def make_split(count: int, seed: int) -> Split:
    """Images whose class is the place of a bright square."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    images = rng.integers(0, 60, (count, 1, 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 4)
        image[0, 2 + 8 * row:8 + 8 * row, 2 + 6 * column:7 + 6 * column] = 255
    return Split(images, labels.astype(np.int64))


@pytest.fixture(scope="module")
def data() -> Dataset:
    return Dataset("mnist", "squares", make_split(400, 1), make_split(150, 2), 10, (1, 28, 28), (0.2,), (0.3,))


def straight(batches, label):
    return batches


def fresh(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return recipe("mlp3").build()


@pytest.fixture(scope="module")
def baseline(data, tmp_path_factory) -> nn.Module:
    network = fresh()
    train(network, data.train, recipe("mlp3").view, replace(QUICK, epochs=6), seed=3, progress=straight,
          checkpoint=tmp_path_factory.mktemp("baseline") / "it.pt")
    return network


def copy_of(network: nn.Module) -> nn.Module:
    other = fresh()
    other.load_state_dict(network.state_dict())
    return other


def weights(network: nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten() for value in network.state_dict().values()])


# Training


def test_learns(baseline, data):
    view = recipe("mlp3").view
    assert accuracy(fresh(), data.test, view) < 0.4
    found = accuracy(baseline, data.test, view)
    assert found > 0.95
    outputs = baseline(torch.from_numpy(data.test.images).float().flatten(1) / 255).argmax(1).numpy()
    assert found == (outputs == data.test.labels).mean()


def test_goes_on_behind_the_last_epoch(data, tmp_path):
    view, runs = recipe("mlp3").view, []

    def interrupted(batches, label):
        runs.append(label)
        for number, batch in enumerate(batches):
            if len(runs) == 2 and number == 4:
                raise KeyboardInterrupt
            yield batch

    networks = [fresh(), fresh()]
    train(networks[0], data.train, view, QUICK, seed=7, checkpoint=tmp_path / "whole.pt", progress=straight)
    with pytest.raises(KeyboardInterrupt):
        train(networks[1], data.train, view, QUICK, seed=7, checkpoint=tmp_path / "it.pt", progress=interrupted)
    networks[1] = fresh(1)
    train(networks[1], data.train, view, QUICK, seed=7, checkpoint=tmp_path / "it.pt", progress=interrupted)
    assert runs == ["epoch 1/3", "epoch 2/3", "epoch 2/3", "epoch 3/3"]
    assert torch.equal(weights(networks[0]), weights(networks[1]))
    assert not torch.equal(weights(networks[0]), weights(fresh()))


def test_checkpoints_of_other_trainings_are_refused(data, tmp_path):
    view, path = recipe("mlp3").view, tmp_path / "it.pt"
    train(fresh(), data.train, view, replace(QUICK, epochs=1), seed=0, checkpoint=path, progress=straight)
    with pytest.raises(ValueError, match=r"checkpoint: expected a training of .*'seed': 1.* found .*'seed': 0"):
        train(fresh(), data.train, view, replace(QUICK, epochs=1), seed=1, checkpoint=path, progress=straight)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"checkpoint: expected a readable one, remove .*it\.pt"):
        train(fresh(), data.train, view, replace(QUICK, epochs=1), seed=1, checkpoint=path, progress=straight)


@pytest.mark.parametrize("changes, message", [
    ({"epochs": -1}, "epochs: expected a number of at least 0, got -1"),
    ({"learning_rate": 0}, "learning_rate: expected a number above 0, below 10, got 0"),
    ({"gradual": 1.5}, "gradual: expected a fraction in 0..1, got 1.5"),
    ({"optimizer": "adam"}, "optimizer: expected adamw or sgd, got adam")])
def test_schedules_that_cannot_be(changes, message):
    with pytest.raises(JobError) as error:
        replace(QUICK, **changes)
    assert str(error.value) == message


# Winners


def test_fine_tuning_keeps_the_winners(baseline, data, tmp_path):
    network, view = copy_of(baseline), recipe("mlp3").view
    rates = {"relu1": 0.05, "relu2": 0.1}
    attach(network, rules_of(rates))
    before = accuracy(network, data.test, view)
    fine_tune(network, rules_of(rates), data.train, view, replace(QUICK, distillation=0.5), seed=0, label="",
              checkpoint=tmp_path / "it.pt", progress=straight, teacher=copy_of(baseline))
    assert accuracy(network, data.test, view) > max(0.9, before)
    assert mean_rates(network, data.test, view) == {"relu1": 15 / 300, "relu2": 10 / 100}


def test_winner_rates_fall_to_their_own_in_the_first_steps(baseline, data, tmp_path):
    """The same steps after an interruption as without one."""
    view, rates, teacher = recipe("mlp3").view, {"relu1": 0.1, "relu2": 0.2}, copy_of(baseline)
    schedule = replace(QUICK, gradual=0.5)

    def tune(network, name, interruption=None):
        seen = []

        def watched(batches, label):
            for batch in batches:
                if len(seen) == interruption:
                    raise KeyboardInterrupt
                yield batch
                seen.append(attached(network)["relu1"].rule.rate)

        fine_tune(network, rules_of(rates), data.train, view, schedule, seed=0, label="", progress=watched,
                  checkpoint=tmp_path / name, teacher=teacher)
        assert attached(network)["relu1"].rule.rate == 0.1
        return seen

    networks = [copy_of(baseline), copy_of(baseline)]
    seen = tune(networks[0], "whole.pt")
    steps = 3 * 13  # three epochs of 400 images, 32 in a step
    assert seen == pytest.approx([1 - 0.9 * min(1, (step + 1) / (steps / 2)) for step in range(steps)])
    assert seen[-1] == 0.1
    with pytest.raises(KeyboardInterrupt):
        tune(networks[1], "it.pt", interruption=15)
    assert attached(networks[1])["relu1"].rule.rate == 0.1
    assert tune(networks[1], "it.pt") == seen[13:]
    assert torch.equal(weights(networks[0]), weights(networks[1]))
    assert schedule.way(0, 10) == 0.2 and QUICK.way(0, 10) == 1


def test_rounds_end_at_the_bound(baseline, data, tmp_path):
    view, ranked = recipe("mlp3").view, ["relu1", "relu2"]
    energies = [dict.fromkeys(ranked, one) for one in (0.9, 0.6, 0.01, 0.005)]

    def run(folder):
        network, labels, steps = copy_of(baseline), [], []

        def noted(batches, label):
            labels.append(label)
            return batches

        result = flow(network, ranked, energies, data.train, data.test, view, replace(QUICK, epochs=1), max_drop=0.05,
                      seed=0, folder=folder, progress=noted, report=steps.append)
        assert result == steps
        return network, labels, steps

    network, labels, steps = run(tmp_path / "rounds")
    # One winner of 300 and one of 100 cannot tell ten classes apart.
    assert [step.rates == {"relu1": 1 / 300, "relu2": 1 / 100} for step in steps][:2] == [False, False]
    assert len(steps) == 3 and steps[2].drop > 0.05 and max(step.drop for step in steps[:2]) <= 0.05
    assert steps[0].reduction < steps[1].reduction < steps[2].reduction
    rule = attached(network)["relu1"].rule
    assert rule.rate == steps[1].rates["relu1"]
    assert accuracy(network, data.test, view) == steps[1].accuracy
    # What is multiplied: all of fc1, winners of fc2 and fc3.
    k1, k2 = (max(1, round(steps[1].rates[name] * size)) for name, size in (("relu1", 300), ("relu2", 100)))
    assert steps[1].macs == pytest.approx(784 * 300 + k1 * 100 + k2 * 10)
    again, repeated, same = run(tmp_path / "rounds")
    assert labels == [f"round {number}/4 epoch 1/1" for number in (1, 2, 3)]
    assert repeated == [] and same == steps and torch.equal(weights(again), weights(network))


# Networks


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_fit_their_networks(name):
    one = recipe(name)
    network, shape = one.build().eval(), (3, 1, 28, 28) if one.dataset == "mnist" else (3, 3, 32, 32)
    raw = torch.randint(0, 256, shape, dtype=torch.uint8)
    images = one.view.plain(raw)
    moved = one.view.augment(raw, torch.Generator().manual_seed(0))
    assert images.shape == moved.shape and images.dtype == moved.dtype == torch.float32
    attach(network, rules_of(dict.fromkeys(one.ranked, 0.5)))
    assert network(images).shape == (3, 43 if one.dataset == "gtsrb" else 10)
    rates = mean_rates(network, Split(raw.numpy(), np.zeros(3, np.int64)), one.view)
    assert set(rates) == set(one.ranked)


@pytest.mark.parametrize("name, products", [
    ("mlp3", 784 * 300 + 300 * 100 + 100 * 10),
    ("lenet4", 28**2 * 25 * 32 + 14**2 * 25 * 32 * 64 + 3136 * 1024 + 1024 * 10),
    ("convnet5", 24**2 * 75 * 64 + 12**2 * 25 * 64 * 64 + 2304 * 384 + 384 * 192 + 192 * 10),
    ("resnet20", 32**2 * 27 * 16 + 6 * 32**2 * 9 * 16**2 + 16**2 * 9 * 16 * 32 + 5 * 16**2 * 9 * 32**2
     + 8**2 * 9 * 32 * 64 + 5 * 8**2 * 9 * 64**2 + 640)])
def test_multiplications(name, products):
    sizes = {"mlp3": (784,), "lenet4": (1, 28, 28), "convnet5": (3, 24, 24)}
    shape = (1, *sizes.get(name, (3, 32, 32)))
    assert macs.total(macs.count(recipe(name).build(), torch.zeros(shape), {}))[0] == products


def test_unknown_networks_are_refused():
    with pytest.raises(JobError, match=r"network: expected one of mlp3, lenet4, .*, got 'lenet5'"):
        recipe("lenet5")


def test_published_weights(tmp_path):
    torch.manual_seed(0)
    network, other = (recipe("resnet20").build() for _ in range(2))
    stored = {f"module.{name}": value for name, value in network.state_dict().items() if "num_batches" not in name}
    torch.save({"state_dict": stored, "best_prec1": 1.0}, tmp_path / "it.th")
    read_published(other, tmp_path / "it.th")
    assert torch.equal(weights(network), weights(other))
    for content in ({"state_dict": {"module.conv1.weight": torch.zeros(1)}}, {}):
        torch.save(content, tmp_path / "other.th")
        with pytest.raises(JobError, match="expected the published weights of this network"):
            read_published(other, tmp_path / "other.th")


# Files, and the int8 form


def test_file_and_int8_form(baseline, data, tmp_path):
    network = copy_of(baseline)
    attach(network, rules_of({"relu1": 0.3, "relu2": 0.4}))
    trained = Trained(name="mlp3", network=network, metadata={"note": 1})
    trained.save(tmp_path / "it.pt")
    loaded = Trained.load(tmp_path / "it.pt")
    assert loaded.rules == trained.rules and loaded.metadata == {"note": 1}
    assert torch.equal(weights(loaded.network), weights(network))
    assert loaded.accuracy(data.test, dense=False) == accuracy(network, data.test, recipe("mlp3").view)
    assert loaded.accuracy(data.test, dense=True) == accuracy(baseline, data.test, recipe("mlp3").view)

    loaded.quantize(data).save(tmp_path / "it.npz")
    int8 = QuantizedNetwork.load(tmp_path / "it.npz")
    assert recipe_of(int8) is recipe("mlp3")
    assert [node.ranking and node.ranking.value for node in int8.layers] == [90, 40, None]
    # Image by image, as the engine runs them.
    few = Split(data.test.images[:40], data.test.labels[:40])
    results = [int8.run(image) for image in quantize_pixels(int8, few.images.reshape(-1, 784, 1, 1))]
    run = run_int8(int8, few)
    assert run.accuracy == np.mean([result[-1][1].output.argmax() == label
                                    for result, label in zip(results, few.labels, strict=True)])
    for number, name in enumerate(("fc1", "fc2")):
        chosen = np.array([result[number][1].winners for result in results])
        np.testing.assert_array_equal(run.counts[name], chosen.sum(1))
        np.testing.assert_array_equal(run.frequency[name], chosen.mean(0))
    assert abs(run_int8(int8, data.test).accuracy - loaded.accuracy(data.test, dense=False)) < 0.03


def test_int8_form_is_that_of_the_file(data, tmp_path):
    """Training leaves convolutions' weights channels last, a file does not."""
    torch.manual_seed(4)
    network = recipe("lenet4").build().eval().to(memory_format=torch.channels_last)
    attach(network, rules_of({"pool1": 0.5}))
    trained = Trained(name="lenet4", network=network)
    trained.save(tmp_path / "it.pt")
    found = [one.quantize(data) for one in (trained, Trained.load(tmp_path / "it.pt"))]
    for one, other in zip(*(one.layers for one in found), strict=True):
        for name in ("weight", "bias", "multiplier", "shift", "output_scale", "output_zero_point"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_files_of_others_are_refused(tmp_path, data):
    path = tmp_path / "it.pt"
    for content in (b"", b"PK"):
        path.write_bytes(content)
        with pytest.raises(JobError, match=r"it\.pt: expected a file that winnow train wrote, got something else"):
            Trained.load(path)
    torch.save({"state": {}}, path)
    with pytest.raises(JobError, match="expected a file that winnow train wrote"):
        Trained.load(path)
    with pytest.raises(JobError, match="expected a network that winnow train wrote"):
        run_int8(QuantizedNetwork.load(Path(__file__).parent / "every_operation.json"), data.test)
