"""The paths that a run writes to, checked before its first frame."""

import os
import re
import shutil
import unicodedata
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from mnemask.choices import VIDEO_FORMAT_NAMES
from mnemask.errors import InputError, MaskError, OutputError
from mnemask.io.atomic import make_folder, partial_file, safe_name
from mnemask.io.edges import Cutout
from mnemask.io.footage import Footage
from mnemask.io.label_files import file_of
from mnemask.io.lock import LOCK
from mnemask.io.parquet import parts_in
from mnemask.io.reader import Position, VideoReader
from mnemask.io.stream import frames_before, most_frames
from mnemask.io.table import TABLE
from mnemask.io.writer import MASK_FORMATS
from mnemask.io.written import INDEX, PREVIEW, Written, first_same, foreign
from mnemask.prompts.mask_folder import mask_files
from mnemask.prompts.plan import beyond_the_end
from mnemask.types import frame_name, index_of_name

CHECKPOINT, REPORT = "checkpoint", "report.json"
_PLAIN_NAME = re.compile(r"[\w.\-]{1,100}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known of a video before it is read.

    Attributes:
        num_frames: index before which the run stops at the latest, according to the source; None if unknown.
        total: number of all frames, likewise; it sets the number of digits in frames' names.
        counted: whether these numbers are exact, not estimates.
        files: files of the frames, if each is one.
        footage: properties of the video that output videos keep.
        ahead: approximate number of frames that the run will read; None if unknown.
        stop: the frame or time to stop before, as given; None for the end.
    """

    num_frames: int | None = None
    total: int | None = None
    counted: bool = False
    files: Sequence[Path] | None = None
    footage: Footage = Footage()
    ahead: int | None = None
    stop: str | None = None

    @classmethod
    def of(cls, reader: VideoReader | None) -> "Expected":
        """Returns what a reader knows before reading; nothing without a reader."""
        if reader is None:
            return cls()
        known = reader.last, reader.total, reader.counted, reader.files, reader.facts.footage
        return cls(*known, reader.num_frames, reader.stop)

    @property
    def file_names(self) -> list[str] | None:
        """Names of the frames' files; None if they are not files."""
        return None if self.files is None else [path.name for path in self.files]

    def names(self, start: int) -> list[str] | None:
        """Returns the names of the output files from frame `start` on; None if they are unknown."""
        if self.files is not None:
            return [safe_name(path.stem) for path in self.files[start : self.num_frames]]
        if self.num_frames is None:
            return None
        return [frame_name(index, self.total) for index in range(start, self.num_frames)]

    def refuse_beyond(self, frames: Iterable[int], refusal: Callable[..., InputError] = beyond_the_end) -> None:
        """Raises InputError if one of the frames, by default of given masks, is not in the video.

        Args:
            frames: the frames.
            refusal: returns the error for a frame; see `beyond_the_end` for its arguments.
        """
        about, stop = self.num_frames or 0, None if self.stop is None else Position.of(self.stop)
        is_uneven = stop is not None and stop.seconds is not None and self.footage.rate is None
        sure = about if self.counted else 1 if is_uneven else max(about * 9 // 10 - 2, 1)
        doubtful = [frame for frame in frames if frame >= sure]
        if not doubtful:
            return
        if stop is not None and (end := self._end_of_part(stop, max(doubtful) + 1)) is not None:
            if beyond := [frame for frame in doubtful if frame >= end]:
                raise refusal(min(beyond), end, stop=self.stop)
            if stop.seconds is not None:
                return  # the estimate made from a time says less
        most = self._most()
        if most is not None and (beyond := [frame for frame in doubtful if frame >= most]):
            is_part = self.num_frames is not None and self.num_frames != self.total
            raise refusal(min(beyond), about or most, about=most != about, stop=self.stop if is_part else None)

    def _end_of_part(self, stop: Position, enough: int) -> int | None:
        """Returns the frame that reading stops before; None if that is a time, and packets do not tell its frame.

        For a time, it is not looked for beyond frame `enough`.
        """
        if stop.seconds is None or self.footage.path is None:
            return stop.frame
        return frames_before(self.footage.path, partial(stop.is_reached, 0), enough)

    def _most(self) -> int | None:
        """Returns the maximum number of frames; a file that does not state it is scanned."""
        if self.counted:
            return self.num_frames
        # A length computed from a duration may be slightly wrong.
        limits = [] if self.num_frames is None else [self.num_frames + 2 + self.num_frames // 10]
        found = None if self.footage.path is None else most_frames(self.footage.path)
        return min((*limits, *([] if found is None else [found])), default=None)


@dataclass(frozen=True, slots=True)
class VideoOutputs:
    """The videos that a run writes in addition to its masks.

    Attributes:
        kinds: the formats: "overlay", "prores", "webm", "matte", "green"; see `MaskWriter`.
        cutout: how objects are cut out. Its edges change these videos and RGBA cut-outs, never label masks.
        frames_per_second: frame rate for frames without times, as in a folder of images; None for 25.
    """

    kinds: tuple[str, ...] = ()
    cutout: Cutout = Cutout()
    frames_per_second: float | None = None

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in VIDEO_FORMAT_NAMES:
                raise InputError(f"there is no video format {kind!r}", f"choose one of {', '.join(VIDEO_FORMAT_NAMES)}")

    def with_overlay(self, wanted: bool) -> "VideoOutputs":
        """Returns these videos and, if wanted, the overlay."""
        return replace(self, kinds=tuple(dict.fromkeys((*self.kinds, *["overlay"] * wanted))))

    def at_rate_of(self, settings: Mapping[str, Any]) -> "VideoOutputs":
        """Returns these videos, by default at the frame rate in the settings of a run."""
        told = settings.get("fps")
        if self.frames_per_second is not None or not isinstance(told, int | float) or not 0.01 <= told <= 1000:
            return self
        return replace(self, frames_per_second=float(told))

    @property
    def originals(self) -> bool:
        """Whether the reader should also give frames as stored (`Frame.ycbcr`)."""
        return any(kind != "overlay" for kind in self.kinds)

    def to_dict(self) -> dict[str, Any]:
        """Returns the values that differ from the defaults, in JSON types."""
        told, usual = (
            {
                "as": list(videos.kinds),
                "only": list(videos.cutout.objects),
                "background": list(videos.cutout.background),
                "fps": videos.frames_per_second,
                **asdict(videos.cutout.edges),
            }
            for videos in (self, VideoOutputs())
        )
        return {name: value for name, value in told.items() if value != usual[name]}

    def refuse_idle(self, mask_format: str, timed: bool) -> None:
        """Raises InputError for options that would have no effect.

        Args:
            mask_format: format of the masks.
            timed: whether frames have times.
        """
        if (
            self.cutout != Cutout()
            and not self.kinds
            and not (mask_format == "rgba" and self.cutout == Cutout(edges=self.cutout.edges))
        ):
            raise InputError(
                "edges, --only and --background apply to videos for editors, but none is requested",
                "request one (--as prores), or leave these options out",
            )
        if self.cutout.background != Cutout().background and "green" not in self.kinds:
            raise InputError("--background applies only to a green screen", "request one (--as green), or leave it out")
        refuse_own_rate(self.frames_per_second, timed)

    def places(self, out: Path) -> dict[str, Path]:
        """Returns the path of each kind."""
        return {kind: out / str(MASK_FORMATS[kind].single_file) for kind in self.kinds}


def refuse_own_rate(frames_per_second: float | None, timed: bool) -> None:
    """Raises InputError if a frame rate is given for frames that have times."""
    if timed and frames_per_second is not None:
        raise InputError("a video has its own frame times", "leave out --fps, which is for folders of images")


@dataclass(frozen=True, slots=True)
class Places:
    """All paths that a run writes to.

    Attributes:
        out: the run's folder.
        mask_format: format of the masks.
        videos: videos written in addition to the masks.
        preview: whether a preview is written.
        trace: path of the memory trace, or None.
        inputs: files that the run reads, other than the frames of a folder.
        expected: what is known about the video.
        told: whether a table and a report are written.
    """

    out: Path
    mask_format: str
    videos: VideoOutputs = VideoOutputs()
    preview: bool = False
    trace: Path | None = None
    inputs: Sequence[Path] = ()
    expected: Expected = field(default_factory=Expected)
    told: bool = True

    @property
    def masks(self) -> Path:
        """The folder of the masks."""
        return self.out / "masks"

    @property
    def own_trace(self) -> Path | None:
        """The trace, if it is in the run's folder; else None."""
        return self.trace if self.trace is not None and self.out in self.trace.parents else None

    def single_files(self) -> list[Path]:
        """Returns all files except those written for each frame."""
        single = MASK_FORMATS[self.mask_format].single_file
        videos = [] if single is None else [self.masks / single]
        kinds = [] if single is None else [self.mask_format]
        videos += self.videos.places(self.out).values()
        kinds += self.videos.kinds
        told = [self.out / TABLE, self.out / REPORT] if self.told else []
        unfinished = [partial_file(path) for path in (*videos, *told[:1])]
        for path, kind in zip(videos, kinds, strict=True):
            if suffix := getattr(MASK_FORMATS[kind], "growing_suffix", None):
                unfinished.append(partial_file(path).with_suffix(f".0.{suffix}"))
        if single is not None and single.endswith(".json"):
            unfinished += [partial_file(videos[0]).with_suffix(f".{part}") for part in ("annotations", "images")]
        return [*videos, *unfinished, *told, *[self.out / PREVIEW] * self.preview]

    def check(self, written: Written, start: int = 0) -> None:
        """Raises OutputError unless each path is free or an earlier run's, and can be written to.

        Also raises OutputError or MissingExtraError if something that a format needs is not installed.

        Args:
            written: record of what earlier runs wrote there.
            start: the first frame that will be written.
        """
        for folder in (self.out, self.masks):
            if os.path.lexists(folder) and not folder.is_dir():
                raise foreign(folder)
        checkpoint = self.out / CHECKPOINT
        if os.path.lexists(checkpoint) and not written.claims(checkpoint):
            raise foreign(checkpoint)
        is_images = MASK_FORMATS[self.mask_format].single_file is None
        names = self.expected.names(start) if is_images else []
        for kind in (self.mask_format, *self.videos.kinds):
            MASK_FORMATS[kind].check()
        self._refuse_inputs(written)
        self._check_trace()
        parts = parts_in(self.masks) if self.mask_format == "parquet" else []
        images = list(self._images_in_the_way(names, start)) if is_images else []
        for files in (self.single_files(), parts, images):
            if written.claims(checkpoint):
                written.take_empty(*files)
            written.refuse_foreign(*files)
        if names:
            self._probe(names)

    def _refuse_inputs(self, written: Written) -> None:
        """Raises OutputError if this run would write over an input, or remove one that an earlier run wrote."""
        frames = self.expected.files or ()
        folders = {path.parent for path in frames}
        if MASK_FORMATS[self.mask_format].single_file is None and self._writes_into(folders):
            raise OutputError(
                f"the masks would be written among the frames in {str(self.masks)!r}", "give another folder"
            )
        inputs = [file_of(path) for path in self.inputs]
        given = {path for path in inputs if path.is_dir()} - folders
        if self._writes_into(given):
            raise OutputError(
                f"the masks would be written among those in {str(self.masks)!r}, which are read by this run",
                "give another folder",
            )
        files = [*(path for path in inputs if path.is_file()), *frames]
        for folder in given:
            with suppress(MaskError):  # reported when they are read
                files += mask_files(folder)
        ours = [*self.single_files(), *written.files(), *(self.out / CHECKPOINT).glob("*")]
        if found := first_same(files, ours):
            raise OutputError(
                f"{str(found[0])!r} is read by this run, which would replace or remove it",
                "give another folder, or copy the file elsewhere",
            )

    def _writes_into(self, folders: Collection[Path]) -> bool:
        """Returns whether masks go into one of these folders."""
        per_object = MASK_FORMATS[self.mask_format].per_object
        above = [path.parent for path in folders if per_object and path.name.isdecimal()]
        return any(_same(folder, self.masks) for folder in (*folders, *above))

    def _check_trace(self) -> None:
        """Raises OutputError if the trace has the path of another file of the run, or its folder is missing."""
        trace = self.trace
        if trace is None:
            return
        if not trace.parent.is_dir():
            raise OutputError(
                f"there is no folder {str(trace.parent)!r} for the trace", "create it, or give another path"
            )
        if found := first_same([trace], [path for path in map(file_of, self.inputs) if path.is_file()]):
            raise OutputError(f"trace {str(trace)!r} is read by this run ({found[1]})", "give another file")
        place = trace.parent.resolve() / trace.name
        out = self.out.resolve()
        taken = {out / path.relative_to(self.out) for path in self.single_files()} | {out / LOCK, out / INDEX}
        if place in taken or {out / "masks", out / CHECKPOINT} & set(place.parents):
            raise OutputError(f"trace {str(trace)!r} has the path of another output of this run", "give another file")

    def _images_in_the_way(self, names: Sequence[str] | None, start: int) -> Iterator[Path]:
        """Yields the existing files whose names this run may use."""
        wanted = None if names is None else {_folded(name) for name in names}
        per_object = MASK_FORMATS[self.mask_format].per_object
        pattern = "*/*.png" if per_object else "*.png"
        for path in self.masks.glob(pattern):
            stem = path.name[: -len(".png")]
            if per_object and not path.parent.name.isdecimal():
                continue
            if _folded(stem) in wanted if wanted is not None else _is_index(stem, start):
                yield path

    def _probe(self, names: Sequence[str]) -> None:
        """Raises OutputError if the file system takes two names for the same, or refuses one."""
        by_key: dict[str, str] = {}
        doubtful = []
        for name in names:
            other = by_key.setdefault(_folded(name), name)
            if other is not name:
                doubtful.append((other, name))
        telling = list(_telling(names))
        if not telling and not doubtful:
            return
        folder = make_folder(self.masks) / f".mnemask-{uuid.uuid4().hex[:12]}"
        try:
            folder.mkdir()
            for one, other in doubtful:
                _touch(folder, one)
                if one == other or (folder / f"{other}.png").exists():
                    raise OutputError(
                        f"frames {one!r} and {other!r} would both write {other}.png here", "rename one of them"
                    )
            for name in telling:  # not before: they may be among the doubtful names
                _touch(folder, name)
        except OSError as error:
            raise OutputError(
                f"{str(self.masks)!r} cannot be written to ({error.strerror})", "give a writable folder"
            ) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            for empty in (self.masks, self.out):
                if not any(empty.iterdir()):
                    empty.rmdir()


def refuse_run(out: Path, written: Written, *, masks: bool = True) -> None:
    """Raises OutputError if a folder holds a run, which other output would replace.

    Args:
        out: the folder.
        written: record of what runs and other commands wrote there.
        masks: whether masks alone count as a run; a project's export has some too.
    """
    found = {path.relative_to(out).parts[0] for path in written.files()}
    of_runs = {REPORT, partial_file(out / TABLE).name, *["masks"] * masks}
    if found & of_runs or written.claims(out / CHECKPOINT):
        raise OutputError(f"{str(out)!r} holds a run", "give another folder")


def _touch(folder: Path, name: str) -> None:
    try:
        (folder / f"{name}.png").touch()
    except OSError as error:
        shown = name if len(name) < 60 else f"{name[:40]}… ({len(name)} characters)"
        raise OutputError(
            f"the file system refuses {shown!r} with .png as a mask's file name ({error.strerror})",
            "rename the frame, or write a single file (--format ffv1 or rle)",
        ) from error


def _telling(names: Sequence[str]) -> Iterator[str]:
    """Yields a few names that stand for all: the longest ones, and one for each unusual character."""
    unusual = [name for name in names if not _PLAIN_NAME.fullmatch(name)]
    if not unusual:
        return
    yield max(unusual, key=lambda name: len(os.fsencode(name)))
    yield max(unusual, key=len)
    seen: set[str] = set()
    for name in unusual:
        if not seen.issuperset(name):
            seen.update(name)
            yield name


def _folded(name: str) -> str:
    """Returns a key that is equal for names that some file systems take for the same."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _is_index(name: str, start: int) -> bool:
    """Returns whether `name` is that of an unnamed frame with index `start` or higher."""
    index = index_of_name(name)
    return index is not None and index >= start


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
