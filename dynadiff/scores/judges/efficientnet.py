"""EfficientNet-B1 without its head, as torchvision builds and names it. Knows the architecture; no weights.

Both sets of torchvision's weights, V1 and V2, are of this network: files tell them apart by their names and digests.
"""

from torch import Tensor, nn

HEADS = ("classifier.",)
STAGES = (  # expansion, kernel, stride of the first block, width, blocks
    (1, 3, 1, 16, 2), (6, 3, 2, 24, 3), (6, 5, 2, 40, 3), (6, 3, 2, 80, 4), (6, 5, 1, 112, 4), (6, 5, 2, 192, 5),
    (6, 3, 1, 320, 2),
)  # fmt: skip


def conv(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1, active: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(after),
    ]  # fmt: skip
    return nn.Sequential(*layers, *([nn.SiLU()] if active else []))


class Squeeze(nn.Module):
    """Scales every channel by what the means of all channels say."""

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(width, squeezed, 1), nn.Conv2d(squeezed, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        said = nn.functional.silu(self.fc1(x.mean((2, 3), keepdim=True)))
        scaled: Tensor = x * self.fc2(said).sigmoid()
        return scaled


class Block(nn.Module):
    def __init__(self, before: int, after: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = before * expansion
        self.block = nn.Sequential(*([conv(before, wide, 1)] if expansion > 1 else []))
        self.block.extend([conv(wide, wide, kernel, stride, groups=wide), Squeeze(wide, before // 4)])
        self.block.append(conv(wide, after, 1, active=False))
        self.skips = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        return x + y if self.skips else y


class EfficientNetB1(nn.Module):
    """Pictures (b, 3, s, s) to the means of the last maps (b, 1280)."""

    def __init__(self) -> None:
        super().__init__()
        before = 32
        self.features = nn.Sequential(conv(3, before, 3, stride=2))
        for expansion, kernel, stride, width, blocks in STAGES:
            stage = nn.Sequential()
            for k in range(blocks):
                stage.append(Block(before, width, expansion, kernel, 1 if k else stride))
                before = width
            self.features.append(stage)
        self.features.append(conv(before, 1280, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        maps: Tensor = self.features(pictures)
        return maps.mean((2, 3))
