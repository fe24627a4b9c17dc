"""The authors' checkpoint becomes a decoder with the same tokens and the same predicted noise, or one sentence.

The checkpoint is written here, small, with the released names: both branches, base layers, adapters, and what else
the training state holds. What it must give is computed by layers made as the released ones are.
"""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
from torch import nn  # noqa: E402

from dynadiff.base.errors import UserError  # noqa: E402
from dynadiff.networks.adapters import add_lora  # noqa: E402
from dynadiff.networks.model_folder import load_held_out, load_model  # noqa: E402
from dynadiff.networks.released.official import Subject, import_official, read_subject  # noqa: E402
from dynadiff.recordings.held_out import HeldOut  # noqa: E402
from support.versatile import TEXT, WIDTH, paired, small_unet, small_vae, write_configurations  # noqa: E402

VOXELS, VOLUMES, HIDDEN, TOKENS = 7, 6, 10, 257
BRAIN = "model.brain_modules.clip_image."
MASK = np.isin(np.arange(24), [1, 2, 5, 6, 11, 16, 23]).reshape(2, 3, 4)


class ReleasedBrain(nn.Module):
    """The published module as the authors wrote it: the timestep layers are one grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.subject_layers = nn.Module()
        self.subject_layers.weights = nn.Parameter(torch.randn(1, VOXELS, HIDDEN))
        self.lin0 = nn.Conv1d(VOLUMES, VOLUMES * HIDDEN, HIDDEN, groups=VOLUMES)
        self.post_lin0 = nn.Sequential(nn.LayerNorm(HIDDEN), nn.GELU(), nn.Dropout(0.5))
        self.out_time_agg = nn.Linear(VOLUMES, 1)
        self.lin1 = nn.Linear(HIDDEN, TOKENS * WIDTH)

    def forward(self, window: "torch.Tensor") -> "torch.Tensor":
        x = torch.einsum("bct,cd->bdt", window, self.subject_layers.weights[0]).permute(0, 2, 1)
        x = self.post_lin0(self.lin0(x).reshape(len(x), VOLUMES, HIDDEN))
        return self.lin1(self.out_time_agg(x.permute(0, 2, 1)).flatten(1)).reshape(-1, TOKENS, WIDTH)


class Released:
    """The authors' decoder at a small size."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.brain = ReleasedBrain().eval()
        self.unet = paired(small_unet())
        for parameter in add_lora(self.unet):
            nn.init.normal_(parameter, std=0.3)
        self.vae = small_vae()

    def state(self) -> dict[str, "torch.Tensor"]:
        others = {"metrics.inception.weight": torch.zeros(3), "null_tokens": torch.zeros(2)}
        return (
            {BRAIN + k: v for k, v in self.brain.state_dict().items()}
            | {"model.unet." + k: v for k, v in self.unet.state_dict().items()}
            | {"model.vae." + k: v for k, v in self.vae.state_dict().items()}
            | others
        )


@pytest.fixture(scope="module")
def released() -> Released:
    return Released()


@pytest.fixture
def base(tmp_path: Path) -> str:
    """Configurations alone, as the import needs no weights of Versatile Diffusion."""
    return str(write_configurations(tmp_path / "base"))


ANN = Subject("01", MASK, np.eye(4))


def test_the_released_brain_module_has_nine_tensors_and_both_branches_have_adapters(released: Released) -> None:
    names = released.state()
    assert sum(name.startswith(BRAIN) for name in names) == 9
    one = "model.unet.mid_block.attentions.0.transformers.{}.transformer_blocks.0.attn2.to_q."
    for branch in (0, 1):
        for last in ("base_layer.weight", "lora_A.default.weight", "lora_B.default.weight"):
            assert one.format(branch) + last in names


@torch.no_grad()
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_imported_decoder_is_the_released_one(released, base: str, wrapped: bool, tmp_path: Path) -> None:
    state = released.state()
    torch.save({"state_dict": state} if wrapped else state, tmp_path / "sub01.bin")
    assert import_official(tmp_path / "sub01.bin", base, ANN, tmp_path / "out") == 2
    for merged in (False, True):
        model = load_model(tmp_path / "out", merged)
        assert (model.config.window.offset, model.config.window.length, model.config.subject) == (3, 6, "01")
        window = torch.randn(2, VOXELS, VOLUMES)
        tokens = released.brain(window)
        torch.testing.assert_close(model.brain(window), tokens, atol=1e-5, rtol=1e-5)
        x, t = torch.randn(2, 4, 8, 8), torch.tensor([10, 900])
        context = torch.cat([torch.zeros(2, TEXT, WIDTH), tokens], 1)
        expected = released.unet(x, t, context).sample
        torch.testing.assert_close(model.generator.unet(x, t, tokens).sample, expected, atol=1e-5, rtol=1e-5)
        z = torch.randn(1, 4, 8, 8)
        torch.testing.assert_close(model.generator.vae.decode(z).sample, released.vae.decode(z).sample)
    assert not list((tmp_path / "out").rglob("*.bin"))


OUT_LAYER = BRAIN + "lin1.weight"
QUERY = "model.unet.mid_block.attentions.0.transformers.0.transformer_blocks.0.attn2.to_q."


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop(OUT_LAYER), "lacks lin1.weight"),
        (lambda s: s.update({BRAIN + "lin2.weight": torch.zeros(1)}), "lin2.weight"),
        (lambda s: s.update({OUT_LAYER: torch.zeros(4, HIDDEN)}), "out.weight of the brain module"),
        (lambda s: s.update({BRAIN + "lin0.weight": torch.zeros(60, 2, 10)}), r"\(60, 2, 10\)"),
        (lambda s: s.update({BRAIN + "subject_layers.weights": torch.zeros(4, 7, 10)}), "one subject"),
        (lambda s: s.update({BRAIN + "subject_layers.weights": torch.zeros(1, 9, 10)}), "9 voxels and the mask has 7"),
        (lambda s: s.pop("model.unet.conv_in.weight"), "U-Net lacks conv_in.weight"),
        (lambda s: s.update({"model.unet.conv_in.bias": torch.zeros(3)}), "conv_in.bias of the U-Net"),
        (lambda s: s.pop(QUERY + "base_layer.weight"), "U-Net lacks mid_block.*to_q.weight"),
        (lambda s: s.pop(QUERY + "lora_A.default.weight"), "adapter of mid_block.*to_q is missing"),
        (lambda s: s.update({QUERY + "lora_B.default.weight": torch.zeros(3, 4)}), "adapter of mid_block.*to_q"),
        (lambda s: s.pop("model.vae.quant_conv.bias"), "VAE lacks quant_conv.bias"),
        (lambda s: s.update({"model.prior.weight": torch.zeros(1)}), "model.prior.weight is no part"),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("model.unet.")], "no tensor is named model.unet"),
        (lambda s: s.update({"optimizer": [1]}), "optimizer, which is no tensor"),
    ],
)
def test_another_checkpoint_is_one_sentence(change, said: str, released: Released, base: str, tmp_path: Path) -> None:
    state = released.state()
    change(state)
    torch.save(state, tmp_path / "sub01.bin")
    with pytest.raises(UserError, match=said) as told:
        import_official(tmp_path / "sub01.bin", base, ANN, tmp_path / "out")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "out" / "model.json").exists()


class Trap:
    def __reduce__(self):
        return (print, ("run",))


def test_a_file_that_holds_code_is_not_run(base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model.unet.x": Trap()}, tmp_path / "trap.bin")
    (tmp_path / "noise.bin").write_bytes(b"no checkpoint")
    for name, said in (("trap", "weights alone"), ("noise", "weights alone"), ("none", "no file")):
        with pytest.raises(UserError, match=said):
            import_official(tmp_path / f"{name}.bin", base, ANN, tmp_path / "out")
    assert capsys.readouterr().out == ""


def test_a_checkpoint_in_shards_is_imported_from_its_folder(released: Released, base: str, tmp_path: Path) -> None:
    shards, state = tmp_path / "shards", released.state()
    shards.mkdir()
    names = {key: f"pytorch_model-{1 + (k % 2):05d}-of-00002.bin" for k, key in enumerate(state)}
    for shard in set(names.values()):
        torch.save({key: value for key, value in state.items() if names[key] == shard}, shards / shard)
    (shards / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    assert import_official(shards, base, ANN, tmp_path / "out") == 2
    window = torch.randn(2, VOXELS, VOLUMES)
    torch.testing.assert_close(load_model(tmp_path / "out").brain(window), released.brain(window), atol=1e-5, rtol=1e-5)


def test_the_command_takes_the_mask_from_a_file(released: Released, base: str, tmp_path: Path, dynadiff) -> None:
    torch.save(released.state(), tmp_path / "sub01.bin")
    nib.save(nib.Nifti1Image(np.where(MASK, 1, -1).astype(np.int16), np.eye(4)), tmp_path / "nsdgeneral.nii.gz")
    assert np.array_equal(read_subject(1, None, tmp_path / "nsdgeneral.nii.gz").mask, MASK)
    arguments = ("import", tmp_path / "sub01.bin", "--out", tmp_path / "out", "--generator", base)
    code, _, wrong = dynadiff(*arguments)
    assert (code, "--root" in wrong) == (2, True)
    code, said, wrong = dynadiff(*arguments, "--mask", tmp_path / "nsdgeneral.nii.gz")
    assert code == 0, wrong
    assert "2 tensors" in said
    assert load_model(tmp_path / "out").config.brain.voxels == VOXELS


@pytest.mark.parametrize(("preset", "sampler", "guidance"), [("paper", "ddim", 3.0), ("released", "ddpm", 3.5)])
def test_how_an_imported_decoder_paints_is_chosen_and_said_beside_what_the_release_does(
    preset: str, sampler: str, guidance: float, released: Released, base: str, tmp_path: Path, dynadiff
) -> None:
    torch.save(released.state(), tmp_path / "sub01.bin")
    nib.save(nib.Nifti1Image(MASK.astype(np.int16), np.eye(4)), tmp_path / "mask.nii.gz")
    tell = ("--generator", base, "--mask", tmp_path / "mask.nii.gz")
    chosen = () if preset == "paper" else ("--preset", preset)
    code, said, wrong = dynadiff("import", tmp_path / "sub01.bin", "--out", tmp_path / "out", *tell, *chosen)
    assert code == 0, wrong
    config = load_model(tmp_path / "out").config
    assert (config.sampler, config.steps, config.guidance) == (sampler, 20, guidance)
    for line in (" ".join(said.split()), config.trained_on):
        assert f"set to {sampler.upper()}, 20 steps, guidance {guidance:g}, and " in line
        assert "and the release has DDPM, 20 steps, guidance 3.5" in line
    for other in ("phantom", "some"):
        code, _, wrong = dynadiff("import", tmp_path / "sub01.bin", "--out", tmp_path / other, *tell, "--preset", other)
        assert (code, "choose paper or released" in wrong, wrong.count("\n")) == (2, True, 1)


def test_an_imported_decoder_is_judged_on_shared_pictures_without_a_list(
    released: Released, base: str, tmp_path: Path
) -> None:
    torch.save(released.state(), tmp_path / "sub01.bin")
    import_official(tmp_path / "sub01.bin", base, ANN, tmp_path / "out")
    assert load_held_out(tmp_path / "out") == (HeldOut("standard", 0, None, ("01",), None), {})
