"""The sampler is a table of numbers, so it is checked as one: known answers, and a perfect noise predictor."""

from itertools import pairwise

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
    table = dict(zip(schedule.timesteps(20).tolist(), schedule.ddim(schedule.timesteps(20)).tolist(), strict=True))
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
    for a, b in schedule.ddim(timesteps):
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
    for t, (a, b) in zip(schedule.timesteps(20), schedule.ddim(schedule.timesteps(20)), strict=True):
        torch.testing.assert_close(theirs.step(eps, int(t), x).prev_sample, a * x + b * eps, atol=1e-5, rtol=1e-5)


def test_align_your_steps_are_those_of_diffusers() -> None:
    schedulers = pytest.importorskip("diffusers.schedulers")
    table = schedulers.AysSchedules["StableDiffusionTimesteps"]
    assert Schedule().timesteps(len(table), "ays").tolist() == table


@pytest.mark.parametrize("steps", [1, 2, 5, 20, 40])
def test_other_numbers_of_steps_lie_between_the_ten_in_the_logarithm_of_the_noise(steps: int) -> None:
    schedule = Schedule()
    levels = schedule.log_sigmas()
    ten = levels[[*schedule.timesteps(10, "ays"), 0]]
    ours = levels[schedule.timesteps(steps, "ays")]
    nearest = np.interp(np.arange(steps) * 10 / steps, np.arange(11), ten)
    off = np.abs(ours - nearest)
    gaps = np.diff(levels)[np.maximum(schedule.timesteps(steps, "ays") - 1, 0)]
    assert (off <= gaps).all()  # a timestep is a whole number
    if steps == 5:
        np.testing.assert_array_equal(schedule.timesteps(5, "ays"), schedule.timesteps(10, "ays")[::2])


@given(steps=st.integers(1, 999))
def test_align_your_steps_fall_or_are_refused(steps: int) -> None:
    if steps > 73:  # two would be one, or the last at 0, where it ends
        with pytest.raises(ValueError, match="steps at ays are not among 1000 timesteps"):
            Schedule().timesteps(steps, "ays")
        return
    times = Schedule().timesteps(steps, "ays").tolist()
    assert times[0] == 999
    assert len(times) == steps
    assert all(earlier > later >= 0 for earlier, later in pairwise(times))


def test_a_generator_of_another_schedule_is_given_the_same_noise() -> None:
    other = Schedule(train_steps=2000, beta_start=0.00085 / 2, beta_end=0.012 / 2)
    ours, theirs = Schedule().log_sigmas(), other.log_sigmas()
    times = Schedule().timesteps(10, "ays"), other.timesteps(10, "ays")
    np.testing.assert_allclose(theirs[times[1]], ours[times[0]], atol=0.02)


@given(times=st.sets(st.integers(0, 999), min_size=1, max_size=99), seed=st.integers(0, 2**32 - 1))
def test_at_any_timesteps_a_perfect_predictor_lands_on_the_clean_latent(times: set[int], seed: int) -> None:
    schedule, rng = Schedule(), np.random.default_rng(seed)
    listed = tuple(sorted(times, reverse=True))
    timesteps = schedule.timesteps(len(listed), listed)
    assert tuple(timesteps.tolist()) == listed
    abar, clean, noise = schedule.alphas_cumprod(), rng.standard_normal(7), rng.standard_normal(7)
    x = np.sqrt(abar[timesteps[0]]) * clean + np.sqrt(1 - abar[timesteps[0]]) * noise
    for a, b in schedule.ddim(timesteps):
        x = a * x + b * noise
    np.testing.assert_allclose(x, np.sqrt(abar[0]) * clean + np.sqrt(1 - abar[0]) * noise, atol=1e-9)


@pytest.mark.parametrize("listed", [(1000, 5), (10**30,), (5, 5), (5, 9), (5, -1), (900, 500, 100)])
def test_timesteps_that_it_has_not_are_refused(listed: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="are not among 1000 timesteps"):
        Schedule().timesteps(min(len(listed), 2), listed)


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
