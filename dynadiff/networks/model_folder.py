"""A trained decoder as a folder: loaded strictly, nothing pickled.

``model.json`` names the weight files and their digests. They may lie outside the folder, as those do that several
subjects share; then every subject has a model folder of its own, and any command takes it.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from dynadiff.base.documents import Plain, Versions, read_document
from dynadiff.base.errors import UserError
from dynadiff.base.files import atomic, file_digest
from dynadiff.networks.adapters import Adaptation, load_trained, merge_lora, trained_state
from dynadiff.networks.brain import shared_state
from dynadiff.networks.choices import Sampling
from dynadiff.networks.facts import locate
from dynadiff.networks.generator import load_generator
from dynadiff.networks.model import Model, ModelConfig, SharedModel, new_model
from dynadiff.networks.schedule import Schedule
from dynadiff.networks.weights import save_tensors
from dynadiff.recordings.held_out import FILES, HeldOut, Lists, read_trials
from dynadiff.recordings.masks import MASK, mask_digest, save_mask, stored_affine, stored_mask

CONFIG = "model.json"
NULL = "null.safetensors"


def _that_lists_nothing(old: Plain) -> Plain:
    """The first version did not say what was held out of its training."""
    if "held_out" in old:
        raise ValueError("keys held_out")
    return old | {"held_out": None}


def _without_validation(old: Plain) -> Plain:
    """No rule of the second version held out trials to choose by."""
    held = old.get("held_out")
    if not isinstance(held, dict):
        return old
    if "validation" in held:
        raise ValueError("keys validation")
    return old | {"held_out": held | {"validation": None}}


def _spaced_evenly(old: Plain) -> Plain:
    """The third version had evenly spaced timesteps, and one guidance for all of them."""
    if "spacing" in old or not isinstance(old.get("guidance"), int | float):
        raise ValueError("keys spacing, or no guidance")
    return old | {"spacing": "leading"}


VERSIONS = Versions((_that_lists_nothing, _without_validation, _spaced_evenly))  # of model.json


def generator_folder(name: str, model: Path) -> Path:
    """Where the generator of the model in that folder is."""
    return locate(name, model)


def save_model(model: Model, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write the folder; ``dtype`` float16 halves its size. The generator is only referred to."""
    folder.mkdir(parents=True, exist_ok=True)
    brain = _write(model.brain.state_dict(), folder / "brain.safetensors", dtype)
    unet = _write_unet(model, model.config.adaptation, folder, dtype)
    _write_config(model.config, folder, model.mask, model.affine, [brain], unet)


def save_shared_model(model: SharedModel, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write what is shared into the folder, and for every subject a model folder ``subject-NAME`` that refers to it."""
    folder.mkdir(parents=True, exist_ok=True)
    shared = _write(shared_state(model.brain), folder / "shared.safetensors", dtype)
    unet = _write_unet(model, next(iter(model.configs.values())).adaptation, folder, dtype)
    for name, config in model.configs.items():
        home = folder / f"subject-{name}"
        home.mkdir(exist_ok=True)
        own = _write(model.brain.subjects[name].state_dict(), home / "brain.safetensors", dtype)
        inside = not Path(config.generator).is_absolute() and (folder / config.generator).is_dir()
        beside = f"../{config.generator}" if inside else config.generator
        here = replace(config, generator=beside)
        _write_config(here, home, model.masks[name], model.affines[name], [own, shared], unet)


def load_model(folder: Path, merged: bool = False) -> Model:
    """Open a model folder in float32; ``merged`` folds the adapters into the U-Net, for decoding."""
    config = load_config(folder)
    mask = stored_mask(folder)
    if mask_digest(mask) != config.mask_sha256:
        raise UserError(f"{folder / MASK} is not the mask that this model was trained with: put the original back")
    generator = load_generator(generator_folder(config.generator, folder))
    check_sampling(config.sampling(), generator.schedule, folder)
    model = new_model(config, generator, mask, stored_affine(folder))
    try:
        model.brain.load_state_dict(_read(folder, config.brain_files))
        beside = _read(folder, config.unet_files)
        if model.null is not None:
            model.null.data.copy_(beside.pop("null", torch.empty(0)))
        load_trained(model.generator.unet, beside)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the weights in {folder} are not those of its {CONFIG}: train it again") from error
    if merged:
        merge_lora(model.generator.unet)
    model.brain.eval()
    return model


def load_config(folder: Path) -> ModelConfig:
    """What a model folder says of itself. Raises UserError for a key that is unknown or missing."""
    path = folder / CONFIG
    try:
        return read_document(VERSIONS.current(path.read_bytes(), path), ModelConfig)
    except FileNotFoundError:
        raise UserError(f"no model in {folder}: make one with `dynadiff train --out {folder}`") from None
    except ValueError as error:
        raise UserError(f"{path} is not a model of this version ({error}): train it again") from None


def check_sampling(sampling: Sampling, schedule: Schedule, folder: Path) -> None:
    """UserError where the schedule of the model in that folder has no such timesteps."""
    try:
        schedule.timesteps(sampling.steps, sampling.spacing)
    except ValueError as error:
        raise UserError(
            f"the model in {folder} cannot sample so ({error}): choose other --steps or --spacing"
        ) from None


def set_sampling(folder: Path, sampling: Sampling) -> None:
    """From now on the model in the folder paints so; nothing else of it changes, and engines made of it stay."""
    config = load_config(folder).sampled(sampling)
    with atomic(folder / CONFIG) as new:
        new.write_text(VERSIONS.write(config))


def load_held_out(folder: Path) -> tuple[HeldOut, Lists]:
    """What was held out of the training of a model, and the lists that its rule has.

    Raises UserError where the model does not say, or a list is not the one that was saved with it.
    """
    held = load_config(folder).held_out
    if held is None:
        raise UserError(f"{folder} does not say what was held out of its training: train it again, from volumes")
    said = {part: held.part(part) for part in FILES}
    return held, {part: read_trials(folder / FILES[part], known) for part, known in said.items() if known is not None}


def _write(state: Mapping[str, Tensor], path: Path, dtype: torch.dtype) -> Path:
    save_tensors(path, {k: v.detach().to(dtype).contiguous() for k, v in state.items()})
    return path


def _write_unet(model: Model | SharedModel, adaptation: Adaptation, folder: Path, dtype: torch.dtype) -> list[Path]:
    """What was learned of the generator, and the unconditional tokens."""
    path = folder / ("lora.safetensors" if adaptation.trainable == "lora" else "unet.safetensors")
    learned = adaptation.trainable != "none"
    written = [_write(trained_state(model.generator.unet), path, dtype)] if learned else []
    return written if model.null is None else [*written, _write({"null": model.null}, folder / NULL, torch.float32)]


def _write_config(
    config: ModelConfig, folder: Path, mask: NDArray[np.bool_], affine: NDArray[np.float64], brain: list[Path],
    unet: list[Path],
) -> None:  # fmt: skip
    save_mask(folder / MASK, mask, affine)
    brain_files, unet_files = ({_relative(p, folder): file_digest(p) for p in paths} for paths in (brain, unet))
    complete = replace(config, brain_files=brain_files, unet_files=unet_files)
    with atomic(folder / CONFIG) as new:
        new.write_text(VERSIONS.write(complete))


def _relative(path: Path, folder: Path) -> str:
    return path.name if path.parent == folder else f"../{path.name}"


def _read(folder: Path, files: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors of weight files whose digests are right, in float32."""
    state: dict[str, Tensor] = {}
    for name, sha256 in files.items():
        if not (folder / name).is_file() or file_digest(folder / name) != sha256:
            raise UserError(f"{folder / name} is missing or not the file that was saved: put the original back")
        state |= {k: v.float() for k, v in load_file(folder / name).items()}
    return state
