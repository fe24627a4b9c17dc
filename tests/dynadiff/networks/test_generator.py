"""Where a generator comes from, and that a folder which is none is told so."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
from dynadiff.assets import EMBEDDED  # noqa: E402
from dynadiff.base.errors import UserError  # noqa: E402
from dynadiff.networks.facts import Sizes, locate, sizes_of  # noqa: E402
from dynadiff.networks.generator import load_generator, save_generator, tiny_generator  # noqa: E402


def test_a_folder_comes_before_the_hub(tmp_path: Path) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert locate("owner/name", tmp_path) == tmp_path / "owner/name"
    assert locate("embedded", tmp_path) == EMBEDDED / "generator"
    assert locate("../generator", tmp_path) == tmp_path / "../generator"
    assert locate("/a/b", tmp_path) == Path("/a/b")


def test_the_hub_is_asked_for_the_networks_of_that_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def download(repository: str, **options: object) -> str:
        asked.update(options, repository=repository)
        return str(tmp_path / "cache")

    monkeypatch.setattr("dynadiff.networks.facts.snapshot_download", download)
    assert locate("owner/name@v1", tmp_path) == tmp_path / "cache"
    assert (asked["repository"], asked["revision"]) == ("owner/name", "v1")
    assert {"unet/*", "image_unet/*", "vae/*", "scheduler/*"} < set(asked["allow_patterns"])


def test_without_a_network_it_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="owner/name is no folder here and the hub did not give it") as told:
        locate("owner/name", tmp_path)
    assert "\n" not in str(told.value)


def test_files_say_the_sizes_that_the_networks_have(tmp_path: Path) -> None:
    """Without generator.json, as in Versatile Diffusion's folder, of the configurations alone."""
    save_generator(tiny_generator(32), None, tmp_path)
    assert sizes_of(tmp_path).picture_size == load_generator(tmp_path).picture_size == 32
    (tmp_path / "generator.json").unlink()
    network = load_generator(tmp_path)
    assert sizes_of(tmp_path) == Sizes(1, network.picture_size, network.tokens) == Sizes(1, 8, (257, 64))


@pytest.mark.parametrize("part", ["unet", "vae", "scheduler"])
def test_an_incomplete_folder_is_named_with_what_it_lacks(part: str, tmp_path: Path) -> None:
    save_generator(tiny_generator(), None, tmp_path)
    for file in (tmp_path / part).iterdir():
        file.unlink()
    with pytest.raises(UserError, match=f"{part}/.*is missing"):
        load_generator(tmp_path)


def test_a_noise_schedule_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    save_generator(tiny_generator(), None, tmp_path)
    config = tmp_path / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"beta_end": 2.0}))
    with pytest.raises(UserError, match=r"scheduler is not supported \(.* is no noise schedule\)"):
        load_generator(tmp_path)
