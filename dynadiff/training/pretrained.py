"""A model that another subject's training starts from, and what it may have learnt of the tests to come.

Knows model folders and splits; knows no trials and no training.
"""

from pathlib import Path

from dynadiff.base.errors import UserError
from dynadiff.base.files import file_digest
from dynadiff.networks.model import Model
from dynadiff.networks.model_folder import CONFIG, load_held_out, load_model
from dynadiff.training.request import one_of
from dynadiff.trials.splits import SHARED_HELD_OUT


def load_pretrained(folder: Path) -> Model:
    return load_model(one_of(folder))


def identity(folder: Path) -> str:
    """Of a model folder: its configuration holds the digests of its weights."""
    return file_digest(one_of(folder) / CONFIG)[:12]


def learnt_before(folder: Path, rule: str, subject: str) -> tuple[str, ...]:
    """The subjects that a pretrained model has learnt from.

    Raises UserError where it may have learnt what ``rule`` is to hold out of the training on ``subject``: pictures that
    all subjects saw, or others of that very subject. Under "time-resolved" test pictures may recur in what is learnt,
    so other subjects may have seen them.
    """
    held, _ = load_held_out(one_of(folder))
    if rule != "time-resolved" and held.rule not in SHARED_HELD_OUT:
        raise UserError(
            f"{folder} was trained with split {held.rule} and may have learnt pictures that split {rule} tests: "
            "pretrain with --split standard, or give --split time-resolved, under which pictures may recur"
        )
    if rule != "standard" and subject in held.learnt_from:
        raise UserError(
            f"{folder} has learnt from subject {subject} and maybe what split {rule} tests: "
            "give a model of other subjects, or --split standard"
        )
    return held.learnt_from
