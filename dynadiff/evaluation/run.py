"""What `dynadiff evaluate` does: eyes opened, every model judged on what was held out of it, all of it kept.

Knows folders and the order of things; what is painted stands in `evaluate`, what is scored in `columns`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from dynadiff.assets import JUDGE
from dynadiff.base.errors import UserError
from dynadiff.base.files import atomic, file_digest
from dynadiff.evaluation.against import Compared, check_alike, check_trials, compared
from dynadiff.evaluation.columns import LITE0, OWN, Eyes, Remembering
from dynadiff.evaluation.evaluate import LIBRARIES, How, Judged, Tree, evaluate, judged
from dynadiff.evaluation.page.report import Gallery, html_report
from dynadiff.evaluation.scored import Column, Evaluation, Subject
from dynadiff.networks.image_encoder import ImageEncoder, encode_pictures
from dynadiff.networks.model_folder import generator_folder, load_config
from dynadiff.phantom.judge import SceneJudge
from dynadiff.phantom.tree import is_phantom
from dynadiff.scores.judges.open import INSTALL, has_lite0, open_judges, open_lite0
from dynadiff.scores.judges.segmentation import Segmentation
from dynadiff.scores.settings import setting_named
from dynadiff.scores.ten import Eye

REPORT = "report.html"
NO_SEGMENTATION = "mIoU: the release's segmentation has an environment of its own: give --segmentation a folder for it"


@dataclass(frozen=True)
class Asked:
    """What is to be evaluated."""

    models: Sequence[Path]
    tree: Tree
    how: How
    weights: Path | None = None  # folder of the ten metrics' networks
    setting: str = "dynadiff"
    out: Path | None = None  # where everything is kept
    against: Sequence[tuple[Path, Evaluation]] = ()  # what was kept of other models
    segmentation: Path | None = None  # folder in which mIoU's pictures and label maps are exchanged


def run_evaluation(asked: Asked, accelerator: Accelerator | None = None) -> tuple[Evaluation, Compared]:
    """Judge every model; what was found, and how it compares, both in ``out`` too, beside a page for people.

    Raises UserError where a model has no list of what was held out, the tree has none of it, or another evaluation is
    of other trials.
    """
    whose = [load_config(folder).subject for folder in asked.models]
    if len(set(whose)) < len(whose):
        raise UserError("two models are of one subject: evaluate each by itself, with another --out")
    setting, device = setting_named(asked.setting), str(accelerator.device) if accelerator else "cpu"
    metrics, missing = ({}, []) if asked.weights is None else open_judges(asked.weights, setting, device)
    lacking = [str(line) for line in missing]
    if asked.weights is None:
        lacking.append(
            "those of the ten metrics that need networks: give --weights a folder with them, see docs/metrics.md"
        )
    is_main = accelerator is None or accelerator.is_main_process
    segment = None if asked.segmentation is None else Segmentation(asked.segmentation, setting, write=is_main)
    files = {name: digest for judge in metrics.values() for name, digest in judge.files.items()}
    spaces: dict[str, Eye] = {}
    if has_lite0():
        outside = open_lite0(device)
        spaces[LITE0], files = Remembering(outside), files | dict(outside.files)
    else:
        lacking.insert(0, f"the judge EfficientNet-Lite0, an eye from outside, is not installed: {INSTALL}")
    subjects: list[Subject] = []
    columns: dict[str, Column] = {}
    galleries: dict[str, Gallery] = {}
    data = set()
    for folder in asked.models:
        given = judged(folder, asked.tree, asked.how)
        drawn = is_phantom(given.root)
        data.add("phantom" if drawn else "nsd")
        for path, theirs in asked.against:  # before anything is painted
            check_alike(path, theirs, "phantom" if drawn else "nsd", asked.how.on, asked.how.repetitions, setting.name)
            check_trials(path, theirs, given.model.config.subject, given.names)
        files |= {JUDGE.name: file_digest(JUDGE)} if drawn else {}
        eyes = Eyes(spaces | _own(given, lacking), SceneJudge() if drawn else None, metrics, setting, segment)
        part, found, painted = evaluate(given, eyes, asked.how, asked.out, accelerator)
        subjects.append(part)
        columns |= {column.key: column for column in found}
        galleries[part.subject] = Gallery(given.shown, painted)
    if segment is not None:
        files |= segment.files
        lacking += [segment.lacking] if segment.lacking else []
    elif "miou" in setting.sides:
        lacking.append(NO_SEGMENTATION)
    whole = Evaluation(
        "phantom" if data == {"phantom"} else "nsd", asked.how.repetitions, asked.how.seeds, setting.name,
        tuple(columns.values()), tuple(subjects), files, tuple(dict.fromkeys(lacking)),
        {name: version(name) for name in LIBRARIES}, asked.how.on,
    )  # fmt: skip
    if asked.out is not None and is_main:
        whole.save(asked.out)
    found_against = compared(whole, asked.against)
    if asked.out is not None and is_main:
        if asked.against:
            found_against.save(asked.out)
        with atomic(asked.out / REPORT) as new:
            new.write_text(html_report(whole, galleries, found_against), "utf-8")
    return whole, found_against


def _own(given: Judged, lacking: list[str]) -> dict[str, Eye]:
    """The decoder's own token space, where its generator has an image encoder."""
    home = generator_folder(given.model.config.generator, given.folder) / "image_encoder"
    if not home.is_dir():
        lacking.append(f"its own tokens: the generator of {given.folder.name} has no image encoder of its own")
        return {}
    encoder = ImageEncoder.load(home)

    def tokens(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        return encode_pictures(encoder, pictures).reshape(len(pictures), -1)

    return {OWN: Remembering(tokens)}
