"""Runs policies × sequences of a benchmark in several processes; each result is saved at once, so runs can resume.

Worker processes end with the process that started them, however that ends.
"""

import os
import pickle
import signal
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from mnemask.errors import InputError, OutputError
from mnemask.evaluation.benchmark import Benchmark, BenchmarkSequence
from mnemask.evaluation.results import Result, ResultFolder
from mnemask.evaluation.runner import Job, TrackerFactory
from mnemask.version import __version__

SECONDS_BETWEEN_LOOKS = 0.5

Outcome_co = TypeVar("Outcome_co", covariant=True)
Outcome = TypeVar("Outcome")


@runtime_checkable
class Task(Protocol[Outcome_co]):
    """A unit of work for a process; the task and its result can be pickled."""

    def run(self, on_frame: Callable[[], None]) -> Outcome_co:
        """Returns the result; `on_frame` is called after each frame."""


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """Raised in a process that must stop before its job is done."""


def run_jobs(
    jobs: Sequence[Task[Outcome]], processes: int, on_frames: Callable[[int], None]
) -> Generator[Outcome, None, None]:
    """Yields the result of each job as it becomes available.

    Args:
        jobs: the jobs, in the order in which they are started.
        processes: 1 to work in this process, more for as many others with one thread each.
        on_frames: called regularly with the number of frames tracked so far.

    Raises:
        InputError: a process was killed, or a job cannot be pickled.
        MnemaskError: a job raised it; the others stop.
    """
    return _here(jobs, on_frames) if processes == 1 else _elsewhere(jobs, min(processes, len(jobs)), on_frames)


def _here(jobs: Sequence[Task[Outcome]], on_frames: Callable[[int], None]) -> Generator[Outcome, None, None]:
    frames = 0

    def count() -> None:
        nonlocal frames
        frames += 1
        on_frames(frames)

    for job in jobs:
        yield job.run(count)


def _elsewhere(
    jobs: Sequence[Task[Outcome]], processes: int, on_frames: Callable[[int], None]
) -> Generator[Outcome, None, None]:
    if not jobs:
        return
    _refuse_unsendable(jobs)
    context = get_context("spawn")
    frames, stop = context.Value("q", 0), context.Event()
    with ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(frames, stop)) as pool:
        try:
            waiting: set[Future[Outcome]] = {pool.submit(_work, job) for job in jobs}
            while waiting:
                done, waiting = wait(waiting, SECONDS_BETWEEN_LOOKS, FIRST_COMPLETED)
                for future in done:
                    yield future.result()
                on_frames(frames.value)
        except BrokenProcessPool as error:
            raise InputError(
                f"one of {processes} processes was killed, most likely because memory ran out",
                "run it again with fewer processes; results so far are kept",
            ) from error
        finally:
            # However this ends, Ctrl-C included, each process stops at its next frame.
            stop.set()
            pool.shutdown(cancel_futures=True)


def _refuse_unsendable(jobs: Sequence[Task[Outcome]]) -> None:
    """Raises InputError if a job cannot be pickled, which the pool would notice only in a thread of its own."""
    for job in jobs:
        try:
            pickle.dumps(job)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise InputError(
                f"a job cannot be sent to another process ({error})",
                "use one process, or give each class and function a name at the top level of a module (no lambda)",
            ) from error


# What a process shares with the one that started it: the counter of frames, and the event to stop.
_shared: dict[str, Any] = {}


def _begin(frames: Any, stop: Any) -> None:
    """Prepares a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent handles it
    torch.set_num_threads(1)
    _shared.update(frames=frames, stop=stop)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process when its parent ends, which a process waiting for work would not notice."""
    parent = parent_process()
    assert parent is not None, "runs only in a process that was started by another"
    connection.wait([parent.sentinel])
    os._exit(1)


def _work(job: Task[Outcome]) -> Outcome:
    def count() -> None:
        with _shared["frames"].get_lock():
            _shared["frames"].value += 1
        if _shared["stop"].is_set():
            raise Stopped

    return job.run(count)


@dataclass(slots=True)
class SuiteProgress:
    """The progress of a run.

    Attributes:
        found: number of results that existed at the start.
        done: number of results that exist now, including those.
        total: number of results requested.
        frames: number of frames tracked in this run so far.
        total_frames: number of frames to track in this run.
        seconds: time since the start.
    """

    found: int
    done: int
    total: int
    total_frames: int
    frames: int = 0
    seconds: float = 0.0

    @property
    def frames_per_second(self) -> float:
        """Frames per second of all processes together, including reading, writing and scoring."""
        return self.frames / self.seconds if self.seconds else 0.0


def run_benchmark(
    benchmark: Benchmark,
    policies: Sequence[str],
    out: Path | str,
    trackers: TrackerFactory | None = None,
    *,
    sequences: Iterable[str] = (),
    processes: int = 1,
    on_progress: Callable[[SuiteProgress], None] = lambda progress: None,
) -> list[Result]:
    """Returns the result of each policy on each sequence; results that `out` already holds are reused.

    Only one run at a time may use a folder. With several processes, call it under `if __name__ == "__main__":`.

    Args:
        benchmark: the videos and their rules.
        policies: names in `POLICIES`; `register_policy` adds your own.
        out: the folder for masks and results, created if missing; see `mnemask.evaluation.results`.
        trackers: the network and the settings that all trackers share.
        sequences: names of the videos; all by default.
        processes: 1 to compute in this process with all its threads, more for as many others with one thread each.
        on_progress: called with the progress, at least at the start, with each result and at the end.

    Raises:
        OutputError: the folder cannot be written to, or holds results of other settings.
        MnemaskError: another argument cannot be used. Results so far are kept.
    """
    if processes < 1:
        raise InputError(f"cannot run with {processes} processes", "give 1 or more")
    opened, policies = benchmark.open(sequences), list(dict.fromkeys(policies))
    _refuse_data(Path(out), benchmark, opened)
    trackers = (trackers or TrackerFactory()).with_these_weights()
    for policy in policies:
        trackers.with_policy(policy).tracker()
    folder = ResultFolder.open(out, {"mnemask": __version__, **benchmark.settings(), **trackers.settings()})
    # All policies on one sequence before the next sequence, so that they share its key features.
    jobs = [Job(sequence, policy, trackers.with_policy(policy), folder) for sequence in opened for policy in policies]
    results = {job.key: job.found() for job in jobs}
    missing = [job for job in jobs if results[job.key] is None]
    num_frames = sum(len(job.sequence.given.frames) for job in missing)
    for result in carry_out(missing, num_frames, len(jobs) - len(missing), processes, on_progress):
        results[result.policy, result.sequence] = result
    in_order = (results[policy, sequence.name] for policy in policies for sequence in opened)
    return [result for result in in_order if result is not None]


def _refuse_data(out: Path, benchmark: Benchmark, sequences: Sequence[BenchmarkSequence]) -> None:
    """Raises OutputError if results would be written among the data, where they would be taken for masks."""
    videos = {sequence.given.frames[0].parent.parent.resolve() for sequence in sequences}
    if out.resolve() in {Path(benchmark.root).resolve(), *videos}:
        raise OutputError(f"{str(out)!r} holds the data set", "give another folder for the results (-o)")


def carry_out(
    tasks: Sequence[Task[Outcome]],
    num_frames: int,
    found: int,
    processes: int,
    on_progress: Callable[[SuiteProgress], None],
) -> list[Outcome]:
    """Returns the results of the tasks in the order in which they ended, and reports progress.

    Args:
        tasks: the tasks to run.
        num_frames: the number of frames that they will track.
        found: the number of other tasks that were done before.
        processes: 1 to compute in this process with all its threads, more for as many others with one thread each.
        on_progress: called at least at the start, with each result and at the end.
    """
    progress, begin = SuiteProgress(found, found, found + len(tasks), num_frames), time.perf_counter()
    outcomes: list[Outcome] = []

    def tell(frames: int) -> None:
        progress.frames, progress.seconds = frames, time.perf_counter() - begin
        on_progress(progress)

    tell(0)
    # Closed explicitly: after an interrupt, the traceback would keep the generator, and so its processes, alive.
    with closing(run_jobs(tasks, processes, tell)) as arriving:
        for outcome in arriving:
            outcomes.append(outcome)
            progress.done += 1
    tell(num_frames)
    return outcomes
