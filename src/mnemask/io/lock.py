"""One writer per output folder: a second run is refused at once, and the lock of a dead process is taken over.

The lock is a file in the folder, so that it also works where several machines share a disk. It identifies the process
by its PID, host, boot and start time, so that a reused PID is not mistaken for the owner. Since a process on another
machine cannot be looked up, the owner touches the file every `BEAT` seconds.
"""

import json
import os
import socket
import threading
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from mnemask.errors import OutputError
from mnemask.io.atomic import make_folder

LOCK = ".mnemask-lock"
BEAT, STALE = 15.0, 120.0
"""Heartbeat interval, and silence after which a process on another machine is presumed dead, in seconds."""

_held: dict[tuple[int, int], "OutputLock"] = {}
_registry = threading.Lock()


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that writes to a folder.

    Attributes:
        pid: the process id.
        host: the machine's name.
        boot: the machine's boot and PID namespace; empty if unknown.
        began: the start time of the process, as the system counts it; empty if unknown.
        since: the time at which it locked the folder, ISO 8601.
        token: unique id of this lock.
        inode: inode of the lock file; it differs if the folder was copied, and the lock with it.
    """

    pid: int
    host: str
    boot: str
    began: str
    since: str
    token: str
    inode: int

    @classmethod
    def me(cls, inode: int) -> "Owner":
        """Returns the owner for this process."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        return cls(os.getpid(), socket.gethostname(), _boot(), _began(os.getpid()) or "", now, uuid.uuid4().hex, inode)

    @property
    def is_local(self) -> bool:
        """Whether the process runs, or ran, on this machine since its last boot; always False on Windows."""
        return (self.host, self.boot) == (socket.gethostname(), _boot()) and os.name != "nt"

    def is_alive(self, silent: float) -> bool:
        """Returns whether the process is still running.

        Args:
            silent: seconds since its last heartbeat.
        """
        if not self.is_local:
            # Clocks of machines may differ by hours, and on some shared disks each uses its own.
            return _is_recent(silent) if self.host == socket.gethostname() else silent < STALE
        if self.pid == os.getpid():
            return any(lock.token == self.token for lock in _held.values())
        began = _began(self.pid)
        if began is not None or Path("/proc/self/stat").exists():
            return began is not None and began == self.began
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return _is_recent(silent)


class FolderInUseError(OutputError):
    """Another run writes to the folder, which becomes free when that run ends or is found to be dead."""


class OutputLock:
    """Context manager that keeps all other writers out of a folder.

    Args:
        folder: the folder, created if missing, and removed again if it is still empty at the end.
        again: whether the thread that holds the lock may enter it again.

    Raises:
        FolderInUseError: on entry, if another run uses the folder.
        OutputError: on entry, if the folder cannot be written to.
    """

    def __init__(self, folder: str | Path, *, again: bool = True) -> None:
        self._folder, self._again = Path(folder), again
        self.token = ""
        self._path = self._folder / LOCK
        self._outer: OutputLock | None = None
        self._made: list[Path] = []
        self._over = threading.Event()
        self._thread = 0

    def __enter__(self) -> "OutputLock":
        # Path.exists raises for names that no folder can have.
        self._made = [each for each in (self._folder, *self._folder.parents) if not os.path.exists(each)]  # noqa: PTH110
        make_folder(self._folder)
        state = self._folder.stat()
        self._key = state.st_dev, state.st_ino
        with _registry:
            outer = _held.get(self._key)
            if outer is not None and self._again and outer._thread == threading.get_ident():
                self._outer = outer
                return self
            self._acquire()
            self._thread = threading.get_ident()
            # While it is open, even a file system without stable inodes keeps the one that is recorded in it.
            self._open = os.open(self._path, os.O_RDONLY)
            _held[self._key] = self
        threading.Thread(target=self._beat, name="mnemask-lock", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._outer is not None:
            self._outer = None
            return
        self._over.set()
        with _registry:
            _held.pop(self._key, None)
        os.close(self._open)
        with suppress(OSError):
            if self._is_mine():
                self._path.unlink()
        for folder in self._made:
            with suppress(OSError):
                folder.rmdir()

    def check(self) -> None:
        """Raises OutputError if another run has taken the folder over, as can happen after a long sleep of this one."""
        if self._outer is not None:
            self._outer.check()
            return
        try:
            is_mine = self._is_mine()
        except OSError:
            return  # the disk may be temporarily unavailable; if it is not, the next write reports it
        if not is_mine:
            raise OutputError(
                f"{str(self._folder)!r} is no longer locked by this run, which was silent for too long",
                "another one may write there, so check what it holds, and continue with --resume",
            )

    def _acquire(self) -> None:
        temporary = self._folder / f"{LOCK}.{uuid.uuid4().hex[:12]}"
        try:
            with temporary.open("x", encoding="utf-8") as file:
                me = Owner.me(os.fstat(file.fileno()).st_ino)
                json.dump(asdict(me), file)
                file.flush()
                os.fsync(file.fileno())  # or a loss of power would leave a lock without an owner
            now = temporary.stat().st_mtime
            while not _place(temporary, self._path):
                found = _read(self._path)
                if found is None and not self._path.is_symlink():
                    continue  # it has just been released
                if found is None:
                    raise OutputError(f"{str(self._path)!r} is a dangling symbolic link", "remove it")
                if _is_alive(found, now):
                    raise _in_use(self._folder, found[0])
                self._take_over(temporary, me, found[0], now)
                break
        except OSError as error:
            raise OutputError(
                f"{str(self._folder)!r} cannot be written to ({error.strerror})",
                "give a folder that you may write to, on a disk with enough room",
            ) from error
        finally:
            with suppress(OSError):
                temporary.unlink()
        self.token = me.token

    def _take_over(self, temporary: Path, me: Owner, dead: Owner | None, now: float) -> None:
        """Replaces a dead owner's lock with the new one, unless another process is doing so or has done so.

        `now` is by the clock of the file system, which may differ from this machine's.
        """
        guard = self._folder / f"{LOCK}.taking"
        while not _place(temporary, guard):
            taker = _read(guard)
            if taker is not None and _is_alive(taker, now):
                raise _in_use(self._folder, taker[0])
            guard.unlink(missing_ok=True)  # left by a process that died while taking over
        taker = _read(guard)
        if taker is None or taker[0] is None or taker[0].token != me.token:
            raise _in_use(self._folder, None)
        try:
            found = _read(self._path)
            if found is not None and found[0] != dead:
                raise _in_use(self._folder, found[0])
            temporary.replace(self._path)
        finally:
            guard.unlink(missing_ok=True)
        for path in self._folder.glob(f"{LOCK}.*"):
            left = _read(path)
            if left is not None and not _is_alive(left, now):
                path.unlink(missing_ok=True)

    def _is_mine(self) -> bool:
        found = _read(self._path)
        return found is not None and found[0] is not None and found[0].token == self.token

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            with suppress(OSError):  # the disk may be temporarily unavailable
                if not self._is_mine():
                    return
                os.utime(self._path)


def _in_use(folder: Path, owner: Owner | None) -> FolderInUseError:
    if owner is None:
        return FolderInUseError(
            f"{str(folder)!r} is in use by another process, which is just starting", "give another folder, or wait"
        )
    remedy = "wait for it to end, or give another folder"
    if owner.is_local and owner.pid == os.getpid():
        remedy = "close what this program has open there first"
    if not owner.is_local:
        remedy += f" (a dead process is detected after {STALE:.0f} s)"
    problem = f"{str(folder)!r} has been in use by process {owner.pid} on {owner.host} since {owner.since}"
    return FolderInUseError(problem, remedy)


def _place(temporary: Path, lock: Path) -> bool:
    """Gives the file the lock's name unless that exists; returns whether it succeeded."""
    try:
        os.link(temporary, lock)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        try:
            descriptor = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "wb") as file:
            owner = json.loads(temporary.read_text(encoding="utf-8")) | {"inode": os.fstat(descriptor).st_ino}
            file.write(json.dumps(owner).encode())
    return True


def _read(lock: Path) -> tuple[Owner | None, float, int] | None:
    """Returns a lock's owner (None if unreadable), last heartbeat and inode; None if there is no lock."""
    try:
        with lock.open("rb") as file:
            state = os.fstat(file.fileno())
            content = file.read(4096)
    except FileNotFoundError:
        return None
    try:
        return Owner(**json.loads(content)), state.st_mtime, state.st_ino
    except (ValueError, TypeError):
        return None, state.st_mtime, state.st_ino


def _is_alive(found: tuple[Owner | None, float, int], now: float) -> bool:
    """Returns whether the owner of a lock, as returned by `_read`, is still running."""
    owner, silent, inode = found[0], now - found[1], found[2]
    if owner is None:  # garbled: it may still be being written
        return _is_recent(silent)
    is_copy = owner.is_local and owner.inode != inode
    return not is_copy and owner.is_alive(silent)


def _is_recent(silent: float) -> bool:
    """Returns whether a heartbeat so many seconds ago is a sign of life.

    One far in the future is none: it is from before a reboot, after which a clock without a battery is behind.
    """
    return abs(silent) < STALE


def _boot() -> str:
    """Returns an id of this boot and this PID namespace; empty if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _began(pid: int) -> str | None:
    """Returns the start time of a process, in ticks since boot; None if it is gone or the system does not tell."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else rest[18]
