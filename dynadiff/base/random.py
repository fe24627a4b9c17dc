"""Randomness that follows from numbers alone: of one item of a batch, of the pictures of a run.

Every number that an item of a batch needs comes from (seed, stage, step, item). So a result depends neither on the
order of items, nor on how a batch is dealt to processes and passes, nor on the device. Philox is a counter-based
generator (Salmon et al., 2011): its key is seed and stage, and the upper half of its counter step and item, hence
streams cannot overlap, and none needs a history.
"""

import numpy as np
from numpy.typing import NDArray

STAGES = {
    "warm start": 1, "dynadiff": 2, "sampling": 3, "validation": 4, "vae": 5, "decoder": 6, "generator": 7,
    "uncertain": 8, "pattern vae": 9, "pattern unet": 10,
    "brain module": 11, "adapters": 12, "judge": 13,
}  # fmt: skip


def item_rng(seed: int, stage: str, step: int, item: int) -> np.random.Generator:
    """The generator of one item of one step."""
    return np.random.Generator(np.random.Philox(key=[seed, STAGES[stage]], counter=[0, 0, step, item]))


def initial_noise(seed: int, latent_shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """The noise that every picture of a run starts from, so that a change in the picture is a change in the brain."""
    return np.random.default_rng(seed).standard_normal(latent_shape, dtype=np.float32)
