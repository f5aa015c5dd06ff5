"""Published float weights on real images: akamaster's ResNet-20 on the JPEG copy of CIFAR-10, float and int8."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from golden.datasets import load
from golden.import_torch import import_torch
from golden.preprocess import quantize_pixels
from golden.quantization import run_batch
from tests.torch_networks import CifarResNet

DATA = Path(os.environ.get("WINNOW_DATA") or Path(__file__).parents[2] / "shared" / "data")
IMAGES = DATA / "cifar10_jpeg.tar.xz"
WEIGHTS = DATA.parent / "models" / "resnet20-12fca82f.th"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalized(pixels: np.ndarray) -> Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (torch.from_numpy(pixels.astype(np.float32)) / 255 - mean) / std


@pytest.mark.skipif(not (IMAGES.exists() and WEIGHTS.exists()), reason=f"no {IMAGES.name}, or no {WEIGHTS.name}")
def test_int8_accuracy_is_that_of_float():
    """On every tenth test image, a hundred of each class."""
    module = CifarResNet().eval()
    state = torch.load(WEIGHTS, map_location="cpu", weights_only=True)["state_dict"]
    module.load_state_dict({name.removeprefix("module."): tensor for name, tensor in state.items()})
    data = load("cifar10", DATA)
    pixels, labels = data.test.images[::10], data.test.labels[::10]
    network = import_torch(module, torch.zeros(1, 3, 32, 32), normalized(data.train.images[::400]),
                           normalize=(MEAN, STD))
    with torch.no_grad():
        expected = torch.cat([module(some).argmax(1) for some in normalized(pixels).split(50)]).numpy()
    inputs = quantize_pixels(network, pixels)
    found = np.concatenate([run_batch(network, inputs[start:start + 20])[-1].output.flatten(1).argmax(1).numpy()
                            for start in range(0, len(inputs), 20)])
    assert len(labels) == 1000
    accuracy, accuracy_int8 = (expected == labels).mean(), (found == labels).mean()
    assert accuracy > 0.78
    assert abs(accuracy_int8 - accuracy) <= 0.005
    assert (found == expected).mean() > 0.97
