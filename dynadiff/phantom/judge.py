"""The judge that ships: says of any picture which object is where and in which hues, in the words of the scenes.

One ONNX graph of 0.7 MB, so it judges wherever a decoder runs, without PyTorch. `make judge` makes it anew; how far it
can be trusted stands in docs/metrics.md, and `python -m exporters.scene_judge --check` measures it.
"""

from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from dynadiff.assets import EMBEDDED, JUDGE
from dynadiff.base.errors import UserError
from dynadiff.scores.scenes import Shown

SIZE, BATCH = 64, 64  # pixels; pictures at a time


def judge_of(*folders: Path) -> Path | None:
    """The judge of a decoder of drawn scenes, which lies in one of its folders, of a model or an engine.

    The decoder that ships has the one of the package. None where there is none: then the pictures need be no drawings.
    """
    beside = (folder / JUDGE.name for folder in folders)
    ships = any(folder.resolve().is_relative_to(EMBEDDED.resolve()) for folder in folders)
    return next((path for path in beside if path.is_file()), JUDGE if ships else None)


class SceneJudge:
    """Looks at uint8 pictures (n, h, w, 3) of any size."""

    def __init__(self, path: Path = JUDGE, threads: int = 1) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # what goes wrong is raised, in the same words
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def look(self, pictures: NDArray[np.uint8]) -> Shown:
        """What they show."""
        category, classes, colours = self._run(pictures, "category", "classes", "colours")
        pairs = colours.reshape(-1, 2, 2).astype(np.float64)  # cosine and sine of object and background
        hues = np.rad2deg(np.arctan2(pairs[..., 1], pairs[..., 0])) % 360
        return Shown(category.argmax(1), classes.argmax(1).astype(np.uint8), hues)

    def features(self, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The space (n, 128) in which it compares pictures."""
        (found,) = self._run(pictures, "features")
        return found.astype(np.float64)

    def _run(self, pictures: NDArray[np.uint8], *outputs: str) -> list[NDArray[np.float32]]:
        if pictures.ndim != 4 or pictures.shape[3] != 3 or not len(pictures) or pictures.dtype != np.uint8:
            raise UserError(
                f"a judge was given {pictures.dtype} of shape {pictures.shape}: give it uint8 pictures (n, height, "
                "width, 3), one at least"
            )
        same = np.stack([cv2.resize(one, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for one in pictures])
        batches = (same[k : k + BATCH] for k in range(0, len(same), BATCH))
        parts = [self._session.run(list(outputs), {"pictures": batch}) for batch in batches]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]
