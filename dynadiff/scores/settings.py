"""The two ways in which the same ten metrics are published: how pictures are resized, and who a picture has to beat.

`DYNADIFF` is the release of Dynadiff, `MINDEYE` the evaluation of MindEye 1 and 2, which others copied. Scores of one
cannot be compared with scores of the other. Knows sizes and rounding; knows no network and no score.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.scores.resize import Filter, pillow_resize, tensor_resize

Pictures = NDArray[np.uint8] | NDArray[np.floating[Any]]  # (n, h, w, 3), uint8 or in [0, 1]
Rivals = Literal["reconstructions", "truths"]

SIDES = {"alexnet2": 224, "alexnet5": 224, "clip": 224, "inception": 224, "efficientnet": 224, "swav": 224}


@dataclass(frozen=True)
class Setting:
    """How one publication computes its metrics."""

    name: str
    rivals: Rivals  # in two-way identification: the other reconstructions of a truth, or the other truths of one
    efficientnet: Literal["V1", "V2"]  # which of torchvision's two sets of weights
    sides: Mapping[str, int]  # of the square that each network is shown, in pixels; no others are used
    rounded: bool  # pictures are uint8 throughout, truncated, and Pillow resizes them; else tensors, unrounded
    first: int | None = None  # side to which every picture is brought before all else
    compared: int = 425  # side at which pixels are compared

    def square(self, pictures: Pictures, side: int, how: Filter = "bilinear") -> NDArray[np.float64]:
        """Pictures as (n, side, side, 3) in [0, 1]. ``how`` is for Pillow; tensors are always resized bilinearly."""
        if self.rounded:
            whole = pictures if pictures.dtype == np.uint8 else np.asarray(pictures * 255, np.uint8)
            return pillow_resize(np.asarray(whole, np.uint8), side, how) / 255
        unit = pictures / 255 if pictures.dtype == np.uint8 else np.asarray(pictures, np.float64)
        return tensor_resize(tensor_resize(unit, self.first) if self.first else unit, side)

    def for_pixels(self, pictures: Pictures) -> NDArray[np.float64]:
        """Pictures as their pixels are compared."""
        return self.square(pictures, self.compared, "bicubic")

    def for_network(self, pictures: Pictures, judge: str) -> NDArray[np.float64]:
        """Pictures as that judge is shown them, before the normalisation that belongs to its weights."""
        return self.square(pictures, self.sides[judge], "bicubic" if judge in ("dreamsim", "miou") else "bilinear")


DYNADIFF = Setting("dynadiff", "reconstructions", "V1", {**SIDES, "dreamsim": 224, "miou": 512}, rounded=True)
MINDEYE = Setting(
    "mindeye", "truths", "V2",
    {**SIDES, "alexnet2": 256, "alexnet5": 256, "inception": 342, "efficientnet": 255}, rounded=False, first=256,
)  # fmt: skip
SETTINGS = {setting.name: setting for setting in (DYNADIFF, MINDEYE)}


def setting_named(name: str) -> Setting:
    """Raises UserError where there is none of that name."""
    if name not in SETTINGS:
        raise UserError(f"there is no setting {name!r} of the metrics: choose {' or '.join(SETTINGS)}")
    return SETTINGS[name]
