"""Objects cut out of their video, for editing programs: videos with alpha, a matte, a green screen.

Alpha is straight: colours are not multiplied by it. The object's own colours continue outwards around it, so that
nothing of its old background shows when it is placed over another; farther away there is black.
"""

import logging
from collections.abc import Sequence
from fractions import Fraction
from typing import ClassVar, cast

import cv2
import numpy as np
from av.video.frame import VideoFrame
from jaxtyping import UInt8, UInt16

from mnemask.io.edges import Alpha
from mnemask.io.footage import Colours, Plane, YCbCr, read_planes, view_of, write_planes
from mnemask.io.image_formats import picture_of
from mnemask.io.video_formats import H264, VideoFile
from mnemask.types import Frame, Masks

logger = logging.getLogger(__name__)

# Probabilities up to which a pixel is fully transparent, and from which it is fully opaque: networks hardly ever output
# exactly 0 or 1, and the difference would show as shimmer.
_NOTHING, _SOLID = 0.03, 0.97
# Pixels around an object that get its colours: codec blocks that an edge passes through lie within this margin.
_MARGIN = 20


class _Cutout(VideoFile):
    """A video made from the pictures in Y'CbCr as the source stores them, and the alpha of each pixel."""

    bits: ClassVar[int] = 8
    colours: Colours
    aspect: Fraction
    _said = False

    def write(self, masks: Masks, frame: Frame | None) -> None:
        """Adds one frame."""
        rgb = picture_of(masks, frame)
        assert frame is not None, "picture_of has checked it"
        stored, self.colours, self.aspect = frame.ycbcr, self.footage.colours, frame.pixel_aspect
        if stored is None:
            self._say_what_is_lost()
            stored = read_planes(self.colours.from_rgb(rgb, "yuv444p"))
            assert stored is not None, "Y'CbCr was asked for"
        alpha = np.clip((self._how.cutout.alpha(masks) - _NOTHING) / (_SOLID - _NOTHING), 0, 1)
        self._add(self._picture(stored, alpha), self.colours, masks, frame)

    def _say_what_is_lost(self) -> None:
        if self.bits > 8 and self.footage.is_deep and not self._said:
            logger.warning(
                "%s gets 8 bits of pictures that have more: read a video with its originals, and make a folder a video "
                "first (ffmpeg -framerate 25 -i %%05d.tif -c:v ffv1 OUT.mkv)",
                self._target.name,
            )
        self._said = True

    def _picture(self, stored: YCbCr, alpha: Alpha) -> VideoFrame:
        raise NotImplementedError

    def _levels(self, bits: int) -> tuple[int, int, int]:
        """Returns luma black, luma white and neutral chroma."""
        top = 2**bits
        return (0, top - 1, top // 2) if self.colours.full_range else (top // 16, 235 * top // 256, top // 2)


class ProRes(_Cutout):
    """OUT/cutout.mov: ProRes 4444, 10 bits and straight alpha, for every editing program."""

    encoder: ClassVar[str] = "prores_ks"
    options: ClassVar[dict[str, str]] = {"profile": "4444", "alpha_bits": "16", "vendor": "apl0", "threads": "0"}
    tag: ClassVar[str] = "ap4h"
    bits: ClassVar[int] = 10
    single_file: ClassVar[str | None] = "cutout.mov"
    bytes_per_pixel: ClassVar[float] = 1 / 20
    growing_suffix: ClassVar[str] = "mkv"

    def _picture(self, stored: YCbCr, alpha: Alpha) -> VideoFrame:
        planes = to_limited_range(stored) if self.colours.full_range else to_10_bits(stored)
        if self.colours.full_range:  # which ProRes cannot signal
            self.colours = self.colours.limited()
        black, _, grey = self._levels(10)
        planes = own_colours(planes, alpha, (black, grey, grey))
        return write_planes([*planes, np.round(alpha * 1023).astype(np.uint16)], "yuva444p10le", self.colours)


class WebM(_Cutout):
    """OUT/cutout.webm: VP9 with straight alpha, for web pages and OBS; its pixels are square."""

    encoder: ClassVar[str] = "libvpx-vp9"
    options: ClassVar[dict[str, str]] = {
        **{"crf": "20", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1", "threads": "0"},
        "auto-alt-ref": "0",  # libvpx supports no hidden reference frames together with an alpha channel
    }
    single_file: ClassVar[str | None] = "cutout.webm"
    bytes_per_pixel: ClassVar[float] = 1 / 400
    growing_suffix: ClassVar[str] = "webm"

    def _picture(self, stored: YCbCr, alpha: Alpha) -> VideoFrame:
        black, _, grey = self._levels(8)
        planes = own_colours(to_8_bits(stored), alpha, (black, grey, grey))
        height, width = alpha.shape
        size = round(width * self.aspect), height
        whole = [*planes, np.round(alpha * 255).astype(np.uint8)]
        return subsampled([cv2.resize(each, size) for each in whole] if size[0] != width else whole, self.colours)

    def aspect_of(self, frame: Frame | None) -> str:
        """Returns 1: PyAV cannot pass another one to FFmpeg's WebM muxer, and browsers show pixels as square."""
        return "1"


class Matte(_Cutout):
    """OUT/matte.mp4: white where the objects are, black elsewhere, H.264."""

    encoder: ClassVar[str] = "libx264"
    options: ClassVar[dict[str, str]] = {"crf": "12", **H264}
    single_file: ClassVar[str | None] = "matte.mp4"
    bytes_per_pixel: ClassVar[float] = 1 / 1000

    def _picture(self, stored: YCbCr, alpha: Alpha) -> VideoFrame:
        black, white, grey = self._levels(8)
        luma = np.round(black + alpha * (white - black)).astype(np.uint8)
        return subsampled([luma, *np.full((2, *luma.shape), grey, np.uint8)], self.colours)


class GreenScreen(_Cutout):
    """OUT/green.mp4: the objects in front of a plain colour, H.264, for programs that do not read alpha."""

    encoder: ClassVar[str] = "libx264"
    options: ClassVar[dict[str, str]] = {"crf": "16", **H264}
    single_file: ClassVar[str | None] = "green.mp4"
    bytes_per_pixel: ClassVar[float] = 1 / 400

    def _picture(self, stored: YCbCr, alpha: Alpha) -> VideoFrame:
        plain = np.full((2, 2, 3), self._how.cutout.background, np.uint8)
        behind = read_planes(self.colours.from_rgb(plain, "yuv444p"))
        assert behind is not None, "Y'CbCr was asked for"
        colour = behind[:, 0, 0]
        planes = own_colours(to_8_bits(stored), alpha, (int(colour[0]), int(colour[1]), int(colour[2])))
        mixed = alpha * planes + (1 - alpha) * colour[:, None, None]
        return subsampled(list(np.round(mixed).astype(np.uint8)), self.colours)


def own_colours(planes: YCbCr, alpha: Alpha, elsewhere: tuple[int, int, int]) -> YCbCr:
    """Returns the picture with only the object's colours: those at its soft edge come from its solid part.

    Args:
        planes: the planes of the picture.
        alpha: the degree to which each pixel belongs to the object.
        elsewhere: the values of pixels farther away.
    """
    result = np.empty_like(planes)
    result[:] = np.array(elsewhere, planes.dtype)[:, None, None]
    left, top, width, height = cv2.boundingRect((alpha > 0).astype(np.uint8))
    if not width:
        return result
    box = np.s_[max(top - _MARGIN, 0) : top + height + _MARGIN, max(left - _MARGIN, 0) : left + width + _MARGIN]
    part, soft = planes[:, *box], alpha[box]
    edge = max(4, min(alpha.shape) // 120)
    solid = (soft >= _SOLID).astype(np.uint8)
    # The outermost solid pixels often contain some of the background.
    core = cv2.erode(solid, np.ones((edge // 2 + 1, edge // 2 + 1), np.uint8))
    core = core if core.any() else solid
    if not core.any():
        result[:, *box] = np.where(soft > 0, part, result[:, *box])
        return result
    distance, nearest = cv2.distanceTransformWithLabels(
        1 - core, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    place = np.zeros(int(nearest.max()) + 1, np.intp)
    place[nearest[core > 0]] = np.flatnonzero(core)
    weight = cv2.GaussianBlur(core.astype(np.float32), (0, 0), edge / 2)
    near = distance <= _MARGIN
    # Far from the solid part, a pixel that is probably the object's is no edge but one that the network was unsure of.
    unsure = np.clip(distance / edge - 1, 0, 1) * np.clip(4 * soft - 1, 0, 1)
    own = np.where(near, np.maximum(np.clip((soft - 0.5) / (_SOLID - 0.5), 0, 1), unsure), 1)
    for target, plane in zip(result, part, strict=True):
        inner = cv2.GaussianBlur((core * plane).astype(np.float32), (0, 0), edge / 2) / np.maximum(weight, 1e-6)
        mixed = own * plane + (1 - own) * inner.ravel()[place[nearest]]
        target[box] = np.where(near | (soft > 0), np.round(mixed), target[box])
    return result


def to_10_bits(planes: YCbCr) -> UInt16[np.ndarray, "3 H W"]:
    """Returns the values with 10 bits."""
    return planes.astype(np.uint16) << 2 if planes.dtype == np.uint8 else planes


def to_8_bits(planes: YCbCr) -> UInt8[np.ndarray, "3 H W"]:
    """Returns the values with 8 bits, rounded."""
    return planes if planes.dtype == np.uint8 else np.minimum((planes + 2) >> 2, 255).astype(np.uint8)


def to_limited_range(planes: YCbCr) -> UInt16[np.ndarray, "3 H W"]:
    """Returns full-range values of 8 or 10 bits as 10 bits: luma from 64 to 940, chroma from 64 to 960."""
    top = 255 if planes.dtype == np.uint8 else 1023
    luma = 64 + planes[:1] * (876 / top)
    chroma = 512 + (planes[1:] - (top + 1) / 2) * (896 / top)
    return np.concatenate((luma, chroma)).round().astype(np.uint16)


def subsampled(planes: Sequence[Plane], colours: Colours) -> VideoFrame:
    """Returns an 8-bit frame with half the chroma resolution, from three planes and optionally alpha.

    Odd sizes are padded by one row or column.
    """
    height, width = planes[0].shape
    padded = [cv2.copyMakeBorder(each, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE) for each in planes]
    full = write_planes(padded[:3], "yuv444p", colours)
    levels = 2 if colours.full_range else 1
    half = full.reformat(format="yuv420p", src_color_range=levels, dst_color_range=levels)
    if len(planes) == 3:
        return colours.tag(half)
    both = VideoFrame(half.width, half.height, "yuva420p")
    for target, source in zip(both.planes, half.planes, strict=False):
        target.update(cast(bytes, source))
    view_of(both.planes[3], np.uint8)[:, : half.width] = padded[3]
    return colours.tag(both)
