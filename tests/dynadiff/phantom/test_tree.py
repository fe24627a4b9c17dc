"""A phantom tree is laid out as NSD is, and writing it may stop and go on at any point."""

import csv
import hashlib
import multiprocessing
import os
import shutil
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from scipy.io import loadmat

from dynadiff.base.errors import UserError
from dynadiff.phantom.design import design
from dynadiff.phantom.scenes import draw, scene
from dynadiff.phantom.subject import Phantom
from dynadiff.phantom.tree import STIMULI, cache_root, ensure_phantom, stored_ids, write_tree
from dynadiff.recordings.nsd import NSD

SMALL = {1: (12, 14, 10), 2: (13, 13, 11)}
PREPARED = "nsddata_timeseries/ppdata/subj01/func1pt8mm"
SERIES = f"{PREPARED}/timeseries/timeseries_session01_run01.nii.gz"
TABLE = f"{PREPARED}/design/design_session01_run01.tsv"
REGION = "nsddata/ppdata/subj01/func1pt8mm/roi/nsdgeneral.nii.gz"
EXPERIMENT = "nsddata/experiments/nsd"


def write(root: Path, subjects: list[int], sessions: list[int], runs: list[int], seed: int = 0) -> None:
    write_tree(root, subjects, sessions, runs, seed, shapes=SMALL)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom")
    write(root, [1, 2], [1], [1, 2])
    return root


@pytest.fixture
def begun(tree: Path, tmp_path: Path) -> Path:
    """A folder that has what depends on no run, which takes as long to write as a run, and which a writer keeps."""
    for name in ("phantom.json", f"{EXPERIMENT}/nsd_stim_info_merged.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(tree / name, tmp_path / name)
    return tmp_path


def digests(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_series_are_the_phantoms_int16_volumes_every_4_3_s(tree: Path) -> None:
    image = nib.load(tree / SERIES)
    assert image.shape == (12, 14, 10, 226)
    assert image.get_data_dtype() == np.int16
    assert image.header.get_zooms() == pytest.approx((1.8, 1.8, 1.8, 4 / 3))
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    assert image.affine @ [5.5, 6.5, 4.5, 1] == pytest.approx([0, 0, 0, 1], abs=1e-5)
    assert np.array_equal(np.asarray(image.dataobj), Phantom(1, shape=SMALL[1]).run(1, 1))


def test_nsdgeneral_has_three_values_and_the_brain_is_what_is_not_zero(tree: Path) -> None:
    region = np.asarray(nib.load(tree / REGION).dataobj)
    assert set(np.unique(region)) == {-1, 0, 1}
    brain = np.asarray(nib.load(tree / "nsddata/ppdata/subj01/func1pt8mm/brainmask.nii.gz").dataobj)
    volume = np.asarray(nib.load(tree / SERIES).dataobj[..., 0])
    assert np.array_equal(brain > 0, volume != 0)
    assert (brain[region > 0] == 1).all()


def test_design_pictures_and_categories_agree_on_ids(tree: Path) -> None:
    rows = np.loadtxt(tree / TABLE, dtype=int)
    assert np.array_equal(rows, design().rows(1, 1, 1))
    with h5py.File(tree / STIMULI) as file:
        bricks = file["imgBrick"]
        assert bricks.shape == (73_000, 425, 425, 3)
        assert bricks.dtype == np.uint8
        number = int(rows[rows > 0][0])
        assert np.array_equal(bricks[number - 1], draw(scene(number), 425)[0])  # the index counts from 0
        unused = next(n for n in range(1, 73_001) if n not in stored_ids(tree / STIMULI))
        assert not bricks[unused - 1].any()
    shown = {int(n) for s in (1, 2) for r in (1, 2) for n in design().rows(s, 1, r) if n}
    assert stored_ids(tree / STIMULI) == shown
    with (tree / EXPERIMENT / "phantom_categories.tsv").open() as file:
        named = {int(line["id"]): line["category"] for line in csv.DictReader(file, delimiter="\t")}
    assert named == {number: scene(number).category for number in shown}


def test_expdesign_holds_the_identity_of_ids_and_order(tree: Path) -> None:
    found = loadmat(tree / EXPERIMENT / "nsd_expdesign.mat")
    assert found["stimpattern"].shape == (40, 12, 75)
    assert found["basiccnt"].shape == (3, 40)
    assert np.array_equal(found["sharedix"][0], found["subjectim"][7, :1000])
    second = np.loadtxt(tree / TABLE.replace("run01", "run02"), dtype=int)
    order = found["masterordering"][0, 63:125].astype(int)
    assert np.array_equal(second[second > 0], found["subjectim"][0, order - 1])


def test_stimulus_table_finds_the_trials_of_an_image(tree: Path) -> None:
    with (tree / EXPERIMENT / "nsd_stim_info_merged.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 73_000
    first = int(design().rows(2, 1, 1)[design().rows(2, 1, 1) > 0][0])
    line = lines[first - 1]
    assert int(line["nsdId"]) == first - 1
    assert line["subject2_rep0"] == "1"  # the first trial of all
    assert sum(line["shared1000"] == "True" for line in lines) == 1000
    assert sum(int(line["subject5"]) for line in lines) == 10_000


def test_the_reader_of_nsd_reads_it(tree: Path) -> None:
    nsd = NSD(tree)
    run = nsd.run(2, 1, 2)
    assert nsd.subjects() == (1, 2)
    assert (len(run.events), run.n_volumes, run.shape) == (62, 226, SMALL[2])
    assert run.events[0].category == scene(int(run.events[0].picture)).category
    assert run.picture(run.events[0].picture).shape == (425, 425, 3)
    assert "synthetic" in (tree / "README.txt").read_text()


def test_sessions_of_14_runs_have_resting_runs_of_zeros(begun: Path) -> None:
    write(begun, [1], [21], [1, 12])
    names = sorted(path.name for path in (begun / PREPARED / "timeseries").iterdir())
    assert names == [f"timeseries_session21_run{run:02}.nii.gz" for run in (1, 2, 13, 14)]
    for run, expected in ((1, 0), (2, 63), (13, 62), (14, 0)):
        table = np.loadtxt(begun / PREPARED / f"design/design_session21_run{run:02}.tsv", dtype=int)
        assert (table > 0).sum() == expected


def test_complete_files_are_kept_and_missing_ones_come_back_the_same(tmp_path: Path) -> None:
    write(tmp_path, [1], [1], [1])
    before = digests(tmp_path)
    kept = (tmp_path / TABLE).stat().st_mtime_ns
    for lost in (SERIES, REGION, f"{EXPERIMENT}/phantom_categories.tsv", STIMULI):
        (tmp_path / lost).unlink()
        write(tmp_path, [1], [1], [1])
        assert digests(tmp_path) == before
    assert (tmp_path / TABLE).stat().st_mtime_ns == kept


def test_a_writer_that_stopped_anywhere_is_followed_by_one_that_finishes(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    write(whole, [1], [1], [1, 2])

    class Stopped(Exception):
        pass

    for limit in (3, 100, 127):

        def stop(done: int, total: int, name: str, at: int = limit) -> None:
            if done >= at or (at == 127 and name.endswith("run 1")):
                raise Stopped

        with pytest.raises(Stopped):
            write_tree(broken, [1], [1], [1, 2], progress=stop, shapes=SMALL)
        assert not list(broken.rglob(".*"))
    write(broken, [1], [1], [1, 2])
    same = {name: digest for name, digest in digests(whole).items() if not name.endswith(".mat")}
    assert {name: digests(broken)[name] for name in same} == same  # a .mat file carries the time of writing


def test_later_sessions_add_pictures_and_keep_the_old(begun: Path) -> None:
    write(begun, [1], [1], [1])
    before = stored_ids(begun / STIMULI)
    write(begun, [1], [2], [1])
    after = stored_ids(begun / STIMULI)
    second = design().rows(1, 2, 1)
    assert after == before | set(second[second > 0].tolist())
    with h5py.File(begun / STIMULI) as file:
        assert all(file["imgBrick"][number - 1].any() for number in sorted(after)[::10])


def test_a_tree_whose_first_writer_died_over_its_first_file_is_still_a_tree(tmp_path: Path) -> None:
    (tmp_path / ".123.phantom.json").write_text("{")
    write(tmp_path, [1], [1], [1])
    assert not list(tmp_path.rglob(".*"))


def test_two_writers_at_once_lose_no_picture(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write, args=(tmp_path, [1], [1], [run])) for run in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    shown = {int(n) for r in (1, 2) for n in design().rows(1, 1, r) if n}
    assert stored_ids(tmp_path / STIMULI) == shown


@pytest.mark.parametrize(
    ("subjects", "sessions", "runs", "seed", "word"),
    [
        ([9], [1], [1], 0, "subject 9"),
        ([1], [41], [1], 0, "session 41"),
        ([3], [33], [1], 0, "session 33"),
        ([1], [0], [1], 0, "session 0"),
        ([1], [1], [13], 0, "run 13"),
        ([1], [1], [], 0, "at least"),
        ([1], [1], [1], -1, "seed"),
    ],
)
def test_what_nsd_has_not_is_refused_before_anything_is_written(
    tmp_path: Path, subjects: list[int], sessions: list[int], runs: list[int], seed: int, word: str
) -> None:
    with pytest.raises(UserError, match=word):
        write_tree(tmp_path / "new", subjects, sessions, runs, seed, shapes=SMALL)
    assert not (tmp_path / "new").exists()


def test_a_null_tree_says_so_and_no_picture_moves_its_volumes(tree: Path, tmp_path: Path) -> None:
    write_tree(tmp_path / "null", [1], [1], [1], shapes=SMALL, null=True)
    quiet = Phantom(1, shape=SMALL[1], response=0.0).run(1, 1)
    assert np.array_equal(np.asarray(nib.load(tmp_path / "null" / SERIES).dataobj), quiet)
    assert not np.array_equal(np.asarray(nib.load(tree / SERIES).dataobj), quiet)
    assert "null phantom" in (tmp_path / "null" / "README.txt").read_text()


def test_another_kind_seed_or_shape_needs_another_folder(tree: Path) -> None:
    for other in ({"seed": 3}, {"null": True}):
        with pytest.raises(UserError, match="another kind, seed or version"):
            write_tree(tree, [1], [1], [1], shapes=SMALL, **other)
    with pytest.raises(UserError, match="another folder"):
        write_tree(tree, [1], [1], [3], shapes={1: (10, 10, 10)})


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="something else"):
        write(tmp_path, [1], [1], [1])
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path / "file" / "tree", [1], [1], [1])
    with pytest.raises(UserError, match="no stimulus file"):
        stored_ids(tmp_path / "file")


def test_cache_is_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root().parent == tmp_path / "dynadiff-realtime"
    root = ensure_phantom(1, [1], [2])
    assert root == cache_root()
    assert nib.load(root / SERIES.replace("run01", "run02")).shape == (24, 28, 20, 226)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", os.sep + "home-of-nobody")
    assert cache_root().parent.parent == Path("/home-of-nobody/.cache")
