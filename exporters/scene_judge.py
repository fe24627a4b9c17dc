"""Makes the judge of drawn scenes that ships, from nothing: trains it, writes its graph, and says how good it is.

    python -m exporters.scene_judge build/judge     half an hour on one core; goes on where it was interrupted
    python -m exporters.scene_judge --check         the figures of the one that ships, on scenes it never saw

Knows the judge's network and scenes; knows no decoder.
"""

import sys
import warnings
from copy import deepcopy
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dynadiff.assets import JUDGE
from dynadiff.base import commands
from dynadiff.base.errors import UserError
from dynadiff.phantom.judge import SceneJudge
from dynadiff.phantom.scenes import draw, scene
from dynadiff.phantom.truth import truth
from dynadiff.scene_judge.network import SIZE
from dynadiff.scene_judge.network import SceneJudge as Network
from dynadiff.scene_judge.training import JudgeTraining, train_judge
from dynadiff.scores.scenes import hue_errors, mean_iou, named, object_f1
from exporters.onnx import anonymous
from exporters.precision import halve

UNSEEN = range(2_000_000, 2_002_000)  # scenes that nobody learns from
OUTPUTS = ("features", "category", "classes", "colours", "place")


class _Graph(nn.Module):
    """uint8 pictures (n, 64, 64, 3) in, a tuple out."""

    def __init__(self, judge: Network) -> None:
        super().__init__()
        self.judge = judge

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, ...]:
        said = self.judge(pictures.permute(0, 3, 1, 2).float() / 255)
        return tuple(said[name] for name in OUTPUTS)


def write_judge(judge: Network, path: Path) -> None:
    """The graph, weights in half precision and arithmetic in float32."""
    judge = _folded(judge.eval()).half().float()
    shapes = ({0: torch.export.Dim("n", min=1, max=4096)},)
    pictures = torch.zeros(2, SIZE, SIZE, 3, dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of torch's own internals
        program = torch.onnx.export(
            _Graph(judge), (pictures,), input_names=["pictures"], output_names=list(OUTPUTS), dynamo=True,
            opset_version=18, dynamic_shapes=shapes, verbose=False,
        )  # fmt: skip
    assert program is not None  # it is None only for the old exporter
    ir.save(halve(anonymous(program.model)), path)
    onnx.checker.check_model(path, full_check=True)


def _folded(judge: Network) -> Network:
    """With normalisation in the convolutions before it, where the exporter would put it after the rounding to half."""
    judge = deepcopy(judge)
    for block in [part for part in judge.modules() if isinstance(part, nn.Sequential)]:
        if isinstance(block[0], nn.Conv2d) and isinstance(block[1], nn.BatchNorm2d):
            block[0], block[1] = fuse_conv_bn_eval(block[0], block[1]), nn.Identity()
    return judge


def figures(judge: SceneJudge, numbers: range, sigma: float = 0.0) -> dict[str, float]:
    """How right the judge is on these scenes, drawn and then blurred by ``sigma`` pixels."""
    true = truth(numbers)
    said = judge.look(np.stack([_blurred(draw(scene(number), SIZE)[0], sigma) for number in numbers]))
    hues = hue_errors(said, true)
    return {
        "named": float(named(said, true).mean()),
        "object F1": float(object_f1(said, true).mean()),
        "mIoU": float(mean_iou(said, true).mean()),
        "hue of object, median degrees": float(np.median(hues[:, 0])),
        "hue of object, 90th percentile": float(np.quantile(hues[:, 0], 0.9)),
        "hue of background, median degrees": float(np.median(hues[:, 1])),
        "hue of background, 90th percentile": float(np.quantile(hues[:, 1], 0.9)),
    }


def main() -> None:
    """Train, write and check, or check alone. UserError where it is asked for neither."""
    match sys.argv[1:]:
        case ["--check"]:
            path = JUDGE
        case [out] if not out.startswith("-"):
            path = Path(out) / JUDGE.name
            write_judge(train_judge(JudgeTraining(), Path(out)), path)
        case _:
            raise UserError("what to make is not said: give a folder to train the judge in, or --check alone")
    for sigma in (0.0, 1.0, 2.0):
        found = figures(SceneJudge(path), UNSEEN, sigma)
        values = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
        sys.stdout.write(f"{len(UNSEEN)} scenes it never saw, blurred by {sigma:g} pixels: {values}\n")


def _blurred(picture: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8) if sigma else picture


if __name__ == "__main__":
    commands.run(main)
