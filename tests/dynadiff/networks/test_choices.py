"""How pictures are painted is said in words that are read as written, and what cannot be sampled by is one sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynadiff.networks.choices import (
    PUBLISHED,
    RELEASED,
    Between,
    Sampling,
    guidance_at,
    guidance_named,
    guidance_of,
    guidance_words,
    spacing_named,
    spacing_words,
)

TIMES = st.sets(st.integers(0, 999), min_size=1, max_size=30).map(lambda found: tuple(sorted(found, reverse=True)))
STRENGTHS = st.floats(0, 1e6)
ENDS = st.tuples(st.integers(0, 999), st.integers(0, 999)).map(sorted)


@given(TIMES | st.sampled_from(["leading", "ays"]))
def test_spacings_are_read_as_written(spacing: str | tuple[int, ...]) -> None:
    assert spacing_named(spacing_words(spacing)) == spacing


@given(STRENGTHS | st.lists(STRENGTHS, min_size=2, max_size=9).map(tuple) | st.builds(
    lambda scale, ends: Between(scale, *ends), STRENGTHS, ENDS))  # fmt: skip
def test_guidance_is_read_as_written(guidance: float | tuple[float, ...] | Between) -> None:
    assert guidance_named(guidance_words(guidance)) == guidance


@given(TIMES, STRENGTHS, ENDS)
def test_guidance_between_two_timesteps_holds_at_them_and_there_is_none_elsewhere(
    times: tuple[int, ...], scale: float, ends: list[int]
) -> None:
    low, high = ends
    for timestep, strength in zip(times, guidance_at(Between(scale, low, high), times), strict=True):
        assert strength == (scale if low <= timestep <= high else 1)


@given(TIMES, st.data())
def test_guidance_is_one_value_where_all_steps_are_guided_alike(times: tuple[int, ...], data: st.DataObject) -> None:
    strengths = data.draw(st.lists(st.sampled_from([1.0, 5.0]), min_size=len(times), max_size=len(times)).map(tuple))
    guidance = guidance_of(strengths)
    assert guidance_at(guidance, times) == strengths
    assert isinstance(guidance, float) == (len(set(strengths)) == 1)


@pytest.mark.parametrize(
    ("guidance", "strongest"), [(3.5, 3.5), ((1.0, 4.0, 2.0), 4.0), (Between(5.0, 501, 999), 5.0), (0.5, 0.5)]
)
def test_exact_is_twenty_even_steps_guided_as_strongly_as_any(guidance: object, strongest: float) -> None:
    known = Sampling(steps=3, guidance=guidance, spacing=(900, 500, 100), seed=4)
    assert known.exact == Sampling(steps=20, guidance=strongest, spacing="leading", seed=4)
    assert known.exact.exact == known.exact


def test_a_choice_is_told_in_a_few_words() -> None:
    assert (str(PUBLISHED), str(RELEASED)) == ("DDIM, 20 steps, guidance 3", "DDPM, 20 steps, guidance 3.5")
    known = Sampling(steps=10, guidance=Between(5.0, 501, 999), spacing="ays")
    assert str(known) == "DDIM, 10 steps ays, guidance 5@501-999"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"sampler": "euler"}, "sampler is ddim or ddpm"),
        ({"steps": 0}, "at least 1 step, not 0"),
        ({"spacing": "karras"}, "spacing is leading, ays or a list of timesteps"),
        ({"steps": 2, "spacing": (900, 500, 100)}, "lists 3 timesteps for 2 steps"),
        ({"steps": 2, "spacing": (500, 500)}, "timesteps fall from step to step"),
        ({"steps": 2, "spacing": (500, 900)}, "timesteps fall from step to step"),
        ({"steps": 2, "spacing": (500, -1)}, "down to 0 at most"),
        ({"steps": 1, "spacing": ()}, "lists 0 timesteps for 1 steps"),
        ({"sampler": "ddpm", "spacing": "ays"}, "ddpm has leading timesteps, not ays"),
        ({"guidance": -1.0}, "a number from 0 on, not -1"),
        ({"guidance": float("nan")}, "a number from 0 on, not nan"),
        ({"guidance": (5.0, 1.0)}, "guidance has 2 values for 20 steps"),
        ({"guidance": Between(float("inf"), 0, 9)}, "a number from 0 on"),
        ({"guidance": Between(5.0, 9, 8)}, "the smaller first, not 5@9-8"),
    ],
)
def test_what_cannot_be_sampled_by_is_one_sentence(wrong: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Sampling(**wrong)


@pytest.mark.parametrize("words", ["", "karras", "900,900", "100,900", "900,,100", "9.5,3", "-5", "900 100", "AYS"])
def test_words_that_are_no_spacing_are_refused(words: str) -> None:
    with pytest.raises(ValueError, match=r"spacing is|no list of|timesteps fall"):
        spacing_named(words)


@pytest.mark.parametrize(
    "words", ["", "strong", "5,", "5@", "5@500", "5@900-500", "@1-2", "5@-1-2", "-1", "nan", "5,inf"]
)
def test_words_that_are_no_guidance_are_refused(words: str) -> None:
    with pytest.raises(ValueError, match=r"guidance is|no list of"):
        guidance_named(words)
