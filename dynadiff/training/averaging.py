"""A running mean of weights while they are trained (Polyak & Juditsky, 1992): optional, the paper has none."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn


class Average(nn.Module):
    """Exponential mean of parameters with the given decay; 0 keeps the weights themselves, at no cost."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        super().__init__()
        self._live, self.decay = list(parameters), decay
        kept = [nn.Parameter(p.detach().clone(), requires_grad=False) for p in parameters] if decay else []
        self.means = nn.ParameterList(kept)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after ``step`` (from 0); early on the mean forgets faster, so that no start is in it."""
        if self.decay:
            decay = min(self.decay, (step + 1) / (step + 10))
            torch._foreach_lerp_(list(self.means), [p.detach() for p in self._live], 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The means stand in the place of the weights for as long as the block runs."""
        live = [p.detach().clone() for p in self._live] if self.decay else []
        self.settle()
        try:
            yield
        finally:
            self._put(live)

    def settle(self) -> None:
        """The means become the weights."""
        self._put(list(self.means))

    @torch.no_grad()
    def _put(self, values: Sequence[torch.Tensor]) -> None:
        if self.decay:
            for parameter, value in zip(self._live, values, strict=True):
                parameter.copy_(value)
