"""A left-out run chooses nothing, what is scored is kept and needs no weights, and other choices are refused."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
from dynadiff.base.errors import UserError  # noqa: E402
from dynadiff.phantom.scenes import draw_category  # noqa: E402
from dynadiff.recordings.run import Event, Run  # noqa: E402
from dynadiff.signal.cleaning import Cleaning  # noqa: E402
from dynadiff.studies.haxby import fold as fold_module  # noqa: E402
from dynadiff.studies.haxby.figures import figures  # noqa: E402
from dynadiff.studies.haxby.fold import TRAINING, Material, material, name_windows, painted  # noqa: E402
from dynadiff.studies.haxby.kept import PAINTED, Fold, load_fold, save_fold  # noqa: E402
from dynadiff.studies.haxby.linear import OPPONENTS, Classifier, fit  # noqa: E402
from dynadiff.studies.haxby.report import print_figures  # noqa: E402
from dynadiff.studies.haxby.study import print_haxby, run_folds, write_figures  # noqa: E402

# Blocks as long as a window and two volumes.
SHAPE, ROWS, BLOCKS = (3, 3, 2), 60, ((6, "face"), (20, "cat"), (34, "shoe"), (48, "face"))
MASK = np.random.default_rng(4).uniform(size=SHAPE) < 0.7
PATTERNS = np.random.default_rng(5).normal(0, 15, (3, *SHAPE))
NAMES = ("cat", "face", "shoe")


def bold(number: int) -> NDArray[np.float32]:
    series = np.random.default_rng(number).normal(1000, 20, (ROWS, *SHAPE))
    for row, category in BLOCKS:
        series[row + 2 : row + 10] += PATTERNS[NAMES.index(category)]
    return series.astype(np.float32)


def a_run(number: int, series: NDArray[np.float32] | None = None, blocks: Sequence[tuple[int, str]] = BLOCKS) -> Run:
    values = bold(number) if series is None else series
    events = tuple(Event(row, 7, f"{category} {number}", category) for row, category in blocks)
    return Run(
        f"run-{number}", "1", 1, number, 2.5, SHAPE, np.eye(4), ROWS, events, lambda: iter(values),
        lambda name: draw_category(name.split()[0], 100 + number, 64),
    )  # fmt: skip


RUNS = [a_run(number) for number in range(4)]


class Painter:
    """Trains and paints nothing: leaves a model.json, and scores that follow from the left-out run."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.asked: list[int] = []
        self._stop_at = stop_at

    def __call__(self, fold: Material, folder: Path) -> NDArray[np.float64]:
        assert (folder / "choices.json").exists()
        if fold.left_out == self._stop_at:
            raise KeyboardInterrupt
        self.asked.append(fold.left_out)
        (folder / "model.json").write_text(f"left out {fold.left_out}")
        return np.random.default_rng(fold.left_out).uniform(size=(len(fold.test), len(fold.categories)))


def run(home: Path, paint: Callable[[Material, Path], NDArray[np.float64]], runs: Sequence[Run] = RUNS) -> list[Fold]:
    return run_folds(runs, MASK, home, lambda _: None, paint)


def learnt_without(runs: Sequence[Run], monkeypatch: pytest.MonkeyPatch) -> list[Classifier]:
    """What is fitted when the first run is left out."""
    found: list[Classifier] = []

    def spy(*given: object) -> Classifier:
        found.append(fit(*given))
        return found[-1]

    monkeypatch.setattr(fold_module, "fit", spy)
    name_windows(material(runs, MASK, 0), Path("nowhere"), lambda fold, _: np.zeros((len(fold.test), 3)))
    return found


def test_a_left_out_run_chooses_nothing_and_weighs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    others = RUNS[1:]
    before = learnt_without(RUNS, monkeypatch)
    after = learnt_without([a_run(0, 7 * bold(9) + bold(0) ** 1.2, BLOCKS[:3]), *others], monkeypatch)
    changed = learnt_without([RUNS[0], a_run(1, bold(9)), *others[1:]], monkeypatch)
    assert len(before) == len(OPPONENTS)
    for one, other, third in zip(before, after, changed, strict=True):
        assert one.strength == other.strength
        np.testing.assert_array_equal(one.centre, other.centre)
        np.testing.assert_array_equal(one.scale, other.scale)
        np.testing.assert_array_equal(one.discriminants.weights, other.discriminants.weights)
        np.testing.assert_array_equal(one.discriminants.offsets, other.discriminants.offsets)
        assert not np.array_equal(one.discriminants.weights, third.discriminants.weights)


def test_what_is_scored_is_neither_trained_nor_painted_again_and_needs_no_weights(tmp_path: Path) -> None:
    first = Painter(stop_at=2)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, first)
    second = Painter()
    folds = run(tmp_path, second)
    assert (first.asked, second.asked) == ([0, 1], [2, 3])
    for folder in tmp_path.glob("fold-*"):
        shutil.rmtree(folder)
    assert sorted(path.name for path in (tmp_path / "scores").iterdir()) == [f"fold-0{k}.json" for k in (1, 2, 3, 4)]
    third = Painter()
    assert run(tmp_path, third) == folds
    assert third.asked == []


def test_a_fold_keeps_what_was_shown_and_every_score(tmp_path: Path) -> None:
    fold = run(tmp_path, Painter())[1]
    assert (fold.run, fold.categories) == ("run-1", NAMES)
    assert fold.blocks == (0, 0, 1, 1, 2, 2, 3, 3)
    assert fold.shown == (1, 1, 0, 0, 2, 2, 1, 1)
    assert [*fold.scores] == [PAINTED, *OPPONENTS]
    np.testing.assert_array_equal(fold.scores[PAINTED], np.random.default_rng(1).uniform(size=(8, 3)))
    one = material(RUNS, MASK, 1)
    learnt = np.array([NAMES.index(one.learn.categories[k]) for k in one.learn.seen])
    for name, method in OPPONENTS.items():
        found = fit(method, one.learn.offline, one.learn.online, learnt, one.learn.runs, 3)
        np.testing.assert_array_equal(fold.scores[name], found(one.test.online))
        assert fold.strengths[name] == found.strength


def test_what_a_classifier_is_given_has_seen_no_later_volume() -> None:
    """Whole-run cleaning would be another window."""
    one = material(RUNS, MASK, 0)
    assert not np.array_equal(one.test.online, one.test.offline)
    later = bold(0)
    later[20 + 2 + 6 + 1 :] += 300 * np.random.default_rng(0).standard_normal((ROWS - 29, *SHAPE))
    np.testing.assert_array_equal(material([a_run(0, later), *RUNS[1:]], MASK, 0).test.online[:4], one.test.online[:4])


def test_other_choices_are_an_error_before_anything_is_painted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, Painter())
    painter = Painter()
    (tmp_path / "scores" / "fold-01.json").unlink()  # of the first, only the decoder is left
    cases = {
        r"fold-01 was begun with other choices \(training\.lr\)": ("TRAINING", replace(TRAINING, lr=0.5)),
        r"other choices \(cleaning\.ridge\)": ("CLEANING", Cleaning(ridge=1.0)),
        r"other choices \(window\.offset\)": ("SPEC", replace(fold_module.SPEC, offset=1)),
        r"other choices \(penalties\)": ("PENALTIES", (1.0,)),
    }
    for said, (name, value) in cases.items():
        with monkeypatch.context() as patch:
            patch.setattr(fold_module, name, value)
            with pytest.raises(UserError, match=said):
                run(tmp_path, painter)
    with pytest.raises(UserError, match=r"other choices \(recording\): give another folder with --out"):
        run(tmp_path, painter, [a_run(0, bold(9)), *RUNS[1:]])
    with pytest.raises(UserError, match=r"other choices \(left_out, recording\)"):
        run(tmp_path, painter, RUNS[::-1])
    shutil.rmtree(tmp_path / "fold-01")
    with monkeypatch.context() as patch:
        patch.setattr(fold_module, "TRAINING", replace(TRAINING, steps=1))
        with pytest.raises(UserError, match=r"fold-02\.json was begun with other choices"):
            run(tmp_path, painter)
    assert painter.asked == []
    run(tmp_path, painter)
    assert painter.asked == [0]


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    run(tmp_path, Painter())
    note = tmp_path / "fold-02" / "choices.json"
    note.write_text("{")
    with pytest.raises(UserError, match="damaged"):
        run(tmp_path, Painter())
    note.unlink()
    with pytest.raises(UserError, match="fold-02 holds what this study did not put there"):
        run(tmp_path, Painter())


def test_a_decoder_that_was_trained_again_is_scored_again(tmp_path: Path) -> None:
    run(tmp_path, Painter())
    (tmp_path / "fold-03" / "model.json").write_text("trained again")
    painter = Painter()
    run(tmp_path, painter)
    assert painter.asked == [2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda fold: fold["shown"].pop(), "damaged .*7 windows of 8 blocks"),
        (lambda fold: fold["scores"][PAINTED][0].pop(), "damaged .*Dynadiff's pictures are not 8 windows"),
        (lambda fold: fold["scores"].pop("LDA on six volumes"), "damaged .*scores of"),
        (lambda fold: fold["strengths"].clear(), "damaged .*scores of"),
        (lambda fold: fold.update(more=1), "damaged .*more"),
        (lambda fold: fold.update(version=99), "is of version 99 of its format"),
    ],
)
def test_scores_that_are_not_as_they_were_written_are_refused(
    tmp_path: Path, change: Callable[[dict], object], said: str
) -> None:
    run(tmp_path, Painter())
    path = tmp_path / "scores" / "fold-02.json"
    fold = json.loads(path.read_text())
    change(fold)
    path.write_text(json.dumps(fold))
    with pytest.raises(UserError, match=said):
        run(tmp_path, Painter())


def test_a_category_that_nobody_can_learn_is_refused(tmp_path: Path) -> None:
    odd = a_run(3, blocks=(*BLOCKS[:3], (48, "house")))
    with pytest.raises(UserError, match="run-3 alone shows house"):
        run(tmp_path, Painter(), [*RUNS[:3], odd])


def test_table_and_sentence_are_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = figures(run(tmp_path, Painter()))
    print_figures(found)
    write_figures(found, tmp_path / "haxby.json")
    table = capsys.readouterr().out
    assert all(f"│ {name}" in table for name in (PAINTED, *OPPONENTS))
    assert "Category of 32 windows and 16 blocks, 4 runs left out in turn" in table
    assert table.splitlines()[-1] == found.says
    for name, row in found.rows.items():
        line = next(line for line in table.splitlines() if f"│ {name}" in line)
        assert all(f"{100 * row[unit].mean:.1f} % [" in line for unit in ("windows", "blocks"))
    written = json.loads((tmp_path / "haxby.json").read_text())
    assert written["version"] == 1
    assert written["says"] == found.says
    assert written["rows"][PAINTED]["blocks"]["mean"] == found.rows[PAINTED]["blocks"].mean
    assert written["ahead"]["ridge on their mean"]["windows"]["p"] == found.ahead["ridge on their mean"]["windows"].p


def test_a_fold_is_trained_once_and_painted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real way, a step of each stage: probabilities of three of the categories that the image encoder knows."""
    monkeypatch.setattr(fold_module, "TRAINING", replace(TRAINING, steps=1, warm_start=1, warmup=1, width=8, batch=2))
    one = material(RUNS, MASK, 0)
    scores = painted(one, tmp_path)
    assert scores.shape == (8, 3)
    assert ((scores > 0) & (scores < 1)).all()
    monkeypatch.setattr(fold_module, "train", None)
    np.testing.assert_array_equal(painted(one, tmp_path), scores)


def test_a_fold_is_read_as_it_was_written(tmp_path: Path) -> None:
    fold = run(tmp_path, Painter())[0]
    save_fold(fold, tmp_path / "again.json")
    assert load_fold(tmp_path / "again.json") == fold


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The runs in the layout of the reduction."""
    folder = tmp_path / "slice"
    folder.mkdir()
    for name in ("ATTRIBUTION.txt", "LICENSE-PyMVPA.txt"):
        (folder / name).write_text("whose they are\n")
    nib.save(nib.Nifti1Image(MASK.astype(np.int16), np.eye(4)), folder / "mask.nii.gz")
    for number in range(3):
        here = folder / "runs" / f"run-{number + 1:03d}"
        here.mkdir(parents=True)
        image = nib.Nifti1Image(np.moveaxis(bold(number), 0, -1).astype(np.int16), np.eye(4))
        image.header.set_zooms((3.1, 3.75, 3.75, 2.5))
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, here / "bold_1slice.nii.gz")
        rows = (f"{2.5 * row}\t17.5\t{category}" for row, category in BLOCKS)
        (here / "bold_events.tsv").write_text("\n".join(("onset\tduration\ttrial_type", *rows)) + "\n")
    return folder


def test_from_the_recording_to_the_table(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    painter = Painter()
    print_haxby(source, tmp_path / "out", said.append, painter)
    assert painter.asked == [0, 1, 2]
    assert [line.split(":")[0] for line in said[:3]] == ["haxby 1/3", "haxby 2/3", "haxby 3/3"]
    table, written = capsys.readouterr().out, (tmp_path / "out" / "haxby" / "haxby.json").read_bytes()
    for folder in (tmp_path / "out" / "haxby").glob("fold-*"):
        shutil.rmtree(folder)
    print_haxby(source, tmp_path / "out", said.append, painter)
    assert painter.asked == [0, 1, 2]
    assert capsys.readouterr().out == table
    assert (tmp_path / "out" / "haxby" / "haxby.json").read_bytes() == written
