"""The frozen image generator: a U-Net, a VAE and a noise schedule in one folder of the diffusers layout.

The small one that ships and Versatile Diffusion's image branch are the same thing here, a plain `UNet2DConditionModel`
conditioned on image tokens. Knows pictures, latents and tokens; knows nothing of brains, training or streaming.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from torch.nn import functional as F

from dynadiff.base.errors import UserError
from dynadiff.networks.facts import CONFIG, SMALL, Sizes, sizes_of, unet_part
from dynadiff.networks.image_encoder import ImageEncoder
from dynadiff.networks.layout import LayoutUNet, layout_count, with_layout
from dynadiff.networks.released.versatile import load_unet
from dynadiff.networks.schedule import Schedule


@dataclass
class Generator:
    """The parts of a generator folder. ``patch`` > 1 hands the VAE pictures unshuffled to patch² × 3 channels."""

    unet: Any  # a diffusers network: (b, c, h, w), timesteps (b,), tokens (b, n, d) -> predicted noise (b, c, h, w)
    vae: Any  # a diffusers autoencoder
    schedule: Schedule
    patch: int
    picture_size: int
    tokens: tuple[int, int]  # how many image tokens, and their width; a layout's are not counted

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a latent."""
        side = int(self.unet.config.sample_size)
        return int(self.unet.config.out_channels), side, side

    @property
    def layout(self) -> int:
        """How many further tokens tell its U-Net a picture's layout; 0 where it takes none."""
        takes = isinstance(self.unet, LayoutUNet)
        return layout_count(self.latent_shape, self.tokens[1]) if takes else 0

    def told(self, layout: bool) -> tuple[int, int]:
        """How many tokens a brain module says, with a picture's ``layout`` or without it, and their width."""
        return self.tokens[0] + layout * self.layout, self.tokens[1]

    def freeze(self) -> "Generator":
        for network in (self.unet, self.vae):
            network.eval().requires_grad_(False)
        return self


def tiny_generator(picture_size: int = SMALL) -> Generator:
    """The generator that ships: 3.8 M U-Net and 1.6 M VAE parameters, latents 12×8×8, 17 tokens of 64 (untrained).

    Its U-Net takes a layout, 12 tokens more.
    """
    tokens = (17, 64)
    unet = UNet2DConditionModel(
        sample_size=picture_size // 8, in_channels=12, out_channels=12, block_out_channels=(96, 96), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=tokens[1], attention_head_dim=4, norm_num_groups=16,
    )  # fmt: skip
    vae = AutoencoderKL(
        in_channels=48, out_channels=48, latent_channels=12, block_out_channels=(64, 96), layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=1,
        mid_block_add_attention=False, sample_size=picture_size // 4, scaling_factor=1.0,
    )  # fmt: skip
    with torch.no_grad():  # the posterior's deviation is not learned: a tenth of what the mean is held to
        vae.quant_conv.weight[12:] = 0
        vae.quant_conv.bias[12:] = 2 * math.log(0.1)
    return Generator(with_layout(unet, tokens[0]), vae, Schedule(), patch=4, picture_size=picture_size, tokens=tokens)


def to_unit(pictures: Tensor) -> Tensor:
    """uint8 pictures (b, h, w, 3) to float (b, 3, h, w) in [-1, 1]."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def posterior(generator: Generator, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, each (b, c, h, w), of the scaled latents of pictures (b, 3, s, s) in [-1, 1]."""
    packed = F.pixel_unshuffle(pictures, generator.patch)
    normal = generator.vae.encode(packed).latent_dist
    scale = generator.vae.config.scaling_factor
    return normal.mean * scale, normal.std * scale


def decode_latents(generator: Generator, latents: Tensor) -> Tensor:
    """Scaled latents (b, c, h, w) to pictures (b, 3, s, s), nominally in [-1, 1]."""
    packed = generator.vae.decode(latents / generator.vae.config.scaling_factor).sample
    return F.pixel_shuffle(packed, generator.patch)


def to_pixels(pictures: Tensor) -> Tensor:
    """Pictures (b, 3, s, s) in [-1, 1] to uint8 (b, s, s, 3), truncated as the released code does."""
    values = ((pictures / 2 + 0.5).clamp(0, 1) * 255).permute(0, 2, 3, 1)
    return values.to(torch.uint8)  # last, since TensorRT has no uint8 but at the end of a network


def save_generator(generator: Generator, encoder: ImageEncoder | None, folder: Path) -> None:
    """Write the folder: ``unet/``, ``vae/``, ``scheduler/``, ``image_encoder/`` and ``generator.json``."""
    generator.unet.save_pretrained(folder / "unet")
    generator.vae.save_pretrained(folder / "vae")
    s = generator.schedule
    DDIMScheduler(
        num_train_timesteps=s.train_steps, beta_start=s.beta_start, beta_end=s.beta_end, beta_schedule="scaled_linear",
        steps_offset=s.steps_offset, set_alpha_to_one=False, clip_sample=False,
    ).save_pretrained(folder / "scheduler")  # fmt: skip
    for part in ("unet", "vae"):  # diffusers notes where a network was loaded from; that is nobody else's business
        path = folder / part / "config.json"
        kept = {k: v for k, v in json.loads(path.read_text()).items() if k != "_name_or_path"}
        path.write_text(json.dumps(kept, indent=2) + "\n")
    if encoder is not None:
        encoder.save(folder / "image_encoder")
    sizes = Sizes(generator.patch, generator.picture_size, generator.tokens)
    (folder / CONFIG).write_text(json.dumps(asdict(sizes)) + "\n")


def load_generator(folder: Path, dtype: torch.dtype = torch.float32) -> Generator:
    """Open a generator folder; weights stored in half precision are widened to ``dtype``.

    Versatile Diffusion's own folder will do: its ``image_unet`` is taken for the U-Net, without a text branch.
    """
    part = unet_part(folder)
    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=dtype, local_files_only=True)
    return assemble(load_unet(folder / part, dtype), vae, folder)


def assemble(unet: Any, vae: Any, folder: Path) -> Generator:
    """A generator of two networks, with the noise schedule and the sizes that a generator folder states."""
    own = sizes_of(folder)
    if isinstance(unet, LayoutUNet):
        unet.image_tokens = own.tokens[0]
    return Generator(unet, vae, load_schedule(folder), own.patch, own.picture_size, own.tokens)


def load_schedule(folder: Path) -> Schedule:
    """The noise schedule that a generator folder states. UserError for one that is not supported."""
    noise = DDIMScheduler.load_config(folder / "scheduler", local_files_only=True)
    if noise["beta_schedule"] != "scaled_linear":
        raise UserError(f"the noise schedule in {folder} is {noise['beta_schedule']}: only scaled_linear is supported")
    try:
        return Schedule(noise["num_train_timesteps"], noise["beta_start"], noise["beta_end"], noise["steps_offset"])
    except ValueError as error:
        raise UserError(f"{folder / 'scheduler'} is not supported ({error}): give another generator") from None
