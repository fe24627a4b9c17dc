"""What a brain says of pictures is learned from predictions that know nothing of the picture, and is as they are."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from dynadiff.training.generator.said import Said, out_of_fold, said_of  # noqa: E402
from dynadiff.trials.source import Trials  # noqa: E402

PICTURES, REPEATED, SIZE = 300, 3, (3, 4)


def a_brain(noise: float, seed: int = 0) -> tuple[Trials, torch.Tensor]:
    """Trials whose voxels are a mixture of the pictures' own tokens, but for the third one, which no voxel carries."""
    rng = np.random.default_rng(seed)
    own = rng.standard_normal((PICTURES, *SIZE)).astype(np.float32)
    seen = np.tile(np.arange(PICTURES), REPEATED)
    flat = own.reshape(PICTURES, -1)[:, :8]
    windows = (flat @ rng.standard_normal((8, 20)))[seen][..., None] + noise * rng.standard_normal((len(seen), 20, 2))
    half = windows.astype(np.float16)
    n, zeros = len(seen), np.zeros((PICTURES, 2, 2, 3), np.uint8)
    names = tuple(map(str, range(PICTURES)))
    trials = Trials(half, half[::-1].copy(), seen, np.arange(n) // 100, np.arange(n), zeros, names, ("",) * PICTURES)
    return trials, torch.from_numpy(own)


def test_each_number_shrinks_by_what_voxels_carry_of_it() -> None:
    trials, own = a_brain(noise=4.0)
    say = said_of(trials, own)
    slopes = say.slope.diagonal()
    assert slopes[:8].min() > 0.2  # carried
    assert abs(slopes[8:]).max() < 0.1  # not
    clear, _ = a_brain(noise=0.1)
    assert said_of(clear, own).slope.diagonal()[:8].min() > 0.9


def test_what_is_said_of_a_picture_with_the_error_of_its_trial_is_what_was_predicted() -> None:
    trials, own = a_brain(noise=4.0)
    say = said_of(trials, own)
    predicted = out_of_fold(trials.windows(np.arange(len(trials)), np.zeros(len(trials), np.bool_)),
                            own.flatten(1).numpy()[trials.seen], trials.seen)  # fmt: skip
    for trial in (0, 1, 500):

        class Draws:
            def integers(self, high: int, drawn: int = trial) -> int:
                assert high == len(trials)
                return drawn

        said = say(own[trials.seen[[trial]]], [Draws()])
        assert said.shape == (1, *SIZE)
        np.testing.assert_allclose(said.flatten(), predicted[trial], atol=2e-3)


def test_no_trial_of_a_picture_predicts_another_of_its_own() -> None:
    """Windows that tell which picture it is and nothing of it: whoever knew another trial of it would know it all."""
    rng = np.random.default_rng(0)
    seen = np.tile(np.arange(40), 3)
    targets = rng.standard_normal((40, 5)).astype(np.float32)[seen]
    windows = np.eye(40, dtype=np.float32)[seen][..., None]
    error = np.square(out_of_fold(windows, targets, seen) - targets).mean()
    assert error > 0.9 * targets.var()


def test_windows_as_they_are_served_are_taken_where_they_are_asked_for() -> None:
    trials, own = a_brain(noise=1.0)
    served, whole = said_of(trials, own, online=True), said_of(trials, own)
    assert served.slope.diagonal().mean() < 0.2 < whole.slope.diagonal().mean()  # these were shuffled


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="one size"):
        Said(torch.zeros(4), torch.zeros(4), torch.zeros(4, 4), torch.zeros(9, 5))
