"""The command that compares imported models with TFLite's kernels, on small models that the test makes."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from golden.import_tflite import import_tflite
from scripts.cli import main as winnow
from scripts.compare_tflite import main
from scripts.tflite_kernels import as_int8, compare, interpreter, model_values
from tests.image_files import MNIST, write_mnist
from tests.tflite_models import ModelBuilder

ZERO_POINTS = {"INT8": (3, -128, 0), "UINT8": (131, 0, 131)}


def small_model(folder: Path, kind: str = "INT8", name: str = "small.tflite") -> Path:
    """Two convolutions and a softmax for ten classes of 8x8 colour pictures."""
    model, (first, last, weight) = ModelBuilder(2), ZERO_POINTS[kind]
    axis = 0 if kind == "INT8" else None
    x = model.input((1, 8, 8, 3), kind, 0.05, first)
    y = model.window("CONV_2D", [x, model.weights((6, 3, 3, 3), kind, axis=axis, zero_point=weight), model.bias(6)],
                     (1, 6, 6, 6), dtype=kind, zero_point=last, activation="RELU")
    y = model.window("CONV_2D", [y, model.weights((10, 6, 6, 6), kind, axis=axis, zero_point=weight), model.bias(10)],
                     (1, 1, 1, 10), dtype=kind, scale=0.3, zero_point=last + 100)
    y = model.operator("RESHAPE", [y, model.constant(np.array([1, 10], np.int32))], (1, 10), kind, scale=0.3,
                       zero_point=last + 100)
    y = model.operator("SOFTMAX", [y], (1, 10), kind, scale=1 / 256, zero_point=-128 if kind == "INT8" else 0, Beta=1.0)
    (folder / name).write_bytes(model.finish(y))
    return folder / name


@pytest.mark.parametrize("kind", ZERO_POINTS)
def test_equal_models(kind, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("WINNOW_DATA", raising=False)
    path, inputs, report = small_model(tmp_path, kind), tmp_path / "x.npy", tmp_path / "report.json"
    assert main([str(path), "--inputs", "30", "--tensors", "4", "--seed", "5", "--save-inputs", str(inputs),
                 "--json", str(report)]) == 0
    assert capsys.readouterr().out == (
        f"small.tflite: {kind.lower()}, 2 layers, 7,992 MACs; random, seed 5\n"
        "  output for 30 inputs: 0 of 300 bytes differ\n  2 tensors for 4 inputs: 0 of 904 bytes differ\n")
    found = json.loads(report.read_text())
    assert found["seed"] == 5 and len(found["models"]) == 1
    # The inputs that were saved are those of the model, as TFLite takes them and winnow run does.
    saved = np.load(inputs)
    assert saved.shape == (30, 8, 8, 3) and saved.dtype == kind.lower()
    assert winnow(["run", str(path), "--input", str(inputs), "--output", str(tmp_path / "y.npy")]) == 0
    runner, network = interpreter(path.read_bytes(), keep_all=True), import_tflite(path)
    number = next(int(number) for number, layer in network.metadata["tensors"].items() if layer == "conv_1")
    for one, output in zip(saved, np.load(tmp_path / "y.npy"), strict=True):
        runner.set_tensor(0, one[None])
        runner.invoke()
        np.testing.assert_array_equal(runner.get_tensor(number).ravel(), output)


def test_classes(tmp_path):
    """The place of the largest of TFLite's values, the first of equal ones."""
    path = small_model(tmp_path)
    network, runner = import_tflite(path), interpreter(path.read_bytes(), keep_all=True)
    planes = np.random.default_rng(0).integers(-128, 128, (60, 3, 8, 8), np.int8)
    found = compare(network, runner, planes)
    outputs = np.stack([network.run(one)[-1][1].output for one in planes]).reshape(60, 10)
    assert found.largest.tolist() == outputs.argmax(1).tolist()
    assert len(set(found.largest.tolist())) > 2
    assert (as_int8(model_values(network, planes)) == planes.transpose(0, 2, 3, 1)).all()


def test_differences_are_counted(tmp_path, capsys, monkeypatch):
    path, other = small_model(tmp_path), small_model(tmp_path, name="other.tflite")
    network = import_tflite(path)
    network.layers[0].tensors.bias[2] += 3000
    monkeypatch.setattr("golden.import_tflite.import_tflite", lambda file, **_: (
        network if file == path else import_tflite(file)))
    assert main([str(path), str(other), "--inputs", "20", "--tensors", "3"]) == 1
    printed, error = capsys.readouterr()
    counts = [int(count) for count in re.findall(r": (\d+) of", printed)]
    assert counts[0] > 10 and counts[1] > 50 and counts[2:] == [0, 0]
    assert error.endswith("winnow: error: bytes differ: small.tflite\n")


def test_accuracy(tmp_path, capsys):
    """Of the test images of the data set whose sizes and classes the model has, with both sets of kernels."""
    model = ModelBuilder()
    x = model.input((1, 28, 28, 1), "INT8", 1 / 255, -128)
    weights = model.weights((10, 784), axis=None)
    bias = model.bias(10, float(np.float32(1 / 255) * model.tensors[weights]["scales"][0]))
    y = model.operator("FULLY_CONNECTED", [x, weights, bias], (1, 10), scale=0.2, zero_point=0,
                       FusedActivationFunction=0)
    path, report = tmp_path / "flat.tflite", tmp_path / "report.json"
    path.write_bytes(model.finish(y))
    write_mnist(tmp_path)
    assert main([str(path), "--data", str(tmp_path), "--default-kernels", "--json", str(report)]) == 0
    found = json.loads(report.read_text())["models"][0]
    assert (found["source"], found["output"]["inputs"]) == ("MNIST (test)", 30)
    images, labels = MNIST[1]
    network = import_tflite(path)
    places = [int(network.run((one.astype(int) - 128).astype(np.int8).reshape(784, 1, 1))[-1][1].output.argmax())
              for one in images]
    assert found["accuracy"] == pytest.approx(np.mean(places == labels))
    assert abs(found["accuracy_default"] - found["accuracy"]) < 0.2  # They round otherwise.
    assert re.search(r"\n  accuracy: [\d.]+%\n  with TFLite's default kernels: [\d.]+%\n$", capsys.readouterr().out)


def test_refusals(tmp_path, capsys):
    path = small_model(tmp_path)
    assert main([str(path), str(path), "--save-inputs", str(tmp_path / "x.npy")]) == 2
    assert capsys.readouterr().err == "winnow: error: --save-inputs: expected one model, got 2\n"
    path.write_bytes(b"nothing")
    assert main([str(path)]) == 2
    assert capsys.readouterr().err == (
        f"winnow: error: {path}: expected a .tflite file, got something else\n")
