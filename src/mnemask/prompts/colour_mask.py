"""Masks in colours: each plain colour is an object, numbered as in the DAVIS palette or by its first pixel."""

from dataclasses import replace
from itertools import combinations

import cv2
import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64, UInt8

from mnemask.errors import MaskError
from mnemask.io.images import BORDER_SHARE
from mnemask.io.shapes import border_of
from mnemask.io.visualize import davis_palette
from mnemask.prompts.image_file import (
    SAME_COLOUR,
    SQUARE,
    EdgeMap,
    RawMask,
    distinct_colours,
    is_border,
    nearest_plain,
    noise_of,
    pack,
    unpack,
)
from mnemask.prompts.mask_reading import MaskReading, Void, is_contour, rgb_of, void_area
from mnemask.types import MAX_OBJECTS

# An area that is even up to this much noise, and this far from all plain colours, has a colour of its own. Resized
# drawn masks have no such pixels; objects of 150 pixels made uneven by JPEG have 4 to 600.
EVEN, FAR_COLOUR, LOST_PIXELS = 12, 48, 4
LOST_SHARE = 0.25  # of the pixels of strange colours: JPEG adds many colours, each with at most a sixth of the pixels
BLACK, WHITE, CREAM = 0x000000, 0xFFFFFF, 0xE0E0C0  # the last is index 255 of the palettes of PASCAL VOC and DAVIS
VOID_INDEX = 255
WIDE_OUTLINE = 4  # blended pixels per outline pixel: 0.2 to 2 from antialiasing or resizing, 2.5 to 7 from JPEG


def read_colours(raw: RawMask, void: Void) -> MaskReading:
    """Returns the masks in a painted file; raises MaskError if its colours do not distinguish objects."""
    edges = EdgeMap.from_values(raw.pixels)
    packed = pack(raw.pixels)
    colours, first, inverse = distinct_colours(packed)
    plain = np.bincount(inverse[edges.solid], minlength=len(colours)) > 0
    if edges.look_like_a_photograph(len(colours)) or not plain.any():
        raise MaskError(
            f"looks like a photograph: {len(colours)} colours run into each other",
            "paint each object in one plain colour of its own",
        )
    if raw.lossy:
        raise MaskError("has lossy compression (JPEG or similar), which adds colours", "save it as PNG")
    blended = edges.blended()
    if blended.any() and plain.sum() <= MAX_OBJECTS:
        plain &= ~_near_a_larger(colours, np.bincount(inverse.ravel()), plain)
    own = plain
    if not blended.any():
        own = plain | ~_mostly(edges.mixed, inverse.ravel()) | np.isin(colours, _davis_colours()).all()
        own &= ~_noise(inverse, edges, colours)
    ground = _white_ground(packed) if raw.opaque.all() else int(packed[~raw.opaque][0])
    blended |= ~own[inverse]
    numbers = nearest_plain(inverse.astype(np.int32), blended)
    none, notes = _void_colours(colours, own, numbers, _background(colours[own], ground), void)
    objects = own & ~none
    ids = np.where(none, -1, 0).astype(np.int32)
    ids[objects], is_davis = _ids_of_colours(colours[objects], first[objects], ground)
    labels: Int32[np.ndarray, "H W"] = ids[numbers]
    _refuse_lost_colours(raw.pixels, colours[own], labels, blended)
    left_out = labels == -1
    if isinstance(void, int):
        left_out |= labels == void
        if not (is_davis or left_out.any() or void == VOID_INDEX):  # a contour of 255 is optional
            notes = (*notes, f"none of its colours has number {void} (--void {void}), so no pixel is void")
    elif void == "auto" and is_davis:
        area, more = void_area(np.where(left_out, 0, labels), VOID_INDEX, np.zeros(labels.shape, bool))
        left_out, notes = left_out | area, (*notes, *more)
    labels = np.where(left_out, 0, labels).astype(np.int32)
    shown = {i: rgb_of(unpack(colour)) for i, colour in zip(ids[own].tolist(), colours[own].tolist(), strict=True) if i}
    shown = {i: colour for i, colour in shown.items() if (labels == i).any()}
    return MaskReading("colours", labels, int(left_out.sum()), int(blended.sum()), shown, notes)


def _void_colours(
    colours: Int64[np.ndarray, " N"],
    own: Bool[np.ndarray, " N"],
    numbers: Int32[np.ndarray, "H W"],
    background: int | None,
    void: Void,
) -> tuple[Bool[np.ndarray, " N"], tuple[str, ...]]:
    """Returns which colours are void, to be left out when the others are numbered, and notes on what was guessed.

    If `void` is 255, these are white and the void colour of PASCAL VOC; if it is "auto", these and any grey that form
    a contour around the others.

    Args:
        colours: packed colours.
        own: which of them are not just blends of others.
        numbers: index of each pixel's colour.
        background: the colour of the background, None if unknown.
        void: the setting as given.
    """
    found = np.zeros(len(colours), bool)
    notes = []
    if void not in ("auto", VOID_INDEX):
        return found, ()
    is_ground = colours == background
    for at in np.flatnonzero(own & ~is_ground):
        red, green, blue = unpack(int(colours[at])).tolist()
        usual = colours[at] in (WHITE, CREAM)
        if void == VOID_INDEX:
            found[at] = usual
        elif usual or red == green == blue:
            area = numbers == at
            if is_contour(area, ~area & ~is_ground[numbers]):
                found[at] = True
                notes.append(
                    f"the contour of #{colours[at]:06x} around the objects is void; if it is an object, give "
                    "--void none"
                )
    return found, tuple(notes)


def _refuse_lost_colours(
    pixels: UInt8[np.ndarray, "H W 3"],
    plain: Int64[np.ndarray, " N"],
    labels: Int32[np.ndarray, "H W"],
    blended: Bool[np.ndarray, "H W"],
) -> None:
    """Raises MaskError if blended pixels are more than outlines, as left by earlier JPEG compression.

    That is so if they outnumber the objects' pixels and form wide outlines, or if uniform areas among them have a
    colour of their own. The same goes for a thin object, which fills no area: its colour makes up a large part of the
    pixels that are far from any mixture of the other colours.
    """
    if not blended.any():
        return
    spread = cv2.absdiff(cv2.dilate(pixels, SQUARE), cv2.erode(pixels, SQUARE)).max(axis=2)
    even = np.unique(pixels[blended & (spread <= EVEN)], axis=0, return_counts=True)
    known = np.stack([unpack(int(colour)) for colour in plain]).astype(int)
    far = np.abs(even[0].astype(int)[:, None] - known).max(axis=2).min(axis=1) > FAR_COLOUR
    lost = int(even[1][far].sum())
    values = labels.astype(np.float32)
    outline = int(is_border(values).sum())
    wide = blended.sum() > max((labels > 0).sum(), WIDE_OUTLINE * outline)
    if wide or lost >= LOST_PIXELS:
        raise MaskError(
            f"has {int(blended.sum())} pixels whose colours run into each other, as left by earlier JPEG compression",
            "export it from the program that painted it, as PNG without antialiasing",
        )
    packed = pack(pixels)
    colours, counts = np.unique(packed[blended], return_counts=True)
    strange = _far_from_mixtures(np.stack([unpack(int(colour)) for colour in colours]).astype(float), known)
    for colour in colours[strange & (counts >= max(LOST_PIXELS, LOST_SHARE * counts[strange].sum()))]:
        pieces = cv2.connectedComponentsWithStats((packed == colour).astype(np.uint8))[2]
        if pieces[1:, cv2.CC_STAT_AREA].max() >= LOST_PIXELS:
            raise MaskError(
                f"has soft edges, and {int((packed == colour).sum())} pixels of #{colour:06x}, which is not a mixture "
                "of its other colours and fills no square of 3x3 pixels",
                "export it as PNG without antialiasing, or draw that object at least 3 pixels wide",
            )


def _far_from_mixtures(colours: Float64[np.ndarray, "N 3"], known: Int64[np.ndarray, "M 3"]) -> Bool[np.ndarray, " N"]:
    """Returns which colours are far from every mixture of two known ones, whether as stored or in linear light."""
    far = np.ones(len(colours), bool)
    for gamma in (1, 2.2):
        light = (colours / 255) ** gamma
        for one, other in combinations((known / 255) ** gamma, 2):
            along = other - one
            share = np.clip((light - one) @ along / (along @ along), 0, 1)
            mixed = 255 * (one + share[:, None] * along) ** (1 / gamma)
            far &= np.abs(colours - mixed).max(axis=1) > FAR_COLOUR
    return far


def _noise(
    inverse: Int64[np.ndarray, "H W"], edges: EdgeMap, colours: Int64[np.ndarray, " N"]
) -> Bool[np.ndarray, " N"]:
    """Returns which colours are noise of others; none if they differ in one channel only, as numbers do."""
    shown = np.stack([unpack(int(colour)) for colour in colours]).astype(int)
    of = noise_of(inverse, edges.solid, shown)
    apart = (shown - shown[of])[of >= 0]
    return (of >= 0) & bool((apart != 0).any(axis=0).sum() > 1)


def _near_a_larger(
    colours: Int64[np.ndarray, " N"], areas: Int64[np.ndarray, " N"], plain: Bool[np.ndarray, " N"]
) -> Bool[np.ndarray, " N"]:
    """Returns which plain colours are close to one with more pixels, as lossy compression leaves them."""
    near = np.zeros(len(colours), bool)
    shown = np.stack([unpack(int(colour)) for colour in colours[plain]]).astype(int)
    apart = np.abs(shown[:, None] - shown).max(axis=2)
    larger = areas[plain] > areas[plain][:, None]
    near[plain] = ((apart <= SAME_COLOUR) & larger).any(axis=1)
    return near


def _white_ground(packed: Int64[np.ndarray, "H W"]) -> int | None:
    """Returns white if it makes up nearly all of the picture's border and black none; black may then be an object."""
    border = border_of(packed)
    return WHITE if (border == WHITE).mean() > BORDER_SHARE and (border != BLACK).all() else None


def _mostly(where: Bool[np.ndarray, "H W"], numbers: Int64[np.ndarray, " P"]) -> Bool[np.ndarray, " N"]:
    """Returns for each number whether more than half of its pixels are in `where`."""
    return np.asarray(np.bincount(numbers, where.ravel()) > 0.5 * np.bincount(numbers))


def _ids_of_colours(
    colours: Int64[np.ndarray, " N"], first: Int64[np.ndarray, " N"], ground: int | None
) -> tuple[Int32[np.ndarray, " N"], bool]:
    """Returns each colour's label, 0 for the background, and whether the labels are indices of the DAVIS palette.

    Args:
        colours: packed colours.
        first: position of each colour's first pixel.
        ground: the colour of the background if known, such as that of transparent pixels.
    """
    davis = {int(colour): index for index, colour in enumerate(_davis_colours())}
    known = [0 if colour == ground else davis.get(int(colour)) for colour in colours]
    if None not in known and not (ground not in (None, 0) and 0 in colours):
        return np.array(known, np.int32), True
    background = _background(colours, ground)
    if background is None:
        raise MaskError("has no black or white background", "paint the background black")
    ids = np.zeros(len(colours), np.int32)
    objects = [i for i in np.argsort(first) if colours[i] != background]
    ids[objects] = np.arange(1, len(objects) + 1)
    return ids, False


def _background(colours: Int64[np.ndarray, " N"], ground: int | None) -> int | None:
    """Returns the background's colour: the known one, else black, else white; None if none of them occurs."""
    return ground if ground is not None else next((each for each in (BLACK, WHITE) if each in colours), None)


def on_plain_ground(raw: RawMask) -> RawMask:
    """Returns a painted mask with its transparent part in a colour that no object has, black if possible.

    If black is painted too, it is an object, since the background is the transparent part.
    """
    if raw.pixels.ndim == 2 or not (EdgeMap.from_values(raw.pixels).solid & raw.opaque & ~raw.pixels.any(axis=2)).any():
        return raw
    used = set(np.unique(pack(raw.pixels)).tolist())
    free = next(colour for colour in range(0xFFFFFF, 0, -1) if colour not in used)
    pixels = np.where(raw.opaque[..., None], raw.pixels, unpack(free)).astype(np.uint8)
    return replace(raw, pixels=pixels)


def _davis_colours() -> Int64[np.ndarray, " 256"]:
    packed: Int64[np.ndarray, " 256"] = pack(davis_palette()[None])[0]
    return packed


def is_painted(raw: RawMask) -> bool:
    """Returns whether the opaque part consists mostly of plain colours, which then distinguish the objects."""
    edges = EdgeMap.from_values(raw.pixels)
    coloured = raw.pixels.any(axis=2) if raw.pixels.ndim == 3 else raw.pixels > 0
    return bool((edges.solid & coloured).sum() > 0.5 * raw.opaque.sum())
