"""The brain module is the published network: its sizes, its order of operations and what it refuses.

Expected numbers of parameters: Dynadiff's released weights, and arithmetic on its layers for the variants.
"""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
from dynadiff.networks.brain import OWN, BrainConfig, BrainModule, SharedBrain, adapt  # noqa: E402

VOXELS = {"subj01": 15_724, "subj02": 14_278, "subj05": 13_039, "subj07": 12_682}
PUBLISHED = {"subj01": 345_393_223, "subj02": 343_149_031, "subj05": 341_226_103, "subj07": 340_672_039}


BRANCHES = 2  # the released U-Net carries the adapters twice, for images and for texts
WITH_ADAPTERS = {"subj01": 346_188_871, "subj02": 343_944_679, "subj05": 342_021_751, "subj07": 341_467_687}


def size(brain: torch.nn.Module) -> int:
    return sum(p.numel() for p in brain.parameters())


@pytest.mark.parametrize("subject", VOXELS)
def test_parameter_counts_are_those_of_the_released_weights(subject: str) -> None:
    with torch.device("meta"):
        brain = BrainModule(BrainConfig(VOXELS[subject]))
    assert size(brain) == PUBLISHED[subject]
    assert size(brain) + BRANCHES * 397_824 == WITH_ADAPTERS[subject]  # an adapter set: test_lora


S1 = VOXELS["subj01"]
VARIANTS = {
    "published": (BrainConfig(S1), 345_393_223),
    "one timestep layer": (BrainConfig(S1, timestep_layers="shared"), 333_341_943),
    "aggregated at the input": (BrainConfig(S1, aggregation="in"), 333_341_943),
    "mean at the output": (BrainConfig(S1, aggregation="out_mean"), 345_393_223 - 7),
    "mean at the input": (BrainConfig(S1, aggregation="in_mean"), 333_341_943 - 7),
    "betas": (BrainConfig.betas(S1), 330_931_680),
    "two blocks": (BrainConfig(S1, blocks=2), 345_393_223 + 2 * (1552 * 1552 + 3 * 1552)),
    "longer window": (BrainConfig(S1, 8), 345_393_223 + 2 * (2_410_256 + 1)),
} | {f"{t} volumes": (BrainConfig(S1, t), 345_393_223 - (6 - t) * (2_410_256 + 1)) for t in range(1, 6)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_the_parameters_that_its_layers_need(variant: str) -> None:
    config, expected = VARIANTS[variant]
    with torch.device("meta"):
        brain = BrainModule(config)
        assert brain(torch.empty(2, S1, config.volumes)).shape == (2, 257, 768)
    assert size(brain) == expected


def test_four_subjects_share_all_but_their_own_layers() -> None:
    with torch.device("meta"):
        assert size(SharedBrain({s: BrainConfig(v) for s, v in VOXELS.items()})) == 450_856_279


SMALL = {
    "published": {}, "shared": {"timestep_layers": "shared"}, "in": {"aggregation": "in"},
    "in_mean": {"aggregation": "in_mean"}, "out_mean": {"aggregation": "out_mean"}, "blocks": {"blocks": 2},
    "betas": {"volumes": 1, "timestep_layers": "none", "aggregation": "none"},
}  # fmt: skip


def small(voxels: int, variant: str) -> BrainConfig:
    return replace(BrainConfig(voxels, 4, 5, (3, 2)), **SMALL[variant])


@pytest.mark.parametrize("variant", SMALL)
def test_one_subject_of_several_alone_gives_the_same_tokens(variant: str) -> None:
    torch.manual_seed(0)
    configs = {"1": small(7, variant), "2": small(4, variant)}
    several = SharedBrain(configs).eval()
    windows = {name: torch.randn(3, c.voxels, c.volumes) for name, c in configs.items()}
    together = several({name: windows[name] for name in ("2", "1")})
    alone = [several.for_subject(name)(windows[name]) for name in ("2", "1")]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-6, rtol=1e-6)
    assert set(several.for_subject("1").state_dict()) == set(BrainModule(configs["1"]).state_dict())


def test_training_one_subject_leaves_the_others_own_layers_alone() -> None:
    several = SharedBrain({"1": small(7, "published"), "2": small(4, "published")})
    several({"2": torch.randn(3, 4, 4)}).square().mean().backward()
    touched = {name for name, p in several.named_parameters() if p.grad is not None}
    assert {f"subjects.2.{name}" for name in OWN} < touched
    assert not any(name.startswith("subjects.1.") for name in touched)
    assert {"out.weight", "aggregate.weight", "activation.0.weight"} < touched


def test_a_new_subject_starts_from_scratch_where_it_must_and_from_the_pretrained_where_it_may() -> None:
    torch.manual_seed(0)
    several = SharedBrain({"1": small(7, "published"), "2": small(4, "published")})
    for old in (several, several.for_subject("2")):
        new = adapt(old, 9)
        assert new.subject.shape == (9, 5)
        for name, value in new.state_dict().items():
            if name not in OWN:
                assert torch.equal(value, old.state_dict()[name])
        twin = several.for_subject("2")
        assert not torch.isclose(new.timestep_weight, twin.timestep_weight).any()
        with torch.no_grad():
            new.out.weight.zero_()
        assert old.out.weight.abs().max() > 0


@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize("new_name", ["", "output"])
def test_a_new_subject_takes_all_that_is_shared_or_nothing(several: bool, new_name: str) -> None:
    old = SharedBrain({"1": small(7, "published")}) if several else BrainModule(small(7, "published"))
    if new_name:
        old.add_module(new_name, old.out)
    del old.out
    with pytest.raises(RuntimeError, match=r"Missing key.*out\.weight"):
        adapt(old, 9)


def test_subjects_that_differ_in_more_than_voxels_cannot_share() -> None:
    with pytest.raises(ValueError, match="voxels only"):
        SharedBrain({"1": small(7, "published"), "2": small(4, "in")})
    with pytest.raises(ValueError, match="subjects 1 and not 2"):
        SharedBrain({"1": small(7, "published")}).for_subject("2")


@pytest.mark.parametrize(
    "wrong", [{"timestep_layers": "some"}, {"aggregation": "max"}, {"volumes": 2, "aggregation": "none"}]
)
def test_an_unknown_variant_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"choose one of|one volume"):
        replace(BrainConfig(7), **wrong)


def test_aggregation_at_the_input_weighs_volumes_before_anything_else() -> None:
    torch.manual_seed(0)
    brain, x = BrainModule(small(7, "in")).eval(), torch.randn(2, 7, 4)
    weighted = (x * brain.aggregate.weight[0]).sum(2) + brain.aggregate.bias
    h = brain.activation(weighted @ brain.subject @ brain.timestep_weight[0] + brain.timestep_bias[0])
    torch.testing.assert_close(brain(x), brain.out(h).reshape(2, 3, 2), atol=1e-5, rtol=1e-5)


def test_betas_go_from_the_subject_layer_to_the_output() -> None:
    torch.manual_seed(0)
    brain, x = BrainModule(small(7, "betas")).eval(), torch.randn(2, 7, 1)
    expected = brain.out(brain.activation(x[..., 0] @ brain.subject)).reshape(2, 3, 2)
    torch.testing.assert_close(brain(x), expected)
    assert set(brain.state_dict()) == {"subject", "activation.0.weight", "activation.0.bias", "out.weight", "out.bias"}


@pytest.mark.parametrize("aggregation", ["in_mean", "out_mean"])
def test_a_shared_layer_and_a_mean_know_no_order(aggregation: str) -> None:
    torch.manual_seed(0)
    config = replace(small(7, aggregation), timestep_layers="shared")
    brain, x = BrainModule(config).eval(), torch.randn(2, 7, 4)
    torch.testing.assert_close(brain(x), brain(x.flip(2)), atol=1e-6, rtol=1e-5)


def test_blocks_add_to_what_passes_by_them() -> None:
    torch.manual_seed(0)
    brain, x = BrainModule(small(7, "blocks")).eval(), torch.randn(2, 7, 4)
    plain = BrainModule(small(7, "published")).eval()
    plain.load_state_dict({k: v for k, v in brain.state_dict().items() if not k.startswith("blocks.")})
    assert not torch.allclose(brain(x), plain(x), atol=1e-3)
    for block in brain.blocks:
        torch.nn.init.zeros_(block[1].weight)
    torch.testing.assert_close(brain(x), plain(x))


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
