"""mIoU's label maps, which the release's segmentation makes in an environment of its own: pictures out, maps back.

Its script takes a folder, reads the pictures in ``images/`` and writes a map under the same name into ``pred_label/``.
A picture's name is the digest of its pixels, so a map can be taken for that of no other picture, whichever decoder,
seed or model it came from. Knows files and their names; knows no score.
"""

import hashlib
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.base.files import atomic
from dynadiff.scores.pairs import Labels
from dynadiff.scores.settings import Pictures, Setting
from dynadiff.scores.ten import Maps

IMAGES, MAPS = "images", "pred_label"
SCRIPT = "metrics/mIOU/segment_vitadapter.sh"
CLASSES = 172  # of COCO-Stuff
END = b"IEND\xaeB`\x82"  # of every whole PNG


class Segmentation:
    """Label maps from a folder, and the pictures that still need one put there: a `dynadiff.scores.ten.Segment`."""

    def __init__(self, folder: Path, setting: Setting, write: bool = True) -> None:
        """``write``: pictures are put there; of several processes one does.

        Raises UserError where the setting has no mIoU, or maps there are damaged, of other pictures, or not all.
        """
        if "miou" not in setting.sides:
            raise UserError(f"mIoU is no metric of the setting {setting.name}: leave --segmentation out")
        self._folder, self._setting, self._write = folder, setting, write
        self._digests = {path.stem: self._digest(path) for path in sorted((folder / MAPS).glob("*.png"))}
        self._used, self._lacking = set[str](), set[str]()
        self._check_names({path.stem for path in (folder / IMAGES).glob("*.png")})

    def __call__(self, pictures: Pictures) -> Maps | None:
        """The label map of each picture (n, h, w, 3) by its place; None where one is lacking."""
        names = [self._named(pictures[k : k + 1]) for k in range(len(pictures))]
        if lacking := set(names) - self._digests.keys():
            self._lacking |= lacking
            return None
        self._used |= set(names)
        return partial(self._map_of, names)

    @property
    def files(self) -> dict[str, str]:
        """What was read: the sha256 of what `sha256sum` says of all maps, in the order of their names."""
        lines = [f"{self._digests[name]}  {MAPS}/{name}.png\n" for name in sorted(self._used)]
        return {f"{MAPS}/*": hashlib.sha256("".join(lines).encode()).hexdigest()} if lines else {}

    @property
    def lacking(self) -> str | None:
        """What is to be done to have the maps that are lacking, if any are."""
        if not self._lacking:
            return None
        return (
            f"mIoU: {len(self._lacking)} pictures in {self._folder / IMAGES} have no label map yet: run the release's "
            f"{SCRIPT} {self._folder} in its environment, then this again"
        )

    def _named(self, picture: Pictures) -> str:
        square = np.rint(self._setting.for_network(picture, "miou")[0] * 255).astype(np.uint8)
        name = blake3(square.tobytes()).hexdigest(16)
        path = self._folder / IMAGES / f"{name}.png"
        if self._write and not path.exists():
            (self._folder / MAPS).mkdir(parents=True, exist_ok=True)  # the script does not make it
            with atomic(path, durable=False) as new:
                new.write_bytes(cv2.imencode(".png", square[..., ::-1])[1].tobytes())
        return name

    def _map_of(self, names: list[str], trial: int) -> Labels:
        return self._read(self._folder / MAPS / f"{names[trial]}.png")

    def _digest(self, path: Path) -> str:
        self._read(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def _read(self, path: Path) -> Labels:
        raw, side = path.read_bytes(), self._setting.sides["miou"]
        if not raw.endswith(END):
            raise UserError(f"{path} is cut short: remove it and run the segmentation of {self._folder} again")
        found = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED)
        if found is None or found.shape != (side, side) or found.dtype != np.uint8 or found.max() >= CLASSES:
            raise UserError(
                f"{path} is no label map of {side}×{side} numbers below {CLASSES}: remove it and run the segmentation "
                f"of {self._folder} again"
            )
        labels: NDArray[np.uint8] = np.asarray(found, np.uint8)
        return labels

    def _check_names(self, pictures: set[str]) -> None:
        maps, where = self._digests.keys(), self._folder / MAPS
        if foreign := sorted(maps - pictures):
            raise UserError(
                f"{where} has {foreign[0]}.png, a map of no picture in {self._folder / IMAGES}: give the folder that "
                "dynadiff evaluate filled, with the maps of its own pictures"
            )
        if maps and (left := sorted(pictures - maps)):
            raise UserError(
                f"{where} has maps of {len(maps)} of {len(pictures)} pictures, and none of {left[0]}.png: run the "
                f"segmentation of {self._folder} to its end"
            )
