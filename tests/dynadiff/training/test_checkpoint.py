"""A checkpoint is whole or the one before it: a full disk, a damaged file and another model are one sentence each."""

import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from dynadiff.base.errors import UserError  # noqa: E402
from dynadiff.training.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402

FULL = """
import resource, signal, sys
from pathlib import Path
import torch
from dynadiff.training.checkpoint import save_checkpoint
from dynadiff.base.commands import run
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
run(lambda: save_checkpoint(Path(sys.argv[1]), 2, {"a": torch.nn.Linear(200, 200)}, None))
"""


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    first = torch.nn.Linear(200, 200)
    save_checkpoint(path, 1, {"a": first}, None)
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: no space is left for")
    assert done.stderr.count("\n") == 1
    again = torch.nn.Linear(200, 200)
    assert load_checkpoint(path, {"a": again}, None)[0] == 1
    assert torch.equal(again.weight, first.weight)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_notes_moments_and_weights_come_back(tmp_path: Path) -> None:
    path, network = tmp_path / "a.safetensors", torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(network.parameters())
    network(torch.ones(3)).sum().backward()
    optimiser.step()
    save_checkpoint(path, 7, {"a": network}, optimiser, {"scaler": {"scale": 2.5}})
    other = torch.nn.Linear(3, 2)
    its = torch.optim.AdamW(other.parameters())
    assert load_checkpoint(path, {"a": other}, its) == (7, {"scaler": {"scale": 2.5}})
    assert torch.equal(other.weight, network.weight)
    for mine, theirs in zip(its.state_dict()["state"].values(), optimiser.state_dict()["state"].values(), strict=True):
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


def test_another_shape_or_name_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    assert load_checkpoint(path, {}, None) == (0, {})
    save_checkpoint(path, 1, {"a": torch.nn.Linear(3, 2)}, None)
    with pytest.raises(UserError, match=r"a/weight is \(2, 3\) in it and \(2, 4\) here"):
        load_checkpoint(path, {"a": torch.nn.Linear(4, 2)}, None)
    with pytest.raises(UserError, match=r"a/bias is \(2,\) in it and missing here"):
        load_checkpoint(path, {"a": torch.nn.Linear(3, 2, bias=False)}, None)
