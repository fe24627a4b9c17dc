"""What is left out of the exported networks changes nothing, and is left out."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from torch import Tensor  # noqa: E402

from dynadiff.assets import EMBEDDED  # noqa: E402
from dynadiff.networks.generator import Generator  # noqa: E402
from dynadiff.networks.model_folder import load_model  # noqa: E402
from dynadiff.networks.sampling import Render, Step  # noqa: E402
from exporters.flops import count  # noqa: E402
from exporters.graphs import (  # noqa: E402
    Brain,
    GuidedStep,
    UnguidedStep,
    VaeDecoder,
    attend_guided_half,
    cross_attentions,
    tabulate_time,
)  # fmt: skip

COEFFICIENTS = torch.tensor([1.31, -0.312])


@pytest.fixture(params=["least", "embedded"])
def folder(request: pytest.FixtureRequest, least: Path) -> Path:
    return least if request.param == "least" else EMBEDDED


def unet_of(folder: Path):
    return load_model(folder, merged=True).generator.unet


def state(folder: Path, timestep: int) -> tuple[Tensor, Tensor, Tensor]:
    config = load_model(folder)
    torch.manual_seed(timestep)
    latent = torch.randn(1, *config.generator.latent_shape)
    return latent, torch.randn(1, *config.config.brain.tokens), torch.tensor([timestep])


@torch.no_grad()
@pytest.mark.parametrize("guidance", [0.0, 1.0, 5.0])
def test_a_step_is_the_step_that_computes_everything(folder: Path, guidance: float) -> None:
    whole, ours = Step(unet_of(folder)), GuidedStep(unet_of(folder), 1000)
    for timestep in (0, 1, 501, 999):
        given = *state(folder, timestep), torch.tensor(guidance), COEFFICIENTS
        torch.testing.assert_close(ours(*given), whole(*given), atol=1e-5, rtol=0)


@torch.no_grad()
def test_with_learned_unconditional_tokens_both_halves_attend(folder: Path) -> None:
    latent, tokens, timestep = state(folder, 501)
    null = torch.randn(tokens.shape[1:])
    given = latent, tokens, timestep, torch.tensor(3.0), COEFFICIENTS
    expected = Step(unet_of(folder), null)(*given)
    torch.testing.assert_close(GuidedStep(unet_of(folder), 1000, null=null)(*given), expected, atol=1e-5, rtol=0)
    assert abs((expected - Step(unet_of(folder))(*given)).max()) > 1e-3


@torch.no_grad()
def test_at_guidance_1_half_the_work_gives_the_same(folder: Path) -> None:
    whole, ours = Step(unet_of(folder)), UnguidedStep(unet_of(folder), 1000)
    given = state(folder, 501)
    expected = whole(*given, torch.tensor(1.0), COEFFICIENTS)
    torch.testing.assert_close(ours(*given, COEFFICIENTS), expected, atol=1e-5, rtol=0)
    assert abs((expected - whole(*given, torch.tensor(1.1), COEFFICIENTS)).max()) > 1e-4
    flops = [count(Step(unet_of(folder)), *given, torch.tensor(1.0), COEFFICIENTS), count(ours, *given, COEFFICIENTS)]
    assert flops[1].get_total_flops() <= flops[0].get_total_flops() / 2


@torch.no_grad()
def test_attention_to_zero_tokens_is_a_constant_to_the_bit(folder: Path) -> None:
    whole, ours = unet_of(folder), unet_of(folder)
    attend_guided_half(ours)
    for plain, half in zip(cross_attentions(whole), cross_attentions(ours), strict=True):
        hidden, tokens = torch.randn(2, 16, plain.to_q.in_features), torch.randn(1, 5, plain.to_k.in_features)
        expected = plain(hidden, torch.cat([torch.zeros_like(tokens), tokens]))
        given = half(hidden, tokens)
        assert torch.equal(given[0], expected[0])
        torch.testing.assert_close(given[1], expected[1], atol=1e-6, rtol=0)


@torch.no_grad()
def test_time_is_looked_up_for_every_timestep(least: Path) -> None:
    whole, ours = unet_of(least), unet_of(least)
    tabulate_time(ours, 1000)
    latent, tokens, _ = state(least, 0)
    for timesteps in torch.arange(1000).split(250):
        batch = latent.expand(250, -1, -1, -1), timesteps, tokens.expand(250, -1, -1)
        torch.testing.assert_close(ours(*batch).sample, whole(*batch).sample, atol=1e-5, rtol=0)
    with pytest.raises(IndexError):
        ours(latent, torch.tensor([1000]), tokens)


def test_what_is_left_out_is_not_counted(least: Path) -> None:
    """The unconditional half's cross-attention, by formula: four products with weights and two of attention."""
    given = [each.to("meta") for each in (*state(least, 1), torch.tensor(3.0), COEFFICIENTS)]
    looked_up = unet_of(least)
    tabulate_time(looked_up, 1000)
    steps = Step(looked_up), GuidedStep(unet_of(least), 1000)
    before, after = (count(step.to("meta"), *given).get_total_flops() for step in steps)
    positions, tokens, width, context = 16, 5, 16, 8
    each = 2 * positions * width * width * 2 + 2 * tokens * context * width * 2 + 2 * positions * tokens * width * 2
    assert before - after == len(cross_attentions(looked_up)) * each


def test_what_would_not_be_exact_is_refused(least: Path) -> None:
    with pytest.raises(ValueError, match="adapters are not merged"):
        GuidedStep(load_model(least).generator.unet, 1000)
    with pytest.raises(ValueError, match="adapters are not merged"):
        UnguidedStep(load_model(least).generator.unet, 1000)
    unet = unet_of(least)
    attention = cross_attentions(unet)[0]
    attention.to_v = torch.nn.Linear(attention.to_v.in_features, attention.to_v.out_features, bias=True)
    with pytest.raises(ValueError, match="have a bias"):
        GuidedStep(unet, 1000)


@torch.no_grad()
def test_half_precision_networks_take_and_give_float32(least: Path) -> None:
    model, other = load_model(least, merged=True), load_model(least, merged=True)
    window = torch.randn(1, 48, 6)
    tokens = Brain(other.brain, torch.float16)(window)
    assert tokens.dtype == torch.float32
    torch.testing.assert_close(tokens, model.brain(window), atol=1e-2, rtol=0)
    latent, tokens, timestep = state(least, 501)
    given = latent, tokens, timestep, torch.tensor(3.0), COEFFICIENTS
    for ours, expected in (
        (GuidedStep(other.generator.unet, 1000, torch.float16)(*given), Step(model.generator.unet)(*given)),
        (VaeDecoder(other.generator, torch.float16)(latent), Render(model.generator)(latent)),
    ):
        assert ours.dtype == expected.dtype
        assert not torch.equal(ours, expected) or ours.dtype == torch.uint8
        torch.testing.assert_close(ours.float(), expected.float(), atol=2e-2 if ours.is_floating_point() else 2, rtol=0)
    assert all(p.dtype == torch.float16 for part in (other.brain, other.generator.unet) for p in part.parameters())
    assert isinstance(other.generator, Generator)
