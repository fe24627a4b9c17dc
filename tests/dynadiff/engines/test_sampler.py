"""The sampler is a table: DDIM's by default, any other that is affine, and each engine does what its table says."""

from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynadiff.assets import EMBEDDED
from dynadiff.base.documents import read_document
from dynadiff.base.errors import UserError
from dynadiff.base.random import initial_noise
from dynadiff.engines.choice import Sampler, sampler_named
from dynadiff.engines.contract import Encoded, Manifest, paint
from dynadiff.engines.onnx import OnnxEngine
from dynadiff.engines.open import open_decoder
from dynadiff.engines.sampler import SamplingStep, ddim, guided, spacing_of, step_inputs
from dynadiff.engines.versions import VERSIONS
from dynadiff.networks.choices import Between, Sampling, guidance_at
from dynadiff.networks.schedule import Schedule

SCHEDULE = Schedule()


def even() -> Manifest:
    """That of the engine that ships, as the paper samples: 20 evenly spaced steps, all guided."""
    return replace(Manifest.load(EMBEDDED / "onnx"), sampler=ddim(SCHEDULE, 20, 5.0), spacing="leading")


EARLY = tuple(replace(row, guidance=5.0 if k < 2 else 1.0) for k, row in enumerate(ddim(SCHEDULE, 4, 1.0)))


@given(steps=st.integers(1, 500), guidance=st.floats(0, 20))
def test_the_table_holds_what_the_schedule_says_to_the_last_bit(steps: int, guidance: float) -> None:
    rows = step_inputs(ddim(SCHEDULE, steps, guidance), {"timestep", "coefficients", "guidance"})
    np.testing.assert_array_equal(rows["timestep"], SCHEDULE.timesteps(steps)[:, None])
    np.testing.assert_array_equal(rows["coefficients"], SCHEDULE.ddim(SCHEDULE.timesteps(steps)).astype(np.float32))
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
    manifest = even()
    assert Sampler().over(manifest) == manifest
    assert Sampler(7, 2.0).over(manifest).sampler == ddim(manifest.schedule, 7, 2.0)
    assert Sampler(steps=7).over(manifest).sampler == ddim(manifest.schedule, 7, 5.0)
    assert Sampler(guidance=2.0).over(manifest).sampler == guided(manifest.sampler, 2.0)
    ten = Sampler(10, Between(5.0, 501, 999), "ays").over(manifest)
    assert (ten.spacing, ten.sampler) == ("ays", ddim(SCHEDULE, 10, (5.0,) * 5 + (1.0,) * 5, "ays"))
    assert Sampler(steps=5, guidance=5.0).over(ten) == replace(
        manifest, sampler=ddim(SCHEDULE, 5, 5.0, "ays"), spacing="ays"
    )
    three = Sampler(spacing=(900, 500, 100)).over(manifest)
    assert (three.spacing, three.sampler) == ("listed", ddim(SCHEDULE, 3, 5.0, (900, 500, 100)))
    assert Sampler(spacing="leading", steps=20).over(three) == manifest


@pytest.mark.parametrize(
    "known", [Sampler(), Sampler(10, Between(5.0, 501, 999), "ays"), Sampler(2, (1.0, 5.0)), Sampler(spacing=(7, 5))]
)
def test_exact_is_the_paper_s_table_whatever_the_engine_is_set_to(known: Sampler) -> None:
    assert Sampler(exact=True).over(known.over(even())) == even()


def test_an_engine_without_guidance_has_no_exact_pictures() -> None:
    with pytest.raises(UserError, match="exact pictures are guided, and at guidance 1 there is none"):
        Sampler(exact=True).over(Sampler(guidance=1.0).over(even()))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Sampler(steps=1000), "1000 sampling steps are outside 1 to 999"),
        (Sampler(steps=100, spacing="ays"), "not among 1000 timesteps"),
        (Sampler(spacing=(1000, 5)), "not among 1000 timesteps"),
        (Sampler(steps=3, spacing=(900, 5)), "lists 2 timesteps for 3 steps"),
        (Sampler(guidance=(5.0, 1.0)), "guidance has 2 values for 20 steps"),
        (Sampler(steps=3, guidance=(5.0, 1.0)), "guidance has 2 values for 3 steps"),
        (Sampler(steps=0), "at least 1 step"),
    ],
)
def test_what_no_table_is_made_of_is_one_sentence(wrong: Sampler, said: str) -> None:
    with pytest.raises(UserError, match=said):
        wrong.over(even())


def test_words_of_a_command_line_say_one_thing() -> None:
    assert sampler_named() == Sampler()
    assert sampler_named(3, "5,1,1", "900,500,100") == Sampler(3, (5.0, 1.0, 1.0), (900, 500, 100))
    assert sampler_named(quality="exact") == Sampler(exact=True)
    for words in ({"steps": 3}, {"guidance": "2"}, {"spacing": "ays"}):
        with pytest.raises(UserError, match="leave --steps, --guidance and --spacing out"):
            sampler_named(quality="exact", **words)
    with pytest.raises(UserError, match="--quality is exact, or left out"):
        sampler_named(quality="best")
    for words in ({"guidance": "strong"}, {"spacing": "karras"}):
        with pytest.raises(UserError, match="it cannot be sampled so"):
            sampler_named(**words)


def test_a_table_of_its_own_is_kept_as_far_as_the_user_says_nothing_else() -> None:
    own = replace(even(), sampler=EARLY)
    assert (own.steps, own.guidance) == (4, None)
    assert Sampler(guidance=2.0).over(own).sampler == guided(EARLY, 2.0)
    assert Sampler(2, 3.0).over(own).sampler == ddim(own.schedule, 2, 3.0)
    assert Sampler(spacing="ays").over(own).sampler == ddim(own.schedule, 4, (5.0, 5.0, 1.0, 1.0), "ays")
    with pytest.raises(UserError, match="guidance differs from step to step: give --guidance with --steps"):
        Sampler(steps=2).over(own)


class Recorded:
    """Acts as the session of one network: keeps what it is given, and gives the latent back."""

    def __init__(self, *names: str) -> None:
        self.names, self.given = names, []

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=name) for name in self.names]

    def run(self, _, given):
        assert set(given) == set(self.names)
        self.given.append({name: given[name] for name in self.names if name not in ("latent", "tokens")})
        return [given["latent"]]


TABLES = st.sets(st.integers(0, 999), min_size=1, max_size=30).flatmap(
    lambda times: st.tuples(
        st.sampled_from(["leading", *(["ays"] * (len(times) < 74)), tuple(sorted(times, reverse=True))]),
        st.floats(0, 20) | st.tuples(*[st.sampled_from([1.0, 2.5, 5.0])] * len(times))
        | st.builds(lambda ends: Between(5.0, min(ends), max(ends)), st.tuples(*[st.integers(0, 999)] * 2)),
        st.just(len(times)),
    )
)  # fmt: skip


@pytest.mark.skipif(find_spec("diffusers") is None, reason="a model needs PyTorch and diffusers")
@settings(deadline=None)  # the first example imports PyTorch
@given(TABLES)
def test_any_table_is_the_same_in_model_folder_manifest_and_engine(table: tuple) -> None:
    """What model.json says becomes rows, which engine.json says in full, and each step is given its row to the bit."""
    from dynadiff.engines.torch import manifest_of
    from dynadiff.networks.model import ModelConfig
    from dynadiff.networks.model_folder import VERSIONS as MODELS

    spacing, guidance, steps = table
    sampling = Sampling(steps=steps, guidance=guidance, spacing=spacing)
    written = MODELS.current((EMBEDDED / "model.json").read_bytes(), "model.json")
    config = read_document(written, ModelConfig).sampled(sampling)
    config = read_document(MODELS.current(MODELS.write(config), "model.json"), ModelConfig)
    assert config.sampling() == sampling
    built = even()
    assert built.build is not None
    mixed = {row.guidance == 1 for row in ddim(SCHEDULE, steps, guidance, spacing)} == {True, False}
    networks = built.build.networks | ({"single": built.build.networks["step"]} if mixed else {})
    generator = SimpleNamespace(schedule=SCHEDULE, latent_shape=(12, 8, 8), picture_size=64)
    model = SimpleNamespace(config=config, generator=generator)
    manifest = manifest_of(model, "onnx", replace(built.build, networks=networks))
    assert Manifest.parse(VERSIONS.write(manifest)) == manifest
    assert manifest.spacing == (spacing if isinstance(spacing, str) else spacing_of(manifest.sampler, SCHEDULE))
    times = SCHEDULE.timesteps(steps, spacing)
    strengths = guidance_at(guidance, times.tolist())
    both = Recorded("latent", "tokens", "timestep", "guidance", "coefficients")
    alone = Recorded("latent", "tokens", "timestep", "coefficients")
    sessions = {"brain": None, "step": both, "decoder": None} | ({"single": alone} if mixed else {})
    engine, latent = OnnxEngine(sessions, manifest.sampler), np.zeros((1, 12, 8, 8), np.float32)
    for i, (timestep, row, strength) in enumerate(zip(times, SCHEDULE.ddim(times), strengths, strict=True)):
        seen = len(both.given), len(alone.given)
        engine.step(latent, Encoded(latent), i)
        one_half = mixed and strength == 1
        assert (len(both.given), len(alone.given)) == (seen[0] + (not one_half), seen[1] + one_half)
        given = (alone if one_half else both).given[-1]
        np.testing.assert_array_equal(given["timestep"], [timestep])
        np.testing.assert_array_equal(given["coefficients"], row.astype(np.float32))
        assert one_half or given["guidance"] == np.float32(strength)
    assert 2 * len(both.given) + len(alone.given) == sum(manifest.evaluations)


def test_torch_evaluates_its_network_as_often_as_the_manifest_says() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    from dynadiff.engines.torch import TorchEngine, manifest_of
    from dynadiff.networks.model_folder import load_model

    model, seen = load_model(EMBEDDED, merged=True), []
    model.config = model.config.sampled(Sampling(steps=4, guidance=Between(5.0, 501, 999), spacing="ays"))
    manifest = manifest_of(model, "torch")
    model.generator.unet.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    paint(TorchEngine(model, manifest), np.ones((manifest.voxels, 6), np.float32), initial_noise(0, (12, 8, 8)))
    assert tuple(seen) == manifest.evaluations == (2, 2, 1, 1)


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
    engine = open_decoder("onnx", EMBEDDED, 1, Sampler(3, 5.0)).engine
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
