"""Pictures go out in the layout that the release's script reads, and its label maps come back, each to its picture."""

import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from dynadiff.base.errors import UserError
from dynadiff.scores.judges.segmentation import Segmentation
from dynadiff.scores.resize import pillow_resize
from dynadiff.scores.settings import DYNADIFF, MINDEYE

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)


def segmented(folder: Path, which: slice = slice(None)) -> list[Path]:
    """What stands in for the release's script: a map under the name of each picture, of its green in eight classes."""
    made = []
    for path in sorted((folder / "images").glob("*.png"))[which]:
        green = cv2.imread(str(path))[..., 1]
        assert cv2.imwrite(str(folder / "pred_label" / path.name), green // 32)  # into a folder that is there
        made.append(folder / "pred_label" / path.name)
    return made


def filled(folder: Path) -> Path:
    assert Segmentation(folder, DYNADIFF)(PICTURES) is None
    return folder


def test_pictures_are_put_out_once_as_the_release_resizes_them(tmp_path: Path) -> None:
    first = Segmentation(tmp_path, DYNADIFF)
    assert first(PICTURES) is None
    assert first(PICTURES[[0, 0, 1]]) is None  # the same pictures again
    assert f"3 pictures in {tmp_path / 'images'} have no label map yet" in first.lacking
    assert f"segment_vitadapter.sh {tmp_path} in its environment" in first.lacking
    assert first.files == {}
    out = [cv2.imread(str(path))[..., ::-1] for path in (tmp_path / "images").iterdir()]
    squares = pillow_resize(PICTURES, 512, "bicubic")
    assert sorted(map(bytes, map(np.ascontiguousarray, out))) == sorted(map(bytes, squares))
    assert list((tmp_path / "pred_label").iterdir()) == []


def test_one_of_several_processes_writes(tmp_path: Path) -> None:
    other = Segmentation(tmp_path / "new", DYNADIFF, write=False)
    assert other(PICTURES) is None
    assert "3 pictures" in other.lacking
    assert not (tmp_path / "new").exists()


def test_maps_come_back_to_their_pictures_in_any_order(tmp_path: Path) -> None:
    segmented(filled(tmp_path))
    again = Segmentation(tmp_path, DYNADIFF)
    maps = again(PICTURES[[2, 0, 2]])
    for trial, which in enumerate((2, 0, 2)):
        assert np.array_equal(maps(trial), pillow_resize(PICTURES[which : which + 1], 512, "bicubic")[0, ..., 1] // 32)
    assert again.lacking is None


def test_what_was_read_has_a_digest_that_a_command_gives(tmp_path: Path) -> None:
    segmented(filled(tmp_path))
    again = Segmentation(tmp_path, DYNADIFF)
    again(PICTURES)
    command = "LC_ALL=C sha256sum pred_label/* | sha256sum"
    said = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert again.files == {"pred_label/*": said.split()[0]}
    few = Segmentation(tmp_path, DYNADIFF)
    few(PICTURES[:1])
    assert few.files.keys() == again.files.keys()
    assert few.files != again.files


def test_pictures_of_another_decoder_are_added_and_named(tmp_path: Path) -> None:
    segmented(filled(tmp_path))
    again = Segmentation(tmp_path, DYNADIFF)
    assert again(PICTURES) is not None
    assert again(255 - PICTURES) is None
    assert "3 pictures" in again.lacking
    assert len(list((tmp_path / "images").iterdir())) == 6


@pytest.mark.parametrize("how", ["few", "others", "cut short", "empty", "flipped", "colours", "small", "class", "deep"])
def test_maps_that_are_not_those_of_the_pictures_are_one_sentence(how: str, tmp_path: Path) -> None:
    made = segmented(filled(tmp_path), slice(2) if how == "few" else slice(None))
    path, said = made[0], "is no label map of 512×512 numbers below 172"
    whole = path.read_bytes()
    if how == "few":
        said = "has maps of 2 of 3 pictures, and none of"
    elif how == "others":
        path.rename(path.with_name("gt_0.png"))
        said = "has gt_0.png, a map of no picture in"
    elif how in ("cut short", "empty"):
        path.write_bytes(whole[: len(whole) // 2] if how == "cut short" else b"")
        said = "is cut short"
    elif how == "flipped":
        path.write_bytes(whole[:100] + bytes(b ^ 255 for b in whole[100:400]) + whole[400:])
    else:
        wrong = {
            "colours": np.zeros((512, 512, 3), np.uint8), "small": np.zeros((256, 256), np.uint8),
            "class": np.full((512, 512), 172, np.uint8), "deep": np.zeros((512, 512), np.uint16),
        }  # fmt: skip
        cv2.imwrite(str(path), wrong[how])
    with pytest.raises(UserError, match=said) as error:
        Segmentation(tmp_path, DYNADIFF)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_setting_without_miou_has_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mIoU is no metric of the setting mindeye: leave --segmentation out"):
        Segmentation(tmp_path, MINDEYE)
