"""What was on the screen at a volume."""

import numpy as np

from dynadiff.recordings.run import Event
from realtime.decoding.stimuli import Stimuli


def test_the_picture_of_a_row_is_known_once_it_has_come():
    stimuli, event, rgb = Stimuli([Event(3, 2, "a", "cat")]), Event(3, 2, "a", "cat"), np.zeros((2, 2, 3), np.uint8)
    assert stimuli.at(4) == (event, None)
    stimuli.add("a", rgb)
    assert stimuli.at(4) == (event, rgb)
    assert stimuli.at(2) == stimuli.at(5) == (None, None)


def test_pictures_that_no_event_names_are_not_kept():
    stimuli = Stimuli([Event(3, 2, "a")])
    for k in range(100):
        stimuli.add(f"other {k}", np.zeros((2, 2, 3), np.uint8))
    assert len(stimuli._pictures) == 0
