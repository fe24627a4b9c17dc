"""DreamSim by its own package, from files that are all there: the package would download what it does not find.

The distance of two pictures is 1 − cosine of embeddings that have mean 0, hence 1 − Pearson's r as of any judge. Knows
which files the package reads (0.2.1) and how it is asked; knows no metric.
"""

import importlib.util
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import torch
from torch import Tensor

from dynadiff.base.errors import UserError
from dynadiff.base.files import file_digest
from dynadiff.scores.judges.weights import DAMAGE

PACKAGE = "dreamsim"
CHECKPOINT = (  # what its archive for the ensemble holds
    "dino_vitb16_pretrain.pth", "clip_vitb16_pretrain.pth.tar", "open_clip_vitb16_pretrain.pth.tar",
    "ensemble_lora/adapter_config.json",
)  # fmt: skip
ADAPTERS = "ensemble_lora/adapter_model.safetensors", "ensemble_lora/adapter_model.bin"  # one of them
HUB = (  # what it asks torch.hub for: DINO's code and weights
    "facebookresearch_dino_main/hubconf.py", "facebookresearch_dino_main/vision_transformer.py",
    "facebookresearch_dino_main/utils.py", "checkpoints/dino_vitbase16_pretrain.pth",
)  # fmt: skip


def open_dreamsim(folder: Path, device: str) -> tuple[Callable[[Tensor], Tensor], dict[str, str]] | str:
    """The embedding of squares (b, 3, 224, 224) in [0, 1], (b, 1792), and the digests of its files; or what is lacking.

    Raises UserError where a file is damaged, or the package does not run.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        return f"its package is not installed: pip install {PACKAGE}"
    adapters = next((name for name in ADAPTERS if (folder / name).is_file()), ADAPTERS[0])
    names = (*CHECKPOINT, adapters, *HUB)
    if absent := [name for name in names if not (folder / name).is_file()]:
        return f"put {absent[0]} into {folder}, from the checkpoint of its release or torch.hub's cache"
    return _embedding(folder, device), {f"{PACKAGE}/{name}": file_digest(folder / name) for name in names}


def _embedding(folder: Path, device: str) -> Callable[[Tensor], Tensor]:
    home = torch.hub.get_dir()
    try:
        from dreamsim import dreamsim

        with redirect_stdout(sys.stderr):  # it says where its files are
            network, _ = dreamsim(pretrained=True, device=device, cache_dir=str(folder))
    except (ImportError, *DAMAGE) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"DreamSim's package cannot open the files in {folder} ({first}): copy them again, or leave the folder out"
        ) from error
    finally:
        torch.hub.set_dir(home)  # which it sets to the folder
    embed: Callable[[Tensor], Tensor] = network.embed
    return embed
