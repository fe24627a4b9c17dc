"""Whoever says something neither waits for the terminal nor fails with it."""

import io
import os
import subprocess
import sys
import threading

from realtime.screen.teller import Teller

SPEAKS = """
import sys, time
from realtime.screen.teller import Teller
with Teller() as say:
    for k in range(200):
        say(f"line {k}")
        time.sleep(0.005)
sys.stderr.write("done")
"""


def test_lines_come_in_order_and_all_before_it_ends():
    stream = io.StringIO()
    with Teller(stream) as say:
        for k in range(100):
            say(f"line {k}")
    assert stream.getvalue().splitlines() == [f"line {k}" for k in range(100)]


def test_a_terminal_that_takes_nothing_holds_up_nobody():
    taken, given = threading.Event(), threading.Event()

    class Paused(io.StringIO):
        def write(self, text):
            given.set()
            taken.wait(10)
            return super().write(text)

    stream = Paused()
    with Teller(stream) as say:
        for k in range(1000):
            say(f"line {k}")  # would wait for ever
        assert given.wait(5)
        taken.set()
    assert stream.getvalue().endswith("line 999\n")


def test_a_reader_that_goes_away_ends_nothing():
    """As in `realtime replay | head -1`."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    speaker = subprocess.Popen(
        [sys.executable, "-c", SPEAKS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert speaker.stdout.readline() == "line 0\n"
    speaker.stdout.close()
    wrong = speaker.stderr.read()
    speaker.stderr.close()
    assert (speaker.wait(20), wrong) == (0, "done")
