"""From finished masks to the files of another tool: what each keeps, and how it gets to disk whole or not at all."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2

from mnemask.errors import InputError, OutputError
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
from mnemask.export.source import Exporting, Moment, open_finished
from mnemask.io.atomic import make_folder
from mnemask.io.reader import VideoReader
from mnemask.io.written import Written
from mnemask.project import Project
from mnemask.types import Frame


@runtime_checkable
class ExportFormat(Protocol):
    """How masks get into the files of one tool; `pictures` is the folder in which it looks for frames, or None."""

    def __init__(self, how: Exporting) -> None: ...

    @property
    def pictures(self) -> str | None: ...

    def add(self, moment: Moment) -> None:
        """Takes the next frame."""
        ...

    def finish(self) -> None:
        """Writes what belongs to the whole."""
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


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote: its files below a folder, and how many frames they are of."""

    folder: Path
    files: tuple[Path, ...]
    frames: int


def export_masks(
    place: str | Path | Project,
    to: str,
    out: str | Path,
    *,
    video: str | Path | None = None,
    tolerance: float = 0.0,
    overwrite: bool = False,
    on_frame: Callable[[int], None] = lambda index: None,
) -> Exported:
    """Writes the masks of a run or a project as another tool reads them; nothing is there before all of it is.

    Args:
        place: the folder that `segment` wrote, in any of its formats, or of a project, or an open project.
        to: a key of `EXPORT_FORMATS`.
        out: the folder to write, made if missing.
        video: that the masks are of: its frames are put where the tool looks for them, those of a folder as they are.
        tolerance: pixels by which outlines may differ, for fewer corners; at 0 they are exact.
        overwrite: whether files of an earlier export may be replaced.
        on_frame: is called with the index of each frame that is done.

    Raises:
        InputError: there are no masks, they are damaged, or the video is another one.
        OutputError: `out` holds an export already, or files of others that are in the way; or it cannot be written to.
        MissingExtraError: the format needs a package that is not installed.
    """
    if to not in EXPORT_FORMATS:
        raise InputError(f"there is no export format {to!r}", f"choose one of {', '.join(EXPORT_FORMATS)}")
    out = Path(out)
    if out.is_file():
        raise OutputError(f"{str(out)!r} is a file", "give a folder")
    written = Written(out)
    if written.files() and not overwrite:
        raise OutputError(f"{str(out)!r} holds an export already", "give another folder, or --overwrite")
    with ExitStack() as stack:
        source = open_finished(place, stack)
        make_folder(out)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".mnemask-", dir=out)))
        format = EXPORT_FORMATS[to](Exporting(scratch, source, tolerance, stack))
        frames = (
            None if video is None or format.pictures is None else _Pictures(video, scratch / format.pictures, stack)
        )
        count = 0
        for moment in source:
            file_name = moment.file_name if frames is None else frames.put(moment)
            format.add(moment if file_name == moment.file_name else _renamed(moment, file_name))
            count += 1
            on_frame(moment.index)
        format.finish()
        made = sorted(path for path in scratch.rglob("*") if path.is_file())
        targets = [out / path.relative_to(scratch) for path in made]
        written.refuse_foreign(*targets)
        written.remove_all()
        for path, target in zip(made, targets, strict=True):
            make_folder(target.parent)
            written.publish(path, target)
    return Exported(out, tuple(targets), count)


class _Pictures:
    """The frames of a video, as files beside their masks."""

    def __init__(self, video: str | Path, folder: Path, stack: ExitStack) -> None:
        self._folder, self._video = make_folder(folder), video
        reader = stack.enter_context(VideoReader(str(video)))
        self._files = reader.files
        self._frames: Iterator[Frame] = iter(reader)

    def put(self, moment: Moment) -> str:
        """Writes the picture of a frame and returns the name of its file."""
        frame = next((each for each in self._frames if each.index >= moment.index), None)
        if frame is None or frame.index != moment.index or frame.size != moment.size:
            found = "ends before it" if frame is None else f"has {frame.size}"
            raise InputError(
                f"the masks of frame {moment.index} are {moment.size} (height, width) and {str(self._video)!r} {found}",
                "give the video that they were made from",
            )
        if self._files is not None and self._files[moment.index].suffix.lower() in (".jpg", ".jpeg", ".png"):
            file = self._files[moment.index]
            shutil.copyfile(file, self._folder / file.name)
            return file.name
        name = f"{moment.name}.jpg"
        bgr = cv2.cvtColor(frame.image.permute(1, 2, 0).cpu().numpy(), cv2.COLOR_RGB2BGR)
        quality = [cv2.IMWRITE_JPEG_QUALITY, 95]
        (self._folder / name).write_bytes(cv2.imencode(".jpg", bgr, quality)[1].tobytes())
        return name


def _renamed(moment: Moment, file_name: str) -> Moment:
    return Moment(moment.index, moment.name, file_name, moment.labels, moment.alphas)
