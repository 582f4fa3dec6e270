"""Entry point of `python -m mnemask` and of the command `mnemask`."""

import os
import signal
from types import FrameType


def main() -> None:
    """Runs the command line."""
    # Handles Ctrl-C during the imports; `mnemask.cli.app` takes over after them.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    from mnemask.cli import main as run

    run()


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    main()
