"""Inception-v3 without its heads, as torchvision builds and names it. Knows the architecture; no weights.

torchvision's pretrained network first maps colours from ImageNet's normalisation to [-1, 1]: so does this one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynadiff.scores.judges.judge import IMAGENET

HEADS = ("AuxLogits.", "fc.")
Kernel = int | tuple[int, int]
Layer = tuple[str, int, Kernel]  # name, maps, kernel


@dataclass(frozen=True)
class Branch:
    """Convolutions one after another, the last with a stride where ``halving``; those of ``fork`` end side by side."""

    layers: tuple[Layer, ...] = ()
    fork: tuple[Layer, ...] = ()
    pooled: bool = False  # by means, or where it halves by maxima
    halving: bool = False


class Conv(nn.Module):
    def __init__(self, before: int, after: int, kernel: Kernel, stride: int = 1, padded: bool = True) -> None:
        super().__init__()
        h, w = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (h // 2, w // 2) if padded else (0, 0)
        self.conv = nn.Conv2d(before, after, (h, w), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches side by side, their maps in this order."""

    def __init__(self, before: int, *branches: Branch) -> None:
        super().__init__()
        self.branches, self.width = branches, 0
        for branch in branches:
            width = before
            for name, after, kernel in branch.layers:
                halves = branch.halving and name == branch.layers[-1][0]
                self.add_module(name, Conv(width, after, kernel, 2 if halves else 1, padded=not halves))
                width = after
            for name, after, kernel in branch.fork:
                self.add_module(name, Conv(width, after, kernel))
            self.width += sum(after for _, after, _ in branch.fork) or width

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for branch in self.branches:
            y = x
            if branch.pooled:
                y = F.max_pool2d(x, 3, 2) if branch.halving else F.avg_pool2d(x, 3, 1, 1)
            for name, *_ in branch.layers:
                y = self.get_submodule(name)(y)
            found += [self.get_submodule(name)(y) for name, *_ in branch.fork] or [y]
        return torch.cat(found, 1)


def _a(before: int, pooled: int) -> Mixed:
    return Mixed(
        before,
        Branch((("branch1x1", 64, 1),)),
        Branch((("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5))),
        Branch((("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3))),
        Branch((("branch_pool", pooled, 1),), pooled=True),
    )


def _b(before: int) -> Mixed:
    return Mixed(
        before,
        Branch((("branch3x3", 384, 3),), halving=True),
        Branch((("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)), halving=True),
        Branch(pooled=True, halving=True),
    )


def _c(before: int, c: int) -> Mixed:
    across, down = (1, 7), (7, 1)
    double: tuple[Layer, ...] = (
        ("branch7x7dbl_1", c, 1), ("branch7x7dbl_2", c, down), ("branch7x7dbl_3", c, across),
        ("branch7x7dbl_4", c, down), ("branch7x7dbl_5", 192, across),
    )  # fmt: skip
    return Mixed(
        before,
        Branch((("branch1x1", 192, 1),)),
        Branch((("branch7x7_1", c, 1), ("branch7x7_2", c, across), ("branch7x7_3", 192, down))),
        Branch(double),
        Branch((("branch_pool", 192, 1),), pooled=True),
    )


def _d(before: int) -> Mixed:
    seven: tuple[Layer, ...] = (
        ("branch7x7x3_1", 192, 1), ("branch7x7x3_2", 192, (1, 7)), ("branch7x7x3_3", 192, (7, 1)),
        ("branch7x7x3_4", 192, 3),
    )  # fmt: skip
    return Mixed(
        before,
        Branch((("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3)), halving=True),
        Branch(seven, halving=True),
        Branch(pooled=True, halving=True),
    )


def _e(before: int) -> Mixed:
    three: tuple[Layer, ...] = (("branch3x3_2a", 384, (1, 3)), ("branch3x3_2b", 384, (3, 1)))
    double: tuple[Layer, ...] = (("branch3x3dbl_3a", 384, (1, 3)), ("branch3x3dbl_3b", 384, (3, 1)))
    return Mixed(
        before,
        Branch((("branch1x1", 320, 1),)),
        Branch((("branch3x3_1", 384, 1),), fork=three),
        Branch((("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3)), fork=double),
        Branch((("branch_pool", 192, 1),), pooled=True),
    )


class InceptionV3(nn.Module):
    """Pictures (b, 3, s, s), normalised as ImageNet's, to the means of the last maps (b, 2048)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2, padded=False)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3, padded=False)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3, padded=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _a(192, 32), _a(256, 64), _a(288, 64)
        self.Mixed_6a, self.Mixed_6b, self.Mixed_6c = _b(288), _c(768, 128), _c(768, 160)
        self.Mixed_6d, self.Mixed_6e = _c(768, 160), _c(768, 192)
        self.Mixed_7a, self.Mixed_7b, self.Mixed_7c = _d(768), _e(1280), _e(2048)

    def forward(self, pictures: Tensor) -> Tensor:
        mean, deviation = (torch.tensor(c, device=pictures.device)[:, None, None] for c in IMAGENET)
        x = pictures * (deviation / 0.5) + (mean - 0.5) / 0.5
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for name, module in self.named_children():
            if name.startswith("Mixed"):
                x = module(x)
        return x.mean((2, 3))
