"""A decode that dies anywhere and is started again with the same folder leaves what one leaves that did not die."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dynadiff.base.errors import UserError
from realtime.decoding.decode import decode
from realtime.decoding.options import Options
from realtime.feed.recording import Recording
from realtime.feed.wire import Volume
from realtime.records.decode_folder import check_empty
from realtime.records.resume import earlier
from replay.pace import run_messages
from replay.server import serve

ROOT = Path(__file__).parents[3]
COUNTS = (
    "volumes_received",
    "windows",
    "reconstructions",
    "skipped",
    "run_digest",
    "identification",
    "identification_running",
)


class Died(BaseException):
    """As good as a kill: nothing is finished."""


def messages_of(run):
    return [m for _, m in run_messages(run, speed=0, run_uid="a" * 8)]


def left(folder):
    """What must not depend on whether the process died: pictures, recording, and what the summary counts."""
    names = [*sorted(folder.glob("reconstructions/*")), *folder.glob("montage.png")]
    summary = json.loads((folder / "summary.json").read_text())
    lines = [json.loads(line) for line in (folder / "volumes.jsonl").read_text().splitlines()]
    done = {line["volume"]: (line["done"], line.get("picture"), line.get("stimulus")) for line in lines}
    assert len(done) == len(lines)
    recording = Recording(folder / "feed.rec")
    assert sum(isinstance(message, Volume) for message in recording) == summary["volumes_received"]
    assert recording.position.digest == summary["run_digest"]
    return (
        {path.name: sha256(path.read_bytes()).hexdigest() for path in names},
        [summary[name] for name in COUNTS],
        done,
    )


@pytest.fixture
def run_to(make_decoder, listed_feed):
    """Decodes what is left of a run to a folder; dies when ``dies_at`` volumes have come."""

    def run(messages, folder, dies_at=None, **options):
        def watch(view):
            if view.received == dies_at:
                raise Died

        before = earlier(folder)
        rest = messages[before.recording.position.next_seq :] if before else messages
        decoder = make_decoder()
        decode(listed_feed(rest), decoder, Options(out=folder, **options), watch, before=before)
        return decoder.engine.windows

    return run


@pytest.fixture
def plain(monkeypatch):
    """Films and montages, which are made of the pictures, take longest: tests of many deaths do without."""
    monkeypatch.setattr("realtime.decoding.run.illustrate", lambda record, views: None)


@pytest.fixture
def whole(make_run, run_to, tmp_path):
    run_to(messages_of(make_run()), tmp_path / "whole")
    return left(tmp_path / "whole")


few = settings(
    max_examples=10, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@given(deaths=st.lists(st.integers(0, 30), min_size=1, max_size=3))
@settings(
    max_examples=15, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_wherever_it_dies_and_however_often(deaths, plain, whole, make_run, run_to, tmp_path_factory):
    folder, messages, resumed = tmp_path_factory.mktemp("died") / "out", messages_of(make_run()), 0
    for volume in [*sorted(deaths), None]:
        resumed += earlier(folder) is not None
        try:
            run_to(messages, folder, dies_at=volume)
            break
        except Died:
            continue
    assert left(folder) == whole
    assert json.loads((folder / "summary.json").read_text())["resumes"] == resumed


@given(recorded=st.floats(0, 1), written=st.floats(0, 1))
@settings(
    max_examples=15, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_wherever_its_files_are_torn(recorded, written, plain, whole, make_run, run_to, tmp_path_factory):
    folder, messages = tmp_path_factory.mktemp("torn") / "out", messages_of(make_run())
    with pytest.raises(Died):
        run_to(messages, folder, dies_at=20)
    for name, share in (("feed.rec", recorded), ("volumes.jsonl", written)):
        os.truncate(folder / name, int(share * (folder / name).stat().st_size))
    run_to(messages, folder)
    assert left(folder) == whole


def test_what_was_painted_is_not_painted_again(make_run, run_to, tmp_path):
    messages = messages_of(make_run())
    with pytest.raises(Died):
        run_to(messages, tmp_path / "out", dies_at=20)
    painted = len(list((tmp_path / "out").glob("reconstructions/*")))
    assert painted > 5
    assert len(run_to(messages, tmp_path / "out")) <= 25 - painted + 1  # it may have died between picture and line


@pytest.mark.parametrize(
    ("begun", "now", "said"),
    [
        ({}, {"seed": 1}, "begun with seed 0 and not 1"),
        ({"guidance": (5.0, 1.0, 1.0)}, {"guidance": (5.0, 5.0, 1.0)}, r"with guidance \[5.0, 1.0, 1.0\] and not"),
        ({"spacing": "ays"}, {}, "begun with spacing ays and not None"),
        ({}, {"quality": "exact"}, "begun with quality None and not exact"),
    ],
)
def test_other_choices_are_refused_and_nothing_is_touched(begun, now, said, make_run, run_to, tmp_path):
    messages = messages_of(make_run())
    with pytest.raises(Died):
        run_to(messages, tmp_path / "out", dies_at=20, **begun)
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    with pytest.raises(UserError, match=said):
        run_to(messages, tmp_path / "out", **now)
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == before
    assert run_to(messages, tmp_path / "out", **begun)  # what it was begun with goes on


def test_a_decode_that_ended_is_not_gone_on_with(make_run, run_to, tmp_path):
    run_to(messages_of(make_run()), tmp_path / "out")
    assert earlier(tmp_path / "out") is None
    with pytest.raises(UserError, match="in use"):
        check_empty(tmp_path / "out")
    assert earlier(tmp_path / "new") is None


DECODES = """
import importlib.util, sys
from hashlib import sha256
from pathlib import Path
from realtime.decoding.decode import decode
from realtime.decoding.options import Options
from realtime.feed.connection import Feed
from realtime.records.resume import earlier
spec = importlib.util.spec_from_file_location("shared", sys.argv[1])
shared = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shared)
out = Path(sys.argv[3])
before = earlier(out)
with Feed(sys.argv[2], "decoder", resume=before.recording.position if before else None) as feed:
    decode(feed, shared.linear_decoder(shared.small_mask()), Options(out=out), lambda view: None, before=before)
"""


def test_killed_processes_leave_what_one_leaves_that_lived(whole, make_run, free_address, tmp_path):
    messages = ((0.03 * k, m) for k, m in enumerate(messages_of(make_run())))
    server = threading.Thread(target=serve, args=(messages, free_address))
    server.start()
    out, kills = tmp_path / "out", 0
    command = [sys.executable, "-c", DECODES, str(ROOT / "tests" / "conftest.py"), free_address, str(out)]
    for wanted in (3, 9, 17, 99):
        process = subprocess.Popen(command, cwd=ROOT)
        while process.poll() is None and len(list(out.glob("reconstructions/*.png"))) < wanted:
            time.sleep(0.005)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    server.join(20)
    assert kills == 3
    assert process.returncode == 0
    assert left(out) == whole
    assert sum(isinstance(message, Volume) for message in Recording(out / "feed.rec")) == 30


DAMAGE = {
    "volumes.jsonl": [b"\xff\n", b"[]\n", b'{"volume": "x"}\n', b'{"volume": 1, "done": 2, "latency_ms": {}}\n', b"\n"],
    "run.json": [b"", b"{", b"[]", b'{"options": [], "model": {}, "resumes": 0}', b"[" * 10**5],
    "summary.json": [b"", b"null", b"{}", b'{"ended": null}'],
    "feed.rec": [b"no recording", b"\0" * 100],
}


@pytest.mark.parametrize(("name", "content"), [(n, c) for n, cs in DAMAGE.items() for c in cs])
def test_a_damaged_file_of_an_earlier_decode_is_named(name, content, make_run, run_to, tmp_path):
    with pytest.raises(Died):
        run_to(messages_of(make_run()), tmp_path / "out", dies_at=3)
    (tmp_path / "out" / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        earlier(tmp_path / "out")
