"""How graphs are written: their opset, weights in a file of their own, the same bytes each time, guidance 1."""

import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")
from dynadiff.base.errors import UserError  # noqa: E402
from dynadiff.base.files import file_digest  # noqa: E402
from dynadiff.base.random import initial_noise  # noqa: E402
from dynadiff.engines.choice import Sampler  # noqa: E402
from dynadiff.engines.contract import MANIFEST, Manifest, paint  # noqa: E402
from dynadiff.engines.onnx import open_session  # noqa: E402
from dynadiff.engines.open import open_decoder  # noqa: E402
from dynadiff.engines.parity import compare  # noqa: E402
from dynadiff.engines.probe import PROBE  # noqa: E402
from dynadiff.networks.choices import Between  # noqa: E402
from dynadiff.networks.model_folder import load_model  # noqa: E402
from dynadiff.networks.sampling import Step  # noqa: E402
from exporters.choices import Graphs  # noqa: E402
from exporters.onnx import export_onnx, write_brain, write_step  # noqa: E402

NETWORKS = ("brain", "step", "decoder")
WINDOW = np.random.default_rng(0).standard_normal((48, 6), np.float32)


@pytest.fixture(scope="module")
def external(least: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine whose weights are all in files of their own."""
    folder = tmp_path_factory.mktemp("external") / "onnx"
    assert export_onnx(least, folder, Graphs(external=1)) == []
    return folder


def test_weights_in_a_file_of_their_own_are_part_of_the_engine(least: Path, external: Path) -> None:
    reference, other = open_decoder("torch", least, 1), open_decoder("onnx", external, 1)
    manifest = other.manifest
    assert set(manifest.files) >= {f"{name}.{kind}" for name in NETWORKS for kind in ("onnx", "data")}
    noise = initial_noise(0, manifest.latent_shape)
    one, two = (paint(d.engine, WINDOW, noise).astype(int) for d in (reference, other))
    assert np.abs(one - two).max() <= 1
    assert one.std() > 1
    for name in NETWORKS:
        assert len((external / f"{name}.onnx").read_bytes()) < 200_000
        onnx.checker.check_model(external / f"{name}.onnx", full_check=True)
    data = external / "step.data"
    kept = data.read_bytes()
    for damaged in (kept[:-1], bytes([kept[0] ^ 1]) + kept[1:], None):
        data.unlink()
        if damaged is not None:
            data.write_bytes(damaged)
        with pytest.raises(UserError, match=r"step\.data is missing or not the file that was exported"):
            open_decoder("onnx", external)
        data.write_bytes(kept)


def test_another_process_writes_the_same_bytes(least: Path, external: Path, tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from exporters.choices import Graphs
from exporters.onnx import export_onnx
export_onnx(Path({str(least)!r}), Path({str(tmp_path / "onnx")!r}), Graphs(external=1))
"""
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": root}
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path, env=environment)
    first, second = ({p.name: file_digest(p) for p in sorted(f.iterdir())} for f in (external, tmp_path / "onnx"))
    assert first == second


def test_nothing_of_adapters_and_of_time_embedding_is_left(external: Path) -> None:
    graph = onnx.load(external / "step.onnx").graph
    names = [name for node in graph.node for name in (node.name, *node.input, *node.output)]
    names += [weight.name for weight in graph.initializer]
    for gone in ("lora", "base_layer", "time_emb"):
        assert not [name for name in names if gone in name]
    assert not {"Sin", "Cos"} & {node.op_type for node in graph.node}


@pytest.mark.parametrize("opset", [18, 20, 23])
def test_every_opset_gives_the_same_step(least: Path, external: Path, opset: int, tmp_path: Path) -> None:
    path = external / "step.onnx"  # of opset 23
    if opset != 23:
        path = tmp_path / "step.onnx"
        write_step(load_model(least, merged=True), path, Graphs(opset=opset))
    model = onnx.load(path)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == opset
    assert ("Attention" in {node.op_type for node in model.graph.node}) == (opset == 23)
    assert not model.functions
    assert {node.domain for node in model.graph.node} == {""}
    reference = load_model(least, merged=True)
    given = {
        "latent": torch.randn(1, 12, 4, 4), "tokens": torch.randn(1, 5, 8), "timestep": torch.tensor([501]),
        "guidance": torch.tensor(4.0), "coefficients": torch.tensor([1.1, -0.15]),
    }  # fmt: skip
    with torch.no_grad():
        expected = Step(reference.generator.unet)(*given.values())
    result = open_session(path, 1).run(None, {k: v.numpy() for k, v in given.items()})[0]
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_an_engine_for_guidance_1_has_one_half_and_no_other_guidance(
    least: Path, external: Path, tmp_path: Path, only_the_step
) -> None:
    only_the_step(external)
    export_onnx(least, tmp_path / "onnx", sampler=Sampler(guidance=1))
    inputs = {i.name: list(i.shape) for i in open_session(tmp_path / "onnx" / "step.onnx", 1).get_inputs()}
    assert inputs == {"latent": [1, 12, 4, 4], "tokens": [1, 5, 8], "timestep": [1], "coefficients": [2]}
    ours, reference = open_decoder("onnx", tmp_path / "onnx", 1), open_decoder("torch", least, 1, Sampler(guidance=1))
    noise = initial_noise(0, ours.manifest.latent_shape)
    one, two = (paint(d.engine, WINDOW, noise).astype(int) for d in (ours, reference))
    assert np.abs(one - two).max() <= 1
    with pytest.raises(UserError, match="exported for guidance 1, not 3"):
        open_decoder("onnx", tmp_path / "onnx", 1, Sampler(guidance=3))


def test_an_engine_guided_at_some_steps_has_a_network_of_one_half_for_the_others(
    least: Path, external: Path, mixed: Path
) -> None:
    manifest = Manifest.load(mixed)
    assert manifest.networks == ("brain", "step", "decoder", "single")
    assert (manifest.spacing, manifest.evaluations) == ("ays", (2,) * 5 + (1,) * 5)
    assert manifest.build is not None
    assert manifest.build.choices["guidance"] == "both halves and one half"
    assert set(manifest.files) >= {"single.onnx", "single.data"}
    assert set(manifest.build.graphs) == {f"{n}.{kind}" for n in manifest.networks for kind in ("onnx", "data")}
    for name, latents in (("step", 2), ("single", 1)):
        graph = onnx.shape_inference.infer_shapes(onnx.load(mixed / f"{name}.onnx")).graph
        shapes = {v.name: [axis.dim_value for axis in v.type.tensor_type.shape.dim] for v in graph.value_info}
        rows = {shapes[node.output[0]][0] for node in graph.node if node.op_type == "Conv"}
        assert rows == {latents}  # that every convolution sees: nothing is computed to be multiplied by zero
    for name in ("step.onnx", "step.data"):  # which is as if it were alone
        assert (mixed / name).read_bytes() == (external / name).read_bytes()


def test_engines_agree_step_by_step_and_over_the_loop_where_some_steps_are_guided(least: Path, mixed: Path) -> None:
    ours = open_decoder("onnx", mixed, 1)
    for sampler in (Sampler(), Sampler(exact=True), Sampler(6, (1.0, 2.0, 1.0, 1.0, 7.0, 1.0), "leading")):
        decoder = open_decoder("onnx", mixed, 1, sampler)
        assert decoder.engine.mode == ""
        errors = compare(open_decoder("torch", least, 1).engine, decoder)
        assert all(error.within and error.largest < 1e-3 * error.scale for error in errors[:4])
        assert errors[4].largest <= 1
    reference = open_decoder("torch", least, 1, Sampler(10, Between(5.0, 501, 999), "ays"))
    assert reference.manifest.sampler == ours.manifest.sampler
    noise = initial_noise(0, ours.manifest.latent_shape)
    one, two = (paint(d.engine, WINDOW, noise).astype(int) for d in (ours, reference))
    assert np.abs(one - two).max() <= 1
    exact = paint(open_decoder("onnx", mixed, 1, Sampler(exact=True)).engine, WINDOW, noise).astype(int)
    assert np.abs(exact - one).mean() > 1


def test_exact_pictures_are_twenty_guided_steps_whatever_the_engine_is_set_to(mixed: Path, external: Path) -> None:
    noise = initial_noise(0, Manifest.load(mixed).latent_shape)
    asked = (mixed, Sampler(exact=True)), (external, Sampler(20, 5.0)), (external, Sampler(4, 5.0))
    exact, twenty, four = (
        paint(open_decoder("onnx", home, 1, s).engine, WINDOW, noise).astype(int) for home, s in asked
    )
    np.testing.assert_array_equal(exact, twenty)
    assert np.abs(exact - four).mean() > 1


def test_an_engine_without_a_network_of_one_half_says_what_it_computes_for_nothing(external: Path) -> None:
    engine = open_decoder("onnx", external, 1, Sampler(10, Between(5.0, 501, 999))).engine
    assert engine.mode == "both halves at 5 steps that need one, since it was exported without a network of one half"
    assert open_decoder("onnx", external, 1).engine.mode == ""


def test_a_wrong_network_of_one_half_is_found_by_the_probe(mixed: Path, tmp_path: Path) -> None:
    """The same graph with the weights of another network: its digest is made right, its numbers are not."""
    folder = Path(shutil.copytree(mixed, tmp_path / "engine"))
    data = bytearray((folder / "single.data").read_bytes())
    data[: len(data) // 4] = bytes(len(data) // 4)
    (folder / "single.data").write_bytes(data)
    written = json.loads((folder / MANIFEST).read_text())
    written["files"]["single.data"] = file_digest(folder / "single.data")
    (folder / MANIFEST).write_text(json.dumps(written))
    with pytest.raises(UserError, match="its step of one half is off by"):
        open_decoder("onnx", folder, 1)


def test_a_probe_without_the_step_of_one_half_is_not_enough(external: Path, mixed: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(mixed, tmp_path / "engine"))
    shutil.copyfile(external / PROBE, folder / PROBE)
    written = json.loads((folder / MANIFEST).read_text())
    written["files"][PROBE] = file_digest(folder / PROBE)
    (folder / MANIFEST).write_text(json.dumps(written))
    with pytest.raises(UserError, match="carries no probe of its step of one half: export the engine again"):
        open_decoder("onnx", folder, 1)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ({"spacing": "leading"}, "the timesteps of its sampler are not leading"),
        ({"sampler": [{"timestep": 9, "x": 1.0, "eps": 0.0, "guidance": 5.0}], "spacing": "listed"}, "does not need"),
    ],
)
def test_a_manifest_whose_table_is_another_than_it_says_is_refused(
    mixed: Path, tmp_path: Path, spoil: dict, said: str
) -> None:
    written = json.loads((mixed / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps(written | spoil))
    with pytest.raises(UserError, match=f"not an engine manifest of this version .*{said}"):
        Manifest.load(tmp_path)


def test_an_engine_folder_of_the_second_version_paints_as_it_did(external: Path, tmp_path: Path) -> None:
    kept = Path(shutil.copytree(external, tmp_path / "engine"))
    manifest = Manifest.load(kept)
    second = {key: value for key, value in asdict(manifest).items() if key != "spacing"} | {"version": 2}
    (kept / MANIFEST).write_text(json.dumps(second))
    assert Manifest.load(kept) == manifest
    noise = initial_noise(0, manifest.latent_shape)
    pictures = [paint(open_decoder("onnx", home, 1).engine, WINDOW, noise) for home in (kept, external)]
    np.testing.assert_array_equal(*pictures)


def test_a_disk_too_full_is_told_before_anything_is_written(
    least: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(1000, 900, 100))
    with pytest.raises(UserError, match=r"the disk is too full for .* and 0\.0 MB are free: make room"):
        export_onnx(least, tmp_path / "onnx")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("wrong", "said"), [({"precision": "int8"}, "float, half"), ({"opset": 17}, "18, 20, 23")])
def test_what_is_not_offered_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=f"choose one of {said}"):
        Graphs(**wrong)


def test_weights_stay_in_the_graph_below_the_limit(least: Path, tmp_path: Path) -> None:
    model = load_model(least, merged=True)
    write_brain(model, tmp_path / "one.onnx", Graphs(external=1 << 20))
    write_brain(model, tmp_path / "two.onnx", Graphs(external=1 << 10))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.onnx", "two.data", "two.onnx"]
