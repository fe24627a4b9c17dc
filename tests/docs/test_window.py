"""The picture of the window in the documentation is made by the command beside it."""

import importlib.util
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from dynadiff.base.errors import UserError
from dynadiff.recordings.nsd import NSD
from realtime import demo

SCRIPT = Path(__file__).parents[2] / "docs" / "window.py"


def test_it_is_what_the_window_shows_of_the_picture_that_is_asked_for(phantom_of, request, monkeypatch):
    shared = request.config.pluginmanager.get_plugin(str(request.config.rootpath / "tests" / "conftest.py"))
    spec = importlib.util.spec_from_file_location("window", SCRIPT)
    window = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(window)
    tree = NSD(phantom_of([1], [1], [demo.RUN]))
    run = tree.run(1, 1, tree.runs(1, 1)[0])
    decoder = replace(shared.linear_decoder(tree.mask(1)), affine=run.affine)
    monkeypatch.setattr(window, "open_decoder", lambda kind, folder: decoder)
    monkeypatch.setattr(window, "ensure_phantom", lambda *chosen: tree.root)
    monkeypatch.setattr(window, "SPEED", 0.0)
    view = window.view_at(window.VOLUME)
    assert (view.run, view.moment.volume, view.moment.onset) == (run.name, window.VOLUME, True)
    assert view.reconstruction is not None
    assert view.moment.stimulus is not None
    monkeypatch.setattr(window, "feed_process", lambda root, speed: nullcontext("tcp://127.0.0.1:1"))
    monkeypatch.setattr(window, "decode", lambda *given: None)
    with pytest.raises(UserError, match="no picture was painted with volume 4"):
        window.view_at(4)
