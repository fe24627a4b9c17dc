"""Small phantoms, each run of which is computed once for all tests: a tree is links to the runs that it is to have."""

import fcntl
import os
from collections.abc import Collection
from pathlib import Path

from dynadiff.phantom.tree import write_tree
from dynadiff.recordings.nsd_facts import file_runs

SHAPES = {1: (12, 14, 10), 2: (11, 14, 10), 3: (12, 13, 10), 4: (12, 14, 10)}
OF_RUNS = ("timeseries", "design")  # folders whose files are of a run


def part_of(
    whole: Path, part: Path, subjects: Collection[int], sessions: Collection[int], runs: Collection[int]
) -> Path:
    """The tree ``part`` of these runs, to be read, after ``whole`` has been given what it lacks of them.

    It is what `write_tree` would have written, but that the files of pictures hold those of other runs too. Several
    processes may have parts of one tree: its writers wait for each other, from before there is a tree, and no file
    changes under a reader.
    """
    with whole.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_tree(whole, subjects, sessions, runs, shapes=SHAPES)
    wanted = {
        f"subj{subject:02}/{session:02}_run{run:02}"
        for subject in subjects
        for session in sessions
        for run, task_run in file_runs(subject, session).items()
        if task_run in runs or task_run == 0
    }
    for file in (path for path in whole.rglob("*") if path.is_file() and not path.name.startswith(".")):
        subject = next((name for name in file.parts if name.startswith("subj")), "")
        run = file.name.split(".")[0].split("_session")[-1]
        if (subject and int(subject[4:]) not in subjects) or (
            file.parent.name in OF_RUNS and f"{subject}/{run}" not in wanted
        ):
            continue
        link = part / file.relative_to(whole)
        link.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(file, link)
    return part
