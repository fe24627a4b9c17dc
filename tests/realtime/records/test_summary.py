"""The numbers at the end of a run against what they are defined as."""

import numpy as np
import pytest

from dynadiff.signal.cleaning import Cleaning, OnlineCleaner
from realtime.records.summary import PIXELS, CleaningAgreement, identification, quantiles_ms


def pictures(n, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (n, 16, 16, 3), np.uint8))


def test_latencies_are_in_milliseconds_and_absent_where_nothing_was_painted():
    assert quantiles_ms([0.1, 0.2, 0.3]) == {"p50": 200.0, "p95": 290.0, "p99": 298.0, "max": 300.0}
    assert quantiles_ms([]) == {}


def test_identification_of_perfect_pictures_is_perfect_and_of_others_at_chance():
    shown = pictures(60)
    names = [str(i) for i in range(60)]
    perfect = identification(shown, shown, names, PIXELS)
    other = identification(pictures(60, seed=1), shown, names, PIXELS)
    assert perfect is not None
    assert other is not None
    assert (perfect["two_way"], perfect["top1"], perfect["n_way"], perfect["n_trials"]) == (1.0, 1.0, 50, 60)
    assert perfect["ci95"] == [1.0, 1.0]
    assert other["two_way"] == pytest.approx(0.5, abs=0.1)
    assert other["two_way"] < perfect["permuted_p95"]["two_way"] + 0.1
    assert other["chance"] == {"two_way": 0.5, "top1": 0.02}


def test_n_way_is_as_many_pictures_as_there_are_and_one_picture_cannot_be_identified():
    shown = pictures(4)
    few = identification(shown, shown, ["a", "b", "c", "a"], PIXELS)
    assert few is not None
    assert few["n_way"] == 3
    assert identification(shown, shown, ["a"] * 4, PIXELS) is None
    assert identification([], [], [], PIXELS) is None


def test_stimuli_may_be_of_several_sizes():
    shown = [np.kron(p, np.ones((k, k, 1), np.uint8)) for k, p in enumerate(pictures(5), 1)]
    scores = identification(pictures(5), shown, list("abcde"), PIXELS)
    assert scores is not None
    assert scores["top1"] == 1.0


@pytest.mark.parametrize(("ridge", "agrees"), [(0.0, True), (5.0, False)])
def test_parity_is_one_where_online_and_whole_run_cleaning_meet(ridge, agrees):
    """Without a prior they meet at the last volume; a prior keeps them apart."""
    cleaning = Cleaning(ridge=ridge)
    series = np.cumsum(np.random.default_rng(0).normal(size=(40, 30)), axis=0).astype(np.float32) + 500
    cleaner, parity = OnlineCleaner(cleaning, 40, 30, 2.0), CleaningAgreement()
    for row, sample in enumerate(series):
        cleaner.push(row, sample)
        parity.sample(row, sample)
        if row >= 5:
            parity.window(row, cleaner.standardise(range(row - 5, row + 1), series[row - 5 : row + 1]).T)
    result = parity.result(cleaning, 2.0, 6)
    assert (result["last"] == 1.0) == agrees
    assert result["min"] < result["mean"] < 1.0


def test_without_a_window_there_is_no_parity():
    assert CleaningAgreement().result(Cleaning(), 2.0, 6) == {}
