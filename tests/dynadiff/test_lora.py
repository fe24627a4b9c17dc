"""Adapters sit on cross-attention alone, start as the identity, and merging them changes nothing but the names."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from dynadiff.generator import tiny_generator  # noqa: E402
from dynadiff.lora import add_lora, load_lora, merge_lora, save_lora  # noqa: E402


@pytest.fixture
def inputs() -> tuple[object, ...]:
    torch.manual_seed(1)
    return torch.randn(2, 12, 8, 8), torch.tensor([10, 900]), torch.randn(2, 17, 64)


def stir(unet) -> None:
    for name, parameter in unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)


@torch.no_grad()
def test_merging_keeps_the_function_and_leaves_no_adapter(inputs) -> None:
    torch.manual_seed(0)
    unet = tiny_generator().unet.eval()
    names, before = set(unet.state_dict()), unet(*inputs).sample
    add_lora(unet)
    torch.testing.assert_close(unet(*inputs).sample, before, atol=1e-6, rtol=0)
    stir(unet)
    adapted = unet(*inputs).sample
    assert (adapted - before).abs().max() > 1e-3
    merge_lora(unet)
    assert set(unet.state_dict()) == names
    torch.testing.assert_close(unet(*inputs).sample, adapted, atol=1e-5, rtol=1e-5)


def test_only_cross_attention_learns() -> None:
    unet = tiny_generator().unet
    trainable = add_lora(unet)
    learning = {name for name, p in unet.named_parameters() if p.requires_grad}
    assert len(learning) == len(trainable) > 0
    assert all(".attn2." in name and "lora_" in name for name in learning)
    blocks = sum(name.endswith("attn2.to_q.base_layer.weight") for name in unet.state_dict())
    assert len(learning) == blocks * 4 * 2


def test_versatile_diffusion_gets_the_published_number_of_parameters() -> None:
    diffusers = pytest.importorskip("diffusers")
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(cross_attention_dim=768, sample_size=64)
        assert sum(p.numel() for p in unet.parameters()) == 859_520_964
        assert sum(p.numel() for p in add_lora(unet)) == 397_824


def test_adapters_survive_the_disk_and_a_foreign_file_is_refused(tmp_path: Path) -> None:
    one, two = tiny_generator().unet, tiny_generator().unet
    for unet in (one, two):
        add_lora(unet)
    stir(one)
    save_lora(one, tmp_path / "lora.safetensors")
    load_lora(two, tmp_path / "lora.safetensors")
    for (name, a), b in zip(one.named_parameters(), two.parameters(), strict=True):
        if "lora_" in name:
            torch.testing.assert_close(a, b)
    from safetensors.torch import load_file, save_file

    tensors = load_file(tmp_path / "lora.safetensors")
    tensors.pop(next(iter(tensors)))
    save_file(tensors, tmp_path / "less.safetensors")
    with pytest.raises(ValueError, match="does not fit"):
        load_lora(two, tmp_path / "less.safetensors")
