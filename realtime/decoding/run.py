"""One run on its way through the decoder, from its start to its files.

The thread that calls keeps statistics, records and tells the watcher; a single worker paints. When it is late, a live
run drops the older window for the newer one, and a replayed run waits, so that it gives the same pictures every time.
Knows messages; knows no feed and no window system.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dynadiff.engines.contract import Decoder
from dynadiff.signal.windows import Window
from realtime.decoding.arrival import Arrivals
from realtime.decoding.options import Options
from realtime.decoding.painter import Clock, Painted, Painter
from realtime.decoding.stages import Stages
from realtime.decoding.standings import Standings
from realtime.decoding.stimuli import Stimuli
from realtime.feed.wire import Picture, RunEnd, RunStart, Volume
from realtime.records.decode_folder import DecodeFolder, describe
from realtime.records.outcome import identify, illustrate, trial
from realtime.records.resume import Earlier, Line, check_same
from realtime.records.summary import CleaningAgreement, Json, Space, quantiles_ms
from realtime.screen.display import Moment, View

POLL_S = 0.02  # how long a finished picture may lie before it is recorded and shown
SILENT_TRS = 3  # so many without a volume are worth a note

Watch = Callable[[View], None]


@dataclass(frozen=True, eq=False)
class Arrival:
    """A window that waits to be painted, and what is known of its newest volume; times on the clock, in seconds."""

    window: Window
    line: Json
    received: float  # when it was taken
    cleaned: float
    lag: float | None  # s that it had lain waiting then, see `Arrivals`


@dataclass(frozen=True)
class Setup:
    """What decodes, how, and who is told."""

    decoder: Decoder
    options: Options
    spaces: Sequence[Space]  # in which pictures are compared: in the first one while the run goes on, in all at its end
    watch: Watch
    now: Clock  # monotonic
    wall: Clock  # unix time
    here: float  # unix s, since when there is somebody to receive


class RunDecoder:
    """One run, from its start to its files."""

    def __init__(self, start: RunStart, setup: Setup, folder: Path, before: Earlier | None = None) -> None:
        """``before`` is an unfinished decode in that folder, which is gone on with."""
        decoder, options = setup.decoder, setup.options
        self.folder = folder
        self._start, self._decoder, self._options, self._spaces = start, decoder, options, setup.spaces
        self._watch, self._now, self._wall = setup.watch, setup.now, setup.wall
        self._skips = options.late == "skip" or (options.late == "auto" and start.source == "live")
        self._stages = Stages(start, decoder.manifest, decoder.mask)
        self._stimuli = Stimuli(start.events)
        self._agreement = CleaningAgreement()
        self._painted: list[View] = []  # one per window, without reconstructions
        self._windows = 0
        self._marked = 0  # painted windows with a volume that is not as it should be
        self._heard = self._now()
        self._note = f"the first picture comes with volume {start.dummies + self._stages.spec.length - 1}"
        self._view = View(
            run=start.name, source=start.source, tr=start.tr, planned=start.n_volumes,
            events_known=self._stimuli.known, note=self._note,
        )  # fmt: skip
        self._arrivals = Arrivals(setup.here)
        self._lags: list[float] = []  # s, of volumes that came while this decoder was there
        self._latencies: list[float] = []  # s from arrival to picture, of their windows
        self._caught_up = 0  # volumes that had been sent before
        self._waiting: dict[int, Arrival] = {}  # by the index of the newest volume
        self._known = before.lines if before else {}
        self._resumes = before.resumes + 1 if before else 0
        header = describe(start, decoder.manifest, asdict(options), self._resumes)
        if before:
            check_same(before, header)
        self._record = DecodeFolder(folder, before)
        self._record.json("run.json", header)
        self._record.message(start)
        self._painter = Painter(decoder, options.seed, self._now)
        self._standings = Standings(setup.spaces[0], self._recorded_picture)

    def picture(self, picture: Picture) -> None:
        """Take what the subject is about to see."""
        self._record.message(picture)
        self._stimuli.add(picture.name, picture.rgb)

    def volume(self, volume: Volume) -> None:
        """Take a volume into the statistics, and offer the window that it completes to the painter."""
        received, arrived = self._now(), self._wall()
        self._standings.go_on(False)
        lost = len(self._stages.missing)
        window = self._stages.push(volume)
        cleaned, lag = self._now(), self._arrivals.lag(volume.t_sent, arrived)
        line = self._line(volume, arrived, lag)
        self._heard = received
        if lag is None:
            self._caught_up += 1
        else:
            self._lags.append(lag)
        bad = sum(self._stages.bad.values())
        self._view = replace(self._view, received=self._view.received + 1, bad=bad, lag=lag or 0.0)
        for index in self._stages.missing[lost:]:
            self._settled({"volume": index, "latency_ms": {}, "done": "missing"})
        row = volume.index - self._start.dummies
        if self._stages.sample is not None:
            self._agreement.sample(row, self._stages.sample)
        if window is not None:
            self._windows += 1
            self._window(Arrival(window, line, received, cleaned, lag))
        else:
            fate = "dummy" if row < 0 else "too few for a window"
            self._settled(line | {"latency_ms": _ms({"clean": cleaned - received}), "done": fate})
        self._record.message(volume)  # last, so that painting does not wait for the disk

    def _line(self, volume: Volume, arrived: float, lag: float | None) -> Json:
        """What volumes.jsonl says of a volume, whatever becomes of it."""
        line: Json = {
            "volume": volume.index,
            "received": datetime.fromtimestamp(arrived, UTC).isoformat(),
            "acquired_s": volume.t_acquired,
            "transit_ms": round(1000 * (arrived - volume.t_sent), 3) if volume.t_sent else None,
            "lag_ms": None if lag is None else round(1000 * lag, 3),
        }
        mark = self._stages.marks.get(volume.index)
        return line if mark is None else line | {"mark": mark}

    def _window(self, arrival: Arrival) -> None:
        """Have a window painted, unless it says too little, or is painted."""
        window = arrival.window
        self._waiting[window.last_row] = arrival
        if not window.good:
            self._skipped(window, "too many bad volumes")
            return
        self._agreement.window(window.last_row - self._start.dummies, window.values)
        known = self._known.get(window.last_row)
        if known is not None:
            self._again(window, known)
            return
        while self._painter.full and not self._skips:
            self.poll(POLL_S)
        older = self._painter.offer(window)
        if older is not None:
            self._skipped(older, "late")

    def poll(self, timeout: float = 0.0) -> None:
        """Record and show what the painter has finished, waiting up to ``timeout`` seconds for it."""
        painted = self._painter.poll(timeout)
        if painted is not None:
            self._finished(painted)
        self._standings.go_on(self._painter.idle)
        alarm = f"not recorded: {self._record.stopped}" if self._record.stopped else ""
        silent = self._now() - self._heard
        note = f"no volume for {silent:.0f} s" if silent > SILENT_TRS * self._start.tr else self._note
        score, view = self._standings.said(), self._view
        if (note, alarm, score) != (view.note, view.alarm, view.score):  # a view is new only where something is new
            self._view = replace(view, note=note, alarm=alarm, score=score)
        self._watch(self._view)

    def finish(self, end: RunEnd, faults: Json) -> Json:
        """Paint what waits and write the files of the whole run."""
        self._record.message(end)
        return self._finish(end.reason, end.digest, faults)

    def break_off(self, why: str, faults: Json) -> None:
        """Paint what waits, unless the engine failed, and write the files of what has come."""
        self._finish(why, None, faults)

    def _finish(self, ended: str, digest: str | None, faults: Json) -> Json:
        try:
            while not self._painter.idle:
                self.poll(POLL_S)
            # Windows of an engine that failed: counted, and not in the journal, for a decode that goes on paints them.
            self._view = replace(self._view, skipped=self._view.skipped + len(self._waiting))
            self._standings.finish()
            summary = self._summary() | {"ended": ended, "run_digest": digest, "feed": faults}
            self._record.json("summary.json", summary)
            illustrate(self._record, [self._scored(view) for view in self._painted])
        finally:
            self._standings.close()
            self._painter.close()
            self._record.close()
        return summary | self._recorded()

    def _skipped(self, window: Window, why: str) -> None:
        arrival = self._waiting.pop(window.last_row)
        self._note = f"not painted, {why}"
        self._view = replace(self._view, skipped=self._view.skipped + 1)
        latency = {"latency_ms": _ms({"clean": arrival.cleaned - arrival.received})}
        fate = {"done": "skipped", "why": why, "seen_row": self._stages.spec.seen_row(window.last_row)}
        self._settled(arrival.line | latency | _marks(window) | fate)

    def _settled(self, line: Json) -> None:
        """Note what became of a volume, unless an earlier decode of this folder did."""
        if line["volume"] not in self._known:
            self._record.volume(line)

    def _again(self, window: Window, known: Line) -> None:
        """A window that was settled before the process was started again."""
        del self._waiting[window.last_row]
        if known.done == "painted":
            picture, latency = self._record.read_picture(window.last_row), known.latency_ms["total"] / 1000
            if known.lag_ms is not None:
                self._latencies.append(latency)
            self._judge(self._show(window, latency, picture))
        else:
            self._view = replace(self._view, skipped=self._view.skipped + 1)

    def _show(self, window: Window, latency: float, picture: NDArray[np.uint8]) -> Moment:
        """Make a picture the newest one; what was on the screen at the moment that it is about."""
        seen_row = self._stages.spec.seen_row(window.last_row)
        event, stimulus = self._stimuli.at(seen_row)
        onset = event is not None and event.row == seen_row
        moment = Moment(window.last_row, seen_row, latency, event, onset, stimulus)
        self._note = _said(window.marks)
        self._marked += bool(window.marks)
        self._view = replace(
            self._view, painted=self._view.painted + 1, moment=moment, note=self._note, reconstruction=picture
        )
        self._painted.append(replace(self._view, reconstruction=None))
        return moment

    def _finished(self, painted: Painted) -> None:
        window, arrival = painted.window, self._waiting.pop(painted.window.last_row)
        latency = painted.ready - arrival.received + (arrival.lag or 0.0)
        if arrival.lag is not None:
            self._latencies.append(latency)
        moment = self._show(window, latency, painted.picture)
        began = self._now()
        name = self._record.picture(window.last_row, painted.picture)
        before = {"clean": arrival.cleaned - arrival.received, "wait": painted.began - arrival.cleaned}
        stages = before | painted.stages | {"total": latency, "record": self._now() - began}
        stimulus = moment.event.picture if moment.event else None
        fate = {"done": "painted", "seen_row": moment.seen_row, "stimulus": stimulus, "picture": name}
        self._record.volume(arrival.line | {"latency_ms": _ms(stages)} | _marks(window) | fate)
        self._judge(moment)

    def _judge(self, moment: Moment) -> None:
        """Have a picture that is on disk compared with what was seen, where that is known."""
        if (shown := trial(moment)) is not None:
            self._standings.add(moment.volume, *shown)

    def _scored(self, view: View) -> View:
        """With the score that its picture was the newest of, whenever there was time to tell it."""
        return replace(view, score=self._standings.said(view.moment.volume)) if view.moment else view

    def _recorded_picture(self, volume: int) -> NDArray[np.uint8] | None:
        return self._record.read_picture(volume) if self._record.has_picture(volume) else None

    def _recorded(self) -> Json:
        return {"recording": f"stopped: {self._record.stopped}" if self._record.stopped else "complete"}

    def _summary(self) -> Json:
        manifest, tr = self._decoder.manifest, self._start.tr
        return {
            "volumes_expected": self._start.n_volumes,
            "volumes_received": self._view.received,
            "windows": self._windows,
            "reconstructions": len(self._painted),
            "skipped": self._view.skipped,
            "latency_ms": quantiles_ms(self._latencies),
            "deadline_ms": round(1000 * tr, 3),
            "deadline_misses": sum(latency > tr for latency in self._latencies),
            "lag_ms": quantiles_ms(self._lags),
            "caught_up": self._caught_up,
            "engine": self._options.engine,
            "resumes": self._resumes,
            **identify(self._record, self._painted, self._spaces, self._standings.stopped),
            "identification_running": self._standings.lines(),
            "cleaning_parity": self._agreement.result(manifest.cleaning, tr, manifest.window_length),
            "bad_volumes": self._stages.bad,
            "marked_windows": self._marked,
            "non_finite": self._stages.non_finite,
            "limited": self._stages.limited,
            **self._recorded(),
        }


def _marks(window: Window) -> Json:
    """What volumes.jsonl says of a window that holds a volume which is not as it should be."""
    return {"marks": {str(index): mark for index, mark in window.marks.items()}} if window.marks else {}


def _said(marks: Mapping[int, str]) -> str:
    """What is wrong with the volumes of a window, in few words."""
    kinds = ", ".join(sorted(set(marks.values())))
    return f"{'volume' if len(marks) == 1 else 'volumes'} {', '.join(map(str, marks))}: {kinds}" if marks else ""


def _ms(seconds: Mapping[str, float]) -> dict[str, float]:
    return {stage: round(1000 * value, 3) for stage, value in seconds.items()}
