"""Published weights from files: found by their names, read without running anything in them, loaded strictly.

Knows no network. PyTorch's files are read as tensors alone. The one file that is a program, OpenAI's TorchScript
archive of CLIP, is opened only if it is, to the byte, the one that was published.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dynadiff.base.errors import UserError
from dynadiff.base.files import file_digest

OPENAI = "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"  # sha256 of ViT-L-14.pt
DAMAGE = (
    pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError,
    OSError, zipfile.BadZipFile, SafetensorError,
)  # fmt: skip


def checked_digest(path: Path) -> str:
    """sha256 of a file. Raises UserError where its name ends in the digest's first digits, and they are others."""
    digest = file_digest(path)
    promised = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    if promised and not digest.startswith(promised[1]):
        raise UserError(
            f"{path} is cut short, or another file than its name says (sha256 {digest[:8]}…): copy it again"
        )
    return digest


def read_published(path: Path, digest: str) -> dict[str, Tensor]:
    """The tensors of a file, float32, by their names without ``module.``. Raises UserError where there is more.

    ``digest`` is the file's sha256.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on how old a format is: what matters raises
            state = _read(path, digest)
    except DAMAGE as error:
        first = (str(error).splitlines() or [""])[0]
        raise UserError(f"{path} is cut short, or holds more than weights ({first}): copy it again") from error
    state = state.get("state_dict", state)
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path} holds other things than tensors: give the published weights")
    return {k.removeprefix("module."): v.float() if v.is_floating_point() else v for k, v in state.items()}


def _read(path: Path, digest: str) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        return dict(load_file(path))
    if not _is_program(path):
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    if digest != OPENAI:
        raise UserError(
            f"{path} is a TorchScript program and not the one that OpenAI published (sha256 {OPENAI[:8]}…): "
            "give that file, or weights alone, as safetensors"
        )
    return dict(torch.jit.load(str(path), map_location="cpu").state_dict())


def _is_program(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def load_published(network: nn.Module, state: Mapping[str, Tensor], heads: Sequence[str], what: str) -> None:
    """Give a network its weights. Raises UserError, naming the first tensor that is missing, left over or misshapen.

    Tensors whose names begin as ``heads`` do are the published network's own and are dropped; how many batches a
    normalisation has seen has no effect, and older files do not say it.
    """
    counted = ".num_batches_tracked"
    wanted = {k: v.shape for k, v in network.state_dict().items()}
    given = {k: v for k, v in state.items() if not k.startswith(tuple(heads)) and not k.endswith(counted)}
    given |= {k: torch.tensor(0) for k in wanted if k.endswith(counted)}
    for name in sorted(wanted.keys() | given.keys()):
        if name not in given:
            raise UserError(f"{what} lacks {name}: it is of another network, give the file that is asked for")
        if name not in wanted:
            raise UserError(f"{what} has {name}, which is no part of the network: give the file that is asked for")
        if given[name].shape != wanted[name]:
            sizes = f"{tuple(given[name].shape)} and not {tuple(wanted[name])}"
            raise UserError(f"{name} of {what} is {sizes}: it is of another network, give the file that is asked for")
    network.load_state_dict(given, assign=True)
