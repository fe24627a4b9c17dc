"""The brain module: a window of volumes becomes image tokens. Knows voxels and tokens, no pictures and no diffusion.

One subject's module, or one of several subjects who share all but their own first layers (paper, appendix E).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from dynadiff.networks.facts import AGGREGATIONS, TIMESTEP_LAYERS

BLOCK_DROPOUT = 0.15
OWN = ("subject", "timestep_weight", "timestep_bias")  # what belongs to one subject, the rest is shared


@dataclass(frozen=True)
class BrainConfig:
    """Sizes as published: width 1552, 257 tokens of 768, dropout 0.5 (paper sec. 3.1; facebookresearch/dynadiff).

    ``timestep_layers``: ``each`` volume of the window has one (published), all have one ``shared``, or ``none`` has.
    ``aggregation``: volumes are weighed at the ``out``put (published) or, as voxels, where they come ``in``, by weights
    that are learned; ``out_mean`` and ``in_mean`` take the plain mean. Betas have neither (`betas`).
    Raises ValueError for a word that is none of these, and for several volumes that nothing aggregates.
    """

    voxels: int
    volumes: int = 6
    width: int = 1552
    tokens: tuple[int, int] = (257, 768)
    dropout: float = 0.5
    timestep_layers: str = "each"
    aggregation: str = "out"
    blocks: int = 0  # residual blocks between activation and aggregation, as in MindEye; the published model has none

    def __post_init__(self) -> None:
        for name, known in (("timestep_layers", TIMESTEP_LAYERS), ("aggregation", AGGREGATIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}: choose one of {', '.join(known)}")
        if self.aggregation == "none" and self.volumes != 1:
            raise ValueError(f"aggregation 'none' is for one volume, not for {self.volumes}")

    @classmethod
    def betas(cls, voxels: int, width: int = 1552, tokens: tuple[int, int] = (257, 768), dropout: float = 0.5) -> Self:
        """One beta a voxel: subject layer, LayerNorm, GELU, dropout, output (paper, table 4)."""
        return cls(voxels, 1, width, tokens, dropout, timestep_layers="none", aggregation="none")

    @property
    def slots(self) -> int:
        """How many timestep layers there are."""
        if self.timestep_layers == "none":
            return 0
        return self.volumes if self.timestep_layers == "each" and not self.aggregation.startswith("in") else 1


class BrainModule(nn.Module):
    """Windows (b, voxels, volumes) to tokens (b, n, d), for one subject.

    A linear layer maps voxels to channels (no bias), a layer of its own for each volume's place in the window follows,
    then LayerNorm, GELU and dropout; a linear map over time leaves one vector, a linear map makes the tokens of it.
    No norm at the output: the tokens are shaped by the diffusion loss alone. `BrainConfig` has the variants.
    """

    def __init__(self, config: BrainConfig) -> None:
        super().__init__()
        self.config = config
        _add_own_layers(self, config)
        _add_shared_layers(self, config)

    def forward(self, window: Tensor) -> Tensor:
        return _read_out(self, self.config, _project(self, self.aggregate, window))


class SubjectLayers(nn.Module):
    """The layers that belong to one subject: voxels to channels, and the timestep layers."""

    def __init__(self, config: BrainConfig) -> None:
        super().__init__()
        self.config = config
        _add_own_layers(self, config)


class SharedBrain(nn.Module):
    """Windows of several subjects to tokens: a subject and a timestep layer for each of them, all the rest shared.

    Voxel counts differ between subjects, so a batch is a mapping of subject to windows (b, voxels, volumes), and no
    padding is needed; tokens (sum of b, n, d) come in the mapping's order.
    Raises ValueError when the configurations differ in more than their voxels.
    """

    def __init__(self, configs: Mapping[str, BrainConfig]) -> None:
        super().__init__()
        self.config = next(iter(configs.values()))
        if any(replace(c, voxels=self.config.voxels) != self.config for c in configs.values()):
            raise ValueError("subjects that share a brain module may differ in their voxels only")
        self.subjects = nn.ModuleDict({name: SubjectLayers(config) for name, config in configs.items()})
        _add_shared_layers(self, self.config)

    def forward(self, windows: Mapping[str, Tensor]) -> Tensor:
        hidden = [_project(self._layers(name), self.aggregate, window) for name, window in windows.items()]
        return _read_out(self, self.config, torch.cat(hidden, 1))

    def for_subject(self, name: str) -> BrainModule:
        """One subject's module by itself, which gives the same tokens; its weights are copies."""
        own = self._layers(name)
        with torch.device("meta"):
            alone = BrainModule(own.config)
        state = own.state_dict() | shared_state(self)
        alone.load_state_dict({k: v.clone() for k, v in state.items()}, assign=True)
        return alone.requires_grad_(True).train(self.training)

    def _layers(self, name: str) -> Any:
        if name not in self.subjects:
            raise ValueError(f"the brain module knows subjects {', '.join(self.subjects)} and not {name}")
        return self.subjects[name]


def shared_state(brain: nn.Module) -> dict[str, Tensor]:
    """The weights of a `BrainModule` or a `SharedBrain` that belong to no subject alone, by their names in both."""
    return {k: v for k, v in brain.state_dict().items() if k not in OWN and not k.startswith("subjects.")}


def adapt(pretrained: "BrainModule | SharedBrain", voxels: int) -> BrainModule:
    """A module for a new subject: subject and timestep layers from scratch, all the rest from ``pretrained``."""
    new = BrainModule(replace(pretrained.config, voxels=voxels))
    own = {k: v for k, v in new.state_dict().items() if k in OWN}
    new.load_state_dict(own | shared_state(pretrained))
    return new


def _add_own_layers(module: Any, config: BrainConfig) -> None:
    c, t, h = config.voxels, config.slots, config.width
    module.subject = nn.Parameter(torch.randn(c, h) / c**0.5)
    if t:
        bound = h**-0.5
        module.timestep_weight = nn.Parameter(torch.empty(t, h, h).uniform_(-bound, bound))
        module.timestep_bias = nn.Parameter(torch.empty(t, h).uniform_(-bound, bound))


def _add_shared_layers(module: Any, config: BrainConfig) -> None:
    h = config.width
    module.activation = nn.Sequential(nn.LayerNorm(h), nn.GELU(), nn.Dropout(config.dropout))
    module.blocks = nn.ModuleList(
        nn.Sequential(nn.Linear(h, h), nn.LayerNorm(h), nn.GELU(), nn.Dropout(BLOCK_DROPOUT))
        for _ in range(config.blocks)
    )
    module.aggregate = nn.Linear(config.volumes, 1) if config.aggregation in ("in", "out") else None
    module.out = nn.Linear(h, config.tokens[0] * config.tokens[1])


def _project(own: Any, aggregate: Any, window: Tensor) -> Tensor:
    """Windows (b, voxels, volumes) of one subject to what its timestep layers give, (t, b, width)."""
    config: BrainConfig = own.config
    if window.shape[1:] != (config.voxels, config.volumes):
        raise ValueError(
            f"the brain module takes windows of {config.voxels} voxels × {config.volumes} volumes, "
            f"not {window.shape[1]} × {window.shape[2]}"
        )
    if config.aggregation == "in_mean":
        window = window.mean(2, keepdim=True)
    elif config.aggregation == "in":
        window = aggregate(window)
    x: Tensor = (window.transpose(1, 2) @ own.subject).transpose(0, 1)  # (t, b, h)
    if config.timestep_layers == "shared":
        x = x @ own.timestep_weight[0] + own.timestep_bias[0]
    return x if config.timestep_layers != "each" else torch.baddbmm(own.timestep_bias[:, None], x, own.timestep_weight)


def _read_out(shared: Any, config: BrainConfig, x: Tensor) -> Tensor:
    """What the timestep layers give, (t, b, width), to tokens (b, n, d)."""
    x = shared.activation(x)
    for block in shared.blocks:
        x = x + block(x)
    learned = config.aggregation == "out"  # what came in aggregated, or as a beta, is one volume: its mean is itself
    x = shared.aggregate(x.permute(1, 2, 0))[..., 0] if learned else x.mean(0)
    tokens: Tensor = shared.out(x).unflatten(1, config.tokens)
    return tokens
