"""Training pairs are the right windows with the right pictures, and nothing held out is among them."""

from dataclasses import replace

import numpy as np
import pytest

from dynadiff.base.errors import UserError
from dynadiff.recordings.nsd import NSD
from dynadiff.recordings.run import Event, Run
from dynadiff.signal.cleaning import Cleaning
from dynadiff.signal.windows import WindowSpec, offline_windows, online_windows
from dynadiff.trials.source import TEST_SESSION, collect, held_out, nsd_runs


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


def test_no_picture_of_the_first_session_nor_a_shared_one_is_learnt_from(phantom_of) -> None:
    nsd = NSD(phantom_of([1], [1, 2], [1, 2]))
    secret = held_out(nsd, 1)
    first = {e.picture for run in nsd_runs(nsd, 1, [TEST_SESSION]) for e in run.events}
    later = [e for run in nsd_runs(nsd, 1, [2]) for e in run.events]
    learnt = {e.picture for e in later if not secret(e)}
    assert learnt
    assert not learnt & first
    assert not learnt & {str(number) for number in nsd.shared_ids()}
    assert len(learnt) < len({e.picture for e in later})
