"""Reads label videos: FFV1 in Matroska, whose grey levels are object ids."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from mnemask.errors import MaskError
from mnemask.io.decoder import open_container
from mnemask.io.pictures import MAX_IMAGES, check_size

log = logging.getLogger(__name__)

VIDEO = ".mkv"
LABEL_VIDEO = f"masks{VIDEO}"
FRAMES_TAG = "FRAMES"  # metadata of a label video: the numbers of its frames in their video
_GREY_FORMATS = ("gray", "gray16le")


def read_label_video(path: Path) -> Iterator[tuple[str, np.ndarray[Any, np.dtype[Any]]]]:
    """Yields the name and labels of each frame, one at a time, after reading the times of all."""
    try:
        with _opened(path) as (container, stream):
            shown = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
            times = [float(pts * (stream.time_base or 1)) for pts in shown]
            stated = _stated_numbers(container.metadata.get(FRAMES_TAG, ""))
        numbers = dict(zip(shown, stated if len(stated) == len(shown) else _numbers(times, path), strict=True))
        with _opened(path) as (container, stream):
            for frame in container.decode(stream):
                if frame.pts not in numbers:
                    raise MaskError(f"{path} has frames without a time", "write it again")
                yield f"{numbers[frame.pts]:05d}", np.asarray(frame.to_ndarray())
    except (FFmpegError, OSError) as error:
        raise MaskError(f"{path} cannot be read as a label video ({error.strerror})", "write it again") from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    with open_container(f"file:{path}", {"protocol_whitelist": "file"}) as container:
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream) or stream.codec_context.pix_fmt not in _GREY_FORMATS:
            raise MaskError(f"{path} is not a label video", "expected grey FFV1, as `segment --format ffv1` writes")
        check_size(stream.codec_context.width, stream.codec_context.height, str(path))
        yield container, stream


def _stated_numbers(tag: str) -> list[int]:
    """Returns the numbers of "7-9,12-12": 7, 8, 9 and 12; none if the tag is not such a list."""
    if not re.fullmatch(r"\d{1,9}-\d{1,9}(,\d{1,9}-\d{1,9})*", tag):
        return []
    ranges = [tuple(map(int, each.split("-"))) for each in tag.split(",")]
    if sum(last + 1 - first for first, last in ranges) > MAX_IMAGES:
        return []
    return [number for first, last in ranges for number in range(first, last + 1)]


def _numbers(times: list[float], path: Path) -> list[int]:
    """Returns the numbers of the frames shown at these times, by counting, for a file that does not state them.

    At a constant frame rate the first number comes from its time: older label videos of runs that began later have
    nothing else.
    """
    step = min((after - before for before, after in pairwise(times)), default=0.0)
    places = [round(time / step) for time in times] if step > 0 else []
    even = all(abs(time - place * step) <= 0.2 * step for time, place in zip(times, places, strict=False))
    first = max(places[0], 0) if places and even else 0
    if first or (even and places != list(range(first, first + len(places)))):
        log.warning(
            "%s does not state which frames it holds: by its time, the first is taken for frame %d and the others are "
            "counted from it, which is wrong if the source video's clock did not start at 0 or frames were left out",
            *(path, first),
        )
    return list(range(first, first + len(times)))
