"""Two processes, one command: what the feed's process does or fails to do reaches the user."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from dynadiff.assets import EMBEDDED
from dynadiff.base.errors import UserError
from dynadiff.engines.contract import Decoder
from dynadiff.recordings.nsd import NSD
from dynadiff.recordings.nsd_facts import file_runs
from realtime import demo
from realtime.decoding import session
from realtime.decoding.options import Options


@pytest.fixture(scope="module")
def tree(phantom_of):
    """A phantom of one small run."""
    assert demo.RUN in file_runs(1, 1)
    return phantom_of([1], [1], [demo.RUN])


@pytest.fixture
def decoder(tree, request) -> Decoder:
    shared = request.config.pluginmanager.get_plugin(str(request.config.rootpath / "tests" / "conftest.py"))
    run = NSD(tree).run(1, 1, NSD(tree).runs(1, 1)[0])
    return replace(shared.linear_decoder(NSD(tree).mask(1)), affine=run.affine)


def test_a_whole_run_comes_through_both_processes(tree, decoder, monkeypatch, tmp_path):
    monkeypatch.setattr(session, "open_decoder", lambda kind, folder, sampler: decoder)
    monkeypatch.setattr(demo, "ensure_phantom", lambda *chosen: tree)
    said = io.StringIO()
    folder, _ = demo.demo(Options(model=str(EMBEDDED), out=tmp_path / "out"), 0, True, Console(file=said))
    summary = json.loads((folder / "summary.json").read_text())
    counts = ("volumes_expected", "volumes_received", "windows", "reconstructions", "skipped")
    assert [summary[name] for name in counts] == [226, 226, 221, 221, 0]
    assert summary["identification"]["n_trials"] == 62  # an even run
    assert summary["ended"] == "complete"
    assert "226 of 226 volumes" in said.getvalue()


def test_what_goes_wrong_in_the_second_process_is_told_here(tree, tmp_path):
    with pytest.raises(UserError, match="nowhere"), demo.feed_process(tmp_path / "nowhere", 1.0):
        pass


def test_the_second_process_ends_when_decoding_fails(tree, decoder, monkeypatch, tmp_path):
    other = replace(decoder, manifest=replace(decoder.manifest, subject="02"))
    monkeypatch.setattr(session, "open_decoder", lambda kind, folder, sampler: other)
    monkeypatch.setattr(demo, "ensure_phantom", lambda *chosen: tree)
    with pytest.raises(UserError, match="engine of subject 02"):
        demo.demo(Options(model=str(EMBEDDED), out=tmp_path / "out"), 0, True, Console(file=io.StringIO()))


def test_an_interrupted_demo_says_what_is_kept_and_that_its_feed_is_gone(
    tree, decoder, interrupted, monkeypatch, tmp_path
):
    monkeypatch.setattr(session, "open_decoder", lambda kind, folder, sampler: decoder)
    monkeypatch.setattr(demo, "ensure_phantom", lambda *chosen: tree)
    said = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        demo.demo(Options(model=str(EMBEDDED), out=tmp_path / "out"), 0, True, Console(file=said))
    kept, ends = said.getvalue().splitlines()[-2:]
    assert kept.startswith(f"interrupted: {tmp_path / 'out'} keeps what was received")
    assert ends == "the feed of a demo ends with it: start another demo, with another --out"
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["ended"] == "interrupted"
