"""Exports finished masks to the formats of other tools, and writes each export to disk completely or not at all."""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
from PIL import Image

from mnemask.errors import FrameError, InputError, OutputError
from mnemask.export.arrays import NpzArrays, ParquetTable, ZarrArrays
from mnemask.export.datasets import (
    CocoPolygons,
    CocoRuns,
    DavisFolder,
    MotBoxes,
    MotsText,
    YoloSegments,
    YoutubeVosFolder,
)
from mnemask.export.labelling import CvatImages, CvatMasks, CvatTracks, LabelmeFiles, LabelStudioTasks
from mnemask.export.source import Exporting, Finished, FrameMasks, OfBatch, OfProject, open_finished
from mnemask.io.atomic import make_folder, safe_name
from mnemask.io.images import FORMATS, IMAGE_SUFFIXES, orientation_of
from mnemask.io.lock import OutputLock
from mnemask.io.name_order import composed
from mnemask.io.random_access import FrameAccess
from mnemask.io.reader import VideoReader
from mnemask.io.storage import fetched, is_fetched
from mnemask.io.written import Written
from mnemask.pipeline.places import refuse_run
from mnemask.pipeline.render import masks_among, report_of, settings_of
from mnemask.project import Project
from mnemask.types import Frame, index_of_name


@runtime_checkable
class ExportFormat(Protocol):
    """Writes masks in the format of one tool; `pictures` is the folder where it expects frames, or None."""

    def __init__(self, how: Exporting) -> None: ...

    @property
    def pictures(self) -> str | None: ...

    def add(self, frame: FrameMasks) -> None:
        """Adds the next frame."""
        ...

    def finish(self) -> None:
        """Writes what concerns all frames, after the last one."""
        ...


EXPORT_FORMATS: Mapping[str, Callable[[Exporting], ExportFormat]] = {
    "coco": CocoRuns,
    "coco-polygons": CocoPolygons,
    "cvat": CvatImages,
    "cvat-masks": CvatMasks,
    "cvat-video": CvatTracks,
    "davis": DavisFolder,
    "label-studio": LabelStudioTasks,
    "labelme": LabelmeFiles,
    "mot": MotBoxes,
    "mots": MotsText,
    "npz": NpzArrays,
    "table": ParquetTable,
    "yolo": YoloSegments,
    "youtube-vos": YoutubeVosFolder,
    "zarr": ZarrArrays,
}
_OF_ONE_VIDEO = ("cvat-video", "mot", "mots", "npz", "table", "zarr")
_SCRATCH = ".mnemask-export-"
_FLAT = ("yolo",)
"""Formats with readers that do not find frames in a subfolder per clip."""
_COUNTED = ("mot", "mots")
"""Formats with readers that expect 000001.jpg and so on, all with the same suffix."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote: its folder, the files in it, and the number of exported frames."""

    folder: Path
    files: tuple[Path, ...]
    frames: int


def export_masks(
    place: str | Path | Project,
    to: str,
    out: str | Path,
    *,
    video: str | Path | None = None,
    pictures: bool = False,
    tolerance: float = 0.0,
    overwrite: bool = False,
    on_frame: Callable[[int], None] = lambda index: None,
) -> Exported:
    """Writes the masks of a run, a batch or a project in another tool's format; files appear once all are complete.

    The clips of a batch become one data set, with frames named CLIP/NAME; formats of one video get a folder per clip.

    Args:
        place: the output folder of `segment` or `batch`, in any format, the folder of a project, or an open project.
        to: a key of `EXPORT_FORMATS`.
        out: the folder to write, created if missing.
        video: the video of the masks: its frames are written where the tool expects them; upright JPEG and PNG files of
            a folder are copied.
        pictures: whether to write the frames of a batch's videos likewise, from where the batch read them.
        tolerance: pixels by which outlines may differ, for fewer corners; at 0 they are exact.
        overwrite: whether files of an earlier export may be replaced.
        on_frame: called with the index of each finished frame.

    Raises:
        InputError: there are no masks, they are damaged, or they are not of this video.
        OutputError: `out` already contains an export or other files that are in the way, or it cannot be written to.
        MissingExtraError: the format needs a package that is not installed.
    """
    if to not in EXPORT_FORMATS:
        raise InputError(f"there is no export format {to!r}", f"choose one of {', '.join(EXPORT_FORMATS)}")
    out = Path(out)
    if out.is_file():
        raise OutputError(f"{str(out)!r} is a file", "give a folder")
    with _writing_to(out), ExitStack() as stack:
        source = open_finished(place, stack)
        videos = _videos(source, video, pictures)
        stack.enter_context(OutputLock(out))
        written = Written(out)
        refuse_run(out, written)
        _refuse_masks(out, source)
        if written.files() and not overwrite:
            raise OutputError(f"{str(out)!r} already contains an export", "give another folder, or --overwrite")
        for left in out.glob(f"{_SCRATCH}*"):  # of killed exports
            shutil.rmtree(left, ignore_errors=True)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=out)))
        parts: Iterable[tuple[Path, Finished]] = [(scratch, source)]
        if isinstance(source, OfBatch) and to in _OF_ONE_VIDEO:
            parts = ((scratch / run.name, run) for run in source.runs())
        count = sum(_write(to, *part, videos, tolerance, on_frame) for part in parts)
        # Pictures first, and last the files at the top that list the others: without these, a tool finds no data set.
        made = sorted((path for path in scratch.rglob("*") if path.is_file()), key=_last_if_it_names_others)
        targets = [out / path.relative_to(scratch) for path in made]
        parents = {parent for path in targets for parent in path.parents if out in parent.parents}
        written.refuse_foreign(*targets, *(each for each in sorted(parents) if not each.is_dir()))
        written.remove_all()
        try:
            for path, target in zip(made, targets, strict=True):
                make_folder(target.parent)
                written.publish(path, target)
        except BaseException:
            written.remove_all()
            raise
    return Exported(out, tuple(sorted(targets)), count)


def _last_if_it_names_others(path: Path) -> tuple[bool, int, Path]:
    return path.suffix.lower() not in IMAGE_SUFFIXES, -len(path.parts), path


def _refuse_masks(out: Path, source: Finished) -> None:
    """Raises OutputError if the folder is that of the masks to export: its index of them would be overwritten."""
    place, read = out.resolve(), source.folder.resolve()
    if place == read or {place, *place.parents} & {read / "masks"}:
        raise OutputError(f"{str(out)!r} contains the masks to export", "give another folder")


@contextmanager
def _writing_to(out: Path) -> Iterator[None]:
    """Within it, an OSError about `out` becomes an OutputError, and one about a file elsewhere an InputError."""
    try:
        yield
    except OSError as error:
        place = error.filename
        if isinstance(place, str) and not Path(place).absolute().is_relative_to(out.absolute()):
            raise InputError(f"cannot read {place!r} ({error.strerror})", "restore it, and export again") from error
        raise OutputError(
            f"cannot write to {str(out)!r} ({error.strerror or error})", "make room, or give another folder"
        ) from error


def _videos(source: Finished, video: str | Path | None, pictures: bool) -> Mapping[str, str | Path]:
    """Returns the videos with frames to write, by clip; the video of a single run by its name."""
    if not isinstance(source, OfBatch):
        if pictures and video is None:
            raise InputError(f"{str(source.folder)!r} does not record where its video is", "give it with --video")
        return {} if video is None else {source.name: video}
    if video is not None:
        raise InputError("a batch has several videos", "give --pictures, which reads them from where the batch did")
    return source.videos if pictures else {}


def _write(
    to: str,
    folder: Path,
    source: Finished,
    videos: Mapping[str, str | Path],
    tolerance: float,
    on_frame: Callable[[int], None],
) -> int:
    """Writes masks into an empty folder; returns the number of frames."""
    folder.mkdir(exist_ok=True)
    count = 0
    with ExitStack() as stack:
        format = EXPORT_FORMATS[to](Exporting(folder, source, tolerance, stack, bool(videos)))
        reports = _reports(source) if videos else {}
        pictures = _Pictures(videos, reports, stack, by_number=isinstance(source, OfProject), counted=to in _COUNTED)
        for frame in source:
            joint = frame.clip and frame.clip + ("-" if to in _FLAT else "/")
            file_name = frame.file_name
            if videos and format.pictures is not None:
                file_name = pictures.put(frame, frame.clip or source.name, folder / format.pictures, joint)
            format.add(replace(frame, name=f"{joint}{frame.name}", file_name=f"{joint}{file_name}"))
            count += 1
            on_frame(frame.index)
        format.finish()
    return count


def _reports(source: Finished) -> Mapping[str, Mapping[str, Any]]:
    """Returns the reports of the runs that wrote the masks, by the names of their videos."""
    folders = source.folders if isinstance(source, OfBatch) else {source.name: source.folder}
    return {name: report_of(folder) for name, folder in folders.items()}


def _is_plain(path: Path) -> bool:
    """Returns whether every tool shows a picture as it was tracked: a JPEG or PNG that is upright without its tag."""
    if path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        return False
    with Image.open(path, formats=FORMATS) as image:
        return orientation_of(image) == 1


class _Pictures:
    """Writes the frames of videos next to their masks, read as the runs of these reports read them.

    Args:
        videos: the videos by clip.
        reports: the reports of the runs by clip.
        stack: closes the opened videos.
        by_number: whether to read frames by number as a project does, which has no report on how they were read.
        counted: whether to number the files from 1.
    """

    def __init__(
        self,
        videos: Mapping[str, str | Path],
        reports: Mapping[str, Mapping[str, Any]],
        stack: ExitStack,
        *,
        by_number: bool,
        counted: bool,
    ) -> None:
        self._videos, self._reports, self._stack = videos, reports, stack.enter_context(ExitStack())
        self._by_number, self._counted, self._suffix = by_number, counted, ""
        self._video = ""
        self._files: Sequence[Path] | None = None
        self._places: Mapping[str, int] = {}
        self._frames: Iterator[tuple[Frame, bool]] = iter(())

    def put(self, masks: FrameMasks, video: str, folder: Path, joint: str) -> str:
        """Writes the picture of a frame as folder/joint+name, and returns the name of that file."""
        if video != self._video:
            self._stack.close()
            place = str(self._videos[video])
            if is_fetched(place):
                scratch = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="mnemask-"))
                place = fetched(place, Path(scratch))
            self._video, self._files, self._frames = video, *self._opened(place, self._reports.get(video, {}))
            self._places = {composed(safe_name(path.stem)): at for at, path in enumerate(self._files or ())}
        frame, held = next((each for each in self._frames if each[0].index >= masks.index), (None, False))
        if frame is None or frame.index != masks.index or frame.size != masks.size:
            there = (
                "has no such frame, or it is damaged"
                if frame is None or frame.index != masks.index
                else f"has {frame.size}"
            )
            raise InputError(
                f"the masks of frame {masks.index} are {masks.size} (height, width) and "
                f"{str(self._videos[video])!r} {there}",
                "give the video that they were made from",
            )
        self._refuse_shifted(masks)
        file = None if self._files is None or held else self._files[masks.index]
        if file is not None and self._suffix in ("", file.suffix) and _is_plain(file):
            name, data = file.name, file.read_bytes()
        else:
            bgr = cv2.cvtColor(frame.image.permute(1, 2, 0).cpu().numpy(), cv2.COLOR_RGB2BGR)
            suffix = self._suffix or ".jpg"
            quality = [cv2.IMWRITE_JPEG_QUALITY, 95] if suffix.lower() != ".png" else []
            name, data = f"{masks.name}{suffix}", cv2.imencode(suffix, bgr, quality)[1].tobytes()
        if self._counted:
            self._suffix = Path(name).suffix
            name = f"{masks.index + 1:06d}{self._suffix}"
        path = folder / f"{joint}{name}"
        make_folder(path.parent)
        path.write_bytes(data)
        return name

    def _opened(
        self, place: str, report: Mapping[str, Any]
    ) -> tuple[Sequence[Path] | None, Iterator[tuple[Frame, bool]]]:
        """Returns the files of a video's frames, and each frame with whether another picture replaces it."""
        if self._by_number:
            frames = self._stack.enter_context(FrameAccess(place))
            return frames.files, _by_number(frames)
        # Without a report this is unknown; a frame with masks that is skipped raises an error.
        damaged, given = settings_of(report).get("on_corrupt", "skip"), masks_among(place, report)
        reader = self._stack.enter_context(VideoReader(place, on_corrupt=damaged, masks=given))
        return reader.files, _whole_or_held(reader)

    def _refuse_shifted(self, masks: FrameMasks) -> None:
        """Raises InputError if masks have the name of a picture that is now another frame of its folder.

        Frames of a video file are named by their numbers, whatever names pictures of them have.
        """
        named = self._places.get(composed(safe_name(masks.name)), masks.index)
        if named != masks.index and not (masks.of_file and index_of_name(masks.name) == masks.index):
            raise InputError(
                f"the masks {masks.name!r} are of frame {masks.index}, and that picture is frame {named} of "
                f"{str(self._videos[self._video])!r}",
                "give the folder as it was tracked: remove the pictures added since",
            )


def _by_number(frames: FrameAccess) -> Iterator[tuple[Frame, bool]]:
    """Yields each frame, and whether it is a nearby one in place of a damaged one."""
    for index in range(len(frames)):
        try:
            yield frames[index], False
        except FrameError:
            yield frames.held(index), True


def _whole_or_held(reader: VideoReader) -> Iterator[tuple[Frame, bool]]:
    """Yields each frame, and whether it is the previous one in place of a damaged one."""
    count = 0
    for frame in reader:
        before, count = count, reader.events.held.count
        yield frame, count > before
