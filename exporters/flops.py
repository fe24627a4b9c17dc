"""Floating-point operations of a picture at Versatile Diffusion's size, counted on networks without weights.

FLOP = 2 × multiply-accumulate, as torch's FlopCounterMode counts matrix products, convolutions and attention;
normalisation, activations and the adapters of the released code are not counted. Knows networks; runs none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dynadiff.networks.model_folder import load_model
from dynadiff.networks.sampling import Render, Step
from exporters.full_size import SUBJECT_1, generator_of, random_brain, random_unet, random_vae
from exporters.graphs import Brain, GuidedStep, UnguidedStep, cross_attentions, tabulate_time

TRAIN_STEPS = 1000


@dataclass(frozen=True)
class Picture:
    """FLOP of each network's call, and of the picture that ``steps`` steps make."""

    name: str
    brain: int
    step: int
    decoder: int
    steps: int = 20
    single: int = 0  # of a step of one half

    @property
    def total(self) -> int:
        return self.brain + self.steps * self.step + self.decoder

    def sampled(self, evaluations: Sequence[int]) -> int:
        """FLOP of a picture whose steps evaluate so many halves each."""
        return self.brain + sum(self.step if halves == 2 else self.single for halves in evaluations) + self.decoder


def count(network: nn.Module, *inputs: Tensor) -> FlopCounterMode:
    """The operations of one call, by module."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(*inputs)
    return counter


def text_branch(tokens: int = 77) -> int:
    """FLOP that the released dual U-Net spends on its text branch, one sample.

    A second transformer stands beside each of the plain U-Net's 16 and sees 77 text tokens; its output is
    multiplied by zero. So it is what the plain U-Net's transformers cost on as many tokens.
    """
    unet = random_unet()
    counts = count(unet, torch.empty(1, 4, 64, 64), torch.tensor(1), torch.empty(1, tokens, 768)).get_flop_counts()
    names = [name for name, module in unet.named_modules() if isinstance(module, Transformer2DModel)]
    return sum(sum(counts[f"{type(unet).__name__}.{name}"].values()) for name in names)


def keys_and_values() -> int:
    """FLOP of the keys and values of the brain's tokens, all cross-attentions, one sample and one step."""
    tokens = SUBJECT_1.tokens[0]
    layers = [layer for attention in cross_attentions(random_unet()) for layer in (attention.to_k, attention.to_v)]
    return sum(2 * tokens * layer.in_features * layer.out_features for layer in layers)


def pictures() -> list[Picture]:
    """The released picture, and what each exact saving makes of it, one after another."""
    with torch.device("meta"):
        latent, tokens, time = torch.empty(1, 4, 64, 64), torch.empty(1, *SUBJECT_1.tokens), torch.empty(1).long()
        state, guidance, ab = (latent, tokens, time), torch.empty(()), torch.empty(2)
        window = torch.empty(1, SUBJECT_1.voxels, SUBJECT_1.volumes)
        brain = count(Brain(random_brain()), window).get_total_flops()
        decoder = count(Render(generator_of(random_unet(), random_vae())), latent).get_total_flops()
        plain = count(Step(random_unet()), *state, guidance, ab).get_total_flops()
        unet = random_unet()
        tabulate_time(unet, TRAIN_STEPS)
        looked_up = count(Step(unet), *state, guidance, ab).get_total_flops()
        guided = count(GuidedStep(random_unet(), TRAIN_STEPS), *state, guidance, ab).get_total_flops()
        unguided = count(UnguidedStep(random_unet(), TRAIN_STEPS), *state, ab).get_total_flops()
        released = plain + 2 * text_branch()
    steps = {
        "released: dual U-Net, both halves of guidance": released,
        "without the text branch": plain,
        "time embeddings looked up": looked_up,
        "unconditional cross-attention a constant: exported": guided,
        "exported for guidance 1": unguided,
    }
    return [Picture(name, brain, step, decoder) for name, step in steps.items()]


def exported() -> Picture:
    """The picture of an engine that has both step networks, at Versatile Diffusion's size."""
    *_, guided, unguided = pictures()
    return replace(guided, single=unguided.step)


def embedded(folder: Path) -> Picture:
    """The same of a model in its folder, such as the one that ships."""
    model, other = load_model(folder, merged=True), load_model(folder, merged=True)
    generator, config = model.generator, model.config
    latent, tokens = torch.zeros(1, *generator.latent_shape), torch.zeros(1, *config.brain.tokens)
    state, guidance, ab = (latent, tokens, torch.zeros(1).long()), torch.zeros(()), torch.zeros(2)
    train_steps = generator.schedule.train_steps
    return Picture(
        folder.name,
        count(Brain(model.brain), torch.zeros(1, config.brain.voxels, config.brain.volumes)).get_total_flops(),
        count(GuidedStep(generator.unet, train_steps, null=model.null), *state, guidance, ab).get_total_flops(),
        count(Render(generator), latent).get_total_flops(),
        single=count(UnguidedStep(other.generator.unet, train_steps), *state, ab).get_total_flops(),
    )
