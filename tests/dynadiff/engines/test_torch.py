"""The compiled networks are the same networks."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
from dynadiff.assets import EMBEDDED  # noqa: E402
from dynadiff.base.random import initial_noise  # noqa: E402
from dynadiff.engines.choice import Sampler  # noqa: E402
from dynadiff.engines.contract import paint  # noqa: E402
from dynadiff.engines.torch import open_torch  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own tracer


def test_compiled_networks_paint_the_same_picture() -> None:
    """With the backend that traces and does not generate code: inductor takes more than a minute on a CPU."""
    asked = Sampler(3, (5.0, 1.0, 5.0))  # steps of both kinds
    plain = open_torch(EMBEDDED, 0, asked)
    compiled = open_torch(EMBEDDED, 0, asked, "eager")
    shape = plain.manifest.voxels, plain.manifest.window_length
    window = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    noise = initial_noise(0, plain.manifest.latent_shape)
    pictures = [paint(decoder.engine, window, noise).astype(int) for decoder in (plain, compiled)]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1
    assert (plain.engine.mode, compiled.engine.mode) == ("", "compiled by eager")


def test_a_model_that_is_set_to_another_sampler_says_so_when_it_is_opened(tmp_path: Path) -> None:
    shutil.copytree(EMBEDDED, tmp_path / "model", ignore=shutil.ignore_patterns("onnx"))
    written = json.loads((tmp_path / "model" / "model.json").read_text())
    (tmp_path / "model" / "model.json").write_text(json.dumps(written | {"sampler": "ddpm"}))
    said = "DDIM, where its model is set to DDPM, which no engine has"
    assert open_torch(tmp_path / "model", 0, Sampler(1, 5.0)).engine.mode == said
    assert open_torch(tmp_path / "model", 0, Sampler(1, 5.0), "eager").engine.mode == f"compiled by eager, {said}"
