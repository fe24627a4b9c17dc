"""A run of an NSD tree is what was measured and what was shown, with its mask, or it is said why not."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from dynadiff.base.errors import UserError
from dynadiff.recordings.masks import masked_series
from dynadiff.recordings.nsd import NSD, rows_of
from support.nsd_tree import OFFICIAL, SHAPES, nsdgeneral, some_design, write_run


@pytest.mark.parametrize("subject", [1, 2])
def test_a_run_carries_what_was_measured_and_what_was_shown(tree: Path, subject: int) -> None:
    run = NSD(tree).run(subject, 1, 2)
    assert run.name == f"sub-{subject:02d}_ses-nsd01_task-nsdcore_run-02"
    assert (run.subject, run.session, run.run, run.tr) == (f"{subject:02d}", 1, 2, 4 / 3)
    assert (run.shape, run.n_volumes) == (SHAPES[subject], 226)
    data = np.random.default_rng(102).integers(500, 1500, (*SHAPES[subject], 226)).astype(np.int16)
    volumes = list(run.volumes())
    assert {v.dtype for v in volumes} == {np.dtype("<i2")}
    np.testing.assert_array_equal(np.stack(volumes, -1), data)
    shown = [(row, image) for row, image in enumerate(some_design(2)) if image]
    assert [(event.row, int(event.picture)) for event in run.events] == shown
    assert all(event.rows == 3 and event.category == "" for event in run.events)


def test_a_design_row_is_the_row_of_the_volume_it_names() -> None:
    design = [0] * 225
    design[9], design[210] = 73_000, 1
    assert [(e.row, e.picture) for e in rows_of(design)] == [(9, "73000"), (210, "1")]
    assert rows_of([0] * 225) == ()


def test_225_rows_meet_226_volumes_and_the_last_has_no_row(tree: Path) -> None:
    nsd = NSD(tree)
    run, mask = nsd.run(1, 1, 1), nsd.mask(1)
    series = masked_series(run, mask, 225)
    assert series.shape == (225, int(mask.sum()))
    np.testing.assert_array_equal(series[224], list(run.volumes())[224][mask])


@pytest.mark.parametrize("volumes", [225, 226])
def test_copies_cut_to_the_design_are_legal(func: Path, tmp_path: Path, volumes: int) -> None:
    write_run(func, 1, 1, some_design(1), SHAPES[1], volumes=volumes)
    assert NSD(tmp_path).run(1, 1, 1).n_volumes == volumes


@pytest.mark.parametrize("volumes", [188, 224, 227, 301])
def test_another_number_of_volumes_is_refused(func: Path, tmp_path: Path, volumes: int) -> None:
    write_run(func, 1, 1, some_design(1), SHAPES[1], volumes=volumes)
    with pytest.raises(UserError, match=f"{volumes} volumes and not 226"):
        NSD(tmp_path).run(1, 1, 1)


@pytest.mark.parametrize(("tr", "good"), [(4 / 3, True), (1.333171, True), (0.0, True), (1.0, False), (1.6, False)])
def test_a_header_that_contradicts_the_repetition_time_is_refused(
    func: Path, tmp_path: Path, tr: float, good: bool
) -> None:
    write_run(func, 1, 1, some_design(1), SHAPES[1], tr=tr)
    if good:
        assert NSD(tmp_path).run(1, 1, 1).tr == 4 / 3
    else:
        with pytest.raises(UserError, match=r"4/3 s"):
            NSD(tmp_path).run(1, 1, 1)


@pytest.mark.parametrize(("dtype", "order"), [("f4", "<"), ("i2", ">"), ("f4", ">")])
def test_floats_and_big_endian_copies_give_the_same_numbers(func: Path, tmp_path: Path, dtype: str, order: str) -> None:
    data = write_run(func, 1, 1, some_design(1), SHAPES[1], dtype=dtype, order=order)
    volume = next(NSD(tmp_path).run(1, 1, 1).volumes())
    assert volume.dtype == np.dtype(f"<{dtype}")
    np.testing.assert_array_equal(volume, data[..., 0])


def test_a_truncated_run_is_named(func: Path, tmp_path: Path) -> None:
    write_run(func, 1, 1, some_design(1), SHAPES[1])
    path = func / "timeseries" / "timeseries_session01_run01.nii.gz"
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(UserError, match="timeseries_session01_run01"):
        list(NSD(tmp_path).run(1, 1, 1).volumes())


def test_the_mask_is_what_lies_above_zero(tree: Path) -> None:
    for subject, shape in SHAPES.items():
        np.testing.assert_array_equal(NSD(tree).mask(subject), nsdgeneral(shape) == 1)


def test_the_brain_is_known_where_the_copy_has_its_mask(tree: Path) -> None:
    assert NSD(tree).brain(1) is None
    roi = next(path for path in tree.rglob("nsdgeneral.nii.gz") if "subj01" in str(path))
    brain = np.ones(SHAPES[1], np.int16)
    brain[0] = 0
    nib.save(nib.Nifti1Image(brain, np.diag([1.8, 1.8, 1.8, 1])), roi.parents[1] / "brainmask.nii.gz")
    np.testing.assert_array_equal(NSD(tree).brain(1), brain > 0)


def test_motion_is_six_numbers_a_volume(tree: Path) -> None:
    assert NSD(tree).motion(1, 1, 1) is None
    moved = np.random.default_rng(0).normal(0, 1, (226, 6)).astype(np.float32)
    series = next(path for path in tree.rglob("timeseries_session01_run01.nii.gz") if "subj01" in str(path))
    path = series.parents[1] / "motion" / "motion_session01_run01.tsv"
    path.parent.mkdir()
    np.savetxt(path, moved, delimiter="\t")
    np.testing.assert_allclose(NSD(tree).motion(1, 1, 1), moved, rtol=1e-6)
    for wrong in ("1\t2\n", "one\n", "nan\t" * 5 + "nan\n"):
        path.write_text(wrong)
        with pytest.raises(UserError, match="six numbers"):
            NSD(tree).motion(1, 1, 1)


def test_a_mask_of_another_shape_is_refused(func: Path, tmp_path: Path) -> None:
    write_run(func, 1, 1, some_design(1), (3, 3, 3))
    nsd = NSD(tmp_path)
    with pytest.raises(UserError, match=r"nsdgeneral\.nii\.gz"):
        nsd.mask(1)
    roi = tmp_path / OFFICIAL["roi"].format(1)
    roi.mkdir(parents=True)
    nib.save(nib.Nifti1Image(np.ones((3, 3, 4), np.int16), np.eye(4)), roi / "nsdgeneral.nii.gz")
    with pytest.raises(UserError, match="same grid"):
        nsd.mask(1)


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["0"] * 224, "224 rows and not 225"),
        (["0"] * 226, "226 rows and not 225"),
        (["0"] * 300, "300 rows and not 225"),
        ([], "0 rows"),
        (["0"] * 224 + ["1.5"], "whole number"),
        (["0\t0"] * 225, "whole number"),
        (["0"] * 224 + ["73001"], "picture 73001"),
        (["0"] * 224 + ["-3"], "picture -3"),
    ],
)
def test_malformed_designs_are_refused(func: Path, tmp_path: Path, lines: list[str], sentence: str) -> None:
    write_run(func, 1, 1, None, SHAPES[1])
    (func / "design" / "design_session01_run01.tsv").write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=sentence):
        NSD(tmp_path).run(1, 1, 1)


def test_a_missing_design_is_named(func: Path, tmp_path: Path) -> None:
    write_run(func, 1, 1, None, SHAPES[1])
    for ask in (NSD(tmp_path).runs, lambda s, b: NSD(tmp_path).run(s, b, 1)):
        with pytest.raises(UserError, match=r"design_session01_run01\.tsv is missing"):
            ask(1, 1)
