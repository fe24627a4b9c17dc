"""An NSD tree gives the pictures, the shared ids and the categories that its ids promise, or says why not."""

from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import scipy.io

from dynadiff.base.errors import UserError
from dynadiff.recordings.nsd import NSD
from support.nsd_tree import N_IMAGES, SHAPES, SHARED, picture_of, some_design, write_run


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
