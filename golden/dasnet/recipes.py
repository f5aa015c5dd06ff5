"""What each network of DASNet's evaluation is trained on, how, and which of its layers rank."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Generator, Tensor, nn

from golden.augmentation import center_crop, normalize, random_affine, random_crop, random_flip
from golden.checks import check
from golden.dasnet.networks import AlexNet, ConvNet5, LeNet4, Mlp3, MobileNetV1, ResNet
from golden.dasnet.training import Schedule, View

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What akamaster's weights expect of CIFAR-10's pixels."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A network and its training.

    ``build``: a fresh network; ``dataset``: of :func:`golden.datasets.load`; ``ranked`` {submodule whose output is
    ranked: "conv" or "fc"}; ``pretraining``: the baseline's schedule; ``fine_tuning``: with winners. ``mean``, ``std``:
    what the pixels in 0..1 are normalized with, None where they are taken as they are.
    """

    build: Callable[[], nn.Module]
    dataset: str
    view: View
    ranked: Mapping[str, str]
    pretraining: Schedule
    fine_tuning: Schedule
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def pixels(images: Tensor) -> Tensor:
    """uint8 as float in 0..1."""
    return images.float() / 255


def _digits(images: Tensor, generator: Generator) -> Tensor:
    return random_affine(pixels(images), generator)


def _signs(images: Tensor, generator: Generator) -> Tensor:
    return random_affine(pixels(images), generator, turn=8, scale=0.12, shift=3)


def _cropped(images: Tensor, generator: Generator) -> Tensor:
    return pixels(random_flip(random_crop(images, 0, generator, size=24), generator))


def _padded(images: Tensor, generator: Generator) -> Tensor:
    return normalize(random_flip(random_crop(images, 4, generator), generator), IMAGENET_MEAN, IMAGENET_STD)


def _whole(images: Tensor) -> Tensor:
    return images


def _row(images: Tensor) -> Tensor:
    return pixels(images).flatten(1)


_DIGITS, _SIGNS = View(augment=_digits, crop=_whole, scale=pixels), View(augment=_signs, crop=_whole, scale=pixels)
_ROWS = View(augment=lambda images, generator: _digits(images, generator).flatten(1), crop=_whole, scale=_row)
_CROPS = View(augment=_cropped, crop=partial(center_crop, size=24), scale=pixels)
_NORMALIZED = View(augment=_padded, crop=_whole, scale=partial(normalize, mean=IMAGENET_MEAN, std=IMAGENET_STD))


def _resnet(blocks: int) -> Recipe:
    names = [f"layer{stage}.{block}.relu{part}" for stage in (1, 2, 3) for block in range(blocks) for part in (1, 2)]
    return Recipe(
        build=partial(ResNet, blocks), dataset="cifar10", view=_NORMALIZED,
        ranked=dict.fromkeys(["relu", *names[:-1]], "conv"), mean=IMAGENET_MEAN, std=IMAGENET_STD,
        pretraining=Schedule(epochs=2, learning_rate=0.005, optimizer="sgd", weight_decay=1e-4),
        fine_tuning=Schedule(epochs=2, learning_rate=0.01, optimizer="sgd", weight_decay=1e-4, distillation=0.7,
                             gradual=1 / 3))


RECIPES: Mapping[str, Recipe] = {
    "mlp3": Recipe(
        build=Mlp3, dataset="mnist", view=_ROWS, ranked={"relu1": "fc", "relu2": "fc"},
        pretraining=Schedule(epochs=20, learning_rate=2e-3, weight_decay=0.02),
        fine_tuning=Schedule(epochs=30, learning_rate=3e-3, weight_decay=0.02, distillation=0.5)),
    "lenet4": Recipe(
        build=LeNet4, dataset="mnist", view=_DIGITS,
        ranked={"pool1": "conv", "pool2": "conv", "relu3": "fc"},
        pretraining=Schedule(epochs=8, learning_rate=1e-3, weight_decay=0.02),
        fine_tuning=Schedule(epochs=10, learning_rate=1e-3, weight_decay=0.02, distillation=0.5)),
    "convnet5": Recipe(
        build=ConvNet5, dataset="cifar10", view=_CROPS,
        ranked={"pool1": "conv", "pool2": "conv", "relu3": "fc", "relu4": "fc"},
        pretraining=Schedule(epochs=40, learning_rate=2e-3, weight_decay=0.05, label_smoothing=0.05),
        fine_tuning=Schedule(epochs=40, learning_rate=2e-3, weight_decay=0.05, distillation=0.7, gradual=1 / 3)),
    "resnet20": _resnet(3),
    "resnet56": _resnet(9),
    "alexnet": Recipe(
        build=AlexNet, dataset="gtsrb", view=_SIGNS,
        ranked={"pool1": "conv", "pool2": "conv", "relu3": "conv", "relu4": "conv", "pool5": "conv", "relu6": "fc",
                "relu7": "fc"},
        pretraining=Schedule(epochs=40, learning_rate=1e-3, weight_decay=0.05, label_smoothing=0.05),
        fine_tuning=Schedule(epochs=80, learning_rate=2e-3, weight_decay=0.05, distillation=0.7, gradual=1 / 3)),
    "mobilenet": Recipe(
        build=MobileNetV1, dataset="gtsrb", view=_SIGNS,
        ranked={f"block{number}.relu1": "conv" for number in range(1, 14)},
        pretraining=Schedule(epochs=60, learning_rate=4e-3, weight_decay=0.05, label_smoothing=0.05),
        fine_tuning=Schedule(epochs=110, learning_rate=4e-3, weight_decay=0.05, distillation=0.7, gradual=1 / 3)),
}


def recipe(name: str) -> Recipe:
    """The recipe of a network. Raises JobError for an unknown one, listing those that there are."""
    check(name in RECIPES, "network", f"one of {', '.join(RECIPES)}", repr(name))
    return RECIPES[name]
