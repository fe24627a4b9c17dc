"""The study of cleanings judges what it says: windows as a live run has them, scores as known, each cleaner once."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.recordings.nsd import NSD
from dynadiff.signal.cleaning import Cleaning, OnlineCleaner
from dynadiff.signal.windows import WindowSpec, online_windows
from dynadiff.studies.causal.cleaners import (
    CLEANERS,
    DEFAULT,
    MOST,
    CausalRun,
    Cleaner,
    agreement,
    offline,
    online,
    possible,
)
from dynadiff.studies.causal.runs import haxby_runs, localizer_run, sessions_of, tree_runs
from dynadiff.studies.causal.scores import Fold, identified, named, neighboured
from support.real_data import recording

SPEC, TR = WindowSpec(2, 3), 2.0
STARTS = (12, 20, 37)


def a_run(seed: int = 0, name: str = "one", voxels: int = 20) -> CausalRun:
    rng = np.random.default_rng(seed)
    time = np.linspace(-1, 1, 40)[:, None]
    series = 1000 + 20 * time * rng.normal(0, 1, voxels) + rng.normal(0, 10, (40, voxels))
    courses, motion = rng.normal(0, 1, (2, 40, MOST)).astype(np.float32)
    return CausalRun(
        name, TR, series.astype(np.float32), courses, motion[:, :6], 40, STARTS, ("a", "b", "c"), (0, 1, 2)
    )


def named_cleaner(name: str) -> Cleaner:
    return next(cleaner for cleaner in CLEANERS if cleaner.name == name)


def test_todays_windows_are_those_of_a_live_run() -> None:
    run = a_run()
    expected = online_windows(run.series, Cleaning(), TR, SPEC, STARTS)
    np.testing.assert_array_equal(online(DEFAULT, [run], [], SPEC), expected.astype(np.float16))
    assert len({cleaner.name for cleaner in CLEANERS}) == len(CLEANERS)


@pytest.mark.parametrize("cleaner", CLEANERS, ids=lambda cleaner: cleaner.name)
def test_no_cleaner_looks_at_a_volume_that_is_to_come(cleaner: Cleaner) -> None:
    run, lender = a_run(0), a_run(1)
    later = replace(run, series=run.series.copy(), courses=run.courses.copy(), motion=run.motion.copy())
    for values in (later.series, later.courses, later.motion):
        values[23:] += 7
    before, after = (online(cleaner, [one, lender], [1], SPEC) for one in (run, later))
    np.testing.assert_array_equal(before[:2], after[:2])
    assert (before[2] != after[2]).any()
    assert not np.array_equal(before, online(DEFAULT, [run, lender], [], SPEC)) or cleaner == DEFAULT


def test_a_frozen_volume_keeps_the_statistics_of_its_arrival() -> None:
    run = a_run()
    cleaner, arrived = OnlineCleaner(Cleaning(), 40, 20, TR), []
    for row, sample in enumerate(run.series):
        cleaner.push(row, sample)
        arrived.append(cleaner.standardise([row], sample[None])[0])
    found = online(named_cleaner("λ 5, frozen at arrival"), [run], [], SPEC)
    expected = np.stack([np.stack(arrived[start : start + 3], axis=1) for start in STARTS])
    np.testing.assert_allclose(found, expected, atol=2e-3)  # kept as float16


def test_a_quadratic_drift_is_a_polynomial_of_second_order() -> None:
    run, time = a_run(), np.arange(40.0)
    left = run.series - np.stack([np.polyval(np.polyfit(time, voxel, 2), time) for voxel in run.series.T], axis=1)
    z = left / left.std(axis=0, ddof=1)
    found = offline(named_cleaner("quadratic, λ 5"), [run], SPEC)
    np.testing.assert_allclose(found, np.stack([z[start : start + 3].T for start in STARTS]), atol=3e-3)


def test_what_a_recording_lacks_is_not_tried() -> None:
    run = a_run()
    bare = replace(run, courses=run.courses[:, :0], motion=run.motion[:, :0])
    assert all(possible(cleaner, [run, run], [0]) for cleaner in CLEANERS)
    tried = [cleaner for cleaner in CLEANERS if possible(cleaner, [bare], [])]
    assert DEFAULT in tried
    assert not any(cleaner.components or cleaner.motion or cleaner.earlier for cleaner in tried)


def test_agreement_is_the_correlation_of_mean_patterns() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(0, 1, (2, 4, 30, 3)).astype(np.float16)
    expected = [
        np.corrcoef(a.mean(1, dtype=float), b.mean(1, dtype=float))[0, 1] for a, b in zip(one, other, strict=True)
    ]
    np.testing.assert_allclose(agreement(one, other), expected, atol=1e-6)
    assert agreement(one, one * 0).tolist() == [0, 0, 0, 0]


def linear(targets: NDArray[np.float32], noise: float) -> NDArray[np.float16]:
    rng = np.random.default_rng(1)
    code = rng.standard_normal((targets.shape[1], 50 * 2))
    windows = targets @ code + noise * rng.standard_normal((len(targets), 100))
    return windows.reshape(-1, 50, 2).astype(np.float16)


def test_pictures_are_identified_where_there_is_signal_and_only_there() -> None:
    targets = np.random.default_rng(0).standard_normal((300, 20)).astype(np.float32)
    seen, runs = [str(k) for k in range(300)], np.arange(300) // 20
    fold, judge = Fold(np.arange(220), np.arange(220, 300), []), identified(targets, seen, runs)
    told, noise = judge(linear(targets, 1), linear(targets, 1), fold), judge(*2 * (linear(targets * 0, 1),), fold)
    assert told["two-way"].shape == told["top-1"].shape == (80,)
    assert told["two-way"].mean() > 0.95
    assert told["top-1"].mean() > 0.7
    assert abs(noise["two-way"].mean() - 0.5) < 0.15
    assert noise["top-1"].mean() < 0.1


def test_a_category_is_named_and_a_block_finds_its_like() -> None:
    seen = [str(k % 4) for k in range(80)]
    patterns = np.random.default_rng(2).standard_normal((4, 4)).astype(np.float32)[np.arange(80) % 4]
    signal, noise = linear(patterns, 0.5), linear(patterns * 0, 1)
    fold, every = Fold(np.arange(60), np.arange(60, 80), []), np.arange(80)
    assert named(seen, np.arange(80) // 10)(signal, signal, fold)["category"].mean() == 1
    assert named(seen, np.arange(80) // 10)(noise, noise, fold)["category"].mean() < 0.6
    whole = Fold(every, every, [])
    assert neighboured(seen)(signal, signal, whole)["nearest block"].mean() == 1
    alone = [str(k) for k in range(80)]  # nobody's like: a block is not its own neighbour
    assert neighboured(alone)(signal, signal, whole)["nearest block"].mean() == 0


@pytest.fixture(scope="module")
def tree(phantom_of) -> Path:
    return phantom_of([1], [1, 2], [1, 2])


def test_a_tree_gives_components_of_its_first_session_and_no_shared_picture(tree: Path) -> None:
    runs, first = tree_runs(tree, 1, sessions_of(tree, 1, 8), WindowSpec())
    nsd = NSD(tree)
    assert [run.name for run in runs] == [nsd.run(1, s, r).name for s in (1, 2) for r in nsd.runs(1, s)]
    assert first == [0, 1]
    assert runs[0].series.shape == (226, int(nsd.mask(1).sum()))
    assert all(run.courses.shape == (226, MOST) and run.motion.shape == (226, 0) for run in runs)
    shown = {picture for run in runs for picture in run.seen}
    assert shown
    assert not any(nsd.is_test(int(picture)) for picture in shown)
    event = nsd.run(1, 1, nsd.runs(1, 1)[0]).events[0]
    assert nsd.is_test(int(event.picture)) or (runs[0].starts[0], runs[0].seen[0]) == (event.row + 3, event.picture)


def test_a_tree_of_one_session_is_refused(phantom_of) -> None:
    with pytest.raises(UserError, match="needs two"):
        sessions_of(phantom_of([1], [1], [1]), 1, 8)


def test_motion_of_a_tree_is_scaled_to_what_is_usual_in_it(tree: Path, tmp_path: Path) -> None:
    for path in (path for path in tree.rglob("*") if path.is_file()):
        link = tmp_path / path.relative_to(tree)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    folder = tmp_path / "nsddata_timeseries/ppdata/subj01/func1pt8mm/motion"
    folder.mkdir()
    nsd = NSD(tmp_path)
    for session, run in ((s, r) for s in (1, 2) for r in nsd.runs(1, s)):
        moved = np.random.default_rng(run).normal(3, 0.02, (225, 6)) * session
        np.savetxt(folder / f"motion_session{session:02d}_run{run:02d}.tsv", moved, delimiter="\t")
    runs, first = tree_runs(tmp_path, 1, (1, 2), WindowSpec())
    assert all(run.motion.shape == (226, 6) for run in runs)
    assert np.mean([runs[k].motion.std(axis=0) for k in first]) == pytest.approx(1, abs=0.1)
    assert runs[-1].motion.std(axis=0).mean() == pytest.approx(2, abs=0.3)


def test_every_recording_tries_what_it_can_once(tree: Path, tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    from dynadiff.studies.causal import study as causal_study

    material = causal_study.tree_material(tree, 1, (1, 2))
    cleaners, said = (DEFAULT, named_cleaner("λ 5, noise components: 1")), list[str]()
    outcomes = causal_study.run_material(material, cleaners, tmp_path, said.append)
    fold = material.folds[0]
    assert not {material.units[k] for k in fold.learn} & {material.units[k] for k in fold.test}
    assert said == [f"tree: {cleaner.name}" for cleaner in cleaners]
    for outcome in outcomes.values():
        assert len(outcome.parity) == len(fold.test)
        assert all(len(scores) == len(fold.test) for way in outcome.scores.values() for scores in way.values())
    assert causal_study.run_material(material, cleaners, tmp_path, said.append) == outcomes
    assert len(said) == 2  # nothing is judged again
    causal_study.print_causal(material, outcomes)
    causal_study.write_causal(material, outcomes, tmp_path)
    document = json.loads((tmp_path / "tree.json").read_text())
    assert set(document["fifth"]) <= {1, 2, 3, 4, 5}
    assert len(document["units"]) == len(fold.test)
    other = replace(material, runs=[replace(run, series=run.series + 1) for run in material.runs])
    causal_study.run_material(other, cleaners[:1], tmp_path, said.append)
    assert len(said) == 3  # another recording is
    for path in (tmp_path / "tree").iterdir():
        path.write_text("{")
    with pytest.raises(UserError, match="damaged"):
        causal_study.run_material(material, cleaners, tmp_path, said.append)


def test_real_recordings_give_their_blocks(tmp_path: Path) -> None:
    runs = haxby_runs(recording("haxby_slice"), tmp_path)
    assert [(run.series.shape, len(run.starts), len(set(run.blocks))) for run in runs] == [((121, 530), 32, 8)] * 12
    run = localizer_run(recording("studyforrest_localizer"))
    assert run.series.shape == (156, 2000)
    half = ("face", "scene", "body", "house", "object", "scramble")
    assert run.seen == (*half, "scramble", "body", "object", "face", "house", "scene")
