"""Pictures and arrays as a network takes them: decoded, cropped and resized, in the quantization of its input."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from golden.checks import JobError, check
from golden.network import QuantizedNetwork
from golden.preprocess import quantize_input, quantize_pixels

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm")
"""Suffixes of files that are decoded as pictures."""
ARRAYS = (".npy",)
_MODES = {1: "L", 3: "RGB"}


def picture_shape(network: QuantizedNetwork) -> tuple[int, int, int]:
    """(channels, rows, columns) of the pictures that ``network`` takes, grey or colour. Raises JobError for others."""
    stated = network.metadata.get("input_shape")
    shape = network.input.shape
    if isinstance(stated, list) and len(stated) == 4:
        shape = (stated[3], stated[1], stated[2])
    elif shape[1:] == (1, 1):  # Pixels that lie flat, of a square.
        side = round(shape[0] ** 0.5)
        shape = (1, side, side) if side * side == shape[0] else shape
    check(shape[0] in _MODES, network.name, "a network of pictures, grey or colour", f"an input of {list(shape)}")
    flat = network.input.shape != shape
    check(not flat or shape[0] == 1, network.name, "an input of planes for colour pictures", "one that lies flat")
    return shape


def read_inputs(network: QuantizedNetwork, path: Path) -> np.ndarray:
    """A picture, or the arrays of an .npy file, as inputs of ``network``: int8 [N,C,H,W].

    A picture becomes grey or RGB, is cropped in its middle to the network's proportions, resized (bilinear, averaging
    where it shrinks), and its pixels are quantized (:func:`golden.preprocess.quantize_pixels`). An array has the
    network's shape, as planes or in the order of the model that was imported, one or many: floats are real values, int8
    are quantized ones, uint8 are those of a uint8 model, else pixels. Raises JobError, which names the file.
    """
    try:
        if path.suffix.lower() in ARRAYS:
            return _read_array(network, path)
        return quantize_pixels(network, _read_picture(path, picture_shape(network))[None])
    except JobError as error:
        raise JobError(str(error) if str(error).startswith(f"{path}: ") else f"{path}: {error}") from None


def find_pictures(folder: Path) -> tuple[list[Path], list[int] | None]:
    """The pictures and arrays of a folder in order, and the class of each where they lie in a folder for each class.

    A folder's class is its name where all are numbers, else its place among the names in order. Raises JobError where
    there is nothing.
    """
    found = _files(folder)
    if found:
        return found, None
    parts = sorted(part for part in folder.iterdir() if part.is_dir() and _files(part))
    check(bool(parts), str(folder), f"a data set, or files {', '.join(PICTURES + ARRAYS)}", "none")
    numbered = all(part.name.isdecimal() for part in parts)
    labels = [int(part.name) if numbered else place for place, part in enumerate(parts)]
    pairs = [(path, label) for part, label in zip(parts, labels, strict=True) for path in _files(part)]
    return [path for path, _ in pairs], [label for _, label in pairs]


def read_all(network: QuantizedNetwork, paths: Sequence[Path]) -> tuple[np.ndarray, list[str]]:
    """The inputs of all files, int8 [N,C,H,W], and what each is called."""
    inputs, names = [], []
    for path in paths:
        found = read_inputs(network, path)
        inputs.append(found)
        names += [path.name] if len(found) == 1 else [f"{path.name}[{number}]" for number in range(len(found))]
    return np.concatenate(inputs), names


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES + ARRAYS and path.is_file())


def _read_picture(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Pixels uint8 [C,H,W]."""
    from PIL import Image, ImageOps

    channels, rows, columns = shape
    try:
        with Image.open(path) as image:
            image = ImageOps.exif_transpose(image).convert(_MODES[channels])
            if image.size != (columns, rows):
                image = image.crop(_middle(image.size, rows, columns))
                image = image.resize((columns, rows), Image.Resampling.BILINEAR)
            pixels = np.asarray(image)
    except FileNotFoundError:
        raise JobError(f"{path}: expected a picture, got no such file") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise JobError(f"{path}: expected a picture, got something unreadable") from None
    return np.ascontiguousarray(pixels.reshape(rows, columns, channels).transpose(2, 0, 1))


def _middle(size: tuple[int, int], rows: int, columns: int) -> tuple[int, int, int, int]:
    """The largest box of a network's proportions in the middle of a picture: left, top, right, bottom."""
    width, height = size
    scale = min(width / columns, height / rows)
    inner_width, inner_height = max(1, round(columns * scale)), max(1, round(rows * scale))
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    return left, top, left + inner_width, top + inner_height


def _read_array(network: QuantizedNetwork, path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        array = None
    check(isinstance(array, np.ndarray), str(path), "an array in .npy form", "something unreadable")
    check(array.dtype in (np.int8, np.uint8) or array.dtype.kind == "f", str(path), "floats, int8 or uint8",
          array.dtype)
    planes = _as_planes(network, array)
    if array.dtype.kind == "f":
        return quantize_input(network, planes)
    if array.dtype == np.int8:
        return planes
    if network.metadata.get("input_type") == "uint8":
        return (planes ^ 0x80).view(np.int8)
    return quantize_pixels(network, planes)


def _as_planes(network: QuantizedNetwork, array: np.ndarray) -> np.ndarray:
    """[N,C,H,W] of one array or many."""
    shape = network.input.shape
    stated = tuple(network.metadata.get("input_shape", (1, *shape)))[1:]
    for own in dict.fromkeys((stated, shape)):
        if array.shape[-len(own):] == own and array.ndim - len(own) in (0, 1):
            many = array.reshape(-1, *own)
            check(len(many) >= 1, "input", "at least one", "none")
            channels, rows, columns = shape
            if own == shape:
                return np.ascontiguousarray(many)
            if own == (rows, columns, channels):
                many = many.transpose(0, 3, 1, 2)
            return np.ascontiguousarray(many).reshape(-1, *shape)
    expected = " or ".join(f"[{', '.join(map(str, own))}]" for own in dict.fromkeys((stated, shape)))
    raise JobError(f"input: expected {expected}, one or many, got {list(array.shape)}")
