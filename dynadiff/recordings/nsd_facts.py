"""The Natural Scenes Dataset in numbers (Allen et al., 2022, Nature Neuroscience 25, 116-126). Knows no file.

Counts are of the runs that are published, prepared at 1.8 mm.
"""

SUBJECTS = 8
SESSIONS = {1: 40, 2: 40, 3: 32, 4: 30, 5: 40, 6: 32, 7: 40, 8: 30}  # scan sessions of each subject
TASK_RUNS = 12  # of a scan session; in sessions of 14 runs the first and the last are resting state
RESTING_FROM = 21  # sessions with a resting run before and after the task runs
RESTING_TO = {subject: 38 if subject in (1, 5) else 30 for subject in SESSIONS}

TR = 4 / 3  # seconds
VOLUMES, ROWS = 226, 225  # of a run, and of its design: row i belongs to volume i, the last volume has no row
TRIAL_ROWS = 3  # a trial is 4 s; its picture stays 3 s, into the third volume
SESSION_TRIALS = 750

IMAGES, SHARED, OWN = 73_000, 1_000, 9_000  # all of them; seen by every subject; seen by one subject only
REPEATS = 3  # of every image a subject sees

SHAPE_1, VOXELS_1 = (81, 104, 83), 15_724  # subject 1: the matrix, and nsdgeneral within it


def file_runs(subject: int, session: int) -> dict[int, int]:
    """By the file number of every run of a session: its task run, 1 to 12, or 0 where it is resting state."""
    if RESTING_FROM <= session <= RESTING_TO[subject]:
        return {1: 0, **{task + 1: task for task in range(1, TASK_RUNS + 1)}, TASK_RUNS + 2: 0}
    return {task: task for task in range(1, TASK_RUNS + 1)}
