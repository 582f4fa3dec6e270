"""Shows the progress and the results of commands: on a terminal, in a log, or as JSON lines for a program."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

import mnemask as mm
from mnemask.cli.output import console, emit, errors, literal, mode

if TYPE_CHECKING:
    from mnemask.manifest.run import Event
    from mnemask.manifest.schedule import Outcome
    from mnemask.pipeline import RunProgress

LOG_SECONDS = 10.0
JSON_SECONDS = 1.0
_TOLD = 5  # objects for which the end of a run names doubtful frames
_MOST_NAMED = 4  # clips named in a line of progress


@runtime_checkable
class Show(Protocol):
    """Shows the progress of a command."""

    def __call__(self, done: int, total: int | None, text: str, stage: str = "", **facts: Any) -> None:
        """Takes counts, a line of text for people, and facts for programs; counts restart in each stage."""


@dataclass(slots=True)
class Pace:
    """Estimates the remaining time from the speed in the current stage, without parts done before a resume.

    Args:
        clock: returns the time in seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _stage: str | None = field(default=None, init=False)
    _since: float = field(default=0.0, init=False)
    _first: int = field(default=0, init=False)

    def seconds_left(self, done: int, total: int | None, stage: str) -> float | None:
        """Returns the remaining seconds; None while they cannot be estimated."""
        if stage != self._stage:
            self._stage, self._since, self._first = stage, self.clock(), done
        if total is None or done <= self._first:
            return None
        return (self.clock() - self._since) / (done - self._first) * max(total - done, 0)


@contextmanager
def progress() -> Iterator[Show]:
    """Yields a function that shows the progress of a command in the current output mode."""
    if mode.json:
        yield every(JSON_SECONDS, _emit)
    elif mode.quiet:
        yield every(LOG_SECONDS, lambda *step: None)
    elif errors.is_terminal:
        with _bar() as show:
            yield show
    else:
        yield every(LOG_SECONDS, _log)


def show_frames(show: Show, run: RunProgress, total: int | None, stage: str = "") -> None:
    """Shows the progress of a run over a video: frames, frames/s, tokens and bytes held."""
    held = "" if run.memory is None else f" · {run.memory.tokens} tokens, {run.memory.bank_bytes / 2**20:.1f} MiB held"
    of = "" if total is None else f"/{total}"
    show(
        run.frames,
        total,
        f"{run.frames}{of} frames · {run.frames_per_second:.1f} frames/s{held}",
        stage,
        unit="frames",
        per_second=round(run.frames_per_second, 3),
    )


def show_result(run: RunProgress, tracker: mm.Tracker, out: Path, videos: Mapping[str, Path]) -> None:
    """Reports what a run over a video did, where its files are, and which frames are doubtful."""
    held = run.memory or tracker.stats()
    console.print(
        f"{run.frames} frames, objects {', '.join(map(str, tracker.object_ids))} in {run.seconds:.1f} s "
        f"({run.frames_per_second:.2f} frames/s); memory {held.tokens} tokens "
        f"({held.frames:.2f} frames, {held.bank_bytes / 2**20:.1f} MiB), {held.evictions} evicted"
    )
    happened = ", ".join(f"{name.replace('_', ' ')} {noted['count']}" for name, noted in run.video.items())
    if about := run.source.get("about"):
        errors.print(f"about the video: {'; '.join(about)}", markup=False)
    if happened:
        errors.print(f"[yellow]about the video:[/] {happened}; report.json lists the frames")
    look = {object_id: str(each["look"]) for object_id, each in run.looks.items() if each["look"]}
    for object_id, where in list(look.items())[:_TOLD]:
        called = str(run.objects.get(object_id, "")).removeprefix(":")  # of ":Bobby", which has no class
        name = f"object {object_id} ({called})" if called else f"object {object_id}"
        shown = where if len(where) <= 100 else f"{where[:100]} ..."
        console.print(f"{name} is {shown}", markup=False)
    if len(look) > _TOLD:
        console.print(f"{len(look) - _TOLD} more objects are lost or doubtful in some frames; see report.json")
    console.print(
        ", ".join([f"masks in {out / 'masks'}", *(f"{kind} {path}" for kind, path in videos.items())]), markup=False
    )


class BatchShown:
    """Shows the progress of a batch of clips, and reports how each of them ended.

    Args:
        show: the function that shows progress.
        total: the number of clips.
    """

    def __init__(self, show: Show, total: int) -> None:
        self._show, self._total = show, total
        self._now: dict[str, tuple[int, int | None]] = {}
        self._done = self._failed = self._frames = 0
        self._begin = time.monotonic()

    def hear(self, event: Event) -> None:
        """Shows an event reported by a worker."""
        from mnemask.manifest.run import Advanced, Begun, Ended, Lost, Said

        match event:
            case Begun(clip, _):
                self._now[clip] = (0, None)
            case Advanced(clip, frames, total):
                self._now[clip] = (frames, total)
            case Ended(clip, _) | Lost(clip, _, _):
                self._now.pop(clip, None)
            case Said(text):
                emit("notice", level="warning", text=text)
                errors.print(f"[yellow]warning:[/] {literal(text)}", soft_wrap=True)
        self._tell()

    def end(self, name: str, outcome: Outcome) -> None:
        """Reports how a clip ended."""
        facts = {key: value for key, value in outcome.facts.items() if key != "moments"}
        problem = "; ".join(filter(None, (outcome.problem, outcome.remedy)))
        emit("clip", name=name, state=outcome.state, problem=problem or None, attempts=outcome.attempts, **facts)
        for said in outcome.facts.get("warnings", ()):
            errors.print(f"[yellow]warning:[/] {literal(f'{name}: {said}')}", soft_wrap=True)
        if outcome.state == "failed":
            errors.print(f"[red]failed:[/] {literal(f'{name}: {problem}')}", soft_wrap=True)
        if outcome.state != "stopped":
            self._done += 1
            self._failed += outcome.state == "failed"
            self._frames += int(outcome.facts.get("frames") or 0) * (outcome.state == "done")
            self._tell()

    def _tell(self) -> None:
        frames = self._frames + sum(frames for frames, _ in self._now.values())
        rate = frames / max(time.monotonic() - self._begin, 1e-3)
        running = [f"{name} {at}" + ("" if of is None else f"/{of}") for name, (at, of) in self._now.items()]
        failed = f" · {self._failed} failed" if self._failed else ""
        text = f"{self._done}/{self._total} clips{failed} · {rate:.1f} frames/s · {', '.join(running[:_MOST_NAMED])}"
        self._show(self._done, self._total, text, unit="clips", failed=self._failed, per_second=round(rate, 3))


Say = Callable[[int, int | None, str, str, float | None, dict[str, Any]], None]


def every(seconds: float, say: Say, clock: Callable[[], float] = time.monotonic) -> Show:
    """Returns a function that passes progress on to `say`, first after this many seconds, then at most that often."""
    pace, said = Pace(clock), clock()

    def show(done: int, total: int | None, text: str, stage: str = "", **facts: Any) -> None:
        nonlocal said
        left = pace.seconds_left(done, total, stage)
        if clock() - said >= seconds:
            said = clock()
            say(done, total, text, stage, left, facts)

    return show


def _emit(done: int, total: int | None, text: str, stage: str, left: float | None, facts: dict[str, Any]) -> None:
    seconds_left = None if left is None else round(left, 1)
    emit("progress", done=done, total=total, stage=stage, seconds_left=seconds_left, **facts)


def _log(done: int, total: int | None, text: str, stage: str, left: float | None, facts: dict[str, Any]) -> None:
    errors.print(literal(text if left is None else f"{text} · {duration(left)} left"), soft_wrap=True)


def duration(seconds: float) -> str:
    """Returns a duration as readable text, such as 40 s, 7 min or 2 h 10 min."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def _bar() -> Iterator[Show]:
    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task, current = bar.add_task("starting …", total=None), ""

        def show(done: int, total: int | None, text: str, stage: str = "", **facts: Any) -> None:
            nonlocal task, current
            if stage != current:  # a new task: the time left must not be computed from another stage's speed
                bar.remove_task(task)
                task, current = bar.add_task(text, total=total), stage
            bar.update(task, total=total, completed=done, description=literal(text))

        yield show
