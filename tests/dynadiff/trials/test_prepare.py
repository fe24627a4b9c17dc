"""Runs are cleaned once, by the code that serves; what is done stays done; windows are the rows that they should be."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dynadiff.base.errors import UserError
from dynadiff.recordings.masks import mask_digest, masked_series
from dynadiff.recordings.nsd import NSD
from dynadiff.signal.cleaning import Cleaning, clean_run
from dynadiff.signal.windows import WindowSpec, online_windows
from dynadiff.trials.prepare import prepare_subject, wanted_runs
from dynadiff.trials.source import Averaged
from dynadiff.trials.store import INDEX, Store, StoredTrials, open_store

SPEC = WindowSpec()
BOTH = ("offline", "online")
KEYS = [(1, 1), (1, 2), (2, 1), (2, 2)]


@pytest.fixture(scope="module")
def tree(phantom_of) -> NSD:
    return NSD(phantom_of([1], [1, 2], [1, 2]))


@pytest.fixture(scope="module")
def store(tree: NSD, tmp_path_factory: pytest.TempPathFactory) -> Store:
    home = tmp_path_factory.mktemp("store") / "subj01"
    prepare_subject(tree, 1, KEYS, home, SPEC, BOTH, 16, jobs=2)
    return open_store(home)


def series_of(tree: NSD, number: int) -> np.ndarray:
    run = tree.run(1, *KEYS[number])
    return masked_series(run, tree.mask(1), run.n_volumes)


@pytest.mark.parametrize(("shift", "length"), [(0, 6), (-3, 6), (9, 6), (0, 1), (2, 3)])
def test_offline_windows_are_these_rows_of_the_cleaned_run(tree: NSD, store: Store, shift: int, length: int) -> None:
    trials = StoredTrials(store, WindowSpec(3 + shift, length), online=False)
    rows = [(number, event.row) for number, run in enumerate(store.runs) for event in run.events]
    rows = [(number, row) for number, row in rows if row + 3 + shift + length <= 225]
    assert len(trials) == len(rows)
    which = np.random.default_rng(0).permutation(len(trials))[:20]
    made = trials.windows(which, np.zeros(20, np.bool_))
    for k, window in zip(which, made, strict=True):
        number, row = rows[k]
        cleaned = clean_run(series_of(tree, number)[:225], Cleaning(), 4 / 3)
        expected = cleaned[row + 3 + shift : row + 3 + shift + length].T.astype(np.float16)
        np.testing.assert_array_equal(window, expected.astype(np.float32))


def test_online_windows_are_those_that_a_decoder_of_the_live_run_has(tree: NSD, store: Store) -> None:
    trials = StoredTrials(store, SPEC)
    starts = [event.row + 3 for event in store.runs[1].events]
    expected = online_windows(series_of(tree, 1), Cleaning(), 4 / 3, SPEC, starts)
    which = np.flatnonzero(trials.runs == 1)
    made = trials.windows(which, np.ones(len(which), np.bool_))
    np.testing.assert_array_equal(made, expected.astype(np.float16).astype(np.float32))
    mixed = trials.windows(which[:2], np.array([True, False]))
    np.testing.assert_array_equal(mixed[0], made[0])
    assert not np.array_equal(mixed[1], made[1])


def test_windows_that_leave_the_design_are_dropped_and_counted(store: Store) -> None:
    events = sum(len(run.events) for run in store.runs)
    assert StoredTrials(store, SPEC).dropped == 0
    late = StoredTrials(store, WindowSpec(3 + 9), online=False)
    assert late.dropped > 0
    assert late.dropped + len(late) == events
    assert late._start.max() + 6 <= 225


def test_what_was_shown_goes_with_its_window(tree: NSD, store: Store) -> None:
    trials = StoredTrials(store, SPEC)
    shown = [event.picture for key in KEYS for event in tree.run(1, *key).events]
    assert [trials.names[k] for k in trials.seen] == shown
    assert trials.pictures.shape == (len(set(shown)), 16, 16, 3)
    some = trials.chosen(np.array([5, 2]))
    assert [some.names[k] for k in some.seen] == [shown[5], shown[2]]
    online = np.ones(2, np.bool_)
    np.testing.assert_array_equal(some.windows(np.array([0, 1]), online), trials.windows(np.array([5, 2]), online))
    assert store.shared == {name for name in trials.names if tree.is_test(int(name))}


def test_averaged_repetitions_are_the_mean_of_their_windows(store: Store) -> None:
    trials, groups = StoredTrials(store, SPEC), [np.array([4, 9, 30]), np.array([1])]
    mean = Averaged(trials, groups)
    offline = np.zeros(2, np.bool_)
    expected = [trials.windows(g, np.zeros(len(g), np.bool_)).mean(0) for g in groups]
    np.testing.assert_allclose(mean.windows(np.array([0, 1]), offline), np.stack(expected))
    assert len(mean) == 2
    assert mean.seen.tolist() == trials.seen[[4, 1]].tolist()


def test_nothing_is_read_but_what_is_asked_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    trials, opened, load = StoredTrials(store, SPEC), [], np.load

    def mapped(path: Path, mmap_mode: str | None = None, **options: object) -> np.ndarray:
        assert mmap_mode == "r"
        opened.append(Path(path).name)
        return load(path, mmap_mode=mmap_mode, **options)

    monkeypatch.setattr("dynadiff.trials.store.np.load", mapped)
    trials.windows(np.array([0, 1]), np.zeros(2, np.bool_))
    assert opened == [f"{store.runs[0].name}.offline.npy"]


def test_prepared_runs_stay_and_only_a_damaged_one_is_made_again(tree: NSD, store: Store, tmp_path: Path) -> None:
    home = tmp_path / "copy"
    shutil.copytree(store.home, home)
    before = {p: p.stat().st_mtime_ns for p in home.rglob("*.npy")}
    prepare_subject(tree, 1, KEYS, home, SPEC, BOTH, 16, jobs=1)
    assert {p: p.stat().st_mtime_ns for p in home.rglob("*.npy")} == before
    broken = home / "runs" / f"{store.runs[2].name}.online.npy"
    broken.write_bytes(broken.read_bytes()[:-1])
    prepare_subject(tree, 1, KEYS, home, SPEC, BOTH, 16, jobs=1)
    changed = {p.name for p, when in before.items() if p.stat().st_mtime_ns != when}
    assert broken.name in changed
    assert not {p for p in changed if p.startswith(store.runs[1].name)}
    assert json.loads((home / INDEX).read_text()) == json.loads((store.home / INDEX).read_text())


def test_a_corrupt_run_is_named_and_the_others_are_kept(tree: NSD, store: Store, tmp_path: Path) -> None:
    root, home = tmp_path / "tree", tmp_path / "store"
    shutil.copytree(tree.root, root)
    path = next(root.rglob("timeseries_session02_run01.nii.gz"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"timeseries_session02_run01.*damaged"):
        prepare_subject(NSD(root), 1, KEYS, home, SPEC, BOTH, 16, jobs=1)
    with pytest.raises(UserError, match="finish it, with dynadiff prepare"):
        open_store(home)
    done = {p: p.stat().st_mtime_ns for p in home.rglob("*.npy")}
    assert len(done) == 4
    path.write_bytes(whole)
    prepare_subject(NSD(root), 1, KEYS, home, SPEC, BOTH, 16, jobs=1)
    assert {p: p.stat().st_mtime_ns for p in done} == done
    assert open_store(home).runs == store.runs


def test_another_plan_or_a_store_without_what_is_asked_is_refused(tree: NSD, store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="begun with picture_size 16 and not 32"):
        prepare_subject(tree, 1, KEYS, store.home, SPEC, BOTH, 32, jobs=1)
    with pytest.raises(UserError, match="prepare another store with --shift"):
        StoredTrials(store, WindowSpec(4, 6))
    plan = replace(store.plan, kinds=("offline",))
    with pytest.raises(UserError, match="no windows cleaned online"):
        StoredTrials(replace(store, plan=plan), SPEC)


def test_a_damaged_plan_is_one_sentence(tree: NSD, store: Store, tmp_path: Path) -> None:
    home = tmp_path / "store"
    shutil.copytree(store.home, home)
    (home / "store.json").unlink()
    (home / "plan.json").write_text("{")
    with pytest.raises(UserError, match=r"plan\.json is damaged .*: prepare into another folder"):
        prepare_subject(tree, 1, KEYS, home, SPEC, BOTH, 16, jobs=1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw["runs"][1].update(tr=2.0), "differ in TR"),
        (lambda raw: raw["plan"].update(version=2), "not a store of this version"),
        (lambda raw: raw["plan"].update(colour="red"), "not a store of this version"),
        (lambda raw: raw["plan"].update(mask_sha256=mask_digest(np.ones((2, 2, 2), np.bool_))), "is not the mask"),
    ],
)
def test_a_store_that_is_not_what_it_says_is_one_sentence(store: Store, tmp_path: Path, change, said: str) -> None:
    home = tmp_path / "store"
    home.mkdir()
    shutil.copy(store.home / "mask.nii.gz", home)
    raw = json.loads((store.home / INDEX).read_text())
    change(raw)
    (home / INDEX).write_text(json.dumps(raw))
    with pytest.raises(UserError, match=said):
        open_store(home)


def test_missing_sessions_and_runs_are_named_and_allowed_only_on_request(tree: NSD) -> None:
    with pytest.raises(UserError, match=r"sessions 3, 4 of subject 1 and runs \(10 of session 1.*--allow-missing"):
        wanted_runs(tree, 1, [1, 2, 3, 4])
    with pytest.raises(UserError, match=r"sessions 3, 4, .*, 40 of subject 1"):
        wanted_runs(tree, 1)
    keys, missing = wanted_runs(tree, 1, [1, 2, 3], allow_missing=True)
    assert keys == KEYS
    assert "sessions 3" in missing
    with pytest.raises(UserError, match="no task run"):
        wanted_runs(tree, 1, [7], allow_missing=True)
    with pytest.raises(UserError, match="subject 5 is not in"):
        wanted_runs(tree, 5)


FULL = """
import resource, signal, sys
from pathlib import Path
from dynadiff.base.commands import run
from dynadiff.recordings.nsd import NSD
from dynadiff.trials.prepare import prepare_subject
from dynadiff.signal.windows import WindowSpec
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
run(lambda: prepare_subject(NSD(Path(sys.argv[1])), 1, [(1, 1)], Path(sys.argv[2]), WindowSpec(), ("offline",), 16, 1))
"""


def test_a_full_disk_is_one_sentence_and_leaves_no_half_file(tree: NSD, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tree.root), str(tmp_path / "store")],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no space is left for" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "store").rglob("*.npy"))
