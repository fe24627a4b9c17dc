"""Which trials are learnt from and which are held out: of a store, of several subjects' stores, or of a tree.

Knows stores and splits; knows no network and no training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.progress import track

from dynadiff.base.errors import UserError
from dynadiff.recordings.nsd import NSD
from dynadiff.signal.cleaning import Cleaning
from dynadiff.signal.windows import WindowSpec
from dynadiff.trials.source import TEST_SESSION, Trials, collect, held_out, nsd_runs
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
    """Trials to learn from, and one repetition of each test picture to look at meanwhile; of some sessions or of all.

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
    return trials.chosen(parts.learn), trials.chosen(one_repetition(pictures, parts.test, how.seed))


def nsd_trials(nsd: NSD, subject: int, cleaning: Cleaning, spec: WindowSpec, size: int) -> tuple[Trials, Trials]:
    """Trials to learn from, and the held-out first session none of whose pictures is among them."""
    mask, secret = nsd.mask(subject), held_out(nsd, subject)
    rest = [s for s in nsd.sessions(subject) if s != TEST_SESSION]
    if not rest:
        raise UserError(
            f"only session {TEST_SESSION} of subject {subject} is there: it is held out, add other sessions"
        )
    runs = track(list(nsd_runs(nsd, subject, rest)), "reading runs")
    learn = collect(runs, mask, cleaning, spec, size, lambda event: not secret(event), single=True)
    return learn, collect(nsd_runs(nsd, subject, [TEST_SESSION]), mask, cleaning, spec, size, single=True)
