"""Presets state every number and where it comes from, and a wrong word is one sentence."""

from dataclasses import fields

import pytest

from dynadiff.base.errors import UserError
from dynadiff.networks.choices import PUBLISHED, RELEASED, Between, Sampling
from dynadiff.training.presets import PRESETS, SOURCES, Training, preset


def test_the_paper_preset_is_the_paper() -> None:
    paper = PRESETS["paper"]
    assert (paper.batch, paper.lr, paper.weight_decay, paper.warmup, paper.steps) == (320, 1e-3, 0.01, 1000, 60_000)
    assert (paper.beta1, paper.beta2, paper.width, paper.dropout) == (0.9, 0.999, 1552, 0.5)
    assert (paper.condition_dropout, paper.offset_noise, paper.timesteps) == (0.1, 0.1, "cubic")
    assert (paper.unconditional, paper.precision, paper.ema) == ("learned", "fp16", 0)
    assert (paper.sampler, paper.sampling_steps, paper.guidance) == ("ddim", 20, 3.0)
    assert (paper.offset, paper.length, paper.online, paper.warm_start, paper.anchor) == (3, 6, 0, 0, 0)
    assert not paper.low_level


def test_the_released_preset_differs_from_the_paper_where_the_release_does() -> None:
    paper, released = PRESETS["paper"], PRESETS["released"]
    differ = {f.name for f in fields(Training) if getattr(paper, f.name) != getattr(released, f.name)}
    assert differ == {"unconditional", "precision", "sampler", "guidance"}
    assert (released.sampler, released.guidance, released.unconditional) == ("ddpm", 3.5, "zeros")
    assert (paper.sampling, released.sampling) == (PUBLISHED, RELEASED)


def test_the_phantom_preset_is_what_the_shipped_decoder_was_trained_with() -> None:
    phantom = PRESETS["phantom"]
    assert (phantom.steps, phantom.batch, phantom.lr, phantom.weight_decay, phantom.warmup) == (400, 64, 1e-4, 0.05, 50)
    assert (phantom.warm_start, phantom.anchor, phantom.online) == (1500, 0.1, 0.0)
    assert (phantom.width, phantom.dropout, phantom.guidance, phantom.precision) == (256, 0.4, 5.0, "auto")
    assert not phantom.low_level


def test_every_number_of_every_preset_has_a_source() -> None:
    assert SOURCES.keys() == PRESETS.keys()
    for sources in SOURCES.values():
        assert sources.keys() == {f.name for f in fields(Training)}
        assert all(text.startswith(("P", "R", "here")) for text in sources.values())


def test_changes_have_the_type_of_what_they_change() -> None:
    changed = preset("phantom", ["lr=2e-4", "steps=7", "micro_batch=8", "gradient_checkpointing=true", "sampler=ddpm"])
    assert (changed.lr, changed.steps, changed.micro_batch) == (2e-4, 7, 8)
    assert (changed.gradient_checkpointing, changed.sampler) == (True, "ddpm")
    assert preset("phantom") == PRESETS["phantom"]
    cheaper = preset("phantom", ["sampling_steps=3", "spacing=900,500,5", "guidance=5@501-999"])
    assert cheaper.sampling == Sampling("ddim", 3, Between(5.0, 501, 999), spacing=(900, 500, 5))
    assert preset("paper", ["spacing=ays", "sampling_steps=2", "guidance=5,1"]).sampling == Sampling(
        "ddim", 2, (5.0, 1.0), spacing="ays"
    )


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("magic", [], "choose one of paper, released, phantom"),
        ("paper", ["learning_rate=1"], "key of steps, batch"),
        ("paper", ["lr"], "give key=value"),
        ("paper", ["steps=many"], "is not a whole number"),
        ("paper", ["lr=fast"], "is not a number"),
        ("paper", ["gradient_checkpointing=perhaps"], "is not true or false"),
        ("paper", ["sampler=euler"], "sampler is ddim or ddpm"),
        ("paper", ["online=2"], "online lies between 0 and 1"),
        ("paper", ["batch=0"], "batch is at least 1"),
        ("paper", ["micro_batch=0"], "micro_batch is at least 1"),
        ("paper", ["lr=nan"], "lr is above 0"),
        ("paper", ["trainable=text"], "trainable is lora, "),
        ("paper", ["timestep_layers=two"], "timestep_layers is each, "),
        ("paper", ["aggregation=none"], "for windows of one volume, not of 6"),
        ("paper", ["blocks=-1"], "blocks is at least 0"),
        ("paper", ["rank=0"], "rank is at least 1"),
        ("paper", ["targets=("], "is no regular expression"),
    ],
)
def test_a_wrong_preset_key_or_value_is_one_sentence(name: str, changes: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        preset(name, changes)
