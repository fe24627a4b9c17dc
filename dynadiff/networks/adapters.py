"""Which of a generator's weights learn: low-rank adapters by peft (published), or parts of the U-Net (paper, table 3).

Knows a U-Net's modules by their names. Whatever learns is saved alone, and loads strictly.
"""

from dataclasses import dataclass

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from dynadiff.base.errors import UserError
from dynadiff.networks.facts import SETS, TARGETS


@dataclass(frozen=True)
class Adaptation:
    """Rank 4 and alpha 4 as published, on the U-Net's cross-attention. Raises ValueError for an unknown set."""

    trainable: str = "lora"  # adapters, all of the cross-attention, all linear layers, everything, or nothing
    rank: int = 4
    alpha: float = 4.0
    targets: str = TARGETS  # regular expression of the modules that get an adapter

    def __post_init__(self) -> None:
        if self.trainable not in SETS:
            raise ValueError(f"trainable is {self.trainable!r}: choose one of {', '.join(SETS)}")


def set_trainable(unet: nn.Module, adaptation: Adaptation) -> None:
    """Freeze the U-Net but for what is to learn; adapters are put in place."""
    unet.requires_grad_(False)
    if adaptation.trainable == "lora":
        add_lora(unet, adaptation.rank, adaptation.alpha, adaptation.targets)
    elif adaptation.trainable == "all":
        unet.requires_grad_(True)
    elif adaptation.trainable != "none":
        for name, module in unet.named_modules():
            if ".attn2" in name if adaptation.trainable == "cross-attention" else isinstance(module, nn.Linear):
                module.requires_grad_(True)


def trained(unet: nn.Module) -> dict[str, nn.Parameter]:
    """The U-Net's parameters that learn, by name."""
    return {name: p for name, p in unet.named_parameters() if p.requires_grad}


def add_lora(unet: nn.Module, rank: int = 4, alpha: float = 4, targets: str = TARGETS) -> list[nn.Parameter]:
    """Put adapters into the U-Net in place, freeze everything else and return the adapters' parameters."""
    unet.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, lora_dropout=0.0, bias="none")
    try:
        inject_adapter_in_model(config, unet)
    except ValueError as error:
        raise UserError(f"adapters cannot be put on {targets!r} of this U-Net: name linear layers of it") from error
    return list(trained(unet).values())


def trained_state(unet: nn.Module) -> dict[str, Tensor]:
    """What learns, alone, under the names of the U-Net; adapters as peft's own files have them."""
    return {_saved(name): p.detach() for name, p in trained(unet).items()}


def load_trained(unet: nn.Module, weights: dict[str, Tensor]) -> None:
    """Put weights into a U-Net that `set_trainable` prepared; ValueError when anything is missing or left over."""
    expected = {_saved(name): p for name, p in trained(unet).items()}
    wrong = sorted(expected.keys() ^ weights.keys())
    wrong += [name for name in expected if name in weights and expected[name].shape != weights[name].shape]
    if wrong:
        raise ValueError(f"{wrong[0]} does not fit this U-Net")
    for name, parameter in expected.items():
        parameter.data.copy_(weights[name])


def merge_lora(unet: nn.Module) -> None:
    """Fold each adapter into its weight, W + B·A, and leave plain linear layers behind."""
    for name, module in list(unet.named_modules()):
        if isinstance(module, LoraLinear):
            module.merge()
            unet.set_submodule(name, module.get_base_layer())


def _saved(name: str) -> str:
    return name.replace(".default.", ".")  # peft's name of the one adapter that there is
