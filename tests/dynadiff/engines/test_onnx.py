"""Graphs run on the GPU where ONNX Runtime was installed for one, and never quietly somewhere else."""

from pathlib import Path

import onnxruntime as ort
import pytest

from dynadiff.assets import EMBEDDED
from dynadiff.base.errors import UserError
from dynadiff.engines.onnx import open_session

GRAPH = EMBEDDED / "onnx" / "brain.onnx"


class Session:
    """Keeps what it is given: no GPU is needed to see what would be asked of one."""

    asked: dict[str, object]

    def __init__(self, path: str, options: ort.SessionOptions, **asked: object) -> None:
        assert Path(path) == GRAPH
        Session.asked = asked | {"options": options}


@pytest.fixture
def built_for_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime says that it was built for a GPU; what then opens a graph is the real one, for the CPU."""
    built = ["TensorrtExecutionProvider", "CPUExecutionProvider", "CUDAExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: built)


def test_a_graph_runs_on_the_cpu_where_that_is_all_there_is() -> None:
    assert open_session(GRAPH).get_providers() == ["CPUExecutionProvider"]


def test_a_gpu_computes_in_float32_and_has_nothing_to_fall_back_to(built_for_cuda, monkeypatch) -> None:
    monkeypatch.setattr(ort, "InferenceSession", Session)
    open_session(GRAPH)
    assert Session.asked["providers"] == [("CUDAExecutionProvider", {"use_tf32": "0"})]
    assert Session.asked["enable_fallback"] == 0
    assert Session.asked["options"].get_session_config_entry("session.disable_cpu_ep_fallback") == "1"


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_node_that_the_gpu_does_not_take_is_said_and_runs_nowhere(built_for_cuda) -> None:
    """All nodes are such here: the real ONNX Runtime of this machine has no GPU at all."""
    with pytest.raises(UserError, match=r"does not run .*brain\.onnx on the GPU alone \(.*assigned to the default CPU"):
        open_session(GRAPH)
