"""What a mask file says, in whichever of the common ways its author marked the objects.

The ways are told apart by their pixels, since file modes are used interchangeably in practice: ids as palette indices
or grey levels, black and white, painted colours, a transparent cut-out. A mask that was painted with a soft brush, or
resized with interpolation, has blended pixels along its edges; read as ids they would become objects of their own.
"""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Int32, Int64, UInt8
from torch import Tensor

from mnemask.errors import MaskError
from mnemask.io.images import BORDER_SHARE, border_of
from mnemask.io.pictures import MAX_MASK_BYTES
from mnemask.io.visualize import davis_palette
from mnemask.prompts.image_file import (
    MANY_VALUES,
    SQUARE,
    Edges,
    Grey,
    RawMask,
    differences,
    distinct_colours,
    load_mask_image,
    nearest_plain,
    pack,
    unpack,
)
from mnemask.types import MAX_OBJECT_ID, MAX_OBJECTS, is_whole

log = logging.getLogger(__name__)

# A contour of void, as PASCAL VOC draws it 5 pixels wide around each object: little of it is left where a square of
# this side must fit in, and it lies between the objects and the rest. An area of 255 is none. Of contours 2 to 6 pixels
# wide around the shapes of 761 photographs of 85 to 350 pixels 750 are void by this, of 729 areas none.
CONTOUR_SIDE = 9  # pixels, and more in larger pictures:
CONTOUR_SHARE_OF_SIDE = 0.02
SOLID_SHARE = 0.25
HUGGED_SHARE = 0.4  # of the objects' outer rim
NOISE_REACH = 8  # pixels from a border to where JPEG's blocks make up values
NOISE_VALUES = 4  # so many at both ends, and hardly one between, are no ids
VIDEO_BLACK, VIDEO_WHITE = 16, 235
WIDEST_FRAME = 4  # pixels; a wider one was meant
SMALL_ID = 10  # ids from here on are grey levels that somebody painted, and so is 255 beside them

# Colours that differ by no more than this in each channel are one, where something has changed a file's colours.
SAME_COLOUR = 4
# An area that is even but for so much noise, and this far from all plain colours, has a colour of its own. Of drawn
# masks that were resized no pixel is such, of objects of 150 pixels that a JPEG made uneven 4 to 600 are.
EVEN, FAR_COLOUR, LOST_PIXELS = 12, 48, 4
WIDE_OUTLINE = 4  # blended pixels for each of the outline: 0.2 to 2 by antialiasing or resizing, 2.5 to 7 by JPEG

RGB = tuple[int, int, int]
Void = int | Literal["auto", "none"]


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
    if not isinstance(path, str | Path):
        raise MaskError(f"the mask file is a {type(path).__name__}", "give a path; masks themselves need no reading")
    if antialiased not in ("error", "clean"):
        raise MaskError(f"antialiased is {antialiased!r:.40}", 'give "error" or "clean"')
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
    if reading.kind == "black and white" and (frame := _frame_width(reading.labels)):
        wide = "1 pixel" if frame == 1 else f"{frame} pixels"
        log.warning("mask %s has a white frame, %s wide, which is part of the object: paint it black", path, wide)
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


def inspect_mask(
    path: str | Path, size: tuple[int, int] | None = None, *, void: Void = "auto", cut_out: bool = False
) -> MaskReading:
    """Returns the labels of a mask file, blended edges cleaned; raises MaskError if they are ambiguous.

    Args:
        path: of the file.
        size: height and width that it must have; None for any.
        void: the value that is no object, "none" for no such value, or "auto", which looks for one.
        cut_out: whether it shows one object in its own colours, so that only its transparency counts if it has any.
    """
    if void not in ("auto", "none"):
        if not is_whole(void) or not 1 <= void <= MAX_OBJECT_ID:
            raise MaskError(f"void is {void!r:.40}", f'give "auto", "none" or a value from 1 to {MAX_OBJECT_ID}')
        void = int(void)
    raw = load_mask_image(path, size)
    if raw.are_ids:
        return MaskReading("ids", raw.pixels.astype(np.int32))
    if cut_out and not raw.opaque.all():
        return MaskReading("transparency", raw.opaque.astype(np.int32))
    try:
        reading = _read(raw, void)
    except MaskError as error:
        raise MaskError(f"mask {path} {error.problem}", error.remedy) from None
    if raw.opacity < 1:
        note = f"what is painted at an opacity of {raw.opacity:.0%} counts as painted"
        reading = replace(reading, notes=(*reading.notes, note))
    if raw.pages > 1:
        note = f"the first of its {raw.pages} pictures is read; for masks of several frames give a folder of them"
        reading = replace(reading, notes=(*reading.notes, note))
    return reading


def _read(raw: RawMask, void: Void) -> MaskReading:
    if raw.opacities:
        raise MaskError(
            f"has areas of one colour with several opacities (alpha {', '.join(map(str, raw.opacities[:5]))}), which "
            "may be objects or the softness of one",
            "paint each object opaque in a colour of its own, or save the alpha channel as a grey picture",
        )
    if not raw.opaque.all():
        if not _is_painted(raw):
            return MaskReading("transparency", raw.opaque.astype(np.int32))
        raw = _on_plain_ground(raw)
    return _read_colours(raw, void) if raw.pixels.ndim == 3 else _read_grey(raw, void)


def _read_grey(raw: RawMask, void: Void) -> MaskReading:
    values, lossy = raw.pixels, raw.lossy
    top = 65_535 if values.max() > 255 else 255
    if (stretched := _of_video_range(values)) is not None:
        note = f"{VIDEO_BLACK} and {VIDEO_WHITE} are black and white, as in video"
        with suppress(MaskError):  # what is no picture of black and white is read as it is
            reading = _read_grey(replace(raw, pixels=stretched, palette=None), void)
            if reading.kind == "black and white":
                return replace(reading, notes=(*reading.notes, note))
    left_out = values == void if isinstance(void, int) else np.zeros(values.shape, bool)
    values = np.where(left_out, 0, values).astype(values.dtype)
    edges = Edges.from_values(raw.pixels)
    if _is_black_and_white(values, top, edges, lossy):
        soft = int(((values > 0) & (values < top)).sum())
        bright = (values > top // 2).astype(np.int32)
        return MaskReading("black and white", bright, void=int(left_out.sum()), blended=soft)
    if not lossy and _is_noisy_black_and_white(values, top, edges):
        soft = int(((values > top // 10) & (values < top - top // 10)).sum())
        note = f"values near 0 and {top} count as black and white, as they are where a file was a JPEG once"
        bright = (values > top // 2).astype(np.int32)
        return MaskReading("black and white", bright, int(left_out.sum()), soft, notes=(note,))
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
    labels = nearest_plain(np.where(left_out, 0, values).astype(np.int32), blended)
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
    found = set(np.unique(values[~blended]).tolist())
    for other in (255, 254, top - 1):  # a contour of these is void too, and an area is an object
        alone = found.isdisjoint((other - 1, other + 1, top))  # no id of many that are counted
        if other in found and alone and len(found) > 2:
            area = values == other
            if _is_contour(area, (values > 0) & ~area):
                return area, (f"the contour of {other} around the objects belongs to none of them (void)",)
    area = values == top
    ids = sorted(i for i in found if 0 < i < top)
    if not area.any() or not ids:
        return np.zeros(area.shape, bool), ()
    others = (values > 0) & ~area
    if _is_contour(area, others):
        return area, (f"the contour of {top} around the objects belongs to none of them (void)",)
    if len(ids) == 1 and abs(2 * ids[0] - top) <= top // 8 and _is_contour(others & ~blended, area):
        raise MaskError(
            f"marks a contour of {ids[0]} around {top}, as a trimap does where it knows nothing, or an object",
            f"say that it belongs to none (--void {ids[0]}, void={ids[0]}) or is an object (--void none)",
        )
    if min(ids) < SMALL_ID:
        shown = ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
        raise MaskError(
            f"marks a solid area of {int(area.sum())} pixels with {top} beside ids {shown}, which may be an object "
            "or what belongs to none",
            f"say that it is void (--void {top}, void={top}) or an object (--void none)",
        )
    return np.zeros(area.shape, bool), (f"the solid area of {top} is an object; if it belongs to none, --void {top}",)


def _is_contour(area: Bool[np.ndarray, "H W"], around: Bool[np.ndarray, "H W"]) -> bool:
    """Returns whether an area is thin, and most of what lies next to other areas."""
    side = max(CONTOUR_SIDE, round(CONTOUR_SHARE_OF_SIDE * min(area.shape))) | 1
    # What is beyond the picture is not void: a contour along its edge is as thin as elsewhere.
    eroded = cv2.erode(area.astype(np.uint8), np.ones((side, side)), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    solid = cv2.dilate(eroded, np.ones((side, side)))
    rim = (np.asarray(cv2.dilate(around.astype(np.uint8), SQUARE)) > 0) & ~around
    hugged = float(area[rim].mean()) if rim.any() else 0.0
    return float(solid.sum()) < SOLID_SHARE * float(area.sum()) and hugged >= HUGGED_SHARE


def _is_smooth(values: Grey) -> bool:
    """Returns whether most steps are small in either direction; areas numbered row by row differ much in one."""
    steps = [differences(values, axis) for axis in (0, 1)]
    return all(np.median(step[step > 0]) <= 2 for step in steps if step.any())


def _is_black_and_white(values: Grey, top: int, edges: Edges, lossy: bool) -> bool:
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


def _is_noisy_black_and_white(values: Grey, top: int, edges: Edges) -> bool:
    """Returns whether values are near both ends, and what is between lies along the border, as JPEG leaves it.

    Ids fill areas far from it: noise does not, and has several values at both ends.
    """
    dark, bright = values <= top // 10, values >= top - top // 10
    faint, middle, pale = dark & (values > 0), ~(dark | bright), bright & (values < top)
    if not (faint.any() and pale.any()) or middle.mean() > 0.25:
        return False
    half = (values > top // 2).astype(np.uint8)
    border = np.asarray(cv2.dilate(half, SQUARE)) != np.asarray(cv2.erode(half, SQUARE))
    near = np.asarray(cv2.dilate(border.astype(np.uint8), np.ones((2 * NOISE_REACH + 1,) * 2))) > 0
    if (middle & ~near).sum() > 0.05 * middle.sum():
        return False
    areas = edges.solid & ~near
    if max(len(np.unique(values[areas & end])) for end in (dark, bright)) > 1:
        return False
    if _mostly_thin(faint, edges) and _mostly_thin(pale, edges):
        return True
    distinct = min(len(np.unique(values[faint])), len(np.unique(values[pale])))
    stray = (faint | pale) & edges.solid & ~near  # strong compression moves the whole ground too
    return distinct >= NOISE_VALUES or (distinct > 1 and bool(stray.sum() <= 0.05 * (faint | pale).sum()))


def _of_video_range(values: Grey) -> UInt8[np.ndarray, "H W"] | None:
    """Returns the values of a picture whose lowest and highest are black and white in video, stretched; else None."""
    if values.dtype != np.uint8 or (values.min(), values.max()) != (VIDEO_BLACK, VIDEO_WHITE):
        return None
    return np.round((values.astype(float) - VIDEO_BLACK) * 255 / (VIDEO_WHITE - VIDEO_BLACK)).astype(np.uint8)


def _mostly_thin(where: Bool[np.ndarray, "H W"], edges: Edges) -> bool:
    return bool((where & edges.solid).sum() <= 0.05 * where.sum())


def _frame_width(bright: Int32[np.ndarray, "H W"]) -> int:
    """Returns how many pixels wide a bright frame around the picture is; 0 where there is none, or no thin one."""
    inner = bright
    for width in range(min(WIDEST_FRAME, (min(bright.shape) - 1) // 2) + 1):
        share = float(border_of(inner).mean())
        if share < 1:
            return width if share < 0.5 else 0
        inner = inner[1:-1, 1:-1]
    return 0


def _read_colours(raw: RawMask, void: Void) -> MaskReading:
    edges = Edges.from_values(raw.pixels)
    packed = pack(raw.pixels)
    colours, first, inverse = distinct_colours(packed)
    plain = np.bincount(inverse[edges.solid], minlength=len(colours)) > 0
    if edges.look_like_a_photograph(len(colours)) or not plain.any():
        raise MaskError(
            f"looks like a photograph: {len(colours)} colours run into each other",
            "expected each object in one plain colour of its own",
        )
    if raw.lossy:
        raise MaskError("is compressed with loss (JPEG or the like), which makes up colours", "save it as PNG")
    blended = edges.blended()
    if blended.any() and plain.sum() <= MAX_OBJECTS:
        plain &= ~_near_a_larger(colours, np.bincount(inverse.ravel()), plain)
    own = plain
    if not blended.any():
        own = plain | ~_mostly(edges.mixed, inverse.ravel()) | np.isin(colours, _davis_colours()).all()
    ground = _white_ground(packed) if raw.opaque.all() else int(packed[~raw.opaque][0])
    ids = np.zeros(len(colours), np.int32)
    ids[own], is_davis = _ids_of_colours(colours[own], first[own], ground)
    blended |= ~own[inverse]
    labels = nearest_plain(ids[inverse], blended)
    _refuse_lost_colours(raw.pixels, colours[own], labels, blended)
    left_out = np.zeros(labels.shape, bool)
    notes: tuple[str, ...] = ()
    if isinstance(void, int):
        left_out = labels == void
    elif void == "auto" and is_davis:
        left_out, notes = _void_area(labels, 255, np.zeros(labels.shape, bool))
    labels = np.where(left_out, 0, labels).astype(np.int32)
    shown = {
        i: _rgb_of(unpack(colour)) for i, colour in zip(ids[own].tolist(), colours[own].tolist(), strict=True) if i
    }
    shown = {i: colour for i, colour in shown.items() if (labels == i).any()}
    return MaskReading("colours", labels, int(left_out.sum()), int(blended.sum()), shown, notes)


def _refuse_lost_colours(
    pixels: UInt8[np.ndarray, "H W 3"],
    plain: Int64[np.ndarray, " N"],
    labels: Int32[np.ndarray, "H W"],
    blended: Bool[np.ndarray, "H W"],
) -> None:
    """Raises MaskError where blended pixels are no mere outlines, as a picture has that was a JPEG once.

    They are more than the objects and lie wide around them, or even areas among them have a colour that none has.
    """
    if not blended.any():
        return
    spread = cv2.absdiff(cv2.dilate(pixels, SQUARE), cv2.erode(pixels, SQUARE)).max(axis=2)
    even = np.unique(pixels[blended & (spread <= EVEN)], axis=0, return_counts=True)
    known = np.stack([unpack(int(colour)) for colour in plain]).astype(int)
    far = np.abs(even[0].astype(int)[:, None] - known).max(axis=2).min(axis=1) > FAR_COLOUR
    lost = int(even[1][far].sum())
    values = labels.astype(np.float32)
    outline = int((np.asarray(cv2.dilate(values, SQUARE)) != np.asarray(cv2.erode(values, SQUARE))).sum())
    wide = blended.sum() > max((labels > 0).sum(), WIDE_OUTLINE * outline)
    if wide or lost >= LOST_PIXELS:
        raise MaskError(
            f"has {int(blended.sum())} pixels whose colours run into each other, as in a picture that was a JPEG once",
            "export it again from the program that painted it, as PNG without antialiasing",
        )


def _near_a_larger(
    colours: Int64[np.ndarray, " N"], areas: Int64[np.ndarray, " N"], plain: Bool[np.ndarray, " N"]
) -> Bool[np.ndarray, " N"]:
    """Returns which colours are hardly another one than a plain one of more pixels, as a lossy file leaves them."""
    near = np.zeros(len(colours), bool)
    shown = np.stack([unpack(int(colour)) for colour in colours[plain]]).astype(int)
    apart = np.abs(shown[:, None] - shown).max(axis=2)
    larger = areas[plain] > areas[plain][:, None]
    near[plain] = ((apart <= SAME_COLOUR) & larger).any(axis=1)
    return near


def _white_ground(packed: Int64[np.ndarray, "H W"]) -> int | None:
    """Returns white where it is nearly all of the picture's border and black is none of it; black may be an object."""
    border = border_of(packed)
    return 0xFFFFFF if (border == 0xFFFFFF).mean() > BORDER_SHARE and (border != 0).all() else None


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
        ground: the colour of the background where it is known, as that of what is transparent.
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
    if raw.pixels.ndim == 2 or not (Edges.from_values(raw.pixels).solid & raw.opaque & ~raw.pixels.any(axis=2)).any():
        return raw
    used = set(np.unique(pack(raw.pixels)).tolist())
    free = next(colour for colour in range(0xFFFFFF, 0, -1) if colour not in used)
    pixels = np.where(raw.opaque[..., None], raw.pixels, unpack(free)).astype(np.uint8)
    return replace(raw, pixels=pixels)


def _rgb_of(colour: UInt8[np.ndarray, " 3"]) -> RGB:
    red, green, blue = colour.tolist()
    return red, green, blue


def _davis_colours() -> Int64[np.ndarray, " 256"]:
    packed: Int64[np.ndarray, " 256"] = pack(davis_palette()[None])[0]
    return packed


def _is_painted(raw: RawMask) -> bool:
    """Returns whether what is opaque is mostly plain colours, which then tell the objects apart."""
    edges = Edges.from_values(raw.pixels)
    coloured = raw.pixels.any(axis=2) if raw.pixels.ndim == 3 else raw.pixels > 0
    return bool((edges.solid & coloured).sum() > 0.5 * raw.opaque.sum())
