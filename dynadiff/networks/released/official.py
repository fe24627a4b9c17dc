"""The authors' weights, as DeepSpeed consolidates them, become a model folder. Knows their names; trains nothing.

Names and shapes are those of facebookresearch/dynadiff: everything under ``model.`` is U-Net, VAE or brain module, the
U-Net made of pairs of transformers of which the text half never has an effect; the rest is not part of the model.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor

from dynadiff.base.errors import UserError
from dynadiff.networks.adapters import Adaptation, load_trained, set_trainable, trained_state
from dynadiff.networks.brain import BrainConfig, BrainModule
from dynadiff.networks.choices import PUBLISHED, RELEASED, Sampling
from dynadiff.networks.facts import locate
from dynadiff.networks.generator import Generator, assemble, save_generator
from dynadiff.networks.model import Model, ModelConfig
from dynadiff.networks.model_folder import save_model
from dynadiff.networks.released.versatile import image_branch, plain_unet
from dynadiff.networks.weights import load_strictly, read_weights
from dynadiff.recordings.held_out import HeldOut
from dynadiff.recordings.masks import mask_digest
from dynadiff.recordings.nsd import NSD
from dynadiff.recordings.nsd_facts import TR
from dynadiff.signal.cleaning import Cleaning
from dynadiff.signal.windows import WindowSpec

BRAIN = "brain_modules.clip_image."
PARTS = (BRAIN, "unet.", "vae.")


@dataclass(frozen=True)
class Subject:
    """Whose weights they are: the voxels that the brain module reads, in C order of the mask."""

    name: str
    mask: NDArray[np.bool_]
    affine: NDArray[np.float64]


def read_subject(number: int, root: Path | None, mask: Path | None) -> Subject:
    """The subject's mask, nsdgeneral of the tree ``root`` or the file ``mask`` itself (above 0)."""
    if root is not None:
        nsd = NSD(root)
        session = nsd.sessions(number)[0]
        affine = nsd.run(number, session, nsd.runs(number, session)[0]).affine
        return Subject(f"{number:02d}", nsd.mask(number), affine)
    assert mask is not None
    try:
        image = nib.load(mask)
        values, affine = np.asanyarray(image.dataobj), np.asarray(image.affine, np.float64)
    except (OSError, nib.filebasedimages.ImageFileError) as error:
        raise UserError(f"{mask} is no NIfTI file: give the nsdgeneral file of the subject") from error
    if values.ndim != 3 or not (values > 0).any():
        raise UserError(f"{mask} is no mask of one volume: give the nsdgeneral file of the subject")
    return Subject(f"{number:02d}", np.asarray(values > 0), affine)


def import_official(checkpoint: Path, base: str, subject: Subject, out: Path, sampling: Sampling = PUBLISHED) -> int:
    """Write a model folder with the checkpoint's brain module and adapters, and its generator in ``out/generator``.

    ``base`` is Versatile Diffusion's folder or hub id: its configurations and its noise schedule are used, its weights
    are not, for the checkpoint has them as the authors' decoder ran with them. No file says how it paints: ``sampling``
    does. Returns how many tensors were left out because they are no part of the model. Raises UserError for anything
    that is missing, left over or of another shape.
    """
    parts, others = split(_state(checkpoint))
    folder = locate(base, Path.cwd())
    unet, adapters = image_half(parts["unet."])
    generator = _generator(unet, parts["vae."], folder)
    brain = brain_weights(parts[BRAIN])
    sizes = _sizes(brain, int(subject.mask.sum()), generator)
    rank = next((v.shape[0] for k, v in adapters.items() if ".lora_A." in k), 4)
    config = ModelConfig(
        subject=subject.name, tr=TR, mask_sha256=mask_digest(subject.mask), window=WindowSpec(), cleaning=Cleaning(),
        brain=sizes, generator="generator", adaptation=Adaptation(rank=rank, alpha=rank),  # their scale is 1
        steps=sampling.steps, guidance=sampling.guidance, sampler=sampling.sampler, spacing=sampling.spacing,
        trained_on=f"imported from {checkpoint.name}, weights of facebookresearch/dynadiff; {beside_release(sampling)}",
        held_out=HeldOut("standard", 0, None, (subject.name,), None),
    )  # fmt: skip
    with torch.device("meta"):
        module = BrainModule(sizes)
    load_strictly(module, brain, "brain module")
    save_generator(generator, None, out / "generator")
    set_trainable(generator.freeze().unet, config.adaptation)
    _adapt(generator.unet, adapters)
    save_model(Model(config, module, generator, subject.mask, subject.affine), out)
    return others


def beside_release(sampling: Sampling) -> str:
    """How an imported decoder paints, for a reader who knows how the authors' does."""
    return f"set to {sampling}, and the release has {RELEASED}"


def split(state: Mapping[str, Tensor]) -> tuple[dict[str, dict[str, Tensor]], int]:
    """The tensors of the brain module, the U-Net and the VAE without their prefixes, and how many others there are.

    Raises UserError when the model has a part that is none of these, or one of these is absent.
    """
    model = {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")}
    parts = {p: {k.removeprefix(p): v for k, v in model.items() if k.startswith(p)} for p in PARTS}
    if absent := [p for p in PARTS if not parts[p]]:
        raise UserError(
            f"no tensor is named model.{absent[0]}…: give the consolidated weights of a Dynadiff checkpoint"
        )
    if unknown := [k for k in model if not k.startswith(PARTS)]:
        raise UserError(f"model.{unknown[0]} is no part of the released Dynadiff: this checkpoint is of another model")
    return parts, len(state) - len(model)


def image_half(unet: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights of the plain U-Net, and of the adapters on it, from those of the U-Net of pairs."""
    plain = {k.replace(".base_layer.", "."): v for k, v in image_branch(unet).items()}
    adapters = {k.replace(".default.", "."): v for k, v in plain.items() if ".lora_" in k}
    return {k: v for k, v in plain.items() if ".lora_" not in k}, adapters


def brain_weights(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The nine tensors of the released brain module under the names, and in the shapes, of `BrainModule`.

    Its timestep layers are one grouped convolution over the window (t·h, 1, h), which is a matrix for each volume that
    multiplies from the left. Raises UserError when one is missing, left over or of no such shape.
    """
    names = {
        "subject_layers.weights": "subject", "lin0.weight": "timestep_weight", "lin0.bias": "timestep_bias",
        "post_lin0.0.weight": "activation.0.weight", "post_lin0.0.bias": "activation.0.bias",
        "out_time_agg.weight": "aggregate.weight", "out_time_agg.bias": "aggregate.bias",
        "lin1.weight": "out.weight", "lin1.bias": "out.bias",
    }  # fmt: skip
    if wrong := sorted(released.keys() ^ names.keys()):
        known = "lacks" if wrong[0] in names else "has, beyond the published layers,"
        raise UserError(f"the checkpoint's brain module {known} {wrong[0]}: this is another model")
    state = {new: released[old] for old, new in names.items()}
    subject, weight, h = state["subject"], state["timestep_weight"], len(state["activation.0.weight"])
    t = len(weight) // h
    if subject.ndim != 3 or len(subject) != 1 or weight.shape != (t * h, 1, h) or state["timestep_bias"].ndim != 1:
        shapes = f"{tuple(subject.shape)} and {tuple(weight.shape)}"
        raise UserError(f"subject layer and timestep layers are {shapes}: a checkpoint of one subject is needed")
    state["subject"] = subject[0]
    state["timestep_weight"] = weight.reshape(t, h, h).transpose(1, 2).contiguous()
    state["timestep_bias"] = state["timestep_bias"].reshape(t, h)
    return {k: v.float() for k, v in state.items()}


def _state(checkpoint: Path) -> dict[str, Tensor]:
    state: dict[str, Any] = read_weights(checkpoint)
    state = next((state[k] for k in ("state_dict", "module") if isinstance(state.get(k), dict)), state)
    if wrong := [k for k, v in state.items() if not isinstance(v, Tensor)]:
        raise UserError(f"{checkpoint} holds {wrong[0]}, which is no tensor: give the consolidated weights")
    return state


def _generator(unet: Mapping[str, Tensor], vae: Mapping[str, Tensor], folder: Path) -> Generator:
    """The checkpoint's networks in the base generator's configuration."""
    part = "image_unet" if (folder / "image_unet").is_dir() else "unet"
    for needed in (f"{part}/config.json", "vae/config.json", "scheduler/scheduler_config.json"):
        if not (folder / needed).is_file():
            raise UserError(f"{folder} has no {needed}: give --generator the folder or hub id of Versatile Diffusion")
    network = plain_unet(UNet2DConditionModel.load_config(folder / part, local_files_only=True), unet)
    with torch.device("meta"):
        autoencoder = AutoencoderKL.from_config(AutoencoderKL.load_config(folder / "vae", local_files_only=True))
    load_strictly(autoencoder, {k: v.float() for k, v in vae.items()}, "VAE")
    return assemble(network, autoencoder, folder)


def _sizes(brain: Mapping[str, Tensor], voxels: int, generator: Generator) -> BrainConfig:
    c, h = brain["subject"].shape
    if c != voxels:
        raise UserError(f"the checkpoint reads {c} voxels and the mask has {voxels}: give the mask of its subject")
    return BrainConfig(c, len(brain["timestep_weight"]), h, generator.tokens)


def _adapt(unet: Any, adapters: dict[str, Tensor]) -> None:
    expected = {k: v.shape for k, v in trained_state(unet).items()}
    for name in sorted(expected.keys() | adapters.keys()):
        if name not in adapters or name not in expected or adapters[name].shape != expected[name]:
            where = re.sub(r"\.lora_.*", "", name)
            raise UserError(f"the adapter of {where} is missing, left over or of another shape: this is another model")
    load_trained(unet, adapters)
