"""A manifest says what an engine is, and nothing that it says leads out of its folder."""

import json
from dataclasses import asdict

import pytest

from dynadiff.engine import MANIFEST, Manifest, file_digest
from dynadiff.errors import UserError


@pytest.fixture
def manifest(make_decoder):
    return make_decoder().manifest


def test_a_manifest_comes_back_equal(manifest, tmp_path):
    manifest.save(tmp_path)
    assert Manifest.load(tmp_path) == manifest


@pytest.mark.parametrize(
    "name", ["../secret", "below/file", "/etc/hostname", "./secret", "", ".", "..", "../engine/ok"]
)
def test_a_file_that_is_not_in_the_folder_is_refused_although_its_digest_is_right(name, manifest, tmp_path):
    folder = tmp_path / "engine"
    (folder / "below").mkdir(parents=True)
    for path in (tmp_path / "secret", folder / "secret", folder / "below" / "file", folder / "ok"):
        path.write_bytes(b"content")
    content = asdict(manifest) | {"files": {name: file_digest(folder / "ok")}}
    (folder / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(UserError, match="export the engine again"):
        Manifest.load(folder)
