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
from dynadiff.evaluation.scored import Column, Data, Evaluation, Subject
from dynadiff.networks.image_encoder import ImageEncoder, encode_pictures
from dynadiff.networks.model_folder import generator_folder, load_config
from dynadiff.phantom.judge import SceneJudge
from dynadiff.phantom.tree import is_phantom
from dynadiff.scores.judges.judge import Judge
from dynadiff.scores.judges.open import INSTALL, has_lite0, open_judges, open_lite0
from dynadiff.scores.judges.segmentation import Segmentation
from dynadiff.scores.settings import Setting, setting_named
from dynadiff.scores.ten import Eye

REPORT = "report.html"
NO_WEIGHTS = "those of the ten metrics that need networks: give --weights a folder with them, see docs/metrics.md"
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
    is_main = accelerator is None or accelerator.is_main_process
    opened = _open(asked, str(accelerator.device) if accelerator else "cpu", is_main)
    subjects: list[Subject] = []
    columns: dict[str, Column] = {}
    galleries: dict[str, Gallery] = {}
    data: set[Data] = set()
    for folder in asked.models:
        given = judged(folder, asked.tree, asked.how)
        data.add(_check_comparable(asked, given))
        part, found, painted = evaluate(given, _eyes(opened, given), asked.how, asked.out, accelerator)
        subjects.append(part)
        columns |= {column.key: column for column in found}
        galleries[part.subject] = Gallery(given.shown, painted)
    opened.close()
    whole = Evaluation(
        "phantom" if data == {"phantom"} else "nsd", asked.how.repetitions, asked.how.seeds, opened.setting.name,
        tuple(columns.values()), tuple(subjects), opened.files, tuple(dict.fromkeys(opened.lacking)),
        {name: version(name) for name in LIBRARIES}, asked.how.on,
    )  # fmt: skip
    if asked.out is not None and is_main:
        whole.save(asked.out)
    beside = compared(whole, asked.against)
    if asked.out is not None and is_main:
        if asked.against:
            beside.save(asked.out)
        with atomic(asked.out / REPORT) as new:
            new.write_text(html_report(whole, galleries, beside), "utf-8")
    return whole, beside


@dataclass
class _Opened:
    """Judges that serve every model, the digests of their files, and a line for each that could not be had."""

    setting: Setting
    spaces: dict[str, Eye]
    metrics: dict[str, Judge]
    segment: Segmentation | None
    files: dict[str, str]
    lacking: list[str]

    def close(self) -> None:
        """What is known of label maps only after the pictures have asked for them."""
        if self.segment is not None:
            self.files |= self.segment.files
            self.lacking += [self.segment.lacking] if self.segment.lacking else []
        elif "miou" in self.setting.sides:
            self.lacking.append(NO_SEGMENTATION)


def _open(asked: Asked, device: str, is_main: bool) -> _Opened:
    setting = setting_named(asked.setting)
    metrics, missing = ({}, []) if asked.weights is None else open_judges(asked.weights, setting, device)
    segment = None if asked.segmentation is None else Segmentation(asked.segmentation, setting, write=is_main)
    files = {name: digest for judge in metrics.values() for name, digest in judge.files.items()}
    lacking, spaces = [str(line) for line in missing], dict[str, Eye]()
    if has_lite0():
        outside = open_lite0(device)
        spaces[LITE0], files = Remembering(outside), files | dict(outside.files)
    else:
        lacking.insert(0, f"the judge EfficientNet-Lite0, an eye from outside, is not installed: {INSTALL}")
    if asked.weights is None:
        lacking.append(NO_WEIGHTS)
    return _Opened(setting, spaces, metrics, segment, files, lacking)


def _check_comparable(asked: Asked, given: Judged) -> Data:
    """Whose data these are. UserError, before anything is painted, where another evaluation is of other trials."""
    data: Data = "phantom" if is_phantom(given.root) else "nsd"
    for path, theirs in asked.against:
        check_alike(path, theirs, data, asked.how.on, asked.how.repetitions, asked.setting)
        check_trials(path, theirs, given.model.config.subject, given.names)
    return data


def _eyes(opened: _Opened, given: Judged) -> Eyes:
    """Whoever judges this model: its own tokens too, and the judge of scenes where scenes were seen."""
    drawn = is_phantom(given.root)
    opened.files |= {JUDGE.name: file_digest(JUDGE)} if drawn else {}
    spaces = opened.spaces | _own(given, opened.lacking)
    return Eyes(spaces, SceneJudge() if drawn else None, opened.metrics, opened.setting, opened.segment)


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
