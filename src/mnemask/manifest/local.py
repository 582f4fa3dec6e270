"""Worker processes on this machine, as many as fit its cores and memory, each with one clip at a time.

A worker that dies is replaced. If the batch itself dies, its workers see their pipe closed, save their clip and exit.
"""

import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import cast

from mnemask.errors import MnemaskError
from mnemask.manifest.run import Advanced, Begun, Control, Ended, Event, Lost, Said, Setup, Work
from mnemask.manifest.schedule import Clip, Outcome

_QUICK_DEATHS = 3
"""Consecutive workers that end before they are ready, after which the batch is given up."""
_GRACE_SECONDS = 5.0


class LocalWorkers:
    """Processes of this machine as the backend of a batch.

    Args:
        setup: setup of each worker; with `gpus`, the GPUs of the machine are assigned in turn.
        workers: number of workers.
        num_gpus: number of GPUs of the machine.

    Raises:
        MnemaskError: workers cannot be started (raised by `wait`).
    """

    def __init__(self, setup: Setup, workers: int, num_gpus: int = 0) -> None:
        self._setup, self._num_gpus = setup, num_gpus
        self._workers: list[_Worker | None] = [None] * workers
        self._stopped = False
        self._deaths = 0

    def __enter__(self) -> "LocalWorkers":
        for number in range(len(self._workers)):
            self._workers[number] = self._start(number)
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._alive():
            worker.pipe.close()  # it then exits by itself, after saving an unfinished clip
        for worker in self._alive():
            _end(worker.process)

    @property
    def room(self) -> int:
        """How many workers have no clip."""
        return 0 if self._stopped else sum(worker.clip is None for worker in self._alive())

    def submit(self, clip: Clip) -> None:
        """Hands a clip to a worker that has none."""
        worker = next(worker for worker in self._alive() if worker.clip is None)
        worker.clip = clip.name
        with suppress(OSError):  # it has just died, which `wait` will notice
            worker.pipe.send(clip)

    def wait(self, seconds: float) -> Sequence[Event]:
        """Returns the workers' events, and replaces workers that died."""
        by_pipe = {worker.pipe: (number, worker) for number, worker in enumerate(self._workers) if worker is not None}
        events: list[Event] = []
        for pipe in wait(list(by_pipe), seconds):
            number, worker = by_pipe[cast(Connection, pipe)]
            try:
                while worker.pipe.poll():
                    self._hear(worker, worker.pipe.recv(), events)
            except (EOFError, OSError):
                self._bury(number, worker, events)
        return events

    def stop(self, why: str) -> None:
        """Asks all workers to finish and save their frame."""
        self._stopped = True
        for worker in self._alive():
            with suppress(OSError):
                worker.pipe.send(why)

    def _alive(self) -> "list[_Worker]":
        return [worker for worker in self._workers if worker is not None]

    def _start(self, number: int) -> "_Worker":
        # Not forked: torch's threads and CUDA do not survive a fork.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        gpu = _gpu_of(number, self._num_gpus) if self._num_gpus and self._setup.gpus else None
        process = context.Process(target=_serve, args=(theirs, self._setup, gpu), name=f"mnemask-worker-{number}")
        process.start()
        theirs.close()  # or the end of the process would go unnoticed
        return _Worker(process, ours)

    def _hear(self, worker: "_Worker", event: Event | None, events: list[Event]) -> None:
        if event is None:
            worker.is_ready = True
            self._deaths = 0
            return
        if isinstance(event, Begun):
            worker.begun = True
        elif isinstance(event, Ended):
            worker.clip, worker.begun = None, False
        events.append(event)

    def _bury(self, number: int, worker: "_Worker", events: list[Event]) -> None:
        _end(worker.process)
        why = _cause(worker.process.exitcode)
        if worker.clip is not None:
            events.append(Lost(worker.clip, why, worker.begun))
        worker.pipe.close()
        self._workers[number] = None
        if self._stopped:
            return
        if not worker.is_ready:
            self._deaths += 1
            if self._deaths >= _QUICK_DEATHS:
                raise MnemaskError(
                    f"worker processes exit before they are ready ({why})",
                    "see their output on stderr for the reason; try a single one with --workers 1",
                )
        events.append(Said(f"worker process {worker.process.pid} was lost ({why}) and is replaced"))
        self._workers[number] = self._start(number)


@dataclass(slots=True)
class _Worker:
    """A process, the pipe to it, its clip, and whether it has started that."""

    process: BaseProcess
    pipe: Connection
    clip: str | None = None
    begun: bool = False
    is_ready: bool = False


def _end(process: BaseProcess) -> None:
    """Waits for a process to exit; kills it after `_GRACE_SECONDS`."""
    process.join(_GRACE_SECONDS)
    if process.is_alive():
        process.kill()
        process.join()


def _cause(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        with suppress(ValueError):
            name = signal.Signals(-exit_code).name
            return "killed by SIGKILL, as the system does when memory runs out" if name == "SIGKILL" else name
    return f"exit code {exit_code}"


def open_worker(setup: Setup) -> Work:
    """Returns the function that processes a clip, created in this process so that weights stay loaded between clips."""
    module, _, name = setup.worker.partition(":")
    work: Work = getattr(import_module(module), name)({**setup.options, "threads": setup.threads})
    return work


def answer(work: Work, clip: Clip, control: Control) -> Outcome:
    """Returns the outcome of a clip; any exception makes this clip fail, without ending the worker."""
    try:
        return work(clip, control)
    except MnemaskError as error:
        return Outcome("failed", error.problem, error.remedy)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        return Outcome("failed", f"{type(error).__name__}: {error} ({where})", "this is a bug in mnemask: report it")


class PipeControl:
    """A worker process's connection to the batch.

    Args:
        pipe: the pipe to the batch.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._why = pipe, ""
        self._clip = ""
        self.clips: queue.SimpleQueue[Clip | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def begin(self, clip: str) -> None:
        """Reports that a clip is started."""
        self._clip = clip
        self.say(Begun(clip, f"process {os.getpid()}"))

    def advance(self, frames: int, total: int | None) -> None:
        """Reports the progress of the clip."""
        self.say(Advanced(self._clip, frames, total))

    def stop(self) -> str | None:
        """Returns why the batch is being stopped; None while it is not."""
        return self._why or None

    def say(self, event: Event | None) -> None:
        """Sends an event, unless the batch is gone."""
        with suppress(OSError):
            self._pipe.send(event)

    def _listen(self) -> None:
        try:
            while isinstance(said := self._pipe.recv(), Clip):
                self.clips.put(said)
            self._why = said
        except (EOFError, OSError):
            self._why = "the end of the batch"
        self.clips.put(None)


def _gpu_of(worker: int, num_gpus: int) -> str:
    """Returns the GPU that a worker sees, assigned in turn from those that this process sees."""
    seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return (seen or [str(gpu) for gpu in range(num_gpus)])[worker % num_gpus].strip()


def _serve(pipe: Connection, setup: Setup, gpu: str | None) -> None:
    """Processes clip after clip until the batch is stopped or the pipe is closed."""
    # Ctrl-C in the terminal is handled by the batch, which tells its workers; two signals would end them at once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = str(setup.threads)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    control = PipeControl(pipe)
    work = open_worker(setup)
    control.say(None)
    while (clip := control.clips.get()) is not None and control.stop() is None:
        control.begin(clip.name)
        control.say(Ended(clip.name, answer(work, clip, control)))
