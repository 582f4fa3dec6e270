"""Encoded video from a file, a pipe or an address, decoded by PyAV."""

import logging
from collections.abc import Iterator
from typing import BinaryIO

import av
import numpy as np
import torch
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.packet import Packet
from av.sidedata.sidedata import Type
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import UInt8

from mnemask.errors import FrameError
from mnemask.video.completeness import Progress, promised_seconds
from mnemask.video.picture import Picture, check_size

logger = logging.getLogger(__name__)

_OPEN_SECONDS, _READ_SECONDS = 10.0, 30.0


class EncodedVideo:
    """The frames of the best video stream of `source`.

    Args:
        source: what PyAV opens: `file:PATH`, an address, or a binary file object, which can be read only once.
        name: for messages.
        live: a broadcast. Its damaged frames are skipped with a logged warning, as there is nothing to repair;
            those of a recording raise.
    """

    def __init__(self, source: str | BinaryIO, name: str, *, live: bool = False) -> None:
        self.name = name
        self._source = source
        self._live = live
        self._container: InputContainer | None = self._open()
        stream = self._stream(self._container)
        rate = stream.average_rate or stream.guessed_rate
        promised = promised_seconds(self._container, stream)
        self.frames_per_second = float(rate) if rate else None
        self.num_frames = stream.frames or (round(promised * rate) if promised and rate else None)

    def pictures(self, start: int) -> Iterator[Picture]:
        """Yields the frames from number `start` on, upright; raises FrameError where the video is damaged or cut off."""
        container, self._container = self._container or self._reopen(), None
        with container:
            stream = self._stream(container)
            stream.thread_type = "AUTO"
            for index, (frame, seconds) in enumerate(self._frames(container, stream)):
                if index >= start:
                    yield Picture(torch.from_numpy(_upright(frame)).permute(2, 0, 1), seconds, name="")

    def close(self) -> None:
        """Closes the file or connection, unless pictures are being read, which closes it by itself."""
        if self._container is not None:
            self._container.close()

    def _open(self) -> InputContainer:
        local = not isinstance(self._source, str) or self._source.startswith("file:")
        # A playlist in place of a video must not make us fetch what it names.
        options = {"protocol_whitelist": "file" if isinstance(self._source, str) else "pipe"} if local else {}
        timeout = None if local else (_OPEN_SECONDS, _READ_SECONDS)
        try:
            return av.open(self._source, options=options, timeout=timeout, metadata_errors="replace")
        except (FFmpegError, OSError) as error:
            raise FrameError(
                f"{self.name!r} cannot be opened as a video ({error.strerror}); expected a whole mp4, mov, mkv, webm, "
                "avi or other file that FFmpeg reads, so check that it plays elsewhere"
            ) from error

    def _reopen(self) -> InputContainer:
        if not isinstance(self._source, str):
            raise FrameError(f"{self.name!r} is a pipe and can be read only once; save it to a file to read it again")
        return self._open()

    def _stream(self, container: InputContainer) -> VideoStream:
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
            kinds = ", ".join(other.type for other in container.streams) or "nothing"
            raise FrameError(f"{self.name!r} has no video stream, only {kinds}; give a file with moving pictures")
        check_size(stream.codec_context.width, stream.codec_context.height, self.name)
        return stream

    def _frames(self, container: InputContainer, stream: VideoStream) -> Iterator[tuple[VideoFrame, float | None]]:
        progress = Progress(container, stream)
        try:
            for packet in self._packets(container, stream, progress):
                for frame in self._decode(stream, packet):
                    if frame.is_corrupt:
                        self._refuse_or_skip(progress)
                        continue
                    seconds = float(frame.pts * stream.time_base) if frame.pts is not None else None
                    progress.add_frame(seconds)
                    yield frame, seconds
        except FFmpegError as error:
            raise FrameError(self._why_broken(container, progress, error)) from error
        if progress.broke_off() and not self._live:
            raise FrameError(
                f"{self.name!r} is cut off or damaged: {progress} could be read; the frames before are good, "
                "for the others fetch the file again"
            )

    def _packets(self, container: InputContainer, stream: VideoStream, progress: Progress) -> Iterator[Packet | None]:
        """Yields the packets up to the first that is cut off, then None, for which the decoder gives what it holds."""
        for packet in container.demux():
            if packet.is_corrupt and not self._live:
                progress.cut = True
                break
            progress.add_packet(packet)
            if packet.stream_index == stream.index and packet.size:
                yield packet
        yield None

    def _decode(self, stream: VideoStream, packet: Packet | None) -> list[VideoFrame]:
        try:
            return stream.codec_context.decode(packet)
        except InvalidDataError:
            if not self._live:
                raise
            logger.warning("skipped damaged data in %s", self.name)
            return []

    def _refuse_or_skip(self, progress: Progress) -> None:
        if not self._live:
            raise FrameError(
                f"frame {progress.num_frames} of {self.name!r} is damaged, after {progress}; the frames before are good, "
                "for the others fetch the file again or re-encode it with FFmpeg, which guesses what is missing"
            )
        logger.warning("skipped a damaged frame after frame %d of %s", progress.num_frames - 1, self.name)

    def _why_broken(self, container: InputContainer, progress: Progress, error: FFmpegError) -> str:
        if "mov" in container.format.name and not isinstance(self._source, str) and not progress.num_frames:
            return (
                f"{self.name!r} is an mp4 with its index at the end, which cannot be read from a pipe; give the file "
                "itself or move the index to the front (ffmpeg -i IN -c copy -movflags +faststart OUT)"
            )
        return (
            f"{self.name!r} is damaged: {progress} could be read ({error.strerror}); the frames before are good, "
            "for the others fetch the file again or re-encode it with FFmpeg, which guesses what is missing"
        )


def _upright(frame: VideoFrame) -> UInt8[np.ndarray, "H W 3"]:
    """Returns the frame as RGB, turned and mirrored as its display matrix says, which PyAV reports but leaves undone."""
    rgb = frame.to_ndarray(format="rgb24")
    matrix = _display_matrix(frame)
    if matrix is None:
        return rgb
    # Column x and row y go to x' = a x + c y and y' = b x + d y; turned by a quarter, a and d are 0.
    (a, b), (c, d) = matrix
    if abs(a) < abs(b):
        rgb, x_sign, y_sign = rgb.transpose(1, 0, 2), c, b
    else:
        x_sign, y_sign = a, d
    return np.ascontiguousarray(rgb[:: -1 if y_sign < 0 else 1, :: -1 if x_sign < 0 else 1])


def _display_matrix(frame: VideoFrame) -> tuple[tuple[int, int], tuple[int, int]] | None:
    for data in frame.side_data:
        if data.type == Type.DISPLAYMATRIX:
            a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).tolist()
            return (a, b), (c, d)
    return None
