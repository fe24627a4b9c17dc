"""A disk that is full stops the recording, and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from realtime.feed.recording import Recording

ROOT = Path(__file__).parents[3]
DECODES = """
import importlib.util, json, resource, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("shared", sys.argv[1])
shared = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shared)
from realtime.decoding.decode import decode
from realtime.decoding.options import Options
from replay.pace import run_messages
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))  # no file grows beyond this
views = []
feed = shared.ListedFeed([m for _, m in run_messages(shared.small_run(), speed=0, run_uid="aaaa")])
_, summary = decode(feed, shared.linear_decoder(shared.small_mask()), Options(out=Path(sys.argv[2])), views.append)
print(json.dumps([summary, sorted({view.alarm for view in views}), feed.confirmed is not None]))
"""


def decoded(out: Path, limit: int) -> tuple[dict, list[str], bool]:
    command = [sys.executable, "-c", DECODES, str(ROOT / "tests" / "conftest.py"), str(out), str(limit)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def unhindered(tmp_path_factory):
    return decoded(tmp_path_factory.mktemp("whole") / "out", 10**9)


@pytest.mark.parametrize("limit", [20, 300, 700, 3000, 12_000])
def test_decoding_goes_on_to_the_end_and_says_that_it_is_not_recorded(limit, unhindered, tmp_path):
    whole, quiet, _ = unhindered
    summary, alarms, confirmed = decoded(tmp_path / "full", limit)
    assert (whole["recording"], quiet) == ("complete", [""])
    assert summary["recording"] == "stopped: File too large"
    assert "not recorded: File too large" in alarms
    assert confirmed
    counts = ("volumes_received", "windows", "reconstructions", "skipped", "run_digest", "cleaning_parity")
    assert [summary[name] for name in counts] == [whole[name] for name in counts]
    assert not list(tmp_path.rglob("*.part"))


def test_what_was_recorded_before_can_be_read(tmp_path):
    decoded(tmp_path / "full", 12_000)
    recording = Recording(tmp_path / "full" / "feed.rec")
    messages = list(recording)
    assert recording.torn
    assert 5 < len(messages) < 40
    lines = (tmp_path / "full" / "volumes.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines]
