"""What is true of scenes, as their drawings say: category, what is where, hues. Knows scenes; knows no judge."""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from dynadiff.phantom.objects import Colour
from dynadiff.phantom.scenes import CATEGORIES, Scene, draw, scene
from dynadiff.scores.scenes import Shown

DRAWN, MAP = 64, 32  # pixels of the drawing, and of the map of what is where


def truth(numbers: Sequence[int]) -> Shown:
    """Of the scenes of these numbers."""
    scenes = [scene(number) for number in numbers]
    return Shown(
        category=np.array([CATEGORIES.index(one.category) for one in scenes], np.int64),
        classes=np.stack([class_map(one) for one in scenes]),
        hues=np.array([[hue(one.colour), hue(one.ground[0])] for one in scenes]),
    )


def class_map(one: Scene) -> NDArray[np.uint8]:
    """What is where, (32, 32): 1 + the number of the category where most of a place is object, else 0."""
    mask = draw(one, DRAWN)[1].astype(np.float32)
    small = cv2.resize(mask, (MAP, MAP), interpolation=cv2.INTER_AREA) > 0.5
    return np.where(small, 1 + CATEGORIES.index(one.category), 0).astype(np.uint8)


def hue(colour: Colour) -> float:
    """Degrees, 0 to 360."""
    return 360 * colorsys.rgb_to_hsv(*(value / 255 for value in colour))[0]
