"""The operations of a picture, beside what is known of Versatile Diffusion's networks."""

import pytest

torch = pytest.importorskip("torch")
from exporters.flops import keys_and_values, pictures  # noqa: E402

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
    with torch.device("meta"):
        assert keys_and_values() / TERA == pytest.approx(0.0099, abs=1e-4)
