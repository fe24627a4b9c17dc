"""Decodes a feed: every volume into the statistics at once, every window painted or counted as skipped.

The main thread receives, keeps statistics, records and tells the watcher; a single worker paints. When it is
late, a live run drops the older window for the newer one, and a replayed run waits, so that it gives the same
pictures every time. Knows no sockets and no window system.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dynadiff.engines import Decoder
from dynadiff.errors import UserError
from dynadiff.identification import Features, pixel_features
from dynadiff.run import Event
from realtime.display import Moment, View
from realtime.outcome import identified, illustrate
from realtime.painter import Clock, Job, Painted, Painter
from realtime.record import Record, describe, free_name, new_folder
from realtime.resume import Earlier, check_same
from realtime.stages import Stages, Window, check_run
from realtime.stimuli import Stimuli
from realtime.summary import Json, Parity, latency_ms
from realtime.wire import Message, Picture, RunEnd, RunStart, Volume

POLL_S = 0.02  # how long a finished picture may lie before it is recorded and shown
SILENT_TRS = 3  # so many without a volume are worth a note

Watch = Callable[[View], None]


class Source(Protocol):
    """What a decode needs of a feed."""

    def receive(self, timeout_s: float) -> Message | None: ...
    def confirm(self, end: RunEnd) -> None: ...

    @property
    def duplicates(self) -> int: ...
    @property
    def gaps(self) -> int: ...
    @property
    def damaged(self) -> int: ...
    @property
    def reconnects(self) -> int: ...


@dataclass(frozen=True)
class Options:
    """What a user may choose about a decode."""

    engine: str = "onnx"
    model: str = ""  # engine or model folder
    connect: str = ""
    out: Path | None = None  # None: a new folder in decodes/
    seed: int = 0  # of the noise that every picture starts from
    steps: int | None = None  # of the sampler; the engine's own without it
    guidance: float | None = None
    late: Literal["auto", "skip", "wait"] = "auto"  # a live run skips windows, a replayed one waits
    features: str = "pixels"  # in which pictures are compared


def decode(
    source: Source, decoder: Decoder, options: Options, watch: Watch, features: Features = pixel_features,
    now: Clock = time.monotonic, wall: Clock = time.time, before: Earlier | None = None,
) -> tuple[Path, Json]:  # fmt: skip
    """Decode until a run ends; give its folder and summary. A run that is broken off has a folder as well.

    ``before`` is an unfinished decode in that folder: it is gone through again, and the source, which must go on
    where its recording ends, is listened to from there. What was painted is not painted again.

    Raises UserError where the run does not suit the engine, the folder cannot be made or the feed falls
    silent. The files of what was received are finished then, and also after an interrupt from the keyboard.
    """
    run: RunDecoder | None = None
    recorded = before.messages() if before else iter(())
    try:
        while True:
            message = next(recorded, None) or source.receive(POLL_S)
            match message:
                case RunStart():
                    if run is not None:
                        run.finish(None, _faults(source))
                    check_run(message, decoder.manifest, decoder.mask)
                    if run is None and before is not None:
                        run = RunDecoder(message, decoder, options, before.folder, features, watch, now, wall, before)
                        continue
                    out = free_name(options.out) if run and options.out else options.out
                    folder = new_folder(out, message.name, datetime.fromtimestamp(wall()))
                    run = RunDecoder(message, decoder, options, folder, features, watch, now, wall)
                case Picture() if run:
                    run.picture(message)
                case Volume() if run:
                    run.volume(message)
                case RunEnd() if run:
                    source.confirm(message)
                    return run.folder, run.finish(message, _faults(source))
            if run is not None:
                run.poll()
            else:
                watch(View(note=f"waiting for a run at {options.connect}"))
    except (KeyboardInterrupt, UserError):
        if run is not None:
            run.finish(None, _faults(source))
        raise
    finally:
        if run is not None:
            run.close()


class RunDecoder:
    """One run, from its start to its files."""

    def __init__(
        self, start: RunStart, decoder: Decoder, options: Options, folder: Path, features: Features,
        watch: Watch, now: Clock, wall: Clock, before: Earlier | None = None,
    ) -> None:  # fmt: skip
        self.folder = folder
        self._start, self._decoder, self._options, self._features = start, decoder, options, features
        self._watch, self._now, self._wall = watch, now, wall
        self._skips = options.late == "skip" or (options.late == "auto" and start.source == "live")
        self._stages = Stages(start, decoder.manifest, decoder.mask)
        self._stimuli = Stimuli(start.events)
        self._parity = Parity()
        self._painted: list[View] = []  # one per window, without reconstructions
        self._windows = 0
        self._heard = now()
        self._note = f"the first picture comes with volume {start.dummies + self._stages.spec.length - 1}"
        self._view = View(
            run=start.name, source=start.source, tr=start.tr, planned=start.n_volumes,
            events_known=self._stimuli.known, note=self._note,
        )  # fmt: skip
        self._known = before.lines if before else {}
        self._resumes = before.resumes + 1 if before else 0
        header = describe(start, decoder.manifest, asdict(options), self._resumes)
        if before:
            check_same(before, header)
        self._record = Record(folder, before)
        self._record.json("run.json", header)
        self._record.message(start)
        self._painter = Painter(decoder, options.seed, now)

    def picture(self, picture: Picture) -> None:
        """Take what the subject is about to see."""
        self._record.message(picture)
        self._stimuli.add(picture.name, picture.rgb)

    def volume(self, volume: Volume) -> None:
        """Take a volume into the statistics, and offer the window that it completes to the painter."""
        received, arrived = self._now(), self._wall()
        window = self._stages.push(volume)
        cleaned = self._now()
        self._heard = received
        self._view = replace(self._view, received=self._view.received + 1)
        row = volume.index - self._start.dummies
        line: Json = {
            "volume": volume.index,
            "received": datetime.fromtimestamp(arrived, UTC).isoformat(),
            "acquired_s": volume.t_acquired,
            "transit_ms": round(1000 * (arrived - volume.t_sent), 3),
            "latency_ms": _ms({"clean": cleaned - received}),
        }
        if self._stages.sample is not None:
            self._parity.sample(row, self._stages.sample)
        known = self._known.get(volume.index)
        if window is not None:
            self._windows += 1
            self._parity.window(row, window.values)
            if known is None:
                self._offer(Job(window, line, received, cleaned))
            else:
                self._again(window, known)
        elif known is None:
            self._record.volume(line | {"done": "dummy" if row < 0 else "too few for a window"})
        self._record.message(volume)  # last, so that painting does not wait for the disk

    def poll(self, timeout: float = 0.0) -> None:
        """Record and show what the painter has finished, waiting up to ``timeout`` seconds for it."""
        painted = self._painter.poll(timeout)
        if painted is not None:
            self._finished(painted)
        silent = self._now() - self._heard
        note = f"no volume for {silent:.0f} s" if silent > SILENT_TRS * self._start.tr else self._note
        if note != self._view.note:  # a view is a new object only where there is something new to see
            self._view = replace(self._view, note=note)
        self._watch(self._view)

    def finish(self, end: RunEnd | None, faults: Json) -> Json:
        """Paint what waits and write the files of the whole run; ``end`` is None if it was broken off."""
        if end is not None:
            self._record.message(end)
        while not self._painter.idle:
            self.poll(POLL_S)
        summary = self._summary(end) | {"feed": faults}
        self._record.json("summary.json", summary)
        illustrate(self._record, self._painted)
        self.close()
        return summary

    def close(self) -> None:
        """Stop the worker and close the files, whatever happened."""
        self._painter.close()
        self._record.close()

    def _offer(self, job: Job) -> None:
        while self._painter.full and not self._skips:
            self.poll(POLL_S)
        older = self._painter.offer(job)
        if older is not None:
            self._view = replace(self._view, skipped=self._view.skipped + 1)
            self._record.volume(older.line | {"done": "skipped", "seen_row": older.window.seen_row})

    def _again(self, window: Window, known: Mapping[str, Any]) -> None:
        """A window that was settled before the process was started again."""
        if known["done"] == "painted":
            picture = self._record.read_picture(window.last_row)
            self._show(window, known["latency_ms"]["total"] / 1000, picture)
        else:
            self._view = replace(self._view, skipped=self._view.skipped + 1)

    def _show(self, window: Window, latency: float, picture: NDArray[np.uint8]) -> Event | None:
        """Make a picture the newest one; what was on the screen at the moment that it is about."""
        event, stimulus = self._stimuli.at(window.seen_row)
        onset = event is not None and event.row == window.seen_row
        moment = Moment(window.last_row, window.seen_row, latency, event, onset, stimulus)
        self._note = ""
        seen = replace(self._view, painted=self._view.painted + 1, moment=moment, note="")
        self._painted.append(seen)
        self._view = replace(seen, reconstruction=picture)
        return event

    def _finished(self, painted: Painted) -> None:
        job = painted.job
        window = job.window
        event = self._show(window, painted.latency, painted.picture)
        began = self._now()
        name = self._record.picture(window.last_row, painted.picture)
        stages = painted.stages | {"total": painted.latency, "record": self._now() - began}
        self._record.volume(
            job.line
            | {"done": "painted", "seen_row": window.seen_row, "stimulus": event.picture if event else None}
            | {"picture": name, "latency_ms": _ms(stages)}
        )

    def _summary(self, end: RunEnd | None) -> Json:
        manifest, tr = self._decoder.manifest, self._start.tr
        latencies = [view.moment.latency for view in self._painted if view.moment]
        scores = identified(self._record, self._painted, self._options.features, self._features)
        return {
            "volumes_expected": self._start.n_volumes,
            "volumes_received": self._view.received,
            "windows": self._windows,
            "reconstructions": len(self._painted),
            "skipped": self._view.skipped,
            "latency_ms": latency_ms(latencies),
            "deadline_ms": round(1000 * tr, 3),
            "deadline_misses": sum(latency > tr for latency in latencies),
            "engine": self._options.engine,
            "resumes": self._resumes,
            **({"identification": scores} if scores else {}),
            "cleaning_parity": self._parity.result(manifest.cleaning, tr, manifest.window_length),
            "non_finite": self._stages.non_finite,
            "ended": end.reason if end else "broken off",
            "run_digest": end.digest if end else None,
        }


def _faults(source: Source) -> Json:
    """How often the link was at fault, and mended."""
    return {
        "duplicates": source.duplicates,
        "gaps": source.gaps,
        "damaged": source.damaged,
        "reconnects": source.reconnects,
    }


def _ms(seconds: Mapping[str, float]) -> dict[str, float]:
    return {stage: round(1000 * value, 3) for stage, value in seconds.items()}
