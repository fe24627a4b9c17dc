"""An NSD tree gives the runs, ids, pictures and masks that NSD's description promises, or says why not."""

from pathlib import Path

import cv2
import h5py
import nibabel as nib
import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray

from dynadiff.errors import UserError
from dynadiff.nifti import masked_series
from dynadiff.nsd import NSD, rows_of

SHAPES = {1: (5, 6, 4), 2: (4, 7, 3)}
N_IMAGES = 80
SHARED = (3, 8, 80)
Layout = dict[str, str]
OFFICIAL = {
    "func": "nsddata_timeseries/ppdata/subj{:02d}/func1pt8mm",
    "roi": "nsddata/ppdata/subj{:02d}/func1pt8mm/roi",
    "stimuli": "nsddata_stimuli/stimuli/nsd",
    "expdesign": "nsddata/experiments/nsd",
}
FLAT = {"func": "subj{:02d}/func1pt8mm", "roi": "subj{:02d}/func1pt8mm/roi", "stimuli": ".", "expdesign": "."}


def some_design(run: int) -> list[int]:
    """Rows 9 to 210 in steps of 3 with a blank now and then; ids run over 1 to N_IMAGES."""
    design = [0] * 225
    for trial, row in enumerate(range(9, 211, 3)):
        if (trial + run) % 11:
            design[row] = (7 * run + 13 * trial) % N_IMAGES + 1
    return design


def picture_of(image: int) -> NDArray[np.uint8]:
    picture = np.zeros((425, 425, 3), np.uint8)
    picture[:] = (image, 255 - image, 2 * image)
    picture[0, :image] = 255
    return picture


def write_run(
    func: Path,
    session: int,
    run: int,
    design: list[int] | None,
    shape: tuple[int, int, int],
    volumes: int = 226,
    tr: float = 4 / 3,
    dtype: str = "i2",
    order: str = "<",
) -> NDArray[np.generic]:
    for name in ("timeseries", "design"):
        (func / name).mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(100 * session + run).integers(500, 1500, (*shape, volumes)).astype(dtype)
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(data.dtype)
    header.set_data_shape(data.shape)
    image = nib.Nifti1Image(data, np.diag([1.8, 1.8, 1.8, 1]), header)
    image.header.set_zooms((1.8, 1.8, 1.8, tr))
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, func / "timeseries" / f"timeseries_session{session:02d}_run{run:02d}.nii.gz")
    if design is not None:
        text = "".join(f"{image}\n" for image in design)
        (func / "design" / f"design_session{session:02d}_run{run:02d}.tsv").write_text(text)
    return data


def nsdgeneral(shape: tuple[int, int, int]) -> NDArray[np.int16]:
    values = np.random.default_rng(5).integers(-1, 2, shape).astype(np.int16)
    assert {-1, 0, 1} == set(values.ravel().tolist())
    return values


def write_tree(root: Path, layout: Layout) -> Path:
    for subject, shape in SHAPES.items():
        func = root / layout["func"].format(subject)
        for run in (1, 2, 3):
            write_run(func, 1, run, some_design(run), shape)
        roi = root / layout["roi"].format(subject)
        roi.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(nsdgeneral(shape), np.diag([1.8, 1.8, 1.8, 1])), roi / "nsdgeneral.nii.gz")
    for key in ("stimuli", "expdesign"):
        (root / layout[key]).mkdir(parents=True, exist_ok=True)
    with h5py.File(root / layout["stimuli"] / "nsd_stimuli.hdf5", "w") as file:
        brick = file.create_dataset("imgBrick", (N_IMAGES, 425, 425, 3), "u1", chunks=(1, 425, 425, 3))
        for image in SHARED:
            brick[image - 1] = picture_of(image)
    scipy.io.savemat(
        root / layout["expdesign"] / "nsd_expdesign.mat",
        {"sharedix": np.array([SHARED], np.uint16), "masterordering": np.arange(1, 9)[None]},
    )
    return root


@pytest.fixture(scope="module", params=[OFFICIAL, FLAT], ids=["official", "flat"])
def tree(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("nsd"), request.param)


@pytest.fixture
def func(tmp_path: Path) -> Path:
    """The functional folder of subject 1 in a tree that holds nothing else yet."""
    return tmp_path / OFFICIAL["func"].format(1)


def test_subjects_sessions_and_runs_are_those_on_disk(tree: Path) -> None:
    nsd = NSD(tree)
    assert nsd.subjects() == (1, 2)
    assert nsd.sessions(1) == (1,)
    assert nsd.runs(2, 1) == (1, 2, 3)
    assert [nsd.task_ordinal(1, 1, run) for run in (1, 2, 3)] == [1, 2, 3]


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


@pytest.fixture
def long_session(func: Path, tmp_path: Path) -> Path:
    """Session 21 of 14 runs, resting state first and last; session 1 of 12."""
    for run in range(1, 13):
        write_run(func, 1, run, some_design(run), (2, 2, 2))
    for run in range(1, 15):
        write_run(func, 21, run, [0] * 225 if run in (1, 14) else some_design(run), (2, 2, 2))
    return tmp_path


def test_in_a_session_of_14_runs_the_task_runs_are_2_to_13(long_session: Path) -> None:
    nsd = NSD(long_session)
    assert nsd.sessions(1) == (1, 21)
    assert nsd.runs(1, 1) == tuple(range(1, 13))
    assert nsd.runs(1, 21) == tuple(range(2, 14))
    assert [nsd.task_ordinal(1, 21, run) for run in nsd.runs(1, 21)] == list(range(1, 13))
    assert nsd.run(1, 21, 13).name == "sub-01_ses-nsd21_task-nsdcore_run-13"
    with pytest.raises(UserError, match="resting state"):
        nsd.task_ordinal(1, 21, 14)


def test_a_resting_run_is_legal_and_shows_nothing(long_session: Path) -> None:
    run = NSD(long_session).run(1, 21, 14)
    assert run.events == ()
    assert run.name == "sub-01_ses-nsd21_task-rest_run-14"
    assert sum(1 for _ in run.volumes()) == 226


def test_missing_runs_never_shift_the_ordinal_of_the_others(long_session: Path, func: Path) -> None:
    def drop(session: int, run: int) -> None:
        (func / "timeseries" / f"timeseries_session{session:02d}_run{run:02d}.nii.gz").unlink()

    for run in (1, 2, 5):
        drop(21, run)
        drop(1, run)
    nsd = NSD(long_session)
    assert nsd.runs(1, 21) == (3, 4, 6, 7, 8, 9, 10, 11, 12, 13)
    assert [nsd.task_ordinal(1, 21, run) for run in (3, 6, 13)] == [2, 5, 12]
    assert [nsd.task_ordinal(1, 1, run) for run in (3, 6, 12)] == [3, 6, 12]
    for run in (13, 14):
        drop(21, run)
    assert NSD(long_session).task_ordinal(1, 21, 3) == 2


def test_the_ordinal_is_never_guessed(long_session: Path, func: Path) -> None:
    (func / "design" / "design_session21_run01.tsv").unlink()
    assert NSD(long_session).task_ordinal(1, 21, 3) == 2  # run 14 is there
    for run in (13, 14):
        (func / "timeseries" / f"timeseries_session21_run{run}.nii.gz").unlink()
    with pytest.raises(UserError, match=r"design_session21_run01\.tsv is missing"):
        NSD(long_session).task_ordinal(1, 21, 3)


def test_the_mask_is_what_lies_above_zero(tree: Path) -> None:
    for subject, shape in SHAPES.items():
        np.testing.assert_array_equal(NSD(tree).mask(subject), nsdgeneral(shape) == 1)


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


@pytest.mark.parametrize("image", SHARED)
def test_the_picture_of_an_id_lies_one_before_it_in_the_brick(tree: Path, image: int) -> None:
    nsd = NSD(tree)
    picture = nsd.picture(image)
    assert (picture.dtype.name, picture.shape) == ("uint8", (425, 425, 3))
    np.testing.assert_array_equal(picture, picture_of(image))
    np.testing.assert_array_equal(nsd.run(1, 1, 1).picture(str(image)), picture)


def test_an_extracted_png_is_named_one_less_than_its_id_and_is_rgb(func: Path, tmp_path: Path) -> None:
    write_run(func, 1, 1, some_design(1), SHAPES[1])
    (tmp_path / "nsd_stimuli").mkdir()
    for image in SHARED:
        bgr = np.ascontiguousarray(picture_of(image)[..., ::-1])
        assert cv2.imwrite(str(tmp_path / "nsd_stimuli" / f"{image - 1}.png"), bgr)
    nsd = NSD(tmp_path)
    for image in SHARED:
        np.testing.assert_array_equal(nsd.picture(image), picture_of(image))
    with pytest.raises(UserError, match=r"4\.png does not exist"):
        nsd.picture(5)


@pytest.mark.parametrize("chunks", [None, (4, 5, 5, 3), (1, 2, 2, 1)])
def test_any_storage_of_the_brick_is_read(func: Path, tmp_path: Path, chunks: tuple[int, int, int, int] | None) -> None:
    write_run(func, 1, 1, some_design(1), SHAPES[1])
    pictures = np.random.default_rng(3).integers(0, 256, (10, 5, 5, 3)).astype(np.uint8)
    with h5py.File(tmp_path / "nsd_stimuli.hdf5", "w") as file:
        file.create_dataset("imgBrick", data=pictures, chunks=chunks)
    for image in range(1, 11):
        np.testing.assert_array_equal(NSD(tmp_path).picture(image), pictures[image - 1])


def test_ids_without_a_picture_are_refused(tree: Path) -> None:
    nsd = NSD(tree)
    for image in (0, -1, 73_001):
        with pytest.raises(UserError, match="ids go from 1 to 73000"):
            nsd.picture(image)
    with pytest.raises(UserError, match="pictures 1 to 80 and not 81"):
        nsd.picture(81)
    with pytest.raises(UserError, match="picture 5 was never written"):
        nsd.picture(5)
    with pytest.raises(UserError, match="73k id"):
        nsd.run(1, 1, 1).picture("face.png")


def test_the_shared_ids_are_one_based_and_make_the_test_set(tree: Path) -> None:
    nsd = NSD(tree)
    assert nsd.shared_ids() == frozenset(SHARED)
    assert [image for image in range(1, 82) if nsd.is_test(image)] == list(SHARED)


def test_extracted_test_ids_stand_in_for_the_design_file(func: Path, tmp_path: Path) -> None:
    write_run(func, 1, 1, some_design(1), SHAPES[1])
    with pytest.raises(UserError, match=r"test_images_ids\.npy"):
        NSD(tmp_path).shared_ids()
    np.save(tmp_path / "test_images_ids.npy", np.array(SHARED, np.uint16))
    assert NSD(tmp_path).shared_ids() == frozenset(SHARED)


class Trap:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def test_extracted_test_ids_are_never_unpickled(func: Path, tmp_path: Path) -> None:
    write_run(func, 1, 1, some_design(1), SHAPES[1])
    np.save(tmp_path / "test_images_ids.npy", np.array([Trap(tmp_path / "mark")], object), allow_pickle=True)
    with pytest.raises(UserError, match="sharedix"):
        NSD(tmp_path).shared_ids()
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("content", [b"", b"MATLAB 7.3 MAT-file", b"\0" * 600])
def test_broken_design_and_stimuli_files_are_named(func: Path, tmp_path: Path, content: bytes) -> None:
    write_run(func, 1, 1, some_design(1), SHAPES[1])
    (tmp_path / "nsd_expdesign.mat").write_bytes(content)
    (tmp_path / "nsd_stimuli.hdf5").write_bytes(content)
    with pytest.raises(UserError, match="sharedix"):
        NSD(tmp_path).shared_ids()
    with pytest.raises(UserError, match="imgBrick"):
        NSD(tmp_path).picture(1)


def test_a_design_file_without_shared_ids_and_a_brick_that_is_none_are_named(func: Path, tmp_path: Path) -> None:
    write_run(func, 1, 1, some_design(1), SHAPES[1])
    scipy.io.savemat(tmp_path / "nsd_expdesign.mat", {"basiccnt": 1})
    with h5py.File(tmp_path / "nsd_stimuli.hdf5", "w") as file:
        file["imgBrick"] = np.zeros((4, 5, 5, 3), np.float32)
    with pytest.raises(UserError, match="sharedix"):
        NSD(tmp_path).shared_ids()
    with pytest.raises(UserError, match="not uint8 RGB"):
        NSD(tmp_path).picture(1)


def test_categories_come_from_the_table_of_a_synthetic_tree(func: Path, tmp_path: Path) -> None:
    write_run(func, 1, 1, some_design(1), SHAPES[1])
    assert NSD(tmp_path).category(8) == ""
    table = tmp_path / "nsddata/experiments/nsd/phantom_categories.tsv"
    table.parent.mkdir(parents=True)
    table.write_text("id\tcategory\n" + "".join(f"{i}\tkind {i % 5}\n" for i in range(1, N_IMAGES + 1)))
    nsd = NSD(tmp_path)
    assert nsd.category(8) == "kind 3"
    assert all(e.category == f"kind {int(e.picture) % 5}" for e in nsd.run(1, 1, 1).events)
    table.write_text("number\tname\n1\tcat\n")
    with pytest.raises(UserError, match="phantom_categories"):
        NSD(tmp_path).category(1)


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


def test_a_wrong_choice_is_answered_with_what_there_is(tree: Path) -> None:
    nsd = NSD(tree)
    with pytest.raises(UserError, match=r"subject 3 is not in .*: subjects there are 1-2; choose one with --subject"):
        nsd.run(3, 1, 1)
    with pytest.raises(UserError, match=r"session 2 of subject 1 .*: sessions there are 1; choose one with --session"):
        nsd.run(1, 2, 1)
    with pytest.raises(UserError, match=r"run 13 of session 1 .*: task runs there are 1-3; choose one with --run"):
        nsd.run(1, 1, 13)


def test_gaps_are_shown_in_the_answer(func: Path, tmp_path: Path) -> None:
    for run in (1, 2, 3, 6, 8, 9):
        write_run(func, 1, run, some_design(run), (2, 2, 2))
    with pytest.raises(UserError, match="task runs there are 1-3, 6, 8-9;"):
        NSD(tmp_path).run(1, 1, 4)


def test_without_nsd_the_user_learns_how_to_get_it_or_do_without(tmp_path: Path) -> None:
    for root in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError, match=r"naturalscenesdataset\.org.*realtime phantom --root DIR"):
            NSD(root)


def test_a_subject_without_runs_is_named(func: Path, tmp_path: Path) -> None:
    (func / "timeseries").mkdir(parents=True)
    (func / "timeseries" / "._timeseries_session01_run01.nii.gz").touch()
    with pytest.raises(UserError, match="holds no timeseries_sessionBB_runCC"):
        NSD(tmp_path).sessions(1)
