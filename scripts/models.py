"""Networks from published models, from files and by name."""

from pathlib import Path
from typing import TYPE_CHECKING

from scripts.options import Refusal, load_network

if TYPE_CHECKING:
    from golden.network import QuantizedNetwork

FORMATS = (".tflite", ".onnx")
"""Of published models."""


def is_model(path: Path) -> bool:
    """Whether a file is a published model, by its name."""
    return path.suffix.lower() in FORMATS


def import_model(path: Path, *, name: str | None = None, fuse: bool = True) -> "QuantizedNetwork":
    """The network of a published model (:mod:`golden.import_tflite`, :mod:`golden.import_onnx`).

    Raises Refusal or JobError.
    """
    if path.suffix.lower() == ".tflite":
        from golden.import_tflite import import_tflite

        return import_tflite(path, name=name, fuse=fuse)
    if path.suffix.lower() == ".onnx":
        from golden.import_onnx import import_onnx

        return import_onnx(path, name=name, fuse=fuse)
    raise Refusal(f"{path}: expected a name that ends with {' or '.join(FORMATS)}")


def read_network(name: str) -> "QuantizedNetwork":
    """The network of a published model, of a file that Winnow wrote, or of a name. Raises Refusal or JobError."""
    path = Path(name)
    if is_model(path):
        if not path.is_file():
            raise Refusal(f"{name}: expected an existing file, got no such file")
        return import_model(path)
    if path.is_file() and path.suffix not in (".npz", ".json"):  # winnow import writes any name.
        from golden.checks import JobError
        from golden.network import QuantizedNetwork

        try:
            return QuantizedNetwork.load(path)
        except JobError as error:
            raise Refusal(str(error) if str(error).startswith(name) else f"{name}: {error}") from None
    return load_network(name)
