"""Which clip comes next, and what follows from how it went: decided without processes, clocks or files.

A clip ends once: done, complete from before, failed, or stopped. A worker's loss is the clip's only if the worker had
begun it; one that kills its worker again and again is given up, so that it does not take all workers with it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

State = Literal["done", "complete", "failed", "stopped", "busy"]


@dataclass(frozen=True, slots=True)
class Clip:
    """One line of a manifest.

    Attributes:
        name: of its folder below the batch's.
        line: of the manifest, from 1; the number of the clip where the manifest is a folder.
        options: values by the names of the columns, checked and with paths that hold anywhere on this machine.
        notes: columns of the user's own, for the report.
        size: bytes of its video, by which long clips are told from short ones; 0 where that is unknown.
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
        state: "done"; "complete" if it was before; "failed"; "stopped" if the batch was; "busy" if another process
            holds its folder, and it has to be tried again.
        problem: what went wrong, in a sentence.
        remedy: what to do about it.
        facts: frames, seconds, moments and what else a worker tells, as JSON holds it.
        attempts: how often it was begun.
    """

    state: State
    problem: str = ""
    remedy: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how long a clip is tried again.

    Attributes:
        losses: times that a clip may lose its worker; it is given up with the last.
        busy_seconds: for which its folder may be in another's hands. A silent owner on another machine is taken for
            dead after two minutes (`io/lock.py`).
        pause_seconds: before the folder is tried again.
    """

    losses: int = 3
    busy_seconds: float = 300.0
    pause_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Attempts:
    """What a clip has been through.

    Attributes:
        begun: times that a worker began it.
        lost: times that the worker was lost meanwhile.
        busy_since: when its folder was first found in another's hands; None if it was free the last time.
    """

    begun: int = 0
    lost: int = 0
    busy_since: float | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """The clip is tried again, not before a time."""

    attempts: Attempts
    at: float


def after_outcome(outcome: Outcome, attempts: Attempts, now: float, retries: Retries) -> Outcome | Again:
    """Returns what follows from a worker's answer: the end of the clip, or another try."""
    if outcome.state != "busy":
        return replace(outcome, attempts=attempts.begun)
    since = now if attempts.busy_since is None else attempts.busy_since
    if now - since >= retries.busy_seconds:
        return replace(outcome, state="failed", attempts=attempts.begun)
    return Again(replace(attempts, busy_since=since), now + retries.pause_seconds)


def after_loss(why: str, attempts: Attempts, now: float, retries: Retries) -> Outcome | Again:
    """Returns what follows from the loss of a worker that had begun the clip."""
    attempts = replace(attempts, lost=attempts.lost + 1)
    if attempts.lost >= retries.losses:
        return Outcome(
            "failed",
            f"its worker was lost {attempts.lost} times ({why})",
            "if it ran out of memory, use fewer workers (--workers) or process smaller frames (--size); what "
            "was written is kept, and running the batch again goes on with it",
            attempts=attempts.begun,
        )
    return Again(attempts, now)


def in_order(clips: Iterable[Clip]) -> list[Clip]:
    """Returns the clips in the order to start them: largest first, so that no long clip runs alone at the end.

    Graham 1969, "Bounds on multiprocessing timing anomalies": longest first ends at most a third later than the best.
    """
    return sorted(clips, key=lambda clip: -clip.size)


class Schedule:
    """The clips of a batch: waiting, with a worker, or ended.

    Args:
        clips: of distinct names.
        retries: how often they are tried.

    Attributes:
        outcomes: of the clips that have ended, by name.
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
        """Returns the next clip for a worker; None while there is none that may be tried."""
        for number, (at, clip) in enumerate(self._waiting):
            if at <= now:
                del self._waiting[number]
                self._out[clip.name] = clip
                return clip
        return None

    def begun(self, name: str) -> None:
        """Notes that a worker has begun a clip."""
        if name in self._out:
            self._attempts[name] = replace(self._attempts[name], begun=self._attempts[name].begun + 1)

    def ended(self, name: str, outcome: Outcome, now: float) -> bool:
        """Takes a worker's answer; returns whether the clip has ended with it. A second answer changes nothing."""
        if name not in self._out:
            return False
        return self._settle(name, after_outcome(outcome, self._attempts[name], now, self._retries))

    def lost(self, name: str, why: str, begun: bool, now: float) -> bool:
        """Notes that a worker is gone with a clip; returns whether the clip has ended with it.

        Args:
            name: of the clip.
            why: the worker is gone.
            begun: whether it had begun the clip, which otherwise only waited there.
            now: the time.
        """
        if name not in self._out:
            return False
        attempts = self._attempts[name]
        return self._settle(name, after_loss(why, attempts, now, self._retries) if begun else Again(attempts, now))

    def stop(self) -> None:
        """Ends what waits."""
        for _, clip in self._waiting:
            begun = self._attempts[clip.name].begun
            self.outcomes[clip.name] = Outcome("stopped", "the batch was stopped before its turn", attempts=begun)
        self._waiting.clear()

    def abandon(self, why: str) -> None:
        """Ends everything, also what workers have not answered for."""
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
