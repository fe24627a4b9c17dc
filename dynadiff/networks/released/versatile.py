"""Versatile Diffusion as a plain image generator: its text branch is multiplied by zero, so it is left out.

Every spatial transformer of the released wiring is a pair, x + m (T_text(x) − x) + (1 − m)(T_image(x) − x),
with m = 0. What remains is a `UNet2DConditionModel` conditioned on 257 image tokens: 859,520,964 of 1,126.8 million
parameters, and the same function. Knows names of tensors; knows no brains.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors import safe_open
from torch import Tensor

from dynadiff.networks.layout import LayoutUNet
from dynadiff.networks.weights import load_strictly, read_weights

FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


def image_branch(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a U-Net of pairs under the plain U-Net's names; those of the text branch are dropped."""
    return {k.replace(".transformers.0.", "."): v for k, v in state.items() if ".transformers.1." not in k}


def load_unet(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """Open a U-Net in diffusers layout; one made of pairs of transformers loses its text branch."""
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None or not _is_dual(path):
        said = UNet2DConditionModel.load_config(folder, local_files_only=True)
        kind = UNet2DConditionModel if said["in_channels"] == said["out_channels"] else LayoutUNet
        return kind.from_pretrained(folder, torch_dtype=dtype, local_files_only=True)
    config = UNet2DConditionModel.load_config(folder, local_files_only=True)
    return plain_unet(config, image_branch(read_weights(path)), dtype)


def plain_unet(config: dict[str, Any], state: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> Any:
    """A plain U-Net of that configuration with those weights, strictly: none missing, none left over.

    Raises UserError, naming the first tensor, when they do not fit.
    """
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config({**config, "dual_cross_attention": False})
    load_strictly(unet, {k: v.to(dtype) for k, v in state.items()}, "U-Net")
    return unet.eval()


def _is_dual(path: Path) -> bool:
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            names = list(file.keys())
    else:
        names = list(read_weights(path))
    return any(".transformers.1." in name for name in names)
