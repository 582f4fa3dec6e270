"""Encoded video from a file, a pipe or an address, decoded by PyAV."""

import logging
import math
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import cast

import av
import numpy as np
import torch
from av.buffer import Buffer
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import UInt8

from mnemask.errors import FrameError
from mnemask.video.completeness import AnyPacket, Progress, promised_seconds
from mnemask.video.picture import Picture, Readable, check_size

logger = logging.getLogger(__name__)

_Matrix = tuple[tuple[float, float], tuple[float, float]]

_OPEN_SECONDS, _READ_SECONDS = 10.0, 30.0


class EncodedVideo:
    """The frames of the best video stream of `source`.

    Args:
        source: what PyAV opens: `file:PATH`, an address, or a binary file object, which can be read only once.
        shown: what messages call it: no password or token.
        live: a broadcast. Its damaged frames are skipped with a logged warning, as there is nothing to repair;
            those of a recording raise.
    """

    def __init__(self, source: str | Readable, shown: str, *, live: bool = False) -> None:
        self.name = Path(shown).stem
        self._shown = shown
        self._source = source
        self._is_file = isinstance(source, str) and source.startswith("file:")
        self._live = live
        self._container: InputContainer | None = self._open()
        stream = self._stream(self._container)
        rate = stream.average_rate or stream.guessed_rate
        promised = promised_seconds(self._container, stream)
        self.frames_per_second = float(rate) if rate else None
        self.num_frames = stream.frames or (round(promised * rate) if promised and rate else None)

    def pictures(self, start: int) -> Generator[Picture, None, None]:
        """Yields the frames from number `start` on, upright; raises FrameError where the video is damaged or cut."""
        container, self._container = self._container or self._reopen(), None
        with container:
            stream = self._stream(container)
            stream.codec_context.thread_type = "AUTO"
            # Looking at a frame's side data ties it into a cycle that only the garbage collector unties: hundreds of
            # frames would wait for that. So look once, and again only if the rotation changes.
            matrices: dict[int, _Matrix] = {}
            for index, (frame, seconds) in enumerate(self._frames(container, stream)):
                if index >= start:
                    matrix = matrices.get(frame.rotation) or _display_matrix(frame)
                    matrices[frame.rotation] = matrix
                    rgb = _upright(frame.to_ndarray(format="rgb24"), matrix)
                    yield Picture(torch.from_numpy(rgb).permute(2, 0, 1), seconds, name="")

    def close(self) -> None:
        """Closes the file or connection, unless pictures are being read, which closes it by itself."""
        if self._container is not None:
            self._container.close()

    def _open(self) -> InputContainer:
        # A playlist in place of a video must not make us fetch what it names.
        allowed = "file" if self._is_file else "pipe"
        remote = isinstance(self._source, str) and not self._is_file
        options = {} if remote else {"protocol_whitelist": allowed}
        timeout = (_OPEN_SECONDS, _READ_SECONDS) if remote else None
        try:
            return av.open(self._source, "r", options=options, timeout=timeout, metadata_errors="replace")
        except (FFmpegError, OSError) as error:
            raise FrameError(
                f"{self._shown!r} cannot be opened as a video ({error.strerror}); expected a whole mp4, mov, mkv, "
                "webm, avi or other file that FFmpeg reads, so check that it plays elsewhere"
            ) from error

    def _reopen(self) -> InputContainer:
        if not isinstance(self._source, str):
            raise FrameError(f"{self._shown!r} is a pipe and can be read only once; save it to a file to read it again")
        return self._open()

    def _stream(self, container: InputContainer) -> VideoStream:
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
            kinds = ", ".join(other.type for other in container.streams) or "nothing"
            raise FrameError(f"{self._shown!r} has no video stream, only {kinds}; give a file with moving pictures")
        check_size(stream.codec_context.width, stream.codec_context.height, self._shown)
        return stream

    def _frames(self, container: InputContainer, stream: VideoStream) -> Iterator[tuple[VideoFrame, float | None]]:
        progress = Progress(container, stream)
        try:
            for packet in self._packets(container, stream, progress):
                for frame in self._decode(stream, packet):
                    if frame.is_corrupt:
                        self._refuse_or_skip(progress)
                        continue
                    seconds = (
                        None if frame.pts is None or stream.time_base is None else float(frame.pts * stream.time_base)
                    )
                    progress.add_frame(seconds)
                    yield frame, seconds
        except FFmpegError as error:
            raise FrameError(self._why_broken(container, progress, error)) from error
        if progress.broke_off() and not self._live:
            raise FrameError(
                f"{self._shown!r} is cut off or damaged: {progress} could be read; the frames before are good, "
                "for the others fetch the file again"
            )

    def _packets(
        self, container: InputContainer, stream: VideoStream, progress: Progress
    ) -> Iterator[AnyPacket | None]:
        """Yields the packets up to the first that is cut off, then None, for which the decoder gives what it holds."""
        for packet in container.demux():
            if packet.is_corrupt and not self._live:
                progress.cut = True
                break
            progress.add_packet(packet)
            if packet.stream_index == stream.index and packet.size:
                yield packet
        yield None

    def _decode(self, stream: VideoStream, packet: AnyPacket | None) -> list[VideoFrame]:
        try:
            return stream.codec_context.decode(packet)
        except InvalidDataError:
            if not self._live:
                raise
            logger.warning("skipped damaged data in %s", self._shown)
            return []

    def _refuse_or_skip(self, progress: Progress) -> None:
        if not self._live:
            raise FrameError(
                f"frame {progress.num_frames} of {self._shown!r} is damaged; {progress} before it are good, for the "
                "others fetch the file again or re-encode it with FFmpeg, which guesses what is missing"
            )
        logger.warning("skipped a damaged frame of %s", self._shown)

    def _why_broken(self, container: InputContainer, progress: Progress, error: FFmpegError) -> str:
        if "mov" in container.format.name and not self._is_file and not progress.num_frames:
            return (
                f"{self._shown!r} is an mp4 with its index at the end, which cannot be read from a pipe or from a "
                "server that cannot seek; save it to a file or move the index to the front "
                "(ffmpeg -i IN -c copy -movflags +faststart OUT)"
            )
        return (
            f"{self._shown!r} is damaged: {progress} could be read ({error.strerror}); the frames before are good, "
            "for the others fetch the file again or re-encode it with FFmpeg, which guesses what is missing"
        )


def _upright(rgb: UInt8[np.ndarray, "h w 3"], matrix: _Matrix) -> UInt8[np.ndarray, "H W 3"]:
    """Returns the picture turned and mirrored as its display matrix says, which PyAV reports but does not do."""
    (a, b), (c, d) = matrix
    x_sign, y_sign = a, d
    if abs(a) < abs(b):  # a quarter turn: rows become columns
        rgb, x_sign, y_sign = rgb.transpose(1, 0, 2), c, b
    if x_sign > 0 and y_sign > 0 and rgb.strides[1] == 3:
        return rgb
    return np.ascontiguousarray(rgb[:: -1 if y_sign < 0 else 1, :: -1 if x_sign < 0 else 1])


def _display_matrix(frame: VideoFrame) -> _Matrix:
    """Returns (a, b), (c, d): column x and row y of the stored frame are shown at x' = a x + c y, y' = b x + d y."""
    try:
        data = cast(Mapping[str, Buffer], frame.side_data).get("DISPLAYMATRIX")
    except ValueError:
        # PyAV 18 refuses to list side data when a frame has some that it does not know, such as EXIF. Its rotation
        # (degrees counter-clockwise) it still gives; a mirrored frame stays mirrored.
        turn = math.radians(frame.rotation)
        return (math.cos(turn), -math.sin(turn)), (math.sin(turn), math.cos(turn))
    if data is None:
        return (1.0, 0.0), (0.0, 1.0)
    a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).astype(float).tolist()
    return (a, b), (c, d)
