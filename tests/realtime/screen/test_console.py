"""Names that came over the network are shown as they are: rich would take brackets for markup, or stumble over them."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from realtime.cli import _console
from realtime.screen.console import Reporter, report
from realtime.screen.display import View

NAME = "[/bold] [link=http://x]run[/link] :smile:"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_name_in_brackets_is_only_a_name(terminal):
    said = io.StringIO()
    console = Console(file=said, force_terminal=terminal, width=200, markup=False, emoji=False, color_system=None)
    with Reporter(console) as reporter:
        view = View(run=NAME, planned=50)
        for received in (1, 25):
            reporter(replace(view, received=received, note=NAME))
    assert NAME in said.getvalue()


def test_the_console_of_the_commands_reads_no_markup(capsys, tmp_path):
    summary = {
        "volumes_received": 1, "volumes_expected": 1, "reconstructions": 0, "skipped": 0, "latency_ms": {},
        "lag_ms": {}, "caught_up": 0, "bad_volumes": {},
    }  # fmt: skip
    console = _console()
    for line in [*report(tmp_path / NAME.replace("/", ""), summary), NAME]:
        console.print(line, soft_wrap=True)
    assert NAME in capsys.readouterr().out
