"""Half precision is used where it holds the values, and refused where it does not."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

pytest.importorskip("torch")
import exporters.onnx
from dynadiff.base.errors import UserError
from dynadiff.base.random import initial_noise
from dynadiff.engines.choice import Sampler
from dynadiff.engines.contract import paint
from dynadiff.engines.open import open_decoder
from exporters.choices import Graphs
from exporters.onnx import export_onnx
from exporters.precision import LARGEST, Reach, Watched, halve, refuse_over, report

SAMPLER = Sampler(4, (3.0, 1.0, 3.0, 1.0))
GRAPHS = ("brain.onnx", "step.onnx", "single.onnx", "decoder.onnx")
WINDOWS = np.random.default_rng(0).standard_normal((2, 48, 6), np.float32)


@pytest.fixture(scope="module")
def half(least: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Reach]]:
    """An engine that is guided at two steps of four, and what its values reached."""
    folder = tmp_path_factory.mktemp("half") / "onnx"
    return folder, export_onnx(least, folder, Graphs("half"), SAMPLER, WINDOWS)


def test_the_decoder_in_half_precision_paints_the_same(least: Path, half: tuple[Path, list[Reach]]) -> None:
    engines = [open_decoder("torch", least, 1, SAMPLER), open_decoder("onnx", half[0], 1)]
    noise = initial_noise(0, engines[0].manifest.latent_shape)
    for window in WINDOWS:
        one, two = (paint(d.engine, window, noise).astype(int) for d in engines)
        assert np.abs(one - two).max() <= 2
        assert one.std() > 1
    for name in GRAPHS:
        graph = onnx.load(half[0] / name).graph
        kinds = {w.data_type for w in graph.initializer if np.prod(w.dims) > 16}
        assert TensorProto.FLOAT16 in kinds
        assert TensorProto.FLOAT not in kinds
        assert {i.type.tensor_type.elem_type for i in graph.input} <= {TensorProto.FLOAT, TensorProto.INT64}


def test_the_audit_names_what_every_network_reaches(half: tuple[Path, list[Reach]]) -> None:
    reached = half[1]
    assert {r.graph for r in reached} == set(GRAPHS)
    assert all(0 <= r.value < LARGEST for r in reached)
    assert [r.value for r in reached] == sorted((r.value for r in reached), reverse=True)
    lines = report(reached)
    assert [line.split(":")[0] for line in lines] == ["brain.onnx", "step.onnx", "decoder.onnx", "single.onnx"]
    assert report([]) == []


def test_values_that_half_precision_does_not_hold_are_refused(
    least: Path, half: tuple[Path, list[Reach]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_graphs(model: object, folder: Path, how: object, manifest: object) -> None:
        for name in ("brain.onnx", "step.onnx", "decoder.onnx"):
            shutil.copy(half[0] / name, folder)

    monkeypatch.setattr(exporters.onnx, "write_graphs", write_graphs)
    export_onnx(least, tmp_path / "onnx", Graphs("half"), windows=WINDOWS)
    with pytest.raises(UserError, match=r"of brain\.onnx reaches (\d+|inf); export with --precision float"):
        export_onnx(least, tmp_path / "other", Graphs("half"), windows=WINDOWS * 2e4)
    assert [path.name for path in tmp_path.iterdir()] == ["onnx"]


def test_half_precision_is_never_written_unaudited(least: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="audited"):
        export_onnx(least, tmp_path / "onnx", Graphs("half"))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("value", "fits"), [(16_000.0, True), (17_000.0, False), (np.inf, False), (np.nan, False)])
def test_a_quarter_of_what_half_precision_holds_is_the_limit(value: float, fits: bool) -> None:
    reach = Reach("step.onnx", "add_3", "Add", 1.0)
    if fits:
        refuse_over([replace(reach, value=value), reach])
    else:
        with pytest.raises(UserError, match=r"1 values .* add_3 \(Add\) of step\.onnx"):
            refuse_over([replace(reach, value=value), reach])


def test_the_largest_magnitude_over_all_runs_is_kept(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["small"], to=TensorProto.FLOAT16),
        helper.make_node("Mul", ["small", "small"], ["square"]),
        helper.make_node("Log", ["small"], ["log"]),
        helper.make_node("Cast", ["square"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["log"], ["other"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["wide", "other"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / "g.onnx")
    watched = Watched(tmp_path / "g.onnx")
    result = watched.run(None, {"x": np.array([1, 2, 3], np.float32)})[0]
    np.testing.assert_allclose(result, [1, 4 + np.log(2), 9 + np.log(3)], rtol=1e-3)
    assert {r.name: r.value for r in watched.reached()} == pytest.approx(
        {"small": 3, "square": 9, "log": np.log(3)}, 1e-3
    )
    watched.run(None, {"x": np.array([1, 1, -2], np.float32)})
    assert {r.name: r.value for r in watched.reached()} == {
        "small": 3,
        "square": 9,
        "log": np.inf,
    }  # log -2 is no number
    watched.run(None, {"x": np.array([1, 1, 300], np.float32)})
    values = {r.name: r.value for r in watched.reached()}
    assert values["small"] == 300
    assert values["square"] > LARGEST
    assert sorted(p.name for p in tmp_path.iterdir()) == ["g.onnx"]


def test_half_precision_is_used_only_where_it_is_exact() -> None:
    exact, odd = np.arange(400, dtype=np.float32), np.linspace(0, 1, 400, dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("Add", ["exact", "odd"], ["sum"])], "g", [],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, [400])],
        [onnx.numpy_helper.from_array(exact, "exact"), onnx.numpy_helper.from_array(odd, "odd")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    model = onnx_ir.to_proto(halve(onnx_ir.from_proto(model)))
    types = {w.name: w.data_type for w in model.graph.initializer}
    assert types == {"exact_half": TensorProto.FLOAT16, "odd": TensorProto.FLOAT}
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {})[0], exact + odd)
