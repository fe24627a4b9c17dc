"""A trained decoder as a folder: brain module, adapters, mask and the resolved choices; loaded strictly, no pickle."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dynadiff.brain import BrainConfig, BrainModule
from dynadiff.cleaning import Cleaning
from dynadiff.engine import MASK, load_mask, mask_digest
from dynadiff.engines import generator_folder as generator_folder
from dynadiff.errors import UserError
from dynadiff.generator import Generator, decode, load_generator, to_pixels
from dynadiff.lora import add_lora, load_lora, merge_lora, save_lora
from dynadiff.windows import WindowSpec

CONFIG = "model.json"


@dataclass(frozen=True)
class ModelConfig:
    subject: str
    tr: float  # seconds
    mask_sha256: str
    window: WindowSpec
    cleaning: Cleaning
    brain: BrainConfig
    generator: str  # folder, relative to the model's; "embedded" for the one in the package
    lora_rank: int = 4
    lora_alpha: float = 4.0
    steps: int = 20  # sampling steps and guidance that it was judged with
    guidance: float = 3.0
    trained_on: str = ""  # one line for a reader


@dataclass
class Model:
    """Brain module and adapted generator of one subject, ready to train or to decode."""

    config: ModelConfig
    brain: BrainModule
    generator: Generator
    mask: NDArray[np.bool_]
    affine: NDArray[np.float64]

    def trainable(self) -> list[nn.Parameter]:
        lora = [p for name, p in self.generator.unet.named_parameters() if "lora_" in name]
        return [*self.brain.parameters(), *lora]


def new_model(config: ModelConfig, generator: Generator, mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> Model:
    """An untrained model: brain module from scratch, generator frozen, adapters at zero."""
    generator.freeze()
    add_lora(generator.unet, config.lora_rank, config.lora_alpha)
    return Model(config, BrainModule(config.brain), generator, mask, affine)


def save_model(model: Model, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write the folder; ``dtype`` float16 halves its size. The generator is only referred to."""
    folder.mkdir(parents=True, exist_ok=True)
    brain = {k: v.detach().to(dtype).contiguous() for k, v in model.brain.state_dict().items()}
    save_file(brain, folder / "brain.safetensors")
    save_lora(model.generator.unet, folder / "lora.safetensors")
    nib.save(nib.Nifti1Image(model.mask.astype(np.uint8), model.affine), folder / MASK)
    (folder / CONFIG).write_text(json.dumps(asdict(model.config), indent=1) + "\n")


def load_model(folder: Path, merged: bool = False) -> Model:
    """Open a model folder in float32; ``merged`` folds the adapters into the U-Net, for decoding."""
    path = folder / CONFIG
    try:
        raw = json.loads(path.read_text())
        if set(raw) != {f.name for f in fields(ModelConfig)}:
            raise ValueError(f"keys {sorted(set(raw) ^ {f.name for f in fields(ModelConfig)})}")
        kinds = {"window": WindowSpec, "cleaning": Cleaning, "brain": BrainConfig}
        config = ModelConfig(**raw | {name: kind(**raw[name]) for name, kind in kinds.items()})
    except FileNotFoundError:
        raise UserError(f"no model in {folder}: make one with `dynadiff train --out {folder}`") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is not a model of this version ({error}): train it again") from None
    mask = load_mask(folder)
    if mask_digest(mask) != config.mask_sha256:
        raise UserError(f"{folder / MASK} is not the mask that this model was trained with: put the original back")
    model = new_model(config, load_generator(generator_folder(config.generator, folder)), mask, _affine(folder))
    model.brain.load_state_dict({k: v.float() for k, v in load_file(folder / "brain.safetensors").items()})
    load_lora(model.generator.unet, folder / "lora.safetensors")
    if merged:
        merge_lora(model.generator.unet)
    model.brain.eval()
    return model


def _affine(folder: Path) -> NDArray[np.float64]:
    return np.asarray(nib.load(folder / MASK).affine, np.float64)


class Step(nn.Module):
    """One guided DDIM step: both halves of classifier-free guidance, their combination and the update.

    eps = e_u + g (e_c − e_u); x ← a x + b eps. The unconditional half sees zero tokens, as the released code does.
    """

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self, latent: Tensor, tokens: Tensor, timestep: Tensor, guidance: Tensor, coefficients: Tensor
    ) -> Tensor:
        """The next latents (b, c, h, w); tokens (b, n, d), timestep (1,) int64, guidance (), coefficients (2,)."""
        both = torch.cat([torch.zeros_like(tokens), tokens])
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
