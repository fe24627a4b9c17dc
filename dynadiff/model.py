"""A trained decoder as a folder: brain module, adapters, mask and the resolved choices; loaded strictly, no pickle.

``model.json`` names the weight files and their digests. They may lie outside the folder, as those do that several
subjects share; then every subject has a model folder of its own, and any command takes it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from dynadiff.brain import BrainConfig, BrainModule, SharedBrain, adapt, shared_state
from dynadiff.checkpoint import save_tensors
from dynadiff.cleaning import Cleaning
from dynadiff.engine import MASK, file_digest, load_mask, mask_digest
from dynadiff.errors import UserError
from dynadiff.generator import Generator, decode, load_generator, locate, to_pixels
from dynadiff.lora import Adaptation, load_trained, merge_lora, set_trainable, trained, trained_state
from dynadiff.whole import whole
from dynadiff.windows import WindowSpec

CONFIG = "model.json"
NULL = "null.safetensors"


@dataclass(frozen=True)
class ModelConfig:
    subject: str
    tr: float  # seconds
    mask_sha256: str
    window: WindowSpec
    cleaning: Cleaning
    brain: BrainConfig
    generator: str  # a folder, relative to the model's or not, "embedded" for the one in the package, or a hub id
    adaptation: Adaptation = field(default_factory=Adaptation)
    steps: int = 20  # sampling steps and guidance that it was judged with
    guidance: float = 3.0
    sampler: str = "ddim"  # or "ddpm"; an engine is always DDIM
    unconditional: str = "zeros"  # what guidance leads away from; or "learned"
    trained_on: str = ""  # one line for a reader
    brain_files: Mapping[str, str] = field(default_factory=dict)  # weight files and their sha256, set when saved
    unet_files: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Model:
    """Brain module and adapted generator of one subject, ready to train or to decode."""

    config: ModelConfig
    brain: BrainModule
    generator: Generator
    mask: NDArray[np.bool_]
    affine: NDArray[np.float64]
    null: nn.Parameter | None = None  # the learned unconditional tokens (n, d); None: zeros

    def trainable(self) -> list[nn.Parameter]:
        return [*self.brain.parameters(), *trained(self.generator.unet).values(), *_of(self.null)]


@dataclass
class SharedModel:
    """One brain module and one adapted generator for several subjects; masks and affines by subject."""

    configs: Mapping[str, ModelConfig]
    brain: SharedBrain
    generator: Generator
    masks: Mapping[str, NDArray[np.bool_]]
    affines: Mapping[str, NDArray[np.float64]]
    null: nn.Parameter | None = None

    def trainable(self) -> list[nn.Parameter]:
        return [*self.brain.parameters(), *trained(self.generator.unet).values(), *_of(self.null)]

    def for_subject(self, name: str) -> Model:
        """One subject's model: its brain module by itself, the same generator."""
        brain = self.brain.for_subject(name)
        return Model(self.configs[name], brain, self.generator, self.masks[name], self.affines[name], self.null)


def new_model(config: ModelConfig, generator: Generator, mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> Model:
    """An untrained model: brain module from scratch, generator frozen but for what learns, adapters at zero."""
    set_trainable(generator.freeze().unet, config.adaptation)
    return Model(config, BrainModule(config.brain), generator, mask, affine, _null(config))


def new_shared_model(
    configs: Mapping[str, ModelConfig], generator: Generator, masks: Mapping[str, NDArray[np.bool_]],
    affines: Mapping[str, NDArray[np.float64]],
) -> SharedModel:  # fmt: skip
    """An untrained model of several subjects, who must agree in all but subject and voxels."""
    first = next(iter(configs.values()))
    set_trainable(generator.freeze().unet, first.adaptation)
    brain = SharedBrain({name: config.brain for name, config in configs.items()})
    return SharedModel(configs, brain, generator, masks, affines, _null(first))


def adapted_model(
    pretrained: Model, config: ModelConfig, generator: Generator, mask: NDArray[np.bool_], affine: NDArray[np.float64]
) -> Model:
    """A model of a new subject: subject and timestep layers from scratch, all the rest starts as pretrained (app. E).

    Raises ValueError when the two differ in more of their brain modules than voxels, or in what of the U-Net learns.
    """
    was = pretrained.config
    same = replace(config.brain, voxels=was.brain.voxels) == was.brain and config.adaptation == was.adaptation
    if not same or config.unconditional != was.unconditional:
        raise ValueError("a pretrained model can only be adapted to another subject, not to other sizes or layers")
    model = new_model(config, generator, mask, affine)
    model.brain = adapt(pretrained.brain, config.brain.voxels)
    load_trained(generator.unet, trained_state(pretrained.generator.unet))
    if model.null is not None and pretrained.null is not None:
        model.null.data.copy_(pretrained.null.data)
    return model


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
        beside = f"../{config.generator}" if (folder / config.generator).is_dir() else config.generator
        here = replace(config, generator=beside)
        _write_config(here, home, model.masks[name], model.affines[name], [own, shared], unet)


def load_model(folder: Path, merged: bool = False) -> Model:
    """Open a model folder in float32; ``merged`` folds the adapters into the U-Net, for decoding."""
    config = load_config(folder)
    mask = load_mask(folder)
    if mask_digest(mask) != config.mask_sha256:
        raise UserError(f"{folder / MASK} is not the mask that this model was trained with: put the original back")
    model = new_model(config, load_generator(generator_folder(config.generator, folder)), mask, _affine(folder))
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
        raw = json.loads(path.read_text())
        if set(raw) != {f.name for f in fields(ModelConfig)}:
            raise ValueError(f"keys {sorted(set(raw) ^ {f.name for f in fields(ModelConfig)})}")
        kinds: dict[str, Any] = {
            "window": WindowSpec, "cleaning": Cleaning, "brain": BrainConfig, "adaptation": Adaptation
        }  # fmt: skip
        for name, kind in kinds.items():
            if wrong := set(raw[name]) ^ {f.name for f in fields(kind)}:
                raise ValueError(f"keys {sorted(wrong)} of {name}")
        return ModelConfig(**raw | {name: kind(**raw[name]) for name, kind in kinds.items()})
    except FileNotFoundError:
        raise UserError(f"no model in {folder}: make one with `dynadiff train --out {folder}`") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is not a model of this version ({error}): train it again") from None


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
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), folder / MASK)
    brain_files, unet_files = ({_relative(p, folder): file_digest(p) for p in paths} for paths in (brain, unet))
    complete = replace(config, brain_files=brain_files, unet_files=unet_files)
    with whole(folder / CONFIG) as new:
        new.write_text(json.dumps(asdict(complete), indent=1) + "\n")


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


def _of(null: nn.Parameter | None) -> list[nn.Parameter]:
    return [] if null is None else [null]


def _null(config: ModelConfig) -> nn.Parameter | None:
    return nn.Parameter(torch.zeros(config.brain.tokens)) if config.unconditional == "learned" else None


def _affine(folder: Path) -> NDArray[np.float64]:
    return np.asarray(nib.load(folder / MASK).affine, np.float64)


class Step(nn.Module):
    """One guided DDIM step: both halves of classifier-free guidance, their combination and the update.

    eps = e_u + g (e_c − e_u); x ← a x + b eps. The unconditional half sees zero tokens, as the released code does,
    or the learned ones (n, d) of the paper.
    """

    null: Tensor | None

    def __init__(self, unet: nn.Module, null: Tensor | None = None) -> None:
        super().__init__()
        self.unet = unet
        self.register_buffer("null", None if null is None else null.detach(), persistent=False)

    def forward(
        self, latent: Tensor, tokens: Tensor, timestep: Tensor, guidance: Tensor, coefficients: Tensor
    ) -> Tensor:
        """The next latents (b, c, h, w); tokens (b, n, d), timestep (1,) int64, guidance (), coefficients (2,)."""
        nothing = torch.zeros_like(tokens) if self.null is None else self.null.to(tokens.dtype).expand_as(tokens)
        both = torch.cat([nothing, tokens])
        free, guided = self.unet(torch.cat([latent, latent]), timestep, both, return_dict=False)[0].chunk(2)
        update: Tensor = coefficients[0] * latent + coefficients[1] * (free + guidance * (guided - free))
        return update


class Render(nn.Module):
    """Final latents (b, c, h, w) to uint8 pictures (b, s, s, 3)."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator
        self.vae = generator.vae  # registered, so that an exporter finds its weights

    def forward(self, latent: Tensor) -> Tensor:
        return to_pixels(decode(self.generator, latent))


@torch.no_grad()
def paint_batch(generator: Generator, tokens: Tensor, noise: Tensor, steps: int, guidance: float) -> NDArray[np.uint8]:
    """Pictures (b, s, s, 3) of tokens (b, n, d), all from the same initial noise (c, h, w)."""
    step, schedule = Step(generator.unet), generator.schedule
    x = noise.expand(len(tokens), *noise.shape)
    for t, ab in zip(schedule.timesteps(steps), torch.from_numpy(schedule.ddim(steps)).float(), strict=True):
        x = step(x, tokens, torch.tensor([int(t)]), torch.tensor(guidance), ab)
    return np.asarray(Render(generator)(x).numpy())
