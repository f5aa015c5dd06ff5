"""Decoded data sets as arrays on disk, memory-mapped: written once, whole or not at all, by one process at a time."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from golden.dataset_files import PARTS, Contents, DatasetError, Part, progress

_FORMAT = 1  # to be raised with every change of what is stored: older folders then are no longer found


class Stored(NamedTuple):
    """Arrays of the parts, memory-mapped read-only: images uint8 [N,C,H,W], labels int64 [N].

    ``mean`` and ``std`` are those of the training images, per channel, the pixels being in 0..1.
    """

    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    note: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


def cache_directory() -> Path:
    """Folder of what can be made anew: ``WINNOW_CACHE``, or "winnow" in the user's cache folder. It may be absent."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "winnow"
    return Path(os.environ.get("WINNOW_CACHE") or default).absolute()


def stored(name: str, paths: Sequence[Path], read: Callable[[], Contents], *, classes: int,
           shape: tuple[int, int, int]) -> Stored:
    """The decoded contents of the files ``paths``: those on disk, or else what ``read()`` gives, which then is stored.

    They lie in "datasets" in :func:`cache_directory`, in one folder for each ``name`` and checksum of the files: other
    files are decoded anew, equal ones are found wherever they lie. A folder takes its name when it is complete. A
    second process waits for the first; an interrupted one leaves nothing that is taken for a data set.

    Raises :class:`DatasetError` when the contents are not images of ``shape`` with labels below ``classes``, or the
    cache cannot be written.
    """
    key = _checksum(name, paths)
    root = cache_directory() / "datasets"
    folder = root / f"{name}-{key}"
    found = _open(folder, shape)
    if found is not None:
        return found
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / f".{folder.name}.lock"):
            found = _open(folder, shape)  # another process may have written it meanwhile
            if found is None:
                partial = root / f".{folder.name}.partial"
                for old in (folder, partial):  # Under the lock: damaged, or left by a process that was killed.
                    shutil.rmtree(old, ignore_errors=True)
                partial.mkdir()
                try:
                    _write(partial, name, read(), classes, shape)
                    partial.rename(folder)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)
                found = _open(folder, shape)
    except OSError as error:
        raise DatasetError(f"{name}: expected to write its decoded images to {root} ({error.strerror or error}); "
                           f"WINNOW_CACHE can name another folder") from None
    if found is None:
        raise DatasetError(f"{name}: expected to read back what was written to {folder}")
    return found


def _checksum(name: str, paths: Sequence[Path]) -> str:
    """32 hexadecimal digits that stand for the contents of the files, in this order, not for their places."""
    state = hashlib.sha256(f"{_FORMAT} {name}".encode())
    for path in paths:
        try:
            with open(path, "rb") as file:
                state.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DatasetError(f"{path}: expected a readable file ({error.strerror or error})") from None
    return state.hexdigest()[:32]


def _open(folder: Path, shape: tuple[int, int, int]) -> Stored | None:
    """What the folder holds, None where anything of it is absent or not as it is written."""
    images, labels = {}, {}
    try:
        about = json.loads((folder / "dataset.json").read_text())
        for part in PARTS:
            images[part] = np.load(folder / f"{part}-images.npy", mmap_mode="r", allow_pickle=False)
            labels[part] = np.load(folder / f"{part}-labels.npy", mmap_mode="r", allow_pickle=False)
            count = about["counts"][part]
            if (images[part].shape, images[part].dtype) != ((count, *shape), np.uint8):
                return None
            if (labels[part].shape, labels[part].dtype) != ((count,), np.int64):
                return None
        return Stored(images, labels, about["note"], tuple(about["mean"]), tuple(about["std"]))
    except (OSError, ValueError, EOFError, KeyError, TypeError):
        return None


def _write(folder: Path, name: str, contents: Contents, classes: int, shape: tuple[int, int, int]) -> None:
    counts = {"train": contents.train.count, "test": contents.test.count}
    about = {"counts": counts, "note": contents.note}
    with progress(None, f"decoding {name}", total=sum(counts.values()), unit="images") as bar:
        moments = _write_part(folder, "train", contents.train, classes, shape, bar.update)
        _write_part(folder, "test", contents.test, classes, shape, bar.update)
    (folder / "dataset.json").write_text(json.dumps(about | moments))


def _write_part(folder: Path, name: str, part: Part, classes: int, shape: tuple[int, int, int],
                advance: Callable[[int], object]) -> dict[str, list[float]]:
    """Write images and labels of a part; returns the mean and standard deviation of its pixels in 0..1."""
    total, squares = np.zeros((2, shape[0]), dtype=np.int64)
    with (_npy(folder / f"{name}-images.npy", (part.count, *shape), np.uint8) as images_file,
          _npy(folder / f"{name}-labels.npy", (part.count,), np.int64) as labels_file):
        for images, labels, path in part.batches:
            labels = labels.astype(np.int64)
            if not 0 <= labels.min() <= labels.max() < classes:
                raise DatasetError(f"{path}: expected labels 0..{classes - 1}, found {labels.min()}..{labels.max()}")
            # Plain writes: a full disk is then an error here, where a memory-mapped array would end the process.
            images_file.write(np.ascontiguousarray(images))
            labels_file.write(labels)
            total += images.sum(axis=(0, 2, 3), dtype=np.int64)
            squares += np.square(images, dtype=np.int32).sum(axis=(0, 2, 3), dtype=np.int64)
            advance(len(images))
    mean = total / (part.count * shape[1] * shape[2])
    deviation = np.sqrt(squares / (part.count * shape[1] * shape[2]) - mean**2)
    return {"mean": (mean / 255).tolist(), "std": (deviation / 255).tolist()}


@contextmanager
def _npy(path: Path, shape: tuple[int, ...], dtype: type) -> Iterator[BinaryIO]:
    """A new npy file, open after its header for the array's bytes, which are on the disk when the context ends."""
    with open(path, "xb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file ``path`` (created)."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
