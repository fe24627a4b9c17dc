"""What is kept of a fold, so that the table needs no weights: a small JSON of its scores, and what they were made with.

    HOME/scores/fold-01.json     every window's scores, and the choices that they follow from
         fold-01/choices.json    what the decoder was begun with: its training goes on with nothing else
                 model.json …    the decoder

Knows files; knows no window and no network. A file that is damaged, of a later version, or begun with other choices is
refused in a sentence.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynadiff.base.documents import Plain, Versions, read_document
from dynadiff.base.errors import UserError
from dynadiff.base.files import atomic, file_digest

PAINTED = "Dynadiff's pictures"
NOTE, MODEL = "choices.json", "model.json"
VERSIONS = Versions()  # of scores/fold-NN.json, and of haxby.json, which nothing reads
Rows = tuple[tuple[float, ...], ...]  # (n, categories)


@dataclass(frozen=True)
class Fold:
    """A left-out run: what each window showed, and how each way to name it scored every category."""

    run: str
    categories: tuple[str, ...]
    blocks: tuple[int, ...]  # (n,) block of each window
    shown: tuple[int, ...]  # (n,) of the categories
    scores: dict[str, Rows]  # by who names
    strengths: dict[str, float]  # of the linear classifiers, as they were chosen
    model: str  # digest of what the decoder says of itself
    choices: Plain  # "named by" lists the decoder and its opponents

    def __post_init__(self) -> None:
        """Raises ValueError where windows and scores do not belong together."""
        n, c = len(self.shown), len(self.categories)
        if not n or len(self.blocks) != n or not all(0 <= k < c for k in self.shown):
            raise ValueError(f"{n} windows of {len(self.blocks)} blocks, {c} categories")
        who = self.choices.get("named by", ())
        if [*self.scores] != [*who] or [*self.strengths] != [*who[1:]]:
            raise ValueError(f"scores of {', '.join(self.scores)}")
        for name, rows in self.scores.items():
            if len(rows) != n or any(len(row) != c for row in rows):
                raise ValueError(f"the scores of {name} are not {n} windows of {c} categories")


@dataclass(frozen=True)
class Place:
    """Where a fold is kept: ``number`` counts from 1."""

    home: Path
    number: int

    @property
    def decoder(self) -> Path:
        return self.home / f"fold-{self.number:02d}"

    @property
    def scores(self) -> Path:
        return self.home / "scores" / f"fold-{self.number:02d}.json"


def begun(choices: Mapping[str, Any], run: str) -> Plain:
    """The choices of one fold, as JSON holds them."""
    return dict(json.loads(json.dumps({**choices, "left_out": run})))


def check_begun(place: Place, now: Plain) -> None:
    """UserError where scores or decoder of a fold were begun with other choices, or by something else."""
    if place.scores.exists():
        _check_same(place.scores, load_fold(place.scores).choices, now)
    if not place.decoder.exists() or not any(place.decoder.iterdir()):
        return
    note = place.decoder / NOTE
    if not note.exists():
        raise UserError(f"{place.decoder} holds what this study did not put there: give another folder with --out")
    try:
        was = json.loads(note.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{note} is damaged ({error}): delete {place.decoder}, and it is trained again") from None
    _check_same(place.decoder, was if isinstance(was, dict) else {}, now)


def begin(place: Place, now: Plain) -> None:
    """Note what a decoder is begun with, before anything else is in its folder."""
    with atomic(place.decoder / NOTE) as new:
        new.write_text(json.dumps(now, indent=1) + "\n", "utf-8")


def held(place: Place) -> Fold | None:
    """What was scored, unless nothing was, or by a decoder other than the one that is there. It need not be there."""
    if not place.scores.exists():
        return None
    fold, model = load_fold(place.scores), place.decoder / MODEL
    return fold if not model.exists() or file_digest(model) == fold.model else None


def save_fold(fold: Fold, path: Path) -> None:
    with atomic(path) as new:
        new.write_text(VERSIONS.write(fold), "utf-8")


def load_fold(path: Path) -> Fold:
    """Raises UserError for a file that is damaged, or of a version yet to come."""
    try:
        return read_document(VERSIONS.current(path.read_bytes(), path), Fold)
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): delete it, and the run is scored again") from None


def _check_same(path: Path, was: Plain, now: Plain) -> None:
    if was != now:
        raise UserError(
            f"{path} was begun with other choices ({', '.join(_differing(was, now))}): give another folder with --out, "
            "or delete this one"
        )


def _differing(was: Plain, now: Plain) -> Sequence[str]:
    """The names of what is not the same, those inside a group by themselves."""
    before, after = (_flat(side) for side in (was, now))
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def _flat(choices: Plain) -> Plain:
    groups = ({key: value} if not isinstance(value, dict) else {f"{key}.{k}": v for k, v in value.items()}
              for key, value in choices.items())  # fmt: skip
    return {key: value for group in groups for key, value in group.items()}
