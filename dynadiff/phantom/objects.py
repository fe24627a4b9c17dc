"""How each category of object is drawn: a few filled shapes in the unit square [-1, 1]², x to the right, y downwards.

Knows shapes and colours. Knows nothing of scenes, brains or file formats; `dynadiff.phantom.scenes` places the objects.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]  # RGB, 0 to 255
Point = tuple[float, float]
SHIFT = 6  # fractional bits of the coordinates handed to OpenCV

WHITE, BLACK, GREY = (245.0, 245.0, 245.0), (25.0, 25.0, 30.0), (140.0, 140.0, 145.0)
BROWN, SKIN, LEAF, GLASS = (
    (120.0, 75.0, 40.0),
    (232.0, 186.0, 150.0),
    (60.0, 140.0, 60.0),
    (170.0, 215.0, 240.0),
)


@dataclass(frozen=True)
class Pen:
    """Draws on a picture and on its object mask at once, through one affine map from the unit square to pixels."""

    canvas: NDArray[np.uint8]  # (size, size, 3) RGB, drawn in place
    mask: NDArray[np.uint8]  # (size, size), 255 where an object is
    to_pixels: NDArray[np.float64]  # (2, 3)
    main: Colour  # the colour that varies from object to object

    def poly(self, points: Iterable[Point], colour: Colour | None = None) -> None:
        xy = np.array([(x, y, 1.0) for x, y in points]) @ self.to_pixels.T
        fixed = [np.round((xy - 0.5) * 2**SHIFT).astype(np.int32)]
        cv2.fillPoly(self.canvas, fixed, colour or self.main, cv2.LINE_AA, SHIFT)
        cv2.fillPoly(self.mask, fixed, 255, cv2.LINE_8, SHIFT)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour | None = None, tilt: float = 0,
                arc: tuple[float, float] = (0, 360)) -> None:  # fmt: skip
        """An ellipse, or the segment of it between two angles in degrees (0 = right, 90 = down)."""
        t = np.deg2rad(np.linspace(*arc, 40))
        cos, sin = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
        u, v = rx * np.cos(t), ry * np.sin(t)
        self.poly(zip(x + cos * u - sin * v, y + sin * u + cos * v, strict=True), colour)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour | None = None) -> None:
        self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def line(self, points: Sequence[Point], width: float, colour: Colour | None = None) -> None:
        """A band of the given width along a polyline, with round joints."""
        for (x0, y0), (x1, y1) in pairwise(points):
            dx, dy = x1 - x0, y1 - y0
            k = width / 2 / max(float(np.hypot(dx, dy)), 1e-9)
            n = (-dy * k, dx * k)
            self.poly([(x0 + n[0], y0 + n[1]), (x1 + n[0], y1 + n[1]), (x1 - n[0], y1 - n[1]), (x0 - n[0], y0 - n[1])],
                      colour)  # fmt: skip
        for x, y in points:
            self.ellipse(x, y, width / 2, width / 2, colour)

    def ring(self, x: float, y: float, r: float, width: float, colour: Colour | None = None) -> None:
        t = np.deg2rad(np.linspace(0, 360, 25))
        self.line([(x + r * np.cos(a), y + r * np.sin(a)) for a in t], width, colour)

    def shade(self, factor: float) -> Colour:
        r, g, b = (float(np.clip(c * factor, 0, 255)) for c in self.main)
        return r, g, b


def face(p: Pen) -> None:
    p.ellipse(0, -0.15, 0.78, 0.8)  # hair
    p.box(-0.78, -0.15, 0.78, 0.45)
    p.ellipse(0, 0.08, 0.62, 0.85, SKIN)
    for x in (-0.26, 0.26):
        p.ellipse(x, -0.05, 0.15, 0.11, WHITE)
        p.ellipse(x, -0.05, 0.08, 0.09, BLACK)
        p.line([(x - 0.14, -0.26), (x + 0.14, -0.26)], 0.07, BROWN)
    p.line([(0, 0.02), (-0.07, 0.27), (0.05, 0.29)], 0.06, (190, 140, 105))
    p.ellipse(0, 0.52, 0.25, 0.12, (190, 50, 60))


def house(p: Pen) -> None:
    p.box(-0.75, -0.1, 0.75, 0.95)
    p.box(0.35, -0.85, 0.58, -0.2, p.shade(0.55))
    p.poly([(-0.98, -0.08), (0, -0.95), (0.98, -0.08)], p.shade(0.6))
    p.box(-0.15, 0.35, 0.2, 0.95, BROWN)
    for x in (-0.6, 0.32):
        p.box(x, 0.1, x + 0.3, 0.42, GLASS)


def cat(p: Pen) -> None:
    p.line([(0.45, 0.75), (0.85, 0.6), (0.9, 0.15), (0.75, -0.1)], 0.16)  # tail
    p.ellipse(0, 0.45, 0.55, 0.55)
    p.ellipse(0, -0.3, 0.5, 0.45)
    for s in (-1, 1):
        p.poly([(s * 0.48, -0.35), (s * 0.45, -0.98), (s * 0.08, -0.65)])
        p.poly([(s * 0.38, -0.5), (s * 0.38, -0.82), (s * 0.2, -0.65)], (235, 165, 170))
        p.ellipse(s * 0.2, -0.35, 0.11, 0.13, (220, 230, 90))
        p.ellipse(s * 0.2, -0.35, 0.04, 0.12, BLACK)
        for dy in (-0.08, 0.08):
            p.line([(s * 0.15, -0.1), (s * 0.7, -0.1 + dy)], 0.03, WHITE)
        p.ellipse(s * 0.25, 0.92, 0.2, 0.1, p.shade(0.8))
    p.poly([(-0.07, -0.18), (0.07, -0.18), (0, -0.08)], (220, 110, 120))


def bottle(p: Pen) -> None:
    p.box(-0.15, -0.85, 0.15, -0.2)
    p.box(-0.19, -1.0, 0.19, -0.8, BROWN)
    p.poly([(-0.15, -0.45), (0.15, -0.45), (0.38, -0.05), (-0.38, -0.05)])
    p.box(-0.38, -0.06, 0.38, 1.0)
    p.box(-0.38, 0.2, 0.38, 0.7, WHITE)
    p.box(-0.25, 0.36, 0.25, 0.52, p.shade(0.6))


def scissors(p: Pen) -> None:
    for s in (-1, 1):
        p.poly([(s * 0.05, 0.25), (-s * 0.12, 0.2), (-s * 0.5, -1.0), (-s * 0.36, -0.95)], (190, 195, 205))
        p.line([(0, 0.15), (s * 0.28, 0.45)], 0.15)
        p.ring(s * 0.42, 0.68, 0.24, 0.14)
    p.ellipse(0, 0.12, 0.07, 0.07, BLACK)


def shoe(p: Pen) -> None:
    p.poly([(-0.9, -0.45), (-0.25, -0.5), (0.1, 0.0), (0.75, 0.15), (0.95, 0.45), (-0.95, 0.45)])
    p.ellipse(-0.58, -0.46, 0.33, 0.1, p.shade(0.5))
    p.box(-0.97, 0.42, 0.97, 0.62, WHITE)
    for k in range(3):
        x, y = -0.22 + 0.17 * k, -0.3 + 0.17 * k
        p.line([(x, y), (x + 0.2, y - 0.07)], 0.06, WHITE)


def chair(p: Pen) -> None:
    p.line([(-0.5, -0.95), (-0.5, 0.95)], 0.15)
    p.line([(0.5, 0.15), (0.5, 0.95)], 0.15)
    p.line([(-0.22, 0.2), (-0.22, 0.75)], 0.1, p.shade(0.7))
    p.line([(0.25, 0.2), (0.25, 0.75)], 0.1, p.shade(0.7))
    p.poly([(-0.58, 0.0), (0.4, 0.0), (0.6, 0.25), (-0.58, 0.25)])
    for y in (-0.8, -0.5):
        p.poly([(-0.5, y), (-0.1, y + 0.1), (-0.1, y + 0.28), (-0.5, y + 0.18)], p.shade(0.75))
    p.line([(-0.1, -0.85), (-0.1, 0.05)], 0.1)


def car(p: Pen) -> None:
    p.poly([(-0.55, -0.05), (-0.35, -0.48), (0.3, -0.48), (0.58, -0.05)])
    p.poly([(-0.42, -0.06), (-0.28, -0.38), (-0.03, -0.38), (-0.03, -0.06)], GLASS)
    p.poly([(0.05, -0.06), (0.05, -0.38), (0.25, -0.38), (0.44, -0.06)], GLASS)
    p.poly([(-0.98, 0.35), (-0.92, 0.0), (0.8, -0.08), (0.98, 0.1), (0.98, 0.35)])
    for x in (-0.55, 0.55):
        p.ellipse(x, 0.36, 0.24, 0.24, BLACK)
        p.ellipse(x, 0.36, 0.1, 0.1, GREY)


def boat(p: Pen) -> None:
    p.line([(0, -0.95), (0, 0.4)], 0.07, BROWN)
    p.poly([(0.06, -0.92), (0.75, 0.28), (0.06, 0.28)], WHITE)
    p.poly([(-0.06, -0.75), (-0.06, 0.28), (-0.6, 0.28)], (225, 225, 210))
    p.poly([(-0.95, 0.38), (0.95, 0.38), (0.62, 0.85), (-0.62, 0.85)])


def tree(p: Pen) -> None:
    p.poly([(-0.13, 0.1), (0.13, 0.1), (0.2, 1.0), (-0.2, 1.0)], BROWN)
    for x, y, r in ((-0.42, 0.0, 0.42), (0.42, 0.0, 0.42), (0, -0.5, 0.5), (0, 0.0, 0.45)):
        p.ellipse(x, y, r, r)


def flower(p: Pen) -> None:
    p.line([(0, 0.0), (0.04, 1.0)], 0.1, LEAF)
    p.ellipse(0.27, 0.66, 0.25, 0.1, LEAF, -35)
    for k in range(6):
        a = np.deg2rad(60 * k)
        p.ellipse(0.36 * np.cos(a), -0.4 + 0.36 * np.sin(a), 0.3, 0.2, None, 60 * k)
    p.ellipse(0, -0.4, 0.2, 0.2, (250, 205, 60))


def fish(p: Pen) -> None:
    p.poly([(0.4, 0), (0.98, -0.45), (0.85, 0), (0.98, 0.45)], p.shade(0.75))
    p.poly([(-0.2, -0.35), (0.15, -0.7), (0.3, -0.25)], p.shade(0.75))
    p.ellipse(-0.18, 0, 0.75, 0.45)
    p.ellipse(-0.15, 0.1, 0.16, 0.1, p.shade(0.6), 25)
    p.ellipse(-0.6, -0.1, 0.11, 0.11, WHITE)
    p.ellipse(-0.6, -0.1, 0.06, 0.06, BLACK)


def bird(p: Pen) -> None:
    p.poly([(0.4, 0.05), (0.98, -0.25), (0.95, 0.1), (0.45, 0.3)], p.shade(0.7))
    p.line([(-0.1, 0.5), (-0.15, 0.95), (-0.3, 0.95)], 0.06, (230, 150, 40))
    p.line([(0.15, 0.5), (0.1, 0.95), (-0.05, 0.95)], 0.06, (230, 150, 40))
    p.ellipse(0.08, 0.15, 0.55, 0.42)
    p.ellipse(-0.42, -0.4, 0.32, 0.32)
    p.poly([(-0.7, -0.5), (-1.0, -0.32), (-0.7, -0.26)], (240, 160, 40))
    p.ellipse(-0.48, -0.46, 0.07, 0.07, BLACK)
    p.poly([(-0.1, -0.02), (0.5, 0.1), (0.15, 0.45)], p.shade(0.6))


def cup(p: Pen) -> None:
    p.ring(0.55, 0.1, 0.27, 0.13)
    p.poly([(-0.65, -0.5), (0.5, -0.5), (0.4, 0.75), (-0.55, 0.75)])
    p.ellipse(-0.075, -0.5, 0.575, 0.15, p.shade(0.6))
    p.ellipse(-0.075, -0.47, 0.48, 0.1, BROWN)
    p.ellipse(-0.07, 0.85, 0.8, 0.1, WHITE)


def clock(p: Pen) -> None:
    p.ellipse(0, 0, 0.92, 0.92)
    p.ellipse(0, 0, 0.74, 0.74, WHITE)
    for k in range(12):
        a = np.deg2rad(30 * k)
        p.ellipse(0.62 * np.cos(a), 0.62 * np.sin(a), 0.06, 0.06, BLACK)
    p.line([(0, 0), (0, -0.5)], 0.09, BLACK)
    p.line([(0, 0), (0.35, 0.2)], 0.09, BLACK)


def apple(p: Pen) -> None:
    p.ellipse(-0.32, 0.15, 0.5, 0.62)
    p.ellipse(0.32, 0.15, 0.5, 0.62)
    p.line([(0, -0.35), (0.08, -0.85)], 0.1, BROWN)
    p.ellipse(0.36, -0.7, 0.28, 0.13, LEAF, -20)
    p.ellipse(-0.42, -0.08, 0.1, 0.18, p.shade(1.5), 25)


def lamp(p: Pen) -> None:
    p.line([(0, -0.1), (0, 0.8)], 0.1, GREY)
    p.ellipse(0, 0.88, 0.42, 0.12, GREY)
    p.ellipse(0, 0.02, 0.16, 0.16, (255, 240, 150))
    p.poly([(-0.35, -0.9), (0.35, -0.9), (0.72, 0.0), (-0.72, 0.0)])


def key(p: Pen) -> None:
    p.ring(-0.55, 0, 0.3, 0.2)
    p.box(-0.28, -0.1, 0.95, 0.1)
    p.box(0.8, 0.05, 0.95, 0.42)
    p.box(0.5, 0.05, 0.65, 0.34)


def umbrella(p: Pen) -> None:
    p.line([(0, -0.1), (0, 0.78), (0.1, 0.92), (0.24, 0.88), (0.28, 0.72)], 0.09, BROWN)
    p.ellipse(0, 0.05, 0.95, 0.95, None, 0, (180, 360))
    p.ellipse(0, 0.05, 0.32, 0.95, p.shade(0.65), 0, (180, 360))
    for x in (-0.63, 0.0, 0.63):
        p.ellipse(x, 0.07, 0.31, 0.1, p.shade(0.45), 0, (180, 360))


def plane(p: Pen) -> None:
    p.poly([(0.6, -0.05), (0.95, -0.5), (0.98, 0.0)], p.shade(0.7))
    p.poly([(0.0, -0.1), (0.4, -0.75), (0.55, -0.75), (0.4, -0.05)], p.shade(0.7))
    p.ellipse(0, 0, 0.97, 0.2)
    p.poly([(-0.25, 0.05), (0.35, 0.05), (0.5, 0.8), (0.28, 0.8)], p.shade(0.8))
    for x in (-0.6, -0.35, -0.1, 0.15, 0.4):
        p.ellipse(x, -0.06, 0.07, 0.06, GLASS)


def butterfly(p: Pen) -> None:
    for s in (-1, 1):
        p.ellipse(s * 0.48, -0.35, 0.5, 0.4, None, s * -35)
        p.ellipse(s * 0.38, 0.42, 0.38, 0.32, p.shade(0.7), s * 35)
        p.ellipse(s * 0.52, -0.38, 0.2, 0.16, WHITE)
        p.line([(0, -0.5), (s * 0.2, -0.92)], 0.05, BLACK)
    p.ellipse(0, 0.05, 0.1, 0.62, BLACK)


def mushroom(p: Pen) -> None:
    p.poly([(-0.25, 0.0), (0.25, 0.0), (0.34, 0.9), (-0.34, 0.9)], (240, 228, 205))
    p.ellipse(0, 0.1, 0.92, 0.9, None, 0, (180, 360))
    for x, y, r in ((-0.5, -0.15, 0.14), (0.02, -0.45, 0.17), (0.5, -0.15, 0.14)):
        p.ellipse(x, y, r, r, WHITE)


def snowman(p: Pen) -> None:
    p.ellipse(0, 0.5, 0.55, 0.5, WHITE)
    p.ellipse(0, -0.25, 0.38, 0.36, WHITE)
    p.box(-0.45, -0.62, 0.45, -0.5, BLACK)
    p.box(-0.28, -1.0, 0.28, -0.55, BLACK)
    p.line([(-0.33, 0.03), (0.33, 0.03)], 0.16)
    p.line([(0.22, 0.05), (0.32, 0.4)], 0.15)
    p.poly([(0, -0.28), (0.35, -0.18), (0, -0.16)], (240, 130, 30))
    for x in (-0.14, 0.14):
        p.ellipse(x, -0.36, 0.05, 0.05, BLACK)


DRAW: dict[str, Callable[[Pen], None]] = {
    draw.__name__: draw
    for draw in (face, house, cat, bottle, scissors, shoe, chair, car, boat, tree, flower, fish, bird, cup, clock,
                 apple, lamp, key, umbrella, plane, butterfly, mushroom, snowman)
}  # fmt: skip
