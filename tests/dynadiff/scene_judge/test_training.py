"""The judge learns what drawings say, and what it is shown is made worse without being made another."""

import numpy as np
import pytest
import torch

from dynadiff.base.random import item_rng
from dynadiff.phantom.scenes import CATEGORIES, draw, scene
from dynadiff.scene_judge import training as scene_judge
from dynadiff.scene_judge.training import JudgeTraining, drawn_scenes, train_judge, worsened


def rngs(n):
    return [item_rng(0, "judge", 0, item) for item in range(n)]


def test_a_picture_made_worse_is_still_more_like_itself_than_like_others():
    pictures = np.stack([draw(scene(k), 64)[0] for k in range(700_000, 700_012)])
    shown = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    worse = worsened(shown, rngs(12))
    assert worse.shape == shown.shape
    assert worse.min() >= 0
    assert worse.max() <= 1
    flat, other = shown.flatten(1), worse.flatten(1)
    distances = torch.cdist(other - other.mean(1, keepdim=True), flat - flat.mean(1, keepdim=True))
    assert torch.equal(distances.argmin(1), torch.arange(12))
    assert not torch.allclose(worse, shown, atol=0.02)


def test_what_is_made_worse_depends_on_the_item_alone():
    shown = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(worsened(shown, rngs(4))[2:], worsened(shown[2:], rngs(4)[2:]), atol=1e-6)


def test_it_learns_and_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    monkeypatch.setattr("dynadiff.training.fit.CHECKPOINT_EVERY", 2)
    config = JudgeTraining(scenes=16, steps=6, batch=8)
    whole = train_judge(config, tmp_path / "whole")
    saves = []

    def interrupt(*arguments):
        saves.append(save(*arguments))
        if len(saves) == 2:
            raise KeyboardInterrupt

    from dynadiff.training import fit

    save = fit._save
    with monkeypatch.context() as once:
        once.setattr(fit, "_save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_judge(config, tmp_path / "broken")
    again = train_judge(config, tmp_path / "broken")
    for one, other in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_scenes_are_none_that_anybody_else_sees():
    from dynadiff.training.generator.stages import FIRST_SCENE, GeneratorTraining

    assert FIRST_SCENE + GeneratorTraining().scenes < scene_judge.FIRST_SCENE


def test_what_is_drawn_is_kept(tmp_path):
    drawn = drawn_scenes(5, 3, tmp_path / "scenes.npz")
    again = drawn_scenes(5, 3, tmp_path / "scenes.npz")
    assert all(torch.equal(drawn[name], again[name]) for name in drawn)
    assert [CATEGORIES[label] for label in drawn["labels"]] == [scene(k).category for k in (5, 6, 7)]
