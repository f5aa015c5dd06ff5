"""Images and pixels as the int8 input of networks."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from golden.import_torch import import_torch
from golden.job import JobError
from golden.preprocess import quantize_input, quantize_pixels
from tests.torch_modules import IMAGE, drawn, images_of, pixels_of


def normalized(pixels: np.ndarray, mean: list[float], std: list[float]) -> Tensor:
    """float64 [N,C,H,W]."""
    channels = [(pixels[:, number] / 255 - mean[number]) / std[number] for number in range(len(mean))]
    return torch.from_numpy(np.stack(channels, 1))


def test_normalized_pixels():
    """The input's range is that of all pixels; pixels take the same way as the images that they become."""
    mean, std = [0.3, 0.5, 0.7], [0.2, 0.25, 0.3]
    pixels = pixels_of(5, 3, 8, 8)
    images = normalized(pixels, mean, std)
    module = drawn(nn.Conv2d(3, 4, 3, padding=1))
    network = import_torch(module, images.float(), images[:1].float() / 2, normalize=(mean, std))
    low, high = -7 / 3, 3.5  # The least of the third channel, the largest of the first.
    assert math.isclose(network.input.scale, (high - low) / 255)
    assert network.input.zero_point == round(-128 - low / network.input.scale)
    assert network.metadata["preprocess"] == {"mean": mean, "std": std, "scale": 1 / 255}
    found = quantize_pixels(network, pixels)
    np.testing.assert_array_equal(found, quantize_input(network, images))
    real = (found.astype(float) - network.input.zero_point) * network.input.scale
    assert np.abs(real - images.numpy()).max() <= 0.51 * network.input.scale


def test_pixels_of_an_input_that_lies_flat():
    """They are normalized channel by channel before."""
    pixels, (mean, std) = pixels_of(3, 2, 4, 5), ([0.2, 0.25], [0.4, 0.9])
    images = normalized(pixels, mean, std)
    network = import_torch(drawn(nn.Sequential(nn.Flatten(), nn.Linear(40, 3))), images.float(), images.float(),
                           normalize=(mean, std))
    assert network.input.shape == (40, 1, 1)
    found = quantize_pixels(network, pixels)
    np.testing.assert_array_equal(found, quantize_input(network, images))
    assert found.shape == (3, 40, 1, 1)
    with pytest.raises(JobError, match=r"^pixels: expected 2 channels, got 40$"):
        quantize_pixels(network, pixels.reshape(3, 40))


def test_quantize_input_clips_and_checks():
    images = images_of(*IMAGE)
    network = import_torch(drawn(nn.Conv2d(6, 2, 1)), images, images)
    far = quantize_input(network, torch.tensor([1e9, -1e9]).repeat(3).view(1, 6, 1, 1).expand(1, 6, 9, 10))
    assert far[0, :, 0, 0].tolist() == [127, -128] * 3
    np.testing.assert_array_equal(quantize_input(network, images.flatten(1)), quantize_input(network, images))
    for call, values, message in (
            (quantize_input, pixels_of(1, 6, 9, 10), r"images: expected floats; .*, got uint8"),
            (quantize_input, images[:, :5], r"images: expected \[N, 6, 9, 10\], got \[4, 5, 9, 10\]"),
            (quantize_pixels, images, r"pixels: expected uint8, got .*"),
            (quantize_pixels, pixels_of(6, 9, 10), r"images: expected \[N, 6, 9, 10\], got \[6, 9, 10\]"),
            (quantize_pixels, pixels_of(7), r"pixels: expected \[N,C, ...\], got \[7\]")):
        with pytest.raises(JobError, match=f"^{message}$"):
            call(network, values)
    for stated, message in ((3, r"preprocess: expected an object of mean, std and scale, got 3"),
                            ({"mean": [0], "std": [1], "scale": -1}, r"preprocess: scale: expected .*, got -1"),
                            ({"mean": [0], "std": [1], "scale": 0.1}, r"pixels: expected 1 channels, got 6")):
        network.metadata["preprocess"] = stated
        with pytest.raises(JobError, match=f"^{message}$"):
            quantize_pixels(network, pixels_of(*IMAGE))
