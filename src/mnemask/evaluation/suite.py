"""Policies × sequences of a benchmark, kept as soon as they are there, taken up where a run stopped."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mnemask.errors import InputError
from mnemask.evaluation.job import Job, TrackerSettings
from mnemask.evaluation.protocol import Benchmark
from mnemask.evaluation.results import Result, ResultFolder
from mnemask.evaluation.workers import Outcome, Task, results_of
from mnemask.version import __version__


@dataclass(slots=True)
class SuiteProgress:
    """How far a run has come.

    Attributes:
        found: results that were there at the beginning.
        done: results that are there now, those included.
        total: results that were asked for.
        frames: tracked in this run.
        total_frames: to track in this run.
        seconds: since its beginning.
    """

    found: int
    done: int
    total: int
    total_frames: int
    frames: int = 0
    seconds: float = 0.0

    @property
    def frames_per_second(self) -> float:
        """Frames per second of all processes together, with reading, writing and scoring."""
        return self.frames / self.seconds if self.seconds else 0.0


def run_benchmark(
    benchmark: Benchmark,
    policies: Sequence[str],
    out: Path | str,
    trackers: TrackerSettings | None = None,
    *,
    sequences: Iterable[str] = (),
    processes: int = 1,
    on_progress: Callable[[SuiteProgress], None] = lambda progress: None,
) -> list[Result]:
    """Returns the result of each policy on each sequence; those that `out` holds already are not made again.

    One run at a time may use a folder. With several processes, call it from below `if __name__ == "__main__":`.

    Args:
        benchmark: the videos and their rules.
        policies: names in `POLICIES`.
        out: the folder for masks and results, made if missing; see `mnemask.evaluation.results`.
        trackers: what all of them have in common.
        sequences: names of the videos; all by default.
        processes: 1 computes in this one with all its threads, more in as many of one thread each.
        on_progress: is told how far it has come, at least at the beginning, with each result and at the end.

    Raises:
        OutputError: the folder cannot be written to, or holds results of other settings.
        MnemaskError: whatever else was given is of no use. What was done before is kept.
    """
    if processes < 1:
        raise InputError(f"{processes} processes do nothing; give 1 or more")
    trackers = trackers or TrackerSettings()
    challenges, policies = benchmark.open(sequences), list(dict.fromkeys(policies))
    for policy in policies:
        trackers.tracker(policy)
    folder = ResultFolder.open(out, {"mnemask": __version__, **benchmark.settings(), **trackers.settings()})
    # Policy by policy on one sequence, whose key features they share.
    jobs = [Job(challenge, policy, trackers, folder) for challenge in challenges for policy in policies]
    results = {job.key: folder.load(*job.key) for job in jobs}
    missing = [job for job in jobs if results[job.key] is None]
    num_frames = sum(len(job.challenge.given.frames) for job in missing)
    for result in carry_out(missing, num_frames, len(jobs) - len(missing), processes, on_progress):
        results[result.policy, result.sequence] = result
    in_order = (results[policy, challenge.name] for policy in policies for challenge in challenges)
    return [result for result in in_order if result is not None]


def carry_out(
    tasks: Sequence[Task[Outcome]],
    num_frames: int,
    found: int,
    processes: int,
    on_progress: Callable[[SuiteProgress], None],
) -> list[Outcome]:
    """Returns what came of the tasks, in the order in which they ended, and tells how far they have come.

    Args:
        tasks: what is still to do.
        num_frames: that they will track.
        found: how many others were done before.
        processes: 1 computes in this one with all its threads, more in as many of one thread each.
        on_progress: is told at least at the beginning, with each outcome and at the end.
    """
    progress, begin = SuiteProgress(found, found, found + len(tasks), num_frames), time.perf_counter()
    outcomes: list[Outcome] = []

    def tell(frames: int) -> None:
        progress.frames, progress.seconds = frames, time.perf_counter() - begin
        on_progress(progress)

    tell(0)
    # Closed at once, not when an interrupt's traceback is forgotten: until then its processes would go on.
    with closing(results_of(tasks, processes, tell)) as arriving:
        for outcome in arriving:
            outcomes.append(outcome)
            progress.done += 1
    tell(num_frames)
    return outcomes
