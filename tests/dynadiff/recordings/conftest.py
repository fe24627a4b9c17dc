"""What the tests of the NSD reader share."""

from pathlib import Path

import pytest

from support.nsd_tree import FLAT, OFFICIAL, write_tree


@pytest.fixture(scope="session", params=[OFFICIAL, FLAT], ids=["official", "flat"])
def tree(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("nsd"), request.param)


@pytest.fixture
def func(tmp_path: Path) -> Path:
    """The functional folder of subject 1 in a tree that holds nothing else yet."""
    return tmp_path / OFFICIAL["func"].format(1)
