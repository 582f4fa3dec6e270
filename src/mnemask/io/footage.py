"""Properties of a video file that the videos made from it keep: frame rate, times, colours, and where its sound is."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream
from jaxtyping import UInt8, UInt16

TICKS_PER_SECOND = 90_000  # MPEG's own clock; used if a video states no other
_LEAST_TICKS, _MOST_TICKS = 10_000, 1_000_000
_MOST_FRAMES_PER_SECOND = 1000
_NTSC_ROUNDING = Fraction(5, 10**6)  # 59.94 deviates from 60000/1001 by 2 millionths
# Codes of H.273: unspecified, ITU-R BT.709, R'G'B'. And of FFmpeg: full range, all levels rather than 16 to 235.
_UNSPECIFIED, _BT709, _RGB, _FULL = 2, 1, 0, 2
_BT709_LUMA = np.array((0.2126, 0.7152, 0.0722))  # of red, green and blue
_SD_LINES = 576
_MATRICES = {
    1: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, 6: Colorspace.ITU601, 7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020, 10: Colorspace.BT2020,
}  # fmt: skip

Plane = UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]
YCbCr = UInt8[np.ndarray, "3 H W"] | UInt16[np.ndarray, "3 H W"]
"""Y'CbCr at full chroma resolution: 8 bits, or 10 bits in 16."""


@dataclass(frozen=True, slots=True)
class Colours:
    """The meaning of stored values: the code points of ITU-T H.273, and FFmpeg's code of the range.

    Attributes:
        primaries: 1 for BT.709, 2 for unspecified.
        transfer: likewise.
        matrix: likewise.
        range: 1 for limited, 2 for full, 0 for unspecified, which is treated as limited.
        lines: the height of a picture as stored: above 576, an unspecified matrix is taken to be that of HD.
    """

    primaries: int = _UNSPECIFIED
    transfer: int = _UNSPECIFIED
    matrix: int = _UNSPECIFIED
    range: int = 0
    lines: int = 0

    @classmethod
    def of_stream(cls, stream: VideoStream) -> "Colours":
        """Returns the colours that the stream states; if it stores no Y'CbCr, those that `planes_of_rgb` gives it."""
        context = stream.codec_context
        matrix, levels = int(context.colorspace), int(context.color_range)
        if matrix == _RGB or (context.format is not None and not _is_ycbcr(context.format)):
            matrix, levels = _BT709, 1
        return cls(int(context.color_primaries), int(context.color_trc), matrix, levels, context.height)

    @property
    def full_range(self) -> bool:
        """Whether black is 0 and white the largest value, rather than 16 and 235 of 255."""
        return self.range == _FULL

    def limited(self) -> "Colours":
        """Returns the same colours in limited range: black at 16 and white at 235."""
        return replace(self, range=1 if self.full_range else self.range)

    @property
    def coefficients(self) -> Colorspace:
        """The matrix for swscale; if unspecified, that of HD above 576 lines, else that of SD."""
        if self.matrix == _UNSPECIFIED:
            return Colorspace.ITU709 if self.lines > _SD_LINES else Colorspace.ITU601
        return _MATRICES.get(self.matrix, Colorspace.ITU601)

    def tag(self, frame: VideoFrame) -> VideoFrame:
        """Returns the frame, tagged with these colours in place."""
        frame.color_primaries, frame.color_trc = self.primaries, self.transfer
        frame.colorspace, frame.color_range = self.matrix, self.range
        return frame

    def from_rgb(self, rgb: UInt8[np.ndarray, "H W 3"], pixel_format: str) -> VideoFrame:
        """Returns a picture in Y'CbCr with these colours."""
        frame = VideoFrame.from_ndarray(rgb, format="rgb24")
        converted = frame.reformat(
            format=pixel_format, dst_colorspace=self.coefficients, dst_color_range=self.range or 1
        )
        return self.tag(converted)


BT709 = Colours(_BT709, _BT709, _BT709, 1)


@dataclass(frozen=True, slots=True)
class Footage:
    """The properties of a source video that output videos keep.

    Attributes:
        path: the file, which has the sound; None if the pictures do not come from a file.
        rate: frames per second at a constant frame rate; None if it varies.
        ticks_per_second: resolution at which its times are whole numbers of ticks, at least nearly.
        rounding: seconds by which its times may be off, as in Matroska, which counts in milliseconds.
        colours: the colours of its pictures.
        timecode: the timecode of its first frame, such as "01:00:00:00"; empty if it has none.
        begins: the time of the first frame, in seconds.
        is_deep: whether its pictures have more than 8 bits.
        is_interlaced: whether its frames are two fields, taken one after the other; False if that is unknown.
    """

    path: Path | None = None
    rate: Fraction | None = None
    ticks_per_second: int = TICKS_PER_SECOND
    rounding: float = 0.0
    colours: Colours = BT709
    timecode: str = ""
    begins: float = 0.0
    is_deep: bool = False
    is_interlaced: bool = False

    @classmethod
    def of_stream(
        cls, stream: VideoStream, path: Path | None, timecode: str = "", is_interlaced: bool = False
    ) -> "Footage":
        """Returns the properties of a stream; `timecode` is its container's, used if the stream has none."""
        average, usual, unit = average_rate(stream), stream.guessed_rate, stream.time_base
        even = average and usual and abs(average / usual - 1) < 0.001 and 0 < usual <= _MOST_FRAMES_PER_SECOND
        rate = standard_rate(Fraction(usual)) if even and usual else None
        ticks = TICKS_PER_SECOND if rate is None else ticks_for(rate)
        if rate is None and unit and unit.numerator == 1 and _LEAST_TICKS <= unit.denominator <= _MOST_TICKS:
            ticks = unit.denominator
        timecode = stream.metadata.get("timecode", timecode)
        begins = float((stream.start_time or 0) * (unit or 0))
        rounding, colours, stored = 0.6 * float(unit or 0), Colours.of_stream(stream), stream.codec_context.format
        is_deep = stored is not None and bits_of(stored) > 8
        return cls(path, rate, ticks, rounding, colours, timecode, begins, is_deep, is_interlaced)

    def ticks(self, seconds: float) -> int:
        """Returns a time in ticks, at a constant frame rate that of the nearest frame if it is within the rounding."""
        if self.rate is not None:
            number = round(seconds * self.rate)
            if abs(seconds - number / self.rate) <= max(self.rounding, 1e-6):
                return round(number * self.ticks_per_second / self.rate)
        return round(seconds * self.ticks_per_second)

    def timecode_at(self, seconds: float) -> str:
        """Returns the timecode of the frame at this time; empty if the video has none or a variable frame rate."""
        if self.rate is None:
            return ""
        return _timecode_after(self.timecode, round((seconds - self.begins) * self.rate), round(self.rate))

    def period(self, frames_per_second: float, duration: float | None = None) -> int:
        """Returns the ticks for which a frame is shown.

        Args:
            frames_per_second: used if the frame rate varies and the duration is unknown.
            duration: seconds for which the frame is shown, used if the frame rate varies.
        """
        if self.rate is None and duration is not None:
            return max(1, round(self.ticks_per_second * duration))
        return max(1, round(self.ticks_per_second / (self.rate or Fraction(frames_per_second))))


def _timecode_after(timecode: str, frames: int, rate: int) -> str:
    """Returns the timecode some frames later; drop-frame skips the first numbers of each minute but every tenth."""
    found = re.fullmatch(r"(\d\d):(\d\d):(\d\d)([:;.])(\d\d)", timecode)
    if found is None:
        return ""
    hours, minutes, seconds, number = (int(found[part]) for part in (1, 2, 3, 5))
    minutes += 60 * hours
    number += (60 * minutes + seconds) * rate + frames
    left_out = rate // 15 if found[4] != ":" and rate % 30 == 0 else 0  # 2 of 30 frames/s
    number -= left_out * (minutes - minutes // 10)
    tens, rest = divmod(number, 600 * rate - 9 * left_out)
    number += left_out * (9 * tens + max(rest - left_out, 0) // (60 * rate - left_out))
    seconds, number = divmod(number, rate)
    clock = f"{seconds // 3600 % 24:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{clock}{found[4]}{number:02d}"


def average_rate(stream: VideoStream) -> Fraction | None:
    """Returns the stream's frames per second, on average; None if it is unknown."""
    average, usual = stream.average_rate, stream.guessed_rate
    # PyAV states the clock of raw DV as its average rate: 60000.
    found = average if average and (average <= _MOST_FRAMES_PER_SECOND or not usual) else usual
    return None if found is None else Fraction(found)  # PyAV 19 has a type of its own, which cannot be rounded


def standard_rate(rate: Fraction) -> Fraction:
    """Returns the rate of NTSC, N * 1000 / 1001 frames per second, that is meant by a rounded one; else the rate."""
    ntsc = Fraction(round(rate * 1001 / 1000) * 1000, 1001)
    return ntsc if abs(ntsc - rate) <= _NTSC_ROUNDING * rate else rate


def ticks_for(rate: Fraction) -> int:
    """Returns the ticks per second at which a frame of this rate lasts a whole number of ticks."""
    if (TICKS_PER_SECOND / rate).denominator == 1:
        return TICKS_PER_SECOND
    ticks = rate.numerator
    while ticks < _LEAST_TICKS:
        ticks *= 2
    return ticks


def read_planes(frame: VideoFrame) -> YCbCr | None:
    """Returns the picture as stored, at full chroma resolution; None if it is not stored as Y'CbCr."""
    stored = frame.format
    if not _is_ycbcr(stored):
        return None
    bits = bits_of(stored)
    levels = _FULL if stored.name.startswith("yuvj") else int(frame.color_range) or 1
    name = "yuv444p" if bits <= 8 else "yuv444p10le"
    # Both ranges are given, since otherwise the levels would be scaled.
    converted = frame.reformat(format=name, src_color_range=levels, dst_color_range=levels)
    kind = np.uint8 if bits <= 8 else np.uint16
    return np.stack([view_of(plane, kind)[:, : frame.width] for plane in converted.planes])


def planes_of_rgb(
    rgb: UInt16[np.ndarray, "H W 3"], black: int = 0, white: int = 2**16 - 1
) -> UInt16[np.ndarray, "3 H W"]:
    """Returns a picture as 10-bit Y'CbCr of BT.709 in limited range; swscale would turn white into 943 and not 940.

    Args:
        rgb: 16-bit values.
        black: the value that is black, as any below.
        white: the value that is white, as any above.
    """
    red, _, blue = np.eye(3)
    luma = _BT709_LUMA
    rows = [876 * luma, 448 * (blue - luma) / (1 - luma @ blue), 448 * (red - luma) / (1 - luma @ red)]
    gains = np.stack(rows) / (white - black)
    offsets = np.array((64, 512, 512)) - black * gains.sum(1)
    planes = cv2.transform(np.clip(rgb, black, white), np.column_stack((gains, offsets)))
    return np.ascontiguousarray(np.moveaxis(planes, -1, 0))


def bits_of(stored: VideoFormat) -> int:
    """Returns the bits of each value of a pixel format."""
    return max(component.bits for component in stored.components)


def _is_ycbcr(stored: VideoFormat) -> bool:
    """Returns whether pictures are stored as Y'CbCr, rather than as R'G'B', grey or indices into a palette."""
    return not (stored.is_rgb or len(stored.components) < 3 or stored.has_palette)


def write_planes(planes: Sequence[Plane], pixel_format: str, colours: Colours) -> VideoFrame:
    """Returns a frame from planes of one size, each [H W] of the type that the format stores."""
    frame = VideoFrame(planes[0].shape[1], planes[0].shape[0], pixel_format)
    for plane, values in zip(frame.planes, planes, strict=True):
        view_of(plane, values.dtype)[:, : values.shape[1]] = values
    return colours.tag(frame)


def view_of(plane: VideoPlane, kind: type[np.generic] | np.dtype[Any]) -> np.ndarray[Any, np.dtype[Any]]:
    """Returns the values of a plane, including the padding of its rows."""
    values: np.ndarray[Any, np.dtype[Any]] = np.frombuffer(cast(bytes, plane), kind).reshape(plane.height, -1)
    return values
