"""Weights as files of tensors: written whole, read without unpickling anything, loaded strictly. Knows no network."""

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dynadiff.base.documents import read_part
from dynadiff.base.errors import UserError
from dynadiff.base.files import atomic

INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")  # what DeepSpeed calls them
SHARDS = (".safetensors", ".bin")


@dataclass(frozen=True)
class Index:
    """Of an index of shards, what is read: name of a tensor to name of its file."""

    weight_map: dict[str, str]


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
    """Tensors of one file, or of several with an index: the index itself, or a folder that holds one. Mapped, not read.

    Raises UserError, naming it, for whatever is missing, left over, or more than tensors.
    """
    if path.is_dir():
        found = [path / name for name in INDICES if (path / name).is_file()]
        if len(found) != 1:
            how_many = "two indices" if found else "no index"
            raise UserError(f"{path} holds {how_many} of shards ({', '.join(INDICES)}): give the file itself")
        return _read_shards(found[0])
    return _read_shards(path) if path.name in INDICES else _read_file(path)


def _read_shards(path: Path) -> dict[str, Tensor]:
    """The tensors that an index maps to the files beside it: each in the file that it names, and no others."""
    try:
        shard_of = read_part(path.read_bytes(), Index).weight_map
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no index of shards ({error}): consolidate the checkpoint again") from None
    state: dict[str, Tensor] = {}
    if not shard_of:
        raise UserError(f"{path} names no file: consolidate the checkpoint again")
    for shard in sorted(set(shard_of.values())):
        if Path(shard).suffix not in SHARDS or set(shard) & set("/\\\0"):
            raise UserError(f"{shard!r} in {path} is no name of a file beside it: consolidate the checkpoint again")
        part, wanted = _read_file(path.parent / shard), {name for name in shard_of if shard_of[name] == shard}
        if wrong := sorted(part.keys() ^ wanted):
            how = "lacks" if wrong[0] in wanted else "holds"
            raise UserError(
                f"{path.parent / shard} {how} {wrong[0]}, against its index: consolidate the checkpoint again"
            )
        state |= part
    return state


def _read_file(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file or of a PyTorch file, which may hold nothing but tensors."""
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        return dict(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
    except FileNotFoundError:
        raise UserError(f"there is no file {path}: give the consolidated weights") from None
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, TypeError, OSError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise UserError(f"{path} is no file of weights alone ({first}): consolidate the checkpoint again") from error
