"""The paths that a run writes to, checked before its first frame."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mnemask.choices import VIDEO_FORMAT_NAMES
from mnemask.errors import InputError, MaskError, OutputError
from mnemask.io.atomic import partial_file
from mnemask.io.edges import Cutout
from mnemask.io.label_files import file_of
from mnemask.io.lock import LOCK
from mnemask.io.parquet import parts_in
from mnemask.io.table import TABLE
from mnemask.io.writer import MASK_FORMATS
from mnemask.io.written import INDEX, PREVIEW, Written, first_same, foreign
from mnemask.pipeline.expected import Expected
from mnemask.pipeline.mask_names import folded, probe_names
from mnemask.prompts.mask_folder import mask_files
from mnemask.types import index_of_name

CHECKPOINT, REPORT = "checkpoint", "report.json"


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
            probe_names(names, self.out, self.masks)

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
        wanted = None if names is None else {folded(name) for name in names}
        per_object = MASK_FORMATS[self.mask_format].per_object
        pattern = "*/*.png" if per_object else "*.png"
        for path in self.masks.glob(pattern):
            stem = path.name[: -len(".png")]
            if per_object and not path.parent.name.isdecimal():
                continue
            if folded(stem) in wanted if wanted is not None else _is_index(stem, start):
                yield path


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


def _is_index(name: str, start: int) -> bool:
    """Returns whether `name` is that of an unnamed frame with index `start` or higher."""
    index = index_of_name(name)
    return index is not None and index >= start


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
