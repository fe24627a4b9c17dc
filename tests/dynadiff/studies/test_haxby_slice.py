"""The Haxby slice becomes a BIDS data set without a change to a recording, and never without its notice."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from dynadiff.base.errors import UserError
from dynadiff.phantom.scenes import CATEGORIES, draw_category
from dynadiff.recordings.bids import bids_runs
from dynadiff.recordings.masks import masked_series, read_mask
from dynadiff.studies.haxby_slice import CATEGORY, haxby_to_bids
from support.real_data import recording

SHAPE = (4, 2, 1)
LABELS = ("face", "scrambledpix", "cat")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Runs 1, 2 and 11 in the layout of the reduction."""
    folder = tmp_path / "haxby_slice"
    folder.mkdir()
    for name in ("ATTRIBUTION.txt", "LICENSE-PyMVPA.txt"):
        (folder / name).write_text(f"the {name} of this copy\n")
    nib.save(nib.Nifti1Image(np.eye(4, 2, dtype=np.int16)[..., None], np.eye(4)), folder / "mask.nii.gz")
    for run in (1, 2, 11):
        here = folder / "runs" / f"run-{run:03d}"
        here.mkdir(parents=True)
        data = np.random.default_rng(run).integers(0, 900, (*SHAPE, 40)).astype(np.int16)
        image = nib.Nifti1Image(data, np.eye(4))
        image.header.set_zooms((3.1, 3.75, 3.75, 2.5))
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, here / "bold_1slice.nii.gz")
        rows = (f"{15 + 25 * k}.0\t22.5\t{label}" for k, label in enumerate(LABELS))
        (here / "bold_events.tsv").write_text("\n".join(("onset\tduration\ttrial_type", *rows)) + "\n")
    return folder


def test_recordings_mask_and_notices_are_copied_byte_for_byte(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "bids"
    haxby_to_bids(source, out)
    for run in (1, 2, 11):
        copied = out / f"sub-1/func/sub-1_task-objectviewing_run-{run:02d}_bold.nii.gz"
        assert copied.read_bytes() == (source / f"runs/run-{run:03d}/bold_1slice.nii.gz").read_bytes()
    assert (out / "sub-1_mask.nii.gz").read_bytes() == (source / "mask.nii.gz").read_bytes()
    for name in ("ATTRIBUTION.txt", "LICENSE-PyMVPA.txt"):
        assert (out / name).read_text() == f"the {name} of this copy\n"
    assert "stand-ins" in (out / "README").read_text()
    assert json.loads((out / "dataset_description.json").read_text())["License"] == "CC BY-SA 3.0"
    assert json.loads((out / "task-objectviewing_bold.json").read_text())["RepetitionTime"] == 2.5


def test_runs_keep_their_numbers_and_blocks_get_a_drawn_picture(source: Path, tmp_path: Path) -> None:
    haxby_to_bids(source, tmp_path / "bids")
    runs = bids_runs(tmp_path / "bids", "1")
    assert [(r.run, r.tr, r.shape, r.n_volumes) for r in runs] == [(k, 2.5, SHAPE, 40) for k in (1, 2, 11)]
    for run in runs:
        assert [(e.row, e.rows, e.picture, e.category) for e in run.events] == [
            (6, 9, f"face_{run.run}.png", "face"),
            (16, 9, f"scrambled_{run.run}.png", "scrambled"),
            (26, 9, f"cat_{run.run}.png", "cat"),
        ]
    pictures = [run.picture(event.picture) for run in runs for event in run.events]
    assert {p.shape for p in pictures} == {(256, 256, 3)}
    assert len({p.tobytes() for p in pictures}) == 9
    for k, category in enumerate(("face", "scrambled", "cat")):
        np.testing.assert_array_equal(pictures[k], draw_category(category, 100 + k, 256))


def test_every_label_has_a_picture_that_can_be_drawn() -> None:
    assert set(CATEGORY.values()) <= set(CATEGORIES)


def test_nothing_is_written_without_the_notices(source: Path, tmp_path: Path) -> None:
    (source / "ATTRIBUTION.txt").unlink()
    with pytest.raises(UserError, match=r"lacks ATTRIBUTION\.txt"):
        haxby_to_bids(source, tmp_path / "bids")
    assert not (tmp_path / "bids").exists()


def test_an_output_folder_in_use_is_left_alone(source: Path, tmp_path: Path) -> None:
    (tmp_path / "bids").mkdir()
    (tmp_path / "bids/mine.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        haxby_to_bids(source, tmp_path / "bids")
    assert [p.name for p in (tmp_path / "bids").iterdir()] == ["mine.txt"]


def test_a_source_that_is_something_else_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lacks ATTRIBUTION"):
        haxby_to_bids(tmp_path / "nowhere", tmp_path / "out")
    events = source / "runs/run-002/bold_events.tsv"
    events.write_text(events.read_text().replace("cat", "dog"))
    with pytest.raises(UserError, match="label 'dog'"):
        haxby_to_bids(source, tmp_path / "out")
    events.unlink()
    with pytest.raises(UserError, match=r"bold_events\.tsv is missing"):
        haxby_to_bids(source, tmp_path / "out")
    bold = source / "runs/run-001/bold_1slice.nii.gz"
    image = nib.load(bold)
    image.header.set_zooms((3.1, 3.75, 3.75, 2.0))
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine, image.header), bold)
    with pytest.raises(UserError, match=r"TR of 2\.0 s and not 2\.5 s"):
        haxby_to_bids(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_real_slice_agrees_with_its_labels_volume_by_volume(tmp_path: Path) -> None:
    folder = recording("haxby_slice")
    haxby_to_bids(folder, tmp_path)
    runs = bids_runs(tmp_path, "1")
    assert [run.run for run in runs] == list(range(1, 13))
    labels = [line.split()[0] for line in (folder / "attributes_literal.txt").read_text().splitlines()]
    shown = ["rest"] * len(labels)
    for k, run in enumerate(runs):
        assert (run.n_volumes, len(run.events)) == (121, 8)
        for event in run.events:
            start = 121 * k + event.row
            shown[start : start + event.rows] = [event.category] * event.rows
    assert shown == [CATEGORY.get(label, label) for label in labels]
    whole = np.asanyarray(nib.load(folder / "bold.nii.gz").dataobj)
    mask = read_mask(tmp_path / "sub-1_mask.nii.gz", runs[0].shape)
    assert mask.sum() == 530
    np.testing.assert_array_equal(masked_series(runs[11], mask, 121), whole[..., 121 * 11 :][mask].T)
