"""Picture files as arrays, always uint8 RGB. Knows no data set."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError


def read_picture(path: Path) -> NDArray[np.uint8]:
    """uint8 RGB of shape (height, width, 3); UserError where the file is missing or is no picture."""
    if not path.is_file():
        raise UserError(f"the picture {path} does not exist: copy the stimuli there.")
    picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB) if path.stat().st_size else None
    if picture is None:
        raise UserError(f"{path} is not a picture that OpenCV can read: copy it again.")
    return np.asarray(picture, np.uint8)
