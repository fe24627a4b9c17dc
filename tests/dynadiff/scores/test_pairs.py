"""SSIM, pixel correlation and overlap against scikit-image, sums written out, and where the answer is known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dynadiff.base.errors import UserError
from dynadiff.scores.pairs import mean_overlap, pixel_correlation, ssim

RNG = np.random.default_rng(0)
A, B = RNG.uniform(size=(2, 19, 23, 3))


def written_out(a: np.ndarray, b: np.ndarray) -> float:
    """SSIM of grey pictures, window after window, as the formula stands in the paper of 2004."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    found = []
    for i in range(5, a.shape[0] - 5):
        for j in range(5, a.shape[1] - 5):
            x, y = (p[i - 5 : i + 6, j - 5 : j + 6] for p in (a, b))
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
            both = (window * (x - mx) * (y - my)).sum()
            found.append(((2 * mx * my + 1e-4) * (2 * both + 9e-4)) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)))
    return float(np.mean(found))


def grey(picture: np.ndarray) -> np.ndarray:
    return 0.2125 * picture[..., 0] + 0.7154 * picture[..., 1] + 0.0721 * picture[..., 2]


@pytest.mark.parametrize("other", [B, 0.7 * A + 0.2, 0.5 * A + 0.5 * B])
def test_ssim_is_the_formula_written_out(other):
    assert ssim(A, other) == pytest.approx(written_out(grey(A), grey(other)), abs=1e-12)


def test_ssim_is_that_of_scikit_image():
    metrics, color = pytest.importorskip("skimage.metrics"), pytest.importorskip("skimage.color")
    for other in (B, 0.7 * A + 0.2, gaussian_filter(A, (2, 2, 0))):
        wanted = metrics.structural_similarity(
            color.rgb2gray(A), color.rgb2gray(other), gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
            data_range=1.0,
        )  # fmt: skip
        assert ssim(A, other) == pytest.approx(wanted, abs=1e-12)


def test_equal_pictures_are_alike_and_flat_ones_as_their_brightness_is():
    assert ssim(A, A) == pytest.approx(1)
    a, b = 0.2, 0.7
    flat = (2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4)
    assert ssim(np.full((20, 20, 3), a), np.full((20, 20, 3), b)) == pytest.approx(flat)


def test_columns_are_no_channels():
    """As scikit-image took them before 0.20: stripes, each flat, are then like their negative, and are its opposite."""
    stripes = np.where(np.arange(23)[None, :, None] % 2, 0.6, 0.4) * np.ones((19, 23, 3))
    assert 2 * 0.4 * 0.6 / (0.4**2 + 0.6**2) > 0.9  # what columns alone would say
    assert ssim(stripes, 1 - stripes) < -0.9


def test_a_picture_smaller_than_the_window_is_refused():
    with pytest.raises(UserError, match="10×30 pixels are too small"):
        ssim(np.zeros((30, 10, 3)), np.zeros((30, 10, 3)))


def test_pixel_correlation_is_numpys_and_0_for_a_flat_picture():
    assert pixel_correlation(A, B) == pytest.approx(np.corrcoef(A.ravel(), B.ravel())[0, 1])
    assert pixel_correlation(A, 0.3 * A + 0.1) == pytest.approx(1)
    assert pixel_correlation(A, np.full_like(A, 0.3)) == 0


def test_overlap_is_the_mean_over_the_classes_that_are_shown():
    shown = np.array([[0, 0, 1, 1], [0, 0, 1, 1]], np.uint8)
    painted = np.array([[0, 0, 0, 1], [0, 0, 171, 171]], np.uint8)
    assert mean_overlap(painted, shown) == pytest.approx((4 / 5 + 1 / 4) / 2)  # of class 171 nothing is shown
    assert mean_overlap(shown, painted) == pytest.approx((4 / 5 + 1 / 4 + 0) / 3)
    assert mean_overlap(shown, shown) == 1
    assert mean_overlap(np.full_like(shown, 9), shown) == 0


def test_overlap_is_that_of_sets_of_pixels():
    a, b = RNG.integers(0, 172, (2, 30, 40), dtype=np.uint8) // 20
    wanted = [((a == c) & (b == c)).sum() / ((a == c) | (b == c)).sum() for c in np.unique(b)]
    assert mean_overlap(a, b) == pytest.approx(np.mean(wanted))
