"""The live window: what was seen, what was reconstructed, which moment that is, and how fast it came.

`compose` is a pure function from a `View` to an image; `LiveWindow` shows it with OpenCV, whose window functions
must be called from the main thread. Knows no socket and no engine.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dynadiff.base.errors import UserError
from dynadiff.recordings.run import Event

WIDTH, HEIGHT, SIDE = 960, 560, 372  # pixels
LEFT, RIGHT, TOP = 68, 520, 92  # of the two pictures
Colour = tuple[int, int, int]  # RGB
GROUND, PANEL, LINE = (17, 19, 24), (27, 30, 37), (52, 57, 68)
INK, FAINT = (232, 235, 240), (138, 146, 160)
GOOD, TIGHT, LATE = (92, 196, 128), (235, 178, 72), (232, 92, 84)
EMPTY = np.full((HEIGHT, WIDTH, 3), GROUND, np.uint8)
BADGES: Mapping[str, Colour] = {"replayed": TIGHT, "live": LATE}


@dataclass(frozen=True, eq=False)
class Moment:
    """What a reconstruction is about."""

    volume: int  # newest volume of the window
    seen_row: int  # volume during which its picture was on the screen, below 0 before the run
    latency: float  # seconds, arrival of the volume to picture ready
    event: Event | None  # what was on the screen, None where that is unknown or nothing was
    onset: bool  # whether it appeared with that very volume
    stimulus: NDArray[np.uint8] | None  # (h, w, 3) RGB of the event, None where unknown


@dataclass(frozen=True, eq=False)
class View:
    """Everything that is drawn."""

    run: str = ""  # name, empty before the first run
    source: str = ""  # "replayed" or "live"
    tr: float = 1.0  # seconds
    planned: int = 0  # volumes
    received: int = 0
    painted: int = 0
    skipped: int = 0
    bad: int = 0  # volumes that were missing or marked
    lag: float = 0.0  # seconds that the newest volume had lain waiting when it was taken
    note: str = ""  # what is being waited for, or is wrong
    alarm: str = ""  # what cannot wait until the run is over
    score: str = ""  # how well the pictures so far are told apart, where what was seen is known
    events_known: bool = False
    moment: Moment | None = None
    reconstruction: NDArray[np.uint8] | None = None  # (h, w, 3) RGB of the moment

    @property
    def behind(self) -> bool:
        """Whether volumes lie waiting for so long that somebody should know."""
        return self.lag > self.tr / 2


def compose(view: View) -> NDArray[np.uint8]:
    """The window's content, RGB (HEIGHT, WIDTH, 3)."""
    image = EMPTY.copy()
    _header(image, view)
    _text(image, view.alarm, LEFT + SIDE, TOP - 12, 0.5, LATE, align=1)
    moment = view.moment
    nothing = "" if moment is None else "nothing was shown" if view.events_known else "not known"
    _panel(image, LEFT, "seen", moment.stimulus if moment else None, nothing)
    _panel(image, RIGHT, "reconstructed", view.reconstruction, view.note)
    if moment is not None:
        _text(image, _caption(view, moment), WIDTH // 2, 497, 0.5, INK, align=0.5)
        _latency_bar(image, moment.latency, view.tr)
        _text(image, view.score, RIGHT, 544, 0.42, INK, align=0.5)
        _text(image, view.note, RIGHT + SIDE, TOP - 12, 0.5, TIGHT, align=1)
    return image


def require_display(environment: Mapping[str, str], platform: str = sys.platform) -> None:
    """UserError where a window cannot be opened: Qt would abort the whole process instead."""
    if platform.startswith("linux") and not (environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY")):
        raise UserError("no display: add --headless, or run where a screen is attached")


class LiveWindow:
    """The OpenCV window. Closing it, q or Escape hides it for good; who shows views to it need not care."""

    def __init__(self, title: str) -> None:
        self._title = title
        self.open = True
        self._shown: View | None = None
        cv2.namedWindow(title, cv2.WINDOW_AUTOSIZE | cv2.WINDOW_GUI_NORMAL)

    def show(self, view: View) -> None:
        """Draw a new view, and let the window take its events; to be called often, from the main thread."""
        if not self.open:
            return
        if view is not self._shown:
            cv2.imshow(self._title, cv2.cvtColor(compose(view), cv2.COLOR_RGB2BGR))
            self._shown = view
        key = cv2.waitKey(1) & 0xFF
        if self._gone():
            self.open = False
        elif key in (ord("q"), 27):
            self.close()

    def close(self) -> None:
        if self.open:
            self.open = False
            cv2.destroyAllWindows()

    def _gone(self) -> bool:
        """Whether somebody closed it."""
        try:
            return bool(cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1)
        except cv2.error:  # Qt takes away what could answer together with the last window
            return True


def put_text(image: NDArray[np.uint8], text: str, x: int, y: int, scale: float, colour: Colour) -> None:
    """One line of text, its baseline starting at (x, y), drawn in place."""
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)


def text_width(text: str, scale: float) -> int:
    """Pixels that `put_text` takes up."""
    return cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0]


def fitted(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Picture scaled to fit a square of ``side`` pixels and centred on the panel's colour."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    if small.shape[:2] == (side, side):
        return np.asarray(small, np.uint8)
    square = np.full((side, side, 3), PANEL, np.uint8)
    y, x = (side - size[1]) // 2, (side - size[0]) // 2
    square[y : y + size[1], x : x + size[0]] = small
    return square


def _header(image: NDArray[np.uint8], view: View) -> None:
    cv2.rectangle(image, (0, 0), (WIDTH, 50), PANEL, cv2.FILLED)
    _text(image, view.run or "dynadiff", LEFT, 32, 0.55, INK)
    if view.source:
        colour, badge = BADGES[view.source], view.source.upper()
        x = RIGHT + SIDE - text_width(badge, 0.5) - 20
        cv2.rectangle(image, (x, 13), (RIGHT + SIDE, 38), colour, cv2.FILLED, cv2.LINE_AA)
        _text(image, badge, x + 10, 31, 0.5, GROUND)
        count = f"{view.received} of {view.planned} volumes"
        skipped = f", {view.skipped} skipped" if view.skipped else ""
        bad = f", {view.bad} bad" if view.bad else ""
        behind = f", {view.lag:.1f} s behind" if view.behind else ""
        _text(image, count + bad + skipped + behind, x - 16, 31, 0.5, LATE if behind else FAINT, align=1)


def _panel(image: NDArray[np.uint8], x: int, title: str, picture: NDArray[np.uint8] | None, empty: str) -> None:
    _text(image, title, x, TOP - 12, 0.5, FAINT)
    image[TOP : TOP + SIDE, x : x + SIDE] = PANEL if picture is None else fitted(picture, SIDE)
    cv2.rectangle(image, (x - 1, TOP - 1), (x + SIDE, TOP + SIDE), LINE)
    if picture is None:
        _text(image, empty, x + SIDE // 2, TOP + SIDE // 2, 0.5, FAINT, align=0.5)


def _caption(view: View, moment: Moment) -> str:
    """Which moment the reconstruction is about: the onset of its row, back from the end of the volume."""
    if moment.seen_row < 0:
        return f"volume {moment.volume}: a moment before the run"
    ago = (moment.volume + 1 - moment.seen_row) * view.tr
    shown = f"stimulus {label(moment.event)} at" if moment.event else "what was on the screen at"
    return f"volume {moment.volume}: {shown} row {moment.seen_row}, {ago:.1f} s ago"


def label(event: Event) -> str:
    """A stimulus in few words."""
    if event.picture and event.category:
        return f"{event.picture} ({event.category})"
    return event.picture or event.category or "without a name"


def _latency_bar(image: NDArray[np.uint8], latency: float, tr: float) -> None:
    """Time from the volume to the picture; the full width is one TR."""
    share = latency / tr
    colour = GOOD if share < 0.5 else TIGHT if share < 1 else LATE
    y, width = 520, RIGHT + SIDE - LEFT
    cv2.rectangle(image, (LEFT, y), (LEFT + width, y + 6), LINE, cv2.FILLED)
    cv2.rectangle(image, (LEFT, y), (LEFT + round(width * min(share, 1)), y + 6), colour, cv2.FILLED)
    _text(image, f"{1000 * latency:.0f} ms from volume to picture", LEFT, y + 24, 0.42, colour)
    _text(image, f"TR {1000 * tr:.0f} ms", LEFT + width, y + 24, 0.42, FAINT, align=1)


def _text(
    image: NDArray[np.uint8], text: str, x: int, y: int, scale: float, colour: Colour, align: float = 0.0
) -> None:
    """Text that begins (align 0), is centred (0.5) or ends (1) at x."""
    put_text(image, text, x - round(align * text_width(text, scale)), y, scale, colour)
