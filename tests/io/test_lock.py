"""One writer for each folder, whatever becomes of the others."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from refusals import refusal

from mnemask.errors import OutputError
from mnemask.io import lock
from mnemask.io.lock import LOCK, OutputLock

HOLD = """
import sys, time
from mnemask.io.lock import OutputLock
with OutputLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """A process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_with_who_and_since_when(tmp_path, other):
    with refusal(OutputError, rf"{other.pid}", rf"{socket.gethostname()}", r"20"):
        OutputLock(tmp_path).__enter__()
    other.communicate("")
    with OutputLock(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("reaped", [False, True])
def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, other, reaped):
    other.send_signal(signal.SIGKILL)
    if reaped:
        other.wait()
    deadline = time.monotonic() + 20
    while True:
        try:
            with OutputLock(tmp_path) as held:
                held.check()
            break
        except OutputError:  # the system has not ended it yet
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert not list(tmp_path.iterdir())


def forged(tmp_path, **changes):
    """Leaves the lock of this process, changed, and returns its path."""
    with OutputLock(tmp_path):
        owner = json.loads((tmp_path / LOCK).read_text())
    path = tmp_path / LOCK
    path.touch()
    path.write_text(json.dumps(owner | {"inode": path.stat().st_ino} | changes))
    return path


def test_a_number_that_was_given_away_again_is_not_the_owner(tmp_path):
    forged(tmp_path, pid=os.getppid(), began="1")
    with OutputLock(tmp_path):
        pass


def test_a_lock_that_was_copied_with_its_folder_holds_nothing(tmp_path, other):
    owner = json.loads((tmp_path / LOCK).read_text())
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / LOCK).write_text(json.dumps(owner))
    with OutputLock(copy):
        pass


def test_a_process_that_died_while_it_took_over_holds_nothing_up(tmp_path):
    dead = json.loads(forged(tmp_path, pid=os.getppid(), began="1").read_text())
    for name in (f"{LOCK}.taking", f"{LOCK}.0123456789ab"):
        path = tmp_path / name
        path.touch()
        path.write_text(json.dumps(dead | {"inode": path.stat().st_ino}))
    with OutputLock(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_a_process_that_takes_over_now_is_left_to_it(tmp_path, other):
    theirs = json.loads((tmp_path / LOCK).read_text())
    place = tmp_path / "elsewhere"
    place.mkdir()
    forged(place, pid=os.getppid(), began="1")
    guard = place / f"{LOCK}.taking"
    guard.touch()
    guard.write_text(json.dumps(theirs | {"inode": guard.stat().st_ino}))
    with refusal(OutputError, f"process {other.pid}"):
        OutputLock(place).__enter__()
    assert guard.exists()


def test_a_process_of_another_machine_is_dead_when_it_is_silent(tmp_path):
    path = forged(tmp_path, host="elsewhere", boot="another")
    with refusal(OutputError, "elsewhere"):
        OutputLock(tmp_path).__enter__()
    long_ago = time.time() - lock.STALE - 9
    os.utime(path, (long_ago, long_ago))
    with OutputLock(tmp_path):
        pass


def test_a_garbled_lock_is_somebodys_until_it_is_old(tmp_path):
    (tmp_path / LOCK).write_text("{")
    with refusal(OutputError, "use"):
        OutputLock(tmp_path).__enter__()
    os.utime(tmp_path / LOCK, (0, 0))
    with OutputLock(tmp_path):
        pass


@pytest.mark.parametrize("ahead", [3600, 50 * 365 * 24 * 3600])
@pytest.mark.parametrize("is_empty", [False, True])
def test_after_a_reboot_that_set_the_clock_back_the_dead_runs_lock_is_taken_over(tmp_path, ahead, is_empty):
    path = forged(tmp_path, boot="another")
    if is_empty:
        path.write_bytes(b"")
    os.utime(path, (time.time() + ahead,) * 2)
    with OutputLock(tmp_path):
        pass


def test_a_clock_that_is_a_little_behind_makes_no_process_dead(tmp_path):
    path = forged(tmp_path, host="elsewhere", boot="another")
    os.utime(path, (time.time() + 5,) * 2)
    with refusal(OutputError, "elsewhere"):
        OutputLock(tmp_path).__enter__()


def test_another_machine_whose_clock_is_hours_ahead_is_not_dead(tmp_path):
    path = forged(tmp_path, host="elsewhere", boot="another")
    os.utime(path, (time.time() + 7200,) * 2)
    with refusal(OutputError, "elsewhere"):
        OutputLock(tmp_path).__enter__()


def test_a_lock_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced, link, fsync = [], os.link, os.fsync

    def noted(handle):
        synced.append(os.fstat(handle).st_ino)
        fsync(handle)

    def watched(source, target):
        assert Path(source).stat().st_ino in synced
        link(source, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "link", watched)
    with OutputLock(tmp_path):
        assert synced


def test_it_shows_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.01)
    with OutputLock(tmp_path):
        os.utime(tmp_path / LOCK, (0, 0))
        deadline = time.monotonic() + 20
        while (tmp_path / LOCK).stat().st_mtime < 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_the_thread_that_has_it_may_enter_again_and_another_may_not(tmp_path):
    errors = []

    def enter():
        try:
            with OutputLock(tmp_path):
                pass
        except OutputError as error:
            errors.append(error)

    with OutputLock(tmp_path) as outer:
        with OutputLock(tmp_path):
            pass
        outer.check()
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
    assert len(errors) == 1


def test_a_run_that_lost_its_lock_learns_of_it(tmp_path):
    with OutputLock(tmp_path) as held:
        (tmp_path / LOCK).unlink()
        with refusal(OutputError, "longer"):
            held.check()


def test_a_folder_that_is_empty_in_the_end_goes_as_it_came(tmp_path):
    with OutputLock(tmp_path / "new/folder"):
        pass
    assert not list(tmp_path.iterdir())


def test_many_that_begin_at_once_have_one_winner(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        ) for _ in range(3)
    ]  # fmt: skip
    # A loser ends by itself, having said nothing; the winner waits for its input to end.
    lines = [process.stdout.readline() for process in processes]
    for process in processes:
        process.communicate()
    assert sorted(lines) == ["", "", "held\n"]


def test_a_link_that_leads_nowhere_is_no_lock_to_wait_for(tmp_path):
    (tmp_path / LOCK).symlink_to("nowhere")
    with refusal(OutputError, LOCK), OutputLock(tmp_path):
        pass


def test_a_disk_that_fails_for_a_moment_does_not_end_the_run(tmp_path, monkeypatch):
    with OutputLock(tmp_path) as held:
        monkeypatch.setattr(lock, "_read", lambda path: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        held.check()
        monkeypatch.undo()
        (tmp_path / LOCK).write_text("{}")
        with refusal(OutputError, "no longer locked"):
            held.check()
