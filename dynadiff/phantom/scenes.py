"""The pictures that the phantom subject sees: one object on a background, a pure function of the scene's number.

Knows categories, colours, places and masks; knows nothing of brains or files. Any integer is a scene, so the 73,000 ids
of an NSD tree and as many more for pretraining exist without being stored, with exact ground truth for each.
"""

import colorsys
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from dynadiff.phantom.objects import DRAW, Colour, Pen

SCRAMBLED = "scrambled"  # a picture cut into tiles and shuffled, the usual control for object areas
CATEGORIES = (*DRAW, SCRAMBLED)
BACKGROUNDS = ("plain", "horizon", "room", "stripes", "hills", "spots")
SEED = 20250521
TILES = 8  # a scrambled picture is TILES × TILES tiles


@dataclass(frozen=True)
class Scene:
    """Everything that is drawn. Lengths are fractions of the picture's width, colours RGB 0 to 255."""

    number: int
    category: str
    colour: Colour
    x: float  # centre of the object
    y: float
    size: float  # half the side of the object's box
    tilt: float  # degrees, clockwise
    mirrored: bool
    background: str
    ground: tuple[Colour, Colour]  # the two colours of the background


def scene(number: int) -> Scene:
    """The scene of that number (for NSD trees: of that 73k id)."""
    rng = np.random.default_rng([SEED, number])
    size = float(rng.uniform(0.30, 0.44))
    hue, value = rng.uniform(), rng.uniform(0.65, 1.0)
    ground_hue = (hue + rng.uniform(0.25, 0.75)) % 1  # never the hue of the object
    light = rng.uniform() < 0.7
    return Scene(
        number=number,
        category=CATEGORIES[rng.integers(len(CATEGORIES))],
        colour=_rgb(hue, rng.uniform(0.65, 1.0), value),
        x=float(rng.uniform(size, 1 - size)),
        y=float(rng.uniform(size, 1 - size)),
        size=size,
        tilt=float(rng.normal(0, 6)),
        mirrored=bool(rng.uniform() < 0.5),
        background=BACKGROUNDS[rng.integers(len(BACKGROUNDS))],
        ground=(
            _rgb(
                ground_hue,
                rng.uniform(0.15, 0.5),
                rng.uniform(0.75, 0.95) if light else rng.uniform(0.2, 0.4),
            ),
            _rgb(
                ground_hue + rng.uniform(-0.1, 0.1),
                rng.uniform(0.2, 0.6),
                rng.uniform(0.5, 0.65) if light else 0.45,
            ),
        ),
    )


def draw(scene: Scene, size: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Picture (size, size, 3) RGB and object mask (size, size) of a scene; a scrambled picture is object everywhere."""
    if scene.category == SCRAMBLED:
        rng = np.random.default_rng([SEED, scene.number, 1])
        picture, _ = draw(replace(scene, category=CATEGORIES[rng.integers(len(DRAW))]), size)
        return _shuffle_tiles(picture, rng), np.ones((size, size), np.bool_)
    big = size * max(1, round(128 / size))  # small pictures are drawn larger, then averaged: finer edges
    canvas = _background(scene, big)
    mask = np.zeros((big, big), np.uint8)
    cos, sin = np.cos(np.deg2rad(scene.tilt)), np.sin(np.deg2rad(scene.tilt))
    flip = -1.0 if scene.mirrored else 1.0
    rotate = scene.size * np.array([[cos * flip, -sin], [sin * flip, cos]])
    to_pixels = big * np.column_stack([rotate, [scene.x, scene.y]])
    DRAW[scene.category](Pen(canvas, mask, to_pixels, scene.colour))
    if big != size:
        canvas = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA).astype(np.uint8)
        mask = cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA).astype(np.uint8)
    return canvas, mask > 127


def draw_category(category: str, number: int, size: int) -> NDArray[np.uint8]:
    """A picture (size, size, 3) of a wanted category, otherwise the scene of that number."""
    return draw(replace(scene(number), category=category), size)[0]


def _rgb(hue: float, saturation: float, value: float) -> Colour:
    r, g, b = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return 255 * r, 255 * g, 255 * b


def _background(scene: Scene, size: int) -> NDArray[np.uint8]:
    far, near = (np.array(c) for c in scene.ground)
    ramp = np.linspace(0, 1, size)[:, None, None]
    canvas = np.broadcast_to(far * (1 - 0.25 * ramp), (size, size, 3)).round().astype(np.uint8)
    rng = np.random.default_rng([SEED, scene.number, 2])
    edge = Pen(canvas, np.zeros((size, size), np.uint8), np.array([[size, 0, 0], [0, size, 0.0]]), scene.ground[1])
    level = float(rng.uniform(0.55, 0.8))
    match scene.background:
        case "horizon":
            edge.box(0, level, 1, 1)
        case "room":
            edge.poly([(0, level + 0.1), (0.5, level - 0.08), (1, level + 0.1), (1, 1), (0, 1)])
            edge.line([(0.5, 0), (0.5, level - 0.08)], 0.015, _mean(far, near))
        case "stripes":
            for k in range(0, 8, 2):
                edge.box(k / 8, 0, (k + 1) / 8, 1, _mean(far, near))
        case "hills":
            edge.ellipse(float(rng.uniform(0.1, 0.4)), 1.15, 0.5, 0.55, _mean(far, near))
            edge.ellipse(float(rng.uniform(0.6, 0.9)), 1.15, 0.55, 0.45)
        case "spots":
            for x, y in rng.uniform(0, 1, (9, 2)):
                edge.ellipse(float(x), float(y), 0.06, 0.06, _mean(far, near))
    return canvas


def _mean(a: NDArray[np.float64], b: NDArray[np.float64]) -> Colour:
    r, g, blue = ((a + b) / 2).tolist()
    return r, g, blue


def _shuffle_tiles(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    edges = np.linspace(0, len(picture), TILES + 1).round().astype(int)
    side = int(np.diff(edges).min())
    corners = [(y, x) for y in edges[:-1] for x in edges[:-1]]
    out = picture.copy()
    for (y, x), k in zip(corners, rng.permutation(len(corners)), strict=True):
        v, u = corners[k]
        out[y : y + side, x : x + side] = picture[v : v + side, u : u + side]
    return out
