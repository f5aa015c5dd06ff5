"""Augmentation: every result is a window, mirror image or affine image of what was given, each place as likely."""

import math

import numpy as np
import pytest
import torch

from golden.augmentation import center_crop, normalize, random_affine, random_crop, random_flip
from golden.checks import JobError


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_images(count, shape=(3, 6, 8), seed=0, dtype=torch.uint8):
    """Images without a zero, so that padding shows."""
    return torch.randint(1, 256, (count, *shape), generator=generator(seed + 100)).to(dtype)


def places(images, crops, padding):
    """Row and column of each crop in its padded image, found by comparing with every window; one must fit."""
    wide = np.pad(images.numpy(), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    height, width = crops.shape[2:]
    found = []
    for image, crop in zip(wide, crops.numpy(), strict=True):
        windows = [(y, x) for y in range(image.shape[1] - height + 1) for x in range(image.shape[2] - width + 1)
                   if (image[:, y : y + height, x : x + width] == crop).all()]
        assert len(windows) == 1
        found += windows
    return found


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("padding, size", [(2, None), (0, 4), (1, 5), (1, 8), (0, None)])
def test_random_crop_cuts_a_window_of_each_padded_image(padding, size, dtype):
    images = random_images(40, dtype=dtype)
    crops = random_crop(images, padding, generator(), size=size)
    height, width = (size, size) if size else (6, 8)
    assert crops.shape == (40, 3, height, width) and crops.dtype == dtype and crops.is_contiguous()
    found = places(images, crops, padding)
    limits = 6 + 2 * padding - height + 1, 8 + 2 * padding - width + 1
    assert len(set(found)) > min(math.prod(limits), 20) * 0.6  # each image for itself


def test_random_crop_takes_every_place_as_often():
    images = torch.arange(1, 26, dtype=torch.uint8).reshape(1, 1, 5, 5).expand(9000, -1, -1, -1)
    corners = random_crop(images, 0, generator(), size=3)[:, 0, 0, 0]
    counts = np.bincount(corners.numpy(), minlength=26)
    expected = [1 + y * 5 + x for y in range(3) for x in range(3)]
    assert counts[expected].sum() == 9000
    assert abs(counts[expected] - 1000).max() < 5 * math.sqrt(1000)  # 5 standard deviations


def test_random_flip_mirrors_half_of_the_images():
    images = random_images(4000, (2, 3, 4))
    result = random_flip(images, generator())
    mirrored = torch.as_tensor(images.numpy()[..., ::-1].copy())
    same, flipped = ((result == other).all((1, 2, 3)) for other in (images, mirrored))
    assert (same ^ flipped).all() and abs(flipped.sum().item() - 2000) < 5 * math.sqrt(1000)
    assert result.dtype == torch.uint8


def test_center_crop():
    images = torch.arange(2 * 6 * 8).reshape(2, 1, 6, 8).to(torch.uint8)
    assert center_crop(images, 2)[1, 0].tolist() == [[67, 68], [75, 76]]  # 48 + rows 2..3 of 8, columns 3..4
    assert center_crop(images, 3)[0, 0].tolist() == [[10, 11, 12], [18, 19, 20], [26, 27, 28]]  # rows 1.., columns 2..
    assert torch.equal(center_crop(images[..., :6], 6), images[..., :6])


def test_normalize():
    images = torch.tensor([0, 51, 255, 102], dtype=torch.uint8).reshape(1, 2, 1, 2)
    result = normalize(images, (0.1, 0.5), (0.5, 0.25))
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.flatten(), torch.tensor([-0.2, 0.2, 2.0, -0.4]))
    torch.testing.assert_close(normalize(images / 255, np.array((0.1, 0.5)), torch.tensor((0.5, 0.25))), result)
    assert normalize(images.double() / 255, (0, 0), (1, 1)).dtype == torch.float64


def test_random_affine_moves_as_far_as_it_says_by_default():
    images = random_images(5, (1, 28, 28), dtype=torch.float32) / 255
    stated = random_affine(images, generator(7), turn=10, scale=0.1, shift=2)
    assert torch.equal(random_affine(images, generator(7)), stated)
    assert not torch.equal(random_affine(images, generator(7), turn=9), stated)


@pytest.mark.parametrize("turn, scale, shift", [(0, 0, 3), (30, 0, 0), (0, 0.3, 0), (20, 0.2, 2)])
@pytest.mark.parametrize("height, width", [(20, 20), (16, 30)])
def test_random_affine_of_a_plane_is_exact(turn, scale, shift, height, width):
    """Bilinear sampling of brightness that rises evenly gives the brightness at the source point itself."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    images = torch.as_tensor(100 + 2 * x - 3 * y).expand(6, 1, -1, -1)
    result = random_affine(images, generator(3), turn=turn, scale=scale, shift=shift).numpy()

    draws = 2 * torch.rand(4, 6, generator=generator(3)).numpy().astype(np.float64) - 1
    tested = 0
    for image, (angle, size, right, down) in zip(result[:, 0], draws.T, strict=True):
        angle, size = np.radians(turn * angle), 1 + scale * size
        u, v = x - (width - 1) / 2, y - (height - 1) / 2  # pixels from the middle
        source_x = size * (np.cos(angle) * u - np.sin(angle) * v) + (width - 1) / 2 + shift * right
        source_y = size * (np.sin(angle) * u + np.cos(angle) * v) + (height - 1) / 2 + shift * down
        inside = (source_x >= 0) & (source_x <= width - 1) & (source_y >= 0) & (source_y <= height - 1)
        np.testing.assert_allclose(image[inside], (100 + 2 * source_x - 3 * source_y)[inside], atol=2e-4)
        tested += inside.sum()
        outside = (source_x <= -1) | (source_x >= width) | (source_y <= -1) | (source_y >= height)
        assert (image[outside] == 0).all()
    assert tested > 6 * height * width / 2


def test_random_affine_of_uint8_is_rounded():
    images = random_images(4)
    result = random_affine(images, generator(1))
    assert result.dtype == torch.uint8
    exact = random_affine(images.double(), generator(1))
    assert (result - exact).abs().max() <= 0.5 + 1e-4
    assert torch.equal(random_affine(images, generator(1), turn=0, scale=0, shift=0), images)


@pytest.mark.parametrize("draw", [lambda x, g: random_crop(x, 2, g), random_flip, random_affine])
def test_random_ones_follow_the_generator_alone(draw):
    images = random_images(30)
    before = images.clone()
    first = draw(images, generator(5))
    torch.rand(3)  # torch's own generator plays no part
    assert torch.equal(draw(images, generator(5)), first)
    assert not torch.equal(draw(images, generator(6)), first)
    assert torch.equal(images, before)


IMAGES = random_images(2)


@pytest.mark.parametrize("call, message", [
    (lambda: random_crop(IMAGES, -1, generator()), "padding: expected an integer in 0..8, got -1"),
    (lambda: random_crop(IMAGES, 1.5, generator()), "padding: expected an integer in 0..8, got 1.5"),
    (lambda: random_crop(IMAGES, 1, generator(), size=9), "size: expected an integer in 1..8, got 9"),
    (lambda: center_crop(IMAGES, 7), "size: expected an integer in 1..6, got 7"),
    (lambda: center_crop(IMAGES, 0), "size: expected an integer in 1..6, got 0"),
    (lambda: random_affine(IMAGES, generator(), turn=-1), "turn: expected a number in 0..180, got -1"),
    (lambda: random_affine(IMAGES, generator(), scale=1), "scale: expected a number in 0..0.9, got 1"),
    (lambda: random_affine(IMAGES, generator(), shift=math.nan), "shift: expected a number in 0..8, got nan"),
    (lambda: normalize(IMAGES, (0, 0), (1, 1, 1)), "mean: expected 3 finite numbers, one a channel, got (0, 0)"),
    (lambda: normalize(IMAGES, (0, 0, 0), (1, 1, math.inf)),
     "std: expected 3 finite numbers, one a channel, got (1, 1, inf)"),
    (lambda: normalize(IMAGES, (0, 0, 0), (1, 0, 1)), "std: expected numbers above 0, got [1.0, 0.0, 1.0]"),
    (lambda: normalize(IMAGES, "abc", (1, 1, 1)), "mean: expected 3 finite numbers, one a channel, got 'abc'"),
    (lambda: random_flip(IMAGES[0], generator()),
     "images: expected a tensor uint8 or float [N,C,H,W], not empty, got torch.uint8 [3, 6, 8]"),
    (lambda: random_flip(IMAGES.long(), generator()),
     "images: expected a tensor uint8 or float [N,C,H,W], not empty, got torch.int64 [2, 3, 6, 8]"),
    (lambda: random_affine(IMAGES[:0], generator()),
     "images: expected a tensor uint8 or float [N,C,H,W], not empty, got torch.uint8 [0, 3, 6, 8]"),
    (lambda: center_crop(IMAGES.numpy(), 4),
     "images: expected a tensor uint8 or float [N,C,H,W], not empty, got ndarray"),
])  # fmt: skip
def test_bad_arguments_are_refused_by_name(call, message):
    with pytest.raises(JobError) as error:
        call()
    assert str(error.value) == message
