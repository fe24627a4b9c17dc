"""Plans from the ONNX graphs: real ones by TensorRT-RTX, which needs no GPU to build, and the rest on a stand-in."""

import inspect
import json
import re
import shutil
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.fake_cuda import FakeCuda
from support.fake_tensorrt import fake_tensorrt

onnx = pytest.importorskip("onnx")
import onnxruntime as ort  # noqa: E402

from dynadiff.assets import EMBEDDED, JUDGE  # noqa: E402
from dynadiff.base.errors import UserError  # noqa: E402
from dynadiff.base.files import file_digest  # noqa: E402
from dynadiff.base.random import initial_noise  # noqa: E402
from dynadiff.engines.build import NETWORKS  # noqa: E402
from dynadiff.engines.choice import Sampler  # noqa: E402
from dynadiff.engines.contract import MANIFEST, Manifest, paint  # noqa: E402
from dynadiff.engines.cuda import Cuda  # noqa: E402
from dynadiff.engines.open import open_decoder  # noqa: E402
from dynadiff.engines.tensorrt import ONE_GRAPH, open_trt  # noqa: E402
from dynadiff.engines.tensorrt_library import ATTENTION_SINCE, load_tensorrt  # noqa: E402
from exporters.tensorrt import (  # noqa: E402
    Target,
    build_engine,
    compile_graph,
    describe,
    native_target,
    onnx_engine,
    uint8_last,
)

SOURCE = EMBEDDED / "onnx"
BUILD = Manifest.load(SOURCE).build
AHEAD = Target("trt-rtx", ("8.6", "8.9"))
GONE = re.compile(  # since TensorRT 10 or 11; where an exporter names them it fails, or builds float32 and says nothing
    r"\b(FP16|BF16|INT8|FP8|INT4|FP4|OBEY_PRECISION_CONSTRAINTS|PREFER_PRECISION_CONSTRAINTS|EXPLICIT_BATCH|CUBLAS|CUDNN"
    r"|int8_calibrator|platform_has_fast_fp16|device_memory_size|create_execution_context_without_device_memory"
    r"|all_shape_inputs_specified|supports_model|weight_streaming_budget|has_implicit_batch_dimension|num_bindings"
    r"|get_binding_\w+|set_binding_\w+|execute_async_v2|max_workspace_size|build_cuda_engine)\b"
)


@pytest.fixture
def trt():
    return fake_tensorrt(FakeCuda())


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def native() -> Target:
    return native_target(Cuda(FakeCuda(), "trt"))


@pytest.fixture(scope="module")
def rtx():
    return pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install '.[trt-rtx]'")


def small_graph(path: Path, axis: int | str = 4) -> Path:
    values = [onnx.helper.make_tensor_value_info(name, 1, [axis, 3]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_the_embedded_decoder_builds_ahead_of_time(rtx, tmp_path: Path) -> None:
    said: list[str] = []
    manifest = build_engine(SOURCE, tmp_path / "engine", rtx, AHEAD, said.append)
    assert Manifest.load(tmp_path / "engine") == manifest
    assert {f"{name}.plan" for name in NETWORKS} < set(manifest.files)
    assert manifest.build is not None
    assert manifest.build.networks == BUILD.networks
    assert manifest.build.libraries["tensorrt_rtx"] == rtx.__version__
    assert (manifest.build.targets, manifest.build.gpu) == (("8.6", "8.9"), "")
    assert sum("MB in" in line for line in said) == len(NETWORKS)
    step = (tmp_path / "engine" / "step.plan").stat().st_size
    assert step > 2 * (SOURCE / "step.onnx").stat().st_size  # float32, where the graph keeps half precision
    before = (tmp_path / "engine" / MANIFEST).stat().st_mtime_ns
    assert build_engine(SOURCE, tmp_path / "engine", rtx, AHEAD, said.append) == manifest
    assert said[-1].endswith("holds this engine already")
    assert (tmp_path / "engine" / MANIFEST).stat().st_mtime_ns == before


def test_weights_beside_a_graph_are_found(rtx, tmp_path: Path) -> None:
    brain = onnx.load(SOURCE / "brain.onnx")
    onnx.save(brain, tmp_path / "brain.onnx", save_as_external_data=True, location="brain.data", size_threshold=0)
    plan, network = compile_graph(rtx, tmp_path / "brain.onnx", AHEAD)
    assert (network, len(plan) > 2_000_000) == (BUILD.networks["brain"], True)
    (tmp_path / "brain.data").unlink()
    with pytest.raises(UserError, match=r"does not take .*brain\.onnx \(.*: export it again"):
        compile_graph(rtx, tmp_path / "brain.onnx", AHEAD)


def test_the_graph_of_one_half_is_taken_with_its_weights_beside_it(rtx, mixed: Path) -> None:
    plan, network = compile_graph(rtx, mixed / "single.onnx", AHEAD)
    build = Manifest.load(mixed).build
    assert build is not None
    assert (network, len(plan) > 0) == (build.networks["single"], True)


def test_an_open_shape_needs_a_profile(rtx, tmp_path: Path) -> None:
    graph = small_graph(tmp_path / "open.onnx", "n")
    with pytest.raises(UserError, match=r"does not build .*no optimization profile"):
        compile_graph(rtx, graph, AHEAD)
    plan, _ = compile_graph(rtx, graph, AHEAD, {"x": ((1, 3), (2, 3), (4, 3))})
    assert len(plan) > 0


def test_a_capability_that_it_does_not_build_for_is_one_sentence(rtx, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"compute capability 9\.0: choose of 7\.5, .*8\.9"):
        build_engine(SOURCE, tmp_path / "engine", rtx, replace(AHEAD, capabilities=("9.0",)), lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_the_stand_in_has_no_name_that_the_real_module_lacks(rtx, trt) -> None:
    parts = [part for part in vars(trt).values() if inspect.isclass(part)]
    assert len(parts) > 10
    for part in parts:
        real = getattr(rtx, part.__name__)
        for name in vars(part):
            assert name.startswith("_") or hasattr(real, name), f"{part.__name__}.{name}"


def test_no_name_that_was_removed_is_used() -> None:
    root = Path(__file__).parents[2]
    files = (*root.glob("exporters/**/*.py"), *root.glob("dynadiff/**/*.py"))
    paths = [path for path in files if "trt" in path.read_text()]
    assert {root / "exporters" / "tensorrt.py", root / "dynadiff" / "engines" / "tensorrt.py"} < set(paths)
    assert {path.name: found for path in paths if (found := GONE.findall(path.read_text()))} == {}


@pytest.mark.parametrize("version", ["10.16.1.11", "11.4.0.106"])
def test_native_plans_are_built_by_the_same_code(version: str, native: Target, tmp_path: Path) -> None:
    trt = fake_tensorrt(FakeCuda(), version)
    manifest = build_engine(SOURCE, tmp_path / "engine", trt, native, lambda _: None)
    assert manifest.build is not None
    assert (manifest.build.gpu, manifest.build.targets) == ("Fake GPU", ("8.9",))
    assert manifest.build.libraries | {"cuda": "13.0", "tensorrt": version} == manifest.build.libraries
    assert manifest.kind == "trt"
    assert manifest.files["judge.onnx"] == file_digest(JUDGE)  # of the decoder that ships


def test_a_step_of_one_half_is_a_plan_of_its_own(mixed: Path, tmp_path: Path) -> None:
    """Built, opened and captured as the others are; pictures are the graphs', and each step runs the one it needs."""
    cuda = FakeCuda()
    trt = fake_tensorrt(cuda)
    said: list[str] = []
    built = build_engine(mixed, tmp_path / "engine", trt, native_target(Cuda(cuda, "trt")), said.append)
    assert {f"{name}.plan" for name in (*NETWORKS, "single")} < set(built.files)
    assert (built.networks, built.sampler) == (Manifest.load(mixed).networks, Manifest.load(mixed).sampler)
    engine = open_trt(tmp_path / "engine", built, trt, Cuda(cuda, "trt"))
    assert (engine.mode, trt.deserialised) == (ONE_GRAPH, 4)
    window, noise = np.ones((48, 6), np.float32), initial_noise(0, built.latent_shape)
    queued, known = [], engine._queue
    engine._queue = lambda network: queued.append(network) or known(network)
    for sampler in (Sampler(), Sampler(exact=True), Sampler(4, (1.0, 3.0, 1.0, 1.0), "ays")):
        wanted = sampler.over(built)
        engine.use(wanted.sampler)  # captures: what a graph launches is queued once
        assert [2 - (name == "single") for name in queued if name != "brain"] == list(wanted.evaluations)
        other = open_decoder("onnx", mixed, 1, sampler).engine
        np.testing.assert_array_equal(paint(engine, window, noise), paint(other, window, noise))
        encoded, latent = engine.encode(window), noise
        for i in range(wanted.steps):
            latent = engine.step(latent, encoded, i)
        one_by_one = np.asarray(latent)
        np.testing.assert_array_equal(one_by_one, np.asarray(engine.sample(noise, encoded)))
        queued.clear()


def test_plans_of_another_table_are_no_engine_that_is_there_already(
    native: Target, trt, mixed: Path, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(mixed, tmp_path / "source"))
    said: list[str] = []
    for changed in (False, True):
        if changed:
            written = json.loads((source / MANIFEST).read_text())
            written["sampler"][0]["guidance"] = 4.0
            (source / MANIFEST).write_text(json.dumps(written))
        for again in (False, True):
            manifest = build_engine(source, tmp_path / "engine", trt, native, said.append)
            assert manifest.sampler == Manifest.load(tmp_path / "engine").sampler == Manifest.load(source).sampler
            assert said[-1].endswith("holds this engine already") == again


def test_a_tensorrt_older_than_the_operators_of_the_graphs_is_refused(native: Target, tmp_path: Path) -> None:
    rtx = fake_tensorrt(FakeCuda(), "1.6.2.1", capturable=True)
    with pytest.raises(
        UserError,
        match=r"tensorrt_rtx 1\.6\.2\.1 is too old .* Attention .* from 1\.7 on: install .*\[trt-rtx\].*--opset 20",
    ):
        build_engine(SOURCE, tmp_path / "engine", rtx, AHEAD, lambda _: None)
    old = fake_tensorrt(FakeCuda(), "10.13.3.9")
    with pytest.raises(
        UserError, match=r"tensorrt 10\.13\.3\.9 is too .* Attention .* from 10\.14 on: install .*\[trt\].*--opset 20"
    ):
        build_engine(SOURCE, tmp_path / "engine", old, native, lambda _: None)
    assert list(tmp_path.iterdir()) == []
    source = Path(shutil.copytree(SOURCE, tmp_path / "of opset 20"))
    raw = json.loads((source / MANIFEST).read_text())
    raw["build"]["choices"]["opset"] = 20
    (source / MANIFEST).write_text(json.dumps(raw))
    assert build_engine(source, tmp_path / "engine", old, native, lambda _: None).kind == "trt"


def test_the_extra_asks_for_the_oldest_tensorrt_that_takes_the_graphs() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    for kind, package, below in (("trt", "tensorrt", 12), ("trt-rtx", "tensorrt-rtx", 2)):
        floor = ".".join(map(str, ATTENTION_SINCE[kind]))
        assert f"{package}>={floor},<{below}" in project["optional-dependencies"][kind]


def test_timing_caches_are_of_one_version_and_a_damaged_one_is_not_used(trt, native, cache, tmp_path: Path) -> None:
    graph = small_graph(tmp_path / "g.onnx")
    for _ in range(2):
        compile_graph(trt, graph, native)
    newer = fake_tensorrt(FakeCuda(), "11.5")
    compile_graph(newer, graph, native)
    assert (trt.timing_caches, newer.timing_caches) == ([b"", b"11.4.0.106"], [b""])
    kept = sorted(cache.rglob("*.timing"))
    assert [path.name for path in kept] == ["tensorrt-11.4.0.106-sm8.9.timing", "tensorrt-11.5-sm8.9.timing"]
    kept[0].write_bytes(b"damaged")
    compile_graph(trt, graph, native)
    assert (trt.timing_caches[-1], kept[0].read_bytes()) == (b"", b"11.4.0.106")
    assert sorted(path for path in kept[0].parent.iterdir() if path.is_file()) == kept  # and nothing temporary


def test_what_the_builder_says_is_shown(trt, native: Target, tmp_path: Path) -> None:
    trt.fails_to_build = True
    with pytest.raises(UserError, match=r"tensorrt 11\.4\.0\.106 does not build .*Code 10: could not find any impl"):
        build_engine(SOURCE, tmp_path / "engine", trt, native, lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_what_the_plans_are_for_is_in_their_key(trt, native: Target) -> None:
    newer, altered = fake_tensorrt(FakeCuda(), "11.5"), replace(BUILD, graphs=BUILD.graphs | {"step.onnx": "0"})
    builds = [
        describe(BUILD, trt, native), describe(BUILD, newer, native), describe(altered, trt, native),
        describe(BUILD, trt, replace(native, level=5)), describe(BUILD, trt, replace(native, gpu="Other")),
        describe(BUILD, trt, replace(native, capabilities=("9.0",))), describe(BUILD, trt, replace(native, cuda="12")),
        describe(BUILD, trt, AHEAD),
    ]  # fmt: skip
    assert len({build.key() for build in builds}) == len(builds)


def test_uint8_moves_to_the_end_and_pictures_stay_the_same() -> None:
    model = onnx.load(SOURCE / "decoder.onnx")
    before = model.SerializeToString()
    after = uint8_last(model).SerializeToString()
    assert [node.op_type for node in onnx.load_from_string(after).graph.node][-2:] == ["Transpose", "Cast"]
    onnx.checker.check_model(onnx.load_from_string(after), full_check=True)
    latent = np.random.default_rng(0).standard_normal((1, 12, 8, 8), np.float32)
    one, two = (
        ort.InferenceSession(m, providers=["CPUExecutionProvider"]).run(None, {"latent": latent})[0]
        for m in (before, after)
    )
    np.testing.assert_array_equal(one, two)
    assert uint8_last(onnx.load_from_string(after)).SerializeToString() == after


def test_graphs_of_another_model_are_not_built_from(tmp_path: Path, monkeypatch) -> None:
    model = tmp_path / "model"
    shutil.copytree(EMBEDDED, model)
    with onnx_engine(model, tmp_path) as source:
        assert source == model / "onnx"
    with onnx_engine(model / "onnx", tmp_path) as source:
        assert source == model / "onnx"
    (model / "model.json").write_text(json.dumps(json.loads((model / "model.json").read_text()) | {"guidance": 2.0}))
    pytest.importorskip("torch")
    asked = []
    monkeypatch.setattr("exporters.onnx.export_onnx", lambda folder, out, say: asked.append((folder, out)))
    with onnx_engine(model, tmp_path / "scratch") as source:
        assert asked == [(model, source)]


@pytest.mark.parametrize("kind", ["trt", "trt-rtx"])
def test_a_package_that_is_missing_or_broken_says_what_to_install(kind: str, tmp_path: Path, monkeypatch) -> None:
    name = {"trt": "tensorrt", "trt-rtx": "tensorrt_rtx"}[kind]
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf"needs the package {name}: pip install 'dynadiff-realtime\[{kind}\]'"):
        load_tensorrt(kind)
    monkeypatch.delitem(sys.modules, name)
    (tmp_path / f"{name}.py").write_text("raise ImportError('libnvinfer.so.11: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"is installed but does not load \(libnvinfer"):
        load_tensorrt(kind)
