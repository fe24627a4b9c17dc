"""The sampler is a table of numbers, so it is checked as one: known answers, and a perfect noise predictor."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynadiff.networks.schedule import Schedule


def test_known_signal_shares() -> None:
    abar = Schedule().alphas_cumprod()
    known = {0: 0.99915, 1: 0.998296, 51: 0.950524, 501: 0.274999, 951: 0.008155, 999: 0.004660}
    assert {t: round(float(abar[t]), 6) for t in known} == pytest.approx(known, abs=1e-6)


def test_known_coefficients() -> None:
    schedule = Schedule()
    table = dict(zip(schedule.timesteps(20).tolist(), schedule.ddim(20).tolist(), strict=True))
    known = {
        951: (1.310472, -0.312145),
        501: (1.120973, -0.145499),
        51: (1.024821, -0.186673),
        1: (1.000428, -0.012142),
    }
    assert list(table) == list(range(951, 0, -50))
    for timestep, pair in known.items():
        assert table[timestep] == pytest.approx(pair, abs=1e-6)


@given(steps=st.integers(1, 250), seed=st.integers(0, 2**32 - 1))
def test_a_perfect_predictor_lands_on_the_clean_latent(steps: int, seed: int) -> None:
    schedule, rng = Schedule(), np.random.default_rng(seed)
    abar, clean = schedule.alphas_cumprod(), rng.standard_normal(7)
    noise = rng.standard_normal(7)
    timesteps = schedule.timesteps(steps)
    x = np.sqrt(abar[timesteps[0]]) * clean + np.sqrt(1 - abar[timesteps[0]]) * noise
    for a, b in schedule.ddim(steps):
        x = a * x + b * noise
    np.testing.assert_allclose(x, np.sqrt(abar[0]) * clean + np.sqrt(1 - abar[0]) * noise, atol=1e-9)


def test_the_scheduler_of_diffusers_agrees() -> None:
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, set_alpha_to_one=False,
        clip_sample=False,
    )  # fmt: skip
    theirs.set_timesteps(20)
    schedule, x, eps = Schedule(), torch.randn(1, 4, 3, 3), torch.randn(1, 4, 3, 3)
    for t, (a, b) in zip(schedule.timesteps(20), schedule.ddim(20), strict=True):
        torch.testing.assert_close(theirs.step(eps, int(t), x).prev_sample, a * x + b * eps, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("steps", [0, 1000])
def test_impossible_step_counts_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match="sampling steps"):
        Schedule().timesteps(steps)


def test_ddpm_has_the_released_variance_and_ends_without_noise() -> None:
    table = Schedule().ddpm(20)
    assert table[0, 2] ** 2 == pytest.approx(0.41524, abs=1e-5)
    assert table[-1, 2] == pytest.approx(1e-10)


@given(steps=st.integers(1, 250), seed=st.integers(0, 2**32 - 1))
def test_ddpm_with_a_perfect_predictor_lands_on_the_clean_latent(steps: int, seed: int) -> None:
    schedule, rng = Schedule(), np.random.default_rng(seed)
    abar, clean, x = schedule.alphas_cumprod(), rng.standard_normal(7), rng.standard_normal(7)
    for t, (a, b, s) in zip(schedule.timesteps(steps), schedule.ddpm(steps), strict=True):
        eps = (x - np.sqrt(abar[t]) * clean) / np.sqrt(1 - abar[t])
        x = a * x + b * eps + s * rng.standard_normal(7)
    np.testing.assert_allclose(x, clean, atol=1e-8)


def test_the_ddpm_of_diffusers_agrees() -> None:
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, clip_sample=False,
        timestep_spacing="leading", variance_type="fixed_small",
    )  # fmt: skip
    theirs.set_timesteps(20)
    schedule, x, eps = Schedule(), torch.randn(1, 4, 3, 3), torch.randn(1, 4, 3, 3)
    assert theirs.timesteps.tolist() == schedule.timesteps(20).tolist()
    for t, (a, b, s) in zip(schedule.timesteps(20), schedule.ddpm(20), strict=True):
        z = torch.randn(eps.shape, generator=torch.Generator().manual_seed(1))
        step = theirs.step(eps, int(t), x, generator=torch.Generator().manual_seed(1)).prev_sample
        torch.testing.assert_close(step, a * x + b * eps + s * z, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [{"train_steps": 1}, {"beta_start": 0.0}, {"beta_start": 0.02}, {"beta_end": 1.0}, {"steps_offset": 2}],
)
def test_what_is_no_schedule_is_not_made(wrong: dict) -> None:
    with pytest.raises(ValueError, match="is no noise schedule"):
        Schedule(**wrong)
