"""``winnow train``, ``evaluate`` and ``winners`` on a small data set, and what they refuse."""

import json

import numpy as np
import pytest
import torch

from golden.dasnet.trained import Trained
from golden.dasnet.training import Schedule
from golden.network import QuantizedNetwork, read_rates
from scripts import options
from scripts.cli import main
from scripts.simulate import _accuracy
from tests.image_files import write_mnist
from tests.test_golden_dasnet_training import make_split


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a data set, a baseline ``base.pt`` and a network with winners ``winners.pt``."""
    path = tmp_path_factory.mktemp("train")
    parts = (make_split(500, 1), make_split(120, 2))
    write_mnist(path, data=[(part.images[:, 0], part.labels.astype(np.uint8)) for part in parts])
    assert main(["train", "mlp3", "--data", str(path), "--epochs", "12", "--out", str(path / "base.pt")]) == 0
    assert main(["train", "mlp3", "--data", str(path), "--baseline", str(path / "base.pt"), "--winner-rate", "0.2",
                 "--winner-rate", "relu2=0.1", "--epochs", "8", "--seed", "5", "--out", str(path / "winners.pt")]) == 0
    return path


def test_train(folder, capsys):
    report = json.loads((folder / "winners.json").read_text())
    assert set(report["accuracy"]["test"]) == {"float_dense", "int8_dense", "float_winners", "int8_winners"}
    # Trained with winners it is not meant to be run dense.
    assert all(report["accuracy"]["test"][f"{kind}_winners"] > 0.9 for kind in ("float", "int8"))
    assert report["winner_rates_of_submodules"] == {"relu1": 0.2, "relu2": 0.1}
    assert report["pruned"] == {"neurons": pytest.approx(1 - (60 + 10) / 400)}
    base = json.loads((folder / "base.json").read_text())
    assert report["baseline_accuracy"] == base["baseline_accuracy"] == base["accuracy"]["test"]["float_dense"]
    assert report["macs"]["dense"] == 784 * 300 + 300 * 100 + 1000
    assert report["macs"]["winners"] == 784 * 300 + 60 * 100 + 10 * 10
    assert report["seed"] == 5 and report["command"].startswith("winnow train mlp3 --data ")
    network = QuantizedNetwork.load(folder / "winners.npz")
    assert [node.ranking and node.ranking.value for node in network.layers] == [60, 10, None]
    assert network.metadata["accuracy"] == report["accuracy"]
    assert set(json.loads((folder / "base.json").read_text())["accuracy"]["test"]) == {"float_dense", "int8_dense"}
    assert not list(folder.glob("*.work"))


@pytest.mark.parametrize("how", [["--winner-rate", "0.3"], ["--winner-energy", "0.99", "--max-drop", "1"],
                                 ["--prune", "0.1"]])
def test_fine_tuning_learns_from_the_teacher(folder, tmp_path, how):
    """Of a teacher that takes every class for the next one a network learns this, in part, beside the labels."""
    teacher = Trained.load(folder / "winners.pt")
    last = list(teacher.network.modules())[-1]
    with torch.no_grad():
        last.weight.copy_(last.weight.roll(1, 0) * 10)
        last.bias.copy_(last.bias.roll(1, 0) * 10)
    teacher.save(tmp_path / "teacher.pt")
    accuracies = []
    for more in ([], ["--teacher", str(tmp_path / "teacher.pt")]):
        assert main(["train", "mlp3", "--data", str(folder), "--baseline", str(folder / "base.pt"), *how, *more,
                     "--epochs", "8", "--out", str(tmp_path / "one.pt")]) == 0
        accuracies.append(json.loads((tmp_path / "one.json").read_text())["accuracy"]["test"]["float_dense"])
    assert accuracies[0] > 0.95 and accuracies[1] < accuracies[0] - 0.05


def test_a_second_fine_tuning_reports_the_first_baseline(folder, tmp_path):
    first = json.loads((folder / "winners.json").read_text())
    for name, baseline in (("second", folder / "winners.pt"), ("third", tmp_path / "second.pt")):
        assert main(["train", "mlp3", "--data", str(folder), "--baseline", str(baseline), "--winner-rate", "0.3",
                     "--score", "relu1=mean", "--epochs", "1", "--out", str(tmp_path / f"{name}.pt")]) == 0
    second, third = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("second", "third"))
    assert first["baseline_accuracy"] == second["baseline_accuracy"] == third["baseline_accuracy"]
    assert "earlier_commands" not in first and second["earlier_commands"] == [first["command"]]
    assert third["earlier_commands"] == [first["command"], second["command"]]
    assert set(second["winner_rates_of_submodules"].values()) == {0.3}
    assert {name: rule["score"] for name, rule in second["rules"].items()} == {"relu1": "mean", "relu2": "max"}


def test_learning_rate(folder, tmp_path):
    """One so low that nothing is learned."""
    before = Trained.load(folder / "base.pt").network.state_dict()
    for rate, same in (("1e-9", True), ("1e-3", False)):
        assert main(["train", "mlp3", "--data", str(folder), "--baseline", str(folder / "base.pt"), "--winner-rate",
                     "0.5", "--epochs", "1", "--learning-rate", rate, "--out", str(tmp_path / "it.pt")]) == 0
        after = Trained.load(tmp_path / "it.pt").network.state_dict()
        assert all(np.allclose(before[name], after[name], atol=1e-6) for name in before) == same


def test_gradual(folder, tmp_path, monkeypatch):
    """The stated fraction reaches the fine-tuning, whose rates fall in it."""
    seen = []
    monkeypatch.setattr(Schedule, "way", lambda self, step, steps: seen.append(self.gradual) or 1.0)
    assert main(["train", "mlp3", "--data", str(folder), "--baseline", str(folder / "base.pt"), "--winner-rate", "0.5",
                 "--epochs", "1", "--gradual", "0.25", "--out", str(tmp_path / "it.pt")]) == 0
    assert set(seen) == {0.25}


def test_evaluate(folder, capsys, monkeypatch):
    quantize, seeds = Trained.quantize, []
    monkeypatch.setattr(Trained, "quantize", lambda self, data, *, seed: seeds.append(seed) or quantize(self, data,
                                                                                                      seed=seed))
    report = json.loads((folder / "winners.json").read_text())
    for name in ("winners.pt", "winners.npz"):
        assert main(["evaluate", str(folder / name), "--data", str(folder), "--json", str(folder / "e.json")]) == 0
        found = json.loads((folder / "e.json").read_text())
        for key, value in found["accuracy"]["test"].items():
            assert value == report["accuracy"]["test"][key]
        runs = found["engine"]["runs"]
        assert list(runs) == ["dense", "winners"] and found["engine"]["zero_blocks"] == {}
        assert runs["winners"]["cycles"] < runs["dense"]["cycles"]
        assert found["macs"] == {name: report["macs"][name] for name in ("dense", "winners", "reduction")}
        saved = runs["dense"]["cycles"] - runs["winners"]["cycles"]
        ranking = found["engine"]["ranking"]
        assert ranking["saved_cycles"] - ranking["ranking_cycles"] == pytest.approx(saved, abs=1)
        assert seeds == [5]  # with which it has been trained
        assert ranking["saved_products"] == report["macs"]["dense"] - report["macs"]["winners"]
    # The engine's figures are those of winnow estimate.
    assert main(["estimate", str(folder / "winners.npz"), "--json", str(folder / "estimate.json")]) == 0
    total = json.loads((folder / "estimate.json").read_text())["total"]
    assert runs["winners"] == {"cycles": total["cycles"], "bytes": total["bytes"], "macs": total["products"]}
    assert report["engine"]["runs"] == runs and report["engine"]["cols"] == 16
    assert "winners engine " in capsys.readouterr().out


def test_winners(folder, capsys):
    path = folder / "statistics.json"
    assert main(["winners", str(folder / "winners.npz"), "--data", str(folder), "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    assert report["rates"] == read_rates(path) == {"fc1": 0.2, "fc2": 0.1}
    layer = report["layers"]["fc1"]
    assert layer["channels"] == len(layer["frequency"]) == 300
    assert layer["mean"] == layer["quantiles"]["0.5"] == 60
    assert sum(layer["frequency"]) == pytest.approx(60, abs=1e-3)
    assert report["images"] == 120 and report["accuracy"] > 0.8
    assert main(["estimate", str(folder / "winners.npz"), "--winner-rates", str(path)]) == 0
    assert "fc1" in capsys.readouterr().out


def test_rounds(folder, capsys):
    out = folder / "rounds.pt"
    assert main(["train", "mlp3", "--data", str(folder), "--baseline", str(folder / "base.pt"), "--winner-energy",
                 "0.9", "--winner-energy", "0.02", "--winner-energy", "0.01", "--max-drop", "0.1", "--epochs", "2",
                 "--out", str(out)]) == 0
    report = json.loads(out.with_suffix(".json").read_text())
    assert len(report["rounds"]) == 2 and report["rounds"][1]["drop"] > 0.1 >= report["rounds"][0]["drop"]
    assert report["accuracy"]["test"]["float_winners"] == report["rounds"][0]["accuracy"]
    text = capsys.readouterr().out
    assert "energies relu1 0.9, relu2 0.9: rates relu1 " in text
    assert all(f"accuracy {one['accuracy']:.2%} ({-one['drop']:+.2%}), " in text for one in report["rounds"])


def test_interrupted(folder, capsys, monkeypatch):
    def interrupt(items, label):
        if "2/3" in label:
            raise KeyboardInterrupt
        return items

    arguments = ["train", "mlp3", "--data", str(folder), "--epochs", "3", "--out", str(folder / "it.pt")]
    with monkeypatch.context() as patched:
        patched.setattr("scripts.train.progress_of", interrupt)
        assert main(arguments) == 2
    assert "interrupted; the same command goes on behind the last whole epoch" in capsys.readouterr().err
    assert (folder / "it.work" / "baseline.pt").exists() and not (folder / "it.pt").exists()
    labels = []
    monkeypatch.setattr("scripts.train.progress_of", lambda items, label: labels.append(label) or items)
    assert main(arguments) == 0
    assert labels[:2] == ["baseline epoch 2/3", "baseline epoch 3/3"]
    assert not (folder / "it.work").exists()
    capsys.readouterr()


@pytest.mark.parametrize("arguments, message", [
    (["lenet5"], "network: expected one of mlp3, lenet4, convnet5, resnet20, resnet56, alexnet, mobilenet, got "
                 "'lenet5'"),
    (["mlp3", "--winner-rate", "relu7=0.5"], "--winner-rate: expected a layer among relu1, relu2, got 'relu7'"),
    (["mlp3", "--winner-rate", "1.5"], "--winner-rate: expected a number above 0, at most 1, got '1.5'"),
    (["mlp3", "--winner-energy", "relu1=much"], "--winner-energy: expected a number above 0, at most 1, got 'much'"),
    (["mlp3", "--winner-energy", "0.5", "--winner-rate", "0.5"],
     "--winner-energy, --winner-rate: expected one of them, got both"),
    (["mlp3", "--baseline", "FOLDER/winners.npz"],
     "FOLDER/winners.npz: expected a file that winnow train wrote, got something else"),
    (["lenet4", "--baseline", "FOLDER/base.pt"], "--baseline: expected a lenet4, got a mlp3"),
    (["lenet4", "--winner-rate", "0.5", "--teacher", "FOLDER/base.pt"], "--teacher: expected a lenet4, got a mlp3"),
    (["mlp3", "--teacher", "FOLDER/base.pt"], "--teacher: expected winners or --prune to fine-tune for, got neither"),
    (["mlp3", "--weights", "FOLDER/base.pt"],
     "FOLDER/base.pt: expected the published weights of this network, got something else"),
    (["convnet5"], "cifar10: "),
    (["mlp3", "--out", "FOLDER/it.npz"], "expected a name that ends with .pt, got it.npz")])
def test_refused(folder, tmp_path, arguments, message, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [one.replace("FOLDER", str(folder)) for one in arguments]
    assert main(["train", *arguments, "--data", str(folder)]) == 2
    error = capsys.readouterr().err
    assert message.replace("FOLDER", str(folder)) in error and "\n" not in error.strip()
    assert not list(tmp_path.iterdir())


def test_accuracy_recorded_with_a_baseline(folder, capsys):
    """It has none with winners."""
    recorded = _accuracy(QuantizedNetwork.load(folder / "base.npz"), None)["recorded"]
    assert set(recorded["test"]) == {"float_dense", "int8_dense"}
    value = 100 * recorded["test"]["int8_dense"]
    assert capsys.readouterr().out == f"Accuracy recorded on test digits: {value:.2f} % dense\n"


def test_progress_is_quiet_in_a_log(capsys):
    assert list(options.progress_of(range(3), "label")) == [0, 1, 2]
    assert capsys.readouterr().err == ""
