"""A decoder in memory: brain module, adapted generator, mask and the resolved choices, of one subject or several.

Knows networks and what of them learns; knows no files (``dynadiff.networks.model_folder``) and no training.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dynadiff.networks.adapters import Adaptation, load_trained, set_trainable, trained, trained_state
from dynadiff.networks.brain import BrainConfig, BrainModule, SharedBrain, adapt
from dynadiff.networks.choices import Guidance, Sampling, Spacing
from dynadiff.networks.draws import first_weights
from dynadiff.networks.generator import Generator
from dynadiff.recordings.held_out import HeldOut
from dynadiff.signal.cleaning import Cleaning
from dynadiff.signal.windows import WindowSpec


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
    steps: int = 20  # sampling steps, guidance and timesteps that it was judged with: a `Sampling`
    guidance: Guidance = 3.0
    sampler: str = "ddim"  # or "ddpm"; an engine is always DDIM
    spacing: Spacing = "leading"
    unconditional: str = "zeros"  # what guidance leads away from; or "learned"
    trained_on: str = ""  # one line for a reader
    held_out: HeldOut | None = None  # from its training; None: nothing that it could say
    brain_files: Mapping[str, str] = field(default_factory=dict)  # weight files and their sha256, set when saved
    unet_files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sampling()

    def sampling(self, seed: int = 0) -> Sampling:
        """How it paints. Raises ValueError for what cannot be sampled by."""
        return Sampling(self.sampler, self.steps, self.guidance, seed, self.spacing)

    def sampled(self, sampling: Sampling) -> "ModelConfig":
        """The same model, set to paint so."""
        s = sampling
        return replace(self, sampler=s.sampler, steps=s.steps, guidance=s.guidance, spacing=s.spacing)


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


def new_model(
    config: ModelConfig, generator: Generator, mask: NDArray[np.bool_], affine: NDArray[np.float64], seed: int = 0
) -> Model:
    """An untrained model: brain module from scratch, generator frozen but for what learns, adapters at zero.

    ``seed`` gives brain module and adapters their first weights, each by itself: one does not depend on the other.
    """
    _adapt(generator, config, seed)
    with first_weights(seed, "brain module"):
        brain = BrainModule(config.brain)
    return Model(config, brain, generator, mask, affine, _null(config))


def new_shared_model(
    configs: Mapping[str, ModelConfig], generator: Generator, masks: Mapping[str, NDArray[np.bool_]],
    affines: Mapping[str, NDArray[np.float64]], seed: int = 0,
) -> SharedModel:  # fmt: skip
    """An untrained model of several subjects, who must agree in all but subject and voxels; ``seed``: `new_model`."""
    first = next(iter(configs.values()))
    _adapt(generator, first, seed)
    with first_weights(seed, "brain module"):
        brain = SharedBrain({name: config.brain for name, config in configs.items()})
    return SharedModel(configs, brain, generator, masks, affines, _null(first))


def adapted_model(
    pretrained: Model, config: ModelConfig, generator: Generator, mask: NDArray[np.bool_], affine: NDArray[np.float64],
    seed: int = 0,
) -> Model:  # fmt: skip
    """A model of a new subject: subject and timestep layers from scratch, all the rest starts as pretrained (app. E).

    Raises ValueError when the two differ in more of their brain modules than voxels, or in what of the U-Net learns.
    """
    was = pretrained.config
    same = replace(config.brain, voxels=was.brain.voxels) == was.brain and config.adaptation == was.adaptation
    if not same or config.unconditional != was.unconditional:
        raise ValueError("a pretrained model can only be adapted to another subject, not to other sizes or layers")
    model = new_model(config, generator, mask, affine, seed)
    with first_weights(seed, "brain module"):
        model.brain = adapt(pretrained.brain, config.brain.voxels)
    load_trained(generator.unet, trained_state(pretrained.generator.unet))
    if model.null is not None and pretrained.null is not None:
        model.null.data.copy_(pretrained.null.data)
    return model


def _adapt(generator: Generator, config: ModelConfig, seed: int) -> None:
    with first_weights(seed, "adapters"):
        set_trainable(generator.freeze().unet, config.adaptation)


def _of(null: nn.Parameter | None) -> list[nn.Parameter]:
    return [] if null is None else [null]


def _null(config: ModelConfig) -> nn.Parameter | None:
    return nn.Parameter(torch.zeros(config.brain.tokens)) if config.unconditional == "learned" else None
