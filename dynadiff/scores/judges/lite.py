"""EfficientNet-Lite0 without its head, with the names of the package that brings its weights. Knows no file.

No squeezing, ReLU6, and the padding of TensorFlow, which puts the odd pixel to the right and below.
"""

from torch import Tensor, nn
from torch.nn import functional as F

HEADS = ("_fc.",)
COLOURS = (127 / 255,) * 3, (128 / 255,) * 3  # mean and deviation
STAGES = (  # expansion, kernel, stride of the first block, width, blocks
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)  # fmt: skip


class Conv(nn.Conv2d):
    """A convolution that gives ⌈side / stride⌉ pixels a side."""

    def __init__(self, before: int, after: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(before, after, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        (h, w), kernel, stride = x.shape[2:], self.kernel_size[0], self.stride[0]
        down, across = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in (h, w))
        return super().forward(F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2)))


def norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3)


class Block(nn.Module):
    def __init__(self, before: int, after: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = before * expansion
        self.expands, self.skips = expansion > 1, stride == 1 and before == after
        if self.expands:
            self._expand_conv, self._bn0 = Conv(before, wide), norm(wide)
        self._depthwise_conv, self._bn1 = Conv(wide, wide, kernel, stride, groups=wide), norm(wide)
        self._project_conv, self._bn2 = Conv(wide, after), norm(after)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return y + x if self.skips else y


class EfficientNetLite0(nn.Module):
    """Pictures (b, 3, s, s) to the means of the last maps (b, 1280)."""

    def __init__(self) -> None:
        super().__init__()
        before = 32
        self._conv_stem, self._bn0 = Conv(3, before, 3, 2), norm(before)
        self._blocks = nn.ModuleList()
        for expansion, kernel, stride, width, blocks in STAGES:
            for k in range(blocks):
                self._blocks.append(Block(before, width, expansion, kernel, 1 if k else stride))
                before = width
        self._conv_head, self._bn1 = Conv(before, 1280), norm(1280)

    def forward(self, pictures: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(pictures)))
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))
