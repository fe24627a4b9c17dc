"""A decode to look at: a montage and a film. Knows pictures and labels; knows no run and no engine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import ceil
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.base.files import atomic
from realtime.screen.display import FAINT, GROUND, fitted, put_text, text_width

SIDE, GAP, LABEL, SCALE = 120, 10, 20, 0.36  # pixels, and the size of the labels
FILM_S = 30  # about how long a film lasts


@dataclass(frozen=True, eq=False)
class Tile:
    """One moment of a montage."""

    reconstruction: NDArray[np.uint8]  # (side, side, 3) RGB
    stimulus: NDArray[np.uint8] | None
    label: str


def montage(tiles: Sequence[Tile]) -> NDArray[np.uint8]:
    """All moments in reading order, RGB: stimulus above reconstruction, or the reconstructions alone."""
    pictures = 2 if any(t.stimulus is not None for t in tiles) else 1
    width, height = SIDE + GAP, pictures * (SIDE + 2) + LABEL + GAP
    columns = max(ceil((len(tiles) * 1.6 * height / width) ** 0.5), 1)  # about as wide as a screen
    rows = ceil(len(tiles) / columns)
    sheet = np.full((rows * height + GAP, min(columns, len(tiles)) * width + GAP, 3), GROUND, np.uint8)
    for i, tile in enumerate(tiles):
        x, y = GAP + i % columns * width, GAP + i // columns * height
        if tile.stimulus is not None:
            sheet[y : y + SIDE, x : x + SIDE] = fitted(tile.stimulus, SIDE)
        below = y + (pictures - 1) * (SIDE + 2)
        sheet[below : below + SIDE, x : x + SIDE] = fitted(tile.reconstruction, SIDE)
        label = x + (SIDE - text_width(tile.label, SCALE)) // 2
        put_text(sheet, tile.label, label, below + SIDE + 14, SCALE, FAINT)
    return sheet


def write_film(path: Path, frames: Iterator[NDArray[np.uint8]], count: int) -> None:
    """Write ``count`` RGB frames of one even size as MPEG-4, so fast that they last about FILM_S seconds."""
    first = next(frames)
    size = (first.shape[1], first.shape[0])
    with atomic(path, durable=False) as new:
        writer = cv2.VideoWriter(str(new), cv2.VideoWriter.fourcc(*"mp4v"), max(round(count / FILM_S), 1), size)
        if not writer.isOpened():
            raise UserError(f"this OpenCV cannot write {path}: install opencv-python with FFmpeg")
        for frame in chain([first], frames):
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        writer.release()
