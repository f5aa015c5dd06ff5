"""npz files of plain arrays: written whole or not at all, read with an error of one line."""

import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np

from golden.checks import JobError, check


def write_npz(path: str | Path, arrays: Mapping[str, Any], *, compressed: bool = False) -> None:
    """Write an npz file under exactly this name, whole or not at all."""
    with whole_file(path) as partial, open(partial, "wb") as file:
        (np.savez_compressed if compressed else np.savez)(file, allow_pickle=False, **arrays)


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A context that gives the name of a file to write, which takes the name ``path`` unless an error is raised."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


class NpzReader:
    """A context that reads named arrays of an npz file; anything amiss with it raises JobError."""

    _UNREADABLE = (OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error,
                   tokenize.TokenError)

    def __init__(self, path: str | Path):
        try:
            self._file = np.load(path, allow_pickle=False)
        except FileNotFoundError:
            raise JobError(f"{path}: expected an npz file, got no such file") from None
        except self._UNREADABLE:
            raise JobError(f"{path}: expected an npz file, got something unreadable") from None
        check(isinstance(self._file, np.lib.npyio.NpzFile), str(path), "an npz file", "a single array")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, name: str) -> bool:
        return name in self._file.files

    def array(self, name: str) -> np.ndarray:
        """The array of this name, as stored."""
        check(name in self, name, "an array of this name", "none")
        try:
            array = self._file[name]
        except self._UNREADABLE:
            array = None
        check(isinstance(array, np.ndarray), name, "a plain array", "an unreadable or object array")
        return array

    def scalar(self, name: str, kinds: str) -> Any:
        """The Python value of a 0-d or [1] array whose ``dtype.kind`` is one of ``kinds``."""
        array = self.array(name)
        what = {"iu": "an integer", "iuf": "a number", "U": "a string"}[kinds]
        fits = array.dtype.kind in kinds and array.shape in ((), (1,))
        check(fits, name, f"{what}, 0-d or [1]", f"{array.dtype} {list(array.shape)}")
        return array.item()


def check_op(npz: NpzReader, *allowed: str) -> str:
    """The operation that an open JOB.npz states, "conv" where it states none. Raises JobError unless it is allowed."""
    op = npz.scalar("op", "U") if "op" in npz else "conv"
    check(op in allowed, "op", f"one of {', '.join(allowed)}" if len(allowed) > 1 else allowed[0], repr(op))
    return op
