"""Adapters sit on cross-attention alone, start as the identity, and merging them changes nothing but the names."""

import copy

import pytest

torch = pytest.importorskip("torch")
from dynadiff.base.errors import UserError  # noqa: E402
from dynadiff.networks.adapters import (  # noqa: E402
    Adaptation,
    add_lora,
    load_trained,
    merge_lora,
    set_trainable,
    trained,
    trained_state,
)
from dynadiff.networks.generator import tiny_generator  # noqa: E402
from exporters.full_size import random_unet  # noqa: E402


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
    with torch.device("meta"):
        unet = random_unet()
        assert sum(p.numel() for p in unet.parameters()) == 859_520_964
        assert sum(p.numel() for p in add_lora(unet)) == 397_824


COUNTS = {
    "lora": 397_824,
    "cross-attention": 43_962_560,
    "linear": 270_209_280,
    "all": 859_520_964,
    "none": 0,
}


@pytest.mark.parametrize("trainable", COUNTS)
def test_what_learns_at_full_size(trainable: str) -> None:
    with torch.device("meta"):
        unet = random_unet()
        assert len(unet.state_dict()) == 686
        set_trainable(unet, Adaptation(trainable))
    assert sum(p.numel() for p in trained(unet).values()) == COUNTS[trainable]


@pytest.mark.parametrize(("rank", "alpha", "scale"), [(4, 4.0, 1.0), (8, 16.0, 2.0)])
def test_an_adapter_adds_alpha_over_rank_times_its_product(rank: int, alpha: float, scale: float) -> None:
    torch.manual_seed(0)
    unet = tiny_generator().unet
    set_trainable(unet, Adaptation(rank=rank, alpha=alpha))
    stir(unet)
    layer = unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k
    x = torch.randn(3, 64)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert a.shape[0] == rank
    torch.testing.assert_close(layer(x), layer.base_layer(x) + scale * x @ a.T @ b.T)


def test_targets_choose_the_modules() -> None:
    unet = tiny_generator().unet
    set_trainable(unet, Adaptation(targets=r".*\.attn2\.to_q"))
    assert all(".attn2.to_q." in name for name in trained(unet))
    with pytest.raises(UserError, match="attn3"):
        set_trainable(tiny_generator().unet, Adaptation(targets=r".*\.attn3\.to_q"))


@pytest.mark.parametrize("trainable", COUNTS)
def test_what_learnt_goes_from_one_network_to_another(trainable: str, inputs) -> None:
    torch.manual_seed(0)
    one = tiny_generator().unet.eval()
    two = copy.deepcopy(one)
    for unet in (one, two):
        set_trainable(unet, Adaptation(trainable))
    with torch.no_grad():
        for parameter in trained(one).values():
            parameter.add_(0.05 * torch.randn_like(parameter))
        assert torch.equal(one(*inputs).sample, two(*inputs).sample) == (trainable == "none")
        load_trained(two, trained_state(one))
        assert torch.equal(one(*inputs).sample, two(*inputs).sample)


@pytest.mark.parametrize("change", [lambda s: s.popitem(), lambda s: s.update(more=torch.zeros(1))])
def test_weights_of_another_network_are_refused(change) -> None:
    unet = tiny_generator().unet
    add_lora(unet)
    state = trained_state(unet)
    change(state)
    with pytest.raises(ValueError, match="does not fit"):
        load_trained(unet, state)
    with pytest.raises(ValueError, match="choose one of lora"):
        Adaptation("everything")
