"""Where recordings of real brains are, for tests that hold our code against them; none is part of the project."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("DYNADIFF_DATA", Path(__file__).parents[3] / "shared" / "data"))


def recording(name: str) -> Path:
    """The folder of a recording. The test is skipped where it is not there."""
    if not (DATA / name).is_dir():
        pytest.skip(f"no {name} in {DATA}: set DYNADIFF_DATA to the folder that holds it")
    return DATA / name
