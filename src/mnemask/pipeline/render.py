"""Videos made afterwards of masks that a run left: other edges, another background, without tracking again."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float32

from mnemask.errors import FrameError, InputError, MaskError, OutputError
from mnemask.io import MaskWriter, VideoReader
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
from mnemask.types import Frame, Masks, frame_name, index_of_name

logger = logging.getLogger(__name__)

# Between a video and a copy of it with rounded sides.
_MOST_STRETCHED = 0.02


class StoredMasks:
    """The masks of a run's folder, frame by frame.

    Label maps get a soft edge of one pixel; RGBA cut-outs have the soft edge that the network gave them. Masks of a
    smaller copy of the video are scaled to its frames.

    Args:
        out: the folder of the run; its masks are in `out/masks`.
        names: of all frames, where they are known beforehand.
        written: what runs wrote in `out`; None to look there.

    Raises:
        MaskError: there are none.
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
        # Where frames have the names of masks, a mask's number is a name too, and no place in the video.
        by_name = bool(names) and not stored.keys().isdisjoint(names or ())
        self._stored, self._numbered = stored.keys(), {} if by_name else {index_of_name(name): name for name in stored}
        self._run = _CompleteRun.in_folder(out, written or Written(out)) if self._cut_outs else None
        self._ids: dict[int, None] = {}
        self._scaled = False

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The ids so far."""
        return tuple(self._ids)

    def of(self, frame: Frame) -> Masks:
        """Returns the masks of a frame; raises MaskError where there are none, or of another size."""
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
        """Returns the name under which there are masks of a frame; None where there are none."""
        return frame.name if frame.name in self._stored else self._numbered.get(frame.index)

    def _of_cut_outs(self, frame: Frame) -> Masks:
        name = self._name_of(frame)
        if name is None and (self._run is None or not self._run.tracked_nothing_in(frame)):
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
            "finish the run first (--resume), or give the frames that have one (--start, --stop)",
        )

    def _check_shape(self, size: tuple[int, ...], frame: Frame) -> None:
        """Raises MaskError where masks have another shape than a frame, and says once where they are scaled."""
        (height, width), (rows, columns) = size, frame.size
        if (height, width) == (rows, columns):
            return
        sizes = f"masks in {str(self._folder)!r} are {width}x{height} pixels and the video is {columns}x{rows}"
        if abs(width * rows / (height * columns) - 1) > _MOST_STRETCHED:
            raise MaskError(sizes, "give the video that they were made from, or one of its shape")
        if not self._scaled:
            logger.warning("%s: they are scaled", sizes)
        self._scaled = True


@dataclass(frozen=True, slots=True)
class _CompleteRun:
    """A run that came to its end: a frame of it without cut-outs is one in which no object is tracked.

    Attributes:
        start: its first frame.
        stop: the frame that it stopped before; None for the end.
        gone: names of cut-outs that it wrote, and that are no longer there.
    """

    start: Position
    stop: Position | None
    gone: frozenset[str]

    @classmethod
    def in_folder(cls, out: Path, written: Written) -> "_CompleteRun | None":
        """Returns the complete run that a folder holds; None where there is none."""
        report = report_of(out)
        if report.get("complete") is not True:
            return None
        start, stop = (settings_of(report).get(name) for name in ("start", "stop"))
        gone = frozenset(path.stem for path in written.missing() if path.suffix == ".png")
        return cls(Position.of(str(start or "0")), None if stop is None else Position.of(str(stop)), gone)

    def tracked_nothing_in(self, frame: Frame) -> bool:
        """Returns whether a frame without cut-outs is of the run; of a range by times it is taken to be."""
        first, end = self.start.frame or 0, None if self.stop is None else self.stop.frame
        in_range = first <= frame.index and (end is None or frame.index < end)
        return in_range and not self.gone & {frame.name, frame_name(frame.index)}


def report_of(out: Path) -> Mapping[str, Any]:
    """Returns the report of the run that a folder holds; nothing where there is none."""
    try:
        return dict(json.loads((out / REPORT).read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def settings_of(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the settings that a report tells; nothing where it tells none, or garbles them."""
    told = report.get("settings")
    return told if isinstance(told, Mapping) else {}


def masks_among(video: str | Path, report: Mapping[str, Any]) -> list[Path]:
    """Returns the images in a folder or pattern that the run of a report was given as masks, and are no frames."""
    settings = settings_of(report)
    masks, later = (each if isinstance(each, list) else [] for each in (settings.get("mask"), settings.get("at")))
    told = {*map(str, masks), *(str(each).partition("=")[2] for each in later)} - {""}
    if not told:
        return []
    names = {each.rpartition(", sha256 ")[0] for each in told}
    try:
        return [path for path in image_files(Path(video)) if path.name in names and of_content(path) in told]
    except (FrameError, OSError):
        return []  # whoever reads the video says what is wrong


def _ids_of(report: Mapping[str, Any]) -> tuple[int, ...]:
    """Returns the ids of the objects that a report tells; none where it garbles them."""
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
    """Returns the videos made of the masks in `out/masks` and of the frames that they belong to, by kind.

    They are written beside the masks, each under its name when it is whole, with the same code as those of `segment`.
    Where it is cut off, begin again: it gives the same bytes.

    Args:
        frames: from a reader with `originals`.
        out: the folder of a run.
        videos: what to write.
        overwrite: whether videos of an earlier run or rendering may be replaced; files of others never are.
        inputs: files that are read, and must not be written to.
        stop: is asked after the last frame, which an interrupted reader gives early; what it returns is the reason, and
            what there is becomes NAME.partial.
        on_frame: is called with the number of frames so far.

    Raises:
        InputError: nothing is asked for, or a mask is missing or of another size.
        OutputError: `out` is in use, or a video is there already.
        StopError: `stop` ended it.
    """
    out = Path(out)
    targets = videos.places(out)
    if not targets:
        raise InputError("no video is asked for", "say which to write, such as --as prores")
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
            if reason := stop():  # which ends the reading
                raise StopError(reason)
            videos.cutout.refuse_unknown(stored.object_ids)  # before anything gets its name
    return targets


def _free(written: Written, targets: Mapping[str, Path], overwrite: bool, inputs: tuple[Path, ...]) -> None:
    """Raises OutputError unless the videos may be written; removes what a killed rendering left of them."""
    if found := first_same(inputs, list(targets.values())):
        raise OutputError(f"{str(found[0])!r} is read, and would be replaced", "copy it elsewhere, and give that")
    written.refuse_foreign(*targets.values(), *map(partial_file, targets.values()))
    growing = [
        partial_file(path).with_suffix(f".0.{getattr(MASK_FORMATS[kind], 'growing_suffix', 'nut')}")
        for kind, path in targets.items()
    ]
    written.refuse_foreign(*growing)
    # What a killed rendering named before it could name them all.
    left = {path for file in growing if written.owns(file) for path in written.since(file)}
    there = [path for path in targets.values() if path.exists() and path not in left]
    if there and not overwrite:
        raise OutputError(f"{str(there[0])!r} exists already", "move it, or replace it (--overwrite)")
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
