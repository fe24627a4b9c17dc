"""Names that came over the network are shown as they are: rich would take brackets for markup, or stumble over them."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from realtime.cli import _console
from realtime.screen.console import Reporter, report, state
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


def test_the_score_so_far_stands_in_the_line_and_every_score_of_the_end_has_one_with_its_name(tmp_path):
    score = "two-way 87 % [79, 93], chance up to 62 % (14 trials, by pixels)"
    assert score in state(View(run="a run", planned=50, score=score))
    assert ", ," not in state(View(run="a run", planned=50))
    scores = {
        "n_trials": 14, "features": "pixels", "two_way": 0.87, "ci95": [0.79, 0.93], "n_way": 9, "top1": 0.4,
        "chance": {"top1": 0.1111},
    }  # fmt: skip
    summary = {
        "volumes_received": 1, "volumes_expected": 1, "reconstructions": 0, "skipped": 0, "latency_ms": {},
        "lag_ms": {}, "caught_up": 0, "bad_volumes": {}, "identification": scores,
        "identification_beside": [scores | {"features": "the decoder's own tokens"}],
    }  # fmt: skip
    told = [line for line in report(tmp_path, summary) if line.startswith("identification")]
    assert told == [
        f"identification of 14 trials by {space}: two-way 87.0% [79.0%, 93.0%], chance 50%; "
        "9-way top-1 40.0%, chance 11.1%"
        for space in ("pixels", "the decoder's own tokens")
    ]
