"""The files in which image data sets come: idx, CIFAR-10's records, archives of JPEGs, npz. Read in batches.

Each ``read_...`` returns :class:`Contents`, whose batches are decoded as they are asked for. What is amiss with a file
is a :class:`DatasetError` that names it; the labels' range is left to the caller, who knows the number of classes.
"""

import gzip
import io
import math
import struct
import sys
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from lzma import LZMAError
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from golden.checks import JobError
from golden.npz import NpzReader

PARTS = ("train", "test")
IDX_NAMES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR_BINARIES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
CIFAR_SHAPE = (3, 32, 32)
GTSRB_ARRAYS = ("x_train", "y_train", "x_test", "y_test")

_BATCH = 1000  # images decoded at a time
_UNREADABLE = (OSError, EOFError, zlib.error, LZMAError, tarfile.TarError)


class DatasetError(ValueError):
    """A data set is unknown, missing or malformed; the message is one line that names the cause."""


class Batch(NamedTuple):
    """Images uint8 [n,C,H,W] with labels, integers [n], and the file they come from."""

    images: np.ndarray
    labels: np.ndarray
    path: Path


class Part(NamedTuple):
    """The number of images of a part and its batches in order, to be read once."""

    count: int
    batches: Iterator[Batch]


class Contents(NamedTuple):
    """What a data set's files hold; ``note`` is what has to be said of the images beside every figure, or empty."""

    train: Part
    test: Part
    note: str = ""


def progress(items: Iterable | None, label: str, *, total: int | None = None, unit: str) -> tqdm:
    """A progress bar on stderr, gone when done; a log file gets a line every 10 seconds at most."""
    terminal = sys.stderr.isatty()
    interval = 0.2 if terminal else 10
    return tqdm(items, desc=label, total=total, unit=f" {unit}", mininterval=interval, maxinterval=interval,
                leave=False, dynamic_ncols=True, delay=0 if terminal else 5)


# idx: MNIST and Fashion-MNIST

def find_idx(folder: Path, prefix: str) -> tuple[Path, ...]:
    """The files of :data:`IDX_NAMES` in ``folder``, each with the prefix or without, gzipped or plain."""
    return tuple(_find_one(folder, name, prefix) for name in IDX_NAMES)


def _find_one(folder: Path, name: str, prefix: str) -> Path:
    for candidate in (f"{start}{name}{end}" for start in (prefix, "") for end in (".gz", "")):
        if (folder / candidate).is_file():
            return folder / candidate
    raise DatasetError(f"{name}.gz: expected this file in {folder} (also as {prefix}{name}.gz, or not compressed)")


def read_idx(paths: Sequence[Path], shape: tuple[int, int, int]) -> Contents:
    """The files of :func:`find_idx`, images of 1,H,W. They are decompressed here, as whole files."""
    parts = []
    for images_path, labels_path in (paths[:2], paths[2:]):
        images, labels = _read_idx_file(images_path, shape[1:]), _read_idx_file(labels_path, ())
        if len(images) != len(labels):
            raise DatasetError(f"{labels_path}: expected {len(images)} labels, as many as images, found {len(labels)}")
        parts.append(_part(images.reshape(-1, *shape), labels, images_path))
    return Contents(*parts)


def _read_idx_file(path: Path, item: tuple[int, ...]) -> np.ndarray:
    """The array uint8 [n, *item] of an idx file."""
    dimensions = 1 + len(item)
    length = 4 + 4 * dimensions
    try:
        with (gzip.open(path) if path.suffix == ".gz" else open(path, "rb")) as file:
            header = file.read(length)
            if len(header) < length or header[:4] != bytes((0, 0, 0x08, dimensions)):
                raise DatasetError(f"{path}: expected an idx file of unsigned bytes with {dimensions} dimensions")
            shape = struct.unpack(f">{dimensions}I", header[4:])
            if shape[1:] != item:
                raise DatasetError(f"{path}: expected items of {_times(item)}, found {_times(shape[1:])}")
            content = file.read()
    except _UNREADABLE as error:
        raise _unreadable(path, "gzip file" if path.suffix == ".gz" else "file", error) from None
    if len(content) != math.prod(shape):
        raise DatasetError(f"{path}: expected {math.prod(shape)} bytes after the header, found {len(content)}")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


# CIFAR-10

def read_cifar_binaries(paths: Sequence[Path]) -> Contents:
    """The files of :data:`CIFAR_BINARIES`, in this order."""
    try:
        contents = [path.read_bytes() for path in paths]
    except OSError as error:
        raise _unreadable(Path(error.filename or paths[0]), "file", error) from None
    return _cifar_records(contents, paths)


def read_cifar_archive(path: Path) -> Contents:
    """``cifar-10-binary.tar.gz`` as it is published; it is decompressed to memory (180 MB)."""
    found = {}
    for name, content in _archive(path, CIFAR_BINARIES):
        found[Path(name).name] = content
    absent = [name for name in CIFAR_BINARIES if name not in found]
    if absent:
        raise DatasetError(f"{path}: expected {absent[0]} in the archive, found {', '.join(sorted(found)) or 'none'}")
    return _cifar_records([found[name] for name in CIFAR_BINARIES], [path / name for name in CIFAR_BINARIES])


def _cifar_records(contents: Sequence[bytes], paths: Sequence[Path]) -> Contents:
    """Records of one byte of label and the image's planes."""
    record = 1 + math.prod(CIFAR_SHAPE)
    for content, path in zip(contents, paths, strict=True):
        if not content or len(content) % record:
            raise DatasetError(f"{path}: expected records of {record} bytes, found {len(content)} bytes")
    size = len(contents[0])
    for content, path in zip(contents[1:-1], paths[1:-1], strict=True):
        if len(content) != size:  # a file that was cut between two records
            raise DatasetError(f"{path}: expected {size} bytes, as {paths[0].name} has, found {len(content)}")

    def batches(rows: slice) -> Iterator[Batch]:
        for content, path in zip(contents[rows], paths[rows], strict=True):
            records = np.frombuffer(content, dtype=np.uint8).reshape(-1, record)
            yield from _part(records[:, 1:].reshape(-1, *CIFAR_SHAPE), records[:, 0], path).batches

    counts = [len(content) // record for content in contents]
    return Contents(Part(sum(counts[:-1]), batches(slice(0, -1))), Part(counts[-1], batches(slice(-1, None))))


def read_cifar_jpegs(path: Path) -> Contents:
    """An archive of JPEGs, ``<train or test>/<class>/<number>.jpg``: in the order of parts, classes and numbers.

    All images must have one quality, which the note states. The compressed images are kept in memory (80 MB).
    """
    order = {name: index for index, name in enumerate(CIFAR_CLASSES)}
    files: dict[str, list[tuple[int, str, bytes]]] = {part: [] for part in PARTS}
    for name, content in _archive(path, ()):
        part, label, file = ("", *Path(name).parts)[-3:] if len(Path(name).parts) > 1 else ("", "", name)
        if part not in files or label not in order:
            raise DatasetError(f"{path}: expected files <train or test>/<class of CIFAR-10>/<number>.jpg, found {name}")
        files[part].append((order[label], file, content))
    for part in PARTS:
        if not files[part]:
            raise DatasetError(f"{path}: expected images in {part}/, found none")
        files[part].sort(key=lambda item: item[:2])
    label, file, content = files["train"][0]
    tables = _decode_jpeg(content, path / "train" / CIFAR_CLASSES[label] / file, None)[1]

    def batches(part: str) -> Iterator[Batch]:
        for start in range(0, len(files[part]), _BATCH):
            items = files[part][start : start + _BATCH]
            images = [_decode_jpeg(content, path / part / CIFAR_CLASSES[label] / file, tables)[0]
                      for label, file, content in items]
            yield Batch(np.stack(images).transpose(0, 3, 1, 2), np.array([item[0] for item in items]), path)

    quality = _quality(tables)
    note = "JPEG" if quality is None else f"JPEG quality {quality}"
    return Contents(*(Part(len(files[part]), batches(part)) for part in PARTS), note)


def _decode_jpeg(content: bytes, path: Path, tables: dict | None) -> tuple[np.ndarray, dict]:
    """Pixels uint8 [32,32,3] and quantization tables, which must be ``tables`` where these are given."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            if (image.mode, image.size) != ("RGB", CIFAR_SHAPE[1:]):
                raise DatasetError(f"{path}: expected an RGB image of 32x32, found {image.mode} {_times(image.size)}")
            if tables is not None and image.quantization != tables:
                raise DatasetError(f"{path}: expected the JPEG quality of the archive's first image, found another")
            return np.asarray(image), image.quantization
    except (OSError, SyntaxError) as error:
        raise _unreadable(path, "JPEG", error) from None


def _quality(tables: dict) -> int | None:
    """The quality 1..100 for which Pillow, as libjpeg, writes these quantization tables, None when there is none."""
    from PIL import Image

    for quality in range(100, 0, -1):
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, "JPEG", quality=quality)
        if Image.open(file).quantization == tables:
            return quality
    return None


def _archive(path: Path, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Name and content of each plain file of a tar archive; of those with one of the file names, if any are given."""
    try:
        with tarfile.open(path) as archive, progress(archive, f"reading {path.name}", unit="files") as members:
            for member in members:
                if member.isfile() and (not names or Path(member.name).name in names):
                    yield member.name, archive.extractfile(member).read()
            while archive.fileobj.read(1 << 20):  # the checksum of a compressed file comes at its end
                pass
    except _UNREADABLE as error:
        raise _unreadable(path, "tar archive", error) from None


# GTSRB

def read_gtsrb(path: Path, shape: tuple[int, int, int]) -> Contents:
    """An npz file of the arrays x_train, x_test uint8 [N,H,W,C] and y_train, y_test, integers [N]."""
    try:
        with NpzReader(path) as npz:
            arrays = {name: npz.array(name) for name in GTSRB_ARRAYS}
    except JobError as error:
        raise DatasetError(f"{path.name}: {error}") from None
    parts = []
    item = (*shape[1:], shape[0])
    for part in PARTS:
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if images.dtype != np.uint8 or images.shape[1:] != item or not len(images):
            raise DatasetError(f"{path}: expected x_{part} to be uint8 [N,{','.join(map(str, item))}], "
                               f"found {images.dtype} {list(images.shape)}")
        if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
            raise DatasetError(f"{path}: expected y_{part} to be integers [{len(images)}], "
                               f"found {labels.dtype} {list(labels.shape)}")
        parts.append(_part(images.transpose(0, 3, 1, 2), labels, path))
    return Contents(*parts)


def _part(images: np.ndarray, labels: np.ndarray, path: Path) -> Part:
    """Images [N,C,H,W] in batches."""
    if not len(images):
        raise DatasetError(f"{path}: expected at least one image, found none")
    starts = range(0, len(images), _BATCH)
    return Part(len(images), (Batch(images[k : k + _BATCH], labels[k : k + _BATCH], path) for k in starts))


def _unreadable(path: Path, what: str, error: BaseException) -> DatasetError:
    reason = " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())
    return DatasetError(f"{path}: expected a readable {what}, not truncated ({reason}); fetch it again")


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "one byte"
