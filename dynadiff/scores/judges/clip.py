"""The image half of CLIP ViT-L/14, from the hub's weights or from OpenAI's. Knows both ways of naming them; no file.

The network is that of transformers, with CLIP's own quick GELU; the feature is the projected first token (768).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

L14 = CLIPVisionConfig(
    hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14,
    image_size=224, projection_dim=768, hidden_act="quick_gelu",
)  # fmt: skip
OTHERS = ("text_model.", "text_projection.", "logit_scale", "vision_model.embeddings.position_ids")
PLACES = {
    "conv1.weight": "embeddings.patch_embedding.weight", "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight", "ln_pre.weight": "pre_layrnorm.weight",
    "ln_pre.bias": "pre_layrnorm.bias", "ln_post.weight": "post_layernorm.weight",
    "ln_post.bias": "post_layernorm.bias",
}  # fmt: skip
PARTS = {
    "attn.out_proj": "self_attn.out_proj", "ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}  # fmt: skip


class Clip(nn.Module):
    """Pictures (b, 3, 224, 224) to their places in the space of pictures and texts (b, 768)."""

    def __init__(self, config: CLIPVisionConfig = L14) -> None:
        super().__init__()
        whole = CLIPVisionModelWithProjection(config)
        self.vision_model, self.visual_projection = whole.vision_model, whole.visual_projection
        embeddings = self.vision_model.embeddings  # on the meta device what no file brings would have no values
        embeddings.position_ids = torch.arange(embeddings.num_positions, device="cpu")[None]

    def forward(self, pictures: Tensor) -> Tensor:
        found: Tensor = self.visual_projection(self.vision_model(pixel_values=pictures).pooler_output)
        return found


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of `Clip`, from those of the whole CLIP as the hub or as OpenAI names them."""
    if any(name.startswith("visual.") for name in state):
        return from_openai(state)
    return {k: v for k, v in state.items() if not k.startswith(OTHERS)}


def from_openai(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The image half of OpenAI's weights under the names of transformers; what has no counterpart keeps its name."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if not name.startswith("visual."):
            continue  # the text half
        name = name.removeprefix("visual.")
        _, _, inner = name.partition("resblocks.")
        block, _, part = inner.partition(".")
        layer, (stem, _, kind) = f"vision_model.encoder.layers.{block}.", part.rpartition(".")
        if name == "proj":
            found["visual_projection.weight"] = tensor.T.contiguous()
        elif part.startswith("attn.in_proj_"):
            kind = part.removeprefix("attn.in_proj_")
            found |= {f"{layer}self_attn.{k}_proj.{kind}": t for k, t in zip("qkv", tensor.chunk(3), strict=True)}
        elif stem in PARTS:
            found[f"{layer}{PARTS[stem]}.{kind}"] = tensor
        else:
            found[f"vision_model.{PLACES[name]}" if name in PLACES else name] = tensor
    return found
