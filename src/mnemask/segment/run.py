"""The loop from frames to files.

Decoding, computing and writing overlap in bounded queues, so a long video needs no more memory than a short one.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

from mnemask.errors import InputError, OutputError
from mnemask.given import Prompt
from mnemask.segment.checkpoint import FOLDER, Checkpoint, CheckpointFolder, Moment
from mnemask.segment.outputs import Outputs
from mnemask.segment.promise import promise
from mnemask.segment.report import Progress, write_report
from mnemask.tracker import Tracker
from mnemask.types import Frame, Masks
from mnemask.video import ReaderEvents, prefetch

PromptSource = Callable[[Frame], Mapping[int, Prompt | None] | None]


class StopError(Exception):
    """Someone asked for an early end."""


def segment(
    frames: Iterable[Frame],
    tracker: Tracker,
    out: str | Path,
    prompts: PromptSource,
    *,
    mask_format: str = "png",
    overlay: bool = False,
    overwrite: bool = False,
    settings: Mapping[str, Any] | None = None,
    checkpoint_every: float | None = 30.0,
    resume: Checkpoint | None = None,
    max_memory: int | None = None,
    events: Callable[[], ReaderEvents] = ReaderEvents,
    stop: Callable[[], str | None] = lambda: None,
    on_frame: Callable[[Progress, Masks], None] = lambda progress, masks: None,
) -> Progress:
    """Tracks through a video and writes `OUT/masks/`, with `overlay` `OUT/overlay.mp4`, and `OUT/report.json`.

    While it runs there is `OUT/checkpoint/`; what is left there when it is cut off, `find_checkpoint` reads:

        checkpoint = find_checkpoint(out, model.device, settings)
        tracker = Tracker.of_session(checkpoint.session, model)
        video = VideoReader(video, start=checkpoint.last_frame)
        segment(video, tracker, out, prompts, settings=settings, resume=checkpoint)

    and all files are then as if nothing had happened.

    Args:
        frames: such as a VideoReader.
        tracker: a new one, or one that is to go on.
        out: the folder, made if missing.
        prompts: returns the known masks of a frame by object id, None for an object that is gone; or None.
        mask_format: "png", "ffv1", "rgba" or "rle", see MaskWriter.
        overlay: whether to draw the masks into a video.
        overwrite: whether a folder that holds a run may be written to.
        settings: goes into the report, and into checkpoints: a run goes on only with what it was begun with.
        checkpoint_every: seconds from one checkpoint to the next (with video formats, to the end of the stretch of 48
            frames that is under way then); None for none.
        resume: where to go on, with a tracker of its session. Frames before its position are passed over.
        max_memory: bytes that bank, network, buffers and queues may take together, checked before the first frame and
            whenever objects come; None for no limit.
        events: returns what happened to the video so far, for the report; of a VideoReader its `events`.
        stop: is asked before each frame; what it returns ends the run early, and the report gives it as the reason.
        on_frame: is called after each frame.

    Raises:
        OutputError: if `out` holds a run already or cannot be written to.
        BudgetError: if the memory needed exceeds `max_memory`.
        MnemaskError: whatever ends the run early. What was written before is kept, and the report says what happened.
    """
    out = Path(out)
    if resume is None and not overwrite and ((out / "report.json").exists() or (out / FOLDER).exists()):
        raise OutputError(
            f"{str(out)!r} already holds a run; go on with it (--resume), choose another folder, or overwrite it "
            "(--overwrite)"
        )
    run = _Run(tracker, out, Progress(settings=settings or {}), checkpoint_every, resume, events)
    # The reader is let go of last: it may be waiting for a camera, and everything else must be safe by then.
    with closing(cast(Generator[Frame, None, None], prefetch(frames))) as ahead:
        try:
            run.follow(ahead, prompts, (mask_format, overlay), max_memory, stop, on_frame)
        except BaseException as error:
            with _noting(error):
                run.report()
            raise
        run.report()
    return run.progress


def _end_if_asked(stop: Callable[[], str | None]) -> None:
    if reason := stop():
        raise StopError(reason)


@contextmanager
def _noting(error: BaseException) -> Iterator[None]:
    """Within it, what goes wrong in consequence of an error becomes a note to it."""
    try:
        yield
    except InputError as consequence:
        error.add_note(str(consequence))


class _Run:
    """One call of `segment`."""

    def __init__(
        self,
        tracker: Tracker,
        out: Path,
        progress: Progress,
        every: float | None,
        resume: Checkpoint | None,
        events: Callable[[], ReaderEvents],
    ) -> None:
        self.progress = progress
        self._tracker, self._out, self._every, self._resume, self._events = tracker, out, every, resume, events
        self._begin = self._saved = time.perf_counter()
        self._folder: CheckpointFolder | None = None
        self._latest: Moment | None = None
        self._promised: tuple[object, ...] = ()
        if resume is not None:
            progress.frames = int(resume.progress["frames"])
            progress.seconds = float(resume.progress["seconds"])
            progress.most_tokens = int(resume.progress["most_tokens"])
            progress.most_bytes = int(resume.progress["most_bytes"])
            progress.resumed_at = [*resume.progress["resumed_at"], resume.position]
            self._begin -= progress.seconds

    def follow(
        self,
        frames: Iterable[Frame],
        prompts: PromptSource,
        wanted: tuple[str, bool],
        max_memory: int | None,
        stop: Callable[[], str | None],
        on_frame: Callable[[Progress, Masks], None],
    ) -> None:
        """Follows the objects to the end of the frames, or until something else ends it."""
        progress = self.progress
        try:
            with self._outputs(*wanted) as outputs:
                try:
                    for frame in frames:
                        _end_if_asked(stop)
                        if self._resume is not None and frame.index < self._resume.position:
                            continue
                        self._begin_at(frame.index, outputs)
                        given = prompts(frame)
                        self._check_promise(frame, given, max_memory, wanted)
                        masks = self._tracker.step(frame, given)
                        outputs.write(masks, frame)
                        progress.add(self._tracker.memory.stats())
                        progress.seconds = time.perf_counter() - self._begin
                        self._checkpoint(frame.index + 1, outputs)
                        on_frame(progress, masks)
                    _end_if_asked(stop)
                except BaseException as error:
                    with _noting(error):
                        self._save(outputs)
                    raise
        except StopError as stopped:
            progress.stopped_by = str(stopped)
        except BaseException as error:
            progress.stopped_by = f"{type(error).__name__}: {error}".rstrip(": ")
            raise
        else:
            progress.complete = True

    def report(self) -> None:
        """Writes the report; if the run is complete, or never began, there is nothing to go on with."""
        self.progress.video = self._happened().to_dict()
        self.progress.seconds = time.perf_counter() - self._begin
        if self.progress.frames:
            write_report(self._out / "report.json", self.progress.to_dict())
        if self._folder is not None and (self.progress.complete or not self.progress.frames):
            self._folder.remove()

    def _outputs(self, mask_format: str, overlay: bool) -> Outputs:
        marks = {} if self._resume is None else self._resume.marks
        if self._every is None:
            return Outputs(self._out, mask_format, overlay, None, marks)
        fresh = self._resume is None
        if fresh and (self._out / FOLDER).exists():
            CheckpointFolder(self._out, {}).remove()  # of the run that is overwritten
        self._folder = CheckpointFolder(self._out, self.progress.settings)
        if self._resume is not None:
            self._folder.only(self._resume.position)
        return Outputs(self._out, mask_format, overlay, self._folder.path, marks)

    def _begin_at(self, position: int, outputs: Outputs) -> None:
        """Writes down at once what the run is, lest another one is mixed with it that goes on in its place."""
        if self._folder is not None and not self.progress.frames:
            self._latest = self._moment(position, outputs)
            self._save(outputs)

    def _checkpoint(self, position: int, outputs: Outputs) -> None:
        """Notes that the run can go on here, if it can, and writes it down if it is time."""
        if self._folder is None or self.progress.frames % outputs.stretch:
            return
        self._latest = self._moment(position, outputs)
        if self._every is not None and time.perf_counter() - self._saved >= self._every:
            self._save(outputs)

    def _moment(self, position: int, outputs: Outputs) -> Moment:
        # Frames are read ahead: what happened to those will be noted again by the run that goes on.
        self.progress.video = self._happened().within(end=position).to_dict()
        return Moment.of(position, self._tracker.session(), outputs.marks(), self.progress)

    def _happened(self) -> ReaderEvents:
        """Returns what happened to the video, before the run was resumed too."""
        if self._resume is None:
            return self._events()
        return self._resume.events + self._events().within(self._resume.position)

    def _save(self, outputs: Outputs) -> None:
        moment, self._latest = self._latest, None
        if moment is not None and self._folder is not None:
            marks = moment.written()
            outputs.sync()
            self._folder.save(moment.position, moment.session, marks, moment.progress)
            self._saved = time.perf_counter()

    def _check_promise(
        self, frame: Frame, given: Mapping[int, Prompt | None] | None, max_memory: int | None, wanted: tuple[str, bool]
    ) -> None:
        if max_memory is None:
            return
        ids = {*self._tracker.object_ids, *(given or {})}
        if self._promised != (frame.size, len(ids)):
            promise(self._tracker, frame.size, len(ids), num_writers=1 + wanted[1]).keep_within(max_memory)
            self._promised = (frame.size, len(ids))
