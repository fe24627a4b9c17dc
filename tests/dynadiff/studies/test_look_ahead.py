"""The windows on which studies judge know no volume after their last one, and neither does what is painted of them.

Whole runs are looked at by the yardstick of the phantom alone, which says so; betas (Miyawaki) have no run.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
from joblib import parallel_config  # noqa: E402

from dynadiff.assets import EMBEDDED  # noqa: E402
from dynadiff.networks.brain import BrainConfig  # noqa: E402
from dynadiff.networks.generator import load_generator  # noqa: E402
from dynadiff.networks.model import ModelConfig, new_model  # noqa: E402
from dynadiff.networks.model_folder import save_model  # noqa: E402
from dynadiff.phantom.scenes import draw_category  # noqa: E402
from dynadiff.recordings.masks import mask_digest  # noqa: E402
from dynadiff.recordings.nsd import NSD  # noqa: E402
from dynadiff.recordings.run import Event, Run  # noqa: E402
from dynadiff.signal.cleaning import Cleaning  # noqa: E402
from dynadiff.studies.ablations import study_named  # noqa: E402
from dynadiff.studies.haxby import fold as haxby  # noqa: E402
from dynadiff.studies.phantom import load_trials  # noqa: E402
from dynadiff.studies.running import held_out_trials, prepare_stores  # noqa: E402
from dynadiff.trials.source import collect  # noqa: E402
from support.changing_tree import SPEC, ChangingTree  # noqa: E402
from support.look_ahead import (  # noqa: E402
    SAME_ROWS,
    Acquired,
    Emission,
    LookAhead,
    by_row,
    check_no_look_ahead,
    stacked,
)

FEW = {name: SAME_ROWS[name] for name in ("other values", "no numbers")}
Emit = Callable[[Acquired], Iterator[Emission]]

# Blocks of the slice: nine volumes, as long as a window and four.
SHAPE, ROWS, BLOCKS = (3, 3, 2), 44, ((6, "face"), (20, "cat"))
MASK = np.random.default_rng(4).uniform(size=SHAPE) < 0.7


def a_run(number: int, series: np.ndarray) -> Run:
    events = tuple(Event(row, 9, f"{category} {number}", category) for row, category in BLOCKS)
    return Run(
        f"run-{number}", "1", 1, number, 2.5, SHAPE, np.eye(4), ROWS, events, lambda: iter(series),
        lambda name: draw_category(name.split()[0], 100 + number, 64),
    )  # fmt: skip


def bold(number: int) -> np.ndarray:
    return np.random.default_rng(number).normal(1000, 20, (ROWS, *SHAPE)).astype(np.float32)


def last_rows() -> list[int]:
    """Of the windows of a run, in order."""
    starts = (start for event in a_run(0, bold(0)).events for start in haxby.SPEC.starts(event, ROWS))
    return [start + haxby.SPEC.length - 1 for start in starts]


@pytest.fixture(scope="module")
def fold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder for the left-out run, untrained, with the generator that ships."""
    folder, generator = tmp_path_factory.mktemp("fold"), load_generator(EMBEDDED / "generator")
    brain = BrainConfig(int(MASK.sum()), haxby.SPEC.length, 8, generator.tokens)
    config = ModelConfig("1", 2.5, mask_digest(MASK), haxby.SPEC, Cleaning(), brain, "embedded", steps=1)
    save_model(new_model(config, generator, MASK, np.eye(4)), folder)
    return folder


def test_a_left_out_run_is_painted_and_classified_window_by_window(fold: Path) -> None:
    """What stands for each window in the table of Haxby's slice: categories read off the pictures, and classifiers."""
    others = [a_run(number, bold(number)) for number in (1, 2)]
    last = last_rows()

    def emit(acquired: Acquired) -> Iterator[Emission]:
        runs = [a_run(0, stacked(acquired)), *others]
        found = haxby.name_windows(haxby.material(runs, MASK, 0), fold, haxby.painted)
        yield from zip(last, ["category painted"] * len(last), found.painted, strict=True)
        for name, scores in found.classified.items():
            yield from zip(last, [f"category by {name}"] * len(last), scores, strict=True)

    check_no_look_ahead(emit, by_row(bold(0)), FEW, after=[last[1], last[4]])


def test_a_classifier_of_the_offline_windows_would_be_found() -> None:
    """Leak: the windows of the left-out run from its whole-run statistics."""
    last = last_rows()

    def emit(acquired: Acquired) -> Iterator[Emission]:
        found = collect([a_run(0, stacked(acquired))], MASK, Cleaning(), haxby.SPEC, 8)
        yield from zip(last, ["window"] * len(last), found.offline, strict=True)

    with pytest.raises(LookAhead):
        check_no_look_ahead(emit, by_row(bold(0)), FEW)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ChangingTree:
    monkeypatch.setattr("dynadiff.trials.prepare.TASK_RUNS", 1)
    return ChangingTree(tmp_path / "tree")


def test_studies_that_compare_models_judge_them_on_such_windows(tree: ChangingTree, tmp_path: Path) -> None:
    """Whole runs are prepared too, to learn from."""
    study = replace(study_named("brain", True), sessions=(1, 2), trials=None)
    count = iter(range(100))

    def emit(acquired: Acquired) -> Iterator[Emission]:
        tree.acquire(acquired)
        home = tmp_path / f"{next(count)}"
        with parallel_config(backend="threading"):
            prepare_stores(study, tree.root, home)
        trials = held_out_trials(study, home)
        ours = np.flatnonzero(trials.runs == trials.run_names.index(tree.run.name))
        last = {event.picture: row for event, row in zip(tree.run.events, tree.last_rows(), strict=True)}
        windows = trials.windows(ours, np.ones(len(ours), np.bool_))
        yield from ((last[trials.names[trials.seen[k]]], "window", w) for k, w in zip(ours, windows, strict=True))

    rows = tree.last_rows()
    check_no_look_ahead(emit, tree.first, FEW, after=[rows[5]])


def test_the_yardstick_of_the_phantom_looks_at_whole_runs_by_design(tree: ChangingTree) -> None:
    def emit(acquired: Acquired) -> Iterator[Emission]:
        trials = load_trials(NSD(tree.acquire(acquired).root), 1, [1], SPEC)
        yield from tree.of_trials("window", trials.windows[trials.runs == 0])

    with pytest.raises(LookAhead):
        check_no_look_ahead(emit, tree.first, FEW, after=[tree.last_rows()[4]])
