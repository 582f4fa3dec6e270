"""Actors on a Ray cluster as the workers of a batch: each loads the weights once and processes clip after clip.

Each actor has one clip at a time: handing it the next one takes milliseconds, while clips queued behind a long one
would be late and leave other actors idle. Actors are started wherever the cluster has room, also on nodes that join
later, and those of lost nodes are replaced elsewhere. If the driver dies, Ray ends its actors, and the next batch
skips the clips that are complete.
"""

import logging
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mnemask.errors import InputError, MnemaskError, missing_extra
from mnemask.manifest.ray_actor import Board, RayWorker
from mnemask.manifest.run import Begun, Ended, Event, Lost, Said, Setup
from mnemask.manifest.schedule import Clip
from mnemask.manifest.sizing import slots, threads_on
from mnemask.version import __version__

_LOOK_SECONDS = 3.0
"""Interval between checks of the cluster's nodes."""
_ALONE_SECONDS = 30.0
"""Time after which the user is told that no actor has started yet."""
_CONNECT_SECONDS = 5.0
"""Timeout of the first connection to a cluster."""
_FAILED_STARTS = 3
"""Consecutive actors that die before they are ready, after which the batch is given up if none works."""
_PAUSE_SECONDS = 5.0
"""Time before such an actor is replaced; longer each time."""


@dataclass(slots=True)
class _Actor:
    """An actor, its location once reported, and its clip."""

    handle: Any
    ready: Any
    where: str = ""
    is_ready: bool = False
    clip: str = ""
    task: Any = None


class RayWorkers:
    """The actors of a cluster as the backend of a batch.

    If any node has a GPU, actors take one each, and nodes without GPUs are not used; else actors take cores.

    Args:
        setup: setup and resources of each actor; a positive `gpus` allows GPUs.
        address: address of the cluster, or "auto" for the one that runs on this machine.
        most: maximum number of actors.

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: there is no such cluster (raised on entering).
        MnemaskError: no actor can work (raised by `wait`).
    """

    def __init__(self, setup: Setup, address: str, most: int) -> None:
        try:
            import ray
        except ImportError as error:
            raise missing_extra("--ray needs the package ray", "ray") from error
        self._ray, self._setup, self._address, self._most = ray, setup, address, most
        self._actors: list[_Actor] = []
        self._useless: list[_Actor] = []
        self._began: set[str] = set()
        self._stopped = self._connected = self._told = False
        self._failed_starts = 0
        self._looked = self._since = 0.0

    def __enter__(self) -> "RayWorkers":
        ray = self._ray
        if not ray.is_initialized():
            _refuse_silent(self._address)
            ends = signal.getsignal(signal.SIGTERM)
            try:
                ray.init(self._address, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, ValueError, RuntimeError, OSError) as error:
                raise _no_cluster(self._address, str(error).splitlines()[0]) from error
            finally:
                if threading.current_thread() is threading.main_thread():
                    signal.signal(signal.SIGTERM, ends)  # Ray replaced it with a handler that exits at once
            self._connected = True
        nodes = ray.nodes()
        on_gpu = self._setup.gpus and any(node["Resources"].get("GPU") for node in nodes if node["Alive"])
        self._setup = replace(self._setup, gpus=float(bool(on_gpu)))
        self._setup = replace(self._setup, threads=threads_on(nodes, self._setup, self._most))
        # If its node is lost, the board is restarted elsewhere, and calls wait for it.
        lasting = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
        self._board = ray.remote(Board).options(**lasting, **self._here()).remote()
        self._since = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        for actor in [*self._actors, *self._useless]:
            with suppress(Exception):
                self._ray.kill(actor.handle)
        with suppress(Exception):
            self._ray.kill(self._board)
        if self._connected:
            self._ray.shutdown()

    @property
    def room(self) -> int:
        """How many actors are ready and have no clip."""
        return 0 if self._stopped else sum(actor.is_ready and actor.task is None for actor in self._actors)

    def submit(self, clip: Clip) -> None:
        """Hands a clip to an actor that has none."""
        actor = next(actor for actor in self._actors if actor.is_ready and actor.task is None)
        actor.clip, actor.task = clip.name, actor.handle.work.remote(clip)

    def wait(self, seconds: float) -> Sequence[Event]:
        """Returns the actors' events, and starts missing actors where there is room."""
        events: list[Event] = []
        if not self._stopped and time.monotonic() - self._looked > _LOOK_SECONDS:
            self._start_missing(events)
        refs = [actor.task if actor.is_ready else actor.ready for actor in self._actors]
        refs = [ref for ref in refs if ref is not None]
        done: list[Any] = []
        if refs:
            done, _ = self._ray.wait(refs, num_returns=1, timeout=seconds)
        else:
            time.sleep(seconds)
        answers = {ref: self._answer(ref) for ref in done}
        # Events on the board came before the answers: an actor starts only after the board has its `Begun`.
        events += self._said()
        for actor in list(self._actors):
            if actor.ready in answers and not actor.is_ready:
                self._hear_ready(actor, answers[actor.ready], events)
            elif actor.task in answers:
                self._hear(actor, answers[actor.task], events)
        return events

    def stop(self, why: str) -> None:
        """Asks all actors to finish and save their frame."""
        self._stopped = True
        self._ray.get(self._board.ask_to_stop.remote(why))

    def _here(self) -> dict[str, Any]:
        """Returns options that put an actor on the driver's node, so that it is lost only together with the batch."""
        if self._address.startswith("ray://"):
            return {}  # the driver is on no node
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        node = self._ray.get_runtime_context().get_node_id()
        return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=True)}

    def _start_missing(self, events: list[Event]) -> None:
        self._looked = time.monotonic()
        wanted = min(slots(self._ray.nodes(), self._setup), self._most)
        for _ in range(wanted - len(self._actors) - len(self._useless)):
            taken = {"num_cpus": self._setup.threads, "num_gpus": self._setup.gpus}
            if self._setup.memory:
                taken["memory"] = self._setup.memory
            kind = self._ray.remote(RayWorker).options(**taken, max_restarts=0, max_task_retries=0)
            handle = kind.remote(self._setup, self._board)
            self._actors.append(_Actor(handle, handle.ready.remote()))
        waited = self._looked - self._since
        if waited > _ALONE_SECONDS and not self._told and not any(actor.is_ready for actor in self._actors):
            self._told = True
            takes = f"{self._setup.gpus:.0f} GPUs" if self._setup.gpus else f"{self._setup.threads} CPUs"
            events.append(
                Said(
                    f"no worker has started in {waited:.0f} s: each needs {takes} and "
                    f"{self._setup.memory >> 20} MiB on one node; `ray status` shows what is free"
                )
            )

    def _answer(self, ref: Any) -> Any:
        """Returns a task's result, or the error that ended it."""
        try:
            return self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            return error

    def _said(self) -> list[Event]:
        try:
            found: list[Event] = self._ray.get(self._board.take.remote(), timeout=10)
        except self._ray.exceptions.RayError:
            return []
        self._began |= {event.clip for event in found if isinstance(event, Begun)}
        return found

    def _hear_ready(self, actor: _Actor, said: Any, events: list[Event]) -> None:
        if isinstance(said, Exception):
            self._bury(actor, said, events)
            self._failed_starts += 1
            self._looked = time.monotonic() + _PAUSE_SECONDS * self._failed_starts
            if self._failed_starts >= _FAILED_STARTS and not any(actor.is_ready for actor in self._actors):
                raise MnemaskError(
                    f"no worker can start on the cluster ({_last_line(said)})",
                    f"install mnemask {__version__} and the same Python version on every node",
                )
            return
        actor.where, problem = said
        if not problem:
            actor.is_ready, self._failed_starts = True, 0
            return
        # It stays alive and idle, so that no other one is started on that node in its place.
        self._actors.remove(actor)
        self._useless.append(actor)
        if not self._actors:
            raise MnemaskError(f"no worker can run: {problem}", "fix this on the nodes")
        events.append(Said(f"{actor.where} is not used: {problem}"))

    def _hear(self, actor: _Actor, said: Any, events: list[Event]) -> None:
        if isinstance(said, Exception):
            self._bury(actor, said, events)
            return
        self._began.discard(actor.clip)
        events.append(Ended(actor.clip, said))
        actor.task = None

    def _bury(self, actor: _Actor, error: Exception, events: list[Event]) -> None:
        """Removes a lost actor, and reports its clip as lost."""
        self._actors.remove(actor)
        with suppress(Exception):  # one that was merely unreachable must not continue
            self._ray.kill(actor.handle)
        why = f"{actor.where or 'an actor that was starting'}: {_last_line(error)}"
        if actor.task is not None:
            events.append(Lost(actor.clip, why, actor.clip in self._began))
            self._began.discard(actor.clip)
        self._looked = 0.0
        if not self._stopped:
            events.append(Said(f"a worker was lost ({why}); it is replaced where there is room"))


def _refuse_silent(address: str) -> None:
    """Raises InputError if nothing listens at an address: Ray would wait for minutes, even for a cluster that ended.

    Args:
        address: HOST:PORT, ray://HOST:PORT, or "auto" for the address left by the last `ray start` on this machine.
    """
    if address == "auto":
        noted = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray" / "ray_current_cluster"
        address = os.environ.get("RAY_ADDRESS", "")
        if not address and noted.is_file():
            address = noted.read_text().strip()
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # Ray reports what is wrong with it
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from error


def _no_cluster(address: str, why: str) -> InputError:
    return InputError(
        f"there is no Ray cluster at {address!r} ({why})",
        "start one (ray start --head), give another address, or leave out --ray",
    )


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1][:200]}" if lines else type(error).__name__
