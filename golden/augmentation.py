"""What is done to images before a network sees them: crops, flips, small affine transforms, and normalization.

Images are tensors [N,C,H,W], uint8 as :mod:`golden.datasets` has them or float; the result has the same dtype, save
that of :func:`normalize`. The random ones treat each image of a batch for itself, and draw only from the generator
given, which is on the images' device. Pixels that come in from outside an image are 0: black, where it is not yet
normalized.

All raise JobError, of one line that names the argument, for what is no batch of images or is out of range.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from golden.checks import check, check_integer


def random_crop(images: Tensor, padding: int, generator: torch.Generator, *, size: int | None = None) -> Tensor:
    """Pad every side with ``padding`` zeros, then cut out of each image a part at random, every place as likely.

    The part has the image's own height and width, or is a square of ``size`` pixels: ``random_crop(images, 4, ...)`` is
    what is usual for ResNets on CIFAR-10, ``random_crop(images, 0, ..., size=24)`` trains ConvNet-5.
    """
    count, _, height, width = _check_images(images)
    padding = check_integer("padding", padding, 0, max(height, width))
    if size is not None:
        height = width = check_integer("size", size, 1, 2 * padding + min(height, width))
    parts = functional.pad(images, (padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    rows, columns = (torch.randint(places, (count,), generator=generator, device=images.device)
                     for places in parts.shape[2:4])
    return parts[torch.arange(count, device=images.device), :, rows, columns]


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror left and right each image with a chance of one half."""
    count = _check_images(images)[0]
    flipped = torch.randint(2, (count, 1, 1, 1), generator=generator, device=images.device, dtype=torch.bool)
    return torch.where(flipped, images.flip(3), images)


def center_crop(images: Tensor, size: int) -> Tensor:
    """The square of ``size`` pixels in the middle, a view; nearer to the top and left by half a pixel if need be."""
    _, _, height, width = _check_images(images)
    size = check_integer("size", size, 1, min(height, width))
    top, left = (height - size) // 2, (width - size) // 2
    return images[:, :, top : top + size, left : left + size]


def random_affine(images: Tensor, generator: torch.Generator, *, turn: float = 10, scale: float = 0.1,
                  shift: float = 2) -> Tensor:
    """Turn each image about its middle, scale and shift it, at random, bilinearly.

    Each draw is uniform: the angle within ``turn`` degrees to either side, the size of what is seen of the image within
    1 - ``scale`` .. 1 + ``scale`` of its own, the shift along each axis within ``shift`` pixels to either side.
    """
    count, _, height, width = _check_images(images)
    for name, value, high in (("turn", turn, 180), ("scale", scale, 0.9), ("shift", shift, max(height, width))):
        check(isinstance(value, (int, float)) and 0 <= value <= high, name, f"a number in 0..{high}", value)
    angle, size, right, down = 2 * torch.rand(4, count, generator=generator, device=images.device) - 1
    angle, size = angle * math.radians(turn), 1 + scale * size
    cosine, sine = size * angle.cos(), size * angle.sin()
    # An image spans -1..1 along both axes, whatever its height and width.
    theta = torch.stack((cosine, -sine * height / width, right * (2 * shift / width),
                         sine * width / height, cosine, down * (2 * shift / height)), dim=1).reshape(-1, 2, 3)
    pixels = images if images.is_floating_point() else images.float()
    grid = functional.affine_grid(theta.to(pixels.dtype), list(images.shape), align_corners=False)
    moved = functional.grid_sample(pixels, grid, align_corners=False)
    return moved if images.is_floating_point() else moved.round().to(images.dtype)


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Images as float with ``mean`` taken off each channel and divided by ``std``; both are for pixels in 0..1.

    uint8 images are brought to 0..1 first and become float32, float images are taken to be in 0..1.
    """
    _check_images(images)
    pixels = images if images.is_floating_point() else images.float() / 255
    mean, std = _per_channel("mean", mean, pixels), _per_channel("std", std, pixels)
    check(bool((std > 0).all()), "std", "numbers above 0", std.flatten().tolist())
    return (pixels - mean) / std


def _per_channel(name: str, values: Sequence[float], pixels: Tensor) -> Tensor:
    """The values as a tensor [C,1,1] like ``pixels``."""
    channels = pixels.shape[1]
    try:
        tensor = torch.as_tensor(values, dtype=pixels.dtype, device=pixels.device)
    except (TypeError, ValueError, RuntimeError):
        tensor = None
    fits = tensor is not None and tensor.shape == (channels,) and bool(tensor.isfinite().all())
    check(fits, name, f"{channels} finite numbers, one a channel", " ".join(repr(values).split()))
    return tensor[:, None, None]


def _check_images(images: Tensor) -> torch.Size:
    """The shape of a batch of images."""
    fits = isinstance(images, Tensor) and images.ndim == 4 and min(images.shape) > 0
    fits = fits and (images.dtype == torch.uint8 or images.is_floating_point())
    check(fits, "images", "a tensor uint8 or float [N,C,H,W], not empty",
          f"{images.dtype} {list(images.shape)}" if isinstance(images, Tensor) else type(images).__name__)
    return images.shape
