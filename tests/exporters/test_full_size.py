"""Versatile Diffusion's size: a quarter of an hour, 14 GB of memory, 3 GB of disk. Run with ``pytest -m slow``."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "full_size.py"
NETWORKS = ("brain", "step", "decoder")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_stage_at_full_size(tmp_path: Path) -> None:
    stages = [f"{stage}-{name}" for stage in ("export", "torch", "onnx") for name in NETWORKS] + ["audit", "train"]
    if importlib.util.find_spec("tensorrt_rtx"):
        stages += [f"rtx-{name}-{capability}" for name in NETWORKS for capability in ("8.6", "8.9")]
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])}
    command = [sys.executable, str(SCRIPT), str(tmp_path), "--only", *stages]
    subprocess.run(command, check=True, env=environment)
    facts = {row["stage"]: row for row in map(json.loads, (tmp_path / "stages.jsonl").read_text().splitlines())}
    assert list(facts) == stages
    assert facts["onnx-brain"]["error_max"] < 2e-3
    assert facts["onnx-step"]["error_max"] < 2e-3
    assert facts["torch-step"]["std"] > 0.3
    assert facts["onnx-decoder"]["error_max"] <= 2  # of 255, truncation included
    assert facts["export-step"]["data_MB"] == pytest.approx(1700, rel=0.02)
    assert facts["train"]["trainable"] == 345_393_223 + 397_824
    assert facts["train"]["frozen"] == 859_520_964 + 83_653_863
    assert all(row["plan_MB"] > 50 for stage, row in facts.items() if stage.startswith("rtx"))
