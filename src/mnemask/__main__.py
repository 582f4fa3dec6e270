"""Entry point of `python -m mnemask` and of the command `mnemask`."""

import os
import signal
from types import FrameType


def main() -> None:
    """Runs the command line."""
    # Handles Ctrl-C during the imports; `mnemask.cli.app` takes over after them.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    _ignore_impossible_width()
    from mnemask.cli import main as run

    run()


def _ignore_impossible_width() -> None:
    """Removes a COLUMNS or LINES that is no number from 1: rich would print nothing at all, or fail."""
    for name in ("COLUMNS", "LINES"):
        stated = os.environ.get(name, "1")
        if not (stated.isdecimal() and int(stated) > 0):
            del os.environ[name]


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    main()
