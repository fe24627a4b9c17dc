"""The baselines are what they are called, against scikit-learn and on data whose answer is known."""

import numpy as np
import pytest

from dynadiff.trials.baselines import nearest, ridge, ridge_penalties, ridges


def linear_data(n: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 8, 3)).astype(np.float32)
    weights = np.random.default_rng(1).standard_normal((24, 5))
    return x, (x.reshape(n, -1) @ weights + 3 + noise * rng.standard_normal((n, 5))).astype(np.float32)


def test_ridge_recovers_a_linear_map_and_its_offset() -> None:
    x, y = linear_data(300, 0.01)
    predicted = ridge(x[:200], y[:200], np.arange(200) // 20, x[200:])
    np.testing.assert_allclose(predicted, y[200:], atol=0.2)


@pytest.mark.parametrize("known", [80, 18], ids=["more trials than features", "fewer"])
def test_ridge_is_that_of_scikit_learn_at_one_of_its_penalties(known: int) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = linear_data(120, 5.0)
    ours = ridge(x[:known], y[:known], np.arange(known) // 3, x[80:])
    flat = x.reshape(120, -1)
    fits = (linear_model.Ridge(penalty).fit(flat[:known], y[:known]) for penalty in np.logspace(-2, 6, 800))
    assert min(np.abs(fit.predict(flat[80:]) - ours).max() for fit in fits) < 0.05


def test_the_nearest_trial_is_found_whatever_its_scale() -> None:
    train = np.random.default_rng(0).standard_normal((30, 10, 6)).astype(np.float32)
    assert nearest(train, 5 * train[[4, 17, 2]] + 1).tolist() == [4, 17, 2]


def test_a_window_of_no_values_is_nobodys_nearest() -> None:
    """As one whose volumes had no numbers is: divided by its length it would be everybody's."""
    x, _ = linear_data(20, 0.0)
    x[[3, 15]] = 0
    found = nearest(x[:10], x[5:])
    assert 3 not in found
    assert found[:5].tolist() == [5, 6, 7, 8, 9]


def test_targets_of_several_kinds_have_penalties_of_their_own_and_fits_of_their_own() -> None:
    x, clear = linear_data(120, 0.01)
    noise = np.random.default_rng(2).standard_normal((120, 2)).astype(np.float32)
    runs = np.arange(80) // 8
    penalties = ridge_penalties(x[:80], [clear[:80], noise[:80]], runs)
    assert penalties[0] < penalties[1]
    together = ridges(x[:80], [clear[:80], noise[:80], clear[:80, :1]], runs, x[80:])
    for fitted, targets in zip(together, (clear, noise, clear[:, :1]), strict=True):
        np.testing.assert_allclose(fitted, ridge(x[:80], targets[:80], runs, x[80:]), atol=1e-3)
