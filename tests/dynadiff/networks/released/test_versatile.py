"""Versatile Diffusion without its text branch is the same function, whether its folder holds one U-Net or a pair."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
from safetensors.torch import save_file  # noqa: E402

from dynadiff.base.errors import UserError  # noqa: E402
from dynadiff.networks.generator import load_generator  # noqa: E402
from dynadiff.networks.released.versatile import image_branch, load_unet  # noqa: E402
from support.versatile import TEXT, WIDTH, paired, small_unet, small_vae, write_configurations  # noqa: E402

IMAGE = 5  # tokens


def write_folder(folder: Path, unet: "torch.nn.Module", kind: str) -> Path:
    """Versatile Diffusion's folder, its U-Net one plain network or one of pairs, in either file format."""
    write_configurations(folder, dual=kind != "plain")
    state = (unet if kind == "plain" else paired(unet)).state_dict()
    if kind == "pair in a PyTorch file":
        torch.save(state, folder / "image_unet" / "diffusion_pytorch_model.bin")
    else:
        save_file(state, folder / "image_unet" / "diffusion_pytorch_model.safetensors")
    small_vae().save_pretrained(folder / "vae")
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
    pruned = image_branch(paired(unet).state_dict())
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
    state = paired(small_unet()).state_dict()
    change(state)
    save_file(state, folder / "diffusion_pytorch_model.safetensors")
    with pytest.raises(UserError, match=said):
        load_unet(folder)
