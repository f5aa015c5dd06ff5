"""Small data sets in the files of the real ones, and what every test of :mod:`golden.datasets` asks of the result."""

import gzip
import io
import struct
import tarfile

import numpy as np
import pytest

from golden.dataset_files import CIFAR_BINARIES, IDX_NAMES
from golden.datasets import DatasetError, load


def refused(*arguments, **keywords):
    """The message with which these arguments of ``load`` are refused, which must be one line."""
    with pytest.raises(DatasetError) as error:
        load(*arguments, **keywords)
    message = str(error.value)
    assert message and "\n" not in message
    return message


def random_part(count, shape, classes=10, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, *shape), dtype=np.uint8), rng.integers(0, classes, count, dtype=np.uint8)


def check_split(split, images, labels):
    np.testing.assert_array_equal(split.images, images)
    np.testing.assert_array_equal(split.labels, labels)
    assert split.images.dtype == np.uint8 and split.labels.dtype == np.int64
    for array in (split.images, split.labels):
        assert isinstance(array, np.memmap) and array.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


MNIST = random_part(70, (28, 28), seed=1), random_part(30, (28, 28), seed=2)


def idx_bytes(values):
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def write_mnist(folder, *, prefix="", suffix=".gz", data=MNIST):
    for name, values in zip(IDX_NAMES, (*data[0], *data[1]), strict=True):
        content = idx_bytes(values)
        (folder / f"{prefix}{name}{suffix}").write_bytes(gzip.compress(content, 1) if suffix else content)


CIFAR = random_part(50, (3, 32, 32), seed=3), random_part(12, (3, 32, 32), seed=4)


def cifar_files(data=CIFAR):
    """The contents of the official binaries by name, five training files of equal size."""
    records = [np.concatenate((labels[:, None], images.reshape(len(images), -1)), axis=1) for images, labels in data]
    parts = [*np.split(records[0], 5), records[1]]
    return {name: part.tobytes() for name, part in zip(CIFAR_BINARIES, parts, strict=True)}


def write_tar(path, files, compression):
    with tarfile.open(path, f"w:{compression}") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_cifar(folder, form):
    files = cifar_files()
    if form == "archive":  # not in order, as the published one, which also has two texts
        order = [CIFAR_BINARIES[k] for k in (0, 3, 5, 1, 4, 2)]
        members = {f"cifar-10-batches-bin/{name}": files[name] for name in order}
        write_tar(folder / "cifar-10-binary.tar.gz", {"cifar-10-batches-bin/readme.html": b"text", **members}, "gz")
        return
    place = folder / "cifar-10-batches-bin" if form == "subfolder" else folder
    place.mkdir(exist_ok=True)
    for name, content in files.items():
        (place / name).write_bytes(content)
