"""``winnow evaluate --compare-scores`` and ``winnow winners`` of a float network."""

import json

import numpy as np
import pytest
import torch

from golden.dasnet.curves import accuracies_at, rates_of_energies
from golden.dasnet.finetune import analysed_images, rules_of
from golden.dasnet.recipes import recipe
from golden.dasnet.sensitivity import cheapest, choices
from golden.dasnet.trained import Trained
from golden.dasnet.winners import attach
from golden.datasets import Split, load
from scripts import winner_curves
from scripts.cheapest_rates import RATES
from scripts.cli import main
from tests.image_files import write_mnist
from tests.test_golden_dasnet_training import make_split


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a data set, a LeNet-4 and an MLP-3 that have not been trained."""
    path = tmp_path_factory.mktemp("curves")
    parts = (make_split(120, 1), make_split(100, 2))
    write_mnist(path, data=[(part.images[:, 0], part.labels.astype(np.uint8)) for part in parts])
    for name in ("lenet4", "mlp3"):
        torch.manual_seed(2)
        Trained(name=name, network=recipe(name).build().eval()).save(path / f"{name}.pt")
    return path


def report_of(folder, *arguments):
    path = folder / "report.json"
    assert main([*arguments, "--data", str(folder), "--json", str(path)]) == 0
    return json.loads(path.read_text())


def test_scores_are_compared_at_the_same_rates(folder, capsys):
    plot = folder / "scores.png"
    report = report_of(folder, "evaluate", str(folder / "lenet4.pt"), "--compare-scores", "--winner-energy", "0.9",
                       "--winner-energy", "0.4", "--seed", "3", "--plot", str(plot))
    trained, data = Trained.load(folder / "lenet4.pt"), load("mnist", folder)
    network, view = trained.network, trained.recipe.view
    rates = rates_of_energies(network, ["pool1", "pool2"], [0.4, 0.9], data.train, view, seed=3)
    assert [point["energy"] for point in report["points"]] == [0.4, 0.9]
    for number, point in enumerate(report["points"]):
        assert point["rates"] == {name: found[number] for name, found in rates.items()}  # neurons do not rank
        assert set(point["accuracy"]) == {"max", "mean"}
        for score, value in point["accuracy"].items():
            assert [value] == accuracies_at(network, [point["rates"]], data.test, view, score=score)
    assert report["baseline_accuracy"] == trained.accuracy(data.test, dense=True)
    assert report["command"].startswith("winnow evaluate ") and report["epochs"] == 0
    assert plot.read_bytes().startswith(b"\x89PNG")
    text = capsys.readouterr().out
    assert "energy" in text and "40.0%" in text and "mean" in text


def test_scores_with_fine_tuning_at_stated_rates(folder, monkeypatch):
    curves = {}

    def draw(found, baseline, *, across, title):
        curves.update(found, across=across)
        return type("Figure", (), {"savefig": lambda self, path, dpi: None})()

    monkeypatch.setattr("golden.dasnet.plots.plot_scores", draw)
    report = report_of(folder, "evaluate", str(folder / "lenet4.pt"), "--compare-scores", "--winner-rate", "0.5",
                       "--epochs", "1", "--plot", str(folder / "none.png"))
    point, = report["points"]
    assert point["rate"] == 0.5 and point["rates"] == {"pool1": 0.5, "pool2": 0.5}
    assert list(point["accuracy"]) == ["max", "mean", "max, fine-tuned", "mean, fine-tuned"]
    assert point["accuracy"]["max, fine-tuned"] != point["accuracy"]["max"]
    assert curves.pop("across") == "winner rate of the feature maps"
    assert curves == {label: [(0.5, point["accuracy"][name])] for label, name in (
        ("max score, without fine-tuning", "max"), ("mean score, without fine-tuning", "mean"),
        ("max score, 1 epoch of fine-tuning", "max, fine-tuned"),
        ("mean score, 1 epoch of fine-tuning", "mean, fine-tuned"))}
    assert not (folder / "lenet4.work").exists()


def test_interrupted_comparison_goes_on(folder, capsys, monkeypatch):
    arguments = ["evaluate", str(folder / "lenet4.pt"), "--compare-scores", "--winner-rate", "0.25", "--winner-rate",
                 "0.5", "--epochs", "1", "--data", str(folder), "--json", str(folder / "it.json")]
    labels = []

    def interrupt(items, label):
        labels.append(label)
        if label == "mean 1/2 epoch 1/1":
            raise KeyboardInterrupt
        return items

    with monkeypatch.context() as patched:
        patched.setattr(winner_curves, "progress_of", interrupt)
        assert main(arguments) == 2
    assert "interrupted; the same command goes on behind the last whole epoch" in capsys.readouterr().err
    assert sorted(path.name for path in (folder / "lenet4.work").glob("*.pt")) == ["max1.pt", "max2.pt"]
    assert main([*arguments, "--seed", "4"]) == 2
    assert "lenet4.work: expected the state of this command, got another's" in capsys.readouterr().err
    labels.clear()
    monkeypatch.setattr(winner_curves, "progress_of", lambda items, label: labels.append(label) or items)
    assert main(arguments) == 0
    assert [label for label in labels if "epoch" in label] == ["mean 1/2 epoch 1/1", "mean 2/2 epoch 1/1"]
    assert not (folder / "lenet4.work").exists()


def test_thresholds(folder, capsys):
    files = folder / "curves.png", folder / "layers.png"
    report = report_of(folder, "winners", str(folder / "lenet4.pt"), "--winner-energy", "0.8", "--winner-energy",
                       "0.5", "--plot", str(files[0]), "--plot-layers", str(files[1]))
    trained, data = Trained.load(folder / "lenet4.pt"), load("mnist", folder)
    network, view = trained.network, trained.recipe.view
    rates = rates_of_energies(network, ["pool1", "pool2", "relu3"], [0.5, 0.8], data.train, view, seed=0)
    assert report["energies"] == [0.5, 0.8]
    for name, layers in (("feature maps", ["pool1", "pool2"]), ("neurons", ["relu3"])):
        kind = report["kinds"][name]
        assert kind["rates"] == {layer: rates[layer] for layer in layers}
        points = [{layer: rates[layer][number] for layer in layers} for number in range(2)]
        assert kind["accuracies"] == accuracies_at(network, points, data.test, view)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in files)
    text = capsys.readouterr().out
    assert "accuracy, feature maps" in text and "winner rate at energy" in text
    quick = report_of(folder, "winners", str(folder / "mlp3.pt"), "--no-accuracy", "--plot", str(files[0]))
    assert list(quick["kinds"]) == ["neurons"] and "accuracies" not in quick["kinds"]["neurons"]
    assert quick["energies"] == list(winner_curves.ENERGIES) and "baseline_accuracy" not in quick


def test_rates_that_cost_least(folder, capsys):
    path = folder / "rates.json"
    report = report_of(folder, "winners", str(folder / "lenet4.pt"), "--save-macs", "0.5", "--seed", "7")
    trained, data = Trained.load(folder / "lenet4.pt"), load("mnist", folder)
    network, view = trained.network, trained.recipe.view
    found = choices(network, analysed_images(data.train, view, seed=7), trained.recipe.ranked, RATES, ("max", "mean"),
                    progress=lambda items, label: items, bfloat16=True)
    assert report["choices"] == {name: [vars(one) for one in options] for name, options in found.items()}
    chosen = cheapest(found, 0.5)
    assert report["rates"] == {name: one.rate for name, one in chosen.items()}
    assert report["scores"] == {name: one.score for name, one in chosen.items()}
    copy = Trained.load(folder / "lenet4.pt")
    attach(copy.network, rules_of(report["rates"], report["scores"]))
    assert report["accuracy"] == copy.accuracy(data.test, dense=False)
    assert report["baseline_accuracy"] == trained.accuracy(data.test, dense=True)
    assert f"{report['saved']:.2%} of the MACs saved, divergence " in capsys.readouterr().out
    # What winnow train makes of it.
    path.write_text(json.dumps(report))
    assert main(["train", "lenet4", "--data", str(folder), "--baseline", str(folder / "lenet4.pt"), "--winner-rates",
                 str(path), "--epochs", "0", "--out", str(folder / "least.pt")]) == 0
    trained = json.loads((folder / "least.json").read_text())
    assert {name: (rule["rate"], rule["score"]) for name, rule in trained["rules"].items()} == {
        name: (one.rate, one.score) for name, one in chosen.items()}
    assert trained["macs"]["reduction"] == pytest.approx(report["saved"], abs=1e-6) and report["saved"] >= 0.5


def test_more_than_can_be_saved_is_refused_before_it_is_measured(folder, capsys, monkeypatch):
    monkeypatch.setattr("golden.dasnet.sensitivity.choices", None)
    assert main(["winners", str(folder / "lenet4.pt"), "--data", str(folder), "--save-macs", "0.95", "--json",
                 str(folder / "none.json")]) == 2
    assert "--save-macs: expected a fraction of the MACs above 0, at most 0." in capsys.readouterr().err
    assert not (folder / "none.json").exists()


@pytest.mark.parametrize("text, message", [
    ('{"pool9": 0.5}', "--winner-rates: it.json: expected layers among pool1, pool2, relu3, got 'pool9'"),
    ('{"rates": {"pool1": 0.5}, "scores": {"pool1": "least"}}', "it.json: expected scores among max, mean, got "),
    ('{"pool1": 0}', "it.json: expected a JSON object of layers and their rates above 0, at most 1"),
])
def test_refused_rates(folder, tmp_path, text, message, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "it.json").write_text(text)
    assert main(["train", "lenet4", "--data", str(folder), "--winner-rates", "it.json"]) == 2
    assert message in capsys.readouterr().err and [path.name for path in tmp_path.iterdir()] == ["it.json"]


@pytest.mark.parametrize("arguments, message", [
    (["evaluate", "mlp3.pt", "--compare-scores"],
     "--compare-scores: expected a network that ranks feature maps, got mlp3, which ranks neurons alone"),
    (["evaluate", "lenet4.npz", "--compare-scores"], "--compare-scores: expected FILE.pt of winnow train, got "),
    (["evaluate", "lenet4.pt", "--winner-rate", "0.5"],
     "--plot, --winner-energy, --winner-rate, --epochs: expected --compare-scores, too"),
    (["evaluate", "lenet4.pt", "--compare-scores", "--winner-rate", "0.5", "--winner-energy", "0.5"],
     "--winner-energy, --winner-rate: expected one of them, got both"),
    (["winners", "lenet4.npz", "--plot", "plot.png", "--json", "it.json"],
     "--winner-energy, --save-macs, --plot, --plot-layers: expected FILE.pt of winnow train, got "),
    (["winners", "lenet4.npz", "--save-macs", "0.5", "--json", "it.json"],
     "--winner-energy, --save-macs, --plot, --plot-layers: expected FILE.pt of winnow train, got "),
    (["winners", "lenet4.pt", "--save-macs", "0.5", "--plot", "it.png", "--json", "it.json"],
     "--save-macs: expected none of --winner-energy, --plot, --plot-layers"),
    (["winners", "mlp3.pt", "--save-macs", "0.5", "--json", "it.json"],
     "--save-macs: expected a fraction of the MACs above 0, at most 0."),
])
def test_refused(folder, tmp_path, arguments, message, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained, data = Trained.load(folder / "lenet4.pt"), Split(*vars(load("mnist", folder).train).values())
    if not (folder / "lenet4.npz").exists():
        trained.quantize(type("Data", (), {"train": data})).save(folder / "lenet4.npz")
    arguments[1] = str(folder / arguments[1])
    assert main([*arguments, "--data", str(folder)]) == 2
    error = capsys.readouterr().err
    assert message in error and "\n" not in error.strip() and not list(tmp_path.iterdir())
