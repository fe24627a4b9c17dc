"""The sampler is a table: DDIM's by default, any other that is affine, and each engine does what its table says."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynadiff.assets import EMBEDDED
from dynadiff.base.errors import UserError
from dynadiff.base.random import initial_noise
from dynadiff.engines.contract import Manifest, Sampler, paint
from dynadiff.engines.open import open_decoder
from dynadiff.engines.sampler import SamplingStep, ddim, guidance_of, guided, step_inputs
from dynadiff.networks.schedule import Schedule

SCHEDULE = Schedule()
EARLY = tuple(replace(row, guidance=5.0 if k < 2 else 1.0) for k, row in enumerate(ddim(SCHEDULE, 4, 1.0)))


@given(steps=st.integers(1, 500), guidance=st.floats(0, 20))
def test_the_table_holds_what_the_schedule_says_to_the_last_bit(steps: int, guidance: float) -> None:
    rows = step_inputs(ddim(SCHEDULE, steps, guidance), {"timestep", "coefficients", "guidance"})
    np.testing.assert_array_equal(rows["timestep"], SCHEDULE.timesteps(steps)[:, None])
    np.testing.assert_array_equal(rows["coefficients"], SCHEDULE.ddim(steps).astype(np.float32))
    np.testing.assert_array_equal(rows["guidance"], np.full(steps, guidance, np.float32))
    assert {str(values.dtype) for values in rows.values()} == {"int64", "float32"}


def test_a_step_graph_is_given_what_it_takes() -> None:
    table = ddim(SCHEDULE, 4, 2.0)
    names = {"latent", "tokens", "timestep", "guidance", "coefficients"}
    shapes = {name: rows.shape for name, rows in step_inputs(table, names).items()}
    assert shapes == {"timestep": (4, 1), "coefficients": (4, 2), "guidance": (4,)}
    assert set(step_inputs(guided(table, 1.0), {"timestep"})) == {"timestep"}
    for other in (table, (*guided(table, 1.0)[1:], table[0])):  # one step is enough
        with pytest.raises(UserError, match="exported for guidance 1, not 2"):
            step_inputs(other, {"timestep"})


def test_what_the_user_asks_for_is_another_table() -> None:
    manifest = Manifest.load(EMBEDDED / "onnx")
    assert Sampler().over(manifest) == manifest
    assert Sampler(7, 2.0).over(manifest).sampler == ddim(manifest.schedule, 7, 2.0)
    assert Sampler(steps=7).over(manifest).sampler == ddim(manifest.schedule, 7, 5.0)
    assert Sampler(guidance=2.0).over(manifest).sampler == guided(manifest.sampler, 2.0)


def test_a_table_of_its_own_is_kept_as_far_as_the_user_says_nothing_else() -> None:
    own = replace(Manifest.load(EMBEDDED / "onnx"), sampler=EARLY)
    assert (own.steps, own.guidance, guidance_of(EARLY[:2])) == (4, None, 5.0)
    assert Sampler(guidance=2.0).over(own).sampler == guided(EARLY, 2.0)
    assert Sampler(2, 3.0).over(own).sampler == ddim(own.schedule, 2, 3.0)
    with pytest.raises(UserError, match="guidance differs from step to step: give --guidance with --steps"):
        Sampler(steps=2).over(own)


def test_engines_agree_on_a_table_that_is_neither_even_nor_guided_alike() -> None:
    """As Align Your Steps would have it, with guidance for the first two steps alone."""
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    abar, times = SCHEDULE.alphas_cumprod(), (999, 600, 250, 60, 0)
    table = []
    for k, (now, then) in enumerate(pairwise(times)):
        x = float(np.sqrt(abar[then] / abar[now]))
        eps = float(np.sqrt(1 - abar[then]) - x * np.sqrt(1 - abar[now]))
        table.append(SamplingStep(now, x, eps, 5.0 if k < 2 else 1.0))
    window = np.random.default_rng(0).standard_normal((1152, 6), dtype=np.float32)
    noise = initial_noise(0, (12, 8, 8))
    pictures = []
    for kind in ("torch", "onnx"):
        engine = open_decoder(kind, EMBEDDED, 1).engine
        before = paint(engine, window, noise)
        engine.use(tuple(table))
        pictures.append(paint(engine, window, noise).astype(int))
        assert np.abs(pictures[-1] - before).mean() > 1
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_two_neighbouring_latents_and_the_table_tell_the_noise_and_so_the_picture_in_the_making() -> None:
    engine = open_decoder("onnx", EMBEDDED, 1, Sampler(steps=3)).engine
    window, noise = np.ones((1152, 6), np.float32), initial_noise(0, (12, 8, 8))
    encoded = engine.encode(window)
    latents = [noise[None]]
    for i in range(3):
        latents.append(np.asarray(engine.step(latents[-1], encoded, i)))
    abar = SCHEDULE.alphas_cumprod()
    previews = []
    for row, now, then in zip(engine.table, latents, latents[1:], strict=False):
        eps = (then - row.x * now) / row.eps
        previews.append((now - np.sqrt(1 - abar[row.timestep]) * eps) / np.sqrt(abar[row.timestep]))
    apart = [float(np.abs(preview - latents[-1]).mean()) for preview in previews]
    assert apart[0] > apart[1] > apart[2]
    assert apart[2] < 0.05 * float(np.abs(latents[-1]).mean())
