"""Jobs shared out to processes that end with the one that started them, however that ends."""

import os
import signal
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process
from threading import Thread
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from mnemask.errors import InputError

SECONDS_BETWEEN_LOOKS = 0.5

Outcome_co = TypeVar("Outcome_co", covariant=True)
Outcome = TypeVar("Outcome")


@runtime_checkable
class Task(Protocol[Outcome_co]):
    """What a process is given to do: it can be pickled, and so can what comes of it."""

    def run(self, on_frame: Callable[[], None]) -> Outcome_co:
        """Returns what came of it; `on_frame` is called after each frame."""


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """Raised in a process that is to stop before its job is done."""


def results_of(
    jobs: Sequence[Task[Outcome]], processes: int, on_frames: Callable[[int], None]
) -> Generator[Outcome, None, None]:
    """Yields the result of each job when it is there.

    Args:
        jobs: in the order in which they are begun.
        processes: 1 works in this process, more in as many others of one thread each.
        on_frames: is told now and then how many frames are tracked.

    Raises:
        InputError: a process was killed.
        MnemaskError: that a job raised; the others stop.
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
                f"one of {processes} processes was killed, mostly for want of memory; what is done is kept, so run it "
                "again with fewer processes"
            ) from error
        finally:
            # Whatever ended this, also Ctrl-C: each process stops at its next frame, or has nothing left to do.
            stop.set()
            pool.shutdown(cancel_futures=True)


# What a process shares with the one that started it: the counter of frames, and the sign to stop.
_shared: dict[str, Any] = {}


def _begin(frames: Any, stop: Any) -> None:
    """Prepares a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent decides
    torch.set_num_threads(1)
    _shared.update(frames=frames, stop=stop)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Waits for the parent's end, which a process that waits for work would not notice, and ends this one."""
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
