"""A BIDS run is read by the standard's rules: whose TR counts, the volume of an onset, where stimuli lie."""

import json
import os
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynadiff.base.errors import UserError
from dynadiff.recordings.bids import bids_run, bids_runs, row_of
from support.real_data import recording

BOLD = "sub-02/ses-nsd07/func/sub-02_ses-nsd07_task-faces_run-03_bold.nii.gz"
N = 20


def write_bold(path: Path, tr: float = 2.0, units: str = "sec", seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(seed).integers(0, 1000, (3, 4, 2, N)).astype(np.int16)
    image = nib.Nifti1Image(data, np.diag([3.0, 3, 3, 1]))
    image.header.set_zooms((3, 3, 3, tr))
    image.header.set_xyzt_units("mm", units)
    nib.save(image, path)
    return path


def write_events(bold: Path, text: str) -> Path:
    path = bold.with_name(bold.name.replace("_bold.nii.gz", "_events.tsv"))
    path.write_text(text, "utf-8")
    return path


@pytest.fixture
def bold(tmp_path: Path) -> Path:
    """One run in a data set with nothing but it and its description."""
    (tmp_path / "dataset_description.json").write_text('{"Name": "test", "BIDSVersion": "1.10.0"}')
    return write_bold(tmp_path / BOLD)


def test_the_name_tells_subject_session_and_run(bold: Path) -> None:
    run = bids_run(bold)
    assert run.name == "sub-02_ses-nsd07_task-faces_run-03"
    assert (run.subject, run.session, run.run) == ("02", 7, 3)
    assert (run.shape, run.n_volumes, run.tr, run.events) == ((3, 4, 2), N, 2.0, ())
    expected = np.asanyarray(nib.load(bold).dataobj)
    np.testing.assert_array_equal(np.stack(list(run.volumes()), -1), expected)
    np.testing.assert_array_equal(run.affine, np.diag([3.0, 3, 3, 1]))


def test_a_file_named_otherwise_is_a_run_too(tmp_path: Path) -> None:
    run = bids_run(write_bold(tmp_path / "scan.nii.gz"))
    assert (run.name, run.subject, run.session, run.run) == ("scan", "", 1, 1)


def test_the_tr_given_wins_over_the_sidecar_and_that_over_the_header(bold: Path) -> None:
    sidecar = bold.with_name(bold.name.replace(".nii.gz", ".json"))
    assert bids_run(bold).tr == 2.0
    sidecar.write_text(json.dumps({"RepetitionTime": 1.5}))
    assert bids_run(bold).tr == 1.5
    assert bids_run(bold, tr=1.25).tr == 1.25


def test_sidecars_are_inherited_from_the_nearest_and_most_specific(bold: Path, tmp_path: Path) -> None:
    def state(where: Path, seconds: float) -> None:
        where.write_text(json.dumps({"RepetitionTime": seconds}))

    state(tmp_path / "task-faces_bold.json", 1.1)
    state(tmp_path / "task-houses_bold.json", 9.9)
    assert bids_run(bold).tr == 1.1
    state(bold.parent / "task-houses_bold.json", 9.9)
    state(bold.parent / "sub-02_task-faces_run-04_bold.json", 9.9)
    state(bold.parent / "task-faces_bold.json", 1.2)
    assert bids_run(bold).tr == 1.2
    state(bold.parent / "sub-02_task-faces_bold.json", 1.3)
    assert bids_run(bold).tr == 1.3
    (bold.parent / "sub-02_ses-nsd07_task-faces_run-03_bold.json").write_text('{"TaskName": "faces"}')
    assert bids_run(bold).tr == 1.3


def test_a_sidecar_outside_the_data_set_says_nothing(tmp_path: Path) -> None:
    bold = write_bold(tmp_path / "dataset" / BOLD)
    (tmp_path / "bold.json").write_text('{"RepetitionTime": 9.9}')
    for description in (
        tmp_path / "dataset/dataset_description.json",
        bold.with_name("dataset_description.json"),
    ):
        description.write_text("{}")
        assert bids_run(bold).tr == 2.0


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"RepetitionTime": 2000}', "looks like milliseconds, so write 2"),
        ('{"RepetitionTime": 0}', "above 0"),
        ('{"RepetitionTime": -1}', "above 0"),
        ('{"RepetitionTime": "2.0"}', "not a number"),
        ('{"RepetitionTime": true}', "not a number"),
        ("{", "not JSON"),
    ],
)
def test_a_sidecar_that_states_no_time_is_refused_unless_one_is_given(bold: Path, content: str, sentence: str) -> None:
    (bold.parent / "task-faces_bold.json").write_text(content)
    with pytest.raises(UserError, match=sentence):
        bids_run(bold)
    assert bids_run(bold, tr=2.0).tr == 2.0


def test_a_sidecar_repairs_a_header(tmp_path: Path) -> None:
    bold = write_bold(tmp_path / BOLD, tr=2000.0)
    with pytest.raises(UserError, match="milliseconds"):
        bids_run(bold)
    (bold.parent / "task-faces_bold.json").write_text('{"RepetitionTime": 2.0}')
    assert bids_run(bold).tr == 2.0
    assert bids_run(write_bold(tmp_path / "ms.nii.gz", tr=2500.0, units="msec")).tr == 2.5


def test_no_tr_anywhere_is_answered_with_how_to_give_one(tmp_path: Path) -> None:
    bold = write_bold(tmp_path / BOLD, tr=0.0)
    with pytest.raises(UserError, match="RepetitionTime to its JSON file, or give --tr"):
        bids_run(bold)


@pytest.mark.parametrize(
    ("onset", "tr", "row"),
    [
        (0.0, 2.0, 0),
        (1.999, 2.0, 1),
        (1.997, 2.0, 0),
        (12.028, 2.0, 6),
        (13.99, 2.0, 6),
        (8.0, 4 / 3, 6),
        (12.0, 1.3333334, 9),
        (2.1, 0.7, 3),
        (265.0, 2.5, 106),
        (-0.5, 2.0, -1),
    ],
)
def test_an_event_belongs_to_the_volume_being_acquired_at_its_onset(onset: float, tr: float, row: int) -> None:
    assert row_of(onset, tr) == row


@given(row=st.integers(0, 5000), tr=st.floats(0.3, 20))
def test_an_onset_at_the_start_of_a_volume_is_that_volume_however_it_was_rounded(row: int, tr: float) -> None:
    assert row_of(row * tr, tr) == row
    assert row_of(float(np.float32(row * tr)), tr) == row
    assert row_of((row + 0.998) * tr, tr) == row


def test_events_say_row_length_picture_and_category(bold: Path) -> None:
    write_events(
        bold,
        "onset\tduration\ttrial_type\tstim_file\tresponse_time\n"
        "12.5\t0.9\tface\tfaces/anna.png\t0.4\n"
        "4.0\t9.0\thouse\thouses/one.png\tn/a\n"
        "20\tn/a\tn/a\thouses/two.png\tn/a\n"
        "22\t0\tbutton\tn/a\t0.2\n",
    )
    assert [(e.row, e.rows, e.picture, e.category) for e in bids_run(bold).events] == [
        (2, 4, "houses/one.png", "house"),
        (6, 1, "faces/anna.png", "face"),
        (10, 1, "houses/two.png", ""),
    ]


def test_events_without_pictures_keep_their_category(bold: Path) -> None:
    write_events(bold, "\ufeffonset\tduration\ttrial_type\r\n0\t6\trest\r\n6.0\t4\tface\r\n\r\n")
    run = bids_run(bold)
    assert [(e.row, e.rows, e.picture, e.category) for e in run.events] == [
        (0, 3, "", "rest"),
        (3, 2, "", "face"),
    ]
    with pytest.raises(UserError, match="names no picture"):
        run.picture("")


def test_events_given_replace_those_beside_the_run(bold: Path, tmp_path: Path) -> None:
    write_events(bold, "onset\tduration\n0\t1\n")
    other = tmp_path / "mine.tsv"
    other.write_text("onset\tduration\n4\t1\n6\t1\n")
    assert [e.row for e in bids_run(bold).events] == [0]
    assert [e.row for e in bids_run(bold, other).events] == [2, 3]
    with pytest.raises(UserError, match=r"none\.tsv do not exist"):
        bids_run(bold, tmp_path / "none.tsv")


def test_events_outside_the_run_are_not_in_it(bold: Path, tmp_path: Path) -> None:
    write_events(bold, "onset\tduration\n-2\t1\n0\t1\n39.9\t1\n40\t1\n")
    assert [e.row for e in bids_run(bold).events] == [0, 19]
    write_events(bold, "onset\tduration\n12028\t900\n13028\t900\n")
    with pytest.raises(UserError, match=r"no event of .* starts during the run"):
        bids_run(bold)
    write_events(bold, "onset\tduration\n")
    assert bids_run(bold).events == ()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no columns onset and duration"),
        ("onset,duration\n1,2\n", "no columns onset and duration"),
        ("onset\ttrial_type\n1\tface\n", "no columns onset and duration"),
        ("onset\tduration\n1\t1\nsoon\t1\n", "line 3 of .* has 'soon'"),
        ("onset\tduration\nn/a\t1\n", "line 2"),
        ("onset\tduration\n1\tnan\n", "line 2"),
        ("onset\tduration\ninf\t1\n", "line 2"),
        ("onset\tduration\tstim_file\n1\t1\t../../secret.png\n", "leaves the stimuli folder"),
        ("onset\tduration\tstim_file\n1\t1\t/etc/picture.png\n", "leaves the stimuli folder"),
        ("onset\tduration\tstim_file\n1\t1\ta/../../b.png\n", "leaves the stimuli folder"),
    ],
)
def test_malformed_tables_are_refused_before_the_run(bold: Path, text: str, sentence: str) -> None:
    write_events(bold, text)
    with pytest.raises(UserError, match=sentence):
        bids_run(bold)


def test_a_table_that_is_not_text_is_refused(bold: Path) -> None:
    write_events(bold, "").write_bytes(b"\xff\xfe\x00onset")
    with pytest.raises(UserError, match="not UTF-8"):
        bids_run(bold)


def draw(path: Path, rgb: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((6, 8, 3), rgb[::-1], np.uint8))


def test_pictures_lie_in_the_stimuli_folder_and_are_rgb(bold: Path, tmp_path: Path) -> None:
    draw(tmp_path / "stimuli/faces/anna.png", (200, 100, 50))
    draw(tmp_path / "elsewhere/faces/anna.png", (1, 2, 3))
    run = bids_run(bold)
    picture = run.picture("faces/anna.png")
    assert (picture.dtype.name, picture.shape, picture[0, 0].tolist()) == ("uint8", (6, 8, 3), [200, 100, 50])
    np.testing.assert_array_equal(run.picture("stimuli/faces/anna.png"), picture)
    elsewhere = bids_run(bold, stimuli_root=tmp_path / "elsewhere")
    assert elsewhere.picture("faces/anna.png")[0, 0].tolist() == [1, 2, 3]


def test_a_folder_stimuli_within_stimuli_is_meant_literally(bold: Path, tmp_path: Path) -> None:
    draw(tmp_path / "stimuli/a.png", (1, 1, 1))
    draw(tmp_path / "stimuli/stimuli/a.png", (2, 2, 2))
    assert bids_run(bold).picture("stimuli/a.png")[0, 0].tolist() == [2, 2, 2]


def test_a_picture_may_be_a_link_but_never_a_path_out(bold: Path, tmp_path: Path) -> None:
    draw(tmp_path / "annex/object.png", (9, 8, 7))
    (tmp_path / "stimuli").mkdir()
    os.symlink(tmp_path / "annex/object.png", tmp_path / "stimuli/linked.png")
    run = bids_run(bold)
    assert run.picture("linked.png")[0, 0].tolist() == [9, 8, 7]
    for name in ("../annex/object.png", str(tmp_path / "annex/object.png"), "x/../../annex/object.png"):
        with pytest.raises(UserError, match="leaves the stimuli folder"):
            run.picture(name)


def test_missing_and_broken_pictures_are_named(bold: Path, tmp_path: Path) -> None:
    (tmp_path / "stimuli").mkdir()
    (tmp_path / "stimuli/empty.png").touch()
    (tmp_path / "stimuli/text.png").write_text("not a picture")
    run = bids_run(bold)
    with pytest.raises(UserError, match=r"gone\.png does not exist"):
        run.picture("gone.png")
    for name in ("empty.png", "text.png"):
        with pytest.raises(UserError, match=f"{name} is not a picture"):
            run.picture(name)


def test_runs_of_a_subject_come_in_order(tmp_path: Path) -> None:
    names = [f"sub-1/ses-{s}/func/sub-1_ses-{s}_task-a_run-{r}_bold.nii.gz" for s in (1, 2, 10) for r in (1, 2, 10)]
    for seed, name in enumerate(reversed(names)):
        write_bold(tmp_path / name, seed=seed)
    write_bold(tmp_path / "sub-10/func/sub-10_task-a_run-1_bold.nii.gz")
    for subject in ("1", "sub-1"):
        runs = bids_runs(tmp_path, subject)
        assert [(r.session, r.run) for r in runs] == [(s, r) for s in (1, 2, 10) for r in (1, 2, 10)]
        assert {r.subject for r in runs} == {"1"}
    with pytest.raises(UserError, match="subjects there are 1, 10;"):
        bids_runs(tmp_path, "2")
    (tmp_path / "sub-3").mkdir()
    with pytest.raises(UserError, match=r"holds no func/\*_bold"):
        bids_runs(tmp_path, "3")


def test_a_real_localizer_run_is_read_bit_for_bit() -> None:
    folder = recording("studyforrest_localizer")
    run = bids_run(folder / "sub-02_task-oneback_run-1_bold.nii.gz")
    assert (run.name, run.tr, run.shape, run.n_volumes) == (
        "sub-02_task-oneback_run-1",
        2.0,
        (80, 80, 35),
        156,
    )
    assert (len(run.events), len({e.picture for e in run.events})) == (192, 141)
    assert next(e.row for e in run.events if e.category == "scene") == 18
    image = nib.load(folder / "sub-02_task-oneback_run-1_bold.nii.gz", keep_file_open=True)
    for k, volume in enumerate(run.volumes()):
        if k % 50 == 0:
            np.testing.assert_array_equal(volume, image.dataobj[..., k])
    with pytest.raises(UserError, match="does not exist"):
        run.picture(run.events[0].picture)
