"""The judge of a decoder's pictures goes with its engine. Knows where judges lie; how one is made it does not."""

import shutil
from pathlib import Path

from dynadiff.assets import JUDGE
from dynadiff.phantom.judge import judge_of


def copy_judge(source: Path, folder: Path) -> None:
    """Into an engine ``folder`` the judge of the decoder in ``source``, a model or an engine, if it has one."""
    if (judge := judge_of(source)) is not None:
        shutil.copyfile(judge, folder / JUDGE.name)
