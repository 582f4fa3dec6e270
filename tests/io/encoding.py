"""Clips written as video files of every kind."""

from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np


def encode(
    target: object,
    clip: Sequence[np.ndarray],
    codec: str = "libx264",
    *,
    ticks: Sequence[int] | None = None,
    matrix: Sequence[int] | None = None,
    format: str | None = None,
    container_options: dict[str, str] | None = None,
    **options: str,
) -> None:
    """Writes the clip at 25 frames/s, or at `ticks` of 1/1000 s."""
    time_base = Fraction(1, 1000)
    with av.open(target, "w", format=format, options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = clip[0].shape[:2]
        stream.pix_fmt = "yuv420p" if clip[0].shape[0] % 2 == clip[0].shape[1] % 2 == 0 else "yuv444p"
        stream.codec_context.time_base = time_base if ticks else Fraction(1, 25)
        if matrix:
            stream.set_display_matrix(matrix)
        for index, picture in enumerate(clip):
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts, frame.time_base = (ticks[index], time_base) if ticks else (index, Fraction(1, 25))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
