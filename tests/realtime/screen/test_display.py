"""What the window says, drawn into an image; and that nothing opens a window where there is no display."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from dynadiff.base.errors import UserError
from dynadiff.recordings.run import Event
from realtime.screen import display
from realtime.screen.display import (
    HEIGHT,
    LATE,
    LEFT,
    RIGHT,
    SIDE,
    TOP,
    WIDTH,
    Moment,
    View,
    compose,
    require_display,
)

RED, BLUE = np.zeros((2, 8, 8, 3), np.uint8)
RED[...], BLUE[...] = (200, 0, 0), (0, 0, 200)
MOMENT = Moment(57, 49, 0.2, Event(49, 3, "46003", "house"), True, RED)
VIEW = View(
    run="sub-01_run-12", source="replayed", tr=4 / 3, planned=226, received=58, painted=53, events_known=True,
    moment=MOMENT, reconstruction=BLUE,
)  # fmt: skip


@pytest.fixture
def said(monkeypatch):
    """Everything that is written into an image."""
    texts: list[str] = []
    draw = cv2.putText

    def note(image, text, *rest):
        texts.append(text)
        return draw(image, text, *rest)

    monkeypatch.setattr(cv2, "putText", note)
    return texts


def test_stimulus_and_reconstruction_are_shown_side_by_side():
    image = compose(VIEW)
    middle = TOP + SIDE // 2
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.dtype == np.uint8
    assert tuple(image[middle, LEFT + SIDE // 2]) == (200, 0, 0)
    assert tuple(image[middle, RIGHT + SIDE // 2]) == (0, 0, 200)


def test_it_says_which_moment_how_late_and_that_it_is_replayed(said):
    compose(VIEW)
    assert "volume 57: stimulus 46003 (house) at row 49, 12.0 s ago" in said  # from onset to the end of volume 57
    assert "200 ms from volume to picture" in said
    assert {"REPLAYED", "58 of 226 volumes", "TR 1333 ms"} <= set(said)
    said.clear()
    compose(replace(VIEW, source="live", skipped=2))
    assert {"LIVE", "58 of 226 volumes, 2 skipped"} <= set(said)


@pytest.mark.parametrize(
    ("view", "text"),
    [
        (View(note="waiting for a run at tcp://127.0.0.1:5560"), "waiting for a run at tcp://127.0.0.1:5560"),
        (replace(VIEW, note="no volume for 9 s"), "no volume for 9 s"),
        (replace(VIEW, moment=replace(MOMENT, event=None, stimulus=None)), "nothing was shown"),
        (replace(VIEW, moment=replace(MOMENT, event=None, stimulus=None), events_known=False), "not known"),
        (replace(VIEW, moment=replace(MOMENT, volume=6, seen_row=-2)), "volume 6: a moment before the run"),
    ],
)
def test_it_says_what_is_not_there(view, text, said):
    compose(view)
    assert text in said


def test_the_score_stands_between_latency_and_tr_and_touches_neither(monkeypatch):
    ends: dict[str, tuple[int, int]] = {}
    draw = display.put_text

    def note(image, text, x, y, scale, colour):
        ends[text] = (x, x + display.text_width(text, scale))
        draw(image, text, x, y, scale, colour)

    monkeypatch.setattr(display, "put_text", note)
    score = "two-way 100 % [100, 100], chance up to 100 % (100 trials, by the decoder's own tokens)"
    compose(replace(VIEW, score=score, moment=replace(MOMENT, latency=123.4)))
    assert ends["123400 ms from volume to picture"][1] < ends[score][0] < ends[score][1] < ends["TR 1333 ms"][0]
    assert "" in ends  # without an alarm or a note nothing is written
    ends.clear()
    compose(VIEW)
    assert score not in ends


def test_a_missed_deadline_is_seen():
    def alarmed(latency):
        image = compose(replace(VIEW, source="", moment=replace(MOMENT, latency=latency)))
        return bool((image == LATE).all(axis=2).any())

    assert alarmed(1.4)
    assert not alarmed(1.2)


@pytest.mark.parametrize("shape", [(40, 20), (1, 300), (512, 512), (372, 372), (7, 900)])
def test_pictures_of_any_shape_fit(shape):
    picture = np.full((*shape, 3), 255, np.uint8)
    fitted = display.fitted(picture, 100)
    white = (fitted == 255).all(axis=2)
    assert fitted.shape == (100, 100, 3)
    rows, columns = white.any(axis=1).sum(), white.any(axis=0).sum()
    assert max(rows, columns) == 100
    assert rows / columns == pytest.approx(shape[0] / shape[1], rel=0.05) or min(rows, columns) == 1


def test_without_a_display_it_says_what_to_add():
    with pytest.raises(UserError, match="no display: add --headless"):
        require_display({}, "linux")
    with pytest.raises(UserError, match="no display"):
        require_display({"DISPLAY": ""}, "linux")
    require_display({"DISPLAY": ":0"}, "linux")
    require_display({"WAYLAND_DISPLAY": "wayland-0"}, "linux")
    require_display({}, "darwin")


class Desktop:
    """OpenCV's window functions, without a screen."""

    WINDOW_AUTOSIZE, WND_PROP_VISIBLE, COLOR_RGB2BGR = (
        cv2.WINDOW_AUTOSIZE,
        cv2.WND_PROP_VISIBLE,
        cv2.COLOR_RGB2BGR,
    )

    def __init__(self, key=-1, visible=1.0):
        self.key, self.visible, self.shown, self.destroyed = key, visible, [], 0

    def __getattr__(self, name):
        return getattr(cv2, name)

    def namedWindow(self, title, flags): ...
    def imshow(self, title, image):
        self.shown.append(image)

    def waitKey(self, ms):
        return self.key

    def getWindowProperty(self, title, what):
        if self.visible is None:
            raise cv2.error("NULL guiReceiver (please create a window)")
        return self.visible

    def destroyAllWindows(self):
        self.destroyed += 1


@pytest.mark.parametrize(("key", "visible"), [(ord("q"), 1.0), (27, 1.0), (-1, 0.0), (-1, None)])
def test_a_closed_window_stays_closed_and_bothers_nobody(key, visible, monkeypatch):
    desktop = Desktop(key, visible)
    monkeypatch.setattr(display, "cv2", desktop)
    window = display.LiveWindow("test")
    window.show(VIEW)
    window.show(replace(VIEW, received=59))
    window.close()
    assert len(desktop.shown) == 1
    assert desktop.destroyed == (key != -1)  # what somebody closed is not there to be destroyed
    assert not window.open


def test_the_window_draws_what_is_new_only_and_in_the_order_of_opencv(monkeypatch):
    desktop = Desktop()
    monkeypatch.setattr(display, "cv2", desktop)
    window = display.LiveWindow("test")
    for view in (VIEW, VIEW, replace(VIEW, received=59)):
        window.show(view)
    assert len(desktop.shown) == 2
    assert tuple(desktop.shown[0][TOP + SIDE // 2, LEFT + SIDE // 2]) == (0, 0, 200)  # red, as BGR
