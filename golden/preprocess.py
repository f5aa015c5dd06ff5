"""From images to an int8 network's input, as its quantization and metadata say."""

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from golden.checks import JobError, check, check_scale
from golden.network import QuantizedNetwork

if TYPE_CHECKING:
    from torch import Tensor

PIXEL_SCALE, PIXEL_ZERO_POINT = 1 / 255, -128
"""Of pixels 0..255 that are taken as 0..1."""
_PIXELS = np.arange(256)


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """How pixels 0..255 become what a float network takes: ``(scale * pixel - mean) / std``, channel by channel.

    ``mean`` and ``std`` state a number for each channel. Raises JobError.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = PIXEL_SCALE

    def __post_init__(self):
        for name in ("mean", "std"):
            values = np.asarray(getattr(self, name))
            fits = values.ndim == 1 and values.dtype.kind in "iuf" and bool(np.isfinite(values).all())
            check(fits and len(values) >= 1, name, "a number for each channel", getattr(self, name))
            object.__setattr__(self, name, tuple(values.tolist()))
        check(len(self.mean) == len(self.std), "std", f"as many numbers as mean, {len(self.mean)}", len(self.std))
        check(min(self.std) > 0, "std", "numbers above 0", self.std)
        object.__setattr__(self, "scale", check_scale("scale", self.scale))

    @property
    def values(self) -> np.ndarray:
        """What each pixel becomes: float64 [C,256]."""
        mean, std = (np.array(values, np.float64)[:, None] for values in (self.mean, self.std))
        return (self.scale * _PIXELS - mean) / std

    def text(self) -> dict[str, Any]:
        """The JSON object ``preprocess`` of a network's metadata."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def read(cls, text: Any) -> Self:
        """The inverse of :meth:`text`. Raises JobError."""
        fits = isinstance(text, dict) and text.keys() == {"mean", "std", "scale"}
        check(fits, "preprocess", "an object of mean, std and scale", text)
        try:
            return cls(**text)
        except JobError as error:
            raise JobError(f"preprocess: {error}") from None


def every_value(scale: float, zero_point: int, channels: int) -> Normalization:
    """The normalization by which pixels 0..255 are the 256 values of an input of this quantization, in order."""
    return Normalization(mean=(scale * (128 + zero_point),) * channels, std=(1.0,) * channels, scale=scale)


def quantize_input(network: QuantizedNetwork, images: "Tensor | np.ndarray") -> np.ndarray:
    """Float ``images`` [N, ...] of the values of :attr:`network.input`, as int8 [N,C,H,W]: the nearest, clipped.

    They are of the input's (C, H, W), or lie flat; where the input does, as C values of one pixel, they may be of any
    sizes. Raises JobError.
    """
    values = np.asarray(images)
    check(values.dtype.kind == "f", "images", "floats; pixels have quantize_pixels", values.dtype)
    return _shaped(network, _quantized(network, values))


def quantize_pixels(network: QuantizedNetwork, pixels: np.ndarray) -> np.ndarray:
    """``pixels`` uint8 [N,C, ...] as the network's input int8 [N,C,H,W], of sizes as for :func:`quantize_input`.

    They are normalized as the metadata's ``preprocess`` says for each channel, without it taken as 0..1. Raises
    JobError.
    """
    values = np.asarray(pixels)
    check(values.dtype == np.uint8, "pixels", "uint8", values.dtype)
    check(values.ndim >= 2, "pixels", "[N,C, ...]", list(values.shape))
    channels = values.shape[1]
    plain = {"mean": [0] * channels, "std": [1] * channels, "scale": PIXEL_SCALE}
    normalization = Normalization.read(network.metadata.get("preprocess", plain))
    check(len(normalization.mean) == channels, "pixels", f"{len(normalization.mean)} channels", channels)
    table = _quantized(network, normalization.values)
    rows = np.arange(channels).reshape(channels, *[1] * (values.ndim - 2))
    return _shaped(network, table[rows, values])


def _shaped(network: QuantizedNetwork, values: np.ndarray) -> np.ndarray:
    shape, sizes = network.input.shape, values.shape[1:]
    fits = sizes == shape or (math.prod(sizes) == math.prod(shape) and (len(sizes) == 1 or shape[1:] == (1, 1)))
    check(fits, "images", f"[N, {', '.join(map(str, shape))}]", list(values.shape))
    return values.reshape(-1, *shape)


def _quantized(network: QuantizedNetwork, values: np.ndarray) -> np.ndarray:
    steps = np.rint(values.astype(np.float64) / network.input.scale) + network.input.zero_point
    return np.clip(steps, -128, 127).astype(np.int8)
