"""The image encoder gives the small generator its image tokens, as CLIP ViT-L/14 gives Versatile Diffusion its own.

17 tokens: one for the whole picture and a 4×4 grid, the counterpart of CLIP's 1 + 16×16. It is trained with the
generator and names the category from its first token, so that tokens carry what a picture shows, not only its look.
Dynadiff itself never uses it: it gives the ceiling (a picture from its own tokens) and the feature space of scoring.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from dynadiff.base.documents import read_document


@dataclass(frozen=True)
class ImageEncoderConfig:
    widths: tuple[int, int, int] = (40, 56, 80)  # channels at 1/4, 1/8 and 1/16 of the picture
    token_dim: int = 64
    categories: int = 24


class ResBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, width), nn.Conv2d(width, width, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(8, width), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        return x + y


class ImageEncoder(nn.Module):
    """Pictures (b, 3, s, s) in [-1, 1] to tokens (b, 1 + (s/16)², token_dim), each of mean 0 and variance 1."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.config = config
        a, b, c = config.widths
        self.trunk = nn.Sequential(
            nn.PixelUnshuffle(4), nn.Conv2d(48, a, 3, padding=1), ResBlock(a),
            nn.Conv2d(a, b, 3, stride=2, padding=1), ResBlock(b),
            nn.Conv2d(b, c, 3, stride=2, padding=1), ResBlock(c), ResBlock(c),
        )  # fmt: skip
        self.local = nn.Conv2d(c, config.token_dim, 1)
        self.whole = nn.Sequential(nn.Linear(c, 2 * c), nn.SiLU(), nn.Linear(2 * c, config.token_dim))
        self.norm = nn.LayerNorm(config.token_dim, elementwise_affine=False)
        self.category = nn.Linear(config.token_dim, config.categories)

    def forward(self, pictures: Tensor) -> Tensor:
        maps = self.trunk(pictures)
        whole = self.whole(maps.mean((2, 3)))
        local = self.local(maps).flatten(2).transpose(1, 2)
        tokens: Tensor = self.norm(torch.cat([whole[:, None], local], 1))
        return tokens

    def classify(self, tokens: Tensor) -> Tensor:
        """Category scores (b, categories) from the first token."""
        scores: Tensor = self.category(tokens[:, 0])
        return scores

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(asdict(self.config)) + "\n")
        save_file({k: v.contiguous() for k, v in self.state_dict().items()}, folder / "model.safetensors")

    @classmethod
    def load(cls, folder: Path) -> "ImageEncoder":
        encoder = cls(read_document((folder / "config.json").read_bytes(), ImageEncoderConfig))
        encoder.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
        return encoder.eval().requires_grad_(False)


@torch.no_grad()
def encode_pictures(encoder: nn.Module, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The tokens (n, k, d) of uint8 pictures (n, s, s, 3)."""
    batches = torch.from_numpy(pictures).split(256)
    return torch.cat([encoder(b.permute(0, 3, 1, 2).float() / 127.5 - 1) for b in batches]).numpy()
