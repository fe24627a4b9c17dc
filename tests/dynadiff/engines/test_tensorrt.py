"""The TensorRT engine's own logic, on stand-ins of TensorRT and CUDA that compute: no GPU, the same pictures."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from support.fake_cuda import FakeCuda
from support.fake_tensorrt import fake_tensorrt

pytest.importorskip("onnx")
from dynadiff.assets import EMBEDDED
from dynadiff.base.errors import UserError
from dynadiff.base.random import initial_noise
from dynadiff.engines import open as engines
from dynadiff.engines.choice import Sampler
from dynadiff.engines.contract import MANIFEST, Encoded, Manifest, paint
from dynadiff.engines.cuda import Cuda, Resident
from dynadiff.engines.open import open_decoder
from dynadiff.engines.tensorrt import ONE_GRAPH, TrtEngine, open_trt
from exporters.tensorrt import build_engine, native_target

STEPS = 3


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded decoder as plans of the stand-in, built on its GPU."""
    folder = tmp_path_factory.mktemp("trt") / "engine"
    cuda = FakeCuda()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder.parent))
        build_engine(EMBEDDED / "onnx", folder, fake_tensorrt(cuda), native_target(Cuda(cuda, "trt")))
    return folder


@pytest.fixture
def machine():
    """A GPU and TensorRT, as a user's machine has them."""
    cuda = FakeCuda()
    return SimpleNamespace(bindings=cuda, trt=fake_tensorrt(cuda), cuda=Cuda(cuda, "trt"))


def engine_of(built: Path, machine, **changes: object) -> TrtEngine:
    manifest = Manifest.load(built)
    engine = open_trt(built, manifest, machine.trt, machine.cuda)
    engine.use(Sampler(**({"steps": STEPS, "guidance": 5.0} | changes)).over(manifest).sampler)
    return engine


@pytest.fixture
def window() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1152, 6), dtype=np.float32)


NOISE = initial_noise(0, (12, 8, 8))


@pytest.fixture(scope="session")
def onnx_engine():
    return open_decoder("onnx", EMBEDDED, 1, Sampler(STEPS, 5.0)).engine


def test_pictures_are_those_of_the_graphs_that_the_plans_hold(built, machine, window, onnx_engine) -> None:
    engine = engine_of(built, machine)
    for w in (window, -window, window):  # buffers are used again, and nothing of the last picture is left in them
        np.testing.assert_array_equal(paint(engine, w, NOISE), paint(onnx_engine, w, NOISE))
    np.testing.assert_array_equal(paint(engine, window, NOISE[::-1]), paint(onnx_engine, window, NOISE[::-1]))


def test_steps_one_by_one_are_the_captured_loop(built, machine, window, onnx_engine) -> None:
    engine = engine_of(built, machine)
    encoded = engine.encode(window)
    latent = NOISE
    for i in range(STEPS):
        latent = engine.step(latent, encoded, i)
    one_by_one = np.asarray(latent)
    np.testing.assert_array_equal(one_by_one, np.asarray(engine.sample(NOISE, encoded)))
    np.testing.assert_array_equal(one_by_one, onnx_engine.sample(NOISE, Encoded(np.asarray(encoded.tokens))))


def test_a_picture_is_one_copy_in_one_launch_and_one_copy_out(built, machine, window) -> None:
    engine = engine_of(built, machine)
    assert engine.mode == ONE_GRAPH
    paint(engine, window, NOISE)  # the noise goes in with the first picture
    machine.bindings.calls.clear()
    machine.trt.bound.clear()
    paint(engine, window, NOISE)
    calls = machine.bindings.calls
    assert calls.count("cudaMemcpyHostToDevice") == calls.count("cudaMemcpyDeviceToHost") == calls.count("launch") == 1
    assert calls.count("cudaMemcpyDeviceToDevice") == 1  # the noise to where the latent is
    assert "malloc" not in calls
    assert machine.trt.bound == []


@pytest.mark.parametrize(("version", "capturable", "breaks"), [("1.7", False, False), ("11.4", None, True)])
def test_a_runtime_that_cannot_be_captured_says_so_and_paints_the_same(
    built, machine, window, onnx_engine, version, capturable, breaks
) -> None:
    machine.trt = fake_tensorrt(machine.bindings, machine.trt.__version__, capturable)
    machine.trt.breaks_capture = breaks
    engine = engine_of(built, machine)
    assert engine.mode.startswith("sampling steps one by one")
    np.testing.assert_array_equal(paint(engine, window, NOISE), paint(onnx_engine, window, NOISE))
    assert "launch" not in machine.bindings.calls


def test_an_array_of_another_engine_is_not_taken(built, machine, window) -> None:
    one, two = (engine_of(built, machine) for _ in range(2))
    encoded = one.encode(window)
    assert isinstance(encoded.tokens, Resident)
    with pytest.raises(ValueError, match="another engine"):
        two.step(NOISE, encoded, 0)


def test_another_table_frees_what_the_last_one_needed(built, machine, window) -> None:
    engine, cuda = engine_of(built, machine), machine.bindings
    used, graphs, first = cuda.used, len(cuda.graphs), paint(engine, window, NOISE)
    assert graphs == 1
    for changed in ({"steps": 7, "guidance": 5.0}, {"steps": 2, "guidance": 2.0}):
        engine.use(Sampler(**changed).over(Manifest.load(built)).sampler)
        fresh = FakeCuda()
        trt = fake_tensorrt(fresh)
        same = engine_of(built, SimpleNamespace(trt=trt, cuda=Cuda(fresh, "trt")), **changed)
        np.testing.assert_array_equal(paint(engine, window, NOISE), paint(same, window, NOISE))
        assert (cuda.used, len(cuda.graphs)) == (fresh.used, len(fresh.graphs))
        assert cuda.used != used
    engine.use(Sampler(STEPS, 5.0).over(Manifest.load(built)).sampler)
    assert (cuda.used, len(cuda.graphs)) == (used, graphs)
    np.testing.assert_array_equal(paint(engine, window, NOISE), first)
    assert machine.trt.deserialised == 3


def test_a_gpu_without_room_for_another_table_goes_on_with_the_one_it_has(built, machine, window) -> None:
    engine, cuda = engine_of(built, machine), machine.bindings
    first, used, mode = paint(engine, window, NOISE), cuda.used, engine.mode
    manifest = Manifest.load(built)
    another = Sampler(300, 5.0).over(manifest).sampler
    sizes = [rows.size // STEPS * 300 for rows in engine._rows.values()]
    assert len(sizes) > 1
    for fits in range(len(sizes)):  # so many of its rows
        room, cuda._room = cuda._room, sum(sizes[:fits])
        with pytest.raises(UserError, match="memory is used up"):
            engine.use(another)
        assert cuda.used == used
        assert (cuda._room, engine.mode, engine.table) == (
            sum(sizes[:fits]),
            mode,
            Sampler(STEPS, 5.0).over(manifest).sampler,
        )
        cuda._room = room
        np.testing.assert_array_equal(paint(engine, window, NOISE), first)
    engine.use(another)
    assert engine.table == another


def test_plans_are_in_memory_one_at_a_time(built, machine, monkeypatch) -> None:
    class Content(bytes):
        alive = most = 0

        def __init__(self, *_) -> None:
            Content.alive += 1
            Content.most = max(Content.most, Content.alive)

        def __del__(self) -> None:
            Content.alive -= 1

    known = Manifest.read
    monkeypatch.setattr(Manifest, "read", lambda *given: Content(known(*given)))
    engine_of(built, machine)
    assert (Content.most, Content.alive, machine.trt.deserialised) == (1, 0, 3)


@pytest.mark.parametrize(
    ("bindings", "version", "said"),
    [
        ({}, "10.16.1.11", "built with tensorrt 11.4.0.106, and 10.16.1.11 is installed"),
        ({}, "10.13.3.9", r"tensorrt 10\.13\.3\.9 is too old .* from 10\.14 on: install a newer"),
        ({"capability": (8, 6)}, "11.4.0.106", "for compute capability 8.9, and Fake GPU has 8.6"),
        ({"name": b"Other GPU\0\0"}, "11.4.0.106", "on Fake GPU, and this machine has Other GPU"),
    ],
)
def test_plans_for_something_else_are_refused_before_they_are_loaded(built, bindings, version, said) -> None:
    cuda = FakeCuda(**bindings)
    trt = fake_tensorrt(cuda, version)
    with pytest.raises(UserError, match=said) as refused:
        open_trt(built, Manifest.load(built), trt, Cuda(cuda, "trt"))
    again = "export onnx --opset 20" if version == "10.13.3.9" else f"export trt --model MODEL --out {built}"
    assert f"`dynadiff {again}" in str(refused.value)
    assert trt.deserialised == 0


def test_only_plans_whose_digest_is_in_the_manifest_are_loaded(built, machine, tmp_path) -> None:
    folder = Path(shutil.copytree(built, tmp_path / "engine"))
    manifest = Manifest.load(folder)
    (folder / "step.plan").write_bytes((folder / "brain.plan").read_bytes())  # between the check and the loading
    with pytest.raises(UserError, match=r"step\.plan is missing or not the file"):
        open_trt(folder, manifest, machine.trt, machine.cuda)
    assert machine.trt.deserialised == 1  # that of the brain module, which is as it was


@pytest.mark.parametrize(
    ("turn", "said"),
    [
        ({"no_room": True}, "no room to run"),
        ({"unknown": ("tokens",)}, "the brain plan has no tensor tokens"),
        ({"fails_to_run": True}, "the brain plan does not run"),
    ],
)
def test_what_the_runtime_refuses_is_one_sentence(built, machine, turn, said) -> None:
    for name, value in turn.items():
        setattr(machine.trt, name, value)
    with pytest.raises(UserError, match=said):
        engine_of(built, machine)


def test_a_plan_that_does_not_load_says_what_to_build(built, machine) -> None:
    newer = fake_tensorrt(machine.bindings, "11.5")
    newer.__version__ = machine.trt.__version__  # a plan that lies about itself
    with pytest.raises(
        UserError, match=r"does not load .*kSERIALIZATION_VERSION.*build it again with `dynadiff export"
    ):
        open_trt(built, Manifest.load(built), newer, machine.cuda)


def test_a_plan_with_other_tensors_than_its_manifest_is_refused(built, machine, tmp_path) -> None:
    folder = Path(shutil.copytree(built, tmp_path / "engine"))
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace('"tokens": "float32[1,17,64]"', '"tokens": "float16[1,17,64]"'))
    with pytest.raises(UserError, match=r"tokens float32\[1,17,64\] and its manifest of .*float16\[1,17,64\]"):
        open_trt(folder, Manifest.load(folder), machine.trt, machine.cuda)


def test_a_small_gpu_is_one_sentence(built) -> None:
    cuda = FakeCuda(room=20_000)
    with pytest.raises(UserError, match="memory is used up"):
        engine_of(built, SimpleNamespace(trt=fake_tensorrt(cuda), cuda=Cuda(cuda, "trt")))


def test_it_opens_like_any_engine_and_its_probe_is_checked_over_the_loop(built, machine, monkeypatch, window) -> None:
    monkeypatch.setattr(engines, "require_gpu", lambda kind: (machine.trt, machine.cuda))
    decoder = engines.open_decoder("trt", built)
    assert (decoder.engine.mode, decoder.manifest.kind, decoder.scorer is None) == (ONE_GRAPH, "trt", False)
    monkeypatch.setattr(TrtEngine, "sample", lambda self, noise, encoded: noise[None])
    with pytest.raises(UserError, match="its sampling loop is off by"):
        engines.open_decoder("trt", built)


def test_other_steps_and_guidance_are_taken_by_the_same_engine_and_probed_again(built, machine, monkeypatch) -> None:
    monkeypatch.setattr(engines, "require_gpu", lambda kind: (machine.trt, machine.cuda))
    decoder = engines.open_decoder("trt", built, sampler=Sampler(2, 1.5))
    assert (decoder.engine.mode, decoder.engine.table) == (ONE_GRAPH, decoder.manifest.sampler)
    assert (decoder.manifest.steps, decoder.manifest.guidance) == (2, 1.5)
    assert machine.trt.deserialised == 3
    known = TrtEngine._queue_steps

    def short(engine: TrtEngine) -> None:
        """Right for the table that the probe is of, and for no other."""
        engine._queue_step(0) if len(engine.table) == 2 else known(engine)

    monkeypatch.setattr(TrtEngine, "_queue_steps", short)
    with pytest.raises(UserError, match="its sampling loop is off by"):
        engines.open_decoder("trt", built, sampler=Sampler(2, 1.5))


def test_no_gpu_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"needs an NVIDIA GPU and its driver \(cudaErrorNoDevice\): use --engine onnx"):
        Cuda(FakeCuda(devices=0), "trt")
