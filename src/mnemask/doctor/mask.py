"""Findings about a mask file or a folder of masks, and about masks together with their video."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image

from mnemask.doctor.video import Finding
from mnemask.errors import FrameError, InputError, MaskError, counted
from mnemask.io import VideoReader
from mnemask.io.image_stacks import page_count
from mnemask.io.images import BORDER_SHARE, FORMATS_AND_GIF
from mnemask.io.label_files import HOLDERS, is_annotated
from mnemask.io.label_video import VIDEO
from mnemask.io.shapes import border_of, box_of, pieces_of
from mnemask.model.stcn import STRIDE
from mnemask.pipeline.expected import Expected
from mnemask.prompts import MaskReading, PromptPlan, inspect_mask
from mnemask.prompts.colour_ids import MOST_SHARE, ColourIds, MarkedFile, colours_said
from mnemask.prompts.mask_file import clean_or_refuse
from mnemask.prompts.mask_folder import MASK_SUFFIXES, list_masks
from mnemask.prompts.mask_places import never_annotated
from mnemask.types import MAX_OBJECTS, TOO_MANY_REMEDY

_TOOL_FILES = tuple(suffix for suffix in HOLDERS if suffix != VIDEO)
MANY_OBJECTS = 20
MOST_BLENDED = 0.1  # of the pixels of a mask
SHOWN = 5
SPECK_PIXELS = 24
SPECK_SHARE = 0.002  # of the object
MARKED_AS = {
    "ids": "objects are marked by their ids",
    "black and white": "black and white: one object, id 1",
    "colours": "objects are marked by colours",
    "transparency": "a cut-out: the opaque part is one object, id 1",
}


def diagnose_mask(path: Path) -> list[Finding]:
    """Returns how `read_mask` reads the file, and what looks unintended."""
    try:
        reading = inspect_mask(path)
    except MaskError as error:
        return [Finding.from_error(error)]
    with Image.open(path, formats=FORMATS_AND_GIF) as image:
        first = Finding("ok", f"{image.format} of {image.width}x{image.height} pixels, {MARKED_AS[reading.kind]}")
        file_format = image.format
    return [first, *_edges(reading, file_format), *_objects(reading), *_ids(reading)]


def is_of_masks(path: Path) -> bool:
    """Returns whether an existing file or folder contains masks, not frames."""
    if path.is_dir():
        try:
            masks = list_masks(path)
        except InputError:
            return False
        return _are_masks([masks[0], masks[len(masks) // 2], masks[-1]])
    suffix = path.suffix.lower()
    if suffix in _TOOL_FILES or suffix not in MASK_SUFFIXES:
        return suffix in _TOOL_FILES
    # Animations may be drawn in a few plain colours, but a TIFF of several such pages is one of masks.
    return page_count(path) == 1 or (suffix in (".tif", ".tiff") and _are_masks([path]))


def diagnose_masks(place: Path) -> list[Finding]:
    """Returns how a run reads a folder of masks, or a file of an annotation tool, frame by frame."""
    try:
        listed = list_masks(place)
    except InputError as error:
        return [Finding.from_error(error)]
    masks = [path for path in listed if is_annotated(path)]
    if not masks:
        return [
            Finding(
                "problem",
                f"{counted(len(listed), 'picture is', 'pictures are')} listed, but no object is marked",
                "annotate at least one",
            )
        ]
    files, broken = [], []
    for number, path in enumerate(masks):
        try:
            reading = inspect_mask(path)
            clean_or_refuse(path, reading, "error")
            files.append(MarkedFile.of(path, number, reading))
        except MaskError as error:
            broken.append(Finding.from_error(error))
    if len(broken) > SHOWN:
        broken[SHOWN:] = [Finding("problem", f"{counted(len(broken) - SHOWN, 'more mask')} cannot be used")]
    names = f", {masks[0].name}" if len(masks) == 1 else f" from {masks[0].name} to {masks[-1].name}"
    found = [Finding("ok", f"{counted(len(masks), 'mask')}{names}, for --mask {place}")]
    if rest := len(listed) - len(masks):
        what = counted(rest, "more listed picture is", "more listed pictures are")
        found.append(Finding("warning", f"{what} not annotated"))
    return [*found, *broken, *_across(files)]


def _are_masks(samples: Sequence[Path]) -> bool:
    """Returns whether images are masks and at least one marks something; colours of frames blend into each other."""
    try:
        readings = [inspect_mask(path) for path in samples]
    except MaskError:
        return False
    # Grey frames of 16 bits may look like ids, but blended everywhere; soft edges of masks are thin.
    return any(reading.ids and reading.num_blended < MOST_BLENDED * reading.labels.size for reading in readings)


def _across(files: Sequence[MarkedFile]) -> Iterator[Finding]:
    """Yields findings across the masks of a folder: sizes, ids, and whether each colour is the same object in all."""
    sizes = Counter(file.size for file in files)
    if len(sizes) > 1:
        (common, _), (odd, _) = sizes.most_common()[:2]
        name = next(file.path.name for file in files if file.size == odd)
        yield Finding(
            "problem",
            f"most masks are {common[1]}x{common[0]}, but {name} is {odd[1]}x{odd[0]}",
            "export all at the video's size",
        )
    seen: Counter[int] = Counter()
    try:
        ids = ColourIds.of(files)
        for file in files:
            seen.update({*ids.ids_of(file).values()})
    except MaskError as error:
        yield Finding.from_error(error)
        return
    for colour, object_id in colours_said(ids).items():
        yield Finding("ok", f"{colour} is object {object_id}")
    for object_id, times in sorted(seen.items())[:MANY_OBJECTS]:
        yield Finding("ok", f"object {object_id} is marked in {times} of {counted(len(files), 'mask')}")
    if empty := [file.path.name for file in files if not file.labels]:
        what = f"{counted(len(empty), 'mask is', 'masks are')} empty, first {empty[0]}"
        if never_annotated([bool(file.labels) for file in files]):
            yield Finding("warning", f"{what}: these frames count as not annotated")
        else:
            yield Finding("ok", f"{what}: all objects are absent there")


def _edges(reading: MaskReading, file_format: str | None) -> Iterator[Finding]:
    if reading.num_void:
        yield Finding("ok", f"{counted(reading.num_void, 'pixel is', 'pixels are')} void: part of no object")
    yield from (Finding("ok", note) for note in reading.notes if not reading.num_void)
    if reading.num_blended and reading.kind == "ids":
        yield Finding(
            "problem",
            f"{counted(reading.num_blended, 'pixel')} along the edges: blends of ids, from antialiasing or resizing",
            'export without antialiasing, resize with nearest neighbour, or read it with antialiased="clean"',
        )
    elif reading.num_blended:
        yield Finding(
            "warning",
            f"{counted(reading.num_blended, 'pixel')} along the edges: blends; each goes to the nearest plain area",
            "no action needed; export without antialiasing to decide each pixel yourself",
        )
    if file_format == "JPEG":
        yield Finding("warning", "JPEG compression distorts the edges", "save masks as PNG")


def _objects(reading: MaskReading) -> Iterator[Finding]:
    ids = [int(i) for i in np.unique(reading.labels) if i]
    if not ids:
        yield Finding(
            "problem", "no object is marked", "paint each object with its own value, and the background with 0"
        )
    for object_id in ids[:MANY_OBJECTS]:
        yield from _object(object_id, reading.labels == object_id)
    if len(ids) > MAX_OBJECTS:
        yield Finding(
            "problem",
            f"{len(ids)} objects are marked, more than {MAX_OBJECTS}",
            TOO_MANY_REMEDY,
        )
    elif len(ids) > MANY_OBJECTS:
        yield Finding(
            "warning",
            f"{len(ids)} objects are marked, and each takes time and memory",
            "keep the ones that you want to track; if there should be few, the file may not be a map of ids",
        )


def _object(object_id: int, mask: Bool[np.ndarray, "H W"]) -> Iterator[Finding]:
    areas = pieces_of(mask)[1][1:]
    area, box = int(areas.sum()), ",".join(map(str, box_of(mask)))
    share = area / mask.size
    yield Finding("ok", f"object {object_id}: {area} pixels ({_percent(share)} %), box {box}")
    specks = areas[areas <= min(SPECK_PIXELS, SPECK_SHARE * area)]
    if len(specks):
        yield Finding(
            "warning",
            f"object {object_id} has {counted(len(specks), 'speck')} of at most {specks.max()} pixels apart from it",
            "erase them, unless they are intended",
        )
    if area < STRIDE**2:
        yield Finding(
            "warning",
            f"object {object_id} has only {area} pixels, less than one cell (16x16) of the network",
            "enlarge the video, or crop it to the part with the object",
        )
    if share > MOST_SHARE and border_of(mask).mean() > BORDER_SHARE:
        yield Finding(
            "warning",
            f"object {object_id} fills {100 * share:.0f} % of the picture up to its edges, like a background",
            "if object and background are swapped, invert the mask",
        )


def _percent(share: float) -> str:
    """Returns a share in percent with two digits, and without an exponent."""
    return np.format_float_positional(100 * share, precision=2, unique=False, fractional=False, trim="-")


def _ids(reading: MaskReading) -> Iterator[Finding]:
    ids = np.unique(reading.labels[reading.labels > 0])
    greys = 2 <= len(ids) <= MANY_OBJECTS and ids.min() > 10 and ids.max() <= 255 and np.diff(ids).min() > 10
    if reading.kind == "ids" and greys:
        yield Finding(
            "warning",
            f"the ids are {', '.join(map(str, ids))}, as if colours had been converted to grey",
            "if they should be 1, 2, ..., export the mask with its palette or in colour",
        )


def diagnose_together(video: Path, mask: Path) -> list[Finding]:
    """Returns whether a run would accept a mask, or a folder or file of masks, for a video: its size and frames.

    Returns nothing if the video cannot be read, which is a finding about the video alone.
    """
    try:
        with VideoReader(video, masks=[mask]) as reader:
            names = None if reader.files is None else [path.stem for path in reader.files]
            # Blended edges are reported for the mask alone.
            plan = PromptPlan(mask, (), (), True, names=names, num_frames=None if names is None else len(names))
            Expected.of(reader).refuse_beyond(plan.to_come)
            frames = ", ".join(map(str, list(plan.to_come)[:SHOWN])) + ", …" * (len(plan.to_come) > SHOWN)
            if (frame := next(iter(reader), None)) is None:
                return []
            plan.check_sizes(frame)
    except FrameError:
        return []
    except InputError as error:
        return [Finding.from_error(error)]
    if misnamed := plan.misnamed():
        return [Finding("warning", doubt, remedy) for doubt, remedy in misnamed]
    return [Finding("ok", f"they match: both are {frame.size[1]}x{frame.size[0]}, with masks of frame {frames}")]
