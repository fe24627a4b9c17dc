"""`dynadiff evaluate` and `study`: how good a decoder is, and the tables of the documentation."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from dynadiff.assets import EMBEDDED
from dynadiff.base.errors import UserError
from dynadiff.base.numbers import numbers
from dynadiff.cli.options import (
    Guided,
    Quality,
    Root,
    Spaced,
    Steps,
    check_tree,
    models_of,
    need_torch,
    say,
    tree_or_phantom,
)

CAUSAL_SESSIONS = 8  # of a tree, or as many as it has
RECORDED = ("haxby", "miyawaki")  # studies of recordings, which the user gives
NAMES = ("phantom", "brain", "trainable", "subjects", "causal", *RECORDED)


def evaluate(
    model: Annotated[
        list[Path] | None, typer.Option(help="Model folder, repeatable: one a subject; the embedded one without it.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for scores.json and pictures; goes on with what is there.")
    ] = None,
    root: Root = None,
    weights: Annotated[Path | None, typer.Option(help="Folder with the networks of the ten metrics.")] = None,
    setting: Annotated[str, typer.Option(help="Of the ten metrics: dynadiff or mindeye.")] = "dynadiff",
    segmentation: Annotated[
        Path | None, typer.Option(help="Folder that takes pictures for the release's segmentation: mIoU.")
    ] = None,
    trials: Annotated[
        Literal["one", "averaged", "all"],
        typer.Option(help="Of each picture: one repetition, the averaged windows of all, or all by themselves."),
    ] = "one",
    seeds: Annotated[str, typer.Option(help="Of the noise that pictures start from, as 0 or 0-2.")] = "0",
    against: Annotated[
        list[Path] | None, typer.Option(help="scores.json of another model on the same trials, repeatable.")
    ] = None,
    on: Annotated[
        Literal["validation", "test"], typer.Option(help="Trials to choose by, or those that are reported.")
    ] = "test",
    steps: Steps = None,
    guidance: Guided = None,
    spacing: Spaced = None,
    quality: Quality = None,
) -> None:
    """Score what was held out of a model's training, beside baselines, ceiling and chance."""
    noise = tuple(numbers("--seeds", seeds))
    folders = [found for given in model or [EMBEDDED] for found in models_of(given)]
    if out is not None and out.is_file():
        raise UserError(f"{out} is a file: give --out a folder")
    if segmentation is not None and segmentation.is_file():
        raise UserError(f"{segmentation} is a file: give --segmentation a folder")
    if weights is not None and not weights.is_dir():
        raise UserError(f"there is no folder {weights}: make it, and put the published weights of the judges there")
    from dynadiff.engines.choice import sampler_named

    sampler = sampler_named(steps, guidance, spacing, quality)
    need_torch()
    from dynadiff.scores.settings import setting_named

    setting_named(setting)
    check_tree(root, {})
    from accelerate import Accelerator

    from dynadiff.evaluation.evaluate import How
    from dynadiff.evaluation.report import print_compared, print_evaluation
    from dynadiff.evaluation.run import Asked, run_evaluation
    from dynadiff.evaluation.scored import load_evaluation
    from dynadiff.training.processes import open_processes

    def tree(subject: int, sessions: Sequence[int] | None) -> Path:
        return tree_or_phantom(root, {subject: sessions})

    others = tuple((path, load_evaluation(path)) for path in against or ())
    accelerator: Accelerator = open_processes()
    asked = Asked(folders, tree, How(trials, noise, on, sampler), weights, setting, out, others, segmentation)
    evaluation, compared = run_evaluation(asked, accelerator)
    if accelerator.is_main_process:
        print_evaluation(evaluation)
        print_compared(evaluation, compared)
        if out is not None:
            say(f"scores: {out}/scores.json\na page with tables and pictures: {out}/report.html")


def study(
    name: Annotated[
        str,
        typer.Argument(
            help="phantom: how real it is; brain, trainable, subjects: the paper's comparisons, on it; "
            "causal: ways to clean a run that is not over; haxby, miyawaki: real recordings, all folds."
        ),
    ],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the recording (haxby, miyawaki); that of all recordings (causal).")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where it keeps what it has done.")] = Path("studies"),
    root: Root = None,
    subject: Annotated[int | None, typer.Option(help="Whose brain (phantom, causal); 1 without it.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A minute, to see that it runs: its figures mean nothing.")
    ] = False,
) -> None:
    """Remake a table of docs/results.md."""
    if name not in NAMES:
        raise UserError(f"there is no study {name!r}: choose {', '.join(NAMES[:-1])} or {NAMES[-1]}")
    if name in RECORDED and data is None:
        raise UserError(f"the {name} study needs the recording: give its folder with --data")
    if data is not None and not data.is_dir():
        raise UserError(f"there is no folder {data}: give the folder of the recording with --data")
    _check_options(name, {"--data": data, "--root": root, "--subject": subject, "--quick": quick})
    whose = 1 if subject is None else subject
    check_tree(root, {whose: None} if name in ("phantom", "causal") else {})
    if name != "phantom":
        need_torch()
    if name == "phantom":
        from dynadiff.studies.phantom import SESSIONS
        from dynadiff.studies.report import print_phantom

        print_phantom(tree_or_phantom(root, {whose: SESSIONS}), whose)
    elif name == "causal":
        _causal(root, whose, data, out / name, quick)
    elif name in RECORDED and data is not None:
        from dynadiff.studies.haxby.study import print_haxby
        from dynadiff.studies.miyawaki import print_miyawaki

        if name == "haxby":
            print_haxby(data, out, say)
        else:
            print_miyawaki(data, out, quick)
    else:
        from dynadiff.studies.ablations import study_named
        from dynadiff.studies.report import print_study
        from dynadiff.studies.running import check_begun, run_study

        asked = study_named(name, quick)
        check_begun(asked, out / asked.name)
        print_study(asked, run_study(asked, tree_or_phantom(root, asked.needs()), out / asked.name, say))


def _causal(root: Path | None, subject: int, data: Path | None, home: Path, quick: bool) -> None:
    """One recording at a time, so that one is in memory: the tree, and of ``data`` what it holds."""
    folders = [] if data is None else [data / "haxby_slice", data / "studyforrest_localizer"]
    if folders and not any(folder.is_dir() for folder in folders):
        raise UserError(f"{data} holds neither haxby_slice nor studyforrest_localizer: give the folder that does")
    from dynadiff.studies.causal import study
    from dynadiff.studies.causal.cleaners import CLEANERS, QUICK
    from dynadiff.studies.causal.runs import sessions_of

    def tree() -> study.Material:
        wanted = range(1, (2 if quick else CAUSAL_SESSIONS) + 1)
        there = tree_or_phantom(root, {subject: wanted})
        return study.tree_material(there, subject, sessions_of(there, subject, len(wanted)))

    def haxby(folder: Path) -> study.Material:
        return study.haxby_material(folder, home)

    ways: list[Callable[[Path], study.Material]] = [haxby, study.localizer_material]
    recordings: list[Callable[[], study.Material]] = [tree]
    recordings += [partial(way, folder) for way, folder in zip(ways, folders, strict=False) if folder.is_dir()]
    for recording in recordings:
        material = recording()
        outcomes = study.run_material(material, QUICK if quick else CLEANERS, home, say)
        study.print_causal(material, outcomes)
        study.write_causal(material, outcomes, home)
    say(f"every window's scores: {home}/*.json")


def _check_options(name: str, given: dict[str, object]) -> None:
    """UserError for an option that says nothing to this study."""
    own = {
        "phantom": ("--root", "--subject"),
        "causal": ("--root", "--data", "--subject", "--quick"),
        "haxby": ("--data",),
        "miyawaki": ("--data", "--quick"),
    }
    known = own.get(name, ("--root", "--quick"))
    if idle := [option for option, value in given.items() if value not in (None, False) and option not in known]:
        raise UserError(f"{idle[0]} says nothing to the {name} study, which takes {' and '.join(known)}: leave it out")
