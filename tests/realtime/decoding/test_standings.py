"""The score that is told while a run goes on is that of its first trials, and nobody waits for it."""

import json
import threading

import numpy as np
import pytest

from dynadiff.recordings.pictures import read_picture
from dynadiff.scores.pixels import pixel_features
from realtime.decoding.decode import decode
from realtime.decoding.options import Options
from realtime.decoding.standings import LEAST, Standings
from realtime.feed.wire import RunEnd
from realtime.records.summary import PIXELS, Space
from realtime.screen.console import report
from replay.pace import run_messages

VOLUMES, TRIALS = 60, range(3, 51, 3)  # the rows at which the pictures of `make_run` appear, a picture each


def shown(row: int) -> np.ndarray:
    return np.random.default_rng(row).integers(0, 256, (20, 20, 3), np.uint8)


@pytest.fixture
def decoded(make_run, make_decoder, listed_feed, tmp_path):
    """Decodes a run; gives the folder, the summary, and all scores that the watcher was told, each once."""

    def run(decoder=None, spaces=(PIXELS,), before_each=lambda message: None, name="out", **changes):
        told = []

        def watch(view):
            if view.score not in told:
                told.append(view.score)

        messages = [m for _, m in run_messages(make_run(n_volumes=VOLUMES, **changes), speed=0, run_uid="a" * 8)]
        feed = listed_feed(messages, before_each)
        folder, _ = decode(feed, decoder or make_decoder(), Options(out=tmp_path / name), watch, spaces)
        return folder, json.loads((folder / "summary.json").read_text()), told

    return run


def share_told_apart(folder, rows) -> float:
    """Two-way identification, counted pair by pair from the files of a decode."""
    painted = [read_picture(folder / f"reconstructions/vol-{row + 8:04d}.png") for row in rows]
    features = [[pixel_features(p[None])[0] for p in side] for side in (painted, [shown(row) for row in rows])]
    r = [[np.corrcoef(mine, truth)[0, 1] for truth in features[1]] for mine in features[0]]
    pairs = [(i, j) for i in range(len(r)) for j in range(len(r)) if i != j]
    return float(np.mean([r[i][j] < r[j][j] for i, j in pairs]))


def test_each_standing_is_the_score_of_the_trials_so_far_and_the_last_one_that_of_the_end(decoded):
    folder, summary, _ = decoded()
    running, end = summary["identification_running"], summary["identification"]
    assert [one["n_trials"] for one in running] == list(range(LEAST, len(TRIALS) + 1))
    assert [one["volume"] for one in running] == [row + 8 for row in TRIALS[LEAST - 1 :]]
    counted = [share_told_apart(folder, TRIALS[: one["n_trials"]]) for one in running]
    assert [one["two_way"] for one in running] == pytest.approx(counted, abs=1e-4)
    assert {key: running[-1][key] for key in ("n_trials", "two_way", "ci95")} == {
        key: end[key] for key in ("n_trials", "two_way", "ci95")
    }
    assert running[-1]["permuted_p95"] == end["permuted_p95"]["two_way"]


def test_noise_is_at_chance_and_what_was_shown_is_told_apart_always(decoded, make_decoder):
    _, noise, _ = decoded()
    assert all(one["ci95"][0] <= 0.5 <= one["ci95"][1] for one in noise["identification_running"])
    decoder = make_decoder()
    engine = decoder.engine
    engine.render = lambda latent: shown(max(len(engine.windows) + 4 - 8, 0))  # the first window ends with volume 5
    _, seen, told = decoded(decoder, name="seen")
    assert {(one["two_way"], *one["ci95"]) for one in seen["identification_running"]} == {(1.0, 1.0, 1.0)}
    level = seen["identification"]["permuted_p95"]["two_way"]
    perfect = "two-way 100 % [100, 100], chance up to"
    assert set(told) <= {""} | {
        f"{perfect} {100 * one['permuted_p95']:.0f} % ({one['n_trials']} trials, by pixels)"
        for one in seen["identification_running"]
    }
    assert 0.5 < level < 0.8


def standings_of(names, space=PIXELS):
    """Of trials that are painted as they were seen."""
    standings = Standings(space, lambda volume: shown(volume))
    for volume, name in enumerate(names):
        standings.add(volume, shown(volume), name)
    return standings


@pytest.mark.parametrize(
    ("names", "volumes"), [("abcd", []), ("abcde", [4]), ("abcdefg", [4, 5, 6]), ("aaaaaa", []), ("aaaaaba", [5, 6])]
)
def test_nothing_is_told_of_few_trials_or_of_one_picture(names, volumes):
    standings = standings_of(names)
    standings.finish()
    assert [line["volume"] for line in standings.lines()] == volumes
    assert bool(standings.said()) == bool(volumes)
    assert [bool(standings.said(volume)) for volume in range(len(names))] == [
        any(known <= volume for known in volumes) for volume in range(len(names))
    ]
    standings.close()


def test_a_trial_without_its_picture_on_disk_is_none():
    standings = Standings(PIXELS, lambda volume: shown(volume) if volume != 2 else None)
    for volume in range(6):
        standings.add(volume, shown(volume), str(volume))
    standings.finish()
    assert [(line["volume"], line["n_trials"]) for line in standings.lines()] == [(5, 5)]
    standings.close()


def test_where_scoring_stopped_stands_in_the_line_from_there_on_and_nothing_is_looked_at_again():
    looked = []

    def look(pictures):
        looked.append(len(looked))
        if len(looked) == 13:  # what was painted in the seventh trial
            raise ValueError("it is\ngone")
        return pixel_features(pictures)

    standings = standings_of("abcdefgh", Space("eyes", look))
    standings.finish()
    assert standings.stopped == "scoring stopped at volume 6: eyes broke (it is gone)"
    assert [standings.said(volume).partition(" (")[2] for volume in (4, 5)] == [
        "5 trials, by eyes)", "6 trials, by eyes)"
    ]  # fmt: skip
    assert {standings.said(), standings.said(6), standings.said(7)} == {"no score since volume 6"}
    assert len(looked) == 13
    standings.close()


def test_while_time_is_needed_elsewhere_nothing_is_looked_at():
    looked = threading.Event()

    def look(pictures):
        looked.set()
        return pixel_features(pictures)

    standings = standings_of("abcdef", Space("eyes", look))
    assert not looked.wait(0.1)
    standings.go_on(True)
    assert looked.wait(10)
    standings.finish()
    standings.go_on(False)
    looked.clear()
    standings.add(6, shown(6), "g")
    assert not looked.wait(0.1)
    standings.close()


def test_whenever_a_picture_is_painted_the_judge_has_been_told_to_rest(decoded, make_decoder, monkeypatch):
    told, while_painting = [], []

    class Told(Standings):
        def go_on(self, free):
            told.append(free)
            super().go_on(free)

    monkeypatch.setattr("realtime.decoding.run.Standings", Told)
    decoder = make_decoder()
    encode = decoder.engine.encode
    decoder.engine.encode = lambda window: (while_painting.append(told[-1]), encode(window))[1]
    decoded(decoder)
    assert while_painting == [False] * (VOLUMES - 5)
    assert True in told


def test_no_picture_and_no_volume_waits_for_a_judge_that_takes_for_ever(decoded):
    ended, reached = threading.Event(), []

    def look(pictures):
        assert ended.wait(30)
        return pixel_features(pictures)

    def before_each(message):
        if isinstance(message, RunEnd):
            reached.append(ended.is_set())
            ended.set()

    _, summary, told = decoded(spaces=(Space("the slow one", look),), before_each=before_each)
    assert (reached, told) == ([False], [""])
    assert (summary["reconstructions"], summary["skipped"]) == (VOLUMES - 5, 0)
    assert len(summary["identification_running"]) == len(TRIALS) - LEAST + 1


def test_what_a_judge_raises_ends_no_run_before_its_end(decoded):
    reached = []

    def before_each(message):
        reached.append(message)

    def look(pictures):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        decoded(spaces=(Space("the broken one", look),), before_each=before_each)
    assert isinstance(reached[-1], RunEnd)


def test_a_space_that_breaks_costs_its_own_scores_and_no_picture(decoded):
    def look(pictures):
        if np.array_equal(pictures[0], shown(24)):  # the eighth trial
            return np.full((1, 3), np.nan)
        return pixel_features(pictures)

    folder, summary, told = decoded(spaces=(Space("the broken one", look), PIXELS))
    (why,) = summary["unscored"]
    assert why == "scoring stopped at volume 32: the broken one gave features of a picture that are not finite"
    assert (summary["ended"], summary["reconstructions"]) == ("complete", VOLUMES - 5)
    assert len(list((folder / "reconstructions").iterdir())) == VOLUMES - 5
    assert [one["volume"] for one in summary["identification_running"]] == [23, 26, 29]
    assert "identification" not in summary
    assert [one["features"] for one in summary["identification_beside"]] == ["pixels"]
    assert report(folder, summary).count(why) == 1
    assert told[-1] in ("", "no score since volume 32") or "by the broken one" in told[-1]


def test_a_space_that_breaks_when_the_run_is_over_is_told_beside_the_scores_of_the_others(decoded):
    def look(pictures):
        raise MemoryError("4 TB")

    folder, summary, _ = decoded(spaces=(PIXELS, Space("the large one", look)))
    assert summary["identification"]["features"] == "pixels"
    assert summary["identification_beside"] == []
    assert summary["unscored"] == ["no score of the whole run: the large one broke (4 TB)"]
    assert summary["unscored"][0] in report(folder, summary)


def test_a_run_of_unknown_stimuli_is_not_judged_and_has_no_thread_for_it(decoded):
    def look(pictures):
        raise AssertionError("there is nothing to compare with")

    threads = set()
    _, summary, told = decoded(
        spaces=(Space("nobody", look),),
        before_each=lambda message: threads.update(thread.name for thread in threading.enumerate()),
        events=(),
    )
    assert (summary["identification_running"], summary["identification_beside"], told) == ([], [], [""])
    assert "identification" not in summary
    assert any(name.startswith("painter") for name in threads)
    assert not any(name.startswith("judge") for name in threads)


def test_the_film_tells_every_picture_the_score_that_it_was_the_newest_of(decoded, monkeypatch):
    kept = []
    monkeypatch.setattr("realtime.decoding.run.illustrate", lambda record, views: kept.extend(views))
    _, summary, _ = decoded()
    trials = [sum(row + 8 <= view.moment.volume for row in TRIALS) for view in kept]
    assert [f"({n} trials, by pixels)" in view.score if n >= LEAST else view.score == "" for n, view in zip(
        trials, kept, strict=True
    )] == [True] * summary["reconstructions"]  # fmt: skip


def test_every_space_is_scored_at_the_end_under_its_name_and_the_first_one_on_the_way(decoded):
    brightness = Space("brightness", lambda pictures: pictures.reshape(len(pictures), -1, 3).mean(axis=1))
    _, both, _ = decoded(spaces=(PIXELS, brightness))
    _, other, _ = decoded(spaces=(brightness,), name="other")
    assert both["identification"]["features"] == "pixels"
    assert both["identification_beside"] == [other["identification"]]
    assert other["identification_beside"] == []
    assert other["identification"]["features"] == "brightness"
    _, alone, _ = decoded(name="alone")
    assert both["identification_running"] == alone["identification_running"] != other["identification_running"]
