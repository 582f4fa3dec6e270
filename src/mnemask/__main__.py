"""`python -m mnemask`, and the command `mnemask`: the same."""

import os
import signal
from types import FrameType


def main() -> None:
    """Runs the command line."""
    # A Ctrl-C while the rest is imported; `mnemask.cli.app` takes over from here.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    from mnemask.cli import main as run

    run()


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    main()
