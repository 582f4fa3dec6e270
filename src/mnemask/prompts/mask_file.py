"""What a mask file says, in whichever of the common ways its author marked the objects.

The ways are told apart by their pixels, since file modes are used interchangeably in practice: ids as palette indices
or grey levels, black and white, painted colours, a transparent cut-out. A mask that was painted with a soft brush, or
resized with interpolation, has blended pixels along its edges; read as ids they would become objects of their own.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Int32, Int64, UInt8, UInt16
from torch import Tensor

from mnemask.errors import MaskError
from mnemask.io.pictures import MAX_MASK_BYTES, MAX_OBJECTS
from mnemask.io.visualize import davis_palette
from mnemask.prompts.image_file import RawMask, load_mask_image

log = logging.getLogger(__name__)

MANY_VALUES = 50
# Blended pixels as a share of all edge pixels: at most 0.03 in 700 label maps of photographs, 0.05 to 0.4 once resized.
BLENDED_SHARE = 0.04
# ... and as a share of the places where blending could show: at most 0.1 in large maps of drawn shapes, 0.3 to 1 once
# antialiased. In small ones chance adds to it, by less than this many standard deviations.
BLENDED_CROSSINGS = 0.15
CHANCE = 2.0
# A contour of void, as PASCAL VOC draws it 5 pixels wide around each object: little of it is left where a square of
# this side must fit in, and it lies between the objects and the rest. An area of 255 is none. Of contours 2 to 6 pixels
# wide around the shapes of 761 photographs of 85 to 350 pixels 750 are void by this, of 729 areas none.
CONTOUR_SIDE = 9  # pixels, and more in larger pictures:
CONTOUR_SHARE_OF_SIDE = 0.02
SOLID_SHARE = 0.25
HUGGED_SHARE = 0.4  # of the objects' outer rim
SMALL_ID = 10  # ids from here on are grey levels that somebody painted, and so is 255 beside them
_SQUARE = np.ones((3, 3), np.uint8)

RGB = tuple[int, int, int]
Void = int | Literal["auto", "none"]
Grey = UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]
Colour = UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True, slots=True)
class MaskReading:
    """What was found in a mask file.

    Attributes:
        kind: how the objects are marked.
        labels: the object id at each pixel, 0 for the background and for void.
        void: pixels marked as belonging to nobody (255 in a map of ids, or its colour).
        blended: pixels with a mixture of their neighbours' values; `labels` gives them to the nearest plain pixel.
        colours: the RGB colour of each label in the file, where objects are painted or the file has a palette.
        notes: what was guessed, in words.
    """

    kind: Literal["ids", "black and white", "colours", "transparency"]
    labels: Int32[np.ndarray, "H W"]
    void: int = 0
    blended: int = 0
    colours: Mapping[int, RGB] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def ids(self) -> list[int]:
        """The labels that occur, without the background."""
        return [int(i) for i in np.unique(self.labels) if i]


def read_mask(
    path: str | Path,
    size: tuple[int, int] | None = None,
    *,
    antialiased: Literal["error", "clean"] = "error",
    void: Void = "auto",
) -> dict[int, Bool[Tensor, "H W"]]:
    """Returns the bool mask of each object marked in an image file, by its id.

    Ids are palette indices or grey levels. A thin contour of 255 around the objects is void, as in PASCAL VOC, and
    belongs to no object; a solid area of 255 is an object beside grey levels, and refused beside small ids, where it
    may be either. Black and white (also with soft edges) and a transparent cut-out are one object, id 1. Colours get
    the index they have in the DAVIS palette or, where one of them is not in it, 1, 2, ... as they appear from the top
    left; the background is what is transparent, else black, else white.

    Args:
        path: a PNG or any other image.
        size: height and width of the video; None takes any.
        antialiased: what to do with a map of ids that has blended edges: "clean" gives each blended pixel to the
            nearest plain area. Soft edges of black and white or of colours are always cleaned, with a warning.
        void: the value that belongs to no object, "none" for no value, or "auto" for a contour of 255.

    Raises:
        MaskError: no such file, not an image, damaged, too large, of another size, ambiguous or without an object.
    """
    reading = inspect_mask(path, size, void=void)
    clean_or_refuse(path, reading, antialiased)
    for note in reading.notes:
        log.info("mask %s: %s", path, note)
    if not reading.ids:
        raise MaskError(f"mask {path} marks no object", "paint each object in its own value and leave the background 0")
    labels = torch.from_numpy(reading.labels)
    return {i: labels == i for i in reading.ids}


def clean_or_refuse(path: str | Path, reading: MaskReading, antialiased: Literal["error", "clean"]) -> None:
    """Says that blended edges were cleaned; raises MaskError where they may not be, or for more than can be tracked."""
    if reading.blended:
        what = f"mask {path} has {reading.blended} blended pixels along its edges, as antialiasing or resizing leaves"
        if reading.kind == "ids" and antialiased == "error":
            raise MaskError(
                f"{what}, and they would count as objects",
                "export it without antialiasing, resize it with nearest neighbour, or let it be cleaned "
                '(--clean-masks, antialiased="clean")',
            )
        log.warning("%s; each was given to the nearest plain area", what)
    ids = reading.ids
    height, width = reading.labels.shape
    if len(ids) > MAX_OBJECTS:
        raise MaskError(
            f"mask {path} marks {len(ids)} objects, more than {MAX_OBJECTS}",
            "keep those that you want to follow, and check that it is a map of ids, not of depth or heat",
        )
    if len(ids) * height * width > MAX_MASK_BYTES:
        raise MaskError(
            f"mask {path} marks {len(ids)} objects at {width}x{height}, {len(ids) * height * width / 2**30:.0f} "
            "GiB of masks",
            "mark fewer objects",
        )


def inspect_mask(path: str | Path, size: tuple[int, int] | None = None, *, void: Void = "auto") -> MaskReading:
    """Returns the labels of a mask file, blended edges cleaned; raises MaskError if they are ambiguous."""
    raw = load_mask_image(path, size)
    try:
        if not raw.opaque.all():
            if not _is_painted(raw):
                return MaskReading("transparency", raw.opaque.astype(np.int32))
            raw = _on_plain_ground(raw)
        if raw.pixels.ndim == 3:
            return _read_colours(raw, void)
        return _read_grey(raw, void)
    except MaskError as error:
        raise MaskError(f"mask {path} {error.problem}", error.remedy) from None


def _read_grey(raw: RawMask, void: Void) -> MaskReading:
    values, lossy = raw.pixels, raw.lossy
    top = 65_535 if values.max() > 255 else 255
    left_out = values == void if isinstance(void, int) else np.zeros(values.shape, bool)
    values = np.where(left_out, 0, values).astype(values.dtype)
    edges = _Edges.from_values(raw.pixels)
    if _is_black_and_white(values, top, edges, lossy):
        soft = int(((values > 0) & (values < top)).sum())
        bright = (values > top // 2).astype(np.int32)
        return MaskReading("black and white", bright, void=int(left_out.sum()), blended=soft)
    distinct = np.unique(values)
    if lossy and not edges.look_like_a_photograph(len(distinct)):
        raise MaskError(
            "is compressed with loss (JPEG or the like), which makes up values between the ids", "save it as PNG"
        )
    if (len(distinct) > MANY_VALUES and _is_smooth(values)) or edges.look_like_a_photograph(len(distinct)):
        raise MaskError(
            f"looks like a photograph or a soft map: {len(distinct)} grey levels run into each other",
            "expected one value for each object",
        )
    blended = edges.blended() & ~left_out
    notes: tuple[str, ...] = ()
    if void == "auto":
        left_out, notes = _void_area(values, top, blended)
    labels = _nearest(np.where(left_out, 0, values).astype(np.int32), blended)
    colours = {} if raw.palette is None else _palette_colours(labels, raw.palette)
    return MaskReading("ids", labels, int((left_out & ~blended).sum()), int(blended.sum()), colours, notes)


def _palette_colours(labels: Int32[np.ndarray, "H W"], palette: UInt8[np.ndarray, "N 3"]) -> dict[int, RGB]:
    """Returns the colour of each label that no other one shares."""
    shown = {int(i): _rgb_of(palette[i]) for i in np.unique(labels) if 0 < i < len(palette)}
    return {i: colour for i, colour in shown.items() if list(shown.values()).count(colour) == 1}


def _void_area(
    values: Grey | Int32[np.ndarray, "H W"], top: int, blended: Bool[np.ndarray, "H W"]
) -> tuple[Bool[np.ndarray, "H W"], tuple[str, ...]]:
    """Returns where `top` marks what belongs to nobody, and what was guessed; raises MaskError where it may be either.

    A contour is thin and lies between the objects and the rest; a solid area is an object, or is asked about.
    """
    area = values == top
    ids = [int(i) for i in np.unique(values[~blended]) if 0 < i < top]
    if not area.any() or not ids:
        return np.zeros(area.shape, bool), ()
    others = ((values > 0) & ~area).astype(np.uint8)
    side = max(CONTOUR_SIDE, round(CONTOUR_SHARE_OF_SIDE * min(area.shape))) | 1
    # What is beyond the picture is not void: a contour along its edge is as thin as elsewhere.
    eroded = cv2.erode(area.astype(np.uint8), np.ones((side, side)), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    solid = cv2.dilate(eroded, np.ones((side, side)))
    rim = (np.asarray(cv2.dilate(others, _SQUARE)) > 0) & (others == 0)
    hugged = float(area[rim].mean()) if rim.any() else 0.0
    if float(solid.sum()) < SOLID_SHARE * float(area.sum()) and hugged >= HUGGED_SHARE:
        return area, (f"the contour of {top} around the objects belongs to none of them (void)",)
    if min(ids) < SMALL_ID:
        shown = ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
        raise MaskError(
            f"marks a solid area of {int(area.sum())} pixels with {top} beside ids {shown}, which may be an object "
            "or what belongs to none",
            f"say that it is void (--void {top}, void={top}) or an object (--void none)",
        )
    return np.zeros(area.shape, bool), (f"the solid area of {top} is an object; if it belongs to none, --void {top}",)


def _is_smooth(values: Grey) -> bool:
    """Returns whether most steps are small in either direction; areas numbered row by row differ much in one."""
    steps = [_differences(values, axis) for axis in (0, 1)]
    return all(np.median(step[step > 0]) <= 2 for step in steps if step.any())


def _is_black_and_white(values: Grey, top: int, edges: "_Edges", lossy: bool) -> bool:
    """Returns whether nearly all pixels are near 0 or near `top`, and the rest are the soft edges between the two."""
    dark, bright = values <= top // 10, values >= top - top // 10
    middle, faint, pale = ~(dark | bright), dark & (values > 0), bright & (values < top)
    if not bright.any():
        return False
    if not middle.any():
        return lossy or not (faint | pale).any()
    soft_edges = dark.any() and middle.mean() <= 0.25 and _mostly_thin(middle, edges)
    if lossy:
        return bool(soft_edges)
    # Values that fill areas are ids: the bright ones beside small ids are void, and a bright one need not be white.
    wide_feather = faint.sum() <= middle.sum()
    white = (values == top).any() and (pale & edges.solid).sum() <= 0.05 * (bright & edges.solid).sum()
    return bool(soft_edges and white and (wide_feather or _mostly_thin(faint, edges)))


def _mostly_thin(where: Bool[np.ndarray, "H W"], edges: "_Edges") -> bool:
    return bool((where & edges.solid).sum() <= 0.05 * where.sum())


def _read_colours(raw: RawMask, void: Void) -> MaskReading:
    edges = _Edges.from_values(raw.pixels)
    packed = _pack(raw.pixels)
    colours, first, inverse = _distinct(packed)
    plain = np.bincount(inverse[edges.solid], minlength=len(colours)) > 0
    if edges.look_like_a_photograph(len(colours)) or not plain.any():
        raise MaskError(
            f"looks like a photograph: {len(colours)} colours run into each other",
            "expected each object in one plain colour of its own",
        )
    if raw.lossy:
        raise MaskError("is compressed with loss (JPEG or the like), which makes up colours", "save it as PNG")
    blended = edges.blended()
    own = plain
    if not blended.any():
        own = plain | ~_mostly(edges.mixed, inverse.ravel()) | np.isin(colours, _davis_colours()).all()
    ground = None if raw.opaque.all() else int(packed[~raw.opaque][0])
    ids = np.zeros(len(colours), np.int32)
    ids[own], is_davis = _ids_of_colours(colours[own], first[own], ground)
    blended |= ~own[inverse]
    labels = _nearest(ids[inverse], blended)
    left_out = np.zeros(labels.shape, bool)
    notes: tuple[str, ...] = ()
    if isinstance(void, int):
        left_out = labels == void
    elif void == "auto" and is_davis:
        left_out, notes = _void_area(labels, 255, np.zeros(labels.shape, bool))
    labels = np.where(left_out, 0, labels).astype(np.int32)
    shown = {
        i: _rgb_of(_unpack(colour)) for i, colour in zip(ids[own].tolist(), colours[own].tolist(), strict=True) if i
    }
    shown = {i: colour for i, colour in shown.items() if (labels == i).any()}
    return MaskReading("colours", labels, int(left_out.sum()), int(blended.sum()), shown, notes)


def _mostly(where: Bool[np.ndarray, "H W"], numbers: Int64[np.ndarray, " P"]) -> Bool[np.ndarray, " N"]:
    """Returns for each number whether it is `where` in more than half of its pixels."""
    return np.asarray(np.bincount(numbers, where.ravel()) > 0.5 * np.bincount(numbers))


def _ids_of_colours(
    colours: Int64[np.ndarray, " N"], first: Int64[np.ndarray, " N"], ground: int | None
) -> tuple[Int32[np.ndarray, " N"], bool]:
    """Returns each colour's label, 0 for the background, and whether the labels are indices of the DAVIS palette.

    Args:
        colours: packed.
        first: where each appears first.
        ground: the colour that stands for what is transparent, None where nothing is.
    """
    davis = {int(colour): index for index, colour in enumerate(_davis_colours())}
    known = [0 if colour == ground else davis.get(int(colour)) for colour in colours]
    if None not in known and not (ground not in (None, 0) and 0 in colours):
        return np.array(known, np.int32), True
    black, white = 0x000000, 0xFFFFFF
    background = ground if ground is not None else black if black in colours else white
    if ground is None and background not in colours:
        raise MaskError("has no black or white background", "paint everything black that is not an object")
    ids = np.zeros(len(colours), np.int32)
    objects = [i for i in np.argsort(first) if colours[i] != background]
    ids[objects] = np.arange(1, len(objects) + 1)
    return ids, False


def _on_plain_ground(raw: RawMask) -> RawMask:
    """Returns a painting on transparency with the transparent part in a colour that no object has, black if it can be.

    Where black was painted too it is an object, since the background is what is transparent.
    """
    if raw.pixels.ndim == 2 or not (_Edges.from_values(raw.pixels).solid & raw.opaque & ~raw.pixels.any(axis=2)).any():
        return raw
    used = set(np.unique(_pack(raw.pixels)).tolist())
    free = next(colour for colour in range(0xFFFFFF, 0, -1) if colour not in used)
    pixels = np.where(raw.opaque[..., None], raw.pixels, _unpack(free)).astype(np.uint8)
    return replace(raw, pixels=pixels)


def _unpack(colour: int) -> UInt8[np.ndarray, " 3"]:
    return np.array([colour >> 16, colour >> 8 & 255, colour & 255], np.uint8)


def _rgb_of(colour: UInt8[np.ndarray, " 3"]) -> RGB:
    red, green, blue = colour.tolist()
    return red, green, blue


def _davis_colours() -> Int64[np.ndarray, " 256"]:
    packed: Int64[np.ndarray, " 256"] = _pack(davis_palette()[None])[0]
    return packed


def _pack(pixels: Colour) -> Int64[np.ndarray, "H W"]:
    red, green, blue = np.moveaxis(pixels.astype(np.int64), 2, 0)
    packed: Int64[np.ndarray, "H W"] = red << 16 | green << 8 | blue
    return packed


def _distinct(
    packed: Int64[np.ndarray, "H W"],
) -> tuple[Int64[np.ndarray, " N"], Int64[np.ndarray, " N"], Int64[np.ndarray, "H W"]]:
    """Returns the colours, where each appears first, and the number of each pixel's; np.unique without its sorting."""
    number = np.zeros(1 << 24, np.int64)
    number[packed.ravel()] = 1
    colours = np.flatnonzero(number)
    number[colours] = np.arange(len(colours))
    inverse = number[packed]
    first = np.zeros(len(colours), np.int64)
    first[inverse.ravel()[::-1]] = np.arange(packed.size)[::-1]  # the last to be written is the first in the picture
    return colours, first, inverse


def _is_painted(raw: RawMask) -> bool:
    """Returns whether what is opaque is mostly plain colours, which then tell the objects apart."""
    edges = _Edges.from_values(raw.pixels)
    coloured = raw.pixels.any(axis=2) if raw.pixels.ndim == 3 else raw.pixels > 0
    return bool((edges.solid & coloured).sum() > 0.5 * raw.opaque.sum())


@dataclass(frozen=True, slots=True)
class _Edges:
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
    def from_values(cls, values: Grey | Colour) -> "_Edges":
        lowest, highest = np.asarray(cv2.erode(values, _SQUARE)), np.asarray(cv2.dilate(values, _SQUARE))
        # Plane by plane, since numpy is slow at reducing an axis of three.
        same, between = (
            np.moveaxis(np.atleast_3d(each), 2, 0)
            for each in (lowest == highest, (lowest < values) & (values < highest))
        )
        solid = reduce(np.logical_and, same)
        thin = np.asarray(cv2.dilate(solid.astype(np.uint8), _SQUARE)) == 0
        mixed = thin & reduce(np.logical_or, between)
        sharp = 0
        for axis in (0, 1):
            pairs = np.delete(mixed, 0, axis) | np.delete(mixed, -1, axis)
            sharp += int(((_differences(values, axis) >= 2) & ~pairs).sum())
        return cls(solid, thin, mixed, sharp)

    def blended(self) -> Bool[np.ndarray, "H W"]:
        """Returns the pixels that mix their neighbours' values, none where chance or thin objects explain them."""
        found = int(self.mixed.sum())
        crossings = found + self.sharp
        chance = CHANCE * crossings**0.5
        enough = found >= BLENDED_SHARE * (~self.solid).sum() and found >= BLENDED_CROSSINGS * crossings + chance
        return self.mixed if enough else np.zeros_like(self.mixed)

    def look_like_a_photograph(self, distinct: int) -> bool:
        return distinct > MANY_VALUES and float(self.thin.mean()) > 0.25


def _differences(values: Grey | Colour, axis: int) -> UInt8[np.ndarray, "y x"] | UInt16[np.ndarray, "y x"]:
    """Returns how far each two neighbours along an axis are apart, in the channel where they are farthest."""
    later, earlier = np.delete(values, 0, axis), np.delete(values, -1, axis)
    if not later.size:  # one pixel wide, or high; OpenCV takes no empty pictures
        return np.zeros(later.shape[:2], np.uint8)
    apart = cv2.absdiff(later, earlier)
    return np.asarray(apart if apart.ndim == 2 else reduce(np.maximum, np.moveaxis(apart, 2, 0)))


def _nearest(labels: Int32[np.ndarray, "H W"], blended: Bool[np.ndarray, "H W"]) -> Int32[np.ndarray, "H W"]:
    """Returns the labels with each blended pixel's replaced by that of the nearest other pixel."""
    if not blended.any():
        return labels
    holes = blended.astype(np.uint8)
    _, nearest = cv2.distanceTransformWithLabels(holes, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    plain: Int32[np.ndarray, " N"] = labels[~blended]
    cleaned: Int32[np.ndarray, "H W"] = plain[np.asarray(nearest) - 1]  # zero pixels are numbered from 1, row by row
    return cleaned
