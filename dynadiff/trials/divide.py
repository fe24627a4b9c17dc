"""Which trials are learnt from and which are held out: of a store, of several subjects' stores, or of a tree.

Knows stores and splits; knows no network and no training.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dynadiff.base.errors import UserError
from dynadiff.recordings.held_out import HeldOut, Trial
from dynadiff.recordings.nsd import NSD
from dynadiff.signal.windows import WindowSpec
from dynadiff.trials.source import nsd_runs
from dynadiff.trials.splits import Presentations, one_repetition, secret_pictures, split
from dynadiff.trials.store import Store, StoredTrials

Divided = dict[str, StoredTrials]  # by subject


@dataclass(frozen=True)
class Division:
    """How trials become windows, and which of them are learnt from."""

    rule: str  # of `dynadiff.trials.splits.split`
    window: WindowSpec
    online: float  # share of windows that are cleaned online
    seed: int  # of what a rule draws


def divide_all(
    stores: Mapping[str, Store], how: Division, sessions: Sequence[int] | None = None
) -> tuple[Divided, Divided]:
    """`divide` for every subject. What the rule makes secret, for one is tested on it, is learnt from by none."""
    parts = {name: divide(store, how, sessions) for name, store in stores.items()}
    tested = {test.names[k] for _, test in parts.values() for k in test.seen}
    secret = sorted(secret_pictures(how.rule, (), tested))
    learn = {name: part.chosen(np.flatnonzero(~np.isin(np.array(part.names)[part.seen], secret)))
             for name, (part, _) in parts.items()}  # fmt: skip
    return learn, {name: test for name, (_, test) in parts.items()}


def divide(store: Store, how: Division, sessions: Sequence[int] | None = None) -> tuple[StoredTrials, StoredTrials]:
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
    parts = split(how.rule, Presentations(pictures, runs, trials.sessions.tolist()), store.shared, how.seed)
    return trials.chosen(parts.learn), trials.chosen(parts.test)


def once(trials: StoredTrials, seed: int) -> StoredTrials:
    """One repetition of each picture, to look at."""
    return trials.chosen(one_repetition([trials.names[k] for k in trials.seen], np.arange(len(trials)), seed))


def judged_on(
    nsd: NSD, subject: int, held: HeldOut, listed: Collection[Trial] | None
) -> tuple[frozenset[Trial], frozenset[Trial]]:
    """Of the trials in a tree, those that a baseline may learn from, and those that a model may be judged on.

    ``listed`` was held out of the model's training, and nothing else is judged; None where the rule needs no list.
    Reads designs alone. Raises UserError where the tree has nothing for one of the two.
    """
    runs = list(nsd_runs(nsd, subject, nsd.sessions(subject)))
    session = {Trial.of(run.name, event): run.session for run in runs for event in run.events}
    shared = {str(number) for number in nsd.shared_ids()}
    if listed is None:
        listed = {trial for trial in session if trial.picture in shared}
    test = frozenset(session.keys() & listed)
    secret = secret_pictures(held.rule, shared, {trial.picture for trial in listed})
    learn = frozenset(
        trial
        for trial in session.keys() - test
        if trial.picture not in secret and (held.sessions is None or session[trial] in held.sessions)
    )
    if not test:
        raise UserError(f"{nsd.root} has no trial that was held out of the model: give the tree that it was trained on")
    if not learn:
        raise UserError(f"{nsd.root} has no trial for baselines to learn from: add the sessions that the model learnt")
    return learn, test
