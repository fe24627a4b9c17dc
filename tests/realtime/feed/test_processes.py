"""The same with processes, sockets and signals: twenty generated schedules, several at a time."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from support.processes import played
from support.runs import digests, messages

SEEDS = range(20)
AT_A_TIME = 5  # they wait more than they work


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield {seed: pool.submit(played, seed, tmp_path_factory.mktemp("schedule")) for seed in SEEDS}


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_dies_every_consumer_that_stays_has_the_run(seed, outcomes):
    outcome = outcomes[seed].result()
    plan = outcome.schedule
    sent = {f"u{run}": digests(messages(f"u{run}", plan.volumes)) for run in range(plan.runs)}
    last = f"u{plan.runs - 1}"
    codes = outcome.feed, {k: outcome.exits[k] for k in plan.staying}
    assert codes == (0, dict.fromkeys(plan.staying, 0)), outcome
    for k in plan.staying:
        assert outcome.recorded[k, last] == sent[last], (k, plan)
    for (_, uid), received in outcome.recorded.items():
        broken_off = received[: plan.volumes] if len(received) < len(sent[uid]) else received
        assert broken_off[:-1] == sent[uid][: len(broken_off) - 1]  # but for the end, which says that it was stopped


def test_they_were_schedules_of_all_kinds(outcomes):
    """Else this proves little."""
    ended = [outcome.result() for outcome in outcomes.values()]
    assert sum(outcome.kills for outcome in ended) >= len(SEEDS)
    assert {outcome.schedule.restart and outcome.schedule.restart[1] for outcome in ended} == {None, 2, 9}
    assert any(outcome.schedule.leaves for outcome in ended)
    assert all(sum(outcome.struck[fault] for outcome in ended) for fault in ("lost", "doubled", "damaged", "late"))
    assert all(sum(outcome.counted[name] for outcome in ended) for name in ("duplicates", "gaps", "damaged"))
