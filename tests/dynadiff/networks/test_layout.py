"""A picture's layout travels as the last tokens, and only the U-Net that takes it makes latents of them again."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from dynadiff.networks.facts import takes_layout  # noqa: E402
from dynadiff.networks.generator import Generator, load_generator, save_generator  # noqa: E402
from dynadiff.networks.layout import (  # noqa: E402
    LayoutUNet,
    layout_count,
    layout_latents,
    layout_tokens,
    with_layout,
)
from dynadiff.networks.sampling import SingleStep, Step  # noqa: E402
from exporters.graphs import GuidedStep, UnguidedStep  # noqa: E402
from support.small_models import layout_generator, small_generator  # noqa: E402

T, AB, STRONG = torch.tensor([500]), torch.tensor([1.0, -0.1]), torch.tensor(3.0)


def inputs(batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, image tokens and a layout of the small generator."""
    torch.manual_seed(1)
    latents, layout = torch.randn(2, batch, 4, 4, 4)
    return latents, torch.randn(batch, 5, 16), layout_tokens(layout, 16)


@given(st.tuples(*[st.integers(1, 6)] * 3), st.integers(1, 40), st.integers(1, 3))
def test_latents_come_back_from_tokens_of_any_width(shape: tuple[int, int, int], width: int, batch: int) -> None:
    latents = torch.randn(batch, *shape)
    tokens = layout_tokens(latents, width)
    assert tokens.shape == (batch, layout_count(shape, width), width)
    assert torch.equal(layout_latents(tokens, shape), latents)


def test_a_unet_that_is_given_channels_for_a_layout_heeds_them_only_when_it_has_learnt_to() -> None:
    plain = small_generator().unet.eval()
    wide = with_layout(plain, 5).eval()
    latents, tokens, layout = inputs()
    expected = plain(latents, T, tokens).sample
    told = torch.cat([tokens, layout], 1)
    for given_tokens in (tokens, told):
        torch.testing.assert_close(wide(latents, T, given_tokens).sample, expected, atol=1e-5, rtol=0)
    nn.init.normal_(wide.conv_in.weight)
    assert not torch.allclose(wide(latents, T, told).sample, wide(latents, T, tokens).sample, atol=1e-3)


def test_without_a_layout_it_is_told_zeros_and_so_is_the_unconditional_half() -> None:
    unet = layout_generator().unet
    latents, tokens, layout = inputs()
    zeros = torch.cat([tokens, torch.zeros_like(layout)], 1)
    assert torch.equal(unet(latents, T, zeros).sample, unet(latents, T, tokens).sample)
    told = torch.cat([tokens, layout], 1)
    free, guided = unet(latents, T, torch.zeros_like(told)).sample, unet(latents, T, told).sample
    step = Step(unet)(latents, told, T, STRONG, AB)
    torch.testing.assert_close(step, latents - 0.1 * (free + 3 * (guided - free)), atol=1e-5, rtol=0)


def test_the_steps_that_are_exported_are_told_the_same() -> None:
    latents, tokens, layout = inputs(1)
    told = torch.cat([tokens, layout], 1)
    whole = Step(layout_generator().unet)(latents, told, T, STRONG, AB)
    alone = SingleStep(layout_generator().unet)(latents, told, T, AB)
    unet = layout_generator().unet
    torch.testing.assert_close(UnguidedStep(unet, 1000)(latents, told, T, AB), alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(GuidedStep(unet, 1000)(latents, told, T, STRONG, AB), whole, atol=1e-5, rtol=0)
    learned = torch.randn(9, 16)
    whole = Step(layout_generator().unet, learned)(latents, told, T, STRONG, AB)
    ours = GuidedStep(layout_generator().unet, 1000, null=learned)(latents, told, T, STRONG, AB)
    torch.testing.assert_close(ours, whole, atol=1e-5, rtol=0)


def test_a_generator_folder_keeps_what_its_unet_takes(tmp_path: Path) -> None:
    generators: dict[str, Generator] = {"plain": small_generator(), "wide": layout_generator()}
    for name, generator in generators.items():
        save_generator(generator, None, tmp_path / name)
        back = load_generator(tmp_path / name)
        assert isinstance(back.unet, LayoutUNet) == takes_layout(tmp_path / name) == (name == "wide")
        assert (back.layout, back.latent_shape) == (generator.layout, (4, 4, 4))
        latents, tokens, layout = inputs()
        told = torch.cat([tokens, layout], 1) if back.layout else tokens
        assert torch.equal(back.unet.eval()(latents, T, told).sample, generator.unet.eval()(latents, T, told).sample)
    assert (back.told(True), back.told(False)) == ((9, 16), (5, 16))
    assert generators["plain"].told(True) == (5, 16)
