"""`dynadiff study haxby`: which of eight categories did a person look at? Haxby et al. (2001), one slice, twelve runs.

Each run is left out in turn, named by who has learnt from the other eleven, and kept; the table is made of what is
kept. Knows folders and the order of things; what a fold does is `dynadiff.studies.haxby.fold`, the arithmetic of the
table `dynadiff.studies.haxby.figures`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dynadiff.base.files import atomic, file_digest
from dynadiff.recordings.bids import bids_runs
from dynadiff.recordings.masks import read_mask
from dynadiff.recordings.run import Run
from dynadiff.studies.haxby.figures import Figures, figures
from dynadiff.studies.haxby.fold import Paint, choices, material, name_windows, painted
from dynadiff.studies.haxby.kept import (
    MODEL,
    PAINTED,
    VERSIONS,
    Fold,
    Place,
    begin,
    begun,
    check_begun,
    held,
    save_fold,
)
from dynadiff.studies.haxby.linear import OPPONENTS
from dynadiff.studies.haxby.report import print_figures
from dynadiff.studies.haxby_slice import haxby_to_bids

Say = Callable[[str], None]


def print_haxby(data: Path, out: Path, say: Say, paint: Paint = painted) -> None:
    """Run what is missing of the twelve folds in OUT/haxby, print the table, and write it as OUT/haxby/haxby.json."""
    home = out / "haxby"
    if not (home / "bids").exists():
        haxby_to_bids(data, home / "bids")
    runs = bids_runs(home / "bids", "1")
    mask = read_mask(home / "bids" / "sub-1_mask.nii.gz", runs[0].shape)
    found = figures(run_folds(runs, mask, home, say, paint))
    print_figures(found)
    write_figures(found, home / "haxby.json")
    say(f"these figures: {home}/haxby.json\nevery window's scores: {home}/scores")


def run_folds(runs: Sequence[Run], mask: NDArray[np.bool_], home: Path, say: Say, paint: Paint = painted) -> list[Fold]:
    """Every run left out once; what ``home`` holds scores of is neither trained nor painted again.

    Raises UserError for a fold that was begun with other choices, before anything is trained.
    """
    chosen = {**choices(runs, mask), "named by": (PAINTED, *OPPONENTS)}
    places = [(Place(home, number), begun(chosen, run.name)) for number, run in enumerate(runs, 1)]
    for place, now in places:
        check_begun(place, now)
    folds = []
    for left_out, (place, now) in enumerate(places):
        fold = held(place)
        if fold is None:
            say(f"haxby {place.number}/{len(runs)}: {runs[left_out].name} left out")
            begin(place, now)
            one = material(runs, mask, left_out)
            named = name_windows(one, place.decoder, paint)
            scores = {PAINTED: named.painted, **named.classified}
            fold = Fold(
                runs[left_out].name, one.categories, tuple(named.blocks.tolist()), tuple(named.shown.tolist()),
                {who: tuple(map(tuple, rows.tolist())) for who, rows in scores.items()}, named.strengths,
                file_digest(place.decoder / MODEL), now,
            )  # fmt: skip
            save_fold(fold, place.scores)
        folds.append(fold)
    return folds


def write_figures(found: Figures, path: Path) -> None:
    with atomic(path) as new:
        new.write_text(VERSIONS.write(found), "utf-8")
