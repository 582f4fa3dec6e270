"""The export formats, and finished exports: files to download one by one, or as a zip created while it is sent."""

import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mnemask as mm
from mnemask.choices import VIDEO_FORMAT_NAMES
from mnemask.export import EXPORT_FORMATS, export_masks
from mnemask.io import MASK_FORMATS
from mnemask.io.edges import Cutout, Edges
from mnemask.project import export_project

Write = Callable[[mm.Project, Path, Callable[[int], None]], object]

# Titles and purposes of the formats; a format that is not listed here is offered under its own name.
_VIDEO, _LABELS, _DATA = "Video for editors", "Labels", "Masks and data"
_WORDS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    _VIDEO: {
        "prores": ("ProRes 4444", "cut-out with alpha and sound, for editing programs"),
        "webm": ("WebM with alpha", "cut-out for web pages and OBS"),
        "green": ("Green screen", "the objects in front of a plain colour, with sound"),
        "matte": ("Matte", "white where the objects are"),
        "overlay": ("Preview", "the video with its masks drawn in"),
        "rgba": ("PNG cut-outs", "a picture with alpha for each frame and object"),
    },
    _LABELS: {
        "coco": ("COCO", "one JSON: run lengths, classes, track ids"),
        "coco-polygons": ("COCO polygons", "the same with outlines"),
        "yolo": ("YOLO segments", "a text file of outlines for each frame"),
        "cvat": ("CVAT images", "masks, each frame on its own"),
        "cvat-video": ("CVAT video", "a track of outlines for each object"),
        "cvat-masks": ("CVAT masks", "pictures in the layout of Pascal VOC"),
        "label-studio": ("Label Studio", "tasks with brush regions"),
        "labelme": ("labelme", "a JSON for each frame"),
        "davis": ("DAVIS 2017", "indexed PNG in the data set's folders"),
        "youtube-vos": ("YouTube-VOS", "indexed PNG and meta.json"),
        "mots": ("MOTS", "gt.txt with masks and ids"),
        "mot": ("MOT", "gt.txt with boxes and ids"),
    },
    _DATA: {
        "png": ("PNG masks", "an indexed picture for each frame"),
        "ffv1": ("FFV1 video", "one lossless video of object ids"),
        "npz": ("NumPy", "masks.npz: labels, ids, names"),
        "zarr": ("Zarr", "the same in chunks of one frame"),
        "table": ("Table", "CSV and Parquet: area, box, centre, doubt"),
        "parquet": ("Parquet masks", "run lengths, a file per hour"),
        "rle": ("Run lengths", "masks.json, as from mnemask segment"),
    },
}
_EDGES: Mapping[str, Any] = {"smooth": int, "largest": bool, "fill_holes": int, "grow": int, "feather": float}
_OUTLINES = ("coco-polygons", "yolo", "cvat-video")

EXPORTS = "exports"
"""The name of the exports folder in a project's folder."""

UNFINISHED = ".unfinished"
"""The name of an export until it is complete."""

_MOST_MAIN = 4  # files
_MOST_OFF = 100  # pixels
_PART = 2**20  # bytes to read at once
SMALLER = (".json", ".txt", ".csv", ".xml")  # masks and videos are compressed already


def offered() -> list[dict[str, Any]]:
    """Returns all formats in the order in which they are shown: name, group, title, about and options of each."""
    known = {name: (group, *words) for group, formats in _WORDS.items() for name, words in formats.items()}
    shown = []
    for name in sorted({**MASK_FORMATS, **EXPORT_FORMATS}, key=lambda name: [*known, name].index(name)):
        group, title, about = known.get(name, (_DATA, name, ""))
        options = {_VIDEO: ["edges"], _LABELS: ["pictures"], _DATA: []}[group]
        if name in ("prores", "webm", "green", "matte"):
            options = ["edges", "only", *(["background"] if name == "green" else [])]
        if name in VIDEO_FORMAT_NAMES:
            options = [*options, "fps"]
        if name in _OUTLINES:
            options = [*options, "tolerance"]
        shown.append({"name": name, "group": group, "title": title, "about": about, "options": options})
    return shown


def writing(name: str, options: Mapping[str, Any]) -> Write:
    """Returns a function that writes a project to a new folder in a format.

    Args:
        name: the name of an offered format.
        options: `pictures` (whether to add the frames to labels), `tolerance` of outlines in pixels; for videos the
            fields of `Edges`, `background` as "#rrggbb", `only`, the id of the one object to show, and `fps`, the frame
            rate of frames without times.

    Raises:
        InputError: there is no such format, or an option is invalid.
    """
    if name not in EXPORT_FORMATS and name not in MASK_FORMATS:
        known = ", ".join(each["name"] for each in offered())
        raise mm.InputError(f"there is no format {name[:20]!r}", f"choose one of {known}")
    try:
        tolerance, rate = float(options.get("tolerance", 0)), float(options["fps"]) if options.get("fps") else None
        red, green, blue = bytes.fromhex(str(options.get("background", "#00ff00")).removeprefix("#"))
        only = (int(options["only"]),) if options.get("only") else ()
        edges = Edges(**{key: read(options[key]) for key, read in _EDGES.items() if key in options})
        cutout = Cutout(only, (red, green, blue), edges)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, mm.MnemaskError):
            raise
        raise mm.InputError(f"an option of the export is invalid ({error})", "reload the page") from error
    if not 0 <= tolerance <= _MOST_OFF:
        raise mm.InputError(f"the tolerance of outlines is {tolerance:g} pixels", f"give 0 to {_MOST_OFF}")
    if rate is not None and not 0.01 <= rate <= 1000:
        raise mm.InputError(f"the frame rate is {rate:g}", "give 0.01 to 1000 frames per second")
    if name in EXPORT_FORMATS:

        def export(project: mm.Project, out: Path, on_frame: Callable[[int], None]) -> object:
            video = project.source if options.get("pictures") else None
            if video is not None:
                project.check_video()
            return export_masks(project, name, out, video=video, tolerance=tolerance, on_frame=on_frame)

        return export
    return lambda project, out, on_frame: export_project(
        project, out, mask_format=name, cutout=cutout, frames_per_second=rate, on_frame=on_frame
    )


def exported(folder: Path, name: str) -> Path:
    """Returns a file or folder below a folder of exports; raises InputError if there is none of this name."""
    try:
        path = (folder / name).resolve(strict=True)
        inside = folder.resolve() in path.parents
    except (OSError, ValueError, RuntimeError):
        inside = False
    if not inside:
        raise mm.InputError(f"there is no export {name[:80]!r}", "export again")
    return path


def exports_in(folder: Path) -> list[str]:
    """Returns the names of the exports in a folder, the latest first."""
    found = [path for path in folder.glob("*") if path.is_dir() and path.name != UNFINISHED]
    return [path.name for path in sorted(found, key=lambda path: -path.stat().st_mtime_ns)]


def main_files(folder: Path, files: Sequence[Path]) -> list[Path]:
    """Returns the files of an export to open first: the only one, or those at its top level if they are few."""
    top = [path for path in files if path.parent == folder]
    return list(files) if len(files) == 1 else top if len(top) <= _MOST_MAIN else []


def remove_unfinished(folder: Path) -> None:
    """Removes the export that a killed process left in a folder of exports."""
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)


def files_of(folder: Path) -> Iterator[Path]:
    """Yields the files below a folder, those of each folder sorted by name."""
    for name in sorted(path.name for path in folder.iterdir()):  # not paths: an hour has 90,000 masks
        path = folder / name
        if path.is_symlink():
            continue
        if path.is_dir():
            yield from files_of(path)
        elif not path.name.startswith("."):
            yield path


def zipped(folder: Path) -> Iterator[bytes]:
    """Yields the bytes of a zip with all files of a folder, below the folder's name.

    Only one part of a file is in memory at a time, and one entry of the zip's directory for each file.
    """
    sent = _Sent()
    with zipfile.ZipFile(sent, "w") as archive:
        for path in files_of(folder):
            entry = zipfile.ZipInfo.from_file(
                path, Path(folder.name) / path.relative_to(folder), strict_timestamps=False
            )
            entry.compress_type = zipfile.ZIP_DEFLATED if path.suffix in SMALLER else zipfile.ZIP_STORED
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=entry.file_size > 2**31 - 1) as target:
                while part := source.read(_PART):
                    target.write(part)
                    yield from sent.taken(_PART)
    yield from sent.taken()


class _Sent:
    """A write-only file without seeking, which a zip is written to while it is sent."""

    def __init__(self) -> None:
        self._parts = bytearray()

    def write(self, part: bytes, /) -> int:
        """Appends bytes to the buffer."""
        self._parts += part
        return len(part)

    def flush(self) -> None:
        """Does nothing: written bytes are sent by `taken`."""

    def close(self) -> None:
        """Does nothing: there is nothing to release."""

    def taken(self, least: int = 1) -> Iterator[bytes]:
        """Yields the bytes written since the last call as one part, if they are at least `least`."""
        if len(self._parts) >= least:
            yield bytes(self._parts)
            self._parts.clear()
