"""Hostile input reaches the code as it does outside the tests, and may take neither long nor much memory."""

import signal
from pathlib import Path

import jaxtyping
import pytest
from hostile import EXAMPLES

collect_ignore = ["atheris_parsers.py"]  # needs atheris, and is run by hand

SECONDS = 60  # of the processor, for one test with all its examples
MOST_BYTES = 300 * 2**20  # beyond what was resident before


def memory(name):
    """A figure of this process's memory in bytes."""
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0])


@pytest.fixture(autouse=True)
def _as_users_call_it():
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True)
def _no_hang():
    def too_long(*_):
        pytest.fail(f"it hangs: {SECONDS} s of the processor are over")

    before = signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_PROF, SECONDS * EXAMPLES / 40)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)


@pytest.fixture(autouse=True)
def _little_memory():
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    except OSError:
        yield  # without Linux's accounting only time is bounded
        return
    before = memory("VmRSS")
    yield
    assert memory("VmHWM") - before < MOST_BYTES


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A file name that each example uses anew."""
    return tmp_path_factory.mktemp("fuzz") / "file"
