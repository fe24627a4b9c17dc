"""What training says of itself: a JSONL and, where asked for, TensorBoard's files. Knows numbers and pictures only."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.base.files import atomic


class Log:
    """Numbers and sheets of pictures, each under the number of steps done."""

    def __init__(self, line: Callable[..., None], samples: Path, name: str, board: Any = None) -> None:
        self._line, self._samples, self._name, self._board = line, samples, name, board

    def scalars(self, step: int, **values: float) -> None:
        self._line(step=step, **values)
        if self._board is not None:
            for key, value in values.items():
                self._board.add_scalar(f"{self._name}/{key}", value, step)
            self._board.flush()

    def sheet(self, step: int, rows: list[NDArray[np.uint8]]) -> None:
        """Rows of pictures, each (n, h, w, 3), under each other."""
        save_sheet(self._samples / f"{self._name}-{step:05d}.png", rows)
        if self._board is not None:
            whole = np.vstack([np.hstack(list(row)) for row in rows])
            self._board.add_image(self._name, whole, step, dataformats="HWC")
            self._board.flush()


def open_log(work: Path, stage: str, done: int, tensorboard: bool) -> Log:
    """The log of a stage of which ``done`` steps are done; samples go to ``samples`` beside ``work``."""
    name = stage.replace(" ", "-")
    board = _board(work / "tensorboard" / name, done) if tensorboard else None
    return Log(_lines_to(work / f"{name}.jsonl", done), work.parent / "samples", name, board)


def _lines_to(path: Path, done: int) -> Callable[..., None]:
    """A function that appends its keyword arguments as one JSON line.

    Lines of steps after ``done`` are dropped first: they were lost with what came after the last checkpoint.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= done]
        with atomic(path) as new:
            new.write_text("".join(f"{line}\n" for line in lines))

    def log(**values: float) -> None:
        with path.open("a") as file:
            file.write(json.dumps({k: round(v, 6) for k, v in values.items()}) + "\n")

    return log


def save_sheet(path: Path, rows: list[NDArray[np.uint8]]) -> None:
    """Write rows of pictures, each (n, h, w, 3), under each other as one PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet = np.vstack([np.hstack(list(row)) for row in rows])
    cv2.imwrite(str(path), np.ascontiguousarray(sheet[..., ::-1]))


def _board(folder: Path, done: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("tensorboard is not installed: pip install 'dynadiff-realtime[tensorboard]'") from None
    return SummaryWriter(folder, purge_step=done + 1)
