"""Trains the small generator's VAE on drawn scenes, then sharpens its decoder with the latents as they are.

The latents are fixed after the first part, so the U-Net may be trained before, after or beside the second.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from dynadiff.networks.generator import Generator, decode_latents, posterior, to_pixels, to_unit
from dynadiff.training.loop import log_to, save_sheet, steps_from


@dataclass(frozen=True)
class VaeTraining:
    steps: int = 5000
    batch: int = 12
    lr: float = 2e-3
    prior: float = 1e-3  # weight of the mean square of the latents, which holds them near unit variance
    sharpen_steps: int = 7000  # of the decoder alone
    sharpen_batch: int = 16
    sharpen_lr: float = 1e-3
    seed: int = 0


def train_vae(generator: Generator, pictures: Tensor, config: VaeTraining, out: Path) -> None:
    """Pixels and their differences (edges) through latents with fixed noise; then scaled to unit variance."""
    vae = generator.vae.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=config.lr, weight_decay=0.0)
    log = log_to(out / "work" / "vae.jsonl")
    where = out / "work" / "vae.safetensors"
    for step in steps_from(where, {"vae": vae}, optimiser, config.steps, config.lr, 100, config.seed, "VAE"):
        x = to_unit(pictures[torch.randint(len(pictures), (config.batch,))])
        with torch.autocast("cpu", torch.bfloat16):
            mean = vae.encode(F.pixel_unshuffle(x, generator.patch)).latent_dist.mean
            y = F.pixel_shuffle(vae.decode(mean + 0.1 * torch.randn_like(mean)).sample, generator.patch).float()
        _descend(picture_loss(y, x) + config.prior * mean.float().square().mean(), vae, optimiser)
        _watch(step + 1, x, y.detach(), "vae", log, out)
    vae.eval().requires_grad_(False)
    mean, _ = posterior(generator, to_unit(pictures[:512]))
    vae.register_to_config(scaling_factor=1 / float(mean.std()))


def sharpen(
    generator: Generator, pictures: Tensor, latents: tuple[Tensor, Tensor], config: VaeTraining, out: Path
) -> None:
    """Train the decoder on from given latents (means and deviations, as `encode_all` gives them), the encoder fixed."""
    vae = generator.vae
    parts: dict[str, nn.Module] = {"decoder": vae.decoder, "post_quant_conv": vae.post_quant_conv}
    trained = nn.ModuleDict(parts).requires_grad_(True).train()
    optimiser = torch.optim.AdamW(trained.parameters(), lr=config.sharpen_lr, weight_decay=0.0)
    log = log_to(out / "work" / "decoder.jsonl")
    where = out / "work" / "decoder.safetensors"
    steps, lr = config.sharpen_steps, config.sharpen_lr
    for step in steps_from(where, parts, optimiser, steps, lr, 100, config.seed, "VAE decoder"):
        pick = torch.randint(len(pictures), (config.sharpen_batch,))
        x = to_unit(pictures[pick])
        mean, deviation = (part[pick].float() for part in latents)
        with torch.autocast("cpu", torch.bfloat16):
            y = decode_latents(generator, mean + deviation * torch.randn_like(mean)).float()
        _descend(picture_loss(y, x), trained, optimiser)
        _watch(step + 1, x, y.detach(), "decoder", log, out)
    trained.eval().requires_grad_(False)


def picture_loss(y: Tensor, x: Tensor) -> Tensor:
    """Mean absolute and squared error of pictures (b, 3, s, s), and the absolute error of their differences."""
    edges = [F.l1_loss(y.diff(dim=d), x.diff(dim=d)) for d in (2, 3)]
    return F.l1_loss(y, x) + F.mse_loss(y, x) + edges[0] + edges[1]


@torch.no_grad()
def encode_all(generator: Generator, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior mean and deviation of the latents of all pictures, in half precision."""
    parts = [posterior(generator, to_unit(batch)) for batch in track(pictures.split(250), "encoding scenes")]
    return torch.cat([m.half() for m, _ in parts]), torch.cat([s.half() for _, s in parts])


def _descend(loss: Tensor, module: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimiser.step()


def _watch(done: int, x: Tensor, y: Tensor, name: str, log: Callable[..., None], out: Path) -> None:
    if done % 50 == 0:
        log(step=done, l1=F.l1_loss(y, x).item(), loss=picture_loss(y, x).item())
    if done % 1000 == 0:
        save_sheet(out / "samples" / f"{name}-{done:05d}.png", [to_pixels(p[:12]).numpy() for p in (x, y)])
