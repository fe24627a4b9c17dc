"""Which trials are learnt from and which are held out: of a store, of several subjects' stores, or of a tree.

Knows stores and splits; knows no network and no training.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dynadiff.base.errors import UserError
from dynadiff.recordings.held_out import VALIDATED, HeldOut, Lists, Part, Trial
from dynadiff.recordings.nsd import NSD
from dynadiff.signal.windows import WindowSpec
from dynadiff.trials.source import TEST_SESSION, nsd_runs
from dynadiff.trials.splits import Presentations, check_first, one_repetition, secret_pictures, split
from dynadiff.trials.store import Store, StoredTrials


@dataclass(frozen=True)
class Division:
    """How trials become windows, and which of them are learnt from."""

    rule: str  # of `dynadiff.trials.splits.split`
    window: WindowSpec
    online: float  # share of windows that are cleaned online
    seed: int  # of what a rule draws


@dataclass(frozen=True, eq=False)
class Parts:
    """A subject's trials: those to learn from, and those that are held out."""

    learn: StoredTrials
    test: StoredTrials
    validation: StoredTrials | None  # None: the rule has none

    @property
    def held(self) -> dict[Part, StoredTrials]:
        """What is held out, by what it is for."""
        parts: dict[Part, StoredTrials | None] = {"validation": self.validation, "test": self.test}
        return {part: trials for part, trials in parts.items() if trials is not None}

    @property
    def watched(self) -> StoredTrials:
        """What a training may look at on its way: never the test."""
        return self.learn if self.validation is None else self.validation


def divide_all(stores: Mapping[str, Store], how: Division, sessions: Sequence[int] | None = None) -> dict[str, Parts]:
    """`divide` for every subject. What the rule makes secret, for it is held out of one, is learnt from by none."""
    parts = {name: divide(store, how, sessions) for name, store in stores.items()}
    held = {trials.names[k] for part in parts.values() for trials in part.held.values() for k in trials.seen}
    secret = sorted(secret_pictures(how.rule, (), held))
    return {name: replace(part, learn=_without(part.learn, secret)) for name, part in parts.items()}


def _without(trials: StoredTrials, pictures: Sequence[str]) -> StoredTrials:
    return trials.chosen(np.flatnonzero(~np.isin(np.array(trials.names)[trials.seen], pictures)))


def divide(store: Store, how: Division, sessions: Sequence[int] | None = None) -> Parts:
    """Trials to learn from, and those that are held out; of some sessions or of all.

    Raises UserError where the store lacks a session.
    """
    trials = StoredTrials(store, how.window, how.online < 1, how.online > 0)
    if sessions is not None:
        if gone := sorted(set(sessions) - set(trials.sessions.tolist())):
            raise UserError(f"{store.home} lacks session {gone[0]}: name others, or prepare a store that has it")
        trials = trials.chosen(np.flatnonzero(np.isin(trials.sessions, list(sessions))))
    pictures = [trials.names[k] for k in trials.seen]
    runs = [trials.run_names[k] for k in trials.runs]
    presented = Presentations(pictures, runs, trials.sessions.tolist())
    parts = split(how.rule, presented, store.shared, how.seed, TEST_SESSION)
    validation = trials.chosen(parts.validation) if how.rule in VALIDATED else None
    return Parts(trials.chosen(parts.learn), trials.chosen(parts.test), validation)


def once(trials: StoredTrials, seed: int) -> StoredTrials:
    """One repetition of each picture, to look at."""
    return trials.chosen(one_repetition([trials.names[k] for k in trials.seen], np.arange(len(trials)), seed))


def judged_on(
    nsd: NSD, subject: int, held: HeldOut, lists: Lists, part: Part = "test"
) -> tuple[frozenset[Trial], frozenset[Trial]]:
    """Of the trials in a tree, those that a baseline may learn from, and those of a part that a model may be judged on.

    ``lists`` were held out of the model's training, and nothing else is judged; a test that is not listed is the shared
    pictures. Reads designs alone. Raises UserError where the tree has nothing for one of the two, the model has no
    trials for that part, or its lists name what its rule learns from.
    """
    runs = list(nsd_runs(nsd, subject, nsd.sessions(subject)))
    session = {Trial.of(run.name, event): run.session for run in runs for event in run.events}
    shared = {str(number) for number in nsd.shared_ids()}
    first = {trial.picture for trial, number in session.items() if number == TEST_SESSION}
    check_first(held.rule, first, TEST_SESSION)
    parts = {"test": frozenset(trial for trial in session if trial.picture in shared)} | dict(lists)
    if part not in parts:
        raise UserError(
            f"the split {held.rule} holds out no trials for {part}: judge the model on others with --on, "
            f"or train one with --split {VALIDATED[0]}"
        )
    if held.rule in VALIDATED:
        _check_lists(parts["test"], parts["validation"], shared)
    listed = frozenset().union(*parts.values())
    test = session.keys() & parts[part]
    secret = secret_pictures(held.rule, shared, {trial.picture for trial in listed}, first)
    learn = frozenset(
        trial
        for trial in session.keys() - listed
        if trial.picture not in secret and (held.sessions is None or session[trial] in held.sessions)
    )
    if not test:
        raise UserError(f"{nsd.root} has no trial that was held out of the model: give the tree that it was trained on")
    if not learn:
        raise UserError(f"{nsd.root} has no trial for baselines to learn from: add the sessions that the model learnt")
    return learn, frozenset(test)


def _check_lists(test: Collection[Trial], validation: Collection[Trial], shared: Collection[str]) -> None:
    """UserError for a picture on a list where the rule does not put it: it may have been learnt, or chosen by."""
    tested, validated = ({trial.picture for trial in trials} for trials in (test, validation))
    if strays := sorted((tested - set(shared)) | (validated & set(shared))):
        raise UserError(
            f"picture {strays[0]} is on a list of the model where its split does not put it, by what this tree says is "
            "shared: give the tree that it was trained on"
        )
