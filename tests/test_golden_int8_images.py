"""An int8 network on many images, against the same network image by image."""

import numpy as np
import pytest
import torch

from golden import int8_images
from golden.datasets import Split
from golden.int8_images import run_images
from golden.networks import build
from golden.preprocess import quantize_pixels
from golden.quantization import BatchResult


@pytest.fixture(scope="module")
def network():
    return build("mlp3").with_winners({"fc1": 0.1, "fc2": 0.3})


@pytest.fixture(scope="module")
def split():
    rng = np.random.default_rng(1)
    return Split(rng.integers(0, 256, (230, 1, 28, 28), dtype=np.uint8), rng.integers(0, 10, 230))


@pytest.mark.parametrize("dense", [True, False])
def test_image_by_image(network, split, dense):
    seen = []

    def progress(batches, label):
        seen.append((label, sum(map(len, batches))))
        return batches

    found = run_images(network, split, dense=dense, progress=progress)
    inputs = quantize_pixels(network, split.images.reshape(230, 784, 1, 1))
    results = [network.run(image, dense=dense) for image in inputs]
    assert found.accuracy == np.mean([result[-1][1].output.argmax() == label
                                      for result, label in zip(results, split.labels, strict=True)])
    assert seen == [("int8, dense" if dense else "int8", 230)]
    if dense:
        assert found.counts == {} == found.rates
        return
    for number, name in enumerate(("fc1", "fc2")):
        winners = np.array([result[number][1].winners for result in results])
        np.testing.assert_array_equal(found.counts[name], winners.sum(1))
        np.testing.assert_array_equal(found.frequency[name], winners.mean(0))
    assert found.rates == {"fc1": 0.1, "fc2": 0.3}


def test_images_are_cropped_first(network, split):
    wide = Split(np.pad(split.images[:20], ((0, 0), (0, 0), (3, 3), (5, 5)), constant_values=99), split.labels[:20])
    found = run_images(network, wide, crop=lambda images: images[:, :, 3:-3, 5:-5])
    whole = run_images(network, Split(split.images[:20], split.labels[:20]))
    assert found.accuracy == whole.accuracy
    np.testing.assert_array_equal(found.frequency["fc1"], whole.frequency["fc1"])


def test_the_first_of_equal_outputs_is_the_class(network, split, monkeypatch):
    output = torch.full((115, 10, 1, 1), -3, dtype=torch.int8)
    output[:, [4, 7]] = 5
    monkeypatch.setattr(int8_images, "run_batch", lambda *_, **__: [BatchResult(output, None, None)] * 3)
    found = run_images(network.without_winners(), split)
    assert found.accuracy == (split.labels == 4).mean() > 0
