"""How many workers fit on a machine or a cluster."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mnemask.manifest.run import Setup

_MEMORY_KEPT = 0.1
"""Share of the free memory left for everything else."""


def free_memory() -> int | None:
    """Returns the free memory in bytes of this machine or this process's control group; None if unknown."""
    found = []
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]))
    with suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        found.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    if not found and hasattr(os, "sysconf"):
        with suppress(OSError, ValueError):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return min(found, default=None)


def usable_cores() -> int:
    """Returns the number of cores that this process may use, from its affinity and its control group's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def num_workers(
    cores: int, memory: int | None, memory_each: int, num_clips: int, gpus: int = 0, asked: int | None = None
) -> tuple[int, int]:
    """Returns how many workers to start and how many threads each computes with.

    On a CPU, one thread per clip wastes nothing, while a second thread on the same clip waits much of the time; so
    there are as many workers as cores unless memory or clips limit them. With GPUs there is one worker for each.

    Args:
        cores: number of usable cores.
        memory: free memory in bytes; None if unknown.
        memory_each: bytes that a worker may take.
        num_clips: number of clips still to be done.
        gpus: number of GPUs of this machine; 0 to compute on the CPU.
        asked: number of workers set by the user, which overrides the limits of cores, GPUs and memory.
    """
    fitting = cores if memory is None else int(memory * (1 - _MEMORY_KEPT)) // max(memory_each, 1)
    workers = max(1, min(asked or min(gpus or cores, fitting), num_clips))
    return workers, max(1, cores // workers)


def slots(nodes: Sequence[Mapping[str, Any]], setup: Setup) -> int:
    """Returns how many actors fit on the nodes that are alive.

    Args:
        nodes: the result of `ray.nodes()`.
        setup: setup with the resources that an actor takes.
    """
    found = 0
    for node in nodes:
        has = node.get("Resources", {})
        if not node.get("Alive"):
            continue
        fitting = [int(has.get("CPU", 0)) // setup.threads]
        if setup.gpus:
            fitting.append(int(has.get("GPU", 0) / setup.gpus))
        if setup.memory:
            fitting.append(int(has.get("memory", 0)) // setup.memory)
        found += min(fitting)
    return found


def threads_on(nodes: Sequence[Mapping[str, Any]], setup: Setup, most: int) -> int:
    """Returns how many threads each of `most` actors may have if the cluster has more cores than there are clips."""
    threads = setup.threads
    while slots(nodes, replace(setup, threads=threads + 1)) >= most:
        threads += 1
    return threads
