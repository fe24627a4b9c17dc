"""The online windows of trials, collected or in a store, know no volume after their last; the offline ones do."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dynadiff.recordings.masks import mask_digest
from dynadiff.recordings.run import Event, Run
from dynadiff.signal.cleaning import Cleaning
from dynadiff.signal.windows import WindowSpec
from dynadiff.trials.prepare import prepare
from dynadiff.trials.source import Trials, collect
from dynadiff.trials.store import Plan, StoredTrials
from support.changing_tree import SPEC, ChangingTree
from support.look_ahead import CLEANINGS, SAME_ROWS, Acquired, Emission, LookAhead, by_row, check_no_look_ahead, stacked

SHAPE, ROWS = (4, 3, 3), 30
MASK = np.random.default_rng(9).uniform(size=SHAPE) < 0.5
FEW = {name: SAME_ROWS[name] for name in ("other values", "no numbers", "one spike")}


def a_run(acquired: Acquired) -> Run:
    """A short picture, one that is shown for longer than a window, and a last one."""

    def picture(name: str) -> np.ndarray:
        return np.full((20, 20, 3), int(name), np.uint8)

    series, events = stacked(acquired), (Event(1, 3, "7"), Event(4, 9, "8"), Event(18, 3, "9"))
    return Run("a run", "01", 1, 1, 4 / 3, SHAPE, np.eye(4), ROWS, events, lambda: iter(series), picture, ROWS - 1)


def bold() -> Acquired:
    return by_row(np.random.default_rng(0).normal(1000, 20, (ROWS, *SHAPE)).astype(np.float32))


def collected(
    cleaning: Cleaning, single: bool, acquired: Acquired, spec: WindowSpec = SPEC, kind: str = "online"
) -> Iterator[Emission]:
    run = a_run(acquired)
    trials = collect([run], MASK, cleaning, spec, 8, single=single)
    events = (replace(event, rows=1) if single else event for event in run.events)
    starts = [start for event in events for start in SPEC.starts(event, run.rows)]
    for start, window in zip(starts, getattr(trials, kind), strict=True):
        yield start + SPEC.length - 1, f"{kind} window", window


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("cleaning", CLEANINGS, ids=lambda c: f"{c.drift}-{c.ridge:g}")
def test_collected_windows_do_not_look_ahead(cleaning: Cleaning, single: bool) -> None:
    check_no_look_ahead(partial(collected, cleaning, single), bold(), SAME_ROWS)


def test_the_offline_ones_do_and_so_would_windows_that_lie_a_volume_later() -> None:
    with pytest.raises(LookAhead, match="offline window"):
        check_no_look_ahead(partial(collected, Cleaning(), True, kind="offline"), bold(), SAME_ROWS)
    with pytest.raises(LookAhead, match="online window"):
        check_no_look_ahead(partial(collected, Cleaning(), True, spec=WindowSpec(4, 6)), bold(), SAME_ROWS)


def test_trials_hand_out_the_kind_that_is_asked_for() -> None:
    """So that whoever asks for online windows has none of the whole run's statistics."""

    def asked(online: bool, acquired: Acquired) -> Iterator[Emission]:
        trials: Trials = collect([a_run(acquired)], MASK, Cleaning(), SPEC, 8, single=True)
        which = np.arange(len(trials))
        windows = trials.windows(which, np.full(len(which), online))
        last = [event.row + SPEC.offset + SPEC.length - 1 for event in a_run(acquired).events]
        yield from ((row, "window", window) for row, window in zip(last, windows, strict=True))

    check_no_look_ahead(partial(asked, True), bold(), SAME_ROWS)
    with pytest.raises(LookAhead):
        check_no_look_ahead(partial(asked, False), bold(), SAME_ROWS)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> ChangingTree:
    return ChangingTree(tmp_path_factory.mktemp("tree"))


@pytest.fixture
def stored(tree: ChangingTree, tmp_path: Path) -> Callable[[bool, Acquired], Iterator[Emission]]:
    """An emitter: the windows of the trials of a store, prepared anew from the tree."""
    plan = Plan("01", mask_digest(tree.mask), Cleaning(), SPEC, picture_size=8)
    count = iter(range(100))

    def emit(online: bool, acquired: Acquired) -> Iterator[Emission]:
        store = prepare(tree.acquire(acquired), 1, [(1, 1)], plan, tmp_path / f"{next(count)}", jobs=1)
        trials = StoredTrials(store, SPEC)
        windows = trials.windows(np.arange(len(trials)), np.full(len(trials), online))
        yield from tree.of_trials("window", windows)

    return emit


def test_nor_do_the_online_windows_of_a_store(stored, tree: ChangingTree) -> None:
    rows = tree.last_rows()
    check_no_look_ahead(partial(stored, True), tree.first, FEW, after=[rows[0], rows[4]])


def test_its_offline_windows_do(stored, tree: ChangingTree) -> None:
    with pytest.raises(LookAhead):
        check_no_look_ahead(partial(stored, False), tree.first, FEW, after=[tree.last_rows()[4]])
