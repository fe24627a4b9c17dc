"""`dynadiff evaluate` and `study`: how good a decoder is, and the tables of the documentation."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from dynadiff.base.errors import UserError
from dynadiff.cli.options import Model, Root, Subject, model_or_embedded, need_torch, say, tree_or_phantom

RECORDED = ("haxby", "miyawaki")  # studies of recordings, which the user gives
NAMES = ("phantom", "brain", "trainable", "subjects", *RECORDED)


def evaluate(model: Model = None, root: Root = None, seed: int = 0) -> None:
    """Identify the trials that were held out of a model's training, beside baselines, ceiling and chance."""
    need_torch()
    from dynadiff.evaluation.report import print_evaluation

    print_evaluation(model_or_embedded(model), partial(tree_or_phantom, root), seed)


def study(
    name: Annotated[
        str,
        typer.Argument(
            help="phantom: how real it is; brain, trainable, subjects: the paper's comparisons, on it; "
            "haxby, miyawaki: real recordings, all folds."
        ),
    ],
    data: Annotated[Path | None, typer.Option(help="Folder of the recording (haxby, miyawaki).")] = None,
    out: Annotated[Path, typer.Option(help="Where it keeps what it has done.")] = Path("studies"),
    root: Root = None,
    subject: Subject = 1,
    quick: Annotated[
        bool, typer.Option("--quick", help="A minute, to see that it runs: its figures mean nothing.")
    ] = False,
) -> None:
    """Remake a table of docs/results.md."""
    if name not in NAMES:
        raise UserError(f"there is no study {name!r}: choose {', '.join(NAMES[:-1])} or {NAMES[-1]}")
    if name in RECORDED and data is None:
        raise UserError(f"the {name} study needs the recording: give its folder with --data")
    if name != "phantom":
        need_torch()
    if name == "phantom":
        from dynadiff.studies.phantom import SESSIONS
        from dynadiff.studies.report import print_phantom

        print_phantom(tree_or_phantom(root, subject, SESSIONS), subject)
    elif name in RECORDED and data is not None:
        from dynadiff.studies.haxby import print_haxby
        from dynadiff.studies.miyawaki import print_miyawaki

        if name == "haxby":
            print_haxby(data, out)
        else:
            print_miyawaki(data, out, quick)
    else:
        from dynadiff.studies.ablations import study_named
        from dynadiff.studies.report import print_study
        from dynadiff.studies.running import run_study

        asked = study_named(name, quick)
        trees = [tree_or_phantom(root, whose, sessions) for whose, sessions in asked.needs().items()]
        print_study(asked, run_study(asked, trees[0], out / asked.name, say))
