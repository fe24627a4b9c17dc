"""Training state on disk: tensors in safetensors, nothing pickled, replaced in one rename: a crash keeps the last.

Knows modules and optimisers as tensors; knows nothing of what is trained.
"""

import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


def save_checkpoint(path: Path, step: int, modules: dict[str, nn.Module], optimiser: torch.optim.Optimizer) -> None:
    """Write weights, optimiser moments and the number of steps done."""
    tensors = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{key}": torch.as_tensor(value) for key, value in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, new, {"step": str(step)})
    with new.open("rb") as file:
        os.fsync(file.fileno())
    new.replace(path)


def load_checkpoint(path: Path, modules: dict[str, nn.Module], optimiser: torch.optim.Optimizer) -> int:
    """Restore what `save_checkpoint` wrote, strictly; the number of steps done, 0 where there is no checkpoint."""
    if not path.exists():
        return 0
    parts: dict[str, dict[str, Tensor]] = {}
    with safe_open(path, "pt") as file:
        step = int(file.metadata()["step"])
        for full in file.keys():  # noqa: SIM118  (not a dict)
            name, key = full.split("/", 1)
            parts.setdefault(name, {})[key] = file.get_tensor(full)
    for name, module in modules.items():
        module.load_state_dict(parts[name])
    state: dict[int, dict[str, Tensor]] = {}
    for full, tensor in parts["optimiser"].items():
        index, key = full.split("/")
        state.setdefault(int(index), {})[key] = tensor
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
    return step
