"""Versatile Diffusion as a plain image generator: its text branch is multiplied by zero, so it is left out.

Every spatial transformer of the released wiring is a pair, x + m (T_text(x) − x) + (1 − m)(T_image(x) − x),
with m = 0. What remains is a `UNet2DConditionModel` conditioned on 257 image tokens: 859,520,964 of 1,126.8 million
parameters, and the same function. Knows names of tensors; knows no brains.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from dynadiff.base.errors import UserError

FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


def image_branch(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a U-Net of pairs under the plain U-Net's names; those of the text branch are dropped."""
    return {k.replace(".transformers.0.", "."): v for k, v in state.items() if ".transformers.1." not in k}


def load_unet(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """Open a U-Net in diffusers layout; one made of pairs of transformers loses its text branch."""
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None or not _is_dual(path):
        return UNet2DConditionModel.from_pretrained(folder, torch_dtype=dtype, local_files_only=True)
    config = UNet2DConditionModel.load_config(folder, local_files_only=True)
    return plain_unet(config, image_branch(read_weights(path)), dtype)


def plain_unet(config: dict[str, Any], state: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> Any:
    """A plain U-Net of that configuration with those weights, strictly: none missing, none left over.

    Raises UserError, naming the first tensor, when they do not fit.
    """
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config({**config, "dual_cross_attention": False})
    fit(unet, {k: v.to(dtype) for k, v in state.items()}, "U-Net")
    return unet.eval()


def fit(network: torch.nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Give a network its weights without a copy. Raises UserError, naming the first tensor that does not fit."""
    expected = network.state_dict()
    for name in sorted(expected.keys() | state.keys()):
        if name not in state:
            raise UserError(f"the {what} lacks {name}: the file is incomplete or of another network")
        if name not in expected:
            raise UserError(f"the {what} has no {name}: the file is of another network")
        if state[name].shape != expected[name].shape:
            sizes = f"{tuple(state[name].shape)} and not {tuple(expected[name].shape)}"
            raise UserError(f"{name} of the {what} is {sizes}: the file is of another network")
    network.load_state_dict(dict(state), assign=True)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file or of a PyTorch file, which may hold nothing but tensors; mapped, not read."""
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        return dict(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
    except FileNotFoundError:
        raise UserError(f"there is no file {path}: give the consolidated weights") from None
    except (pickle.UnpicklingError, RuntimeError, ValueError, TypeError, OSError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise UserError(f"{path} is no file of weights alone ({first}): consolidate the checkpoint again") from error


def _is_dual(path: Path) -> bool:
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            names = list(file.keys())
    else:
        names = list(read_weights(path))
    return any(".transformers.1." in name for name in names)
