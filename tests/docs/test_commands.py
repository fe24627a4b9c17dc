"""Commands of the documentation that no other test types in: keys, a bad link, and a small phantom."""

import os
import signal
import socket
import subprocess
import sys

import pytest

PROGRAM = "from realtime.cli import main; main()"
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def realtime(*words):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, words)], env=ENVIRONMENT, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("consumers", [(), ("decoder", "viewer")])
def test_keys_are_made_for_those_who_are_named(consumers, tmp_path):
    done = realtime("keys", tmp_path / "feed", *consumers)
    assert (done.returncode, done.stderr) == (0, "")
    made = {path.name for path in (tmp_path / "feed").iterdir()}
    secrets = {f"{name}.key_secret" for name in consumers or ("decoder",)}
    assert made == {"allowed", "feed.key", "feed.key_secret"} | secrets


def test_a_phantom_of_one_run_is_written(tmp_path):
    done = realtime("phantom", "--root", tmp_path / "tree", "--subjects", 1, "--runs", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 of 1: subject 1 session 1 run 2" in done.stdout
    assert len(list((tmp_path / "tree").rglob("*.nii.gz"))) > 1


def test_a_bad_link_stands_until_it_is_interrupted_and_says_what_it_did(free_address):
    link = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "faults", "--lost", "0.05", "--damaged", "0.05", "--bind", free_address],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert link.stdout.readline().startswith("passing on tcp://127.0.0.1:5560 at")
    host, port = free_address.removeprefix("tcp://").split(":")
    socket.create_connection((host, int(port)), 1).close()  # it listens when it says so
    link.send_signal(signal.SIGINT)
    said, wrong = link.communicate(timeout=20)
    assert (link.returncode, said.splitlines()[-1], wrong) == (0, "nothing came", "")
