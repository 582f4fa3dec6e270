"""An image file as plain pixels, checked from its header before anything is decoded, and where its values change."""

import logging
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt8, UInt16
from PIL import Image, UnidentifiedImageError

from mnemask.errors import MaskError
from mnemask.io.image_sequences import page_count
from mnemask.io.images import (
    DAMAGED_IMAGE_ERRORS,
    TOO_LARGE_ERRORS,
    is_picture_palette,
    orientation_of,
    palette_of,
    turned,
)
from mnemask.io.label_files import holds_labels, label_paths, read_labels, states_ids
from mnemask.io.pictures import MAX_PIXELS, MAX_SIDE

log = logging.getLogger(__name__)

_LOSSY_FORMATS = ("JPEG", "MPO", "WEBP")  # MPO is what Pillow makes of some JPEG files
# Pillow reads more, some of it by starting other programs.
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "PPM")

MANY_VALUES = 50
# Blended pixels as a share of all edge pixels: at most 0.03 in 700 label maps of photographs, 0.05 to 0.4 once resized.
BLENDED_SHARE = 0.04
# ... and as a share of the places where blending could show: at most 0.1 in large maps of drawn shapes, 0.3 to 1 once
# antialiased. In small ones chance adds to it, by less than this many standard deviations.
BLENDED_CROSSINGS = 0.15
CHANCE = 2.0
FAINTEST = 8  # alpha of paint that can be seen
FAINT_SHARE = 0.01  # of what is painted, and more than is left over by chance
SQUARE = np.ones((3, 3), np.uint8)

Grey = UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]
Colour = UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True, slots=True)
class RawMask:
    """The pixels of an image file.

    Attributes:
        pixels: palette indices, grey levels or, where the file has colours, RGB; 0 where it is transparent.
        opaque: where it is not transparent.
        lossy: whether the format's compression may change values.
        palette: the RGB colour of each index, where the pixels are palette indices.
        are_ids: whether the pixels are object ids for certain, as in the files of annotation tools.
        pages: how many pictures the file holds; this is the first.
        opacity: the lowest at which something is painted, as a share.
    """

    pixels: Grey | Colour
    opaque: Bool[np.ndarray, "H W"]
    lossy: bool
    palette: UInt8[np.ndarray, "N 3"] | None = None
    are_ids: bool = False
    pages: int = 1
    opacity: float = 1.0


def load_mask_image(path: str | Path, size: tuple[int, int] | None = None) -> RawMask:
    """Returns the upright pixels of an image of `size` (height, width); raises MaskError for anything else.

    Of a label video or a file of COCO run lengths it is the first map; `masks.mkv/00012` names another.

    Where an orientation tag would make it another size than the video's, and without it the mask fits, the tag is left
    aside with a warning: it was painted on frames that had lost their tag.
    """
    if holds_labels(Path(path)):
        labels = read_labels(path)
        _check_size(path, (labels.shape[1], labels.shape[0]), size)
        pages = len(label_paths(Path(path))) or 1  # none is inside of `masks.mkv/00012`
        return RawMask(labels, np.ones(labels.shape, bool), lossy=False, are_ids=states_ids(Path(path)), pages=pages)
    try:
        with Image.open(path, formats=_FORMATS) as image:  # reads the header only
            _check_size(path, image.size, None)  # looking for a tag may decode a PNG
            orientation = orientation_of(image)
            if size is not None and orientation >= 5 and image.size == size[::-1] and size[0] != size[1]:
                log.warning("mask %s fits the video only as it is stored, so its orientation tag is left aside", path)
                orientation = 1
            _check_size(path, image.size if orientation < 5 else image.size[::-1], size)
            image.load()
            may_be_stack = image.format in ("TIFF", "WEBP", "GIF") or getattr(image, "is_animated", False)
            pages = page_count(Path(path)) if may_be_stack else 1
            return replace(_upright(_plain_pixels(image, path), orientation), pages=pages)
    except MaskError:
        raise
    except FileNotFoundError as error:
        raise MaskError(f"mask {path} does not exist", "give an image file, or a box") from error
    except UnidentifiedImageError as error:
        raise MaskError(f"mask {path} is not an image", "export it as PNG") from error
    except TOO_LARGE_ERRORS as error:
        raise MaskError(
            f"mask {path} claims more pixels than any picture has, larger than {MAX_SIDE} a side or "
            f"{MAX_PIXELS // 10**6} megapixels",
            "scale it down",
        ) from error
    except DAMAGED_IMAGE_ERRORS as error:
        raise MaskError(f"mask {path} cannot be read ({error})", "export it again as PNG") from error


def _upright(raw: RawMask, orientation: int) -> RawMask:
    pixels, opaque = (np.ascontiguousarray(turned(each, orientation)) for each in (raw.pixels, raw.opaque))
    return replace(raw, pixels=pixels, opaque=opaque)


def _check_size(path: str | Path, found: tuple[int, int], size: tuple[int, int] | None) -> None:
    width, height = found
    if max(found) > MAX_SIDE or width * height > MAX_PIXELS:
        raise MaskError(
            f"mask {path} is {width}x{height}, larger than {MAX_SIDE} a side or {MAX_PIXELS // 10**6} megapixels",
            "scale it down",
        )
    if size is not None and (height, width) != size:
        turn = ", turned (frames are shown as their orientation tags say)" if (width, height) == size else ""
        raise MaskError(
            f"mask {path} is {width}x{height} but the video is {size[1]}x{size[0]}{turn}",
            "export it at the video's size, or resize it with nearest neighbour",
        )


def _is_lossless_webp(image: Image.Image, path: str | Path) -> bool:
    """Returns whether all pictures of a WebP file are stored without loss, as its chunks are called."""
    if image.format != "WEBP":
        return False
    data = Path(path).read_bytes()
    return b"VP8L" in data and b"VP8 " not in data


def _plain_pixels(image: Image.Image, path: str | Path) -> RawMask:
    lossy = image.format in _LOSSY_FORMATS and not _is_lossless_webp(image, path)
    palette = None
    opacity = 1.0
    opaque = np.ones((image.height, image.width), bool)
    if image.mode == "1":
        pixels = np.asarray(image.convert("L"))
    elif image.mode in ("L", "P") and not is_picture_palette(image):
        pixels = np.asarray(image)
        palette = palette_of(image) if image.mode == "P" else None
    elif image.mode.startswith("I"):
        wide = np.asarray(image)
        if wide.min() < 0 or wide.max() > 65_535:
            raise MaskError(f"mask {path} has values from {wide.min()} to {wide.max()}", "ids go from 1 to 65535")
        pixels = wide.astype(np.uint16)
    elif image.mode == "F":
        raise MaskError(f"mask {path} holds fractions", "ids are whole numbers: export it as 8-bit PNG")
    else:
        rgba = np.asarray(image.convert("RGBA"))
        opacity = _lowest_opacity(rgba)
        opaque = rgba[..., 3] > 127.5 * opacity
        pixels = np.where(opaque[..., None], rgba[..., :3], 0).astype(np.uint8)
        # Grey from a lossy file comes in channels that differ by rounding.
        if int(np.ptp(pixels, axis=2).max()) <= (8 if lossy else 0):
            pixels = pixels[..., 0]
    return RawMask(np.ascontiguousarray(pixels), opaque, lossy, palette, opacity=opacity)


def _lowest_opacity(rgba: UInt8[np.ndarray, "H W 4"]) -> float:
    """Returns the lowest opacity of an area of one colour; 1 where none is so faint that half of it would be nothing.

    The edges of areas and the inside of photographs fade too, and a shadow is black: they are no paint.
    """
    alpha = rgba[..., 3]
    even = (np.asarray(cv2.erode(rgba, SQUARE)) == np.asarray(cv2.dilate(rgba, SQUARE))).all(axis=2)
    faint = alpha[even & (alpha >= FAINTEST) & (alpha <= 127) & rgba[..., :3].any(axis=2)]
    enough = faint.size >= FAINT_SHARE * np.count_nonzero(alpha >= FAINTEST)
    return float(faint.min()) / 255 if faint.size and enough else 1.0


@dataclass(frozen=True, slots=True)
class Edges:
    """Where the values change.

    Attributes:
        solid: all of the 3x3 pixels around have the same value.
        thin: in no 3x3 square of one value.
        mixed: thin, and some neighbour is lower and some is higher, in the same channel.
        sharp: how many pairs of pixels side by side could have had a mixture between them and are not mixed.
    """

    solid: Bool[np.ndarray, "H W"]
    thin: Bool[np.ndarray, "H W"]
    mixed: Bool[np.ndarray, "H W"]
    sharp: int

    @classmethod
    def from_values(cls, values: Grey | Colour) -> "Edges":
        """Returns the edges of a picture."""
        lowest, highest = np.asarray(cv2.erode(values, SQUARE)), np.asarray(cv2.dilate(values, SQUARE))
        # Plane by plane, since numpy is slow at reducing an axis of three.
        same, between = (
            np.moveaxis(np.atleast_3d(each), 2, 0)
            for each in (lowest == highest, (lowest < values) & (values < highest))
        )
        solid = reduce(np.logical_and, same)
        thin = np.asarray(cv2.dilate(solid.astype(np.uint8), SQUARE)) == 0
        mixed = thin & reduce(np.logical_or, between)
        sharp = 0
        for axis in (0, 1):
            pairs = np.delete(mixed, 0, axis) | np.delete(mixed, -1, axis)
            sharp += int(((differences(values, axis) >= 2) & ~pairs).sum())
        return cls(solid, thin, mixed, sharp)

    def blended(self) -> Bool[np.ndarray, "H W"]:
        """Returns the pixels that mix their neighbours' values, none where chance or thin objects explain them."""
        found = int(self.mixed.sum())
        crossings = found + self.sharp
        chance = CHANCE * crossings**0.5
        enough = found >= BLENDED_SHARE * (~self.solid).sum() and found >= BLENDED_CROSSINGS * crossings + chance
        return self.mixed if enough else np.zeros_like(self.mixed)

    def look_like_a_photograph(self, distinct: int) -> bool:
        """Returns whether so many distinct values run into each other."""
        return distinct > MANY_VALUES and float(self.thin.mean()) > 0.25


def differences(values: Grey | Colour, axis: int) -> UInt8[np.ndarray, "y x"] | UInt16[np.ndarray, "y x"]:
    """Returns how far each two neighbours along an axis are apart, in the channel where they are farthest."""
    later, earlier = np.delete(values, 0, axis), np.delete(values, -1, axis)
    if not later.size:  # one pixel wide, or high; OpenCV takes no empty pictures
        return np.zeros(later.shape[:2], np.uint8)
    apart = cv2.absdiff(later, earlier)
    return np.asarray(apart if apart.ndim == 2 else reduce(np.maximum, np.moveaxis(apart, 2, 0)))


def nearest_plain(labels: Int32[np.ndarray, "H W"], blended: Bool[np.ndarray, "H W"]) -> Int32[np.ndarray, "H W"]:
    """Returns the labels with each blended pixel's replaced by that of the nearest other pixel."""
    if not blended.any():
        return labels
    holes = blended.astype(np.uint8)
    _, nearest = cv2.distanceTransformWithLabels(holes, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    plain: Int32[np.ndarray, " N"] = labels[~blended]
    cleaned: Int32[np.ndarray, "H W"] = plain[np.asarray(nearest) - 1]  # zero pixels are numbered from 1, row by row
    return cleaned


def unpack(colour: int) -> UInt8[np.ndarray, " 3"]:
    """Returns red, green and blue of a packed colour."""
    return np.array([colour >> 16, colour >> 8 & 255, colour & 255], np.uint8)


def pack(pixels: Colour) -> Int64[np.ndarray, "H W"]:
    """Returns each pixel's colour as one number, 0xRRGGBB."""
    red, green, blue = np.moveaxis(pixels.astype(np.int64), 2, 0)
    packed: Int64[np.ndarray, "H W"] = red << 16 | green << 8 | blue
    return packed


def distinct_colours(
    packed: Int64[np.ndarray, "H W"],
) -> tuple[Int64[np.ndarray, " N"], Int64[np.ndarray, " N"], Int64[np.ndarray, "H W"]]:
    """Returns the packed colours, where each comes first, and the number of each pixel's: np.unique without sorting."""
    number = np.zeros(1 << 24, np.int64)
    number[packed.ravel()] = 1
    colours = np.flatnonzero(number)
    number[colours] = np.arange(len(colours))
    inverse = number[packed]
    first = np.zeros(len(colours), np.int64)
    first[inverse.ravel()[::-1]] = np.arange(packed.size)[::-1]  # the last to be written is the first in the picture
    return colours, first, inverse
