"""Pictures are painted item by item: the same alone and in any batch, by either sampler, away from what is learned."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from dynadiff.networks.choices import Between, Sampling  # noqa: E402
from dynadiff.networks.generator import Generator, tiny_generator  # noqa: E402
from dynadiff.networks.sampling import SingleStep, Step, paint  # noqa: E402

SHORT = {"ddim": Sampling("ddim", 3, 2.0), "ddpm": Sampling("ddpm", 3, 2.0)}


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(0)
    return tiny_generator().freeze()


@pytest.fixture(scope="module")
def tokens() -> "torch.Tensor":
    return torch.from_numpy(np.random.default_rng(0).standard_normal((4, 17, 64)).astype(np.float32))


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_picture_does_not_depend_on_the_others_of_its_batch(generator, tokens, sampler: str) -> None:
    together = paint(generator, tokens, [10, 11, 12, 13], SHORT[sampler]).astype(int)
    order = [2, 0]
    apart = paint(generator, tokens[order], [12, 10], SHORT[sampler]).astype(int)
    assert np.abs(apart - together[order]).max() <= 1  # float32 sums of another batch size may round differently
    other = paint(generator, tokens[order], [5, 6], SHORT[sampler]).astype(int)
    assert np.abs(other - together[order]).mean() > 3


def test_the_seed_is_in_every_picture_and_ddpm_adds_noise_of_its_own(generator, tokens) -> None:
    noise = torch.ones(generator.latent_shape)
    first = {name: paint(generator, tokens[:1], [0], SHORT[name], noise=noise) for name in SHORT}
    again = {name: paint(generator, tokens[:1], [1], SHORT[name], noise=noise) for name in SHORT}
    assert np.array_equal(first["ddim"], again["ddim"])
    assert not np.array_equal(first["ddpm"], again["ddpm"])


def test_guidance_leads_away_from_what_was_learned_as_unconditional(generator, tokens) -> None:
    same = paint(generator, tokens[:1], [0], Sampling("ddim", 3, 9.0), null=tokens[0])
    assert np.array_equal(same, paint(generator, tokens[:1], [0], Sampling("ddim", 3, 4.0), null=tokens[0]))
    zeros = paint(generator, tokens[:1], [0], Sampling("ddim", 3, 9.0))
    assert np.array_equal(
        zeros, paint(generator, tokens[:1], [0], Sampling("ddim", 3, 9.0), null=torch.zeros_like(tokens[0]))
    )
    assert not np.array_equal(zeros, same)


def test_a_step_of_guidance_1_is_the_guided_step_at_1_and_the_network_sees_one_latent_of_each(
    generator, tokens
) -> None:
    """One half alone against the formula with both, step by step, and the rows that the U-Net is given."""
    seen: list[int] = []
    handle = generator.unet.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    whole, alone = Step(generator.unet), SingleStep(generator.unet)
    rng = np.random.default_rng(1)
    with torch.no_grad():
        for timestep in (999, 455, 0):
            latent = torch.from_numpy(rng.standard_normal((4, *generator.latent_shape), np.float32))
            state, row = (latent, tokens, torch.tensor([timestep])), torch.tensor([1.2, -0.3])
            both = whole(*state, torch.tensor(1.0), row)
            torch.testing.assert_close(alone(*state, row), both, atol=1e-5, rtol=1e-5)
            assert (both - 1.2 * latent).abs().max() > 0.1  # what the network says is in it
        assert seen == [8, 4] * 3
        seen.clear()
        strengths = (5.0, 1.0, 2.0, 1.0)
        mixed = Sampling("ddim", 4, strengths, spacing=(999, 700, 300, 24))
        paint(generator, tokens, range(4), mixed)
    handle.remove()
    assert seen == [4 if strength == 1 else 8 for strength in strengths]


def test_guidance_of_each_step_is_its_own(generator, tokens) -> None:
    alike = paint(generator, tokens[:1], [0], Sampling("ddim", 3, 5.0))
    assert np.array_equal(alike, paint(generator, tokens[:1], [0], Sampling("ddim", 3, (5.0, 5.0, 5.0))))
    assert np.array_equal(alike, paint(generator, tokens[:1], [0], Sampling("ddim", 3, Between(5.0, 0, 999))))
    for strengths in ((1.0, 5.0, 5.0), (5.0, 1.0, 5.0), (5.0, 5.0, 1.0)):
        assert not np.array_equal(alike, paint(generator, tokens[:1], [0], Sampling("ddim", 3, strengths)))


def test_guidance_1_is_the_condition_alone_and_guidance_0_none_of_it(generator, tokens) -> None:
    def painted(k: int, guidance: float, null: float) -> np.ndarray:
        nothing = torch.full_like(tokens[0], null)
        return paint(generator, tokens[[k]], [0], Sampling("ddim", 3, guidance), nothing).astype(int)

    assert np.abs(painted(0, 1.0, 0.0) - painted(0, 1.0, 2.0)).max() <= 1  # rounding of e_u + (e_c - e_u)
    assert np.abs(painted(0, 1.0, 0.0) - painted(1, 1.0, 0.0)).max() > 1
    assert np.array_equal(painted(0, 0.0, 2.0), painted(1, 0.0, 2.0))
