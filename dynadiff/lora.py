"""Low-rank adaptation of a generator's cross-attention by peft: rank 4, alpha 4 as published, on the U-Net's attn2."""

from pathlib import Path

from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.lora import Linear as LoraLinear
from safetensors.torch import load_file, save_file
from torch import nn

TARGETS = r".*\.attn2\.(to_q|to_k|to_v|to_out\.0)"


def add_lora(unet: nn.Module, rank: int = 4, alpha: float = 4) -> list[nn.Parameter]:
    """Put adapters into the U-Net in place, freeze everything else and return the adapters' parameters."""
    unet.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=TARGETS, lora_dropout=0.0, bias="none")
    inject_adapter_in_model(config, unet)
    return [p for name, p in unet.named_parameters() if "lora_" in name]


def save_lora(unet: nn.Module, path: Path) -> None:
    """Write the adapters alone; names as peft gives them."""
    save_file({k: v.detach().contiguous() for k, v in get_peft_model_state_dict(unet).items()}, path)


def load_lora(unet: nn.Module, path: Path) -> None:
    """Read adapters into a U-Net that `add_lora` prepared; anything missing or left over is an error."""
    result = set_peft_model_state_dict(unet, {k: v.float() for k, v in load_file(path).items()})
    missing = [k for k in result.missing_keys if "lora_" in k]
    if missing or result.unexpected_keys:
        raise ValueError(f"{path} does not fit this U-Net: {(missing + result.unexpected_keys)[0]}")


def merge_lora(unet: nn.Module) -> None:
    """Fold each adapter into its weight, W + B·A, and leave plain linear layers behind."""
    for name, module in list(unet.named_modules()):
        if isinstance(module, LoraLinear):
            module.merge()
            unet.set_submodule(name, module.get_base_layer())
