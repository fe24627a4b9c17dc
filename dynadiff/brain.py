"""The brain module: a window of volumes becomes image tokens. Knows voxels and tokens, no pictures and no diffusion."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class BrainConfig:
    """Sizes as published: width 1552, 257 tokens of 768, dropout 0.5 (paper sec. 3.1; facebookresearch/dynadiff)."""

    voxels: int
    volumes: int = 6
    width: int = 1552
    tokens: tuple[int, int] = (257, 768)
    dropout: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", tuple(self.tokens))


class BrainModule(nn.Module):
    """Windows (b, voxels, volumes) to tokens (b, n, d), for one subject.

    A linear layer maps voxels to channels (no bias), a layer of its own for each volume's place in the window follows,
    then LayerNorm, GELU and dropout; a linear map over time leaves one vector, a linear map makes the tokens of it.
    No norm at the output: the tokens are shaped by the diffusion loss alone.
    """

    def __init__(self, config: BrainConfig) -> None:
        super().__init__()
        self.config = config
        c, t, h = config.voxels, config.volumes, config.width
        self.subject = nn.Parameter(torch.randn(c, h) / c**0.5)
        bound = h**-0.5
        self.timestep_weight = nn.Parameter(torch.empty(t, h, h).uniform_(-bound, bound))
        self.timestep_bias = nn.Parameter(torch.empty(t, h).uniform_(-bound, bound))
        self.activation = nn.Sequential(nn.LayerNorm(h), nn.GELU(), nn.Dropout(config.dropout))
        self.aggregate = nn.Linear(t, 1)
        self.out = nn.Linear(h, config.tokens[0] * config.tokens[1])

    def forward(self, window: Tensor) -> Tensor:
        config = self.config
        if window.shape[1:] != (config.voxels, config.volumes):
            raise ValueError(
                f"the brain module takes windows of {config.voxels} voxels × {config.volumes} volumes, "
                f"not {window.shape[1]} × {window.shape[2]}"
            )
        x = window.transpose(1, 2) @ self.subject  # (b, t, h)
        x = torch.baddbmm(self.timestep_bias[:, None], x.transpose(0, 1), self.timestep_weight)  # (t, b, h)
        x = self.aggregate(self.activation(x).permute(1, 2, 0))[..., 0]
        tokens: Tensor = self.out(x).unflatten(1, config.tokens)
        return tokens
