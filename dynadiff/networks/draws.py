"""What a network draws: its first weights; noise, and dropout whose masks belong to the items of a batch.

Knows networks and generators of random numbers; `dynadiff.base.random` makes one for each item.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from dynadiff.base.random import item_rng


def normal(rng: np.random.Generator, shape: Sequence[int]) -> Tensor:
    """Standard normal float32 values."""
    return torch.from_numpy(rng.standard_normal(tuple(shape), np.float32))


def normals(rngs: Sequence[np.random.Generator], like: Tensor) -> Tensor:
    """Standard normal values like those given, each item's (along the first axis) by its own generator."""
    return torch.stack([normal(rng, like.shape[1:]) for rng in rngs]).to(like)


def uniforms(rngs: Sequence[np.random.Generator], like: Tensor) -> Tensor:
    """Uniform float32 values in [0, 1), one an item: (b, 1, …), to be multiplied with ``like``."""
    drawn = torch.tensor([rng.random(dtype=np.float32) for rng in rngs])
    return drawn.reshape(-1, *(1,) * (like.ndim - 1)).to(like.device)


@contextmanager
def first_weights(seed: int, of: str) -> Iterator[None]:
    """Layers made inside draw their weights by ``seed`` and by what they are ``of``, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(item_rng(seed, of, 0, 0).integers(2**63)))
        yield


class Items:
    """Whose turn it is: the generators of the items in the batch that a network is being given."""

    def __init__(self) -> None:
        self.rngs: Sequence[np.random.Generator] | None = None

    @contextmanager
    def of(self, rngs: Sequence[np.random.Generator]) -> Iterator[None]:
        self.rngs = rngs
        try:
            yield
        finally:
            self.rngs = None


class ItemDropout(nn.Dropout):
    """Dropout whose mask of an item is drawn by that item's generator. Items are the axis before the last.

    Raises ValueError where the number of items is not that of the generators.
    """

    def __init__(self, p: float, items: Items) -> None:
        super().__init__(p)
        self._items = items

    def forward(self, x: Tensor) -> Tensor:
        rngs = self._items.rngs
        if not self.training or self.p == 0 or rngs is None:
            return super().forward(x)
        if x.shape[-2] != len(rngs):
            raise ValueError(f"dropout was given {x.shape[-2]} items and {len(rngs)} generators")
        shape = (*x.shape[:-2], x.shape[-1])
        kept = np.stack([rng.random(shape, np.float32) >= self.p for rng in rngs], axis=-2)
        return x * torch.from_numpy(kept).to(x.device, x.dtype) / (1 - self.p)


def dropout_by_item(network: nn.Module) -> Items:
    """Replace every dropout of a network, in place; its weights and their names stay."""
    items = Items()
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Dropout):
            network.set_submodule(name, ItemDropout(module.p, items).train(module.training))
    return items
