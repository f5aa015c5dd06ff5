"""The committed int8 LeNet-4, which ``winnow train`` has made (docs/lenet4.md)."""

import shlex
from pathlib import Path

import numpy as np
import pytest

from golden import digits
from golden.datasets import Split
from golden.int8_images import run_images
from golden.network import QuantizedNetwork
from golden.networks import MODEL_PATH
from golden.preprocess import quantize_pixels
from golden.quantization import run_batch


@pytest.fixture(scope="module")
def network():
    return QuantizedNetwork.load(MODEL_PATH)


@pytest.fixture(scope="module")
def held_out():
    return digits.bundled()


def test_committed_network_is_the_one_of_the_paper(network):
    assert MODEL_PATH.stat().st_size <= 5_000_000
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
    noise = np.random.default_rng(0).integers(0, 256, (1, 1, 28, 28), dtype=np.uint8)
    images = np.concatenate((held_out.images[::1250], noise, np.zeros((1, 1, 28, 28), np.uint8)))
    inputs = quantize_pixels(network, images)
    assert (inputs.astype(int) + 128 == images).all()
    batch = run_batch(network, inputs, dense=dense)
    for index, image in enumerate(inputs):
        for (_, expected), layer in zip(network.run(image, dense=dense), batch, strict=True):
            np.testing.assert_array_equal(layer.output[index].numpy(), expected.output)
            np.testing.assert_array_equal(layer.scores[index].numpy(), expected.scores)
            np.testing.assert_array_equal(layer.winners[index].numpy(), expected.winners)


@pytest.mark.parametrize("dense", [True, False])
def test_accuracy_on_held_out_digits(network, held_out, dense):
    rows = np.random.default_rng(0).choice(5000, 1000, replace=False)
    found = run_images(network, Split(held_out.images[rows], held_out.labels[rows]), dense=dense).accuracy
    recorded = network.metadata["accuracy"]["held_out"]["int8_dense" if dense else "int8_winners"]
    assert found >= 0.985 and recorded >= 0.985 and abs(found - recorded) < 0.006


def test_winner_rates_are_near_the_papers(network, held_out):
    rates = run_images(network, Split(held_out.images[::50], held_out.labels[::50])).rates
    assert rates["conv1"] == 0.5 and rates["conv2"] == 0.375
    assert 0.10 <= rates["fc1"] <= 0.25 and abs(rates["fc1"] - network.metadata["winner_rates"]["fc1"]) < 0.02


def test_command_that_made_it_is_that_of_the_page(network):
    metadata = network.metadata
    assert metadata["hold_out"] and metadata["training_images"] == 55_000
    page = (Path(__file__).parent.parent / "docs/lenet4.md").read_text()
    line = metadata["command"]
    assert f"\n{line}\n" in page and shlex.split(line)[:3] == ["winnow", "train", "lenet4"]
    for part, values in metadata["accuracy"].items():
        cells = " | ".join(f"{100 * values[name]:.2f} %" for name in
                           ("float_dense", "int8_dense", "float_winners", "int8_winners"))
        assert cells in page, part
