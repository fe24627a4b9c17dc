"""Runs a study: stores are prepared once, every condition is trained once and judged once, all on the same trials.

What is done is kept in the study's folder, and a study that was interrupted goes on:

    HOME/store/subjNN            the sessions that the study reads, cleaned as wholes to learn from and online to judge
         latents                 of the pictures, computed once for all conditions
         CONDITION/condition.json   what it was begun with: it goes on with nothing else
                   model.json …     the model, in subject-NN where there are several subjects
                   scores.npz       of every trial
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynadiff.assets import EMBEDDED
from dynadiff.base.errors import UserError
from dynadiff.base.files import atomic, file_digest
from dynadiff.evaluation.evaluate import decoded
from dynadiff.networks.generator import load_generator
from dynadiff.networks.image_encoder import ImageEncoder, encode_pictures
from dynadiff.networks.model_folder import CONFIG, load_model
from dynadiff.recordings.nsd import NSD
from dynadiff.scores.identification import Features, correlations, n_way_top1, two_way
from dynadiff.scores.pixels import pixel_features
from dynadiff.signal.windows import WindowSpec
from dynadiff.studies.judged import Judged, load_judged, save_judged
from dynadiff.studies.plan import Condition, Study
from dynadiff.training.recipe import train_recipe
from dynadiff.training.request import Recipe
from dynadiff.trials.divide import divide, once
from dynadiff.trials.prepare import prepare_subject, wanted_runs
from dynadiff.trials.store import KINDS, StoredTrials, open_store, store_home

NOTE, SCORES = "condition.json", "scores.npz"
GENERATOR = EMBEDDED / "generator"

Train = Callable[[Recipe], object]
Judge = Callable[[Path, StoredTrials], Judged]


def judge(folder: Path, trials: StoredTrials) -> Judged:
    """Score a model folder: every trial's window, cleaned online, is painted, and identified among all the others'."""
    model, encoder = load_model(folder, merged=True), ImageEncoder.load(GENERATOR / "image_encoder")
    painted = decoded(model, trials.windows(np.arange(len(trials)), np.ones(len(trials), np.bool_)))
    in_tokens, in_pixels = likeness(painted, trials.pictures[trials.seen], encoder)
    names = pictures_of(trials)
    scores = {
        "two_way": two_way(in_tokens, names),
        "top1": n_way_top1(in_tokens, names),
        "two_way_pixels": two_way(in_pixels, names),
    }
    return Judged(file_digest(folder / CONFIG), trials_of(trials), names, scores)


def run_study(
    study: Study, root: Path, home: Path, say: Callable[[str], None], train: Train = train_recipe, judge: Judge = judge
) -> dict[str, Judged]:
    """Do what is missing in ``home`` of a study on the tree ``root``; what every judged condition scored, by name.

    Raises UserError for a condition that was begun with other choices, before anything is trained.
    """
    check_begun(study, home)
    prepare_stores(study, root, home / "store")
    trials, judged = held_out_trials(study, home / "store"), {}
    for number, condition in enumerate(study.conditions, 1):
        folder, place = home / condition.name, f"{study.name} {number}/{len(study.conditions)} {condition.name}"
        if not all((model / CONFIG).exists() for model in _models(condition, folder)):
            say(f"{place}: training, {condition.row}")
            _note(study, condition, folder)
            _share_latents(home / "latents", folder / "work" / "latents")
            train(recipe_of(study, condition, home))
        if study.judges(condition):
            model = _models(condition, folder)[condition.subjects.index(study.subject)]
            found = _held(folder / SCORES, model, trials)
            if found is None:
                say(f"{place}: judging")
                found = judge(model, trials)
                save_judged(found, folder / SCORES)
            judged[condition.name] = found
    return judged


def prepare_stores(study: Study, root: Path, home: Path) -> None:
    """Clean what the study reads, of every subject; what is there stays."""
    nsd, size = NSD(root), load_generator(GENERATOR).picture_size
    spec = WindowSpec(study.choices.offset, study.choices.length)
    for subject, sessions in study.needs().items():
        keys, _ = wanted_runs(nsd, subject, sessions)
        prepare_subject(nsd, subject, keys, store_home(home, subject), spec, KINDS, size)


def held_out_trials(study: Study, stores: Path) -> StoredTrials:
    """What all are judged on: one presentation of each picture of the held-out session, of the study's subject."""
    how = replace(study.choices.division, online=1.0)  # as they are served, whatever is learnt from
    trials = once(divide(open_store(store_home(stores, study.subject)), how).test, how.seed)
    return trials.chosen(np.arange(len(trials))[: study.trials])


def recipe_of(study: Study, condition: Condition, home: Path) -> Recipe:
    """How a condition is trained."""
    before = next((c for c in study.conditions if c.name == condition.pretrained), None)
    pretrained = None if before is None else _models(before, home / before.name)[0]
    return Recipe(
        "phantom", study.choices_of(condition), None, condition.subjects, home / condition.name, "embedded",
        home / "store", study.sessions_of(condition), pretrained=pretrained,
    )  # fmt: skip


def pictures_of(trials: StoredTrials) -> tuple[str, ...]:
    return tuple(trials.names[k] for k in trials.seen)


def trials_of(trials: StoredTrials) -> tuple[str, ...]:
    """What tells one trial from another: its run and its picture, shown once each of those that are judged."""
    runs = (trials.run_names[k] for k in trials.runs)
    return tuple(f"{run}/{picture}" for run, picture in zip(runs, pictures_of(trials), strict=True))


def _share_latents(shared: Path, own: Path) -> None:
    """Training keeps latents under a digest of pictures and VAE: what one condition computed serves the others."""
    shared.mkdir(exist_ok=True)
    own.parent.mkdir(exist_ok=True)
    if not own.is_symlink():
        own.symlink_to(Path("..") / ".." / shared.name, target_is_directory=True)


def _models(condition: Condition, folder: Path) -> list[Path]:
    """The model folder of each of a condition's subjects."""
    several = len(condition.subjects) > 1
    return [folder / f"subject-{subject:02d}" if several else folder for subject in condition.subjects]


def _held(path: Path, model: Path, trials: StoredTrials) -> Judged | None:
    """What was scored of this very model on these trials."""
    held = load_judged(path) if path.exists() else None
    if held is None or (held.model, held.trials) != (file_digest(model / CONFIG), trials_of(trials)):
        return None
    return held


def check_begun(study: Study, home: Path) -> None:
    """UserError where a condition in ``home`` was begun with other choices, or by something else."""
    for condition in study.conditions:
        _check_condition(study, condition, home / condition.name)


def _check_condition(study: Study, condition: Condition, folder: Path) -> None:
    if not folder.exists() or not any(folder.iterdir()):
        return
    note, now = folder / NOTE, study.resolved(condition)
    if not note.exists():
        raise UserError(f"{folder} holds what this study did not put there: give another folder with --out")
    begun = json.loads(note.read_text("utf-8"))
    if begun != now:
        raise UserError(
            f"{folder} was begun with other choices ({_differing(begun, now)}): give another folder with --out, "
            "or delete this one"
        )


def _differing(begun: dict[str, Any], now: dict[str, Any]) -> str:
    """The names of what is not the same, those of training choices themselves."""
    was, wanted = ({**side, **side["choices"]} for side in (begun, now))
    keys = (was.keys() | wanted.keys()) - {"choices"}
    return ", ".join(sorted(key for key in keys if was.get(key) != wanted.get(key)))


def _note(study: Study, condition: Condition, folder: Path) -> None:
    with atomic(folder / NOTE) as new:
        new.write_text(json.dumps(study.resolved(condition), indent=1) + "\n", "utf-8")


def likeness(
    painted: NDArray[np.uint8], shown: NDArray[np.uint8], encoder: ImageEncoder
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """R (n, n) of pictures painted and shown, (n, s, s, 3) each: in the encoder's tokens, and in coarse pixels."""

    def tokens(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        return encode_pictures(encoder, pictures).reshape(len(pictures), -1).astype(np.float64)

    spaces: tuple[Features, Features] = (tokens, pixel_features)
    in_tokens, in_pixels = (correlations(features(painted), features(shown)) for features in spaces)
    return in_tokens, in_pixels
