"""A judge: a frozen network that turns pictures into features, batch after batch. Knows no architecture and no file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynadiff.scores.settings import Pictures

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
UNCHANGED = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
Colours = tuple[tuple[float, float, float], tuple[float, float, float]]  # mean and deviation of red, green and blue


@dataclass(frozen=True)
class Judge:
    """Pictures (n, h, w, 3), uint8 or in [0, 1], to features (n, d), float32: a feature space for `dynadiff.scores`."""

    network: Callable[[Tensor], Tensor]  # normalised pictures (b, 3, s, s) to features (b, …), which are flattened
    prepare: Callable[[Pictures], NDArray[np.float64]]  # to squares (b, s, s, 3) in [0, 1]
    colours: Colours
    files: Mapping[str, str] = field(default_factory=dict)  # name to sha256 of what its weights were read from
    device: str = "cpu"
    batch: int = 32

    @torch.inference_mode()
    def __call__(self, pictures: Pictures) -> NDArray[np.float32]:
        found = []
        mean, deviation = (torch.tensor(c, device=self.device)[:, None, None] for c in self.colours)
        for k in range(0, len(pictures), self.batch):
            squares = torch.from_numpy(self.prepare(pictures[k : k + self.batch])).to(self.device, torch.float32)
            shown = (squares.permute(0, 3, 1, 2) - mean) / deviation
            found.append(self.network(shown.contiguous()).flatten(1).float().cpu().numpy())
        return np.concatenate(found)
