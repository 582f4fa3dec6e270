"""Masks in one channel: ids as grey levels or palette indices, or black and white in all the forms it is saved in."""

import math
from contextlib import suppress
from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import Bool, Int32, UInt8

from mnemask.errors import MaskError
from mnemask.prompts.image_file import (
    MANY_VALUES,
    NOISE_REACH,
    EdgeMap,
    Grey,
    RawMask,
    differences,
    nearest_plain,
    noise_of,
)
from mnemask.prompts.mask_reading import RGB, MaskReading, Void, rgb_of, void_area

NOISE_VALUES = 4  # so many at both ends, with hardly any between, are noise instead of ids
VIDEO_BLACK, VIDEO_WHITE = 16, 235
FAR_SHARE = 0.05  # of the pixels between black and white: more of one value, far from both, are an object, not an edge


def read_grey(raw: RawMask, void: Void) -> MaskReading:
    """Returns the masks in a file of one channel; raises MaskError if they are ambiguous."""
    values, lossy = raw.pixels, raw.lossy
    top = 65_535 if values.max() > 255 else 255
    if (stretched := _of_video_range(values)) is not None:
        note = f"{VIDEO_BLACK} and {VIDEO_WHITE} are black and white, as in video"
        with suppress(MaskError):  # anything but black and white is read as it is
            reading = read_grey(replace(raw, pixels=stretched, palette=None), void)
            if reading.kind == "black and white":
                return replace(reading, notes=(*reading.notes, note))
    left_out = values == void if isinstance(void, int) else np.zeros(values.shape, bool)
    values = np.where(left_out, 0, values).astype(values.dtype)
    edges = EdgeMap.from_values(raw.pixels)
    if _is_black_and_white(values, top, edges, lossy):
        soft = int(((values > 0) & (values < top)).sum())
        bright = (values > top // 2).astype(np.int32)
        return MaskReading("black and white", bright, num_void=int(left_out.sum()), num_blended=soft)
    if not lossy and _is_noisy_black_and_white(values, top, edges):
        soft = int(((values > top // 10) & (values < top - top // 10)).sum())
        note = f"values near 0 and {top} count as black and white, as left by earlier JPEG compression"
        bright = (values > top // 2).astype(np.int32)
        return MaskReading("black and white", bright, int(left_out.sum()), soft, notes=(note,))
    distinct = np.unique(values)
    if lossy and not edges.look_like_a_photograph(len(distinct)):
        raise MaskError("has lossy compression (JPEG or similar), which adds values between the ids", "save it as PNG")
    if (len(distinct) > MANY_VALUES and _is_smooth(values)) or edges.look_like_a_photograph(len(distinct)):
        raise MaskError(
            f"looks like a photograph or a soft map: {len(distinct)} grey levels run into each other",
            "paint each object with one value",
        )
    blended = (edges.blended() | edges.dotted(raw.pixels)) & ~left_out
    if not blended.any():
        _refuse_noise(values, edges)
    notes: tuple[str, ...] = ()
    if void == "auto":
        left_out, notes = void_area(values, top, blended)
    labels = nearest_plain(np.where(left_out, 0, values).astype(np.int32), blended)
    colours = {} if raw.palette is None else _palette_colours(labels, raw.palette)
    return MaskReading("ids", labels, int((left_out & ~blended).sum()), int(blended.sum()), colours, notes)


def _refuse_noise(values: Grey, edges: EdgeMap) -> None:
    """Raises MaskError if noise levels, both lower and higher, surround an object's level."""
    levels = noise_of(values.astype(np.int32), edges.solid, np.arange(int(values.max()) + 1)[:, None])
    found = {int(of): [int(i) for i in np.flatnonzero(levels == of)] for of in np.unique(levels[levels > 0])}
    for level, made_up in found.items():
        if min(made_up) < level < max(made_up):
            raise MaskError(
                f"has {', '.join(map(str, made_up))} scattered beside {level}, as left by earlier JPEG compression",
                "export it as PNG from the program that made it",
            )


def _palette_colours(labels: Int32[np.ndarray, "H W"], palette: UInt8[np.ndarray, "N 3"]) -> dict[int, RGB]:
    """Returns the colour of each label, if no other label has it."""
    shown = {int(i): rgb_of(palette[i]) for i in np.unique(labels) if 0 < i < len(palette)}
    return {i: colour for i, colour in shown.items() if list(shown.values()).count(colour) == 1}


def _is_smooth(values: Grey) -> bool:
    """Returns whether most steps are small along both axes; areas numbered row by row have large ones along one."""
    steps = [differences(values, axis) for axis in (0, 1)]
    return all(np.median(step[step > 0]) <= 2 for step in steps if step.any())


def _is_black_and_white(values: Grey, top: int, edges: EdgeMap, lossy: bool) -> bool:
    """Returns whether nearly all pixels are near 0 or near `top`, and the rest are the soft edges between the two."""
    dark, bright = values <= top // 10, values >= top - top // 10
    middle, faint, pale = ~(dark | bright), dark & (values > 0), bright & (values < top)
    if not bright.any():
        return False
    if not middle.any():
        return lossy or not (faint | pale).any()
    soft_edges = dark.any() and middle.mean() <= 0.25 and _mostly_thin(middle, edges)
    soft_edges = soft_edges and not _is_an_object_between(values, middle, dark, bright)
    if lossy:
        return bool(soft_edges)
    # Values that fill areas are ids: a bright one beside small ids may be void, and need not be white.
    wide_feather = faint.sum() <= middle.sum()
    white = (values == top).any() and (pale & edges.solid).sum() <= 0.05 * (bright & edges.solid).sum()
    return bool(soft_edges and white and (wide_feather or _mostly_thin(faint, edges)))


def _is_an_object_between(
    values: Grey, middle: Bool[np.ndarray, "H W"], dark: Bool[np.ndarray, "H W"], bright: Bool[np.ndarray, "H W"]
) -> bool:
    """Returns whether one middle value lies where no edge is: farther from dark or bright than twice its width.

    A soft edge runs from dark to bright, however wide it is; faint strands far from anything bright have many values.
    """
    width = 2 * float(cv2.distanceTransform(middle.astype(np.uint8), cv2.DIST_L2, 3).max())
    reach = np.ones((2 * math.ceil(2 * width) + 1,) * 2, np.uint8)
    near = [np.asarray(cv2.dilate(end.astype(np.uint8), reach)) > 0 for end in (dark, bright)]
    far = values[middle & ~(near[0] & near[1])]
    return bool(far.size) and int(np.bincount(far).max()) > FAR_SHARE * int(middle.sum())


def _is_noisy_black_and_white(values: Grey, top: int, edges: EdgeMap) -> bool:
    """Returns whether values are near both ends, and those between lie along the border, as JPEG leaves them.

    Ids fill areas far from the border; noise does not, and has several values at both ends.
    """
    dark, bright = values <= top // 10, values >= top - top // 10
    faint, middle, pale = dark & (values > 0), ~(dark | bright), bright & (values < top)
    if not (faint.any() and pale.any()) or middle.mean() > 0.25:
        return False
    reach = np.ones((2 * NOISE_REACH + 1,) * 2)
    # Near both ends, not one: if an object's level is close to the limit of `dark` or `bright`, its noise lies on both
    # sides of the limit, so that all of the object is near that end.
    near = np.logical_and(*(np.asarray(cv2.dilate(end.astype(np.uint8), reach)) > 0 for end in (dark, bright)))
    if (middle & ~near).sum() > 0.05 * middle.sum():
        return False
    areas = edges.solid & ~near
    if max(len(np.unique(values[areas & end])) for end in (dark, bright)) > 1:
        return False
    if _mostly_thin(faint, edges) and _mostly_thin(pale, edges):
        return True
    distinct = min(len(np.unique(values[faint])), len(np.unique(values[pale])))
    stray = (faint | pale) & areas  # strong compression shifts the whole background too
    return distinct >= NOISE_VALUES or (distinct > 1 and bool(stray.sum() <= 0.05 * (faint | pale).sum()))


def _of_video_range(values: Grey) -> UInt8[np.ndarray, "H W"] | None:
    """Returns the values stretched to 0 to 255 if their extremes are video's black and white; else None."""
    if values.dtype != np.uint8 or (values.min(), values.max()) != (VIDEO_BLACK, VIDEO_WHITE):
        return None
    return np.round((values.astype(float) - VIDEO_BLACK) * 255 / (VIDEO_WHITE - VIDEO_BLACK)).astype(np.uint8)


def _mostly_thin(where: Bool[np.ndarray, "H W"], edges: EdgeMap) -> bool:
    return bool((where & edges.solid).sum() <= 0.05 * where.sum())
