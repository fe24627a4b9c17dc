"""The parity probe: the decoder itself passes, anything else is refused before it shows a picture."""

import io
from dataclasses import replace

import numpy as np
import pytest

from dynadiff.assets import EMBEDDED
from dynadiff.base.errors import UserError
from dynadiff.engines.choice import Sampler
from dynadiff.engines.contract import Manifest
from dynadiff.engines.open import open_decoder
from dynadiff.engines.parity import compare
from dynadiff.engines.probe import PROBE, Probe, check_loop, check_probe, make_probe


@pytest.fixture
def decoder(make_decoder):
    return make_decoder()


def spoil(engine, part: str, change) -> None:
    """From then on the engine gives something else; of a window, other tokens."""
    known = getattr(engine, part)

    def spoilt(*given):
        found = known(*given)
        return replace(found, tokens=change(found.tokens)) if part == "encode" else change(found)

    setattr(engine, part, spoilt)


def test_the_engine_itself_passes(decoder) -> None:
    check_probe(decoder.engine, make_probe(decoder.engine, decoder.manifest), decoder.manifest, "engine")


@pytest.mark.parametrize("change", [lambda x: x * 1.1, lambda x: x + np.nan, lambda x: x[..., ::-1], lambda x: x[:1]])
@pytest.mark.parametrize(("part", "said"), [("encode", "brain module"), ("step", "sampling step")])
def test_another_network_is_refused(decoder, part: str, said: str, change) -> None:
    probe = make_probe(decoder.engine, decoder.manifest)
    spoil(decoder.engine, part, change)
    with pytest.raises(UserError, match=f"its {said} is off by (nan|inf|0|1|2).*export the engine again"):
        check_probe(decoder.engine, probe, decoder.manifest, "engine")


def test_another_picture_is_refused(decoder) -> None:
    probe = make_probe(decoder.engine, decoder.manifest)
    spoil(decoder.engine, "render", lambda picture: picture[::-1])
    with pytest.raises(UserError, match="its picture in levels is off"):
        check_probe(decoder.engine, probe, decoder.manifest, "engine")


def test_a_wrong_loop_is_refused_where_the_engine_has_its_own(decoder, monkeypatch) -> None:
    probe = make_probe(decoder.engine, decoder.manifest)
    monkeypatch.setattr(type(decoder.engine), "sample", lambda self, noise, encoded: noise)
    with pytest.raises(UserError, match="its sampling loop is off"):
        check_probe(decoder.engine, probe, decoder.manifest, "engine")


def test_another_table_is_held_against_single_steps_where_the_engine_has_its_own_loop(decoder, monkeypatch) -> None:
    probe = make_probe(decoder.engine, decoder.manifest)
    decoder.engine.use(Sampler(steps=2).over(decoder.manifest).sampler)
    check_loop(decoder.engine, probe, decoder.manifest, "engine")
    known = type(decoder.engine).sample
    monkeypatch.setattr(type(decoder.engine), "sample", lambda self, noise, encoded: known(self, noise, encoded))
    check_loop(decoder.engine, probe, decoder.manifest, "engine")
    monkeypatch.setattr(type(decoder.engine), "sample", lambda self, noise, encoded: noise[None])
    with pytest.raises(UserError, match="its sampling loop is off"):
        check_loop(decoder.engine, probe, decoder.manifest, "engine")


def test_a_probe_is_read_as_written_and_its_bytes_are_the_same(decoder, tmp_path) -> None:
    probe = make_probe(decoder.engine, decoder.manifest)
    probe.save(tmp_path)
    content = (tmp_path / PROBE).read_bytes()
    make_probe(decoder.engine, decoder.manifest).save(tmp_path)
    assert (tmp_path / PROBE).read_bytes() == content
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        assert set(file) == set(vars(probe)) - {"single"}  # of this decoder no step is of one half alone
        for name, values in file.items():
            np.testing.assert_array_equal(values, vars(probe)[name])


def test_the_embedded_engine_is_checked_at_other_steps_and_guidance_too() -> None:
    decoder = open_decoder("onnx", EMBEDDED, 1, Sampler(steps=2, guidance=1.5))
    assert (decoder.manifest.steps, decoder.manifest.guidance) == (2, 1.5)
    assert decoder.engine.table == decoder.manifest.sampler


def test_an_embedded_engine_with_another_probe_is_refused(monkeypatch) -> None:
    probe = Probe.load(EMBEDDED / "onnx", Manifest.load(EMBEDDED / "onnx"))
    monkeypatch.setattr(Probe, "load", lambda *_: replace(probe, tokens=probe.tokens + 0.1))
    with pytest.raises(UserError, match="is not the decoder it was made from"):
        open_decoder("onnx", EMBEDDED, 1)


def test_errors_are_those_of_each_part(make_decoder) -> None:
    reference, other = make_decoder(), make_decoder()
    reference.engine.use(())  # whatever it had: the other's table is taken for both
    assert all(error.largest == 0 and error.within for error in compare(reference.engine, other))
    spoil(other.engine, "encode", lambda tokens: tokens * np.float32(1.5))
    by_part = {error.part: error for error in compare(reference.engine, other)}
    assert by_part["brain module"].largest == pytest.approx(0.5 * by_part["brain module"].scale, rel=1e-4)
    assert (by_part["one step"].largest, by_part["VAE decoder"].largest) == (0, 0)
    assert not by_part["whole loop, latent"].within
    assert by_part["whole loop, picture"].largest > 0
