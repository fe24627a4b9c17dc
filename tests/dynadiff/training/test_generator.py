"""The small generator is made in resumable stages, and what it reads are tokens as uncertain as a brain's."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dynadiff.networks.generator import load_generator
from dynadiff.networks.image_encoder import ImageEncoder
from dynadiff.training import generator as module
from dynadiff.training.generator import GeneratorTraining, train_generator, uncertain
from dynadiff.training.vae import VaeTraining

VAE = VaeTraining(steps=2, batch=2, sharpen_steps=2, sharpen_batch=2)
SHORT = GeneratorTraining(scenes=40, vae=VAE, steps=2, batch=4, uncertain_steps=2)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight")
    train_generator(SHORT, out)
    return out


def weights(folder: Path) -> dict[str, torch.Tensor]:
    generator = load_generator(folder / "generator")
    parts = {
        "unet": generator.unet,
        "vae": generator.vae,
        "encoder": ImageEncoder.load(folder / "generator/image_encoder"),
    }
    return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}


@pytest.mark.parametrize("stage", ["_train_together", "_train_uncertain", "sharpen"])
def test_interrupted_before_any_stage_and_resumed_is_uninterrupted(
    straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, stage, interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_generator(SHORT, tmp_path)
    train_generator(SHORT, tmp_path)
    resumed, uninterrupted = weights(tmp_path), weights(straight)
    assert resumed.keys() == uninterrupted.keys()
    for name, value in resumed.items():
        torch.testing.assert_close(value, uninterrupted[name], atol=0, rtol=0, msg=name)


def test_sharpening_and_uncertainty_leave_the_latents_and_the_tokens_as_they_were(
    straight: Path, tmp_path: Path
) -> None:
    without = replace(SHORT, uncertain_steps=0, vae=replace(VAE, sharpen_steps=0))
    train_generator(without, tmp_path)
    before, after = weights(tmp_path), weights(straight)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert all(name.startswith(("unet.", "vae.decoder.", "vae.post_quant_conv.")) for name in changed)
    assert {name.split(".")[0] for name in changed} == {"unet", "vae"}


def test_uncertain_tokens_shrink_and_err_as_a_regression_does() -> None:
    torch.manual_seed(0)
    tokens, other = torch.randn(2, 4000, 3, 8)
    mean = torch.full((3, 8), 2.0)
    for certainty in (0.25, 0.6, 1.0):
        share, white = torch.rand(4000, 1, 1), torch.randn_like(tokens)
        seen = uncertain(tokens + mean, other + mean, mean, torch.full((4000, 1, 1), certainty), share, white) - mean
        slope = float((seen * tokens).mean() / tokens.square().mean())
        assert slope == pytest.approx(certainty, abs=0.02)
        # the best guess of the tokens from what is seen is what is seen: that is what regression leaves
        assert float((seen * tokens).mean() / seen.square().mean()) == pytest.approx(1, abs=0.03)
