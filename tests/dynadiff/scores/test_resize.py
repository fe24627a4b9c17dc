"""Resizing is Pillow's to the bit, and torch's for tensors."""

import numpy as np
import pytest

from dynadiff.scores.resize import pillow_resize, tensor_resize
from dynadiff.scores.settings import DYNADIFF, MINDEYE

RNG = np.random.default_rng(0)
SIZES = [(64, 64), (33, 47), (7, 300), (224, 224)]


@pytest.mark.parametrize("how", ["bilinear", "bicubic"])
@pytest.mark.parametrize("side", [16, 224])
def test_pictures_become_what_pillow_makes_of_them(how, side):
    image = pytest.importorskip("PIL.Image")
    filters = {"bilinear": image.Resampling.BILINEAR, "bicubic": image.Resampling.BICUBIC}
    for size in SIZES:
        noise = RNG.integers(0, 256, (2, *size, 3), np.uint8)
        pictures = np.concatenate([noise, np.where(noise > 128, 255, 0).astype(np.uint8)])  # some overshoot, and clip
        wanted = [np.asarray(image.fromarray(p).resize((side, side), filters[how])) for p in pictures]
        assert np.array_equal(pillow_resize(pictures, side, how), wanted)


@pytest.mark.parametrize("side", [16, 224])
def test_tensors_are_resized_without_antialiasing(side):
    torch = pytest.importorskip("torch")
    for size in SIZES:
        pictures = RNG.uniform(size=(2, *size, 3))
        tensors = torch.from_numpy(pictures).permute(0, 3, 1, 2)
        wanted = torch.nn.functional.interpolate(tensors, (side, side), mode="bilinear").permute(0, 2, 3, 1)
        assert np.allclose(tensor_resize(pictures, side), wanted, atol=1e-12)


def test_half_the_size_without_rounding_is_the_mean_of_four_for_both():
    picture = RNG.integers(0, 256, (1, 8, 8, 3), np.uint8)
    means = picture.reshape(1, 4, 2, 4, 2, 3).mean(axis=(2, 4))
    assert np.allclose(tensor_resize(picture / 255, 4) * 255, means)
    wide = pillow_resize(picture, 4)  # and Pillow looks at twice as many pixels, with weights 1, 3, 3, 1
    assert (
        np.abs(wide[0, 1, 1] - (np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64 * picture[0, 1:5, 1:5].T).sum((1, 2))).max()
        < 2
    )


def test_the_release_truncates_and_mindeye_does_not_round():
    picture = np.full((1, 300, 300, 3), 0.999)
    assert np.allclose(DYNADIFF.square(picture, 224), 254 / 255)
    assert np.allclose(MINDEYE.square(picture, 224), 0.999)


def test_mindeye_passes_by_256_pixels():
    picture = RNG.uniform(size=(1, 600, 600, 3))
    assert np.allclose(MINDEYE.for_network(picture, "inception"), tensor_resize(tensor_resize(picture, 256), 342))
    assert not np.allclose(MINDEYE.for_network(picture, "inception"), tensor_resize(picture, 342), atol=0.1)
    assert [MINDEYE.for_network(picture, k).shape[1] for k in ("alexnet2", "inception", "efficientnet", "swav")] == [
        256, 342, 255, 224,
    ]  # fmt: skip
