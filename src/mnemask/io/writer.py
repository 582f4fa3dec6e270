"""One writer for every mask format: writes in the background and never leaves half a file under its final name."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Protocol, runtime_checkable

import torch
from av.error import FFmpegError
from torch import Tensor

from mnemask.errors import InputError, OutputError
from mnemask.io.atomic import ResumeState, Writing, make_durable, replacing, require
from mnemask.io.coco import CocoRle
from mnemask.io.cutouts import GreenScreen, Matte, ProRes, WebM
from mnemask.io.edges import Cutout, Edges, Smoother
from mnemask.io.footage import Footage
from mnemask.io.image_formats import PngMasks, RgbaCutouts
from mnemask.io.parquet import ParquetMasks
from mnemask.io.resumable_video import STRETCH
from mnemask.io.table import ObjectTable
from mnemask.io.video_formats import Ffv1Masks, OverlayVideo
from mnemask.io.written import Unlisted, Written
from mnemask.types import MAX_OBJECT_ID, Frame, Masks, ObjectInfo, object_infos

# Two checkpoints are kept, and one more while it is being written.
_KEPT_WINDOWS = 3
# Enough to ride out a slow write; each waiting frame holds its masks in memory.
_MAX_WAITING = 4


@runtime_checkable
class MaskFormat(Protocol):
    """How masks of one format are written to disk.

    Attributes:
        stretch: interval, in frames, at which a later run can resume.
        single_file: name of the file that holds all masks; None for one PNG per frame.
        per_object: whether the size of a frame is proportional to its number of objects.
        bytes_per_pixel: lower limit for masks of real objects; a disk with less free space than that is refused.
    """

    stretch: int
    single_file: ClassVar[str | None]
    per_object: ClassVar[bool]
    bytes_per_pixel: ClassVar[float]

    @classmethod
    def check(cls) -> None:
        """Raises MissingExtraError or OutputError if a package or an encoder that the format needs is missing."""
        ...

    def __init__(self, out: Path, how: Writing) -> None:
        """Takes the folder, or the single file, and how to write there."""
        ...

    def write(self, masks: Masks, frame: Frame | None) -> None:
        """Writes one frame."""
        ...

    def resume_state(self) -> ResumeState:
        """Returns the state from which a later run can resume after the frames so far, which are whole stretches."""
        ...

    def sync(self) -> None:
        """Makes durable what was written before the last `resume_state`: it then survives a loss of power."""
        ...

    def finish(self, *, complete: bool) -> None:
        """Ends the file: under its final name if complete, else as NAME.partial, readable as far as it goes."""
        ...


MASK_FORMATS: Mapping[str, type[MaskFormat]] = {
    "png": PngMasks,
    "ffv1": Ffv1Masks,
    "rgba": RgbaCutouts,
    "rle": CocoRle,
    "parquet": ParquetMasks,
    "overlay": OverlayVideo,
    "prores": ProRes,
    "webm": WebM,
    "matte": Matte,
    "green": GreenScreen,
    "table": ObjectTable,
}


class _Edited:
    """Applies `Edges` before a format writes the masks; smoothing in time delays them by `Edges.delay` frames.

    A later run continues with the waiting frames, which are saved beside the unfinished files.
    """

    def __init__(self, format: MaskFormat, name: str, how: Writing) -> None:
        self._format, self._edges, self._journal = format, how.cutout.edges, how.journal
        # With a delay, a run can resume only where the waiting frames have been saved, which takes time.
        self.stretch = max(format.stretch, STRETCH) if self._edges.delay else format.stretch
        self._name, self._number = f"{name}.partial", 0
        self._synced: deque[int] = deque()
        saved = None
        if how.resume_state is not None and "window" in how.resume_state:
            self._number = int(how.resume_state["window"])
            self._synced.append(self._number)
            path = self._path(self._number)
            require(path, path.is_file(), 1, "files")
            saved = path.read_bytes()
        self._smoother = Smoother(self._edges.smooth, saved) if self._edges.delay else None

    def write(self, masks: Masks, frame: Frame | None) -> None:
        """Takes one frame and writes the one that is due."""
        if self._smoother is None:
            self._format.write(self._edges.apply(masks), frame)
            return
        for smooth, due in self._smoother.add(masks, frame):
            self._format.write(self._edges.apply(smooth), due)

    def resume_state(self) -> ResumeState:
        """Returns the state from which a later run can resume."""
        state = self._format.resume_state()
        if self._smoother is None or self._journal is None:
            return state
        if self._number and self._number not in self._synced:
            self._path(self._number).unlink(missing_ok=True)  # of a state that is in no checkpoint
        self._number += 1
        with replacing(self._path(self._number)) as partial:
            partial.write_bytes(self._smoother.save())
        return {**state, "window": self._number}

    def sync(self) -> None:
        """Makes durable what was written before the last `resume_state`."""
        if self._number and self._number not in self._synced:
            make_durable(self._path(self._number))
            self._synced.append(self._number)
            if len(self._synced) > _KEPT_WINDOWS:
                self._path(self._synced.popleft()).unlink(missing_ok=True)
        self._format.sync()

    def finish(self, *, complete: bool) -> None:
        """Writes the waiting frames, unless one before them is missing or will still come, and ends the file."""
        for smooth, due in self._smoother.flush() if complete and self._smoother else ():
            self._format.write(self._edges.apply(smooth), due)
        self._format.finish(complete=complete)

    def _path(self, number: int) -> Path:
        assert self._journal is not None, "there is a folder for what is unfinished"
        return self._journal / f"{self._name}.{number}.npz"


class MaskWriter:
    """Writes the masks of one video while the next ones are computed.

    ======= =================== =====================================================================
    format  files               what
    ======= =================== =====================================================================
    png     OUT/NAME.png        indexed with the DAVIS palette; 16-bit grey if ids go beyond 255
    ffv1    OUT/masks.mkv       lossless label video at the times of the source
    rgba    OUT/ID/NAME.png     cut-outs with soft alpha; needs the frame
    rle     OUT/masks.json      COCO run-length encoding; needs `mnemask[rle]`
    parquet OUT/masks-*.parquet a file for each hour of video; needs `mnemask[parquet]`
    overlay OUT/overlay.mp4     the video with its masks drawn in; needs the frame
    prores  OUT/cutout.mov      ProRes 4444 with straight alpha; needs the frame
    webm    OUT/cutout.webm     VP9 with straight alpha; needs the frame
    matte   OUT/matte.mp4       white where the objects are; needs the frame
    green   OUT/green.mp4       the objects in front of a plain colour; needs the frame
    table   OUT/table.csv       no masks: where each object is in each frame, and how certain that is
    ======= =================== =====================================================================

    Example:
        >>> import tempfile, torch
        >>> labels = torch.tensor([[0, 1]], dtype=torch.int32)
        >>> masks = Masks(labels, torch.eye(2)[:, None], object_ids=(1,), name="00000")
        >>> with tempfile.TemporaryDirectory() as out:
        ...     with MaskWriter(out) as writer:
        ...         writer.write(masks)
        ...     print([file.name for file in Path(out).iterdir()])
        ['00000.png']

    Args:
        out: the folder, created if missing, or the file.
        format: a key of `MASK_FORMATS`.
        frames_per_second: frame rate of videos whose frames have no times, such as those of a folder of images.
        journal: a folder in which unfinished files stay, even when the writer is closed, so that a later one can
            resume; by default they are beside the output until the writer is closed.
        resume_state: from `resume_state` of an earlier writer with the same journal; what was written after it is
            dropped.
        overwrite: whether existing files may be replaced; those of the run that resume_state is from always may.
        written: index of the files that runs wrote, which then decides what may be replaced.
        largest_id: the largest object id that is known to come; label videos begin with as many bits as it needs.
        file_names: names of the picture files of a folder, by frame, for formats that refer to them.
        objects: classes and names of objects, by id, such as {1: "camel"}, for formats that have classes.
        footage: what videos keep of their source: rate, times, colours, sound; `facts.footage` of a VideoReader.
        cutout: which objects are cut out and how, in formats for editors; its edges change the masks of any format.

    Attributes:
        format: the object that writes the masks in the format.
        stretch: interval, in frames, at which `resume_state` may be called: 1, or 48 where frames are encoded together.

    Raises:
        OutputError: the format is unknown, the place cannot be written to, or the journal is not of the run that
            resume_state is from; errors while writing are raised at the next call.
    """

    def __init__(
        self,
        out: str | Path,
        format: str = "png",
        *,
        frames_per_second: float = 25.0,
        journal: Path | None = None,
        resume_state: ResumeState | None = None,
        overwrite: bool = False,
        written: Written | None = None,
        largest_id: int = 0,
        file_names: Sequence[str] | None = None,
        objects: Mapping[int, ObjectInfo | str] | None = None,
        footage: Footage | None = None,
        cutout: Cutout | None = None,
    ) -> None:
        if format not in MASK_FORMATS:
            raise OutputError(f"there is no mask format {format!r}", f"choose one of {', '.join(MASK_FORMATS)}")
        if not isinstance(frames_per_second, int | float | Fraction) or not 0 < frames_per_second <= 1000:
            raise OutputError(
                f"{frames_per_second!r} frames per second cannot be written", "expected a number up to 1000, such as 25"
            )
        self._out = Path(out)
        files = written or Unlisted(overwrite or resume_state is not None)
        how = Writing(
            files,
            frames_per_second,
            journal,
            resume_state,
            largest_id,
            file_names,
            object_infos(objects),
            footage or Footage(),
            cutout or Cutout(),
        )
        with self._as_output_error():
            plain = MASK_FORMATS[format](self._out, how)
            edited = how.cutout.edges != Edges()
            self.format: MaskFormat | _Edited = _Edited(plain, format, how) if edited else plain
        self.stretch = self.format.stretch
        self._failure: BaseException | None = None
        self._waiting: deque[Future[None]] = deque()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mnemask-writer")
        self._open = True
        self._latest: int | None = None

    def write(self, masks: Masks, frame: Frame | None = None) -> None:
        """Takes one frame, which must not be changed afterwards; waits while four others are not written yet.

        Raises:
            OutputError: an earlier frame could not be written, or the writer is closed.
            InputError: `masks` is not a Masks, its labels are not object ids, or `frame` is not a Frame.
            FrameError: the format needs the frame, or it does not fit the masks (at a later call).
        """
        if not isinstance(masks, Masks) or not isinstance(frame, Frame | None):
            raise InputError(
                f"the writer was given a {type(masks).__name__} and a {type(frame).__name__}",
                "give the Masks of a frame, and the Frame (for a picture, mm.Frame.from_picture(picture, masks.index))",
            )
        self._refuse_closed()
        if masks.index == self._latest:
            raise OutputError(f"frame {masks.index} has already been written", "write each frame once")
        self._latest = masks.index
        while self._waiting and (self._waiting[0].done() or len(self._waiting) >= _MAX_WAITING):
            self._waiting.popleft().result()
        self._waiting.append(self._executor.submit(self._write, masks, frame))

    def resume_state(self) -> Future[ResumeState]:
        """Returns the state from which a later writer can resume, once the frames so far are written.

        Raises:
            OutputError: an earlier frame could not be written (here or from the result).
        """
        self._refuse_closed()
        return self._executor.submit(self._resume_state)

    def sync(self) -> None:
        """Makes all frames so far durable: they then survive a loss of power; raises OutputError if one failed."""
        self._refuse_closed()
        self._executor.submit(self._sync).result()

    def close(self) -> None:
        """Waits until everything is written and gives the files their final names; raises the first error."""
        self._close(complete=True)

    def __enter__(self) -> "MaskWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self._close(complete=False)
        except InputError as consequence:
            if consequence is not error:
                error.add_note(str(consequence))

    def _close(self, *, complete: bool) -> None:
        if not self._open:
            return
        self._open = False
        self._executor.shutdown(wait=True)
        failed = [error for written in self._waiting if (error := written.exception())]
        try:
            with self._as_output_error():
                self.format.finish(complete=complete and not failed)
        except OutputError:
            # The file of a failed write often cannot be ended either; the first failure is the cause.
            if not failed:
                raise
        if failed:
            raise failed[0]

    def _write(self, masks: Masks, frame: Frame | None) -> None:
        if self._failure is not None:
            return  # what is on disk ends with the last good frame, without gaps
        try:
            refuse_other_labels(masks)
            with self._as_output_error():
                self.format.write(masks, frame)
        except BaseException as error:
            self._failure = error
            raise

    def _refuse_closed(self) -> None:
        if not self._open:
            raise OutputError(f"the writer of {str(self._out)!r} is closed", "create a new one")

    def _resume_state(self) -> ResumeState:
        self._refuse_after_failure()
        with self._as_output_error():
            return self.format.resume_state()

    def _sync(self) -> None:
        self._refuse_after_failure()
        with self._as_output_error():
            self.format.sync()

    def _refuse_after_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    @contextmanager
    def _as_output_error(self) -> Iterator[None]:
        try:
            yield
        except (OSError, FFmpegError) as error:
            # PyAV says only that a callback failed, and keeps what it raised.
            cause = error.__cause__ or error.__context__
            reason = cause.strerror if isinstance(cause, OSError) else error.strerror
            raise OutputError(
                f"cannot write to {str(self._out)!r} ({reason})",
                "make room or give another place; what was written before is kept",
            ) from error


def refuse_other_labels(masks: Masks) -> None:
    """Raises InputError if labels of masks made by hand are not object ids."""
    labels = masks.labels
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.ndim != 2:
        raise InputError(f"the labels of frame {masks.index} are not a tensor [H W] of integers", "give object ids")
    if not labels.numel():
        return
    lowest, highest = map(int, (labels if labels.dtype == torch.int32 else labels.long()).aminmax())
    if lowest < 0 or highest > MAX_OBJECT_ID:
        raise InputError(
            f"the labels of frame {masks.index} range from {lowest} to {highest}",
            f"expected object ids from 1 to {MAX_OBJECT_ID}, or 0 for the background",
        )
