"""The real window on a real X server: however it is closed, whoever shows views to it goes on."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("Xlib", reason="python-xlib is not installed: pip install '.[dev]'")
if not (shutil.which("Xvfb") and sys.platform.startswith("linux")):
    pytest.skip("there is no Xvfb: apt-get install xvfb", allow_module_level=True)

from Xlib import XK, X
from Xlib.display import Display
from Xlib.error import DisplayConnectionError
from Xlib.ext import xtest
from Xlib.protocol import event

ROOT = Path(__file__).parents[3]
SHOW = """
import time
from dataclasses import replace
from realtime.screen.display import LiveWindow, View
window, view = LiveWindow("Dynadiff"), View(run="a run", source="live", planned=9)
until = time.monotonic() + 20
while window.open and time.monotonic() < until:
    window.show(replace(view, received=view.received + 1))
    time.sleep(0.02)
for _ in range(5):
    window.show(view)
window.close()
print("open" if time.monotonic() >= until else "closed", flush=True)
"""


@pytest.fixture
def screen(tmp_path, monkeypatch):
    """A display of its own, and its name."""
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", "1", "-screen", "0", "1280x800x24", "-nolisten", "tcp"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    name = f":{server.stdout.readline().strip()}"
    monkeypatch.setenv("DISPLAY", name)
    yield name
    server.terminate()
    server.communicate()


def found(display: Display, title: str, limit_s: float = 15.0):
    """The top window of that title, once it is drawn."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        for window in display.screen().root.query_tree().children:
            if window.get_wm_name() == title and window.get_attributes().map_state == X.IsViewable:
                return window
        time.sleep(0.05)
    raise AssertionError(f"no window {title}")


def ask_to_close(display: Display, window) -> None:
    """What a window manager does when its cross is clicked."""
    protocols, delete = (display.intern_atom(name) for name in ("WM_PROTOCOLS", "WM_DELETE_WINDOW"))
    window.send_event(event.ClientMessage(window=window, client_type=protocols, data=(32, [delete, 0, 0, 0, 0])))


def press(display: Display, window, key: str) -> None:
    """A key, the window having the focus, which without a window manager nobody gives it."""
    window.set_input_focus(X.RevertToParent, X.CurrentTime)
    display.sync()
    code = display.keysym_to_keycode(XK.string_to_keysym(key))
    for kind in (X.KeyPress, X.KeyRelease):
        xtest.fake_input(display, kind, code)


@pytest.mark.parametrize("how", ["cross", "q", "Escape"])
def test_a_window_that_is_closed_ends_nothing(screen: str, how: str) -> None:
    shown = subprocess.Popen([sys.executable, "-c", SHOW], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        display = Display(screen)
    except DisplayConnectionError as error:
        pytest.skip(f"no display: {error}")
    window = found(display, "Dynadiff")
    time.sleep(0.3)
    if how == "cross":
        ask_to_close(display, window)
    else:
        press(display, window, how)
    display.sync()
    out, _ = shown.communicate(timeout=30)
    display.close()
    assert (shown.returncode, out) == (0, "closed\n")
