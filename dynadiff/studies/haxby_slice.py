"""The one-slice reduction of Haxby et al. (2001) that PyMVPA distributes, as a BIDS data set.

Knows that reduction's folders and labels. The pictures that were seen are not part of it, so every block gets
one drawn for its category; the recordings are copied byte for byte, with their notice and licence.
"""

import csv
import json
import shutil
from pathlib import Path

import cv2

from dynadiff.base.errors import UserError
from dynadiff.phantom.scenes import draw_category
from dynadiff.recordings.nifti import open_bold

TR = 2.5  # seconds
SUBJECT = "sub-1"
TASK = "objectviewing"
BOLD = "bold_1slice.nii.gz"
Block = tuple[str, str, str]  # onset and duration in seconds as written, category
NOTICES = ("ATTRIBUTION.txt", "LICENSE-PyMVPA.txt")
CATEGORY = {"scrambledpix": "scrambled"} | {
    name: name for name in ("face", "house", "cat", "bottle", "scissors", "shoe", "chair", "scrambled")
}
PICTURE_SIZE = 256  # pixels

DESCRIPTION = {
    "Name": "Haxby et al. (2001), subject 1, one slice, with drawn stand-ins for the stimuli",
    "BIDSVersion": "1.10.0",
    "DatasetType": "raw",
    "License": "CC BY-SA 3.0",
    "Authors": ["Haxby, J.", "Gobbini, M.", "Furey, M.", "Ishai, A.", "Schouten, J.", "Pietrini, P."],
    "HowToAcknowledge": "Science 293, 2425-2430 (2001); reduction by the PyMVPA authors, see ATTRIBUTION.txt",
}
README = """Haxby et al. (2001), subject 1: the posterior half of one axial slice, 12 runs of 121 volumes.

The recordings and the mask are unchanged copies from the PyMVPA data folder; ATTRIBUTION.txt and
LICENSE-PyMVPA.txt say whose they are. The data are CC BY-SA 3.0: keep both files with every copy.

Changed here: folders and files are named as in BIDS; the label "scrambledpix" became "scrambled"; the event
tables gained stim_file. The pictures in stimuli/ are drawn stand-ins of the viewed category, one per block.
They are not the pictures that the person saw, and the order of those inside a block is unknown.
"""


def haxby_to_bids(source: Path, out: Path) -> None:
    """Write the folder ``source`` as a BIDS data set into ``out``, which must be new or empty.

    Raises UserError where a run, the mask or a notice is missing, or a run is not of TR 2.5 s.
    """
    runs = sorted((source / "runs").glob("run-[0-9][0-9][0-9]"))
    missing = [name for name in (*NOTICES, "mask.nii.gz") if not (source / name).is_file()]
    if missing or not runs:
        what = ", ".join(missing) or "runs/run-001"
        raise UserError(f"{source} lacks {what}: give the folder of the one-slice Haxby data, notices included.")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: give a new folder.")
    blocks = [_blocks(folder) for folder in runs]  # all is checked before anything is written
    (out / SUBJECT / "func").mkdir(parents=True)
    (out / "stimuli").mkdir()
    for name in NOTICES:
        shutil.copyfile(source / name, out / name)
    shutil.copyfile(source / "mask.nii.gz", out / f"{SUBJECT}_mask.nii.gz")
    (out / "dataset_description.json").write_text(json.dumps(DESCRIPTION, indent=2) + "\n", "utf-8")
    (out / f"task-{TASK}_bold.json").write_text(json.dumps({"TaskName": TASK, "RepetitionTime": TR}) + "\n", "utf-8")
    (out / "README").write_text(README, "utf-8")
    (out / ".bidsignore").write_text("\n".join((*NOTICES, "*_mask.nii.gz")) + "\n", "utf-8")
    for folder, shown in zip(runs, blocks, strict=True):
        _write_run(folder, shown, out)


def _write_run(folder: Path, blocks: list[Block], out: Path) -> None:
    number = int(folder.name[-3:])
    name = f"{SUBJECT}_task-{TASK}_run-{number:02d}"
    shutil.copyfile(folder / BOLD, out / SUBJECT / "func" / f"{name}_bold.nii.gz")
    lines = ["onset\tduration\ttrial_type\tstim_file"]
    for k, (onset, duration, category) in enumerate(blocks):
        stimulus = f"{category}_{number}.png"
        lines.append(f"{onset}\t{duration}\t{category}\t{stimulus}")
        # A number per picture, so that no two stand-ins share colours and place.
        picture = draw_category(category, 100 * number + k, PICTURE_SIZE)
        cv2.imwrite(str(out / "stimuli" / stimulus), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    (out / SUBJECT / "func" / f"{name}_events.tsv").write_text("\n".join(lines) + "\n", "utf-8")


def _blocks(folder: Path) -> list[Block]:
    """The blocks of a run whose volumes are what they must be."""
    bold, path = open_bold(folder / BOLD), folder / "bold_events.tsv"
    if bold.tr != TR:
        raise UserError(f"{bold.path} states a TR of {bold.tr} s and not {TR} s: copy it again.")
    if not path.is_file():
        raise UserError(f"{path} is missing: copy the event table there.")
    blocks = []
    for row in csv.DictReader(path.read_text("utf-8").splitlines(), delimiter="\t"):
        if row["trial_type"] not in CATEGORY:
            raise UserError(f"{path} has the label '{row['trial_type']}': use those of the Haxby data.")
        blocks.append((row["onset"], row["duration"], CATEGORY[row["trial_type"]]))
    return blocks
