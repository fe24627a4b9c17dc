"""What can be known before a network is built: the words for its variants, where a generator lies and its sizes.

Knows names and JSON and no PyTorch, so that a wrong word, a folder that is none and pictures of another size are told
at once.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from dynadiff.assets import EMBEDDED
from dynadiff.base.documents import read_document
from dynadiff.base.errors import UserError

TIMESTEP_LAYERS = ("each", "shared", "none")
AGGREGATIONS = ("out", "in", "out_mean", "in_mean", "none")
SETS = ("lora", "cross-attention", "linear", "all", "none")  # what of the U-Net learns
TARGETS = r".*\.attn2\.(to_q|to_k|to_v|to_out\.0)"  # the modules that get an adapter

CONFIG = "generator.json"
TRAINED = "generator"  # the name of one that is trained first, into a folder of this name beside the model
SMALL = 64  # pixels a side of the one that ships, and of one that is trained first
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w.-]+)?")
PARTS = ("unet", "image_unet", "vae", "scheduler")


@dataclass(frozen=True)
class Sizes:
    """What ``generator.json`` says, see `dynadiff.networks.generator.Generator`."""

    patch: int
    picture_size: int
    tokens: tuple[int, int]


def locate(name: str, beside: Path, configurations: bool = False) -> Path:
    """The folder of a generator: in the package (``embedded``), ``beside`` a model, anywhere, or fetched from the hub.

    A hub id is ``owner/name``, with ``@revision`` if need be; a folder of that name comes first. Of the hub's files
    ``configurations`` fetches those alone.
    """
    if name == "embedded":
        return EMBEDDED / "generator"
    if (beside / name).exists() or not HUB_ID.fullmatch(name):
        return beside / name
    owner_name, _, revision = name.partition("@")
    patterns = [CONFIG, *(f"{part}/*.json" if configurations else f"{part}/*" for part in PARTS)]
    try:
        return Path(snapshot_download(owner_name, revision=revision or None, allow_patterns=patterns))
    except OSError as error:  # without a network, or without such a name: the hub's errors are all of this kind
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"{name} is no folder here and the hub did not give it ({reason}): give a folder") from error


def unet_part(folder: Path) -> str:
    """Which subfolder is the U-Net's: of Versatile Diffusion's own folder, ``image_unet``.

    Raises UserError where the folder is not in diffusers layout.
    """
    part = "image_unet" if (folder / "image_unet").is_dir() else "unet"
    for needed in (f"{part}/config.json", "vae/config.json", "scheduler/scheduler_config.json"):
        if not (folder / needed).is_file():
            raise UserError(f"{folder} is no generator folder, {needed} is missing: give a folder in diffusers layout")
    return part


def sizes_of(folder: Path) -> Sizes:
    """Patch, picture size and tokens of the generator in a folder; UserError where it is none, or is damaged.

    A plain diffusers folder, such as Versatile Diffusion's image branch, has no generator.json: it is conditioned on
    the 257 tokens of CLIP ViT-L/14.
    """
    part = unet_part(folder)
    if (folder / CONFIG).exists():
        try:
            return read_document((folder / CONFIG).read_bytes(), Sizes)
        except ValueError as error:
            raise UserError(f"{folder / CONFIG} is damaged ({error}): put the original back") from None
    unet, vae = (_configuration(folder / name / "config.json") for name in (part, "vae"))
    try:
        side = int(unet["sample_size"]) * 2 ** (len(vae["block_out_channels"]) - 1)
        return Sizes(patch=1, picture_size=side, tokens=(257, int(unet["cross_attention_dim"])))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"the configurations in {folder} do not say its sizes ({error}): copy them again") from None


def sizes_named(name: str, beside: Path) -> Sizes | None:
    """Those of a generator by its name; None of one that is trained first and not there yet."""
    if name == TRAINED and not (beside / name / CONFIG).exists():
        return None
    return sizes_of(locate(name, beside, configurations=True))


def has_encoder(folder: Path) -> bool:
    """Has the generator an image encoder of its own, for warm start, anchor and judging?"""
    return (folder / "image_encoder").is_dir()


def takes_layout(folder: Path) -> bool:
    """Does its U-Net take a picture's layout beside the tokens (`dynadiff.networks.layout`)?"""
    unet = _configuration(folder / unet_part(folder) / "config.json")
    return unet.get("in_channels") != unet.get("out_channels")


def _configuration(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): copy it again") from None
    return content if isinstance(content, dict) else {}
