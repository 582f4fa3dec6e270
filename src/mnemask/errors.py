"""The errors that mnemask raises for input that it cannot use.

::

    MnemaskError
    ├── InputError (ValueError)       unusable input
    │   ├── FrameError                a frame or a video: unreadable, truncated, of another size
    │   ├── MaskError                 a mask, box or other prompt
    │   ├── ObjectIdError             an object id that is unknown or out of range
    │   ├── PolicyError               a custom memory policy that fails or breaks its contract
    │   ├── CheckpointError           weights or a saved memory bank: foreign, damaged or hostile
    │   └── OutputError               a place that cannot be written to
    ├── BudgetError (ValueError)      a memory budget that is invalid or too small, or a device out of memory
    └── MissingExtraError (ImportError)  an optional dependency that is not installed

Each message is one sentence that names the value, what was expected and a remedy. The command line prints it and exits
with status 2. A failed ``assert`` is a bug in mnemask, never the caller's fault.
"""

import collections.abc


def listed(names: collections.abc.Iterable[object], most: int = 5, between: str = ", ") -> str:
    """Returns the first few names, and how many more there are, as text: "a, b and 3 more"."""
    every = [str(name) for name in names]
    return between.join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")


def counted(number: int, one: str, several: str = "") -> str:
    """Returns a number with a noun, or with what is said of it: "1 mask", "3 masks", "1 mask is", "3 masks are"."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def printable(text: str, length: int) -> str:
    """Returns text from a file as one line of printable characters, truncated to a length."""
    line = "".join(char if char.isprintable() else "?" for char in text[: length + 1])
    return line if len(line) <= length else line[: length - 1] + "…"


class MnemaskError(Exception):
    """Base class of all errors that a caller can cause.

    Attributes:
        problem: the value that cannot be used, and what was expected.
        remedy: what to do about it.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem, self.remedy = problem, remedy

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}" if self.remedy else self.problem


class InputError(MnemaskError, ValueError):
    """The input cannot be used."""


class FrameError(InputError):
    """A frame or a video is unreadable or truncated, or its size differs from that of earlier frames."""


class MaskError(InputError):
    """A mask, box or other prompt is unreadable, ambiguous or does not fit its frame."""


class ObjectIdError(InputError):
    """An object id is unknown or not a whole number from 1 to 65535."""


class CheckpointError(InputError):
    """Weights or a saved memory bank are foreign, damaged or hostile."""


class PolicyError(InputError):
    """A custom memory policy fails, or breaks the contract of policies."""


class OutputError(InputError):
    """A place cannot be written to."""


class BudgetError(MnemaskError, ValueError):
    """A memory budget is invalid or too small for what must be kept, or a device runs out of memory."""


class MissingExtraError(MnemaskError, ImportError):
    """An optional dependency is not installed; the message gives the command that installs it."""


def missing_extra(need: str, extra: str) -> MissingExtraError:
    """Returns the error for an extra of mnemask that is not installed.

    Args:
        need: the feature and the package that it needs, such as "figures need matplotlib".
        extra: the extra that installs it, such as "figures".
    """
    return MissingExtraError(need, f"run: {install_command(extra)}")


def install_command(extra: str) -> str:
    """Returns the command that installs an extra from the source of this installation, if that is still known.

    The package is not on a package index, so its name alone is not enough.
    """
    import json
    from importlib.metadata import PackageNotFoundError, distribution
    from pathlib import Path
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    source, editable = "PATH/TO/mnemask", False
    try:
        origin = json.loads(distribution("mnemask").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        origin = {}
    folder = url2pathname(urlsplit(origin.get("url", "")).path)
    if "dir_info" in origin and Path(folder, "pyproject.toml").is_file():
        source, editable = folder, bool(origin["dir_info"].get("editable"))
    return f'pip install {"-e " if editable else ""}"{source}[{extra}]"'
