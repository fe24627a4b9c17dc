"""Training pairs are the right windows with the right pictures, and nothing held out is among them."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from dynadiff.base.errors import UserError
from dynadiff.recordings.held_out import Trial
from dynadiff.recordings.run import Event, Run
from dynadiff.signal.cleaning import Cleaning
from dynadiff.signal.windows import WindowSpec, offline_windows, online_windows
from dynadiff.trials.source import collect


def a_run(events: tuple[Event, ...], seed: int = 0, rows: int = 40) -> Run:
    volumes = np.random.default_rng(seed).normal(1000, 20, (rows, 3, 4, 2)).astype(np.int16)

    def picture(name: str) -> np.ndarray:
        return np.full((20, 20, 3), int(name), np.uint8)

    return Run("a run", "01", 1, 1, 4 / 3, (3, 4, 2), np.eye(4), rows, events, lambda: iter(volumes), picture)


@pytest.fixture
def mask() -> np.ndarray:
    return np.random.default_rng(9).uniform(size=(3, 4, 2)) < 0.5


def test_windows_are_those_of_the_cleaning_code(mask: np.ndarray) -> None:
    runs = [a_run((Event(3, 3, "7"), Event(9, 3, "8"))), a_run((Event(6, 3, "7"),), seed=1)]
    trials = collect(runs, mask, Cleaning(), WindowSpec(), 8)
    series = np.array([volume[mask] for volume in runs[0].volumes()], np.float32)
    for made, cut in ((trials.offline, offline_windows), (trials.online, online_windows)):
        expected = cut(series, Cleaning(), 4 / 3, WindowSpec(), [6, 12])
        np.testing.assert_array_equal(made[:2], expected.astype(np.float16))
    assert trials.names == ("7", "8")
    assert trials.seen.tolist() == [0, 1, 0]
    assert trials.runs.tolist() == [0, 0, 1]
    assert trials.pictures.shape == (2, 8, 8, 3)
    assert trials.pictures[1].tolist() == np.full((8, 8, 3), 8).tolist()


def test_a_long_block_gives_every_window_inside_it(mask: np.ndarray) -> None:
    trials = collect([a_run((Event(5, 9, "1", "face"),))], mask, Cleaning(), WindowSpec(2, 6), 8)
    assert trials.blocks.tolist() == [0, 0, 0, 0]
    assert trials.categories == ("face",)


def test_a_run_of_another_shape_or_without_pictures_is_refused(mask: np.ndarray) -> None:
    with pytest.raises(UserError, match="use the run's own mask"):
        collect([replace(a_run(()), shape=(9, 9, 9))], mask, Cleaning(), WindowSpec(), 8)
    with pytest.raises(UserError, match="no run has a picture"):
        collect([a_run(())], mask, Cleaning(), WindowSpec(), 8)


def test_a_run_of_which_no_trial_is_kept_is_not_read(mask: np.ndarray) -> None:
    """A trial is kept by its run, its row and its picture; 480 runs are gigabytes."""

    def unread() -> Iterator[np.ndarray]:
        raise AssertionError

    events = (Event(3, 3, "7"), Event(9, 3, "7"))
    runs = [replace(a_run(events), name="one"), replace(a_run(events), name="two", volumes=unread)]
    wanted = {Trial("one", 9, "7"), Trial("two", 9, "8")}
    trials = collect(runs, mask, Cleaning(), WindowSpec(), 8, keep=wanted.__contains__)
    assert (len(trials), trials.run_names) == (1, ("one", "two"))
    every = collect(runs[:1], mask, Cleaning(), WindowSpec(), 8)
    np.testing.assert_array_equal(trials.online[0], every.online[1])
