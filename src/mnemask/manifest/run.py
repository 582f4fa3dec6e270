"""The main loop of a batch: hands clips to workers and processes their events until all clips have ended."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from mnemask.manifest.schedule import Clip, Outcome, Retries, Schedule

TICK = 0.25
"""Seconds to wait for workers before stop signals are checked again."""
STOP_SECONDS = 60.0
"""Seconds that workers have to finish and save their frame when the batch is stopped."""


@dataclass(frozen=True, slots=True)
class Setup:
    """The setup that each worker gets once.

    Attributes:
        worker: "module:function", which is called in the worker's process with `options` and returns a `Work`.
        options: options for it, in JSON types.
        threads: number of threads that each worker computes with.
        gpus: share of a GPU for each worker; 0 for none.
        memory: bytes that each worker is expected to take.
        must_see: a file on the storage that all workers must share; empty for none.
    """

    worker: str
    options: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    gpus: float = 0.0
    memory: int = 0
    must_see: str = ""


@runtime_checkable
class Control(Protocol):
    """A worker's connection to the batch while it processes a clip."""

    def advance(self, frames: int, total: int | None) -> None:
        """Reports the progress of the clip."""

    def stop(self) -> str | None:
        """Returns why the batch is being stopped; None while it is not."""


Work = Callable[[Clip, Control], Outcome]


@dataclass(frozen=True, slots=True)
class Begun:
    """A worker has started a clip; `where` describes the worker."""

    clip: str
    where: str


@dataclass(frozen=True, slots=True)
class Advanced:
    """A clip has made progress."""

    clip: str
    frames: int
    total: int | None


@dataclass(frozen=True, slots=True)
class Ended:
    """A worker has answered for a clip."""

    clip: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker of a clip was lost; `begun`: it had started the clip."""

    clip: str
    why: str
    begun: bool


@dataclass(frozen=True, slots=True)
class Said:
    """A message about the workers for the user."""

    text: str


Event = Begun | Advanced | Ended | Lost | Said


@runtime_checkable
class Backend(Protocol):
    """Runs clips on workers."""

    def __enter__(self) -> object: ...

    def __exit__(self, *_: object) -> None:
        """Ends all workers."""

    @property
    def room(self) -> int:
        """How many clips it can take now, the number of workers without one."""

    def submit(self, clip: Clip) -> None:
        """Hands a clip to a worker."""

    def wait(self, seconds: float) -> Sequence[Event]:
        """Returns the events so far, after at most `seconds`."""

    def stop(self, why: str) -> None:
        """Asks all workers to finish and save their frame, and to start no further clip."""


def run_batch(
    clips: Iterable[Clip],
    backend: Backend,
    *,
    retries: Retries = Retries(),
    stop: Callable[[], str | None] = lambda: None,
    on_event: Callable[[Event], None] = lambda event: None,
    on_end: Callable[[str, Outcome], None] = lambda name, outcome: None,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Outcome]:
    """Returns the outcome of each clip, by name.

    Args:
        clips: clips with distinct names, each with its own folder.
        backend: the backend, which is entered here, and exited with all workers ended.
        retries: retries of clips that lose their worker.
        stop: called repeatedly; if it returns a reason, the batch ends early, and unfinished clips are saved.
        on_event: called with each event.
        on_end: called with each clip that has ended.
        clock: returns the time in seconds.
    """
    schedule = Schedule(clips, retries)
    stopped_at: float | None = None
    with backend:
        while not schedule.over:
            if stopped_at is None and (reason := stop()):
                stopped_at = clock()
                schedule.stop()
                backend.stop(reason)
            while stopped_at is None and backend.room and (clip := schedule.take(clock())):
                backend.submit(clip)
            for event in backend.wait(TICK):
                on_event(event)
                _hear(schedule, event, clock(), on_end)
            if stopped_at is not None:
                schedule.stop()  # clips that workers gave back meanwhile
                if clock() - stopped_at > STOP_SECONDS:
                    schedule.abandon("its worker did not end in time when the batch was stopped")
    for name, outcome in schedule.outcomes.items():
        if outcome.state == "stopped":
            on_end(name, outcome)
    return schedule.outcomes


def _hear(schedule: Schedule, event: Event, now: float, on_end: Callable[[str, Outcome], None]) -> None:
    match event:
        case Begun(clip, _):
            schedule.begun(clip)
        case Ended(clip, outcome):
            if schedule.ended(clip, outcome, now) and schedule.outcomes[clip].state != "stopped":
                on_end(clip, schedule.outcomes[clip])
        case Lost(clip, why, begun):
            if schedule.lost(clip, why, begun, now):
                on_end(clip, schedule.outcomes[clip])
        case _:
            pass
