"""The committed int8 LeNet-4, and what made it: digits, winners-take-all, training, quantization."""

import gzip
import struct

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from golden import digits, lenet
from golden.dasnet.winners import set_dense
from golden.digits import Digits, DigitsError
from golden.network import QuantizedNetwork
from golden.numerics import requantize
from golden.quantization import accuracy, activation_scale, quantize_layer, quantize_pixels, run_batch, winner_rates
from scripts import train_lenet4


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def network():
    return QuantizedNetwork.load(lenet.MODEL_PATH)


@pytest.fixture(scope="module")
def held_out():
    return digits.held_out()


def random_digits(count, seed=0):
    rng = np.random.default_rng(seed)
    return Digits(rng.integers(0, 256, (count, 28, 28), dtype=np.uint8), rng.integers(0, 10, count))


def write_idx(path, values):
    content = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)


def write_folder(folder, training, test):
    write_idx(folder / "mnist-train-images-idx3-ubyte.gz", training.images)
    write_idx(folder / "mnist-train-labels-idx1-ubyte.gz", training.labels.astype(np.uint8))
    write_idx(folder / "t10k-images-idx3-ubyte", test.images)
    write_idx(folder / "t10k-labels-idx1-ubyte", test.labels.astype(np.uint8))


# Digits

def test_held_out_digits_are_500_of_each_class(held_out):
    assert held_out.images.shape == (5000, 28, 28) and held_out.images.dtype == np.uint8
    np.testing.assert_array_equal(np.bincount(held_out.labels), [500] * 10)
    assert held_out.images.max() == 255 and (held_out.images[:, 0, 0] == 0).all()


def test_training_set_leaves_out_every_copy_of_a_held_out_digit(tmp_path, monkeypatch, held_out):
    own = random_digits(7)
    order = np.random.default_rng(1).permutation(5000 + 7 + 3)
    images = np.concatenate((held_out.images, own.images, held_out.images[:3]))[order]
    labels = np.concatenate((held_out.labels, own.labels, held_out.labels[:3]))[order]
    write_folder(tmp_path, Digits(images, labels), own)
    monkeypatch.setenv(digits.FOLDER_VARIABLE, str(tmp_path))

    left = digits.training_set()
    positions = np.flatnonzero((order >= 5000) & (order < 5007))
    np.testing.assert_array_equal(left.images, images[positions])
    np.testing.assert_array_equal(left.labels, labels[positions])
    np.testing.assert_array_equal(digits.test_set(tmp_path).images, own.images)
    np.testing.assert_array_equal(digits.test_set(tmp_path).labels, own.labels)


def test_exclude_refuses_digits_without_the_held_out_ones():
    held, own = random_digits(4, seed=1), random_digits(5, seed=2)
    mixed = Digits(np.concatenate((own.images, held.images[:3])), np.concatenate((own.labels, held.labels[:3])))
    with pytest.raises(DigitsError, match="expected all 4 held-out images among them, 1 are absent"):
        digits.exclude(mixed, held)


def test_bad_folders_are_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv(digits.FOLDER_VARIABLE, raising=False)
    with pytest.raises(DigitsError, match=r"data: expected a folder of MNIST idx files.*WINNOW_DATA"):
        digits.test_set()
    with pytest.raises(DigitsError, match=r"data: expected t10k-images-idx3-ubyte\.gz in"):
        digits.test_set(tmp_path)
    write_folder(tmp_path, random_digits(2), random_digits(2))
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", np.zeros(3, np.uint8))
    with pytest.raises(DigitsError, match="t10k-images: expected 3 images of 28x28"):
        digits.test_set(tmp_path)
    for content, message in ((b"\0\0\x08\x01\0\0\0\5ab", r"expected \(5,\) bytes after the header, found 2"),
                             (b"\0\0\x0d\x01\0\0\0\0", "expected an idx file of unsigned bytes with 1 dimensions")):
        (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(content)
        with pytest.raises(DigitsError, match=message):
            digits.test_set(tmp_path)
    (tmp_path / "mnist-train-images-idx3-ubyte.gz").write_bytes(b"not gzip")
    with pytest.raises(DigitsError, match=r"mnist-train-images-idx3-ubyte\.gz: expected a readable gzip file"):
        digits.training_set(tmp_path)


# Winners-take-all

def test_dense_switches_the_selection_off():
    network = lenet.LeNet4()
    x = lenet.as_input(random_digits(3).images)
    counts = {}
    for dense in (True, False):
        set_dense(network, dense)
        counts[dense] = [module(torch.ones(1, 64)).sum().item() for module in network.winners.values()]
    assert counts == {True: [64, 64, 64], False: [32, 24, 10]}
    assert [tuple(output.shape) for _, output in network.layers(x)] == [
        (3, 32, 14, 14), (3, 64, 7, 7), (3, 1024), (3, 10)]


@torch.no_grad()
def test_winners_alone_reach_the_next_layer():
    network = lenet.LeNet4()
    outputs = dict(network.layers(lenet.as_input(random_digits(3).images)))
    scores = outputs["conv1"].amax((2, 3))
    losers = scores < scores.sort(dim=1, descending=True).values[:, 15:16]
    expected = torch.max_pool2d(network.conv2(outputs["conv1"].masked_fill(losers[:, :, None, None], 0)).relu(), 2)
    assert losers.sum(1).tolist() == [16] * 3 and torch.equal(outputs["conv2"], expected)
    neurons = outputs["fc1"].masked_fill(outputs["fc1"] < outputs["fc1"].sort(dim=1).values[:, -154:-153], 0)
    assert torch.equal(outputs["fc2"], network.fc2(neurons))


# Quantization

def test_activation_scale_holds_zero_exactly():
    assert activation_scale(0.0, 25.5) == (pytest.approx(0.1), -128)
    assert activation_scale(-1.0, 1.55) == (pytest.approx(0.01), -28)
    assert activation_scale(2.0, 5.1) == (pytest.approx(0.02), -128)
    with pytest.raises(ValueError, match="range: expected other values"):
        activation_scale(0.0, 0.0)


@pytest.mark.parametrize("relu", [True, False])
def test_quantized_layer_is_near_the_float_one(relu):
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(6, 5, 1, 1, generator=generator) * torch.logspace(-2, 1, 6)[:, None, None, None]
    bias = torch.randn(6, generator=generator)
    q = torch.randint(-128, 128, (5, 400), generator=generator)
    real = weight[:, :, 0, 0].double() @ (0.05 * (q.double() - 3)) + bias.double()[:, None]
    real = real.relu() if relu else real
    layer = quantize_layer(name="layer", weight=weight, bias=bias, input_scale=0.05, input_zero_point=3,
                           output_range=(real.min().item(), real.max().item()), relu=relu)
    tensors, zero_point = layer.tensors, layer.output_zero_point
    assert np.abs(tensors.weight.astype(int)).max(axis=(1, 2, 3)).tolist() == [127] * 6
    assert layer.activation == (zero_point if relu else -128, 127)

    sums = torch.as_tensor(tensors.weight[:, :, 0, 0]).long() @ (q - 3) + torch.as_tensor(tensors.bias).long()[:, None]
    scaled = requantize(sums, torch.as_tensor(tensors.multiplier)[:, None], torch.as_tensor(tensors.shift)[:, None])
    output = (scaled + zero_point).clamp(*layer.activation)
    error = (layer.output_scale * (output - layer.output_zero_point) - real).abs()
    # Half a step of the output; half a step of each weight, times an input of at most 131 * 0.05; of the bias.
    steps = weight.flatten(1).abs().amax(1).double() / 127
    bound = 0.51 * layer.output_scale + 0.5 * steps * (5 * 131 * 0.05 + 0.05)
    assert (error <= bound[:, None]).all()


# The committed network

def test_committed_network_is_the_one_of_the_paper(network):
    assert lenet.MODEL_PATH.stat().st_size <= 5_000_000
    jobs = [layer.job(np.zeros(shape, np.int8)) for layer, shape in
            zip(network.layers, ((1, 28, 28), (32, 14, 14), (64, 7, 7), (1024, 1, 1)), strict=True)]
    assert [layer.name for layer in network.layers] == ["conv1", "conv2", "fc1", "fc2"]
    assert [(job.weight.shape, job.padding, job.pool) for job in jobs] == [
        ((32, 1, 5, 5), (2, 2, 2, 2), (2, 2, 2, 2)), ((64, 32, 5, 5), (2, 2, 2, 2), (2, 2, 2, 2)),
        ((1024, 64, 7, 7), (0, 0, 0, 0), None), ((10, 1024, 1, 1), (0, 0, 0, 0), None)]
    assert [layer.ranking and (layer.ranking.score, layer.ranking.select) for layer in network.layers] == [
        ("max", "topk"), ("max", "topk"), ("max", "energy"), None]
    assert [layer.activation_min - layer.output_zero_point for layer in network.layers[:3]] == [0, 0, 0]
    assert all((np.abs(layer.weight.astype(int)).max(axis=(1, 2, 3)) == 127).all() for layer in network.layers)


@pytest.mark.parametrize("dense", [True, False])
def test_batch_equals_the_reference_on_every_layer(network, held_out, dense):
    images = np.concatenate((held_out.images[::1250], random_digits(1).images, np.zeros((1, 28, 28), np.uint8)))
    inputs = quantize_pixels(images)
    assert (inputs[:, 0].astype(int) + 128 == images).all()
    batch = run_batch(network, inputs, dense=dense)
    for index, image in enumerate(inputs):
        for (_, expected), layer in zip(network.run(image, dense=dense), batch, strict=True):
            np.testing.assert_array_equal(layer.output[index].numpy(), expected.output)
            np.testing.assert_array_equal(layer.scores[index].numpy(), expected.scores)
            np.testing.assert_array_equal(layer.winners[index].numpy(), expected.winners)


@pytest.mark.parametrize("dense", [True, False])
def test_accuracy_on_held_out_digits(network, held_out, dense):
    rows = np.random.default_rng(0).choice(5000, 1000, replace=False)
    assert accuracy(network, held_out.images[rows], held_out.labels[rows], dense=dense) >= 0.985
    recorded = network.metadata["accuracy"]
    assert recorded["held_out"]["int8_dense" if dense else "int8_winners"] >= 0.985


def test_winner_rates_are_near_the_papers(network, held_out):
    rates = winner_rates(network, held_out.images[::50])
    assert rates["conv1"] == 0.5 and rates["conv2"] == 0.375
    assert 0.10 <= rates["fc1"] <= 0.25


# Training

def test_first_half_of_training_is_dense_and_the_second_a_mix(tmp_path, monkeypatch):
    modes = []
    monkeypatch.setattr(lenet, "BATCH", 8)
    monkeypatch.setattr(lenet, "set_dense", lambda network, dense: modes.append(dense))
    lenet.train(lenet.LeNet4(), random_digits(64), epochs=2, seed=0, checkpoint=tmp_path / "state",
                progress=lambda batches, label: batches)
    assert modes[:8] == [True] * 8 and 1 <= sum(modes[8:]) < 8 and len(modes) == 16


def test_interrupted_training_resumes_to_the_same_network(tmp_path, monkeypatch):
    held = random_digits(20, seed=1)
    own = random_digits(300, seed=2)
    training = Digits(np.concatenate((held.images, own.images)), np.concatenate((held.labels, own.labels)))
    write_folder(tmp_path, training, random_digits(20, seed=3))
    monkeypatch.setattr(digits, "held_out", lambda: held)

    def train(out, **options):
        arguments = {"data": tmp_path, "epochs": 2, "seed": 5, "out": tmp_path / out} | options
        words = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
        return CliRunner().invoke(train_lenet4.main, words)

    def interrupt(batches, label):
        if label == "epoch 2/2":
            raise KeyboardInterrupt
        return batches

    assert train("whole.npz").exit_code == 0
    with monkeypatch.context() as patch:
        patch.setattr(train_lenet4, "_progress", interrupt)
        stopped = train("resumed.npz")
    assert stopped.exit_code == 1 and "interrupted; the same command resumes" in stopped.output
    assert not (tmp_path / "resumed.npz").exists()
    assert "checkpoint: expected a training of" in train("resumed.npz", seed=6).output
    resumed = train("resumed.npz")
    assert resumed.exit_code == 0

    whole, again = (QuantizedNetwork.load(tmp_path / name) for name in ("whole.npz", "resumed.npz"))
    assert whole.metadata == again.metadata and whole.metadata["training_images"] == 300
    for one, other in zip(whole.layers, again.layers, strict=True):
        for array in ("weight", "bias", "multiplier", "shift"):
            np.testing.assert_array_equal(getattr(one, array), getattr(other, array))
    assert not list(tmp_path.glob("*.checkpoint")) and not list(tmp_path.glob("*.partial"))
