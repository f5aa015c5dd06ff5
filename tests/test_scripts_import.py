"""``winnow import``, ``run`` and ``show`` from the command line, on small models that the test makes."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from PIL import Image

from golden.images import read_inputs
from golden.network import QuantizedNetwork
from scripts.cli import main
from scripts.tflite_kernels import as_int8, interpreter
from tests.onnx_models import ModelBuilder as OnnxBuilder
from tests.tflite_models import ModelBuilder, random_inputs

ENGINE = ["--rows", "4", "--cols", "4", "--axi-width", "64", "--act-buffer-bytes", "4096",
          "--weight-buffer-bytes", "4096"]


def residual_model() -> bytes:
    """An int8 classifier of ten classes for 8x8 colour pictures, with a shortcut and a pool."""
    model = ModelBuilder(5)
    x = model.input((1, 8, 8, 3), "INT8", 1 / 255, -128)
    y = model.window("CONV_2D", [x, model.weights((16, 3, 3, 3)), model.bias(16)], (1, 8, 8, 16), scale=0.02,
                     zero_point=-128, padding="SAME", activation="RELU")
    z = model.window("CONV_2D", [y, model.weights((16, 3, 3, 16)), model.bias(16)], (1, 8, 8, 16), scale=0.05,
                     zero_point=3, padding="SAME")
    z = model.operator("ADD", [y, z], (1, 8, 8, 16), scale=0.04, zero_point=-128, FusedActivationFunction=1)
    z = model.window("AVERAGE_POOL_2D", [z], (1, 1, 1, 16), scale=0.04, zero_point=-128, kernel=(8, 8), stride=(8, 8))
    z = model.operator("RESHAPE", [z, model.constant(np.array([1, 16], np.int32))], (1, 16), scale=0.04,
                       zero_point=-128)
    weights = model.weights((10, 16), axis=None)
    bias = model.bias(10, 0.04 * float(model.tensors[weights]["scales"][0]))
    z = model.operator("FULLY_CONNECTED", [z, weights, bias], (1, 10), scale=0.02, zero_point=4,
                       FusedActivationFunction=0)
    z = model.operator("SOFTMAX", [z], (1, 10), scale=1 / 256, zero_point=-128, Beta=1.0)
    return model.finish(z)


@pytest.fixture
def model(tmp_path) -> Path:
    path = tmp_path / "small.tflite"
    path.write_bytes(residual_model())
    return path


@pytest.fixture
def network(model, tmp_path, capsys) -> Path:
    path = tmp_path / "small.npz"
    assert main(["import", str(model), "--out", str(path)]) == 0
    capsys.readouterr()
    return path


def report_of(capsys, *arguments: str) -> dict:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["net.npz", "net.json", "NET"])
def test_import_and_run_under_any_name(name, model, tmp_path, capsys):
    path = tmp_path / name
    assert main(["import", str(model), "--out", str(path), "--name", "tiny"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [f"{path}: tiny, 5 layers, 175,264 multiplications, 2,938 parameters; input 3x8x8, output 10x1x1",
                       "Left to the host: softmax"]
    np.save(tmp_path / "x.npy", random_inputs(residual_model(), 3))
    assert main(["run", str(path), "--input", str(tmp_path / "x.npy")]) == 0
    assert capsys.readouterr().out.startswith("tiny, 3 inputs of ")


def test_outputs_are_tflite_s_own(model, network, tmp_path, capsys):
    inputs, output = random_inputs(residual_model(), 7), tmp_path / "y.npy"
    np.save(tmp_path / "x.npy", inputs)
    report = report_of(capsys, "run", str(network), "--input", str(tmp_path / "x.npy"), "--output", str(output))
    runner = interpreter(residual_model(), keep_all=True)
    index = runner.get_input_details()[0]["index"]
    tensor = int(next(number for number, layer in QuantizedNetwork.load(network).metadata["tensors"].items()
                      if layer == "fc_5"))
    for number, (one, found) in enumerate(zip(inputs, np.load(output), strict=True)):
        runner.set_tensor(index, one[None])
        runner.invoke()
        np.testing.assert_array_equal(as_int8(runner.get_tensor(tensor))[0], found)
        top = report["results"][number]["top"]
        values = np.exp((found.astype(float) - 4) * np.float32(0.02))
        assert [one["class"] for one in top] == np.argsort(-found.astype(int), kind="stable")[:5].tolist()
        assert [one["score"] for one in top] == pytest.approx(sorted(values / values.sum(), reverse=True)[:5])
    assert report["images"] == 7 and report["engine"] == "golden" and report["images_per_second"] > 0
    assert report["total"]["cycles"] == sum(layer["cycles"] for layer in report["layers"])
    assert [layer["name"] for layer in report["layers"]] == ["conv_0", "conv_1", "add_2", "average_pool_3", "fc_5"]
    # The model itself is as good as the network that was written.
    again = report_of(capsys, "run", str(model), "--input", str(tmp_path / "x.npy"))
    assert again["results"] == report["results"]


def test_every_layer_in_rtl(network, tmp_path, capsys):
    np.save(tmp_path / "x.npy", random_inputs(residual_model(), 2))
    arguments = ["run", str(network), "--input", str(tmp_path / "x.npy"), "--images", "2", *ENGINE, "--wta", "all=0.5"]
    report = report_of(capsys, *arguments, "--engine", "rtl", "--keep-outputs")
    assert report["bit_exact"] and report["outputs_on_chip"] == [] and len(report["cycles"]) == 2
    golden = report_of(capsys, *arguments)
    assert report["results"] == golden["results"]
    by_name = {layer["name"]: layer for layer in report["layers"]}
    assert (by_name["conv_1"]["winners"], by_name["conv_1"]["channels"]) == (8, 16)
    assert main([*arguments, "--engine", "rtl"]) == 0
    assert "Bit-exact, every layer's output, scores and winners: yes" in capsys.readouterr().out


@pytest.mark.parametrize("wta, ranked", [
    ("all=0.5", {"conv_0": 8, "conv_1": 8, "add_2": 8, "average_pool_3": 8}),
    ("conv_0=0.25", {"conv_0": 4}), ("all=0.5,add_2=0.25", {"conv_0": 8, "conv_1": 8, "add_2": 4, "average_pool_3": 8}),
    ("conv_0=1,conv_1=0.01", {"conv_0": 16, "conv_1": 1}),
    ("energy=0.9", dict.fromkeys(("conv_0", "conv_1", "add_2", "average_pool_3"), 0.9))])
def test_winners(wta, ranked, model, tmp_path, capsys):
    path = tmp_path / "net.npz"
    assert main(["import", str(model), "--out", str(path), "--wta", wta]) == 0
    expected = {name: value for name, value in ranked.items() if name in
                {node.name for node in QuantizedNetwork.load(path).layers if node.ranking}}
    network = QuantizedNetwork.load(path)
    assert {node.name: node.ranking.value for node in network.layers if node.ranking} == expected
    assert expected.keys() >= {"conv_0"}
    np.save(tmp_path / "x.npy", random_inputs(residual_model(), 4))
    report = report_of(capsys, "run", str(path), "--input", str(tmp_path / "x.npy"))
    assert report["winner_rates"].keys() == expected.keys()
    dense = report_of(capsys, "run", str(path), "--input", str(tmp_path / "x.npy"), "--dense")
    assert dense["winner_rates"] == {} and dense["total"]["cycles"] > 0
    assert main(["show", str(path)]) == 0


@pytest.mark.parametrize("wta, message", [
    ("conv_9=0.5", r"winners: expected layers among conv_0, conv_1, .*, got 'conv_9'"),
    ("all", r"--wta: expected LAYER=RATE,..., all=RATE or energy=SHARE, each number above 0 and at most 1, got 'all'"),
    ("conv_0=2", r"--wta: expected .*, got 'conv_0=2'"), ("conv_0=x", r"--wta: expected .*, got 'conv_0=x'"),
    ("conv_0=0.5,conv_0=0.4", r"--wta: expected conv_0 once, got it twice"),
    ("energy=0.9,conv_0=0.4", r"--wta: expected energy=SHARE alone, got other rates, too")])
def test_refused_winners(wta, message, model, tmp_path, capsys):
    assert main(["import", str(model), "--out", str(tmp_path / "net.npz"), "--wta", wta]) == 2
    assert re.fullmatch(f"winnow: error: {message}\n", capsys.readouterr().err)
    assert not (tmp_path / "net.npz").exists()


def test_refused_models(tmp_path, capsys):
    bad = ModelBuilder()
    x = bad.input((1, 8, 8, 3))
    path = tmp_path / "bad.tflite"
    path.write_bytes(bad.finish(bad.operator("LOGISTIC", [x], (1, 8, 8, 3))))
    for command in (["import", str(path), "--out", str(tmp_path / "net.npz")], ["show", str(path)],
                    ["run", str(path), "--input", str(path)]):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert re.fullmatch(rf"winnow: error: {re.escape(str(path))}: operator 0: expected .*, got LOGISTIC\n", error)
    assert not (tmp_path / "net.npz").exists()
    other = tmp_path / "model.pb"
    other.write_bytes(b"")
    assert main(["import", str(other), "--out", str(tmp_path / "net.npz")]) == 2
    assert capsys.readouterr().err == (f"winnow: error: {other}: expected a name that ends with .tflite or .onnx\n")
    assert main(["run", str(tmp_path / "none.tflite"), "--input", str(other)]) == 2
    assert "expected an existing file, got no such file" in capsys.readouterr().err
    assert main(["run", str(other), "--input", str(other)]) == 2
    assert capsys.readouterr().err == f"winnow: error: {other}: expected an npz file, got something unreadable\n"


def test_pictures_and_folders(network, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("WINNOW_DATA", raising=False)
    random = np.random.default_rng(0)
    for name in ("3/a.png", "3/b.png", "7/c.jpg"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (20, 30, 3)).astype(np.uint8)).save(tmp_path / "data" / name)
    report = report_of(capsys, "run", str(network), "--data", str(tmp_path / "data"))
    assert [(one["input"], one["label"]) for one in report["results"]] == [("a.png", 3), ("b.png", 3), ("c.jpg", 7)]
    right = [one["top"][0]["class"] == one["label"] for one in report["results"]]
    assert report["accuracy"] == np.mean(right) and report["top5_accuracy"] >= report["accuracy"]
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"  {number}  name {number}" for number in range(10)))
    report = report_of(capsys, "run", str(network), "--input", str(tmp_path / "data/3/a.png"), "--labels", str(labels))
    assert all(one["name"] == f"name {one['class']}" for one in report["results"][0]["top"])
    assert "accuracy" not in report
    assert main(["run", str(network)]) == 2
    assert capsys.readouterr().err == "winnow: error: --input, --data: expected one of them, got none\n"


def test_data_set_of_the_network_s_input(tmp_path, capsys):
    """MNIST's files in a folder: labels, accuracy, the first images alone."""
    model = ModelBuilder()
    x = model.input((1, 28, 28, 1), "INT8", 1 / 255, -128)
    weights = model.weights((10, 784), axis=None)
    y = model.operator("FULLY_CONNECTED", [x, weights], (1, 10), scale=0.2, zero_point=0, FusedActivationFunction=0)
    (tmp_path / "flat.tflite").write_bytes(model.finish(y))
    random, data = np.random.default_rng(0), tmp_path / "data"
    data.mkdir()
    for part, count in (("train", 3), ("t10k", 6)):
        images = random.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        labels = random.integers(0, 10, count).astype(np.uint8)
        for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            header = bytes((0, 0, 8, array.ndim)) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            (data / name).write_bytes(header + array.tobytes())
    report = report_of(capsys, "run", str(tmp_path / "flat.tflite"), "--data", str(data), "--images", "4")
    assert report["source"] == "MNIST (test)" and report["images"] == 4
    assert [one["label"] for one in report["results"]] == labels[:4].tolist()
    values = np.frombuffer(model.tensors[weights]["data"], np.int8).reshape(10, 784).astype(int)
    sums = images[:4].reshape(4, 784).astype(int) @ values.T
    factor = float(np.float32(1 / 255)) * float(model.tensors[weights]["scales"][0]) / float(np.float32(0.2))
    found = np.clip(np.rint(sums * factor), -128, 127).astype(int)
    assert [one["top"][0]["class"] for one in report["results"]] == found.argmax(1).tolist()


def test_normalization(model, tmp_path, capsys):
    path = tmp_path / "net.npz"
    arguments = ["import", str(model), "--out", str(path)]
    for stated, message in ((["--mean", "1,2"], "both or neither, got one of them"),
                            (["--mean", "1,2", "--std", "1,x"], "a number for each channel, got 1,2 and 1,x"),
                            (["--mean", "1,2", "--std", "1,0"], "a number for each channel, got 1,2 and 1,0"),
                            (["--mean", "0,0", "--std", "1,1"], "3 numbers, got 2")):
        assert main([*arguments, *stated]) == 2
        assert capsys.readouterr().err == f"winnow: error: --mean, --std: expected {message}\n"
    assert not path.exists()
    assert main([*arguments, "--mean", "0,0,0", "--std", "2,2,2"]) == 0
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(tmp_path / "x.png")
    network = QuantizedNetwork.load(path)
    assert (read_inputs(network, tmp_path / "x.png") == 100 - 128).all()


def test_show(network, tmp_path, capsys):
    svg, path = tmp_path / "net.svg", tmp_path / "net.json"
    assert main(["show", str(network), "--svg", str(svg), "--json", str(path), "--wta", "conv_0=0.5", *ENGINE]) == 0
    text, report = capsys.readouterr().out, json.loads(path.read_text())
    model = QuantizedNetwork.load(network)
    assert [one["name"] for one in report["layers"]] == [node.name for node in model.layers]
    for one, node in zip(report["layers"], model.layers, strict=True):
        assert (one["macs"], one["parameters"], one["scale"]) == (node.macs, node.parameters, node.output_scale)
        assert one["cycles"] > 0 and one["bytes"] == one["bytes_read"] + one["bytes_written"]
        assert f"{one['macs']:,}" in text and node.name in text
    assert report["layers"][0]["winners"] == "topk 8" and report["total"]["macs"] == 175_264
    assert text.startswith("small: input 3x8x8, scale 0.00392157, zero point -128; predicted for a 4x4 array")
    assert "Left to the host: softmax" in text
    texts = [one.text for one in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert {"input", "add_2", "winners: topk 8"} <= set(texts)


def test_onnx(tmp_path, capsys):
    m = OnnxBuilder((1, 3, 8, 8))
    y = m.node("Conv", [m.nodes[-1].output[0], m.weights((10, 3, 8, 8)), m.bias(10, 0.05)])
    onnx.save(m.finish(m.quantized(m.node("Relu", [y]), 0.2, -128)), tmp_path / "model.onnx")
    path = tmp_path / "net.npz"
    assert main(["import", str(tmp_path / "model.onnx"), "--out", str(path)]) == 0
    assert [node.name for node in QuantizedNetwork.load(path).layers] == ["conv_4"]
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32))
    assert report_of(capsys, "run", str(path), "--input", str(tmp_path / "x.npy"))["images"] == 2
