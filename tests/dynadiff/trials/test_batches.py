"""Items of several subjects are those of one, dealt out fairly, grouped, and never mixed up."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from dynadiff.base.random import item_rng  # noqa: E402
from dynadiff.trials.batches import ItemsOfOne, ItemsOfSeveral, looks  # noqa: E402
from dynadiff.trials.source import Trials  # noqa: E402


def marked(subject: int, voxels: int, trials: int = 30) -> tuple[Trials, ItemsOfOne]:
    """Trials in which every number says whose it is and which trial's: 100 × subject + trial."""
    values = 100 * subject + np.arange(trials)
    windows = np.broadcast_to(values[:, None, None], (trials, voxels, 6)).astype(np.float16)
    pictures = np.broadcast_to(np.arange(trials)[:, None, None, None], (trials, 8, 8, 3)).astype(np.uint8)
    names = tuple(f"{subject}-{k}" for k in range(trials))
    runs = tuple(f"run {subject}.{k}" for k in range(3))
    every = np.arange(trials)
    of = Trials(windows, windows, every, every % 3, every, pictures, names, ("",) * trials, runs)
    latents = np.broadcast_to(values[None, :, None, None, None], (2, trials, 1, 2, 2)).astype(np.float16)
    return of, ItemsOfOne(of, 0.5, latents, torch.from_numpy(values).float()[:, None, None])


SUBJECTS = {"01": marked(1, 5), "02": marked(2, 3), "05": marked(5, 4)}


def source() -> ItemsOfSeveral:
    return ItemsOfSeveral({name: windows for name, (_, windows) in SUBJECTS.items()})


@given(step=st.integers(0, 10_000), batch=st.integers(1, 12))
def test_all_that_belongs_to_an_item_stays_with_it(step: int, batch: int) -> None:
    rngs = [item_rng(0, "dynadiff", step, k) for k in range(batch)]
    trials, inputs = source().draw(rngs)
    assert list(inputs["windows"]) == list(SUBJECTS)
    assert [tuple(w.shape[1:]) for w in inputs["windows"].values()] == [(5, 6), (3, 6), (4, 6)]
    marks = torch.cat([w[:, 0, 0] for w in inputs["windows"].values()])
    assert sorted(map(id, inputs["rngs"])) == sorted(map(id, rngs))
    for key in ("mean", "deviation", "targets"):
        assert torch.equal(inputs[key].flatten(1)[:, 0], marks), key
    said = np.array([100, 200, 500])[trials // 30] + trials % 30
    assert marks.tolist() == said.tolist()
    for mark, rng in zip(marks.tolist(), inputs["rngs"], strict=True):  # the generator is the one that drew the item
        again = item_rng(0, "dynadiff", step, next(k for k, known in enumerate(rngs) if known is rng))
        assert (1, 2, 5)[int(again.integers(3))] * 100 + int(again.integers(30)) == mark


def test_an_item_is_the_same_in_any_batch() -> None:
    whole = source().draw([item_rng(0, "dynadiff", 7, k) for k in range(8)])[0]
    parts = [source().draw([item_rng(0, "dynadiff", 7, k)])[0][0] for k in range(8)]
    assert sorted(whole.tolist()) == sorted(int(p) for p in parts)


def test_each_subject_is_drawn_as_often_as_any_other_however_many_trials_it_has() -> None:
    few, many = marked(1, 2, 10)[1], marked(2, 2, 90)[1]
    trials, _ = ItemsOfSeveral({"1": few, "2": many}).draw([item_rng(0, "dynadiff", 0, k) for k in range(2000)])
    assert np.mean(trials < 10) == pytest.approx(0.5, abs=0.04)
    assert set(trials.tolist()) == set(range(100))


def test_runs_are_named_whosever_they_are() -> None:
    assert source().runs_of(np.array([0, 4, 31, 89])) == ["run 1.0", "run 1.1", "run 2.1", "run 5.2"]


def test_looks_are_the_first_trials_of_every_subject_with_what_was_shown() -> None:
    trials = {name: of for name, (of, _) in SUBJECTS.items()}
    found = list(looks(trials, True, 21, 4))
    assert [[len(look.shown) for look in several] for several in found] == [[4, 3]] * 3
    for (name, of), several in zip(trials.items(), found, strict=True):
        for look in several:
            assert isinstance(look.windows, dict)
            ((key, windows),) = look.windows.items()
            assert key == name
            assert windows[:, 0, 0].tolist() == of.online[list(look.numbers), 0, 0].tolist()
            assert look.shown[:, 0, 0, 0].tolist() == list(look.numbers)
    (alone,) = looks(trials["01"], False, 5, 64)
    assert isinstance(alone[0].windows, torch.Tensor)
    assert len(alone) == 1
