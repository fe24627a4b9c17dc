"""In which spaces the pictures of a decode are compared: a judge from outside, the decoder's own tokens, or pixels.

Knows in which folders a judge may lie: an engine's, where an export puts the model's, and a model's, where a training
on the phantom puts it. It knows no run; whether its pictures are drawings, which alone a judge of scenes can judge, is
for who puts it there.
"""

from pathlib import Path

import numpy as np

from dynadiff.assets import JUDGE
from dynadiff.base.errors import UserError
from dynadiff.base.onnxruntime_errors import ERRORS
from dynadiff.engines.contract import Decoder
from dynadiff.engines.open import engine_home
from dynadiff.phantom.judge import SceneJudge, judge_of
from realtime.records.summary import PIXELS, Space


def spaces_of(decoder: Decoder, engine: str, model: Path) -> tuple[Space, ...]:
    """The best one first. UserError where there is a judge that cannot be used.

    The decoder's own tokens are what it was trained to give: a score in them is circular, and is told as such.
    """
    judge = judge_of(engine_home(engine, model), model)
    found = [Space("the judge of scenes", _opened(judge).features)] if judge else []
    if decoder.scorer:
        found.append(Space("the decoder's own tokens", decoder.scorer))
    return tuple(found) or (PIXELS,)


def _opened(path: Path) -> SceneJudge:
    """Having looked at one picture, so that a graph which is none is known before a run begins."""
    try:
        judge = SceneJudge(path)
        judge.features(np.zeros((1, 8, 8, 3), np.uint8))
    except (*ERRORS, ValueError) as error:  # the latter of a graph with other inputs
        words = " ".join(str(error).split())
        raise UserError(
            f"{path} is no judge of scenes ({words}): copy {JUDGE.name} of the package, or remove it"
        ) from error
    return judge
