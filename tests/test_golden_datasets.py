"""Data sets: every form of file gives the same arrays, decoded once; whatever is amiss is one line."""

import gzip
import hashlib
import io
import lzma
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from golden import dataset_cache, datasets
from golden.dataset_download import DOWNLOADS, Download
from golden.dataset_files import CIFAR_BINARIES, CIFAR_CLASSES, IDX_NAMES
from golden.datasets import load
from tests.image_files import (
    CIFAR,
    MNIST,
    check_split,
    cifar_files,
    idx_bytes,
    random_part,
    refused,
    write_cifar,
    write_mnist,
    write_tar,
)

DATA = Path(os.environ.get("WINNOW_DATA") or Path(__file__).parents[2] / "shared" / "data")
USUAL_CACHE = dataset_cache.cache_directory()


pytestmark = pytest.mark.usefixtures("own_cache")


# MNIST and Fashion-MNIST

def test_names_of_the_files_are_those_published():
    assert IDX_NAMES == ("train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                         "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")  # fmt: skip
    assert CIFAR_BINARIES[0] == "data_batch_1.bin" and CIFAR_BINARIES[4:] == ("data_batch_5.bin", "test_batch.bin")


@pytest.mark.parametrize("name, prefix, suffix, title", [
    ("mnist", "mnist-", ".gz", "MNIST"), ("mnist", "", "", "MNIST"),
    ("fashion-mnist", "fashion-mnist-", "", "Fashion-MNIST"), ("fashion-mnist", "", ".gz", "Fashion-MNIST"),
])  # fmt: skip
def test_idx_files(folder, name, prefix, suffix, title):
    write_mnist(folder, prefix=prefix, suffix=suffix)
    dataset = load(name, folder)
    assert (dataset.name, dataset.source, dataset.classes, dataset.shape) == (name, title, 10, (1, 28, 28))
    check_split(dataset.train, MNIST[0][0][:, None], MNIST[0][1])
    check_split(dataset.test, MNIST[1][0][:, None], MNIST[1][1])
    pixels = MNIST[0][0] / 255
    np.testing.assert_allclose(dataset.mean, [pixels.mean()], rtol=1e-12)
    np.testing.assert_allclose(dataset.std, [pixels.std()], rtol=1e-12)


def test_files_with_the_prefix_come_first_and_belong_to_one_data_set(folder):
    write_mnist(folder, data=MNIST[::-1])
    write_mnist(folder, prefix="mnist-")
    check_split(load("mnist", folder).train, MNIST[0][0][:, None], MNIST[0][1])
    check_split(load("fashion-mnist", folder).train, MNIST[1][0][:, None], MNIST[1][1])


def test_folder_is_that_of_the_environment_unless_given(folder, monkeypatch):
    assert refused("mnist") == "mnist: expected a folder with its files, as an argument or in WINNOW_DATA"
    write_mnist(folder)
    monkeypatch.setenv("WINNOW_DATA", str(folder))
    assert len(load("mnist").train.labels) == 70
    assert "expected this file in elsewhere" in refused("mnist", "elsewhere")


def test_unknown_name_lists_the_known_ones(folder):
    expected = "name: expected one of mnist, fashion-mnist, cifar10, gtsrb, got 'imagenet'"
    assert refused("imagenet", folder) == expected and datasets.NAMES == ("mnist", "fashion-mnist", "cifar10", "gtsrb")


@pytest.mark.parametrize("absent", IDX_NAMES)
def test_missing_idx_file_is_named_with_its_folder(folder, absent):
    write_mnist(folder, prefix="mnist-")
    (folder / f"mnist-{absent}.gz").unlink()
    assert refused("mnist", folder) == (
        f"mnist: {absent}.gz: expected this file in {folder} (also as mnist-{absent}.gz, or not compressed); "
        "put it there, or ask for its download")


def broken_idx(content):
    """Contents of an idx file, and words of the message each must lead to."""
    gz = gzip.compress(content)
    middle = gz[: len(gz) // 2] + bytes(byte ^ 0xFF for byte in gz[len(gz) // 2 : len(gz) // 2 + 40])
    yield "cut gzip", True, gz[:-1000], "expected a readable gzip file, not truncated"
    yield "damaged gzip", True, middle + gz[len(middle) :], "expected a readable gzip file"
    yield "no gzip", True, content, "expected a readable gzip file"
    yield "empty", False, b"", "expected an idx file of unsigned bytes with 3 dimensions"
    yield "another type", False, content[:2] + b"\x0d" + content[3:], "expected an idx file of unsigned bytes"
    yield "cut", False, content[:-1], f"expected {70 * 784} bytes after the header, found {70 * 784 - 1}"
    yield "too long", False, content + b"\0", f"expected {70 * 784} bytes after the header, found {70 * 784 + 1}"
    yield "size", False, content[:8] + struct.pack(">I", 27) + content[12:], "expected items of 28x28, found 27x28"
    yield "huge", False, content[:4] + b"\xff" * 4 + content[8:], "bytes after the header"
    yield "none", False, content[:4] + bytes(4) + content[8:16], "labels"


@pytest.mark.parametrize("case", range(len(list(broken_idx(b"")))))
def test_broken_idx_files_are_refused(folder, own_cache, case):
    write_mnist(folder, suffix="")
    plain = folder / IDX_NAMES[0]
    _, compressed, content, expected = list(broken_idx(plain.read_bytes()))[case]
    path = plain.with_name(plain.name + ".gz") if compressed else plain
    plain.unlink()
    path.write_bytes(content)
    message = refused("mnist", folder)
    assert expected in message and (str(path) in message or "labels" in message)
    assert [item.name for item in own_cache.iterdir() if not item.name.endswith(".lock")] == []


def test_labels_must_be_as_many_as_images_and_below_the_classes(folder):
    write_mnist(folder, suffix="")
    path = folder / IDX_NAMES[3]
    path.write_bytes(idx_bytes(MNIST[1][1][:29]))
    assert refused("mnist", folder) == f"{path}: expected 30 labels, as many as images, found 29"
    path.write_bytes(idx_bytes(np.append(MNIST[1][1][:29], np.uint8(10))))
    assert refused("mnist", folder).endswith(f"expected labels 0..9, found {MNIST[1][1][:29].min()}..10")


def test_files_of_the_other_mnist_are_not_taken(folder, monkeypatch):
    write_mnist(folder)
    path = folder / f"{IDX_NAMES[1]}.gz"
    published = Download("http://unused", "x", hashlib.md5(path.read_bytes()).hexdigest())
    monkeypatch.setitem(DOWNLOADS, "fashion-mnist", (published,))
    assert refused("mnist", folder) == f"{path}: expected a file of mnist, found one of fashion-mnist"
    assert len(load("fashion-mnist", folder).train.labels) == 70


# CIFAR-10

@pytest.mark.parametrize("form", ["plain", "subfolder", "archive"])
def test_cifar_binaries(folder, form):
    write_cifar(folder, form)
    dataset = load("cifar10", folder)
    assert (dataset.source, dataset.classes, dataset.shape) == ("CIFAR-10", 10, (3, 32, 32))
    check_split(dataset.train, *CIFAR[0])
    check_split(dataset.test, *CIFAR[1])
    pixels = CIFAR[0][0].astype(np.float64).transpose(1, 0, 2, 3).reshape(3, -1) / 255
    np.testing.assert_allclose(dataset.mean, pixels.mean(1), rtol=1e-12)
    np.testing.assert_allclose(dataset.std, pixels.std(1), rtol=1e-12)


def test_part_of_the_cifar_binaries_is_not_taken_for_all(folder):
    write_cifar(folder, "plain")
    write_jpegs(folder)
    (folder / "data_batch_3.bin").unlink()
    assert f"data_batch_3.bin: expected this file in {folder}" in refused("cifar10", folder)
    write_cifar(folder, "archive")
    check_split(load("cifar10", folder).train, *CIFAR[0])


@pytest.mark.parametrize("name, change, expected", [
    ("data_batch_2.bin", lambda content: content[:-1], "expected records of 3073 bytes, found 30729 bytes"),
    ("test_batch.bin", lambda content: b"", "expected records of 3073 bytes, found 0 bytes"),
    ("data_batch_4.bin", lambda content: content[:-3073], "expected 30730 bytes, as data_batch_1.bin has, found 27657"),
    ("data_batch_5.bin", lambda content: b"\x0a" + content[1:], "expected labels 0..9, found"),
])  # fmt: skip
def test_broken_cifar_binaries_are_refused(folder, name, change, expected):
    write_cifar(folder, "plain")
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    message = refused("cifar10", folder)
    assert message.startswith(f"{folder / name}: ") and expected in message


def test_broken_archive_of_cifar_binaries_is_refused(folder):
    path = folder / "cifar-10-binary.tar.gz"
    write_cifar(folder, "archive")
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:100], whole[:-8] + bytes(8), b"no archive" * 100, b""):
        path.write_bytes(content)
        assert refused("cifar10", folder).startswith(f"{path}: expected a readable tar archive, not truncated")
    files = cifar_files()
    del files["data_batch_4.bin"]
    write_tar(path, files, "gz")
    assert f"{path}: expected data_batch_4.bin in the archive, found data_batch_1.bin, " in refused("cifar10", folder)


# CIFAR-10 as JPEGs

def jpeg(color, *, quality=75, size=(32, 32), mode="RGB", form="JPEG"):
    file = io.BytesIO()
    Image.new(mode, size, color).save(file, form, quality=quality)
    return file.getvalue()


def jpeg_files(quality=75):
    """Images of one colour: red is the class, green the number; by name, the archive's order being none."""
    counts = {"train": 3, "test": 2}
    names = [(part, label, number) for part in counts for label in range(10) for number in range(counts[part])]
    order = np.random.default_rng(5).permutation(len(names))
    return {f"{part}/{CIFAR_CLASSES[label]}/{number:04}.jpg":
            jpeg((20 * label + 20, 60 * number + 40, 90), quality=quality)
            for part, label, number in (names[k] for k in order)}  # fmt: skip


def write_jpegs(folder, files=None, **keywords):
    write_tar(folder / "cifar10_jpeg.tar.xz", files or jpeg_files(**keywords), "xz")
    return folder / "cifar10_jpeg.tar.xz"


@pytest.mark.parametrize("quality", [75, 92])
def test_cifar_jpegs_are_ordered_and_their_quality_is_stated(folder, quality):
    write_jpegs(folder, quality=quality)
    dataset = load("cifar10", folder)
    assert dataset.source == f"CIFAR-10, JPEG quality {quality}"
    for split, count in ((dataset.train, 3), (dataset.test, 2)):
        labels, numbers = np.repeat(np.arange(10), count), np.tile(np.arange(count), 10)
        np.testing.assert_array_equal(split.labels, labels)
        colors = np.stack((20 * labels + 20, 60 * numbers + 40, np.full_like(labels, 90)), axis=1)
        assert split.images.shape == (10 * count, 3, 32, 32)
        assert abs(split.images.astype(int) - colors[:, :, None, None]).max() <= 4  # the colours' own rounding
        assert isinstance(split.images, np.memmap)


def test_lossless_files_come_before_jpegs(folder):
    write_jpegs(folder)
    write_cifar(folder, "archive")
    assert load("cifar10", folder).source == "CIFAR-10"


@pytest.mark.parametrize("name, content, expected", [
    ("train/cat/9999.jpg", jpeg((1, 2, 3), size=(32, 31)), "expected an RGB image of 32x32, found RGB 32x31"),
    ("test/cat/9999.jpg", jpeg(7, mode="L"), "expected an RGB image of 32x32, found L 32x32"),
    ("train/truck/9999.jpg", jpeg((1, 2, 3), quality=74), "expected the JPEG quality of the archive's first image"),
    ("train/cat/9999.jpg", jpeg((1, 2, 3), form="PNG"), "expected a readable JPEG"),
    ("train/airplane/0000.jpg", b"", "expected a readable JPEG"),
    ("test/ship/9999.jpg", jpeg((1, 2, 3))[:-60], "expected a readable JPEG"),
])  # fmt: skip
def test_broken_jpegs_are_refused_by_name(folder, name, content, expected):
    path = write_jpegs(folder, jpeg_files() | {name: content})
    message = refused("cifar10", folder)
    assert message.startswith(f"{path / name}: ") and expected in message


def test_broken_archives_of_jpegs_are_refused(folder):
    path = write_jpegs(folder)
    whole = path.read_bytes()
    for content in (whole[:-30], whole[: len(whole) // 2], whole[:200] + b"\0" * 9 + whole[209:], b"no archive"):
        path.write_bytes(content)
        assert refused("cifar10", folder).startswith(f"{path}: expected a readable tar archive")
    path.write_bytes(lzma.compress(b"\0" * 10240))  # a tar archive without files
    assert refused("cifar10", folder) == f"{path}: expected images in train/, found none"
    for name in ("train/bicycle/0000.jpg", "0000.jpg", "validation/cat/0000.jpg"):
        write_jpegs(folder, jpeg_files() | {name: jpeg((1, 2, 3))})
        assert refused("cifar10", folder).endswith(f"<train or test>/<class of CIFAR-10>/<number>.jpg, found {name}")
    write_jpegs(folder, {name: content for name, content in jpeg_files().items() if name.startswith("train")})
    assert refused("cifar10", folder) == f"{path}: expected images in test/, found none"


# GTSRB

GTSRB = random_part(40, (32, 32, 3), 43, seed=6), random_part(25, (32, 32, 3), 43, seed=7)
GTSRB_ARRAYS = {"x_train": GTSRB[0][0], "y_train": GTSRB[0][1], "x_test": GTSRB[1][0], "y_test": GTSRB[1][1]}


def test_gtsrb(folder):
    np.savez_compressed(folder / "gtsrb_32x32_small.npz", track_train=np.arange(40), **GTSRB_ARRAYS)
    dataset = load("gtsrb", folder)
    assert (dataset.source, dataset.classes, dataset.shape) == ("GTSRB", 43, (3, 32, 32))
    for split, (images, labels) in zip((dataset.train, dataset.test), GTSRB, strict=True):
        check_split(split, np.stack([images[..., channel] for channel in range(3)], axis=1), labels)


@pytest.mark.parametrize("change, expected", [
    ({"y_test": None}, "y_test: expected an array of this name, got none"),
    ({"x_train": GTSRB[0][0][:, :, 1:]}, "expected x_train to be uint8 [N,32,32,3], found uint8 [40, 32, 31, 3]"),
    ({"x_test": GTSRB[1][0].astype(np.float32)}, "expected x_test to be uint8 [N,32,32,3], found float32"),
    ({"x_test": GTSRB[1][0][:0], "y_test": GTSRB[1][1][:0]}, "found uint8 [0, 32, 32, 3]"),
    ({"y_train": GTSRB[0][1][:-1]}, "expected y_train to be integers [40], found uint8 [39]"),
    ({"y_train": GTSRB[0][1] / 2}, "expected y_train to be integers [40], found float64 [40]"),
    ({"y_train": np.full(40, 43)}, "expected labels 0..42, found 43..43"),
    ({"y_test": np.full(25, -1)}, "expected labels 0..42, found -1..-1"),
    ({"x_train": np.array({})}, "x_train: expected a plain array"),
])  # fmt: skip
def test_broken_gtsrb_arrays_are_refused(folder, change, expected):
    path = folder / "gtsrb_32x32_small.npz"
    arrays = {name: array for name, array in (GTSRB_ARRAYS | change).items() if array is not None}
    np.savez(path, allow_pickle=True, **arrays)
    message = refused("gtsrb", folder)
    assert expected in message and path.name in message


def test_broken_gtsrb_files_are_refused(folder):
    path = folder / "gtsrb_32x32_small.npz"
    assert refused("gtsrb", folder) == f"gtsrb: {path.name}: expected this file in {folder}; put it there"
    np.savez_compressed(path, **GTSRB_ARRAYS)
    whole = path.read_bytes()
    for content in (whole[:-1], whole[:5000], b"", whole[:2000] + bytes(50) + whole[2050:]):
        path.write_bytes(content)
        assert path.name in refused("gtsrb", folder)
    with zipfile.ZipFile(path, "w") as archive:
        header = b"{'descr': '|u1', 'fortran_order': (((".ljust(117) + b"\n"
        archive.writestr("x_train.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header)
    expected = "x_train: expected a plain array, got an unreadable or object array"
    assert refused("gtsrb", folder) == f"{path.name}: {expected}"


# The real files

def real(name, file):
    """The data set from the real files, decoded into the usual cache: the first time takes some seconds."""
    if not (DATA / file).is_file():
        pytest.skip(f"{file} is not in {DATA.name}/, or WINNOW_DATA")
    return load(name, DATA)


@pytest.fixture
def usual_cache(monkeypatch):
    monkeypatch.setenv("WINNOW_CACHE", str(USUAL_CACHE))


def test_real_mnist(usual_cache):
    dataset = real("mnist", "mnist-train-images-idx3-ubyte.gz")
    assert dataset.train.images.shape == (60000, 1, 28, 28) and dataset.test.images.shape == (10000, 1, 28, 28)
    assert dataset.train.labels[:5].tolist() == [5, 0, 4, 1, 9] and dataset.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    np.testing.assert_allclose((*dataset.mean, *dataset.std), (0.1307, 0.3081), atol=1e-4)


def test_real_cifar10(usual_cache):
    dataset = real("cifar10", "cifar10_jpeg.tar.xz")
    assert dataset.source == "CIFAR-10, JPEG quality 75"
    np.testing.assert_array_equal(np.bincount(dataset.train.labels), [5000] * 10)
    np.testing.assert_array_equal(np.bincount(dataset.test.labels), [1000] * 10)
    np.testing.assert_allclose(dataset.mean, (0.4914, 0.4822, 0.4465), atol=5e-4)  # those of the lossless images
    np.testing.assert_allclose(dataset.std, (0.2470, 0.2435, 0.2616), atol=3e-3)  # JPEG takes off some contrast


def test_real_gtsrb(usual_cache):
    dataset = real("gtsrb", "gtsrb_32x32_small.npz")
    assert len(dataset.train.labels) == 7841 and len(dataset.test.labels) == 12630
    assert set(np.unique(dataset.train.labels)) == set(np.unique(dataset.test.labels)) == set(range(43))
