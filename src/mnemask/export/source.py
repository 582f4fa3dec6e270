"""Finished masks from any source: the folder of a run in any format, that of a batch, or a project."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from mnemask.choices import VIDEO_SUFFIXES
from mnemask.errors import InputError, counted, listed
from mnemask.export.numbering import frame_rate, frames_of_table, numbered
from mnemask.io.atomic import safe_name
from mnemask.io.coco import OBJECT, Categories
from mnemask.io.image_formats import alpha_of, cut_outs_in
from mnemask.io.images import IMAGE_SUFFIXES
from mnemask.io.label_files import Labels, file_names_of, label_paths, labels_by_name, map_name, read_labels
from mnemask.io.table import TABLE
from mnemask.io.writer import MaskWriter
from mnemask.io.written import Written
from mnemask.pipeline.places import CHECKPOINT, REPORT
from mnemask.pipeline.render import TrackedFrames, report_of, settings_of
from mnemask.project import Project
from mnemask.types import Masks, ObjectInfo, frame_name

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FrameMasks:
    """The masks of one frame.

    Attributes:
        index: the frame's index in its video, from 0.
        name: the name of its files, without a suffix.
        file_name: the file name of its picture.
        labels: the object id at each pixel, 0 for the background.
        alphas: the probability of each object from 0 to 255, by id; empty if the run did not keep them.
        objects: class and name of the objects of its video, by id.
        number: a number unique in the source; for a single video, the index.
        clip: the name of its video in a batch; empty for a single video.
        of_file: whether its video is known to be one file, so that its name is its number.
        after_gap: whether frames just before it are left out, in at least one of which no object was tracked.
    """

    index: int
    name: str
    file_name: str
    labels: Labels
    alphas: Mapping[int, UInt8[np.ndarray, "H W"]]
    objects: Mapping[int, ObjectInfo]
    number: int
    clip: str = ""
    of_file: bool = False
    after_gap: bool = False

    def info(self, object_id: int) -> ObjectInfo:
        """Returns class and name of an object."""
        return self.objects.get(object_id, ObjectInfo())

    def class_of(self, object_id: int) -> str:
        """Returns the class of an object."""
        return self.info(object_id).category or OBJECT

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.labels.shape[0], self.labels.shape[1]

    def masks(self) -> Iterator[tuple[int, Bool[np.ndarray, "H W"]]]:
        """Yields the id and the mask of each visible object, in the order of the ids."""
        for object_id in np.unique(self.labels).tolist():
            if object_id:
                yield object_id, self.labels == object_id


@runtime_checkable
class Finished(Protocol):
    """Masks of a whole video, or of all videos of a batch.

    Attributes:
        folder: the folder that they are in.
        name: the name of the video, for formats that keep several.
        classes: the classes of all objects, in the order of their ids; the class of objects without one is last.
        object_ids: all ids, in order.
        frames_per_second: the frame rate of the video; None if unknown.
        reaches_end: whether the last frame is the last of the video, as far as is known: it is not if a run was
            interrupted, or ended at its `--stop`.
    """

    folder: Path
    name: str
    classes: tuple[str, ...]
    object_ids: tuple[int, ...]
    frames_per_second: float | None
    reaches_end: bool

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[FrameMasks]: ...

    @property
    def has_alphas(self) -> bool:
        """Whether the frames have the probabilities of the objects."""
        ...

    def table(self, out: Path) -> Path:
        """Returns table.csv, see `ObjectTable`; a project writes it to `out`. Raises InputError if there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Exporting:
    """The settings of one export.

    Attributes:
        out: an empty folder.
        source: the masks.
        tolerance: pixels by which outlines may differ from the masks.
        stack: closes the opened files.
        with_pictures: whether the pictures of the frames are written too.
    """

    out: Path
    source: Finished
    tolerance: float
    stack: ExitStack
    with_pictures: bool

    def open(self, name: str) -> IO[str]:
        """Returns a new text file."""
        path = self.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return self.stack.enter_context(path.open("w", encoding="utf-8", newline=""))

    def classes(self) -> Categories:
        """Returns the classes of all objects."""
        return Categories({}, self.source.classes)


def open_finished(place: str | Path | Project, stack: ExitStack) -> Finished:
    """Returns the masks of a run, a batch or a project in a folder, or of an open project; the stack closes the files.

    Raises:
        InputError: there are none, or they are damaged.
    """
    if isinstance(place, Project):
        return OfProject(place)
    place = Path(place)
    if (place / "project.json").is_file():
        return OfProject(stack.enter_context(Project(place)))
    report = report_of(place)
    return OfBatch(place, report) if "manifest" in report and "clips" in report else _OfRun(place)


class _OfRun:
    """The output of `segment`: OUT/masks/, with the facts on frames and objects in its report and its table."""

    def __init__(self, out: Path, name: str = "") -> None:
        folder = out / "masks" if (out / "masks").is_dir() else out
        self._paths: list[Path] = label_paths(folder) if folder.is_dir() or folder.is_file() else []
        self._cut_outs: dict[str, dict[int, Path]] = {}
        if not self._paths and folder.is_dir():
            self._cut_outs = cut_outs_in(folder)
        names = [map_name(path) for path in self._paths] or list(self._cut_outs)
        if not names:
            raise InputError(
                f"there are no masks in {str(out)!r}", "give an output folder of segment or batch, or a project"
            )
        is_cut_off, report = (out / CHECKPOINT).is_dir(), report_of(out)
        self.reaches_end = not (is_cut_off or report.get("video_goes_on") is True)
        video = _video_of(report)
        self._of_file, self._suffix = bool(video), _suffix_of(report)
        self.folder, self.name = out, name or video or out.resolve().name
        self.objects: Mapping[int, ObjectInfo] = _infos(report, out)
        rows = frames_of_table(out)
        told = {name: index for name, (index, _) in rows.items()}
        there: Mapping[str, Any] = self._cut_outs or labels_by_name(self._paths, list(rows), list(told.values()))
        may_be_gone = (out / TABLE).is_file()  # the table of a running process may be ahead
        if gone := [name for name in rows if name not in there] if may_be_gone else []:
            logger.warning(
                "%d of the %d frames in %s no longer have a mask, the first is %s: they are left out; track again "
                "(segment --overwrite) to get all",
                *(len(gone), len(rows), out / TABLE, gone[0]),
            )
        if rows and len(rows) == len(self._paths) and all(name in there for name in rows):
            # A label video keeps no names, so the table's are used.
            names, self._paths = list(rows), [there[name] for name in rows]
        elif self._paths:
            told = {map_name(path): told[name] for name, path in there.items() if name in told}
        self._frames = numbered(names, told, out)
        self._leaves_out = False
        if self._cut_outs:
            self._add_empty(TrackedFrames.in_folder(report, Written(out)), {index for index, _ in rows.values()})
        if is_cut_off:
            logger.warning("the run in %s is not complete: exporting its first %d frames", out, len(self))
        self.frames_per_second = frame_rate(rows)
        self._files = file_names_of(self._paths[0].parent) if self._paths and self._paths[0].parent.is_file() else {}
        known = [int(each["id"]) for each in report.get("objects", [])]
        self.object_ids = tuple(sorted({*known, *self.objects} or self._ids()))
        self.classes = _classes(self.infos())

    @property
    def has_alphas(self) -> bool:
        return bool(self._cut_outs)

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[FrameMasks]:
        first = next((path for files in self._cut_outs.values() for path in files.values()), None)
        nothing = np.zeros((0, 0) if first is None else alpha_of(first).shape, np.uint16)
        before = -1
        for at, (index, name) in enumerate(self._frames):
            alphas = {object_id: alpha_of(path) for object_id, path in self._cut_outs.get(name, {}).items()}
            labels: Labels = nothing
            if alphas:
                labels = _labels_of(alphas)
            elif not self._cut_outs:
                labels = read_labels(self._paths[at])
            file_name = self._files.get(name, f"{name}{self._suffix}")
            after_gap = self._leaves_out and index > before + 1
            yield FrameMasks(
                *(index, name, file_name, labels, alphas, self.objects, index),
                of_file=self._of_file,
                after_gap=after_gap,
            )
            before = index

    def _add_empty(self, run: TrackedFrames, tracked: Set[int]) -> None:
        """Adds the frames without objects; if their names are unknown, warns that they are left out.

        Args:
            run: all frames of the run.
            tracked: those with objects, according to its table.
        """
        there, first_name = {index for index, _ in self._frames} | tracked, self._frames[0][1]
        most = 10 ** len(first_name) if first_name.isdecimal() else None  # names have as many digits
        indices = run.indices()
        named = [(index, frame_name(index, most)) for index in indices if index not in there]
        empty = [each for each in named if run.tracked_nothing_in(*each)]
        if self._of_file and indices:
            self._frames = sorted([*self._frames, *empty])
        elif num_left := len(empty) if indices else max(run.count - len(there), 0):
            self._leaves_out = True
            self.reaches_end &= bool(indices) and indices[-1] == self._frames[-1][0]
            logger.warning(
                "%d of the %d frames in %s have no object, and so no cut-outs that state their names: they are left "
                "out; track again with --format png to get all",
                *(num_left, run.count, self.folder),
            )

    def infos(self) -> list[ObjectInfo]:
        """Returns class and name of each object, in the order of the ids."""
        return [self.objects.get(object_id, ObjectInfo()) for object_id in self.object_ids]

    def table(self, out: Path) -> Path:
        if not (self.folder / TABLE).is_file():
            raise InputError(f"there is no {str(self.folder / TABLE)!r}", "give an output folder of segment -o")
        return self.folder / TABLE

    def _ids(self) -> set[int]:
        """Returns the ids in all masks, for a folder without a report."""
        if self._cut_outs:
            return {object_id for files in self._cut_outs.values() for object_id in files}
        return {int(i) for path in self._paths for i in np.unique(read_labels(path)) if i}


class OfProject:
    """The masks stored in a project."""

    has_alphas = False
    reaches_end = True

    def __init__(self, project: Project) -> None:
        self._project = project
        self.folder, self.name = project.folder, project.folder.resolve().name
        infos = {each.id: each.info for each in project.state.objects.values()}
        self.objects: Mapping[int, ObjectInfo] = infos
        self.object_ids = tuple(sorted(self.objects))
        self.classes = _classes(self.objects[object_id] for object_id in self.object_ids)
        self.frames_per_second = project.frames.frames_per_second
        self._names = project.frames.file_names

    def __len__(self) -> int:
        return self._project.num_frames

    def __iter__(self) -> Iterator[FrameMasks]:
        for index in range(len(self)):
            file_name = f"{frame_name(index, len(self))}.jpg" if self._names is None else self._names[index]
            labels, of_file = self._project.labels(index).numpy().astype(np.uint16), self._names is None
            name = Path(file_name).stem
            yield FrameMasks(index, name, file_name, labels, {}, self.objects, index, of_file=of_file)

    def table(self, out: Path) -> Path:
        project, ids = self._project, self.object_ids
        sure = {object_id: project.confidence(object_id)["certainty"] for object_id in ids}
        looked_for = {object_id: project.looked_for(object_id) for object_id in ids}
        with MaskWriter(out / TABLE, "table", objects=self.objects) as writer:
            for frame in project.frames.run(0, len(self) - 1):
                labels = project.labels(frame.index)
                marked = project.state.keys_at(frame.index)
                told = tuple(i for i in ids if i in marked or looked_for[i][frame.index])
                known = [1.0 if i in marked else float(sure[i][frame.index]) for i in told]
                probs = [_probable(labels == i, certainty) for i, certainty in zip(told, known, strict=True)]
                background = (labels == 0).float()
                writer.write(Masks(labels, torch.stack([background, *probs]), told, frame.index, frame.name), frame)
        return out / TABLE


class OfBatch:
    """The masks of all complete clips of a batch's last manifest, one clip after another.

    Attributes:
        folders: the folders of the clips, by name.
        videos: the videos of the clips, by name.
        ids_by_clip: the object ids of each clip, in order.
    """

    frames_per_second: float | None = None
    reaches_end = True

    def __init__(self, out: Path, report: Mapping[str, Any]) -> None:
        self.folder, self.name = out, out.resolve().name
        try:
            ended = [(str(each["name"]), str(each["video"]), each["state"]) for each in report["clips"]]
        except (KeyError, TypeError) as error:
            raise InputError(f"{str(out / REPORT)!r} has invalid clips ({error})", "run the batch again") from error
        complete = [(name, video) for name, video, state in ended if state in ("done", "complete")]
        if left := [f"{name} ({state})" for name, _, state in ended if state not in ("done", "complete")]:
            logger.warning("%d of %d clips are left out: %s", len(left), len(ended), ", ".join(left[:20]))
        if others := _complete_in(out) - {name for name, *_ in ended}:
            logger.warning(
                "%s not in the last manifest, %s, and left out: %s; export them one by one, or run a manifest of all",
                counted(len(others), f"complete clip in {out} is", f"complete clips in {out} are"),
                *(report["manifest"], listed(sorted(others), 20)),
            )
        if not complete:
            raise InputError(f"no clip of {str(out)!r} is complete", "run the batch again")
        self.folders = {safe_name(name.replace("/", "-")): out / name for name, _ in complete}
        if len(self.folders) < len(complete):
            raise InputError(f"two clips of {str(out)!r} have the same name with - for /", "rename one of them")
        self.videos = dict(zip(self.folders, (video for _, video in complete), strict=True))
        runs = list(self.runs())
        self._count = sum(map(len, runs))
        self.has_alphas = all(run.has_alphas for run in runs)
        self.ids_by_clip = {run.name: run.object_ids for run in runs}
        self.object_ids = tuple(sorted({object_id for run in runs for object_id in run.object_ids}))
        self.classes = _classes(info for run in runs for info in run.infos())

    def runs(self) -> Iterator[_OfRun]:
        """Yields the masks of each clip, with a name that is safe for files and folders."""
        for name, folder in self.folders.items():
            yield _OfRun(folder, name)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[FrameMasks]:
        number = 0
        for run in self.runs():
            for frame in run:
                yield replace(frame, clip=run.name, number=number)
                number += 1

    def table(self, out: Path) -> Path:
        raise InputError("a table is for one clip", "give the folder of a clip")


def _complete_in(out: Path) -> set[str]:
    """Returns the names of the complete clips in the folder of a batch, of whatever manifest."""
    folders = [path.parent for path in out.rglob(REPORT) if path.parent != out]
    complete = [each for each in folders if report_of(each).get("complete") is True and (each / "masks").is_dir()]
    return {each.relative_to(out).as_posix() for each in complete}


def _probable(mask: Bool[Tensor, "H W"], certainty: float) -> Float[Tensor, "H W"]:
    """Returns probabilities for which `appearance_of` returns this certainty."""
    return mask * certainty if mask.any() else torch.full(mask.shape, 1 - certainty)


def _video_of(report: Mapping[str, Any]) -> str:
    """Returns the name of the video file in a report, without its suffix; empty if there is none."""
    told = str(settings_of(report).get("video", ""))
    name = Path(told.partition(", sha256 ")[0])
    return safe_name(name.stem) if name.suffix.lower() in VIDEO_SUFFIXES else ""


def _suffix_of(report: Mapping[str, Any]) -> str:
    """Returns the suffix for pictures of a video: that of its own pictures if the report has it, otherwise .jpg."""
    source = report.get("source")
    suffix = source.get("suffix") if isinstance(source, dict) else None
    return suffix if isinstance(suffix, str) and suffix.lower() in IMAGE_SUFFIXES else ".jpg"


def _classes(infos: Iterable[ObjectInfo]) -> tuple[str, ...]:
    """Returns the classes of objects, each once; the class of objects without one is last."""
    found = dict.fromkeys(info.category for info in infos)
    return (*filter(None, found), *([OBJECT] if "" in found else []))


def _infos(report: Mapping[str, Any], out: Path) -> dict[int, ObjectInfo]:
    try:
        told = {int(each["id"]): ObjectInfo(each["category"], each["name"]) for each in report.get("objects", [])}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{str(out / REPORT)!r} has invalid objects ({error})", "restore it, or remove it") from error
    return {object_id: info for object_id, info in told.items() if info != ObjectInfo()}


def _labels_of(alphas: Mapping[int, UInt8[np.ndarray, "H W"]]) -> Labels:
    """Returns the id with the largest probability at each pixel; the background has 1 minus the sum of the objects'."""
    ids = np.array([0, *alphas], np.uint16)
    stacked = np.stack([each.astype(np.int32) for each in alphas.values()])
    labels: Labels = ids[np.concatenate(((255 - stacked.sum(0))[None], stacked)).argmax(0)]
    return labels
