"""Weights as files of tensors: written whole, read without unpickling anything, loaded strictly. Knows no network."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dynadiff.base.errors import UserError
from dynadiff.base.files import atomic


def save_tensors(path: Path, tensors: dict[str, Tensor], said: dict[str, str] | None = None) -> None:
    """Write tensors, wherever they are, as one whole safetensors file. Raises UserError where no space is left."""
    with atomic(path) as new:
        ready = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        try:
            save_file(ready, new, said)
        except SafetensorError as error:  # says the number of the system's error, but does not hand it on
            code = re.search(r"os error (\d+)|code: (\d+)", str(error))
            raise (OSError(int(code[1] or code[2]), str(error)) if code else error) from error


def load_strictly(network: torch.nn.Module, state: Mapping[str, Tensor], what: str) -> None:
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
