"""``winnow train`` with pruned weights, winners by energy, held-out digits and a plot of its rounds."""

import json
import re

import numpy as np
import pytest
import torch

from golden import digits
from golden.dasnet.trained import Trained
from golden.datasets import Split
from golden.network import QuantizedNetwork
from golden.winner_rule import WinnerRule
from scripts.cli import main
from tests.image_files import write_mnist
from tests.test_golden_dasnet_training import make_split

WEIGHTS = {"fc1": 784 * 300, "fc2": 300 * 100, "fc3": 1000}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a data set and a baseline ``base.pt``."""
    path = tmp_path_factory.mktemp("pruning")
    parts = (make_split(400, 1), make_split(100, 2))
    write_mnist(path, data=[(part.images[:, 0], part.labels.astype(np.uint8)) for part in parts])
    assert main(["train", "mlp3", "--data", str(path), "--epochs", "8", "--out", str(path / "base.pt")]) == 0
    return path


def run(folder, out, *options, epochs=4):
    """The exit code of a training from the baseline, and its report."""
    path = folder / f"{out}.json"
    code = main(["train", "mlp3", "--data", str(folder), "--baseline", str(folder / "base.pt"), "--out",
                 str(folder / f"{out}.pt"), "--epochs", str(epochs), *options])
    return code, json.loads(path.read_text()) if path.exists() else None


def weights(path):
    """The weights of a file by layer."""
    state = Trained.load(path).network.state_dict()
    return {name: state[f"{name}.weight"] for name in WEIGHTS}


def as_input(image):
    """A digit uint8 [1,28,28] as the input int8 [784,1,1]."""
    return (image.astype(np.int16) - 128).astype(np.int8).reshape(784, 1, 1)


def test_smallest_weights_are_left_out_and_winners_taken(folder, capsys):
    code, report = run(folder, "magnitudes", "--prune", "fc3=0.5", "--prune", "0.8", "--winner-rate", "0.2")
    assert code == 0
    fractions = {"fc1": 0.8, "fc2": 0.8, "fc3": 0.5}
    before, after = weights(folder / "base.pt"), weights(folder / "magnitudes.pt")
    for name, fraction in fractions.items():
        magnitudes, kept = before[name].abs(), after[name] != 0
        assert int((~kept).sum()) == round(fraction * WEIGHTS[name])
        assert magnitudes[~kept].max() <= magnitudes[kept].min()
        assert (after[name][kept] != before[name][kept]).float().mean() > 0.9  # and the others have been fine-tuned
        assert report["weights"][name] == {"weights": WEIGHTS[name], "zeros": int((~kept).sum())}
    assert report["pruned_accuracy"] > 0.9 and report["accuracy"]["test"]["float_winners"] > 0.9

    # MACs: image by image, which weights that are not zero meet which neurons that win.
    network = Trained.load(folder / "magnitudes.pt").network
    images = torch.from_numpy(make_split(100, 2).images).float().flatten(1) / 255
    inputs, products = images, {"fc1": float((after["fc1"] != 0).sum())}
    for number, (size, winners) in enumerate(((300, 60), (100, 20)), 1):
        outputs = torch.relu(torch.nn.functional.linear(inputs, after[f"fc{number}"],
                                                        network.state_dict()[f"fc{number}.bias"]))
        order = outputs.argsort(dim=1, descending=True, stable=True)[:, :winners]
        won = torch.zeros(100, size).scatter_(1, order, 1)
        inputs = outputs * won
        products[f"fc{number + 1}"] = (won @ (after[f"fc{number + 1}"] != 0).float().T).sum(1).mean().item()
    found = report["macs"]
    for name, value in products.items():
        assert found["layers"][name]["both"] == pytest.approx(value, rel=1e-3)
    assert found["both"] == pytest.approx(sum(products.values()), rel=1e-3)
    total = sum(WEIGHTS.values())
    assert found["static"] == total - sum(round(fraction * WEIGHTS[name]) for name, fraction in fractions.items())
    assert found["winners"] == pytest.approx(WEIGHTS["fc1"] + 60 * 100 + 20 * 10)
    assert found["both_reduction"] == pytest.approx(1 - found["both"] / total)
    text = capsys.readouterr().out
    assert "zero weights   fc1 80.0%, fc2 80.0%, fc3 50.0%" in text and "pruned weights " in text


def test_blocks_are_left_out_that_the_engine_skips(folder, capsys):
    code, report = run(folder, "blocks", "--prune-blocks", "0.6", "--prune-blocks", "fc1=0.25", "--winner-rate", "0.3",
                       "--cols", "8", "--rows", "4")
    assert code == 0
    network = QuantizedNetwork.load(folder / "blocks.npz")
    # fc1: 38 groups of 8 output channels, fc2: 13; the last, fc3, is left as it is.
    for name, shape, fraction in (("fc1", (38, 784), 0.25), ("fc2", (13, 300), 0.6)):
        weight = network.layer(name).weight[:, :, 0, 0]
        zero = np.array([(weight[start:start + 8] == 0).all(0) for start in range(0, len(weight), 8)])
        assert zero.shape == shape and zero.sum() == round(fraction * zero.size)
        assert report["engine"]["zero_blocks"][name] == {"blocks": zero.size, "zero": int(zero.sum())}
    assert list(report["weights"]) == ["fc1", "fc2"]
    runs = {name: one["cycles"] for name, one in report["engine"]["runs"].items()}
    assert list(runs) == ["dense", "winners", "blocks", "both"]
    assert runs["both"] < min(runs["winners"], runs["blocks"]) <= max(runs["winners"], runs["blocks"]) < runs["dense"]
    # Nearly all of the cycles are fc1's, which reads three quarters of its weights.
    assert runs["blocks"] / runs["dense"] == pytest.approx(0.75, abs=0.03)
    text = capsys.readouterr().out
    assert "both engine " in text and "zero blocks    fc1 25.0%, fc2 60.0%" in text
    # The estimate of the file is that of the run with both.
    assert main(["estimate", str(folder / "blocks.npz"), "--cols", "8", "--rows", "4", "--json",
                 str(folder / "estimate.json")]) == 0
    assert json.loads((folder / "estimate.json").read_text())["total"]["cycles"] == runs["both"]
    assert main(["evaluate", str(folder / "blocks.pt"), "--data", str(folder), "--cols", "8", "--rows", "4", "--json",
                 str(folder / "evaluate.json")]) == 0
    found = json.loads((folder / "evaluate.json").read_text())
    assert found["engine"] == report["engine"] and found["macs"] == report["macs"]
    assert found["weights"] == report["weights"] and found["accuracy"] == report["accuracy"]


def test_zeros_of_a_baseline_stay_zero(folder):
    assert run(folder, "pruned", "--prune", "0.7")[0] == 0
    code = main(["train", "mlp3", "--data", str(folder), "--baseline", str(folder / "pruned.pt"), "--winner-rate",
                 "0.5", "--epochs", "1", "--out", str(folder / "later.pt")])
    assert code == 0
    before, after = weights(folder / "pruned.pt"), weights(folder / "later.pt")
    for name in WEIGHTS:
        assert ((before[name] == 0) == (after[name] == 0)).all() and not torch.equal(before[name], after[name])
        assert int((before[name] == 0).sum()) == round(0.7 * WEIGHTS[name])
    # Without winners there are none to count.
    report = json.loads((folder / "pruned.json").read_text())
    assert report["macs"]["winners"] == report["macs"]["dense"] and report["macs"]["both"] == report["macs"]["static"]
    assert "winners" not in report["engine"]["runs"] and "float_winners" not in report["accuracy"]["test"]


def test_interrupted_in_the_midst_goes_on(folder, capsys, monkeypatch):
    options = ["--prune", "0.8", "--winner-energy", "0.9", "--winner-energy", "0.8"]
    assert run(folder, "whole", *options, "--plot", str(folder / "rounds.png"), epochs=2)[0] == 0
    assert (folder / "rounds.png").read_bytes().startswith(b"\x89PNG")
    labels = []

    def interrupted(at):
        def progress(items, label):
            labels.append(label)
            if label == at:
                raise KeyboardInterrupt
            return items
        return progress

    for at in ("pruned epoch 2/2", "round 2/2 epoch 1/2"):
        monkeypatch.setattr("scripts.train.progress_of", interrupted(at))
        assert run(folder, "parts", *options, epochs=2)[0] == 2
    assert run(folder, "parts", "--prune", "0.7", *options[2:], epochs=2)[0] == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"parts\.work: expected the state of this command, got another's; remove it", error)
    labels.clear()
    monkeypatch.setattr("scripts.train.progress_of", interrupted(None))
    assert run(folder, "parts", *options, epochs=2)[0] == 0
    assert [label for label in labels if "epoch" in label] == ["round 2/2 epoch 1/2", "round 2/2 epoch 2/2"]
    whole, parts = weights(folder / "whole.pt"), weights(folder / "parts.pt")
    assert all(torch.equal(whole[name], parts[name]) for name in WEIGHTS)
    assert not (folder / "parts.work").exists()


def test_neurons_win_by_energy(folder):
    code, report = run(folder, "energy", "--winner-rate", "0.25", "--neuron-energy", "relu2=0.6")
    assert code == 0
    rules = Trained.load(folder / "energy.pt").rules
    assert rules == {"relu1": WinnerRule(rate=0.25), "relu2": WinnerRule(select="energy", eps=0.6)}
    assert {name: WinnerRule.read(rule) for name, rule in report["rules"].items()} == rules
    network = QuantizedNetwork.load(folder / "energy.npz")
    assert network.layer("fc2").ranking.select == "energy"
    # As many as have 60 % of the sum of all, in the mean over the images.
    counts = []
    for image in make_split(100, 2).images:
        scores = np.sort(network.run(as_input(image))[1][1].scores.astype(int))[::-1]
        counts.append(1 + np.searchsorted(scores.cumsum(), round(0.6 * 65536) / 65536 * scores.sum()))
    assert report["winner_rates"]["fc2"] == network.metadata["winner_rates"]["fc2"] == np.mean(counts) / 100
    assert report["engine"]["runs"]["winners"]["macs"] == WEIGHTS["fc1"] + 75 * 100 + 10 * round(np.mean(counts))
    # In rounds, too: its rule is the same in each.
    code, report = run(folder, "both", "--winner-energy", "0.9", "--neuron-energy", "relu2=0.6", epochs=1)
    assert code == 0 and list(report["rounds"][0]["energies"]) == ["relu1"]
    assert report["rules"]["relu2"] == WinnerRule(select="energy", eps=0.6).text()


def test_held_out_digits(folder, monkeypatch, capsys):
    everyone = make_split(400, 1)
    held = Split(everyone.images[30:110], everyone.labels[30:110])
    monkeypatch.setattr(digits, "bundled", lambda: held)
    code, report = run(folder, "held", "--hold-out", "--winner-rate", "0.5", epochs=1)
    assert code == 0 and report["training_images"] == 320 and report["hold_out"]
    network = QuantizedNetwork.load(folder / "held.npz")
    right = [network.run(as_input(image))[-1][1].output.argmax() == label
             for image, label in zip(held.images, held.labels, strict=True)]
    assert list(report["accuracy"]) == ["held_out", "test"]
    assert report["accuracy"]["held_out"]["int8_winners"] == np.mean(right)
    assert "held out" in capsys.readouterr().out
    assert main(["evaluate", str(folder / "held.pt"), "--data", str(folder), "--json", str(folder / "e.json")]) == 0
    assert json.loads((folder / "e.json").read_text())["accuracy"] == report["accuracy"]


@pytest.mark.parametrize("arguments, message", [
    (["mlp3", "--prune", "relu1=0.5"], "--prune: expected a layer among fc1, fc2, fc3, got 'relu1'"),
    (["mlp3", "--prune", "1"], "--prune: expected a number above 0, below 1, got '1'"),
    (["mlp3", "--prune-blocks", "fc1=0"], "--prune-blocks: expected a number above 0, below 1, got '0'"),
    (["lenet4", "--neuron-energy", "pool1=0.5"], "--neuron-energy: expected a layer among relu3, got 'pool1'"),
    (["convnet5", "--hold-out"], "--hold-out: expected a network of mnist, got one of cifar10"),
    (["mlp3", "--gradual", "0.5"], "--gradual: expected --winner-rate or --winner-energy, got none"),
    (["mlp3", "--plot", "plot.png"], "--plot: expected rounds of --winner-energy, got none"),
    (["mlp3", "--hold-out"], "mnist: expected all 5000 bundled digits among the training images, 5000 are absent"),
    (["mlp3", "--prune-blocks", "0.5", "--cols", "0"], "--cols: expected"),
])
def test_refused(folder, tmp_path, arguments, message, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *arguments, "--data", str(folder)]) == 2
    error = capsys.readouterr().err
    assert message in error and "\n" not in error.strip()
    assert not list(tmp_path.iterdir())
