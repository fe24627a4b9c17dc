"""The operations of a picture, beside what is known of Versatile Diffusion's networks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from dynadiff.engines.contract import paint  # noqa: E402
from exporters.flops import embedded, keys_and_values, pictures  # noqa: E402

TERA = 1e12


def test_a_picture_at_full_size() -> None:
    """Steps of the dual U-Net, of the plain one and of ours; cross-attention costs 47.3 GFLOP a sample."""
    released, plain, looked_up, exported, unguided = pictures()
    assert released.step / TERA == pytest.approx(2.4067, abs=1e-4)
    assert plain.step / TERA == pytest.approx(1.637, abs=1e-4)
    assert released.total / TERA == pytest.approx(50.65, abs=0.01)
    assert exported.decoder / TERA == pytest.approx(2.515, abs=1e-3)
    assert (looked_up.step - exported.step) / TERA == pytest.approx(0.0473, abs=1e-4)
    assert 0 < plain.step - looked_up.step < 2e-4 * TERA
    assert exported.total / TERA < 35.3
    assert unguided.step == pytest.approx(plain.step / 2, rel=1e-3)
    full = replace(exported, single=unguided.step)
    assert full.sampled((2,) * 20) == exported.total
    assert full.sampled((1,) * 20) == unguided.total
    assert full.sampled((2,) * 5 + (1,) * 5) / TERA == pytest.approx(14.56, abs=0.01)
    with torch.device("meta"):
        assert keys_and_values() / TERA == pytest.approx(0.0099, abs=1e-4)


def test_a_picture_of_a_model_in_a_folder_is_the_sum_of_what_its_steps_evaluate(least: Path) -> None:
    """As PyTorch counts it while the engine paints, but for what an export leaves out of the guided half."""
    from dynadiff.engines.torch import TorchEngine, manifest_of
    from dynadiff.networks.choices import Sampling
    from dynadiff.networks.model_folder import load_model

    model, parts = load_model(least, merged=True), embedded(least)
    assert 0 < parts.single < parts.step <= 2 * parts.single
    model.config = model.config.sampled(Sampling(steps=3, guidance=1.0))
    manifest = manifest_of(model, "torch")
    engine = TorchEngine(model, manifest)
    window, noise = np.ones((manifest.voxels, 6), np.float32), np.ones(manifest.latent_shape, np.float32)
    with FlopCounterMode(display=False) as counter:
        paint(engine, window, noise)
    assert counter.get_total_flops() == pytest.approx(
        parts.sampled(manifest.evaluations), rel=2e-2
    )  # the time embedding
