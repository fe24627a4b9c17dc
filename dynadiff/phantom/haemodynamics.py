"""From what neurons did to what blood shows: the response of each voxel to a picture, and its sum over a run.

Knows seconds, volumes and voxels; knows no pictures and no noise.
"""

import numpy as np
from numpy.typing import NDArray

from dynadiff.phantom.head import Field
from dynadiff.recordings.nsd_facts import TR, VOLUMES

PICTURE_S = 3.0
HRF_VOLUMES = 24  # 32 s
EARLIEST_S, USUAL_S, LATEST_S = 4.0, 5.5, 8.0  # peak of the response to an impulse (Handwerker et al. 2004: 4 to 8 s)
UNDERSHOOT_S, UNDERSHOOT = 7.0, 0.2  # how long after the peak, and how deep beside it
STEP_S = 0.1


def haemodynamic_response(peak: Field, dispersion: Field) -> Field:
    """Response to a 3 s picture at the volumes that follow its onset, (24, V), of peak 1.

    A double gamma (Glover 1999, NeuroImage 9, 416-429) whose peak lies ``peak`` (V,) seconds after an impulse, kept
    within 4 and 8, and whose width is multiplied by ``dispersion`` (V,).
    """
    t = np.arange(0, HRF_VOLUMES * TR, STEP_S, dtype=np.float32)[:, None]
    peak, scale = np.clip(peak, EARLIEST_S, LATEST_S), np.float32(0.9) * dispersion
    impulse = _gamma(t, peak, scale) - UNDERSHOOT * _gamma(t, peak + np.float32(UNDERSHOOT_S), scale)
    total = np.vstack([np.zeros((1, len(peak))), np.cumsum(impulse, axis=0, dtype=np.float64)])
    ends = np.round(np.arange(HRF_VOLUMES) * TR / STEP_S).astype(int)
    boxcar = total[ends] - total[np.maximum(ends - round(PICTURE_S / STEP_S), 0)]
    return np.asarray(boxcar / boxcar.max(axis=0), np.float32)


def evoked(amplitudes: Field, onsets: NDArray[np.integer], hrf: Field) -> Field:
    """What pictures of amplitudes (n, V) at volumes ``onsets`` (n,) add to a run, (226, V): they add up linearly."""
    course = np.zeros((VOLUMES + HRF_VOLUMES, hrf.shape[1]), np.float32)
    for lag, weight in enumerate(hrf):
        course[onsets + lag] += amplitudes * weight
    return course[:VOLUMES]


def _gamma(t: Field, peak: Field, scale: Field) -> Field:
    """A gamma density without its factor: 1 at its peak."""
    power = peak / scale
    with np.errstate(divide="ignore"):
        return np.asarray(np.exp(power * (np.log(t / peak) - t / peak + 1)), np.float32)
