"""A bad link does what it says, as often as it says. What comes through it: ``tests/realtime/test_processes.py``."""

import numpy as np
import pytest

from dynadiff.base.errors import UserError
from replay.faults import BadLink, Faults, relay

BAD = Faults(lost=0.05, doubled=0.05, damaged=0.05, late=0.05, late_s=0.02)


def test_without_faults_everything_passes_unchanged():
    link = BadLink(Faults(), np.random.default_rng(0))
    assert link.passes([b"a", b"bc"]) == [(0.0, [b"a", b"bc"])]
    assert not +link.counts


@pytest.mark.parametrize("fault", ["lost", "doubled", "damaged", "late"])
def test_a_fault_strikes_as_often_as_it_says_and_no_other_does(fault):
    link, frames = BadLink(Faults(**{fault: 0.2}), np.random.default_rng(0)), [b"seal", b"header", b"buffer"]
    out = [link.passes(frames) for _ in range(4000)]
    seen = {
        "lost": sum(not o for o in out),
        "doubled": sum(len(o) == 2 for o in out),
        "damaged": sum(message != frames for o in out for _, message in o),
        "late": sum(delay > 0 for o in out for delay, _ in o),
    }
    assert seen.pop(fault) == link.counts[fault] == pytest.approx(800, abs=100)
    assert not any(seen.values())


def test_damage_is_one_bit():
    link = BadLink(Faults(damaged=1), np.random.default_rng(0))
    for _ in range(100):
        [(_, out)] = link.passes([b"seal", b"header"])
        changed = [a ^ b for x, y in zip(out, [b"seal", b"header"], strict=True) for a, b in zip(x, y, strict=True)]
        assert sum(value.bit_count() for value in changed) == 1


def test_the_same_seed_has_the_same_faults():
    links = [BadLink(BAD, np.random.default_rng(seed)) for seed in (3, 3, 4)]
    one, same, other = [[link.passes([b"abc"]) for _ in range(200)] for link in links]
    assert one == same != other


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_one_sentence(share):
    with pytest.raises(UserError, match="give one from 0 to 1"):
        Faults(lost=share)


@pytest.mark.parametrize("late_s", [-1.0, 61.0])
def test_a_delay_that_is_none_is_one_sentence(late_s):
    with pytest.raises(UserError, match="give one from 0 to 60"):
        Faults(late_s=late_s)


def test_a_bad_link_stays_on_one_machine():
    with pytest.raises(UserError, match="rehearsals on one machine"):
        relay("tcp://192.0.2.1:5560", "tcp://127.0.0.1:5561", Faults(), 0)
