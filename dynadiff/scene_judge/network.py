"""The judge of drawn scenes: a small network that says of a picture which object is where, and in which colours.

It shares nothing with the decoder that it judges: no weights, no tokens, another architecture, and it learns from the
drawings' own masks, categories, colours and places (`dynadiff.scene_judge.training`). Knows pictures; knows no scenes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIZE, MAP = 64, 32  # pixels of a picture, and of the map of what is where
WIDTHS = (24, 40, 64, 96)  # channels at 64, 32, 16 and 8 pixels
FEATURES, LOCAL = 128, 16  # of the whole picture; of each of 4 × 4 places


def _block(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )


class SceneJudge(nn.Module):
    """Pictures (n, 3, 64, 64) from 0 to 1 to what they show; see `forward`."""

    def __init__(self, categories: int) -> None:
        super().__init__()
        a, b, c, d = WIDTHS
        self.first = _block(3, a)
        self.at_half = nn.Sequential(_block(a, b, 2), _block(b, b))
        self.at_quarter = nn.Sequential(_block(b, c, 2), _block(c, c))
        self.at_eighth = nn.Sequential(_block(c, d, 2), _block(d, d))
        self.up_quarter, self.beside_quarter = nn.Conv2d(d, 48, 1), nn.Conv2d(c, 48, 1)
        self.merge_quarter = _block(96, 48)
        self.up_half, self.beside_half = nn.Conv2d(48, 24, 1), nn.Conv2d(b, 24, 1)
        self.merge_half = _block(48, 32)
        self.classes = nn.Conv2d(32, categories + 1, 1)
        self.local = nn.Conv2d(d, LOCAL, 1)
        self.whole = nn.Linear(d + 16 * LOCAL, FEATURES)
        self.category = nn.Linear(FEATURES, categories)
        self.colours = nn.Linear(FEATURES, 4)
        self.place = nn.Linear(FEATURES, 3)

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """``features`` (n, 128); scores: ``category`` (n, k), ``classes`` (n, k + 1, 32, 32), of which 0 is background;
        ``colours`` (n, 4), cosine and sine of the hue of the object and of the background; ``place`` (n, 3), centre and
        half side of the object in widths of the picture."""
        half = self.at_half(self.first(pictures))
        quarter = self.at_quarter(half)
        eighth = self.at_eighth(quarter)
        merged = F.interpolate(self.up_quarter(eighth), scale_factor=2.0, mode="nearest")
        merged = self.merge_quarter(torch.cat([merged, self.beside_quarter(quarter)], 1))
        merged = F.interpolate(self.up_half(merged), scale_factor=2.0, mode="nearest")
        merged = self.merge_half(torch.cat([merged, self.beside_half(half)], 1))
        places = F.avg_pool2d(self.local(eighth), 2).flatten(1)
        features = torch.relu(self.whole(torch.cat([eighth.mean((2, 3)), places], 1)))
        return {
            "features": features,
            "category": self.category(features),
            "classes": self.classes(merged),
            "colours": self.colours(features),
            "place": self.place(features),
        }
