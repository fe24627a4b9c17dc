"""The studies of the paper that compare models, on the phantom: brain module, what learns, and several subjects.

Careil, Benchetrit & King (2025), tables 2, 3, 6 and 8, figure 9. The paper's CLIP is the two-way identification of
image tokens here; its Alex2 and SSIM, of low-level vision, are the two-way identification of coarse pixels.
"""

from dataclasses import replace

from dynadiff.studies.plan import Comparison, Condition, Study, shortened
from dynadiff.training.presets import PHANTOM

LEARNT = 8  # sessions that the full models learn from; the first one is held out
FEW = (1, 2, 4, 8)


def _sessions(learnt: int) -> tuple[int, ...]:
    return tuple(range(1, learnt + 2))


# Seconds of one core: 0.07 a step of the warm start, 0.6 one of diffusion, 120 to judge a model on its 683 trials. So a
# condition takes about 4 min on two cores, and one of the ten of `SUBJECTS` 3 min. Windows that are learnt from are of
# whole runs, as the preset has them; those that are judged are cleaned online.
CHOICES = replace(PHANTOM, warm_start=1000, split="first-session")
SHORTER = replace(CHOICES, warm_start=600, steps=200)
QUICK = replace(CHOICES, warm_start=3, steps=3, batch=8, warmup=1, sampling_steps=4)
QUICK_SESSIONS, QUICK_TRIALS = (1, 2), 64

# table 2's full model has 97.45 in CLIP, where table 1 has 93.53 of the same model: the cell is probably Alex5
BRAIN = Study(
    "brain",
    "Table 2: the brain module",
    CHOICES,
    (
        Condition("full", "a timestep layer for each volume, aggregation at the output"),
        Condition("shared", "one timestep layer for all volumes", ("timestep_layers=shared",)),
        Condition("in", "aggregation of the voxels, at the input", ("aggregation=in",)),
    ),
    (
        Comparison("full", "in", "two_way", "CLIP 97.45 (93.53 in table 1) > 91.69"),
        Comparison("full", "shared", "two_way", "CLIP 97.45 (93.53 in table 1) > 90.44"),
        Comparison("in", "shared", "two_way", "CLIP 91.69 > 90.44"),
        Comparison("shared", "full", "two_way_pixels", "Alex2 94.87 > 94.67 (SSIM .29 < .34)"),
        Comparison("full", "in", "two_way_pixels", "Alex2 94.67 > 94.31, SSIM .34 > .28"),
        Comparison("shared", "in", "two_way_pixels", "Alex2 94.87 > 94.31, SSIM .29 > .28"),
    ),
    _sessions(LEARNT),
)

TRAINABLE = Study(
    "trainable",
    "Table 3: what learns of the U-Net",
    CHOICES,
    (
        Condition("lora", "adapters on the cross-attention"),
        Condition("cross-attention", "the cross-attention", ("trainable=cross-attention",)),
        Condition("linear", "all linear layers", ("trainable=linear",)),
        Condition("all", "everything", ("trainable=all",)),
        Condition("none", "nothing: frozen", ("trainable=none",)),
    ),
    (
        Comparison("lora", "none", "two_way", "CLIP 97.45 (93.53 in table 1) > 92.77"),
        Comparison("none", "cross-attention", "two_way", "CLIP 92.77 > 91.80"),
        Comparison("cross-attention", "linear", "two_way", "CLIP 91.80 > 90.27"),
        Comparison("linear", "all", "two_way", "CLIP 90.27 > 88.46"),
        Comparison("lora", "all", "two_way", "CLIP 97.45 (93.53 in table 1) > 88.46"),
        Comparison("linear", "cross-attention", "two_way_pixels", "Alex2 95.74 > 95.63, SSIM .36 > .33"),
        Comparison("linear", "lora", "two_way_pixels", "Alex2 95.74 > 94.67, SSIM .36 > .34"),
        Comparison("cross-attention", "lora", "two_way_pixels", "Alex2 95.63 > 94.67 (SSIM .33 < .34)"),
        Comparison("lora", "none", "two_way_pixels", "Alex2 94.67 > 92.78, SSIM .34 > .32"),
        Comparison("none", "all", "two_way_pixels", "Alex2 92.78 > 90.42, SSIM .32 > .29"),
    ),
    _sessions(LEARNT),
)

SUBJECTS = Study(
    "subjects",
    "Appendix E: several subjects, and a new one",
    SHORTER,
    (
        *(Condition(f"scratch-{n}", "subject 1 alone", sessions=_sessions(n)) for n in FEW),
        Condition("multi", "subjects 1 to 4 together", subjects=(1, 2, 3, 4)),
        Condition("others", "subjects 2 to 4 together", subjects=(2, 3, 4)),
        *(
            Condition(
                f"tuned-{n}", "subjects 2 to 4 first, then subject 1",
                sessions=_sessions(n), pretrained="others",
            )
            for n in FEW
        ),
    ),
    (
        *(Comparison(f"tuned-{n}", f"scratch-{n}", "two_way", "above where sessions are few (figure 9)") for n in FEW),
        Comparison("scratch-8", "multi", "two_way", "CLIP 93.02 > 92.66 (subject 1, tables 6 and 8)"),
        Comparison("scratch-8", "multi", "two_way_pixels", "Alex2 97.30 > 96.29 (subject 1, tables 6 and 8)"),
    ),
    _sessions(LEARNT),
)  # fmt: skip

STUDIES = {study.name: study for study in (BRAIN, TRAINABLE, SUBJECTS)}


def study_named(name: str, quick: bool) -> Study:
    """One of `STUDIES`, or its quick form."""
    study = STUDIES[name]
    return shortened(study, QUICK, QUICK_SESSIONS, QUICK_TRIALS) if quick else study
