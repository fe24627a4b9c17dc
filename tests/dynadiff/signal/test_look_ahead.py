"""Whatever comes after a volume changes nothing that cleaning, screening and windows gave out by then, to the bit.

Whole-run cleaning looks ahead by design, and is named wherever it is used; who uses it is listed here.
"""

import ast
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dynadiff.signal.cleaning import Cleaning, OnlineCleaner
from dynadiff.signal.screening import START, Screen
from dynadiff.signal.windows import OnlineWindows, WindowSpec, offline_windows, online_windows
from support.look_ahead import (
    CLEANINGS,
    FUTURES,
    OTHER_ROWS,
    SAME_ROWS,
    Acquired,
    Emission,
    LookAhead,
    by_row,
    check_no_look_ahead,
    leak_into,
    stacked,
)
from support.real_data import recording

ROOT = Path(__file__).parents[3]
N, VOXELS, TR = 30, 60, 4 / 3
Emitter = Callable[[Cleaning, int, Acquired], Iterator[Emission]]
each = pytest.mark.parametrize("cleaning", CLEANINGS, ids=lambda c: f"{c.drift}-{c.ridge:g}")


def bold(seed: int = 0) -> NDArray[np.float32]:
    """Voxels of different brightness, noise and drift, the last ones constant or without a value."""
    rng = np.random.default_rng(seed)
    drift = rng.normal(0, 0.3, VOXELS) * np.arange(N)[:, None]
    series = rng.uniform(300, 1500, VOXELS) + rng.uniform(4, 20, VOXELS) * rng.standard_normal((N, VOXELS)) + drift
    series[:, -2], series[:, -1] = 700, np.nan
    return series.astype(np.float32)


def cleaned(cleaning: Cleaning, length: int, acquired: Acquired) -> Iterator[Emission]:
    """All that can be asked of a cleaner, after each volume."""
    cleaner, held = OnlineCleaner(cleaning, N, VOXELS, TR), list[int]()
    for row, volume in acquired.items():
        cleaner.push(row, volume)
        held = [*held, row][-length:]
        yield row, "newest volumes", cleaner.standardise(held, np.stack([acquired[r] for r in held]))
        yield row, "expected next", cleaner.expect(row + 1)
        yield row, "counts", (cleaner.n, cleaner.non_finite)


def screened(cleaning: Cleaning, length: int, acquired: Acquired) -> Iterator[Emission]:
    """What is marked by then, and the statistics of what is believed."""
    screen = Screen(cleaning, N, VOXELS, TR)
    for row, volume in acquired.items():
        screen.push(row, volume)
        yield row, "marks so far", dict(screen.marks)
        yield row, "believed", screen.believed(row)
        yield row, "counts", (screen.limited, screen.cleaner.n, screen.cleaner.non_finite)
        yield row, "volume", screen.cleaner.standardise([row], volume[None])


def windows(cleaning: Cleaning, length: int, acquired: Acquired) -> Iterator[Emission]:
    """Whole windows; they are read when the run is over."""
    online = OnlineWindows(cleaning, N, VOXELS, TR, WindowSpec(length=length))
    for row, volume in acquired.items():
        if (newest := online.push(row, volume)) is not None:
            yield newest.last_row, "values", newest.values
            yield newest.last_row, "rows", newest.rows
            yield newest.last_row, "marks", newest.marks
            yield newest.last_row, "believed", newest.believed


EMITTERS: tuple[Emitter, ...] = (cleaned, screened, windows)


@each
@pytest.mark.parametrize("emit", EMITTERS, ids=lambda emit: emit.__name__)
def test_nothing_looks_ahead(emit: Emitter, cleaning: Cleaning) -> None:
    check_no_look_ahead(partial(emit, cleaning, 6), by_row(bold()))


@pytest.mark.parametrize("emit", EMITTERS, ids=lambda emit: emit.__name__)
def test_nor_does_anything_on_a_real_run(emit: Emitter) -> None:
    """The first volumes of a 3 T run (studyforrest, sub-02, object localizer), in some of its bright voxels."""
    path = recording("studyforrest_localizer") / "sub-02_task-oneback_run-1_bold.nii.gz"
    data = np.asanyarray(nib.load(path).dataobj)[..., :N]
    bright = np.argwhere(data[..., 0] > np.quantile(data[..., 0], 0.7))
    series = data[tuple(bright[:: len(bright) // VOXELS][:VOXELS].T)].T.astype(np.float32)
    check_no_look_ahead(partial(emit, Cleaning(), 6), by_row(series), after=[6, 20])


@given(
    emit=st.sampled_from(EMITTERS),
    cleaning=st.sampled_from(CLEANINGS),
    length=st.integers(1, 7),
    k=st.integers(0, N - 1),
    future=st.sampled_from(sorted(FUTURES)),
    bad=st.dictionaries(st.integers(0, N - 1), st.sampled_from([0.0, 1.3, 8.0, np.nan, np.inf]), max_size=6),
    lost=st.sets(st.integers(0, N - 1), max_size=3),
    seed=st.integers(0, 3),
)
@settings(max_examples=100, deadline=None)
def test_nor_does_it_after_a_past_of_bad_and_lost_volumes(
    emit: Emitter,
    cleaning: Cleaning,
    length: int,
    k: int,
    future: str,
    bad: dict[int, float],
    lost: set[int],
    seed: int,
) -> None:
    series = bold(seed)
    with np.errstate(invalid="ignore"):
        for row, by in bad.items():
            series[row] *= np.float32(by)
    acquired = {row: volume for row, volume in enumerate(series) if row not in lost}
    assert leak_into(partial(emit, cleaning, length), acquired, k, future) is None


@pytest.mark.parametrize("k", range(START))
def test_a_mark_of_the_first_volumes_may_change_but_not_what_was_given_out_with_it(k: int) -> None:
    """Two bright volumes are the odd ones out only once there are more of the others; what was said before stays."""
    series = bold()
    series[:2] *= 1.3
    for emit in (windows, screened):
        check_no_look_ahead(partial(emit, Cleaning(), 1), by_row(series), after=[k])


def test_the_screen_itself_says_something_else_of_them_later() -> None:
    """So whoever keeps a mark keeps it as it was then: a window copies its marks, a decode writes them at once."""

    def last_word(acquired: Acquired) -> Iterator[Emission]:
        screen = Screen(Cleaning(), N, VOXELS, TR)
        for row, volume in acquired.items():
            screen.push(row, volume)
        yield from ((row, "mark", screen.marks.get(row)) for row in acquired)

    series = bold()
    series[:2] *= 1.3
    with pytest.raises(LookAhead, match="mark of row 0 changes with the volumes after row 2"):
        check_no_look_ahead(last_word, by_row(series), after=[2])
    check_no_look_ahead(last_word, by_row(series), after=[2 * START - 1, 20, N - 2])


def of_trials(cut: Callable[..., NDArray[np.float32]], cleaning: Cleaning, acquired: Acquired) -> Iterator[Emission]:
    """Windows of trials as they are cut from a run on disk."""
    series, spec = stacked(acquired), WindowSpec()
    starts = range(spec.offset, len(series) - spec.length + 1, 3)
    for start, window in zip(starts, cut(series, cleaning, TR, spec, starts), strict=True):
        yield start + spec.length - 1, "window", window


@each
def test_windows_cut_online_from_a_run_on_disk_do_not_look_ahead(cleaning: Cleaning) -> None:
    check_no_look_ahead(partial(of_trials, online_windows, cleaning), by_row(bold()), SAME_ROWS)


@each
def test_whole_run_cleaning_does_by_design(cleaning: Cleaning) -> None:
    with pytest.raises(LookAhead):
        check_no_look_ahead(partial(of_trials, offline_windows, cleaning), by_row(bold()), SAME_ROWS)


@each
def test_of_the_future_the_planned_length_alone_is_known(cleaning: Cleaning) -> None:
    """A run on disk is taken to have been planned as long as it is. A live run that was planned so, and is at volume k,
    has the windows that the run on disk has at k: what is known of the rest is how many volumes it has.
    """
    series = bold()
    on_disk = {row: window for row, _, window in of_trials(online_windows, cleaning, by_row(series))}
    for k in (12, 25, N - 1):
        so_far = FUTURES["stopped"](by_row(series), k)
        live = {row: value for row, name, value in windows(cleaning, 6, so_far) if name == "values"}
        for row in (row for row in on_disk if row <= k):
            np.testing.assert_array_equal(live[row], on_disk[row])


# Who may clean a run as a whole, or ask for windows that were cleaned so, and for what. Nobody else does: a line here
# is a decision. None of them scores anything that is called online.
WHOLE_RUN = {
    "dynadiff/signal/windows.py": "cuts them",
    "dynadiff/signal/components.py": "noise components are learnt from earlier runs, which are over",
    "dynadiff/studies/causal/cleaners.py": "parity with them, and training on them, are what the study compares",
    "dynadiff/studies/causal/runs.py": "chooses the localizer's voxels by the whole run, for every cleaner alike",
    "dynadiff/trials/source.py": "keeps them beside the online ones, for training",
    "dynadiff/trials/prepare.py": "writes them beside the online ones, for training",
    "dynadiff/evaluation/betas.py": "betas have no run; both kinds are the same array",
    "dynadiff/studies/haxby/fold.py": "what Dynadiff and its opponents learn from; judged are online windows",
    "dynadiff/studies/miyawaki.py": "betas have no run; both kinds are the same array",
    "dynadiff/studies/phantom.py": "how hard the phantom is, measured as others measured NSD",
    "dynadiff/evaluation/evaluate.py": 'the row "offline cleaning", beside "online"',
    "realtime/records/summary.py": "how far the online windows were from it, at the end of a run",
}


def looks_at_whole_runs(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return bool({"clean_run", "offline_windows"} & {one.name for one in node.names})
    return isinstance(node, ast.Attribute) and node.attr == "offline"


def test_whoever_cleans_a_run_as_a_whole_is_known() -> None:
    found = set()
    for house in ("dynadiff", "realtime", "replay", "exporters"):
        for path in (ROOT / house).rglob("*.py"):
            text = path.read_text("utf-8")
            if ("offline" in text or "clean_run" in text) and any(map(looks_at_whole_runs, ast.walk(ast.parse(text)))):
                found.add(path.relative_to(ROOT).as_posix())
    assert found == WHOLE_RUN.keys()


@each
def test_a_window_of_one_volume_too_late_is_found_with_every_cleaning(cleaning: Cleaning) -> None:
    def late(series: NDArray[np.float32], *rest: object) -> NDArray[np.float32]:
        *how, starts = rest
        return online_windows(series, *how, [min(start + 1, N - 6) for start in starts])

    with pytest.raises(LookAhead):
        check_no_look_ahead(partial(of_trials, late, cleaning), by_row(bold()), SAME_ROWS)


def test_lost_volumes_leave_no_row_behind() -> None:
    """The futures in which volumes do not come are real ones: windows with a gap are not there."""
    whole = {row for row, *_ in windows(Cleaning(), 6, by_row(bold()))}
    for name in OTHER_ROWS:
        assert {row for row, *_ in windows(Cleaning(), 6, FUTURES[name](by_row(bold()), 20))} != whole
