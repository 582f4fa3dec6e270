"""Decides which clip comes next and whether a clip is retried, without processes, clocks or files.

A clip ends once: done, complete before, failed, or stopped. The loss of a worker counts against a clip only if the
worker had started it; a clip that keeps killing its workers is given up, so that it does not take down all of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

State = Literal["done", "complete", "failed", "stopped", "busy"]


@dataclass(frozen=True, slots=True)
class Clip:
    """One line of a manifest.

    Attributes:
        name: name of its folder below the batch's.
        line: line in the manifest, from 1; the number of the clip if the manifest is a folder.
        options: values by column name, checked, with paths made absolute.
        notes: the user's own columns, for the report.
        size: bytes of its video, to order clips by length; 0 if unknown.
    """

    name: str
    line: int
    options: Mapping[str, Any]
    notes: Mapping[str, str] = field(default_factory=dict)
    size: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a clip ended.

    Attributes:
        state: "done"; "complete" if it already was; "failed"; "stopped" if the batch was; "busy" if another process
            holds its folder, so that it has to be retried.
        problem: what went wrong, in a sentence.
        remedy: what to do about it.
        facts: frames, seconds, moments and other facts from the worker, in JSON types.
        attempts: how often it was started.
    """

    state: State
    problem: str = ""
    remedy: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how long a clip is retried.

    Attributes:
        losses: number of lost workers after which a clip is given up.
        busy_seconds: time for which another process may hold its folder. A silent owner on another machine is presumed
            dead after two minutes (`io/lock.py`).
        pause_seconds: time before a busy folder is tried again.
    """

    losses: int = 3
    busy_seconds: float = 300.0
    pause_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Attempts:
    """The history of a clip.

    Attributes:
        begun: how often a worker started it.
        lost: how often its worker was lost.
        busy_since: time since which its folder has been held by another process; None if it was free last time.
    """

    begun: int = 0
    lost: int = 0
    busy_since: float | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """The clip is retried, at time `at` or later."""

    attempts: Attempts
    at: float


def after_outcome(outcome: Outcome, attempts: Attempts, now: float, retries: Retries) -> Outcome | Again:
    """Returns the final outcome of a clip after a worker's answer, or that it is retried."""
    if outcome.state != "busy":
        return replace(outcome, attempts=attempts.begun)
    since = now if attempts.busy_since is None else attempts.busy_since
    if now - since >= retries.busy_seconds:
        return replace(outcome, state="failed", attempts=attempts.begun)
    return Again(replace(attempts, busy_since=since), now + retries.pause_seconds)


def after_loss(why: str, attempts: Attempts, now: float, retries: Retries) -> Outcome | Again:
    """Returns the final outcome of a clip after the loss of the worker that had started it, or that it is retried."""
    attempts = replace(attempts, lost=attempts.lost + 1)
    if attempts.lost >= retries.losses:
        return Outcome(
            "failed",
            f"its worker was lost {attempts.lost} times ({why})",
            "if it ran out of memory, use fewer workers (--workers) or process smaller frames (--size); run the batch "
            "again to resume the clip",
            attempts=attempts.begun,
        )
    return Again(attempts, now)


def in_order(clips: Iterable[Clip]) -> list[Clip]:
    """Returns the clips in the order to start them: largest first, so that no long clip runs alone at the end.

    Graham 1969, "Bounds on multiprocessing timing anomalies": longest first takes at most a third longer than optimal.
    """
    return sorted(clips, key=lambda clip: -clip.size)


class Schedule:
    """The clips of a batch: waiting, with a worker, or ended.

    Args:
        clips: clips with distinct names.
        retries: how often they are retried.

    Attributes:
        outcomes: outcomes of the clips that have ended, by name.
    """

    def __init__(self, clips: Iterable[Clip], retries: Retries) -> None:
        self._retries = retries
        self._waiting: list[tuple[float, Clip]] = [(0.0, clip) for clip in in_order(clips)]
        self._out: dict[str, Clip] = {}
        self._attempts: dict[str, Attempts] = {clip.name: Attempts() for _, clip in self._waiting}
        self.outcomes: dict[str, Outcome] = {}

    @property
    def over(self) -> bool:
        """Whether every clip has ended."""
        return not self._waiting and not self._out

    def take(self, now: float) -> Clip | None:
        """Returns the next clip for a worker; None while none is due."""
        for number, (at, clip) in enumerate(self._waiting):
            if at <= now:
                del self._waiting[number]
                self._out[clip.name] = clip
                return clip
        return None

    def begun(self, name: str) -> None:
        """Notes that a worker has started a clip."""
        if name in self._out:
            self._attempts[name] = replace(self._attempts[name], begun=self._attempts[name].begun + 1)

    def ended(self, name: str, outcome: Outcome, now: float) -> bool:
        """Processes a worker's answer; returns whether the clip has ended. Further answers are ignored."""
        if name not in self._out:
            return False
        return self._settle(name, after_outcome(outcome, self._attempts[name], now, self._retries))

    def lost(self, name: str, why: str, begun: bool, now: float) -> bool:
        """Notes that the worker of a clip was lost; returns whether the clip has ended.

        Args:
            name: the clip's name.
            why: why the worker was lost.
            begun: whether it had started the clip, or the clip was only waiting there.
            now: the time.
        """
        if name not in self._out:
            return False
        attempts = self._attempts[name]
        return self._settle(name, after_loss(why, attempts, now, self._retries) if begun else Again(attempts, now))

    def stop(self) -> None:
        """Ends the waiting clips."""
        for _, clip in self._waiting:
            begun = self._attempts[clip.name].begun
            self.outcomes[clip.name] = Outcome("stopped", "the batch was stopped before its turn", attempts=begun)
        self._waiting.clear()

    def abandon(self, why: str) -> None:
        """Ends all clips, including those that workers have not answered for."""
        self.stop()
        for name in list(self._out):
            self._settle(name, Outcome("stopped", why, attempts=self._attempts[name].begun))

    def _settle(self, name: str, what: Outcome | Again) -> bool:
        clip = self._out.pop(name)
        if isinstance(what, Again):
            self._attempts[name] = what.attempts
            self._waiting.insert(0, (what.at, clip))
            return False
        assert name not in self.outcomes, f"{name} ends twice"
        self.outcomes[name] = what
        return True
