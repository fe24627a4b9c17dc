"""The command line of the decoding machine. Knows options; a command imports what it starts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dynadiff.base import commands
from dynadiff.base.errors import UserError
from dynadiff.base.numbers import number, numbers

if TYPE_CHECKING:
    from rich.console import Console

    from realtime.decoding.options import Options

ADDRESS = "tcp://127.0.0.1:5560"
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Pictures from the brain, one for every fMRI volume, while the scanner runs.",
)

Engine = Annotated[str, typer.Option(help="onnx, torch, torch-compiled, trt or trt-rtx.")]
Model = Annotated[Path | None, typer.Option(help="Engine or model folder; the embedded one without it.")]
Out = Annotated[Path | None, typer.Option(help="Folder for what is decoded, or to go on with; in decodes/ without it.")]
Headless = Annotated[bool, typer.Option("--headless", help="Open no window.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the noise that every picture starts from.")]
Speed = Annotated[float, typer.Option(min=0, help="Times real time; 0 is as fast as the decoder takes it.")]
Share = Annotated[float, typer.Option(min=0, max=1, help="Share of messages.")]
KeyFolder = Annotated[
    Path | None, typer.Option("--keys", help="Folder of keys, or one NAME.key_secret: encrypt, see `realtime keys`.")
]
AnySpace = Annotated[
    bool, typer.Option("--any-space", help="Take a run that lies in another space than its mask: the voxels are right.")
]
Late = Annotated[
    bool | None,
    typer.Option("--skip/--no-skip", help="Skip windows when late; without either, live runs only."),
]


@app.command()
def demo(
    out: Annotated[Path | None, typer.Option(help="New folder for what is decoded; in decodes/ without it.")] = None,
    speed: Speed = 4.0,
    headless: Headless = False,
    engine: Engine = "onnx",
    model: Model = None,
) -> None:
    """Serve a run of the phantom subject and decode it, in two processes."""
    from realtime.demo import demo as run_demo

    run_demo(_options(engine, model, out=out), speed, headless, _console())


@app.command()
def decode(
    engine: Engine = "onnx",
    model: Model = None,
    connect: Annotated[str, typer.Option(help="Address of the feed.")] = ADDRESS,
    keys: KeyFolder = None,
    out: Out = None,
    headless: Headless = False,
    seed: Seed = 0,
    steps: Annotated[int | None, typer.Option(min=1, max=500, help="Sampling steps; the model's without it.")] = None,
    guidance: Annotated[
        str | None,
        typer.Option(help="5, or a value a step, or 5@501-999, timesteps; 1 is none. The model's without it."),
    ] = None,
    spacing: Annotated[
        str | None, typer.Option(help="Timesteps: leading, ays, or 999,700,300; the model's without it.")
    ] = None,
    quality: Annotated[
        str | None, typer.Option(help="exact: 20 evenly spaced steps, all guided. What the model is set to without it.")
    ] = None,
    skip: Late = None,
    any_space: AnySpace = False,
    wait: Annotated[float | None, typer.Option(min=1, help="Seconds to wait for a feed; for ever without it.")] = None,
) -> None:
    """Decode one run of a feed."""
    from dynadiff.engines.choice import sampler_named

    asked = sampler_named(steps, guidance, spacing, quality)
    from realtime.decoding.session import decode_feed

    late: Literal["auto", "skip", "wait"] = "auto" if skip is None else "skip" if skip else "wait"
    decode_feed(
        _options(
            engine,
            model,
            connect=connect,
            out=out,
            seed=seed,
            steps=asked.steps,
            guidance=asked.guidance,
            spacing=asked.spacing,
            quality=quality,
            late=late,
            any_space=any_space,
            wait_s=wait,
        ),
        headless,
        _console(),
        keys,
    )


@app.command()
def replay(
    subject: Annotated[
        str | None, typer.Option(help="Of an NSD tree, 1 without it; of --bold, if its name does not say.")
    ] = None,
    session: Annotated[int | None, typer.Option(help="Scan session of an NSD tree; 1 without it.")] = None,
    run: Annotated[int | None, typer.Option(help="File number of the run in its session; 12 without it.")] = None,
    root: Annotated[Path | None, typer.Option(help="NSD tree; the phantom's without it.")] = None,
    bold: Annotated[Path | None, typer.Option(help="A 4-D NIfTI file instead.")] = None,
    mask: Annotated[Path | None, typer.Option(help="Of --bold; voxels outside are sent as 0.")] = None,
    events: Annotated[Path | None, typer.Option(help="Of --bold; the BIDS table beside it without it.")] = None,
    tr: Annotated[float | None, typer.Option(help="Of --bold, in seconds, if its files do not say.")] = None,
    any_space: AnySpace = False,
    dummies: Annotated[int, typer.Option(min=0, help="Leading volumes that no statistics may hold.")] = 0,
    recording: Annotated[Path | None, typer.Option(help="Folder that a decode left, instead.")] = None,
    speed: Speed = 1.0,
    bind: Annotated[str, typer.Option(help="Address to serve at; any but this machine's needs --keys.")] = ADDRESS,
    keys: KeyFolder = None,
    wait_for: Annotated[int, typer.Option(min=1, help="Consumers to wait for at start and end.")] = 1,
) -> None:
    """Serve a run as a scanner would; it begins when a decoder is there."""
    from realtime.feed.keys import feed_keys
    from realtime.screen.teller import Teller
    from replay.door import check_address
    from replay.server import serve
    from replay.sources import Nifti, bold_messages, folder_messages, nsd_messages

    console = _console()
    if bold is not None and recording is not None:
        raise UserError("--bold and --recording are two runs: give one of them")
    if bold is None and (mask or events or tr is not None or any_space):
        raise UserError("--mask, --events, --tr and --any-space belong to a NIfTI file: give it with --bold")
    if (bold or recording) and (root, session, run) != (None, None, None):
        raise UserError("--root, --session and --run belong to an NSD tree: leave them out, or --bold and --recording")
    if recording and (subject or dummies):
        raise UserError("a recording says whose it is and which volumes are dummies: leave out --subject and --dummies")
    own_keys = feed_keys(keys) if keys else None
    check_address(bind, own_keys is not None)
    if bold is not None:
        nifti = Nifti(bold, mask, events, tr, subject, any_space)
        messages = bold_messages(nifti, speed, dummies, console.print)
    elif recording is not None:
        messages = folder_messages(recording, speed)
    else:
        whose = number("--subject", subject or "1")
        which = 1 if session is None else session, 12 if run is None else run
        with console.status("looking for the run; the phantom's is made on first use"):
            messages = nsd_messages(root, whose, *which, speed, dummies)

    with Teller() as say:

        def ready(address: str) -> None:
            say(f"serving at {address}, waiting for {wait_for} consumer{'s' * (wait_for > 1)}")

        confirmed = serve(messages, bind, keys=own_keys, wait_for=wait_for, ready=ready, say=say)
        say(f"the run was received whole by: {', '.join(confirmed)}")


@app.command()
def phantom(
    root: Annotated[Path, typer.Option(help="Folder for the tree, new or begun before.")],
    subjects: Annotated[str, typer.Option(help="As 1,2 or 1-4.")] = "1,2",
    sessions: Annotated[str, typer.Option(help="As 1 or 1-3.")] = "1",
    runs: Annotated[str, typer.Option(help="Task runs of each session, as 1 or 1-3; a session has 12.")] = "1-12",
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn: another one is another phantom.")] = 0,
    null: Annotated[bool, typer.Option("--null", help="Of subjects whose brains answer to no picture.")] = False,
) -> None:
    """Write a synthetic NSD tree."""
    from dynadiff.phantom.tree import write_tree

    console = _console()

    def say(done: int, total: int, name: str) -> None:
        if done % max(total // 10, 1) == 0:
            console.print(f"{done} of {total}: {name}", highlight=False)

    chosen = numbers("--subjects", subjects), numbers("--sessions", sessions), numbers("--runs", runs)
    write_tree(root, *chosen, seed, say, null=null)
    console.print(f"written: {root}", soft_wrap=True)


@app.command()
def keys(
    folder: Annotated[Path, typer.Argument(help="Folder of the feed's keys, on the machine that serves.")],
    consumer: Annotated[list[str] | None, typer.Argument(help="Names of those who may connect.")] = None,
) -> None:
    """Make keys, so that a feed can be reached from another machine by those who may.

    Copy NAME.key_secret and feed.key to a folder there. Whoever is no longer to connect: delete allowed/NAME.key.
    """
    from realtime.feed.keys import make_keys

    console = _console()
    for path in make_keys(folder, consumer or ["decoder"]):
        console.print(f"written: {path}", soft_wrap=True, highlight=False)


@app.command()
def faults(
    connect: Annotated[str, typer.Option(help="Address of the feed.")] = ADDRESS,
    bind: Annotated[str, typer.Option(help="Address for consumers.")] = "tcp://127.0.0.1:5561",
    lost: Share = 0.01,
    doubled: Share = 0.01,
    damaged: Share = 0.01,
    late: Share = 0.01,
    late_s: Annotated[float, typer.Option(min=0, help="Longest delay, seconds.")] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Of the faults.")] = 0,
) -> None:
    """Put a bad link between a feed and its decoders, to rehearse with; ends with Ctrl-C."""
    from replay.faults import Faults, relay

    console = _console()

    def ready(address: str) -> None:
        console.print(f"passing on {connect} at {address}, badly", highlight=False)

    counts = relay(connect, bind, Faults(lost, doubled, damaged, late, late_s), seed, ready=ready)
    console.print(", ".join(f"{n} {fault}" for fault, n in sorted(counts.items())) or "nothing came", highlight=False)


@app.command()
def bench(
    engine: Engine = "onnx",
    model: Model = None,
    json: Annotated[Path | None, typer.Option(help="File for the figures.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Hold the engine, built if there is none, against PyTorch first.")
    ] = False,
) -> None:
    """Measure every stage of a decode on this machine."""
    from realtime.bench import bench as run_bench

    run_bench(engine, _folder(model), json, _console(), check)


def main() -> None:
    """The command `realtime`."""
    commands.run(app)


def _options(engine: str, model: Path | None, **chosen: Any) -> "Options":
    from realtime.decoding.options import Options

    return Options(engine, str(_folder(model)), **chosen)


def _folder(model: Path | None) -> Path:
    from dynadiff.assets import EMBEDDED

    return model or EMBEDDED


def _console() -> "Console":
    from rich.console import Console

    return Console(markup=False, emoji=False)  # names come over the network and are no markup
