"""Versatile Diffusion without its text branch is the same function, whether its folder holds one U-Net or a pair."""

import copy
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
from diffusers import AutoencoderKL, DDIMScheduler, Transformer2DModel, UNet2DConditionModel  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from dynadiff.errors import UserError  # noqa: E402
from dynadiff.generator import load_generator  # noqa: E402
from dynadiff.image_branch import image_branch, load_unet  # noqa: E402

TEXT, IMAGE, WIDTH = 3, 5, 12  # tokens, and their width


class Pair(torch.nn.Module):
    """The released wiring: the context is text tokens, then image tokens."""

    def __init__(self, image: Transformer2DModel, text: Transformer2DModel, mix: float) -> None:
        super().__init__()
        self.transformers = torch.nn.ModuleList([image, text])
        self.mix = mix

    def forward(self, x, encoder_hidden_states, **others):
        image, text = self.transformers
        others = {k: v for k, v in others.items() if k == "cross_attention_kwargs"}
        by_text = text(x, encoder_hidden_states=encoder_hidden_states[:, :TEXT], return_dict=False, **others)[0]
        by_image = image(x, encoder_hidden_states=encoder_hidden_states[:, TEXT:], return_dict=False, **others)[0]
        return (x + self.mix * (by_text - x) + (1 - self.mix) * (by_image - x),)


def small_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=WIDTH, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2,
    ).eval()  # fmt: skip


def paired(unet: UNet2DConditionModel, mix: float) -> UNet2DConditionModel:
    """The U-Net with a text transformer, of other weights, beside each of its own."""
    dual, other = copy.deepcopy(unet), small_unet()
    for name, module in list(dual.named_modules()):
        if isinstance(module, Transformer2DModel):
            dual.set_submodule(name, Pair(module, other.get_submodule(name), mix))
    return dual


def write_folder(folder: Path, unet: UNet2DConditionModel, kind: str) -> Path:
    """Versatile Diffusion's folder at a small size, its U-Net one plain network or a pair, in either file format."""
    unet.save_config(folder / "image_unet")
    config = folder / "image_unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dual_cross_attention": kind != "plain"}))
    state = (unet if kind == "plain" else paired(unet, 0.0)).state_dict()
    if kind == "pair in a PyTorch file":
        torch.save(state, folder / "image_unet" / "diffusion_pytorch_model.bin")
    else:
        save_file(state, folder / "image_unet" / "diffusion_pytorch_model.safetensors")
    AutoencoderKL(block_out_channels=(4, 4), norm_num_groups=1,
                  down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
                  ).save_pretrained(folder / "vae")  # fmt: skip
    DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1).save_pretrained(
        folder / "scheduler"
    )
    return folder


@pytest.fixture
def context() -> "torch.Tensor":
    torch.manual_seed(1)
    return torch.cat([torch.zeros(2, TEXT, WIDTH), torch.randn(2, IMAGE, WIDTH)], 1)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["plain", "pair", "pair in a PyTorch file"])
def test_the_image_branch_alone_is_the_pair_with_mix_ratio_zero(kind: str, context, tmp_path: Path) -> None:
    torch.manual_seed(0)
    unet = small_unet()
    pruned = load_generator(write_folder(tmp_path, unet, kind)).unet.double()
    x, t, context = torch.randn(2, 4, 8, 8).double(), torch.tensor([10, 900]), context.double()
    plain = pruned(x, t, context[:, TEXT:]).sample
    for mix, same in ((0.0, True), (0.5, False)):
        torch.manual_seed(2)
        dual = paired(unet, mix).double()(x, t, context).sample
        assert ((dual - plain).abs().max().item() < 1e-12) == same
    assert set(pruned.state_dict()) == set(small_unet().state_dict())


def test_it_reads_sizes_and_schedule_from_the_folder(tmp_path: Path) -> None:
    generator = load_generator(write_folder(tmp_path, small_unet(), "pair"))
    assert (generator.tokens, generator.picture_size, generator.patch) == ((257, WIDTH), 16, 1)
    assert generator.latent_shape == (4, 8, 8)


def test_names_lose_the_pair_and_nothing_else() -> None:
    unet = small_unet()
    assert image_branch(unet.state_dict()).keys() == unet.state_dict().keys()
    pruned = image_branch(paired(unet, 0.0).state_dict())
    assert pruned.keys() == unet.state_dict().keys()
    for name, value in unet.state_dict().items():
        assert torch.equal(pruned[name], value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("conv_in.weight"), "lacks conv_in.weight"),
        (lambda s: s.update(more=torch.zeros(1)), "has no more"),
        (lambda s: s.update({"conv_in.bias": torch.zeros(3)}), r"conv_in.bias of the U-Net is \(3,\) and not \(8,\)"),
    ],
)
def test_a_pair_that_does_not_fit_is_one_sentence(change, said: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, small_unet(), "pair") / "image_unet"
    state = paired(small_unet(), 0.0).state_dict()
    change(state)
    save_file(state, folder / "diffusion_pytorch_model.safetensors")
    with pytest.raises(UserError, match=said):
        load_unet(folder)
