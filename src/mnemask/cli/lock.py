"""One run at a time for each folder that a command writes to."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")


def locks_out(function: Callable[P, None]) -> Callable[P, None]:
    """Makes a command keep all others out of its folder `out`, from its first moment on.

    The further processes of a training on several devices, which are started with the same command line, write for the
    first one and leave the lock to it.
    """

    @functools.wraps(function)
    def locked(*args: P.args, **kwargs: P.kwargs) -> None:
        from mnemask.io.lock import OutputLock

        if os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) != "0":
            function(*args, **kwargs)
            return
        with OutputLock(str(kwargs["out"])):
            function(*args, **kwargs)

    return locked
