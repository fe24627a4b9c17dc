"""Training state on disk: tensors in safetensors, nothing pickled, replaced in one rename: a crash keeps the last.

Knows modules and optimisers as tensors; knows nothing of what is trained.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from dynadiff.base.errors import UserError
from dynadiff.networks.weights import save_tensors


def save_checkpoint(
    path: Path, step: int, modules: dict[str, nn.Module], optimiser: torch.optim.Optimizer | None,
    notes: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Write weights, optimiser moments, the number of steps done and notes (what JSON can say).

    Raises UserError where there is no space left; the checkpoint that was there stays.
    """
    tensors = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items() if optimiser else ():
        tensors |= {f"optimiser/{index}/{key}": torch.as_tensor(value) for key, value in state.items()}
    save_tensors(path, tensors, {"step": str(step), "notes": json.dumps(notes or {})})


def load_checkpoint(
    path: Path, modules: dict[str, nn.Module], optimiser: torch.optim.Optimizer | None
) -> tuple[int, dict[str, Any]]:
    """Restore what `save_checkpoint` wrote, strictly; steps done (0 where there is no checkpoint) and the notes.

    Raises UserError for a file that is cut short or holds tensors of another shape or name.
    """
    if not path.exists():
        return 0, {}
    parts: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, "pt") as file:
            said, names = file.metadata(), file.keys()
            for full in names:
                name, key = full.split("/", 1)
                parts.setdefault(name, {})[key] = file.get_tensor(full)
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}): delete it, and training begins from the start") from None
    for name, module in modules.items():
        _check(path, name, parts.get(name, {}), module)
        module.load_state_dict(parts.get(name, {}))
    state: dict[int, dict[str, Tensor]] = {}
    for full, tensor in parts.get("optimiser", {}).items():
        index, key = full.split("/")
        state.setdefault(int(index), {})[key] = tensor
    if optimiser:
        optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
    return int(said["step"]), json.loads(said.get("notes", "{}"))


def _check(path: Path, name: str, found: dict[str, Tensor], module: nn.Module) -> None:
    """UserError, naming the first tensor that differs, unless ``found`` is what ``module`` holds."""
    wanted = module.state_dict()
    for key in sorted(found.keys() | wanted.keys()):
        there, here = (tuple(p[key].shape) if key in p else "missing" for p in (found, wanted))
        if there != here:
            raise UserError(
                f"{path} is the checkpoint of another model ({name}/{key} is {there} in it and {here} here): "
                "give --out another name, or the choices that it was begun with"
            )
