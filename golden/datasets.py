"""Image data sets by name, decoded once and memory-mapped: MNIST, Fashion-MNIST, CIFAR-10 and GTSRB.

==============  ============================================================================  ========================
name            files, in this order of preference                                            images
==============  ============================================================================  ========================
mnist           ``[mnist-]{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]``                 60,000 and 10,000, 1x28x28
fashion-mnist   the same, with the prefix ``fashion-mnist-`` or none                          60,000 and 10,000, 1x28x28
cifar10         ``data_batch_{1..5}.bin`` and ``test_batch.bin``, also in                     50,000 and 10,000, 3x32x32
                ``cifar-10-batches-bin/``; ``cifar-10-binary.tar.gz``;
                ``cifar10_jpeg.tar.xz``, which is lossy: ``Dataset.source`` says so
gtsrb           ``gtsrb_32x32_small.npz``: x_train, y_train, x_test, y_test                   7,841 and 12,630, 3x32x32
==============  ============================================================================  ========================

The split is that of the files. GTSRB's test set is the official one; of the official training set the file holds every
traffic sign's track, with 6 of its 30 pictures. The training images of the JPEG copy of CIFAR-10 and of GTSRB are in
the order of the classes: who trains on them has to draw at random. Nothing is held out for validation;
:func:`golden.digits.hold_out` leaves out the digits that Winnow brings along.

The first load of a data set decodes it on one core: MNIST in 0.5 s, GTSRB in 1.5 s, both with 130 MB of memory in all,
CIFAR-10 from JPEGs in 9 s with 160 MB, from its binaries in 1.5 s with 230 MB. On disk a pixel of a channel then takes
one byte: 55, 64 and 185 MB. Later loads read the files for their checksum and map the arrays, in 0.1 s at most.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from golden import dataset_download
from golden.dataset_cache import stored
from golden.dataset_files import (
    CIFAR_BINARIES,
    CIFAR_SHAPE,
    Contents,
    find_idx,
    read_cifar_archive,
    read_cifar_binaries,
    read_cifar_jpegs,
    read_gtsrb,
    read_idx,
)
from golden.dataset_files import DatasetError as DatasetError

FOLDER_VARIABLE = "WINNOW_DATA"


@dataclass(frozen=True, eq=False)
class Split:
    """Images uint8 [N,C,H,W] and labels int64 [N], memory-mapped, read-only; a batch ``images[rows]`` is a copy."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set.

    Parameters
    ----------
    name : as :func:`load` takes it
    source : what the images are, to be said beside every figure, such as "CIFAR-10, JPEG quality 75"
    train, test : the two parts
    classes : the number of classes; labels are 0..classes-1
    shape : channels, height and width of an image; the channels are grey, or red, green and blue
    mean, std : of the training images, per channel, the pixels being in 0..1
    """

    name: str
    source: str
    train: Split
    test: Split
    classes: int
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


class _Files(NamedTuple):
    """Files that were found, and the function that reads them."""

    paths: tuple[Path, ...]
    read: Callable[[], Contents]


class _Kind(NamedTuple):
    """What is known of a data set beforehand; ``find`` raises DatasetError where a file is absent."""

    title: str
    classes: int
    shape: tuple[int, int, int]
    find: Callable[[Path], _Files]


def load(name: str, folder: str | Path | None = None, *, download: bool = False) -> Dataset:
    """Load the data set ``name`` from its files in ``folder``, by default the environment variable ``WINNOW_DATA``.

    With ``download``, files that are absent are fetched into the folder first (not GTSRB, which has no public address
    in this form); without it nothing is ever fetched. The decoded images are kept on disk, see
    :func:`golden.dataset_cache.stored`. Raises :class:`DatasetError`, of one line: an unknown name, no folder, a file
    that is absent, truncated, corrupt or of other shapes than the data set has, a download that fails.
    """
    if name not in _KINDS:
        raise DatasetError(f"name: expected one of {', '.join(NAMES)}, got {name!r}")
    kind = _KINDS[name]
    folder = folder or os.environ.get(FOLDER_VARIABLE)
    if not folder:
        raise DatasetError(f"{name}: expected a folder with its files, as an argument or in {FOLDER_VARIABLE}")
    folder = Path(folder)
    try:
        try:
            files = kind.find(folder)
        except DatasetError as error:
            if not download:
                mend = ", or ask for its download" if name in dataset_download.DOWNLOADS else ""
                raise DatasetError(f"{name}: {error}; put it there{mend}") from None
            dataset_download.fetch(name, folder)
            files = kind.find(folder)
    except OSError as error:
        raise DatasetError(f"{name}: expected a readable folder {folder} ({error.strerror or error})") from None
    found = stored(name, files.paths, files.read, classes=kind.classes, shape=kind.shape)
    train, test = (Split(found.images[part], found.labels[part]) for part in ("train", "test"))
    source = f"{kind.title}, {found.note}" if found.note else kind.title
    return Dataset(name, source, train, test, kind.classes, kind.shape, found.mean, found.std)


def _idx(name: str, title: str) -> _Kind:
    shape = (1, 28, 28)

    def find(folder: Path) -> _Files:
        paths = find_idx(folder, f"{name}-")

        def read() -> Contents:
            # Both data sets are published under the same file names.
            for path in paths:
                owner = dataset_download.published_as(path)
                if owner not in (None, name):
                    raise DatasetError(f"{path}: expected a file of {name}, found one of {owner}")
            return read_idx(paths, shape)

        return _Files(paths, read)

    return _Kind(title, 10, shape, find)


def _find_cifar10(folder: Path) -> _Files:
    absent: Sequence[Path] = ()
    for place in (folder, folder / "cifar-10-batches-bin"):
        paths = tuple(place / name for name in CIFAR_BINARIES)
        missing = [path for path in paths if not path.is_file()]
        if not missing:
            return _Files(paths, partial(read_cifar_binaries, paths))
        if len(missing) < len(paths):
            absent = missing
    archive, jpegs = folder / "cifar-10-binary.tar.gz", folder / "cifar10_jpeg.tar.xz"
    if archive.is_file():
        return _Files((archive,), partial(read_cifar_archive, archive))
    if absent:  # whoever has some of the lossless files does not want the lossy ones
        raise DatasetError(f"{absent[0].name}: expected this file in {absent[0].parent}, beside the others")
    if jpegs.is_file():
        return _Files((jpegs,), partial(read_cifar_jpegs, jpegs))
    raise DatasetError(f"{archive.name}: expected this file in {folder} (also unpacked, or {jpegs.name})")


def _find_gtsrb(folder: Path) -> _Files:
    path = folder / "gtsrb_32x32_small.npz"
    if not path.is_file():
        raise DatasetError(f"{path.name}: expected this file in {folder}")
    return _Files((path,), partial(read_gtsrb, path, (3, 32, 32)))


_KINDS = {
    "mnist": _idx("mnist", "MNIST"),
    "fashion-mnist": _idx("fashion-mnist", "Fashion-MNIST"),
    "cifar10": _Kind("CIFAR-10", 10, CIFAR_SHAPE, _find_cifar10),
    "gtsrb": _Kind("GTSRB", 43, (3, 32, 32), _find_gtsrb),
}
NAMES = tuple(_KINDS)
