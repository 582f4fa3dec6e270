"""Reads one image file as upright 8-bit RGB, with the values that Pillow gives."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8, UInt16
from PIL import ExifTags, Image
from torch import Tensor

from mnemask.errors import FrameError
from mnemask.io.pictures import MAX_PIXELS, MAX_SIDE, Damaged, DecodedPicture, Levels, check_size
from mnemask.io.shapes import border_of
from mnemask.io.utf8_path import utf8_path

T = TypeVar("T")

RARE_SUFFIXES = (".jfif", ".jpe", ".ppm", ".pgm")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", *RARE_SUFFIXES)
# Picture formats that are not read as frames.
_UNREAD = ".arw .avif .cr2 .cr3 .dng .dpx .exr .gif .hdr .heic .heif .jp2 .jxl .nef .orf .pbm .pnm .psd .raf .rw2 .tga"
# Pillow reads more formats, whatever the suffix of a file, some of them by starting other programs.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM")
FORMATS_AND_GIF = (*FORMATS, "GIF")  # for masks, and for files with several pictures

# What Pillow's decoders raise on damaged files, as the tests check.
DAMAGED_IMAGE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    OverflowError,
    struct.error,
    zlib.error,
)
# Pillow itself refuses images that are far too large, before their header can be read.
TOO_LARGE_ERRORS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_BITS_PER_SAMPLE, _PHOTOMETRIC, _PLANES, _SAMPLE_FORMAT = 258, 262, 284, 339  # TIFF tags
_WHITE_IS_ZERO, _SEPARATE, _SIGNED = 0, 2, 2
# Pictures that are examined before the first is yielded: for the range of their values, and for further pages.
SAMPLES = 32
HEAD = 12  # bytes at the beginning of a file that identify its format
BORDER_SHARE = 0.9  # a colour that fills more of the border than this is the background


def is_unread_picture(path: Path) -> bool:
    """Returns whether a file's suffix is of a picture format that is not read as a frame, and mostly not as a mask."""
    return path.suffix.lower() in _UNREAD.split()


def kind_of_stack(head: bytes) -> str:
    """Returns TIFF or WebP if a file begins as one, since these may hold pictures in any order; "" for all others."""
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    return "WebP" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else ""


def refuse_piped_stack(head: bytes, name: str) -> None:
    """Raises FrameError if the first bytes of a pipe are those of a format that cannot be read sequentially."""
    if kind := kind_of_stack(head):
        raise FrameError(
            f"the input from {name!r} is a {kind}, which cannot be read before its end", "save it to a file"
        )


def open_image(path: str | Path, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Returns an image with only its header read, for use in a with statement; raises as Pillow does.

    Pillow maps the pixels of plain TIFFs into memory by the file's name, in the size in which they are shown, which
    would shear pictures that are stored turned. Without the name it reads them.
    """
    image = Image.open(path, formats=formats)
    if image.format == "TIFF":
        image.filename = ""
    return image


def is_empty(path: str | Path) -> bool:
    """Returns whether a file has no bytes, as an interrupted copy leaves it."""
    return Path(path).is_file() and Path(path).stat().st_size == 0


def read_image(path: str | Path, levels: Levels | None = None) -> UInt8[Tensor, "3 H W"]:
    """Returns the image as upright RGB, identical to what Pillow gives.

    Orientation tags are applied, 16-bit values are scaled to 8 bits, alpha is dropped. Of several pages the first is
    read.

    Args:
        path: the file.
        levels: the black and white levels of images with more than 8 bits; by default 0 and 65535.

    Raises:
        FrameError: the file is missing, damaged, larger than 16384 pixels a side or 67 megapixels (which is checked
            before anything is decoded), or its values have no fixed range, such as floating point.
    """
    try:
        with open_image(path) as image:
            check_size(image.width, image.height, str(path))
            rgb = decode(image, path, levels)
    except FrameError:
        raise
    except TOO_LARGE_ERRORS as error:
        raise FrameError(
            f"image {str(path)!r} claims more pixels than any picture has",
            f"expected at most {MAX_SIDE} pixels a side and {MAX_PIXELS // 10**6} megapixels, so shrink it first",
        ) from error
    except DAMAGED_IMAGE_ERRORS as error:
        raise FrameError(
            f"image {str(path)!r} cannot be read ({'it is empty' if is_empty(path) else error})",
            f"expected an intact {', '.join(IMAGE_SUFFIXES)} file, so replace or remove it",
        ) from error
    return torch.from_numpy(rgb).permute(2, 0, 1)


def read_picture(path: Path, index: int, levels: Levels | None = None) -> DecodedPicture | Damaged:
    """Returns the image as the frame of this number, or a `Damaged` with the reason why it cannot be read."""
    try:
        return DecodedPicture(read_image(path, levels), index, seconds=None, name=path.stem)
    except FrameError as error:
        return Damaged(error, index, name=path.stem)


def deep_values_of(path: Path) -> UInt16[np.ndarray, "..."] | None:
    """Returns the values of an image that has more than 8 bits and can be read; None for others."""
    try:
        with open_image(path) as image:
            return deep_values(image, path) if is_deep(image) and image.width * image.height <= MAX_PIXELS else None
    except (FrameError, *DAMAGED_IMAGE_ERRORS, *TOO_LARGE_ERRORS):
        return None  # the error is reported when its turn comes


def sample(items: Sequence[T], most: int = SAMPLES) -> list[T]:
    """Returns evenly spaced items, at most `most`, including the first and the last."""
    last = len(items) - 1
    most = min(len(items), most)
    return [items[round(at * last / max(most - 1, 1))] for at in range(most)]


def decode(image: Image.Image, path: str | Path, levels: Levels | None = None) -> UInt8[np.ndarray, "H W 3"]:
    """Returns the current page of an opened image as upright RGB without alpha; over 8 bits, scaled by the levels.

    Raises:
        FrameError: its values have no fixed range, such as floating point.
    """
    deep = deep_values(image, path)
    if deep is None:
        rgb = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    else:
        eight = (levels or Levels()).to_8_bits(deep)
        rgb = np.repeat(eight[:, :, None], 3, axis=2) if eight.ndim == 2 else eight
    return np.array(turned(rgb, orientation_of(image)), order="C")


def deep_values(image: Image.Image, path: str | Path) -> UInt16[np.ndarray, "H W"] | UInt16[np.ndarray, "H W 3"] | None:
    """Returns the values of a page that has more than 8 bits a channel, as stored; None for others.

    Raises:
        FrameError: its values have no fixed range, such as floating point.
    """
    if image.mode == "F":
        raise FrameError(
            f"image {str(path)!r} holds floating-point values, and which value is white is unknown",
            "expected 8 or 16 bits a channel, so convert it first",
        )
    is_deep_grey, is_signed = image.mode == "I" or image.mode.startswith("I;16"), _is_signed_grey(image)
    if is_deep_grey or is_signed:
        grey = np.asarray(image).view(np.int8) if is_signed else _as_shown(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65_535:
            raise FrameError(
                f"image {str(path)!r} holds values from {grey.min()} to {grey.max()}",
                "expected none below 0 in 8 or 16 bits a channel, so convert it first",
            )
        return grey.astype(np.uint16) if is_deep_grey else None
    if not _has_deep_colours(image):
        return None
    deep, white = _deep_colours(image, path), _white_of_ppm(image)
    return deep if white is None else np.round(deep.clip(0, white) * (65_535 / white)).astype(np.uint16)


def is_deep(image: Image.Image) -> bool:
    """Returns whether an opened image has more than 8 bits a channel, from its header."""
    return image.mode == "I" or image.mode.startswith("I;16") or _has_deep_colours(image)


def stored_values(image: Image.Image, path: str | Path) -> np.ndarray[Any, np.dtype[Any]]:
    """Returns the stored pixels of a page that was not decoded yet, even if Pillow would halve or misread its values.

    16-bit colours are returned as RGB without alpha, whole numbers in floating point as integers.

    Raises:
        FrameError: 16-bit colours cannot be read.
    """
    if _has_deep_colours(image):
        return _deep_colours(image, path)
    white = _white_of_ppm(image)
    pixels = _as_shown(image)
    if _is_signed_grey(image):
        return pixels.view(np.int8)
    if pixels.dtype.kind == "f" and (np.isfinite(pixels) & (pixels == np.round(pixels))).all():
        return pixels.clip(-(2**31), 2**31 - 1).astype(np.int64)
    if white is not None and image.mode in ("L", "I"):
        return np.round(pixels * (white / (255 if image.mode == "L" else 65_535))).astype(pixels.dtype)
    return pixels


def _as_shown(image: Image.Image) -> np.ndarray[Any, np.dtype[Any]]:
    """Returns the pixels of a page, inverted if it states that 0 is white, which Pillow applies in 8 bits only."""
    zero_is_white = image.mode.startswith("I;16") and _tag(image, _PHOTOMETRIC) == (_WHITE_IS_ZERO,)
    pixels = np.asarray(image)
    return 65_535 - pixels if zero_is_white else pixels


def _white_of_ppm(image: Image.Image) -> int | None:
    """Returns the value of white in a PPM or PGM that was not decoded yet, if Pillow scales its values by that."""
    tiles = getattr(image, "tile", [])
    arguments = tiles[0][3] if tiles and image.format == "PPM" else ""
    return int(arguments[-1]) if image.mode in ("L", "I", "RGB") and isinstance(arguments, tuple) else None


def _is_signed_grey(image: Image.Image) -> bool:
    """Returns whether the 8-bit values of a TIFF are signed, which Pillow ignores."""
    return image.mode == "L" and image.format == "TIFF" and _tag(image, _SAMPLE_FORMAT) == (_SIGNED,)


def _tag(image: Image.Image, number: int) -> tuple[int, ...]:
    """Returns the numbers of a TIFF tag; none if it is missing."""
    value = getattr(image, "tag_v2", {}).get(number, ())
    return value if isinstance(value, tuple) else (value,)


def _has_deep_colours(image: Image.Image) -> bool:
    """Returns whether Pillow would drop the lower half of 16-bit colours."""
    if image.mode.startswith(("I", "F")):
        return False
    if image.format == "TIFF":
        return max(_tag(image, _BITS_PER_SAMPLE), default=8) == 16
    if image.format == "PPM":
        return image.mode == "RGB" and (_white_of_ppm(image) or 0) > 255
    tiles = getattr(image, "tile", [])
    raw = str(tiles[0][3]) if tiles else ""
    return image.format == "PNG" and ";16B" in raw


def _deep_colours(image: Image.Image, path: str | Path) -> UInt16[np.ndarray, "H W 3"]:
    if _tag(image, _PLANES) == (_SEPARATE,):
        raise FrameError(
            f"image {str(path)!r} has 16 bits a channel in separate planes (PlanarConfiguration 2)",
            "save it with the channels interleaved, or as PNG",
        )
    with utf8_path(path) as name:
        _, pages = cv2.imreadmulti(name, start=image.tell(), count=1, flags=cv2.IMREAD_UNCHANGED)
    values = np.asarray(pages[0]) if pages else None
    if values is None or values.dtype != np.uint16 or values.shape[:2] != (image.height, image.width):
        raise FrameError(f"image {str(path)!r} of 16 bits a channel cannot be read", "convert it to 8 bits, or to PNG")
    if values.ndim == 2:
        values = values[:, :, None]
    return np.ascontiguousarray(values[:, :, 2::-1] if values.shape[2] >= 3 else np.repeat(values[:, :, :1], 3, 2))


def orientation_of(image: Image.Image) -> int:
    """Returns the EXIF orientation that decoded pixels still have: 1 for upright, 2 to 8 for turned or mirrored.

    It is 1 for a TIFF: Pillow and OpenCV turn it as they decode, and its size is the upright one even before that.
    """
    return 1 if image.format == "TIFF" else _tagged_orientation(image)


def stated_orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation in which an image is stored, from its header.

    It is 1 for a PNG that states it after its pixels, which would have to be decoded.
    """
    return 1 if image.format == "PNG" and "exif" not in image.info else _tagged_orientation(image)


def shown_size(image: Image.Image) -> tuple[int, int]:
    """Returns the width and height in which an image is shown, from its header."""
    swapped = image.format != "TIFF" and stated_orientation(image) >= 5
    return (image.height, image.width) if swapped else image.size


def _tagged_orientation(image: Image.Image) -> int:
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return orientation if orientation in range(1, 9) else 1


def turned(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Returns a view of stored pixels, rows and columns first, turned upright by an EXIF orientation (1 to 8)."""
    if orientation >= 5:  # rows are shown as columns
        pixels = pixels.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return pixels[::rows, ::columns]


def palette_of(image: Image.Image) -> UInt8[np.ndarray, "N 3"]:
    """Returns the RGB colour of each index of an opened image of mode P."""
    return np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)


def is_picture_palette(image: Image.Image) -> bool:
    """Returns whether index 0 of the palette is not the background, so that the indices cannot be ids.

    The background is instead another index if that is transparent, white if it surrounds black index 0 and other
    colours, black if it is used and index 0 is not black, or white if it is used and index 0 is neither.
    """
    if image.mode != "P":
        return False
    if _another_is_transparent(image):
        return True
    colours, pixels = palette_of(image), np.asarray(image)
    if not colours[0].any():
        return _is_on_white(pixels, colours)
    indices = np.unique(pixels)
    used = colours[indices[indices < len(colours)]]
    has_black, has_white = (bool((used == value).all(axis=1).any()) for value in (0, 255))
    return has_black or (has_white and not (colours[0] == 255).all())


def _is_on_white(pixels: npt.NDArray[Any], colours: UInt8[np.ndarray, "N 3"]) -> bool:
    """Returns whether black, which is index 0, and other colours are on a white background."""
    white = (colours == 255).all(axis=1)
    used = np.unique(pixels)
    others = [index for index in used if index < len(colours) and colours[index].any() and not white[index]]
    border = border_of(pixels)
    ground = float(np.isin(border, np.flatnonzero(white)).mean()) > BORDER_SHARE and 0 not in border
    return ground and bool(others) and 0 in used


def _another_is_transparent(image: Image.Image) -> bool:
    """Returns whether an index that is used is transparent, and index 0 is not."""
    transparent = image.info.get("transparency")
    if transparent is None or image.format == "GIF":  # whose frames use it for unchanged pixels
        return False
    clear = {i for i, alpha in enumerate(transparent) if not alpha} if isinstance(transparent, bytes) else {transparent}
    return 0 not in clear and not clear.isdisjoint(np.unique(np.asarray(image)).tolist())
