"""Random patterns never include the forbidden, tokens hold pixels and places, and the generator resumes and loads."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
from dynadiff.networks.generator import load_generator, posterior, to_unit  # noqa: E402
from dynadiff.studies.patterns import (  # noqa: E402
    SIDE,
    Blurred,
    PatternEncoder,
    PatternTraining,
    as_pictures,
    draw_patterns,
    pattern_generator,
    train_patterns,
    uncertain,
)

QUICK = PatternTraining(patterns=64, vae_steps=3, steps=3, batch=8)


def test_patterns_vary_and_none_is_a_forbidden_one() -> None:
    first = draw_patterns(np.random.default_rng(0), 300)
    assert first.shape == (300, SIDE, SIDE)
    assert set(np.unique(first)) == {0, 1}
    assert len(np.unique(first, axis=0)) > 250
    assert 0.15 < first.mean() < 0.7
    never = frozenset(p.tobytes() for p in first[:100])
    again = draw_patterns(np.random.default_rng(0), 300, never)
    assert not any(p.tobytes() in never for p in again)
    assert np.array_equal(again[:20], [p for p in first if p.tobytes() not in never][:20])


def test_tokens_hold_four_pixels_and_tell_their_places_apart() -> None:
    pattern = draw_patterns(np.random.default_rng(1), 1)
    tokens = PatternEncoder()(to_unit(torch.from_numpy(as_pictures(pattern))))[0]
    assert tokens.shape == pattern_generator().tokens
    row, column = 3, 1
    block = 2.0 * pattern[0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] - 1
    np.testing.assert_allclose(tokens[row * 5 + column, :4], block.ravel())
    apart = torch.cdist(tokens[:, 4:], tokens[:, 4:]) + torch.eye(25)
    assert apart.min() > 0.2


def test_blurred_tokens_keep_their_place_and_the_variance_of_a_regression() -> None:
    torch.manual_seed(0)
    encoder = PatternEncoder()
    tokens = encoder(to_unit(torch.from_numpy(as_pictures(draw_patterns(np.random.default_rng(1), 2000)))))
    rngs = [np.random.default_rng(k) for k in range(2000)]
    seen = Blurred(tokens, 1.0)(tokens, rngs)  # all of it known
    torch.testing.assert_close(seen, tokens)
    seen = Blurred(tokens, 0.0)(tokens, rngs)  # half of it, on average
    assert torch.equal(seen[..., 4:], tokens[..., 4:])
    true, found = (t[..., :4] - tokens.mean(0)[:, :4] for t in (tokens, seen))
    assert (true * found).sum() / true.square().sum() == pytest.approx(0.5, abs=0.03)
    assert found.var() / true.var() == pytest.approx(0.5, abs=0.03)


def test_uncertain_tokens_shrink_and_err_as_a_regression_does() -> None:
    torch.manual_seed(0)
    tokens, other = torch.randn(2, 4000, 3, 8)
    mean = torch.full((3, 8), 2.0)
    for certainty in (0.25, 0.6, 1.0):
        share, white = torch.rand(4000, 1, 1), torch.randn_like(tokens)
        seen = uncertain(tokens + mean, other + mean, mean, torch.full((4000, 1, 1), certainty), share, white) - mean
        slope = float((seen * tokens).mean() / tokens.square().mean())
        assert slope == pytest.approx(certainty, abs=0.02)
        # the best guess of the tokens from what is seen is what is seen: that is what regression leaves
        assert float((seen * tokens).mean() / seen.square().mean()) == pytest.approx(1, abs=0.03)


def test_an_interrupted_training_goes_on_to_the_same_generator(tmp_path: Path) -> None:
    train_patterns(QUICK, tmp_path / "one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dynadiff.studies.patterns._train_unet", stop)
        with pytest.raises(KeyboardInterrupt):
            train_patterns(QUICK, tmp_path / "two")
    train_patterns(QUICK, tmp_path / "two")
    one, two = (load_generator(tmp_path / name / "generator") for name in ("one", "two"))
    assert (one.picture_size, one.tokens, one.latent_shape) == (10, (25, 16), (4, 5, 5))
    for network in ("unet", "vae"):
        for a, b in zip(getattr(one, network).parameters(), getattr(two, network).parameters(), strict=True):
            assert torch.equal(a, b)
    pictures = to_unit(torch.from_numpy(as_pictures(draw_patterns(np.random.default_rng(0), 64))))
    assert posterior(one.freeze(), pictures)[0].std() == pytest.approx(1, abs=0.05)
    train_patterns(replace(QUICK, seed=1), tmp_path / "other")
    other = load_generator(tmp_path / "other" / "generator")
    assert not torch.equal(next(other.unet.parameters()), next(one.unet.parameters()))


def stop(*_: object) -> None:
    raise KeyboardInterrupt
