"""DreamSim through its package: asked as that is asked, with all of its files, and without a trace of it elsewhere.

In the package's place stands a small one of the same interface (0.2.1): `dreamsim` with its parameters, a model whose
`embed` squeezes, what it prints, the folder that it sets for torch.hub, files that it reads.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from dynadiff.base.errors import UserError  # noqa: E402
from dynadiff.scores.judges.dreamsim import ADAPTERS, CHECKPOINT, HUB  # noqa: E402
from dynadiff.scores.judges.open import open_judges  # noqa: E402
from dynadiff.scores.resize import pillow_resize  # noqa: E402
from dynadiff.scores.settings import DYNADIFF, MINDEYE  # noqa: E402
from dynadiff.scores.ten import score_pictures  # noqa: E402

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), np.uint8)
PACKAGE = """
import os

import torch
import torch.nn.functional as F

shown = []


class PerceptualModel(torch.nn.Module):
    def __init__(self, load_dir, normalize_embeds):
        super().__init__()
        path = os.path.join(load_dir, "dino_vitb16_pretrain.pth")
        self.mix = torch.nn.Parameter(torch.load(path, map_location="cpu", weights_only=True)["mix"])
        self.normalize_embeds = normalize_embeds

    def forward(self, img_a, img_b):
        return 1 - F.cosine_similarity(self.embed(img_a), self.embed(img_b), dim=-1)

    def embed(self, img):
        shown.append(img)
        embed = (F.adaptive_avg_pool2d(img, 4).flatten(1) @ self.mix)[:, None].squeeze()
        if len(embed.shape) <= 1:
            embed = embed.unsqueeze(0)
        if self.normalize_embeds:
            embed = (embed.T - torch.mean(embed, dim=1)).T
            embed = (embed.T / torch.norm(embed, dim=1)).T
        return embed


def dreamsim(pretrained=True, device="cuda", cache_dir="./models", normalize_embeds=True, dreamsim_type="ensemble",
             use_patch_model=False):
    print(f"Using cached {cache_dir}")
    torch.hub.set_dir(cache_dir)
    model = PerceptualModel(cache_dir, normalize_embeds).to(device)
    return model.eval().requires_grad_(False), None
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "site"
    (home / "dreamsim").mkdir(parents=True)
    (home / "dreamsim" / "__init__.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(home))
    for name in [name for name in sys.modules if name.split(".")[0] == "dreamsim"]:
        monkeypatch.delitem(sys.modules, name)
    yield
    sys.modules.pop("dreamsim", None)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    for name in (*CHECKPOINT, ADAPTERS[0], *HUB):
        path = tmp_path / "weights" / "dreamsim" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    mix = torch.randn(48, 20, generator=torch.Generator().manual_seed(0))
    torch.save({"mix": mix}, tmp_path / "weights" / "dreamsim" / CHECKPOINT[0])
    return tmp_path / "weights"


def line(folder: Path) -> str:
    judges, missing = open_judges(folder, DYNADIFF)
    assert "dreamsim" not in judges
    return next(str(one) for one in missing if one.metric == "dreamsim")


@pytest.mark.usefixtures("package")
def test_its_distance_is_that_of_the_package(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = torch.hub.get_dir()
    judge = open_judges(weights, DYNADIFF)[0]["dreamsim"]
    assert torch.hub.get_dir() == home
    said = capsys.readouterr()
    assert (said.out, "Using cached" in said.err) == ("", True)
    from dreamsim import dreamsim, shown

    other = PICTURES[::-1].copy()
    found = score_pictures(PICTURES, other, ["a", "b", "c"], DYNADIFF, {"dreamsim": judge})
    (scored,) = [one for one in found if one.metric.key == "dreamsim"]
    squares = [torch.from_numpy(pillow_resize(p, 224, "bicubic") / 255).permute(0, 3, 1, 2) for p in (PICTURES, other)]
    assert torch.equal(shown[-1], squares[0].float())  # as its own preprocessing: Pillow's, bicubic, in [0, 1]
    model, _ = dreamsim(device="cpu", cache_dir=str(weights / "dreamsim"))
    torch.hub.set_dir(home)
    assert scored.per_trial == pytest.approx(model(*(s.float() for s in squares)).numpy(), abs=1e-6)
    assert judge(PICTURES[:1]) == pytest.approx(judge(PICTURES)[:1], abs=1e-6)  # one picture keeps its axis


@pytest.mark.usefixtures("package")
def test_every_file_that_it_reads_has_its_digest(weights: Path) -> None:
    files = open_judges(weights, DYNADIFF)[0]["dreamsim"].files
    assert files == {
        f"dreamsim/{name}": hashlib.sha256((weights / "dreamsim" / name).read_bytes()).hexdigest()
        for name in (*CHECKPOINT, ADAPTERS[0], *HUB)
    }
    (weights / "dreamsim" / ADAPTERS[0]).rename(weights / "dreamsim" / ADAPTERS[1])  # an older format
    assert f"dreamsim/{ADAPTERS[1]}" in open_judges(weights, DYNADIFF)[0]["dreamsim"].files


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("name", [*CHECKPOINT, ADAPTERS[0], *HUB])
def test_it_is_asked_only_if_it_needs_to_download_nothing(name: str, weights: Path) -> None:
    (weights / "dreamsim" / name).unlink()
    assert line(weights).startswith(f"DreamSim: put {name} into {weights / 'dreamsim'}, from the checkpoint")


def test_without_its_package_a_line_says_what_is_needed(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynadiff.scores.judges.dreamsim.PACKAGE", "a_package_that_is_not_there")
    assert line(weights) == "DreamSim: its package is not installed: pip install a_package_that_is_not_there"
    assert "dreamsim" not in {one.metric for one in open_judges(weights, MINDEYE)[1]}


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("how", ["damaged", "other weights", "broken package"])
def test_what_it_cannot_open_is_one_sentence(how: str, weights: Path, tmp_path: Path) -> None:
    if how == "damaged":
        (weights / "dreamsim" / CHECKPOINT[0]).write_bytes(b"404 not found")
    elif how == "other weights":
        torch.save({"teacher": {}}, weights / "dreamsim" / CHECKPOINT[0])
    else:
        (tmp_path / "site" / "dreamsim" / "__init__.py").write_text("raise ImportError('no torchvision')\n")
    home = torch.hub.get_dir()
    with pytest.raises(UserError, match="DreamSim's package cannot open the files in") as error:
        open_judges(weights, DYNADIFF)
    assert "\n" not in str(error.value)
    assert torch.hub.get_dir() == home
