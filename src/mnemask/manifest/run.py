"""The loop over a batch: hands clips to workers, hears how they fare, and does so until all have ended."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from mnemask.manifest.schedule import Clip, Outcome, Retries, Schedule

TICK = 0.25
"""Seconds for which workers are waited for before stop signals are looked at again."""
STOP_SECONDS = 60.0
"""Seconds that workers have to end their frame and save it when the batch is stopped."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What each worker is told once.

    Attributes:
        worker: "module:function" that is called in the worker's process with `options` and returns a `Work`.
        options: for it, as JSON holds them.
        threads: that each worker computes with.
        gpus: share of a GPU for each worker; 0 for none.
        memory: bytes that each worker is expected to take.
        must_see: a file on the storage that all workers are to share; empty for none.
    """

    worker: str
    options: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    gpus: float = 0.0
    memory: int = 0
    must_see: str = ""


@runtime_checkable
class Control(Protocol):
    """What a worker says and hears while it is at a clip."""

    def advance(self, frames: int, total: int | None) -> None:
        """Says how far the clip is."""

    def stop(self) -> str | None:
        """Returns why the batch is to be stopped; None while it is not."""


Work = Callable[[Clip, Control], Outcome]


@dataclass(frozen=True, slots=True)
class Begun:
    """A worker has begun a clip; `where` names it."""

    clip: str
    where: str


@dataclass(frozen=True, slots=True)
class Advanced:
    """A clip has come so far."""

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
    """A worker is gone with a clip, which it had begun or not."""

    clip: str
    why: str
    begun: bool


@dataclass(frozen=True, slots=True)
class Said:
    """Something about the workers that people should know."""

    text: str


Event = Begun | Advanced | Ended | Lost | Said


@runtime_checkable
class Backend(Protocol):
    """What carries clips out."""

    def __enter__(self) -> object: ...

    def __exit__(self, *_: object) -> None:
        """Ends all workers."""

    @property
    def room(self) -> int:
        """How many clips it takes now: as many as there are workers without one."""

    def submit(self, clip: Clip) -> None:
        """Takes a clip."""

    def wait(self, seconds: float) -> Sequence[Event]:
        """Returns what happened, after this time at most."""

    def stop(self, why: str) -> None:
        """Asks all workers to end their frame, to save it, and to begin nothing."""


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
        clips: of distinct names, each with a folder of its own.
        backend: is entered, and left with all workers ended.
        retries: of clips that lose their worker.
        stop: is asked all the time; with what it returns, the batch ends early, and clips that are under way are saved.
        on_event: hears what happens.
        on_end: hears of each clip that has ended.
        clock: gives seconds.
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
                schedule.stop()  # what a worker returned meanwhile
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
