"""A model folder comes back as it was saved, whatever was trained, and is refused when anything in it was changed."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
from dynadiff.assets import EMBEDDED  # noqa: E402
from dynadiff.base.errors import UserError  # noqa: E402
from dynadiff.networks.adapters import Adaptation, trained  # noqa: E402
from dynadiff.networks.brain import BrainConfig, adapt  # noqa: E402
from dynadiff.networks.facts import SETS  # noqa: E402
from dynadiff.networks.generator import load_generator, save_generator, tiny_generator  # noqa: E402
from dynadiff.networks.model import Model, ModelConfig, SharedModel, adapted_model, new_model, new_shared_model  # noqa: E402
from dynadiff.networks.model_folder import (  # noqa: E402
    load_config,
    load_held_out,
    load_model,
    save_model,
    save_shared_model,
)
from dynadiff.recordings.masks import mask_digest  # noqa: E402
from dynadiff.signal.cleaning import Cleaning  # noqa: E402
from dynadiff.signal.windows import WindowSpec  # noqa: E402


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generator")
    torch.manual_seed(0)
    save_generator(tiny_generator(), None, folder)
    return folder


def configured(voxels: int, generator: str, subject: str = "01", **more: object) -> tuple[ModelConfig, np.ndarray]:
    mask = np.arange(24).reshape(2, 3, 4) < voxels
    brain = BrainConfig(voxels, 6, 8, (17, 64))
    config = ModelConfig(subject, 4 / 3, mask_digest(mask), WindowSpec(), Cleaning(), brain, generator, **more)
    return config, mask


def stirred(model: Model | SharedModel) -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in trained(model.generator.unet).values():
            parameter.add_(0.02 * torch.randn_like(parameter))


@pytest.mark.parametrize("trainable", ["lora", "none"])
def test_learned_unconditional_tokens_come_back_and_are_demanded(
    trainable: str, generator: Path, tmp_path: Path
) -> None:
    config, mask = configured(12, str(generator), adaptation=Adaptation(trainable), unconditional="learned")
    model = new_model(config, load_generator(generator), mask, np.eye(4))
    assert model.null is not None
    assert not model.null.any()
    assert any(parameter is model.null for parameter in model.trainable())
    model.null.data.normal_()
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert again.null is not None
    assert torch.equal(again.null, model.null)
    written = json.loads((tmp_path / "model.json").read_text())
    del written["unet_files"]["null.safetensors"]
    (tmp_path / "model.json").write_text(json.dumps(written))
    with pytest.raises(UserError, match=r"are not those of its model\.json"):
        load_model(tmp_path)


@pytest.mark.parametrize("trainable", SETS)
def test_whatever_learnt_comes_back(trainable: str, generator: Path, tmp_path: Path) -> None:
    config, mask = configured(12, str(generator), adaptation=Adaptation(trainable))
    model = new_model(config, load_generator(generator), mask, np.diag([2.0, 2, 2, 1]))
    stirred(model)
    save_model(model, tmp_path)
    back = load_model(tmp_path)
    assert replace(back.config, brain_files={}, unet_files={}) == config
    assert np.array_equal(back.affine, np.diag([2.0, 2, 2, 1]))
    for mine, its in ((model.brain, back.brain), (model.generator.unet, back.generator.unet)):
        for (name, a), b in zip(mine.state_dict().items(), its.state_dict().values(), strict=True):
            torch.testing.assert_close(a, b, atol=0, rtol=0, msg=name)
    assert not any(p.requires_grad for p in back.generator.vae.parameters())
    assert len(back.trainable()) == len(model.trainable())


def test_first_weights_of_brain_module_and_of_adapters_depend_on_the_seed_and_not_on_each_other(
    generator: Path,
) -> None:
    """So what learns of the U-Net is all in which the rows of table 3 differ."""

    def first(seed: int = 0, width: int = 8, **adaptation: Any) -> Model:
        config, mask = configured(12, str(generator), adaptation=Adaptation(**adaptation))
        config = replace(config, brain=replace(config.brain, width=width))
        return new_model(config, load_generator(generator), mask, np.eye(4), seed)

    torch.manual_seed(5)
    before, usual = torch.get_rng_state(), first()
    for adaptation in ({"trainable": "none"}, {"trainable": "all"}, {"rank": 8}):
        torch.testing.assert_close(first(**adaptation).brain.state_dict(), usual.brain.state_dict(), atol=0, rtol=0)
    torch.testing.assert_close(trained(first(width=9).generator.unet), trained(usual.generator.unet), atol=0, rtol=0)
    other = first(seed=1)
    assert not torch.equal(other.brain.subject, usual.brain.subject)
    assert any(not torch.equal(a, b) for a, b in zip(other.trainable(), usual.trainable(), strict=True) if a.any())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_new_subject_has_the_same_first_layers_whether_the_rest_is_learnt_or_not(generator: Path) -> None:
    config, mask = configured(12, str(generator))
    old = new_model(config, load_generator(generator), mask, np.eye(4), 3)
    stirred(old)
    models = [
        make(load_generator(generator), mask, np.eye(4), 1)
        for make in (partial(new_model, config), partial(adapted_model, old, config))
    ]
    for name in ("subject", "timestep_weight"):
        assert torch.equal(getattr(models[0].brain, name), getattr(models[1].brain, name))
    assert torch.equal(models[1].brain.out.weight, old.brain.out.weight)


def test_the_model_that_ships_names_its_files() -> None:
    config = load_config(EMBEDDED)
    assert set(config.brain_files) == {"brain.safetensors"}
    assert set(config.unet_files) == {"lora.safetensors"}
    load_model(EMBEDDED)


def test_a_model_that_does_not_say_what_was_held_out_is_opened_and_nothing_is_taken_for_held_out(
    generator: Path, tmp_path: Path
) -> None:
    config, mask = configured(12, str(generator))
    save_model(new_model(config, load_generator(generator), mask, np.eye(4)), tmp_path)
    raw = json.loads((tmp_path / "model.json").read_text())
    del raw["held_out"], raw["version"], raw["spacing"]
    (tmp_path / "model.json").write_text(json.dumps(raw))
    assert load_model(tmp_path).config.held_out is None
    with pytest.raises(UserError, match="does not say what was held out of its training"):
        load_held_out(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw.update(colour="red"), "colour"),
        (lambda raw: raw.pop("tr"), "tr"),
        (lambda raw: raw["brain"].update(depth=2), "depth"),
        (lambda raw: raw["brain"].pop("aggregation"), "aggregation"),
        (lambda raw: raw["brain"].update(aggregation="max"), "choose one of out, in"),
        (lambda raw: raw["adaptation"].update(trainable="some"), "choose one of lora"),
        (lambda raw: raw.update(held_out={"rule": "time-resolved"}), "held_out"),
        (lambda raw: raw["brain"].update(width=9), "are not those of its model.json"),
        (lambda raw: raw["adaptation"].update(rank=2), "are not those of its model.json"),
        (lambda raw: raw["brain_files"].update({"brain.safetensors": "0"}), "not the file that was saved"),
        (lambda raw: raw["unet_files"].update({"more.safetensors": "0"}), "not the file that was saved"),
        (lambda raw: raw.update(mask_sha256="0"), "not the mask"),
    ],
)
def test_a_changed_configuration_is_one_sentence(change, said: str, generator: Path, tmp_path: Path) -> None:
    config, mask = configured(12, str(generator))
    save_model(new_model(config, load_generator(generator), mask, np.eye(4)), tmp_path)
    raw = json.loads((tmp_path / "model.json").read_text())
    change(raw)
    (tmp_path / "model.json").write_text(json.dumps(raw))
    with pytest.raises(UserError, match=said) as told:
        load_model(tmp_path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["brain.safetensors", "lora.safetensors"])
def test_a_changed_weight_is_noticed(name: str, generator: Path, tmp_path: Path) -> None:
    config, mask = configured(12, str(generator))
    save_model(new_model(config, load_generator(generator), mask, np.eye(4)), tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[-1] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} is missing or not the file"):
        load_model(tmp_path)


def test_a_new_subject_starts_from_a_pretrained_model(generator: Path) -> None:
    torch.manual_seed(0)
    config, mask = configured(12, str(generator))
    old = new_model(config, load_generator(generator), mask, np.eye(4))
    stirred(old)
    other, other_mask = configured(9, str(generator), "02")
    new = adapted_model(old, other, load_generator(generator), other_mask, np.eye(4))
    assert (new.config.subject, new.brain.subject.shape) == ("02", (9, 8))
    assert torch.equal(new.brain.out.weight, old.brain.out.weight)
    assert not torch.equal(new.brain.timestep_weight, old.brain.timestep_weight)
    for key, value in trained(old.generator.unet).items():
        assert torch.equal(trained(new.generator.unet)[key], value)
    assert len(new.trainable()) == len(old.trainable())
    smaller = replace(other, brain=replace(other.brain, width=4))
    with pytest.raises(ValueError, match="not to other sizes"):
        adapted_model(old, smaller, load_generator(generator), other_mask, np.eye(4))


def test_each_of_several_subjects_has_a_model_folder_and_they_share_the_rest(generator: Path, tmp_path: Path) -> None:
    (tmp_path / "generator").symlink_to(generator)
    known = {name: configured(v, "generator", name) for name, v in (("1", 12), ("2", 7))}
    configs, masks = {n: c for n, (c, _) in known.items()}, {n: m for n, (_, m) in known.items()}
    model = new_shared_model(configs, load_generator(generator), masks, dict.fromkeys(configs, np.eye(4)))
    stirred(model)
    save_shared_model(model, tmp_path)
    windows = {name: torch.randn(2, c.brain.voxels, 6) for name, c in configs.items()}
    together = model.brain.eval()(windows).chunk(2)
    for (name, window), expected in zip(windows.items(), together, strict=True):
        back = load_model(tmp_path / f"subject-{name}")
        assert back.config.subject == name
        assert np.array_equal(back.mask, masks[name])
        torch.testing.assert_close(back.brain(window), expected, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(model.for_subject(name).brain(window), expected, atol=1e-6, rtol=1e-5)
        for key, value in trained(back.generator.unet).items():
            assert torch.equal(value, trained(model.generator.unet)[key])
        assert adapt(back.brain, 9)(torch.randn(1, 9, 6)).shape == (1, 17, 64)
    shared = (tmp_path / "shared.safetensors").stat().st_size
    assert all(shared > 3 * (tmp_path / f"subject-{n}" / "brain.safetensors").stat().st_size for n in configs)
