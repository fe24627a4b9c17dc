"""The brain module is the published network: its sizes, its order of operations and what it refuses."""

import pytest

torch = pytest.importorskip("torch")
from dynadiff.brain import BrainConfig, BrainModule  # noqa: E402

VOXELS = {"subj01": 15_724, "subj02": 14_278, "subj05": 13_039, "subj07": 12_682}
PUBLISHED = {"subj01": 345_393_223, "subj02": 343_149_031, "subj05": 341_226_103, "subj07": 340_672_039}


@pytest.mark.parametrize("subject", VOXELS)
def test_parameter_counts_are_those_of_the_released_weights(subject: str) -> None:
    with torch.device("meta"):
        brain = BrainModule(BrainConfig(VOXELS[subject]))
    assert sum(p.numel() for p in brain.parameters()) == PUBLISHED[subject]


def test_it_is_the_published_formula() -> None:
    torch.manual_seed(0)
    config = BrainConfig(voxels=11, volumes=4, width=5, tokens=(3, 2))
    brain, x = BrainModule(config).eval(), torch.randn(2, 11, 4)
    slots = []
    for k in range(4):
        h = x[:, :, k] @ brain.subject @ brain.timestep_weight[k] + brain.timestep_bias[k]
        norm = brain.activation[0]
        h = torch.nn.functional.layer_norm(h, (5,), norm.weight, norm.bias, 1e-5)
        slots.append(0.5 * h * (1 + torch.erf(h / 2**0.5)))
    weighted = sum(w * h for w, h in zip(brain.aggregate.weight[0], slots, strict=True)) + brain.aggregate.bias
    expected = (weighted @ brain.out.weight.T + brain.out.bias).reshape(2, 3, 2)
    torch.testing.assert_close(brain(x), expected, atol=1e-5, rtol=1e-5)


def test_each_volume_has_a_layer_of_its_own() -> None:
    torch.manual_seed(0)
    brain, x = BrainModule(BrainConfig(7, tokens=(2, 2), width=8)).eval(), torch.randn(1, 7, 6)
    with torch.no_grad():
        brain.aggregate.weight.fill_(1.0)  # so that only the timestep layers know the order
        assert not torch.allclose(brain(x), brain(x.flip(2)), atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 7, 5), (1, 8, 6)])
def test_a_window_of_another_size_is_refused_with_both_sizes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"7 voxels × 6 volumes, not"):
        BrainModule(BrainConfig(7, width=4, tokens=(1, 1)))(torch.zeros(shape))
