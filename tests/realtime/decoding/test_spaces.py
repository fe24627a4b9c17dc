"""Who judges the pictures of a decode follows from what lies beside its engine, and is told by name."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from dynadiff.assets import EMBEDDED, JUDGE
from dynadiff.base.errors import UserError
from dynadiff.phantom.judge import SceneJudge
from dynadiff.scores.pixels import pixel_features
from realtime.decoding.spaces import spaces_of

SCENES, OWN = "the judge of scenes", "the decoder's own tokens"


def names(*arguments) -> list[str]:
    return [space.name for space in spaces_of(*arguments)]


def test_the_decoder_that_ships_is_judged_by_the_judge_that_ships_with_its_own_tokens_beside(make_decoder):
    decoder = replace(make_decoder(), scorer=pixel_features)
    for folder in (EMBEDDED, EMBEDDED / "onnx"):
        assert names(decoder, "onnx", folder) == [SCENES, OWN]
    assert names(make_decoder(), "torch", EMBEDDED) == [SCENES]
    pictures = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), np.uint8)
    judge, own = spaces_of(decoder, "onnx", EMBEDDED)
    assert np.array_equal(judge.features(pictures), SceneJudge(JUDGE).features(pictures))
    assert own.features is pixel_features


def test_any_other_is_judged_by_its_own_tokens_or_else_by_pixels(make_decoder, tmp_path):
    assert names(make_decoder(), "onnx", tmp_path) == ["pixels"]
    assert names(replace(make_decoder(), scorer=pixel_features), "onnx", tmp_path) == [OWN]


@pytest.mark.parametrize("place", ["", "onnx"])
def test_a_judge_that_lies_beside_an_engine_or_its_model_is_asked(place, make_decoder, tmp_path):
    (tmp_path / "onnx").mkdir()
    shutil.copyfile(JUDGE, tmp_path / place / "judge.onnx")
    assert names(make_decoder(), "onnx", tmp_path) == [SCENES]


def test_a_judge_that_is_none_is_one_sentence(make_decoder, tmp_path):
    for content in (b"no graph", (EMBEDDED / "onnx" / "brain.onnx").read_bytes()):
        (tmp_path / "judge.onnx").write_bytes(content)
        with pytest.raises(UserError, match=rf"{tmp_path}/judge\.onnx is no judge of scenes .*: copy judge\.onnx"):
            spaces_of(make_decoder(), "onnx", tmp_path)
