"""Rendering videos from the stored masks of a run, with other edges or backgrounds, without tracking again."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float32

from mnemask.errors import FrameError, InputError, MaskError, OutputError
from mnemask.io import MaskWriter, ReaderEvents, VideoReader
from mnemask.io.atomic import partial_file, remove_left_overs
from mnemask.io.edges import masks_of, soft_masks
from mnemask.io.frame_files import image_files
from mnemask.io.image_formats import alpha_of, cut_outs_in
from mnemask.io.label_files import label_paths, labels_by_name, map_name, read_labels
from mnemask.io.lock import OutputLock
from mnemask.io.reader import Position
from mnemask.io.sources import of_content
from mnemask.io.writer import MASK_FORMATS
from mnemask.io.written import Written, first_same
from mnemask.pipeline.places import REPORT, VideoOutputs
from mnemask.pipeline.run import StopError
from mnemask.types import Frame, Masks, frame_name, index_of_name, is_whole

logger = logging.getLogger(__name__)

# Largest relative difference in aspect ratio between a video and a scaled copy of it with rounded sides.
_MOST_STRETCHED = 0.02


class StoredMasks:
    """The masks in a run's folder, frame by frame.

    Label maps get a soft edge of one pixel; RGBA cut-outs keep the soft edge from the network. Masks of a smaller copy
    of the video are scaled to its frames.

    Args:
        out: the folder of the run; its masks are in `out/masks`.
        names: names of all frames, if known in advance.
        written: record of what runs wrote in `out`; None to load it.

    Raises:
        MaskError: there are no masks.
    """

    def __init__(self, out: Path, names: list[str] | None, written: Written | None = None) -> None:
        self._folder = out / "masks"
        self._cut_outs = cut_outs_in(self._folder)
        paths = [] if self._cut_outs else label_paths(self._folder)
        if not paths and not self._cut_outs:
            raise MaskError(f"there are no masks in {str(self._folder)!r}", "give the folder that `segment` wrote to")
        self._paths = (
            labels_by_name(paths, names, range(len(names))) if names else {map_name(path): path for path in paths}
        )
        stored = self._cut_outs if self._cut_outs else self._paths
        # If frames have the names of masks, a number is also a name, not an index in the video.
        by_name = bool(names) and not stored.keys().isdisjoint(names or ())
        self._stored, self._numbered = stored.keys(), {} if by_name else {index_of_name(name): name for name in stored}
        report = report_of(out)
        is_complete = bool(self._cut_outs) and report.get("complete") is True
        self._run = TrackedFrames.in_folder(report, written or Written(out)) if is_complete else None
        self._ids: dict[int, None] = {}
        self._scaled = False

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The object ids so far."""
        return tuple(self._ids)

    def of(self, frame: Frame) -> Masks:
        """Returns the masks of a frame; raises MaskError if there are none, or their shape does not fit."""
        if self._cut_outs:
            return self._of_cut_outs(frame)
        name = self._name_of(frame)
        if name is None:
            raise self._missing(frame)
        labels = read_labels(self._paths[name]).astype(np.int32)
        self._check_shape(labels.shape, frame)
        self._ids |= dict.fromkeys(int(object_id) for object_id in np.unique(labels) if object_id)
        masks = soft_masks(labels, self.object_ids, frame.index, frame.name)
        return masks if labels.shape == frame.size else self._masks(list(masks.probs[1:].numpy()), frame)

    def _name_of(self, frame: Frame) -> str | None:
        """Returns the name under which the masks of a frame are stored; None if there are none."""
        return frame.name if frame.name in self._stored else self._numbered.get(frame.index)

    def _of_cut_outs(self, frame: Frame) -> Masks:
        name = self._name_of(frame)
        if name is None and (self._run is None or not self._run.tracked_nothing_in(frame.index, frame.name)):
            raise self._missing(frame)
        alphas = {} if name is None else {i: alpha_of(path) for i, path in self._cut_outs[name].items()}
        for alpha in alphas.values():
            self._check_shape(alpha.shape, frame)
        self._ids |= dict.fromkeys(alphas)
        empty = np.zeros(frame.size, np.uint8)
        return self._masks([(alphas.get(i, empty) / 255).astype(np.float32) for i in self._ids], frame)

    def _masks(self, alphas: Sequence[Float32[np.ndarray, "_ _"]], frame: Frame) -> Masks:
        height, width = frame.size
        fitted = np.zeros((len(alphas), height, width), np.float32)
        for target, alpha in zip(fitted, alphas, strict=True):
            target[:] = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_LINEAR)
        empty = torch.zeros((height, width), dtype=torch.int32)
        ids = self.object_ids
        return masks_of(fitted, Masks(empty, torch.ones((1, height, width)), ids, frame.index, frame.name))

    def _missing(self, frame: Frame) -> MaskError:
        return MaskError(
            f"{str(self._folder)!r} has no mask of frame {frame.index} ({frame.name})",
            "finish the run first (--resume), or select the frames that have one (--start, --stop)",
        )

    def _check_shape(self, size: tuple[int, ...], frame: Frame) -> None:
        """Raises MaskError if masks do not have the aspect ratio of a frame; warns once if they are scaled."""
        (height, width), (rows, columns) = size, frame.size
        if (height, width) == (rows, columns):
            return
        sizes = f"masks in {str(self._folder)!r} are {width}x{height} pixels and the video is {columns}x{rows}"
        if abs(width * rows / (height * columns) - 1) > _MOST_STRETCHED:
            raise MaskError(sizes, "give the video that they were made from, or one with its aspect ratio")
        if not self._scaled:
            logger.warning("%s: they are scaled", sizes)
        self._scaled = True


@dataclass(frozen=True, slots=True)
class TrackedFrames:
    """The frames of a run: in one of them without cut-outs, no object was tracked.

    Attributes:
        start: the first frame; None if it is unknown.
        stop: the frame that the run stopped before; None for the end.
        count: how many it tracked; 0 if that is unknown.
        left_out: those that it did not get, such as damaged ones; None if not all of them are known.
        gone: names of cut-outs that it wrote but that no longer exist.
    """

    start: Position | None
    stop: Position | None
    count: int
    left_out: frozenset[int] | None
    gone: frozenset[str]

    @classmethod
    def in_folder(cls, report: Mapping[str, Any], written: Written) -> "TrackedFrames":
        """Returns those of the run in a folder with this report."""
        start, stop = (settings_of(report).get(name) for name in ("start", "stop"))
        frames = report.get("frames")
        return cls(
            None if start is None else Position.of(str(start)),
            None if stop is None else Position.of(str(stop)),
            frames if is_whole(frames) else 0,
            _left_out(report),
            frozenset(path.stem for path in written.missing() if path.suffix == ".png"),
        )

    def tracked_nothing_in(self, index: int, name: str) -> bool:
        """Returns whether a frame without cut-outs belongs to the run; range limits given as times are ignored."""
        first = 0 if self.start is None else self.start.frame or 0
        end = None if self.stop is None else self.stop.frame
        in_range = first <= index and (end is None or index < end)
        return in_range and not self.gone & {name, frame_name(index)}

    def indices(self) -> list[int]:
        """Returns their indices; none if these are unknown, as after a start given as a time."""
        if self.start is None or self.start.frame is None or self.left_out is None:
            return []
        return list(islice((i for i in count(self.start.frame) if i not in self.left_out), self.count))


def _left_out(report: Mapping[str, Any]) -> frozenset[int] | None:
    """Returns the frames that a run did not get; None if its report does not list all of them, or is malformed."""
    try:
        events = ReaderEvents.from_dict(report.get("video") or {})
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    frames = {*events.skipped.frames, *events.dropped.frames}
    return frozenset(frames) if len(frames) == events.skipped.count + events.dropped.count else None


def report_of(out: Path) -> Mapping[str, Any]:
    """Returns the report of the run in a folder; empty if there is none."""
    try:
        return dict(json.loads((out / REPORT).read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def settings_of(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the settings in a report; empty if there are none, or they are malformed."""
    told = report.get("settings")
    return told if isinstance(told, Mapping) else {}


def masks_among(video: str | Path, report: Mapping[str, Any]) -> list[Path]:
    """Returns the images in a folder or pattern that are not frames: those that the run of a report had as masks."""
    settings = settings_of(report)
    masks, later = (each if isinstance(each, list) else [] for each in (settings.get("mask"), settings.get("at")))
    told = {*map(str, masks), *(str(each).partition("=")[2] for each in later)} - {""}
    if not told:
        return []
    names = {each.rpartition(", sha256 ")[0] for each in told}
    try:
        return [path for path in image_files(Path(video)) if path.name in names and of_content(path) in told]
    except (FrameError, OSError):
        return []  # reading the video reports the error


def _ids_of(report: Mapping[str, Any]) -> tuple[int, ...]:
    """Returns the ids of the objects in a report; empty if they are malformed."""
    try:
        return tuple(int(each["id"]) for each in report.get("objects") or ())
    except (KeyError, TypeError, ValueError, OverflowError):
        return ()


def render(
    frames: VideoReader,
    out: str | Path,
    videos: VideoOutputs,
    *,
    overwrite: bool = False,
    inputs: tuple[Path, ...] = (),
    stop: Callable[[], str | None] = lambda: None,
    on_frame: Callable[[int], None] = lambda frame: None,
) -> dict[str, Path]:
    """Renders videos from the masks in `out/masks` and the frames that they belong to; returns their paths by kind.

    They are written to `out`, each under its final name only when complete, with the same code as those of `segment`.
    After an interruption, start over: the result has the same bytes.

    Args:
        frames: a reader with `originals`.
        out: the folder of a run.
        videos: the videos to write.
        overwrite: whether videos of an earlier run or rendering may be replaced; foreign files never are.
        inputs: files that are read and must not be written to.
        stop: called after the last frame, which comes early from an interrupted reader; a reason that it returns raises
            StopError, and the unfinished videos become NAME.partial.
        on_frame: called with the number of frames so far.

    Raises:
        InputError: no video is requested, or a mask is missing or does not fit.
        OutputError: `out` is in use, or a video already exists.
        StopError: `stop` returned a reason.
    """
    out = Path(out)
    targets = videos.places(out)
    if not targets:
        raise InputError("no video is requested", "choose one to write, such as --as prores")
    with OutputLock(out):
        written = Written(out)
        _free(written, targets, overwrite, inputs)
        if known := _ids_of(report_of(out)):
            videos.cutout.refuse_unknown(known)
        remove_left_overs(out, below=False)
        names = None if frames.files is None else [path.stem for path in frames.files]
        stored = StoredMasks(out, names, written)
        with ExitStack() as stack:
            writers = [stack.enter_context(each) for each in _writers(frames, targets, videos, written)]
            for number, frame in enumerate(frames, 1):
                masks = stored.of(frame)
                for writer in writers:
                    writer.write(masks, frame)
                on_frame(number)
            if reason := stop():  # which also ends the reading
                raise StopError(reason)
            videos.cutout.refuse_unknown(stored.object_ids)  # before any video gets its final name
    return targets


def _free(written: Written, targets: Mapping[str, Path], overwrite: bool, inputs: tuple[Path, ...]) -> None:
    """Raises OutputError unless the videos may be written; removes what a killed rendering left of them."""
    if found := first_same(inputs, list(targets.values())):
        raise OutputError(f"{str(found[0])!r} is an input and would be replaced", "copy it elsewhere and give the copy")
    written.refuse_foreign(*targets.values(), *map(partial_file, targets.values()))
    growing = [
        partial_file(path).with_suffix(f".0.{getattr(MASK_FORMATS[kind], 'growing_suffix', 'nut')}")
        for kind, path in targets.items()
    ]
    written.refuse_foreign(*growing)
    # Videos that a killed rendering gave their final names before it could do so for all.
    left = {path for file in growing if written.owns(file) for path in written.since(file)}
    there = [path for path in targets.values() if path.exists() and path not in left]
    if there and not overwrite:
        raise OutputError(f"{str(there[0])!r} already exists", "move it, or replace it (--overwrite)")
    written.remove(*growing)


def _writers(
    frames: VideoReader, targets: Mapping[str, Path], videos: VideoOutputs, written: Written
) -> Iterator[MaskWriter]:
    for kind, path in targets.items():
        yield MaskWriter(
            path,
            kind,
            frames_per_second=videos.frames_per_second or 25.0,
            written=written,
            footage=frames.facts.footage,
            cutout=videos.cutout,
        )
