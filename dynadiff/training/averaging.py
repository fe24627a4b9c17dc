"""A running mean of weights while they are trained (Polyak & Juditsky, 1992): optional, the paper has none."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


class Average(nn.Module):
    """Exponential mean of parameters with the given decay; 0 keeps the weights themselves, at no cost."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        super().__init__()
        self._live, self.decay = list(parameters), decay
        self.means = AveragedModel(nn.ParameterList(parameters), multi_avg_fn=self._mean) if decay else nn.Module()

    def update(self) -> None:
        """Take in the weights after a step; early on the mean forgets faster, so that no start is in it."""
        if isinstance(self.means, AveragedModel):
            self.means.update_parameters(nn.ParameterList(self._live))

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
        self._put(list(self.means.parameters()))

    def _mean(self, means: Tensors, live: Tensors, taken: Tensor | int) -> None:
        decay = min(self.decay, (int(taken) + 1) / (int(taken) + 10))
        torch._foreach_lerp_(list(means), list(live), 1 - decay)

    @torch.no_grad()
    def _put(self, values: Sequence[Tensor]) -> None:
        if self.decay:
            for parameter, value in zip(self._live, values, strict=True):
                parameter.copy_(value)
