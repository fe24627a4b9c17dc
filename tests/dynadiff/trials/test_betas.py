"""Betas from a file are standardised by the training trials alone, and what cannot be learned from is one sentence."""

from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("torch")
from dynadiff.base.errors import UserError
from dynadiff.recordings.nsd import NSD
from dynadiff.trials.betas import CLIP, checked, load_betas, nsd_betas, resized, standardised


def arrays(n: int = 12, voxels: int = 5) -> dict[str, np.ndarray]:
    """Four pictures, three trials each, the last two for the test."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (4, 6, 6, 3), np.uint8)
    seen = np.arange(n) % 4
    split = np.where(seen >= 2, "test", "train")
    return {"betas": rng.normal(3, 2, (n, voxels)), "images": pictures[seen], "split": split}


def written(path: Path, **changes: object) -> Path:
    np.savez(path, **(arrays() | changes))
    return path


def test_a_file_gives_trials_of_both_splits(tmp_path: Path) -> None:
    known = arrays()
    betas = load_betas(written(tmp_path / "b.npz"))
    learn, test = betas.trials(False, 6), betas.trials(True, 6)
    assert (len(learn), len(test), len(learn.pictures), len(test.pictures)) == (6, 6, 2, 2)
    assert learn.offline.shape == (6, 5, 1)
    assert np.array_equal(learn.pictures[learn.seen], known["images"][known["split"] == "train"])
    assert np.array_equal(test.pictures[test.seen], known["images"][known["split"] == "test"])
    assert not set(learn.names) & set(test.names)
    assert np.array_equal(learn.runs, learn.seen)  # so that ridge holds pictures out, not trials


def test_only_training_trials_standardise() -> None:
    known = arrays()
    train = known["split"] == "train"
    z = standardised(known["betas"], train)
    np.testing.assert_allclose(z[train].mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(z[train].std(axis=0), 1, atol=1e-6)
    moved = known["betas"] + 1000 * ~train[:, None]
    np.testing.assert_array_equal(standardised(moved, train)[train], z[train])
    assert standardised(moved, train).max() == CLIP
    still = np.where(np.arange(5) == 2, 7.0, known["betas"])
    assert np.array_equal(standardised(still, train)[:, 2], np.zeros(12))


@pytest.mark.parametrize("kind", ["grey", "bool", "unit"])
def test_images_may_be_grey_or_between_0_and_1(kind: str) -> None:
    known = arrays()
    grey = np.where(known["images"][..., 0] > 127, 255, 0).astype(np.uint8)
    images = {"grey": grey, "bool": grey > 0, "unit": grey / 255.0}[kind]
    betas = checked(known["betas"], images, known["split"], "here")
    assert np.array_equal(betas.pictures[betas.seen], np.repeat(grey[..., None], 3, axis=3))


def test_pictures_shrink_by_averaging_and_grow_by_repeating() -> None:
    dots = np.zeros((2, 2, 3), np.uint8)
    dots[0, 0] = 200
    assert np.array_equal(resized(dots, 4), np.kron(dots, np.ones((2, 2, 1), np.uint8)))
    assert np.array_equal(resized(dots, 1), np.full((1, 1, 3), 50, np.uint8))


KNOWN = arrays()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"betas": KNOWN["betas"][:, 0]}, r"\(trials, voxels\)"),
        ({"betas": np.full((12, 5), "x")}, "give real numbers"),
        ({"betas": np.full((12, 5), 1j)}, "give real numbers"),
        ({"betas": np.array(3.0)}, "give real numbers"),
        ({"images": np.full((12, 6, 6), "x")}, "give numbers"),
        ({"images": np.array(3.0)}, "give numbers"),
        ({"split": np.array("test")}, "12 betas, 12 images and 1 splits"),
        ({"images": KNOWN["images"][np.where(np.arange(12) % 4 == 3, 2, np.arange(12))]}, "test trials .* show one"),
        ({"betas": np.where(np.arange(12)[:, None] == 4, np.nan, KNOWN["betas"])}, "trial 4 .* not all finite"),
        ({"betas": KNOWN["betas"][:11]}, "11 betas, 12 images and 12 splits"),
        ({"images": KNOWN["images"][:11]}, "12 betas, 11 images"),
        ({"images": KNOWN["images"][..., :2]}, r"\(trials, h, w\)"),
        ({"images": KNOWN["images"] * 2.0}, "outside 0 to 1"),
        ({"split": np.full(12, "train")}, "no trial .* of the test split"),
        ({"split": np.where(np.arange(12) == 2, "valid", KNOWN["split"])}, "has 'valid'"),
        ({"split": np.where(np.arange(12) < 6, "train", "test")}, "trials 2 and 6 .* show one picture"),
        ({"split": np.array(KNOWN["split"], object)}, "no npz of numbers and words"),
    ],
)
def test_what_cannot_be_learned_from_is_one_sentence(changes: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said) as told:
        load_betas(written(tmp_path / "b.npz", **changes))
    assert "\n" not in str(told.value)


def test_a_file_that_is_no_npz_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "noise.npz").write_bytes(b"noise")
    np.savez(tmp_path / "less.npz", betas=KNOWN["betas"])
    np.save(tmp_path / "array.npy", KNOWN["betas"])
    (tmp_path / "half.npz").write_bytes((tmp_path / "less.npz").read_bytes()[:100])
    said = {
        "noise.npz": "no npz of numbers and words", "array.npy": "no npz of numbers and words",
        "half.npz": "no npz of numbers and words", "less.npz": "lacks images and split, it holds betas: write",
        "none.npz": "does not exist: give an npz of betas",
    }  # fmt: skip
    for name, sentence in said.items():
        with pytest.raises(UserError, match=sentence) as told:
            load_betas(tmp_path / name)
        assert "\n" not in str(told.value)


@pytest.fixture(scope="module")
def tree(phantom_of) -> NSD:
    return NSD(phantom_of([1], [1], [1, 2]))


def write_nsd(nsd: NSD, folder: Path, kind: str, trials: int = 125) -> np.ndarray:
    """Betas of session 1, stored as NSD does: integers, axes reversed in HDF5."""
    brick = np.random.default_rng(0).integers(-900, 900, (*nsd.mask(1).shape, trials)).astype(np.int16)
    folder.mkdir()
    if kind == "hdf5":
        with h5py.File(folder / "betas_session01.hdf5", "w") as file:
            file["betas"] = brick.transpose(3, 2, 1, 0)
    else:
        nib.save(nib.Nifti1Image(brick, np.eye(4)), folder / "betas_session01.nii.gz")
    return brick[nsd.mask(1)].T / 300


@pytest.mark.parametrize("kind", ["nii.gz", "hdf5"])
def test_nsds_own_betas_meet_the_pictures_of_the_designs(kind: str, tree: NSD, tmp_path: Path) -> None:
    percent = write_nsd(tree, tmp_path / "betas", kind)
    betas = nsd_betas(tree, 1, tmp_path / "betas", 16)
    shown = [e.picture for r in (1, 2) for e in tree.run(1, 1, r).events]
    assert [betas.names[k] for k in betas.seen] == shown
    assert betas.test.tolist() == [tree.is_test(int(name)) for name in shown]
    assert 0 < betas.test.sum() < 125
    np.testing.assert_allclose(betas.values, standardised(percent, ~betas.test), atol=1e-5)
    assert betas.pictures.shape[1:] == (16, 16, 3)


def test_other_betas_are_one_sentence(tree: NSD, tmp_path: Path) -> None:
    write_nsd(tree, tmp_path / "more", "hdf5", 126)
    with pytest.raises(UserError, match="126 betas, the designs of session 1 125 trials"):
        nsd_betas(tree, 1, tmp_path / "more", 16)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "betas_session01.nii.gz").write_bytes(b"noise")
    with pytest.raises(UserError, match="cannot be read"):
        nsd_betas(tree, 1, tmp_path / "damaged", 16)
    for empty in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="holds no betas_session"):
            nsd_betas(tree, 1, empty, 16)
    (tmp_path / "grid").mkdir()
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5, 125), np.int16), np.eye(4)), tmp_path / "grid/betas_session01.nii.gz")
    with pytest.raises(UserError, match=r"\(3, 4, 5, 125\) and nsdgeneral"):
        nsd_betas(tree, 1, tmp_path / "grid", 16)
