"""The three networks as they are exported: adapters merged, everything left out that provably changes nothing.

What is left out, and why that is exact:

* Cross-attention of the unconditional half. Its tokens are zero and keys and values have no bias, so they are zero too
  and attention gives the bias of its output layer. Not so with a learned null vector in place of the zeros.
* Time embeddings. They depend on the timestep alone, so each residual block looks up its row of a table with one row
  per timestep of training; any number of sampling steps finds its timesteps there.
* The unconditional half at guidance 1, where e_u + g (e_c - e_u) is e_c: a step network of its own.

Not left out: keys and values of the tokens, the same at each of the steps. Computing them once would save 0.5 % of a
picture at Versatile Diffusion's size, but the brain graph would then hold weights of the U-Net and hand over 32 tensors
that only this U-Net understands, instead of image tokens.

The networks take and give float32 whatever they compute in; guidance and DDIM update are float32 always. They alter the
U-Net that they are given: it is for export from then on. Knows networks, nothing of files and formats.
"""

from itertools import accumulate
from typing import Any

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn

from dynadiff.networks.brain import BrainModule
from dynadiff.networks.generator import Generator, decode_latents, to_pixels


class Brain(nn.Module):
    """Windows (b, voxels, volumes) to tokens (b, n, d), computed in ``dtype``."""

    def __init__(self, brain: BrainModule, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.brain, self.dtype = brain.to(dtype), dtype

    def forward(self, window: Tensor) -> Tensor:
        tokens: Tensor = self.brain(window.to(self.dtype))
        return tokens.float()


class GuidedStep(nn.Module):
    """One guided DDIM step; computes what `dynadiff.networks.sampling.Step` does, for fewer products.

    With learned unconditional tokens ``null`` (n, d) both halves attend to theirs.
    Raises ValueError when adapters are not merged, or keys or values have a bias.
    """

    null: Tensor | None

    def __init__(
        self, unet: Any, train_steps: int, dtype: torch.dtype = torch.float32, null: Tensor | None = None
    ) -> None:
        super().__init__()
        if null is None:
            attend_guided_half(unet)
        self.register_buffer("null", None if null is None else null.detach().to(dtype))
        self.unet, self.dtype = prepared(unet, train_steps, dtype), dtype

    def forward(
        self, latent: Tensor, tokens: Tensor, timestep: Tensor, guidance: Tensor, coefficients: Tensor
    ) -> Tensor:
        """The next latents (b, c, h, w); tokens (b, n, d), timestep (1,) int64, guidance (), coefficients (2,)."""
        both, seen = torch.cat([latent, latent]).to(self.dtype), tokens.to(self.dtype)
        if self.null is not None:
            seen = torch.cat([self.null.expand_as(seen), seen])
        noise = self.unet(both, timestep, seen, return_dict=False)[0].float()
        free, guided = noise.chunk(2)
        update: Tensor = coefficients[0] * latent + coefficients[1] * (free + guidance * (guided - free))
        return update


class UnguidedStep(nn.Module):
    """One DDIM step at guidance 1: half the work. It is to be made before a `GuidedStep` of the same U-Net.

    Raises ValueError when adapters are not merged, or where it comes second.
    """

    def __init__(self, unet: Any, train_steps: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        if any(isinstance(attention.processor, GuidedHalf) for attention in cross_attentions(unet)):
            raise ValueError("cross-attention of this U-Net is for both halves: make the step of one half first")
        self.unet, self.dtype = prepared(unet, train_steps, dtype), dtype

    def forward(self, latent: Tensor, tokens: Tensor, timestep: Tensor, coefficients: Tensor) -> Tensor:
        """The next latents (b, c, h, w); tokens (b, n, d), timestep (1,) int64, coefficients (2,)."""
        noise = self.unet(latent.to(self.dtype), timestep, tokens.to(self.dtype), return_dict=False)[0]
        update: Tensor = coefficients[0] * latent + coefficients[1] * noise.float()
        return update


class VaeDecoder(nn.Module):
    """Final latents (b, c, h, w) to uint8 pictures (b, s, s, 3); the VAE in ``dtype``, the pixels from float32."""

    def __init__(self, generator: Generator, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.generator, self.dtype = generator, dtype
        self.vae = nn.Module.to(generator.vae, dtype)  # registered, so that an exporter finds its weights

    def forward(self, latent: Tensor) -> Tensor:
        return to_pixels(decode_latents(self.generator, latent.to(self.dtype)).float())


class GuidedHalf(AttnProcessor2_0):  # type: ignore[misc]  # diffusers has no types
    """Cross-attention of a batch whose first half sees zero tokens; the tokens given are those of the second half."""

    def __call__(self, attn: Attention, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        guided = super().__call__(attn, hidden_states.chunk(2)[1], *args, **kwargs)
        return torch.cat([attn.to_out[0].bias.expand_as(guided), guided])


def cross_attentions(unet: nn.Module) -> list[Attention]:
    return [module for name, module in unet.named_modules() if name.endswith(".attn2")]


def attend_guided_half(unet: nn.Module) -> None:
    for attention in cross_attentions(unet):
        if attention.to_k.bias is not None or attention.to_v.bias is not None:
            raise ValueError("keys or values of this U-Net have a bias: zero tokens do not make them zero")
        attention.set_processor(GuidedHalf())


def prepared(unet: Any, train_steps: int, dtype: torch.dtype) -> Any:
    """The U-Net in ``dtype`` without time embedding, after a look that its adapters are merged."""
    left = [name for name, _ in unet.named_parameters() if "lora" in name or "base_layer" in name]
    if left:
        raise ValueError(f"adapters are not merged: {left[0]}")
    if not isinstance(unet.time_proj, Rows):  # another step was made of it before
        tabulate_time(unet, train_steps)
    return nn.Module.to(unet, dtype)  # diffusers' own warns of modules to keep in float32, of which it has none here


class Rows(nn.Module):
    """Timesteps (b,) to rows (b, width) of a table."""

    table: Tensor

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table)

    def forward(self, timesteps: Tensor) -> Tensor:
        return self.table[timesteps]


class Whole(nn.Module):
    """What `Rows` gave, unchanged: it stands where the time embedding's linear layers were."""

    def forward(self, rows: Tensor, condition: Tensor | None = None) -> Tensor:
        return rows


class Columns(nn.Module):
    """One residual block's part of a row; it stands where the block's projection of the time embedding was."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, rows: Tensor) -> Tensor:
        return rows[:, self.start : self.stop]


@torch.no_grad()
def tabulate_time(unet: Any, train_steps: int) -> None:
    """Replace the time embedding and its projections by a table (train_steps, channels of all residual blocks)."""
    blocks = [module for module in unet.modules() if getattr(module, "time_emb_proj", None) is not None]
    device = next(unet.parameters()).device
    embedded = unet.time_embedding(unet.time_proj(torch.arange(train_steps, device=device)))
    parts = [block.time_emb_proj(block.nonlinearity(embedded)) for block in blocks]
    stops = accumulate(part.shape[1] for part in parts)
    for block, part, stop in zip(blocks, parts, stops, strict=True):
        block.time_emb_proj, block.skip_time_act = Columns(stop - part.shape[1], stop), True
    unet.time_proj, unet.time_embedding = Rows(torch.cat(parts, 1)), Whole()
