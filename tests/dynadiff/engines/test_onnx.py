"""Graphs run on the GPU where ONNX Runtime was installed for one, and never quietly somewhere else."""

from pathlib import Path

import onnxruntime as ort
import pytest

from dynadiff.assets import EMBEDDED
from dynadiff.base.errors import UserError
from dynadiff.engines.onnx import open_session

GRAPH = EMBEDDED / "onnx" / "brain.onnx"


class Session:
    """Takes what it is given, and says that it runs on ``found``."""

    found: str
    asked: list[str]

    def __init__(self, path: str, options: ort.SessionOptions, providers: list[str]) -> None:
        assert Path(path) == GRAPH
        Session.asked = providers

    def get_providers(self) -> list[str]:
        return [self.found, "CPUExecutionProvider"]


@pytest.fixture
def built_for(monkeypatch: pytest.MonkeyPatch):
    def runtime(available: list[str], found: str) -> None:
        monkeypatch.setattr(ort, "get_available_providers", lambda: available)
        monkeypatch.setattr(ort, "InferenceSession", Session)
        Session.found = found

    return runtime


def test_a_graph_runs_on_the_cpu_where_that_is_all_there_is() -> None:
    assert open_session(GRAPH).get_providers() == ["CPUExecutionProvider"]


def test_a_gpu_comes_first(built_for) -> None:
    built_for(["TensorrtExecutionProvider", "CPUExecutionProvider", "CUDAExecutionProvider"], "CUDAExecutionProvider")
    open_session(GRAPH)
    assert Session.asked == ["CUDAExecutionProvider", "CPUExecutionProvider"]


def test_a_gpu_that_cannot_be_used_is_said(built_for) -> None:
    built_for(["CUDAExecutionProvider", "CPUExecutionProvider"], "CPUExecutionProvider")
    with pytest.raises(UserError, match="cannot use it here: install the GPU's driver"):
        open_session(GRAPH)
