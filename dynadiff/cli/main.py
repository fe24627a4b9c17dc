"""The application: which commands there are."""

import typer

from dynadiff.base import commands
from dynadiff.cli.data import import_, prepare
from dynadiff.cli.export import export, sampler
from dynadiff.cli.judge import evaluate, study
from dynadiff.cli.train import train

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train, judge and export decoders of images from fMRI time series.",
)
for command in (train, prepare, evaluate, export, sampler, study):
    app.command()(command)
app.command("import")(import_)


def main() -> None:
    """The command `dynadiff`."""
    commands.run(app)
