"""CLIP's image half gives what OpenAI's own layers give, whichever way its weights are named."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from torch import nn  # noqa: E402
from transformers import CLIPVisionConfig  # noqa: E402

from dynadiff.scores.judges.clip import L14, Clip, renamed  # noqa: E402
from dynadiff.scores.judges.weights import load_published  # noqa: E402
from support.published import made_up, shapes_of  # noqa: E402

WIDTH, PATCH, SIDE, OUT = 32, 4, 16, 8
SMALL = CLIPVisionConfig(
    hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=2, num_attention_heads=2, patch_size=PATCH,
    image_size=SIDE, projection_dim=OUT, hidden_act="quick_gelu",
)  # fmt: skip


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(WIDTH, 4 * WIDTH), "c_proj": nn.Linear(4 * WIDTH, WIDTH)})

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        y = self.mlp["c_fc"](self.ln_2(x))
        return x + self.mlp["c_proj"](y * torch.sigmoid(1.702 * y))


class Visual(nn.Module):
    """As OpenAI names and computes it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(WIDTH))
        self.positional_embedding = nn.Parameter(torch.zeros((SIDE // PATCH) ** 2 + 1, WIDTH))
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.transformer = nn.ModuleDict({"resblocks": nn.Sequential(Block(), Block())})
        self.proj = nn.Parameter(torch.zeros(WIDTH, OUT))

    def forward(self, pictures):
        x = self.conv1(pictures).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.positional_embedding
        x = self.transformer["resblocks"](self.ln_pre(x))
        return self.ln_post(x[:, 0]) @ self.proj


@pytest.fixture
def openai():
    visual = Visual()
    visual.load_state_dict(made_up(shapes_of(visual)))
    return visual.eval()


def published(visual):
    other = {"token_embedding.weight": torch.zeros(2), "transformer.resblocks.0.ln_1.weight": torch.zeros(2)}
    return {f"visual.{k}": v for k, v in visual.state_dict().items()} | other


def loaded(state):
    with torch.device("meta"):
        network = Clip(SMALL)
    load_published(network, renamed(state), (), "file")
    return network.eval()


def test_openais_weights_give_openais_features(openai):
    pictures = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(loaded(published(openai))(pictures), openai(pictures), atol=1e-5)


def test_the_hubs_names_lead_to_the_same_network_and_the_text_half_is_dropped(openai):
    network = loaded(published(openai))
    hub = dict(network.state_dict()) | {
        "logit_scale": torch.tensor(4.6), "text_model.encoder.layers.0.layer_norm1.weight": torch.zeros(2),
        "text_projection.weight": torch.zeros(2, 2), "vision_model.embeddings.position_ids": torch.arange(17)[None],
    }  # fmt: skip
    again = loaded(hub)
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in again.state_dict().items())


def test_at_its_full_size_it_is_vit_l_14():
    with torch.device("meta"):
        network = Clip(L14)
    assert sum(p.numel() for p in network.parameters()) == 303_966_208
    names = {f"vision_model.encoder.layers.23.self_attn.{k}_proj.weight" for k in ("q", "k", "v", "out")}
    assert names <= network.state_dict().keys()
