"""The small generator is made in resumable stages, the last of which learn from what brains say of pictures."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dynadiff.networks.generator import Generator, load_generator
from dynadiff.networks.image_encoder import ImageEncoder
from dynadiff.training.generator import stages as module
from dynadiff.training.generator.said import Said
from dynadiff.training.generator.stages import GeneratorTraining, train_generator
from dynadiff.training.generator.vae import VaeTraining

VAE = VaeTraining(steps=2, batch=2, sharpen_steps=2, sharpen_batch=2)
SHORT = GeneratorTraining(scenes=40, vae=VAE, steps=2, batch=4, uncertain_steps=2)


def a_brain(seed: int = 0) -> Said:
    """That says a fifth of what it sees."""
    d = (17 + 12) * 64
    errors = 0.4 * torch.randn(20, d, generator=torch.Generator().manual_seed(seed))
    return Said(torch.zeros(d), torch.zeros(d), 0.2 * torch.eye(d), errors.half())


def listen(*_: object) -> Said:
    return a_brain()


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight")
    train_generator(SHORT, out, listen)
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
            train_generator(SHORT, tmp_path, listen)
    train_generator(SHORT, tmp_path, listen)
    resumed, uninterrupted = weights(tmp_path), weights(straight)
    assert resumed.keys() == uninterrupted.keys()
    for name, value in resumed.items():
        torch.testing.assert_close(value, uninterrupted[name], atol=0, rtol=0, msg=name)


def test_sharpening_and_uncertainty_leave_the_latents_and_the_tokens_as_they_were(
    straight: Path, tmp_path: Path
) -> None:
    without = replace(SHORT, uncertain_steps=0, vae=replace(VAE, sharpen_steps=0))
    train_generator(without, tmp_path, listen)
    before, after = weights(tmp_path), weights(straight)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert all(name.startswith(("unet.", "vae.decoder.", "vae.post_quant_conv.")) for name in changed)
    assert {name.split(".")[0] for name in changed} == {"unet", "vae"}


def test_the_unet_learns_to_heed_the_layout_from_what_brains_say_alone(straight: Path, tmp_path: Path) -> None:
    """Before, it is told none; and what is heard of brains is in the weights."""
    train_generator(replace(SHORT, uncertain_steps=0), tmp_path / "without", listen)
    name, width = "unet.conv_in.weight", 12
    deaf, heeding = weights(tmp_path / "without")[name][:, width:], weights(straight)[name][:, width:]
    assert not deaf.any()
    assert heeding.any()
    train_generator(SHORT, tmp_path / "other", lambda *_: a_brain(seed=1))
    assert not torch.equal(weights(tmp_path / "other")[name], weights(straight)[name])


def test_what_is_heard_is_of_the_networks_that_were_trained_so_far(tmp_path: Path) -> None:
    heard = []

    def listened(generator: Generator, encoder: ImageEncoder) -> Said:
        heard.append((generator.layout, generator.tokens, encoder.training))
        return a_brain()

    train_generator(SHORT, tmp_path, listened)
    assert heard == [(12, (17, 64), False)]
