"""Encoded videos opened for reading, alike with every release of PyAV that is allowed."""

from typing import Any

import av
from av.container import InputContainer

# Up to 18, text in a header that is not UTF-8 is an error unless told otherwise; from 19 on it never is, and the
# option is gone.
_LENIENT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


def open_container(
    source: Any,
    options: dict[str, str],
    timeout: tuple[float, float] | None = None,
) -> InputContainer:
    """Returns the opened container; raises FFmpegError or OSError where it cannot be opened.

    Args:
        source: `file:PATH`, an address, or a binary file object.
        options: of FFmpeg.
        timeout: seconds to wait for opening and for each read; None for as long as it takes.
    """
    container: InputContainer = av.open(source, "r", options=options, timeout=timeout, **_LENIENT)
    return container
