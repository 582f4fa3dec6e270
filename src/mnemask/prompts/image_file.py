"""Mask images as plain pixels, with headers checked before decoding, and analysis of their edges and noise."""

import logging
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Int, Int32, Int64, UInt8, UInt16
from PIL import Image, UnidentifiedImageError

from mnemask.errors import FrameError, MaskError
from mnemask.io.image_stacks import page_count
from mnemask.io.images import (
    DAMAGED_IMAGE_ERRORS,
    FORMATS_AND_GIF,
    TOO_LARGE_ERRORS,
    is_empty,
    is_picture_palette,
    is_unread_picture,
    open_image,
    orientation_of,
    palette_of,
    stored_values,
    turned,
)
from mnemask.io.label_files import holds_labels, interpolated_in, label_paths, read_labels, states_ids
from mnemask.io.pictures import MAX_PIXELS, MAX_SIDE
from mnemask.types import MAX_OBJECT_ID

log = logging.getLogger(__name__)

_LOSSY_FORMATS = ("JPEG", "MPO", "WEBP")  # Pillow opens some JPEG files as MPO

MANY_VALUES = 50
# Blended pixels as a share of all edge pixels: at most 0.03 in 700 label maps of photographs, 0.05 to 0.4 when resized.
BLENDED_SHARE = 0.04
# ... and as a share of the places where blending could show: at most 0.1 in large maps of drawn shapes, 0.3 to 1 when
# antialiased. In small maps chance adds to it, by less than this many standard deviations.
BLENDED_CROSSINGS = 0.15
CHANCE = 2.0
MOSTLY = 0.9  # of the pixels of a value that only resizing made
FAINTEST = 8  # alpha of visible paint
FAINT_SHARE = 0.01  # of the painted pixels; fewer may be left-overs
OPACITY_STEP = 16  # between two alphas that differ on purpose
SQUARE = np.ones((3, 3), np.uint8)

# Colours that differ by no more than this in each channel count as one, if something has altered a file's colours.
SAME_COLOUR = 4
NOISE_REACH = 8  # pixels from a border within which JPEG's blocks add noise
NOISE_PIECE = 3  # connected pixels on average; a thin object has more
NOISE_PIECES = 20  # beside one area; JPEGs of the best quality have 26 or more, even with small objects
MUCH_LARGER = 4  # times

Grey = UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]
Colour = UInt8[np.ndarray, "H W 3"]
DeepColour = UInt16[np.ndarray, "H W 3"]


@dataclass(frozen=True, slots=True)
class RawMask:
    """The pixels of an image file.

    Attributes:
        pixels: palette indices, grey levels or, for colour files, RGB; 0 where transparent.
        opaque: the pixels that are not transparent.
        lossy: whether the format's compression may change values.
        palette: the RGB colour of each index, if the pixels are palette indices.
        are_ids: whether the pixels are certain to be object ids, as in the files of annotation tools.
        pages: number of pictures in the file; this is the first.
        opacity: the lowest opacity of painted areas, from 0 to 1.
        opacities: the alphas of areas of the same colour, if there are several.
        fractions: the largest value if the file has fractions from 0 to 1; scaled to white, in 16 bits, in `pixels`.
    """

    pixels: Grey | Colour
    opaque: Bool[np.ndarray, "H W"]
    lossy: bool
    palette: UInt8[np.ndarray, "N 3"] | None = None
    are_ids: bool = False
    pages: int = 1
    opacity: float = 1.0
    opacities: tuple[int, ...] = ()
    fractions: float | None = None


def load_mask_image(path: str | Path, size: tuple[int, int] | None = None) -> RawMask:
    """Returns the upright pixels of an image of `size` (height, width); raises MaskError for anything else.

    For a label video or a file of COCO run lengths, it is the first map; `masks.mkv/00012` names another one. Objects
    that an annotation tool interpolated there between key frames are left out.

    If the mask fits the video only without its orientation tag, the tag is ignored with a warning: the mask was painted
    on frames that had lost their tag.
    """
    if holds_labels(Path(path)):
        labels = read_labels(path)
        if interpolated := interpolated_in(Path(path)):
            labels = np.where(np.isin(labels, sorted(interpolated)), 0, labels).astype(labels.dtype)
        _check_size(path, (labels.shape[1], labels.shape[0]), size)
        pages = len(label_paths(Path(path))) or 1  # `masks.mkv/00012` contains none
        return RawMask(labels, np.ones(labels.shape, bool), lossy=False, are_ids=states_ids(Path(path)), pages=pages)
    if Path(path).exists() and not (Path(path).is_file() or Path(path).is_dir()):
        raise MaskError(f"mask {path} is a pipe or device, but masks are read twice", "save it to a file first")
    try:
        with open_image(path, FORMATS_AND_GIF) as image:  # reads the header only
            _check_size(path, image.size, None)  # before the orientation tag is read, which may decode a PNG
            stored = stored_values(image, path)
            orientation = orientation_of(image)
            if size is not None and orientation >= 5 and image.size == size[::-1] and size[0] != size[1]:
                log.warning("mask %s fits the video only as stored, so its orientation tag is ignored", path)
                orientation = 1
            _check_size(path, image.size if orientation < 5 else image.size[::-1], size)
            may_be_stack = image.format in ("TIFF", "WEBP", "GIF") or getattr(image, "is_animated", False)
            pages = page_count(Path(path)) if may_be_stack else 1
            return replace(_upright(_plain_pixels(image, stored, path), orientation), pages=pages)
    except MaskError:
        raise
    except FrameError as error:
        raise MaskError(f"mask {path} cannot be read: {error.problem}", error.remedy) from error
    except FileNotFoundError as error:
        raise MaskError(f"mask {path} does not exist", "give an image file, or a box") from error
    except UnidentifiedImageError as error:
        if is_empty(path):
            raise MaskError(f"mask {path} is empty, a file of 0 bytes", "copy it or export it again") from error
        if is_unread_picture(Path(path)):
            kind = Path(path).suffix[1:].upper()
            raise MaskError(f"mask {path} has an unsupported format ({kind})", "convert it to PNG") from error
        raise MaskError(f"mask {path} is not an image", "export it as PNG") from error
    except TOO_LARGE_ERRORS as error:
        raise MaskError(
            f"mask {path} claims an implausible size, larger than {MAX_SIDE} pixels a side or "
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
            f"mask {path} is {width}x{height}, larger than {MAX_SIDE} pixels a side or "
            f"{MAX_PIXELS // 10**6} megapixels",
            "scale it down",
        )
    if size is not None and (height, width) != size:
        turn = ", rotated by 90 degrees (frames follow their orientation tags)" if (width, height) == size else ""
        raise MaskError(
            f"mask {path} is {width}x{height} but the video is {size[1]}x{size[0]}{turn}",
            "export it at the video's size, or resize it with nearest neighbour",
        )


def _is_lossless_webp(image: Image.Image, path: str | Path) -> bool:
    """Returns whether all pictures of a WebP file are lossless, judging by the names of its chunks."""
    if image.format != "WEBP":
        return False
    data = Path(path).read_bytes()
    return b"VP8L" in data and b"VP8 " not in data


def _plain_pixels(image: Image.Image, stored: np.ndarray[Any, np.dtype[Any]], path: str | Path) -> RawMask:
    lossy = image.format in _LOSSY_FORMATS and not _is_lossless_webp(image, path)
    opaque = np.ones((image.height, image.width), bool)
    if image.mode == "1":
        return RawMask(np.asarray(image.convert("L")), opaque, lossy)
    if image.mode in ("L", "P") and stored.dtype == np.uint8 and not is_picture_palette(image):
        return RawMask(stored, opaque, lossy, palette_of(image) if image.mode == "P" else None)
    if stored.dtype.kind == "f" and stored.min() >= 0 and stored.max() <= 1:  # a matte
        largest = float(stored.max())  # scaled or blurred mattes may peak just below 1
        return RawMask(np.round(stored * (65_535 / (largest or 1))).astype(np.uint16), opaque, lossy, fractions=largest)
    if stored.dtype.kind == "i" or (stored.ndim == 2 and image.mode not in ("L", "P")):
        return RawMask(_whole_numbers(stored, path), opaque, lossy)
    rgba = np.asarray(image.convert("RGBA"))
    opacity = _lowest_opacity(rgba)
    opaque = rgba[..., 3] > 127.5 * opacity
    colours = rgba[..., :3] if stored.dtype == np.uint8 else _of_16_bits(stored, rgba[..., :3], opaque, path)
    pixels = np.where(opaque[..., None], colours, 0).astype(colours.dtype)
    # The channels of grey in a lossy file differ by rounding.
    if int(np.ptp(pixels, axis=2).max()) <= (8 if lossy else 0):
        pixels = pixels[..., 0]
    return RawMask(np.ascontiguousarray(pixels), opaque, lossy, opacity=opacity, opacities=_opacities(rgba))


def _whole_numbers(stored: np.ndarray[Any, np.dtype[Any]], path: str | Path) -> UInt16[np.ndarray, "H W"]:
    """Returns the ids in a file with more than 8 bits or signed values; raises MaskError if they are not ids."""
    if stored.dtype.kind == "f":
        if not np.isfinite(stored).all():
            raise MaskError(
                f"mask {path} has values that are not finite numbers (NaN or Inf)",
                "save it with 0 for the background and whole numbers for the objects",
            )
        raise MaskError(
            f"mask {path} has fractions from {stored.min():g} to {stored.max():g}, but ids are whole numbers and a "
            "matte is from 0 to 1",
            "export it as 8-bit PNG",
        )
    if stored.min() < 0 or stored.max() > MAX_OBJECT_ID:
        ground = "; if -1 is the background, add 1 to all values" if stored.min() == -1 else ""
        raise MaskError(
            f"mask {path} has values from {stored.min()} to {stored.max()}",
            f"use ids from 1 to {MAX_OBJECT_ID} and 0 for the background{ground}",
        )
    return stored.astype(np.uint16)


def _of_16_bits(
    wide: DeepColour, eight: Colour, opaque: Bool[np.ndarray, "H W"], path: str | Path
) -> Colour | DeepColour:
    """Returns 16-bit colours: unchanged if grey, else in 8 bits; raises MaskError if two areas would become one."""
    if not np.ptp(wide, axis=2)[opaque].any():
        return wide
    solid = EdgeMap.from_values(wide).solid & opaque
    if len(np.unique(wide[solid], axis=0)) > len(np.unique(eight[solid], axis=0)):
        raise MaskError(
            f"mask {path} has colours of 16 bits that would become the same in 8 bits",
            "save ids as grey levels, or paint the objects in colours that differ more",
        )
    return eight


def _evenly_painted(rgba: UInt8[np.ndarray, "H W 4"]) -> Bool[np.ndarray, "H W"]:
    """Returns the pixels inside visible areas of one colour and one opacity."""
    return ~is_border(rgba).any(axis=2) & (rgba[..., 3] >= FAINTEST)


def _opacities(rgba: UInt8[np.ndarray, "H W 4"]) -> tuple[int, ...]:
    """Returns the well separated alphas of one colour; none if each colour has a single one."""
    alpha = rgba[..., 3]
    if (alpha == 255).all():
        return ()
    painted = np.ascontiguousarray(rgba[_evenly_painted(rgba)]).view(np.uint32).ravel()
    values, counts = np.unique(painted, return_counts=True)
    levels: dict[tuple[int, ...], list[int]] = {}
    for value in values[counts >= FAINT_SHARE * np.count_nonzero(alpha >= FAINTEST)]:
        *colour, level = value.reshape(1).view(np.uint8).tolist()
        levels.setdefault(tuple(colour), []).append(level)
    return next((tuple(sorted(each)) for each in levels.values() if max(each) - min(each) >= OPACITY_STEP), ())


def _lowest_opacity(rgba: UInt8[np.ndarray, "H W 4"]) -> float:
    """Returns the lowest opacity of an area of one colour; 1 if none is so faint that it would count as transparent.

    The edges of areas and the inside of photographs fade too, and shadows are black: these are not counted.
    """
    alpha = rgba[..., 3]
    faint = alpha[_evenly_painted(rgba) & (alpha <= 127) & rgba[..., :3].any(axis=2)]
    enough = faint.size >= FAINT_SHARE * np.count_nonzero(alpha >= FAINTEST)
    return float(faint.min()) / 255 if faint.size and enough else 1.0


@dataclass(frozen=True, slots=True)
class EdgeMap:
    """The pixels where values change.

    Attributes:
        solid: pixels whose 3x3 neighbourhood has a single value.
        thin: pixels in no 3x3 square of a single value.
        mixed: thin pixels with a lower and a higher neighbour in the same channel.
        sharp: number of adjacent pairs of pixels that could have a mixture between them but are not mixed.
    """

    solid: Bool[np.ndarray, "H W"]
    thin: Bool[np.ndarray, "H W"]
    mixed: Bool[np.ndarray, "H W"]
    sharp: int

    @classmethod
    def from_values(cls, values: Grey | Colour | DeepColour) -> "EdgeMap":
        """Returns the edge map of a picture."""
        lowest, highest = np.asarray(cv2.erode(values, SQUARE)), np.asarray(cv2.dilate(values, SQUARE))
        # Plane by plane, since numpy is slow at reducing an axis of length three.
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
        """Returns the pixels that mix their neighbours' values; none if chance or thin objects explain them."""
        found = int(self.mixed.sum())
        crossings = found + self.sharp
        chance = CHANCE * crossings**0.5
        enough = found >= BLENDED_SHARE * (~self.solid).sum() and found >= BLENDED_CROSSINGS * crossings + chance
        return self.mixed if enough else np.zeros_like(self.mixed)

    def dotted(self, values: Grey) -> Bool[np.ndarray, "H W"]:
        """Returns the pixels of values that are but dots on the edges of others, as from a sharp filter for resizing.

        There are fewer of them than `blended` needs. A thin object, whose pixels are connected, has no such value.
        """
        found = np.zeros_like(self.mixed)
        mixed = np.bincount(values[self.mixed])
        if mixed.sum() < NOISE_PIECES:
            return found
        area, solid = (np.bincount(each, minlength=len(mixed)) for each in (values.ravel(), values[self.solid]))
        area, solid = area[: len(mixed)], solid[: len(mixed)]
        for value in np.flatnonzero((mixed >= NOISE_PIECES) & (mixed >= MOSTLY * area) & (solid == 0)):
            here = values == value
            pieces = cv2.connectedComponents(here.astype(np.uint8))[0] - 1
            if pieces >= NOISE_PIECES and area[value] <= NOISE_PIECE * pieces:
                found |= here
        return found

    def look_like_a_photograph(self, distinct: int) -> bool:
        """Returns whether there are many distinct values that run into each other."""
        return distinct > MANY_VALUES and float(self.thin.mean()) > 0.25


def differences(values: Grey | Colour | DeepColour, axis: int) -> UInt8[np.ndarray, "y x"] | UInt16[np.ndarray, "y x"]:
    """Returns the differences between neighbours along an axis, in the channel where they are largest."""
    later, earlier = np.delete(values, 0, axis), np.delete(values, -1, axis)
    if not later.size:  # one pixel wide or high; OpenCV rejects empty pictures
        return np.zeros(later.shape[:2], np.uint8)
    apart = cv2.absdiff(later, earlier)
    return np.asarray(apart if apart.ndim == 2 else reduce(np.maximum, np.moveaxis(apart, 2, 0)))


def nearest_plain(labels: Int32[np.ndarray, "H W"], blended: Bool[np.ndarray, "H W"]) -> Int32[np.ndarray, "H W"]:
    """Returns the labels, with that of each blended pixel replaced by that of the nearest other pixel."""
    if not blended.any():
        return labels
    holes = blended.astype(np.uint8)
    _, nearest = cv2.distanceTransformWithLabels(holes, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    plain: Int32[np.ndarray, " N"] = labels[~blended]
    cleaned: Int32[np.ndarray, "H W"] = plain[np.asarray(nearest) - 1]  # zero pixels are numbered from 1, row by row
    return cleaned


def noise_of(
    numbers: Int[np.ndarray, "H W"], solid: Bool[np.ndarray, "H W"], values: Int[np.ndarray, "N C"]
) -> Int64[np.ndarray, " N"]:
    """Returns for each value the one that it is noise of, as left by lossy compression; -1 if it is not noise.

    Noise is close to the value of a much larger area, lies beside it in many pieces, and fills no area. A few pixels of
    a hidden object beside another one are not noise.

    Args:
        numbers: index of each pixel's value.
        solid: pixels whose 3x3 neighbourhood has a single value.
        values: the values in all channels.
    """
    area, filled = (np.bincount(each.ravel(), minlength=len(values)) for each in (numbers, numbers[solid]))
    thin, found = np.flatnonzero((area > 0) & (100 * filled <= area)), np.full(len(values), -1)
    most = 0
    for large in np.flatnonzero(filled) if area[thin].sum() >= NOISE_PIECES else ():
        apart = np.abs(values[thin].astype(np.int64) - values[large]).max(axis=1)
        if not (near := thin[(apart <= SAME_COLOUR) & (MUCH_LARGER * area[thin] <= area[large])]).size:
            continue
        left, top, width, height = cv2.boundingRect((numbers == large).astype(np.uint8))
        rows, columns = slice(max(top - NOISE_REACH, 0), None), slice(max(left - NOISE_REACH, 0), None)
        around = numbers[rows, columns][: height + 2 * NOISE_REACH, : width + 2 * NOISE_REACH]
        beside = np.asarray(cv2.dilate((around == large).astype(np.uint8), np.ones((2 * NOISE_REACH + 1,) * 2))) > 0
        total = 0
        for each in near:
            pieces = cv2.connectedComponents((around == each).astype(np.uint8))[0] - 1
            if area[each] <= NOISE_PIECE * pieces and (around[beside] == each).sum() >= 0.9 * area[each]:
                found[each], total = large, total + pieces
        most = max(most, total)
    return found if most >= NOISE_PIECES else np.full_like(found, -1)


def unpack(colour: int) -> UInt8[np.ndarray, " 3"]:
    """Returns red, green and blue of a packed colour."""
    return np.array([colour >> 16, colour >> 8 & 255, colour & 255], np.uint8)


def is_border(values: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Returns where, in each channel, the 3x3 square around a pixel has more than one value."""
    return np.not_equal(cv2.dilate(values, SQUARE), cv2.erode(values, SQUARE)).astype(bool, copy=False)


def pack(pixels: Colour) -> Int64[np.ndarray, "H W"]:
    """Returns each pixel's colour as one number, 0xRRGGBB."""
    red, green, blue = np.moveaxis(pixels.astype(np.int64), 2, 0)
    packed: Int64[np.ndarray, "H W"] = red << 16 | green << 8 | blue
    return packed


def distinct_colours(
    packed: Int64[np.ndarray, "H W"],
) -> tuple[Int64[np.ndarray, " N"], Int64[np.ndarray, " N"], Int64[np.ndarray, "H W"]]:
    """Returns the packed colours, where each comes first, and each pixel's index: np.unique without sorting."""
    number = np.zeros(1 << 24, np.int64)
    number[packed.ravel()] = 1
    colours = np.flatnonzero(number)
    number[colours] = np.arange(len(colours))
    inverse = number[packed]
    first = np.zeros(len(colours), np.int64)
    first[inverse.ravel()[::-1]] = np.arange(packed.size)[::-1]  # backwards, so that the first position is kept
    return colours, first, inverse
