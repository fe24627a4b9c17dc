"""The ten metrics against counting by hand, at chance, where they are perfect, and where the input is wrong."""

import subprocess
import sys
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from dynadiff.base.errors import UserError
from dynadiff.scores.identification import correlations
from dynadiff.scores.intervals import interval
from dynadiff.scores.settings import DYNADIFF, MINDEYE, setting_named
from dynadiff.scores.ten import METRICS, resemblance, score_pictures

RNG = np.random.default_rng(0)
NAMES = [f"picture {k}" for k in range(5)]
KEYS = ("alexnet2", "alexnet5", "clip", "inception", "efficientnet", "swav", "dreamsim")


def pictures(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 12, 12, 3), np.uint8)


def judge(shown: np.ndarray) -> np.ndarray:
    """Features that are the pixels, as float32."""
    return np.reshape(shown, (len(shown), -1)).astype(np.float32)


JUDGES = dict.fromkeys(KEYS, judge)
SMALL = replace(DYNADIFF, compared=32)  # pixels are compared at 425 otherwise, which takes long


def by_hand(painted, shown, names, rivals):
    """Two-way identification as shares of comparisons, with numpy's correlation."""
    r = [[np.corrcoef(p.ravel(), s.ravel())[0, 1] for s in shown] for p in painted]
    others = [[j for j in range(len(names)) if names[j] != names[i]] for i in range(len(names))]
    if rivals == "reconstructions":
        return [np.mean([r[i][t] < r[t][t] for i in others[t]]) for t in range(len(names))]
    return [np.mean([r[i][t] < r[i][i] for t in others[i]]) for i in range(len(names))]


def close(shown: np.ndarray, noise: float) -> np.ndarray:
    """Pictures more or less like those shown, the first more like all of them: a hub."""
    mixed = shown + np.random.default_rng(1).normal(0, noise, shown.shape)
    mixed[0] = shown.mean(axis=0)
    return np.clip(mixed, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("setting", [DYNADIFF, MINDEYE])
def test_both_directions_of_two_way_count_as_by_hand(setting):
    shown = pictures(5)
    painted = close(shown, 200)
    found = score_pictures(painted, shown, NAMES, setting, {"clip": judge})
    ways = {s.rivals: s for s in found if s.metric.key == "clip"}
    for rivals, scored in ways.items():
        assert scored.per_trial == pytest.approx(by_hand(painted, shown, NAMES, rivals))
        assert scored.headline == (rivals == setting.rivals)
        assert scored.title == f"CLIP, against {rivals}"
    assert ways["reconstructions"].per_trial.tolist() != ways["truths"].per_trial.tolist()


def test_the_release_counts_against_reconstructions_and_mindeye_against_truths():
    assert (DYNADIFF.rivals, MINDEYE.rivals) == ("reconstructions", "truths")
    assert (DYNADIFF.efficientnet, MINDEYE.efficientnet) == ("V1", "V2")


def test_trials_of_one_picture_are_no_rivals():
    shown = pictures(4)[[0, 0, 1, 2, 3]]
    painted, names = close(shown, 150), ["a", "a", "b", "c", "d"]
    for scored in score_pictures(painted, shown, names, DYNADIFF, {"swav": judge, "clip": judge}):
        if scored.rivals:
            assert scored.per_trial == pytest.approx(by_hand(painted, shown, names, scored.rivals))


def test_pictures_that_are_all_the_same_tie_and_ties_fail():
    """The same picture in another batch has other last bits; it is judged once."""

    def unsteady(shown):
        return judge(shown) + np.random.default_rng(len(shown)).normal(0, 1e-3, (len(shown), 432)).astype(np.float32)

    shown = pictures(70)
    painted = np.repeat(pictures(1, seed=7), 70, axis=0)
    found = score_pictures(painted, shown, [str(k) for k in range(70)], SMALL, {"clip": unsteady})
    ways = {s.rivals: s.per_trial for s in found if s.rivals}
    assert ways["reconstructions"].max() == 0
    assert ways["truths"].mean() == pytest.approx(0.5)  # one reconstruction ranks the truths


@pytest.mark.parametrize("setting", [DYNADIFF, MINDEYE])
def test_identity_is_perfect_and_noise_is_at_chance(setting):
    shown, names = pictures(80), [str(k) for k in range(80)]
    small = replace(setting, compared=32)
    for scored in score_pictures(shown, shown, names, small, JUDGES):
        best = 0 if scored.metric.how == "distance" else 1
        assert scored.per_trial == pytest.approx(np.full(80, best), abs=1e-6)
    for scored in score_pictures(pictures(80, seed=9), shown, names, small, JUDGES):
        found = interval(scored.per_trial, names)
        if scored.metric.how == "two-way":
            assert found.low < 0.5 < found.high
        elif scored.metric.how == "distance":
            assert found.low < 1 < found.high  # no correlation


def test_distances_are_one_less_the_correlation_of_each_pair():
    shown = pictures(5)
    painted = close(shown, 100)
    found = {s.metric.key: s for s in score_pictures(painted, shown, NAMES, DYNADIFF, JUDGES)}
    wanted = [1 - np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(painted, shown, strict=True)]
    for key in ("efficientnet", "swav", "dreamsim"):
        assert found[key].per_trial == pytest.approx(wanted, abs=1e-6)
        assert not found[key].metric.higher_is_better


def test_blocks_of_float32_features_correlate_as_all_of_them_at_once():
    shown, painted = pictures(150), pictures(150, seed=3)
    whole = correlations(judge(painted).astype(np.float64), judge(shown).astype(np.float64))
    assert np.abs(resemblance(judge, painted, shown) - whole).max() < 1e-6
    flat = np.full((2, 1000), 0.1, np.float32)
    assert correlations(flat, RNG.normal(size=(2, 1000)).astype(np.float32)).tolist() == [[0, 0], [0, 0]]


def test_metrics_come_in_the_papers_order_and_only_with_their_judge():
    shown = pictures(5)
    assert [m.title for m in METRICS] == [
        "PixCorr", "SSIM", "AlexNet(2)", "AlexNet(5)", "CLIP", "Inception", "EffNet-B1", "SwAV", "DreamSim", "mIoU",
    ]  # fmt: skip
    alone = score_pictures(shown, shown, NAMES, DYNADIFF, {})
    assert [s.metric.key for s in alone] == ["pixcorr", "ssim"]
    keys = [s.metric.key for s in score_pictures(shown, shown, NAMES, DYNADIFF, JUDGES, segment) if s.headline]
    assert keys == [m.key for m in METRICS]
    keys = {s.metric.key for s in score_pictures(shown, shown, NAMES, MINDEYE, JUDGES, segment)}
    assert keys == {m.key for m in METRICS} - {"dreamsim", "miou"}


@pytest.mark.parametrize(
    ("painted", "shown", "names", "said"),
    [
        (pictures(5), pictures(4), NAMES, "5 pictures painted, 4 shown and 5 names"),
        (pictures(5), pictures(5), NAMES[:4], "5 shown and 4 names"),
        (pictures(1), pictures(1), NAMES[:1], "needs at least two"),
        (pictures(2), pictures(2), ["a", "a"], "all trials show the same picture"),
        (pictures(5)[:, :11], pictures(5), NAMES, "different sizes, 12×11 and 12×12"),
        (pictures(5)[..., 0], pictures(5), NAMES, r"painted are an array \(5, 12, 12\)"),
        (np.full((5, 12, 12, 3), np.nan), pictures(5), NAMES, "painted have values beyond"),
        (pictures(5), pictures(5).astype(float), NAMES, "shown have values beyond"),
    ],
)
def test_wrong_input_is_one_sentence(painted, shown, names, said):
    with pytest.raises(UserError, match=said) as error:
        score_pictures(painted, shown, names, DYNADIFF, JUDGES)
    assert "\n" not in str(error.value)


def segment(pictures: np.ndarray):
    """Label maps that are the pictures' red, in four classes."""
    return lambda trial: pictures[trial, ..., 0] // 64


@pytest.mark.parametrize("n", [5, 40])
def test_noise_is_within_what_chance_gives_and_identity_beyond_it_in_all_ten(n):
    shown, names = pictures(n), [str(k) for k in range(n)]
    for scored in score_pictures(shown, shown, names, SMALL, JUDGES, segment):
        mean, better = scored.per_trial.mean(), scored.metric.higher_is_better
        assert mean > scored.chance if better else mean < scored.chance, scored.title
    beyond = dict.fromkeys((m.key for m in METRICS), 0)
    for seed in range(1, 11):
        for scored in score_pictures(pictures(n, seed), shown, names, SMALL, JUDGES, segment):
            mean, better = scored.per_trial.mean(), scored.metric.higher_is_better
            beyond[scored.metric.key] += bool(mean > scored.chance if better else mean < scored.chance)
    assert max(beyond.values()) <= 4, beyond  # half of one expected, one where both directions count


def test_levels_of_five_pictures_are_those_of_all_deals():
    """mIoU, SSIM and PixCorr pair by pair, distances from features: what any deal of the pictures would have scored."""
    shown = pictures(5)
    painted = close(shown, 100)
    found = {s.metric.key: s for s in score_pictures(painted, shown, NAMES, SMALL, {"swav": judge}, segment)}
    dealt: dict[str, list[float]] = {key: [] for key in found}
    for order in permutations(range(5)):
        mixed = painted[list(order)]
        for s in score_pictures(mixed, shown, NAMES, SMALL, {"swav": judge}, segment, levels=False):
            assert s.chance is None
            dealt[s.metric.key].append(s.per_trial.mean())
    for key, means in dealt.items():
        low, high = (0.92, 0.98) if found[key].metric.higher_is_better else (0.02, 0.08)
        assert np.quantile(means, low) <= found[key].chance <= np.quantile(means, high), key


def test_miou_needs_a_map_of_every_picture_and_the_setting():
    shown = pictures(5)
    painted = pictures(5, seed=1)
    asked = []

    def lacking(given):
        asked.append(len(given))
        return None if given is painted else segment(given)

    keys = [s.metric.key for s in score_pictures(painted, shown, NAMES, DYNADIFF, {}, lacking)]
    assert keys == ["pixcorr", "ssim"]
    assert asked == [5, 5]  # both sides, so that all that is lacking is known
    assert [s.metric.key for s in score_pictures(painted, shown, NAMES, MINDEYE, {}, lacking)] == ["pixcorr", "ssim"]
    assert len(asked) == 2


def test_a_setting_that_is_not_there_is_named():
    assert setting_named("mindeye") is MINDEYE
    with pytest.raises(UserError, match="no setting 'braindiffuser' of the metrics: choose dynadiff or mindeye"):
        setting_named("braindiffuser")


def test_scores_need_no_pytorch():
    """They stand below the decoder that runs without it."""
    program = "import sys, dynadiff.scores.ten; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
