"""The way of a volume that docs/architecture.md lists is the one that a volume takes."""

import re
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from dynadiff.engines.choice import Sampler
from dynadiff.engines.open import open_decoder
from realtime.decoding.decode import decode
from realtime.decoding.options import Options
from realtime.feed.connection import Feed
from replay.pace import run_messages
from replay.server import serve

ROOT = Path(__file__).parents[2]
OURS = (f"{ROOT}/dynadiff/", f"{ROOT}/realtime/")
Call = tuple[str, str]  # file and name


def listed() -> dict[str, list[Call]]:
    """The calls of the page by the heading above them, in its order."""
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8").split("<!-- way -->")[1].split("<!-- /way -->")[0]
    parts: dict[str, list[Call]] = {}
    for line in text.split("\n"):
        if heading := re.match(r"\*\*(.+?)\*\*: (.+)", line):
            here = parts.setdefault(f"{heading[1]}: {heading[2]}", [])
        elif call := re.match(r"\d+\. `([\w./]+)::([\w.]+)`", line):
            here.append((call[1], call[2]))
    return parts


@pytest.fixture(scope="module")
def calls(request, tmp_path_factory) -> dict[str, list[Call]]:
    """What each thread of a decode calls, from the arrival of the seventh volume on."""
    shared = request.config.pluginmanager.get_plugin(str(ROOT / "tests" / "conftest.py"))
    decoder = open_decoder("onnx", threads=1, sampler=Sampler(2, 5.0))
    volumes = np.random.default_rng(0).normal(1000, 20, (8, *decoder.mask.shape)).astype("<i2")
    run = shared.small_run(
        n_volumes=8, events=False, shape=decoder.mask.shape, volumes=lambda: iter(volumes), tr=decoder.manifest.tr,
        affine=decoder.affine,
    )  # fmt: skip
    address: list[str] = []
    listening, found = threading.Event(), {"main": [], "painter": []}

    def ready(at: str) -> None:
        address.append(at)
        listening.set()

    messages = run_messages(run, speed=0, run_uid="aaaa")
    feed_thread = threading.Thread(target=serve, args=(messages, "tcp://127.0.0.1:*"), kwargs={"ready": ready})
    feed_thread.start()
    assert listening.wait(10)
    main, pushed = threading.current_thread(), []

    def note(frame, event, _):
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(OURS):
            name = Path(path).relative_to(ROOT).as_posix(), frame.f_code.co_qualname
            pushed.extend([0] * (name[1] == "RunDecoder.volume"))
            if len(pushed) >= 6:
                thread = threading.current_thread()
                found["main" if thread is main else thread.name.partition("_")[0]].append(name)

    before = sys.getprofile()
    out = tmp_path_factory.mktemp("way") / "out"
    with Feed(address[0], "decoder") as feed:
        threading.setprofile(note)  # for the painter, which begins now
        sys.setprofile(note)
        try:
            decode(feed, decoder, Options(out=out), lambda view: None)
        finally:
            sys.setprofile(before)
            threading.setprofile(None)
    feed_thread.join(20)
    return found


def in_order(wanted: list[Call], found: list[Call]) -> list[Call]:
    """Those of the wanted calls that do not come in ``found`` one after the other."""
    rest = iter(found)
    return [call for call in wanted if call not in rest]


def test_every_listed_call_is_made_in_its_thread_and_in_that_order(calls):
    into, painting, out = listed().values()
    after = calls["main"].index(("realtime/feed/connection.py", "Feed.receive"))
    assert in_order(into + out, calls["main"][after:]) == []
    assert in_order(painting, calls["painter"]) == []


def test_the_page_counts_what_it_lists():
    every = [call for part in listed().values() for call in part]
    assert len(set(every)) == len(every)
    said = re.search(r"^(\d+) calls in (\d+) modules", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    assert (int(said[1]), int(said[2])) == (len(every), len({path for path, _ in every}))


def test_no_call_between_is_left_out_but_helpers_of_a_file_and_checks(calls):
    """Every file that a volume passes is on the list, but those whose functions only check or hold values."""
    passed = {path for thread in calls.values() for path, _ in thread}
    of_the_end = ("realtime/records/outcome.py", "realtime/records/video.py", "dynadiff/scores", "realtime/screen")
    values = {
        "realtime/feed/ranges.py", "realtime/records/summary.py", "dynadiff/base/files.py",
        "dynadiff/base/documents.py", "realtime/decoding/decode.py", "dynadiff/recordings/pictures.py",
    }  # fmt: skip
    named = {path for part in listed().values() for path, _ in part}
    assert {path for path in passed - named - values if not path.startswith(of_the_end)} == set()
