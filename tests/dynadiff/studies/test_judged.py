"""Differences are taken in pairs of the same trial, and what is kept of a model is what was scored."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynadiff.base.errors import UserError
from dynadiff.studies.judged import Judged, difference, load_judged, save_judged, verdict
from dynadiff.studies.plan import METRICS


def judged(scores: np.ndarray, model: str = "a") -> Judged:
    names = tuple(f"{k:03d}" for k in range(len(scores)))
    return Judged(model, tuple(f"run/{n}" for n in names), names, {metric: scores for metric in METRICS})


def hard_and_easy(n: int = 200) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.2, 0.8, n)


def test_a_constant_is_found_exactly_though_the_intervals_of_the_two_overlap() -> None:
    below, above = judged(hard_and_easy()), judged(hard_and_easy() + 0.01)
    found = difference(above, below, "two_way")
    assert (found.mean, found.low, found.high) == pytest.approx((0.01, 0.01, 0.01))
    assert verdict(found) == "holds"
    assert verdict(difference(below, above, "two_way")) == "reversed"
    assert below.interval("two_way").high > above.interval("two_way").low


def test_noise_is_undecided_and_so_is_no_difference() -> None:
    verdicts = []
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(0, 0.1, 200)
        verdicts.append(verdict(difference(judged(hard_and_easy() + noise), judged(hard_and_easy()), "top1")))
    assert verdicts.count("undecided") >= 16
    same = judged(hard_and_easy())
    assert verdict(difference(same, same, "top1")) == "undecided"


@given(st.integers(0, 2**32 - 1), st.floats(-0.3, 0.3))
def test_turned_round_the_difference_changes_its_sign(seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    first, second = judged(rng.random(60) + shift), judged(rng.random(60))
    there, back = difference(first, second, "two_way"), difference(second, first, "two_way")
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low))
    assert there.low <= there.mean <= there.high


def test_other_trials_cannot_be_compared() -> None:
    one = judged(hard_and_easy())
    with pytest.raises(ValueError, match="different trials"):
        difference(one, replace(one, trials=one.trials[::-1]), "two_way")


def test_what_is_kept_comes_back_and_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    path, kept = tmp_path / "scores.npz", judged(hard_and_easy())
    save_judged(kept, path)
    back = load_judged(path)
    assert (back.model, back.trials, back.pictures) == (kept.model, kept.trials, kept.pictures)
    for metric in METRICS:
        np.testing.assert_array_equal(back.scores[metric], kept.scores[metric])
    content = path.read_bytes()
    for broken in (b"", b"no archive", content[: len(content) // 2]):
        path.write_bytes(broken)
        with pytest.raises(UserError, match="delete it"):
            load_judged(path)
