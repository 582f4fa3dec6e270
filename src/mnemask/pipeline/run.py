"""The loop from frames to files.

Decoding, tracking and writing overlap through bounded queues, so a long video needs no more memory than a short one.
"""

import json
import sys
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from mnemask.errors import BudgetError, InputError, OutputError
from mnemask.io import ReaderEvents, VideoReader, prefetch
from mnemask.io.atomic import remove_left_overs
from mnemask.io.lock import OutputLock
from mnemask.io.written import PREVIEW, Written
from mnemask.pipeline.arguments import bytes_allowed, refuse_uncallable, refuse_unusable
from mnemask.pipeline.checkpoint import Checkpoint, CheckpointFolder, PendingCheckpoint, warn_of_gone
from mnemask.pipeline.estimates import estimate_memory, refuse_small_budget, refuse_without_room
from mnemask.pipeline.expected import Expected
from mnemask.pipeline.outputs import Outputs, RunProgress, computed_on
from mnemask.pipeline.places import CHECKPOINT, REPORT, Places, VideoOutputs
from mnemask.prompts.plan import beyond_the_end
from mnemask.state import TrackerState
from mnemask.tracker import Tracker
from mnemask.types import Frame, Masks, ObjectInfo, Picture, Prompt, object_infos

PromptFunction = Callable[[Frame], Mapping[int, Prompt | None] | None]


def masks_to_come(prompts: PromptFunction | None) -> Mapping[int, Collection[int]]:
    """Returns the ids of the masks still to be given, by frame, if the source of prompts knows them."""
    to_come: Mapping[int, Collection[int]] = getattr(prompts, "to_come", {})
    return to_come


class StopError(Exception):
    """An early end was requested."""


def segment(
    frames: Iterable[Picture],
    tracker: Tracker,
    out: str | Path,
    prompts: PromptFunction,
    *,
    mask_format: str = "png",
    videos: VideoOutputs = VideoOutputs(),
    overwrite: bool = False,
    settings: Mapping[str, Any] | None = None,
    checkpoint_every: float | None = 30.0,
    resume: Checkpoint | None = None,
    max_memory: int | float | str | None = None,
    stop: Callable[[], str | None] = lambda: None,
    on_frame: Callable[[RunProgress, Masks], None] = lambda progress, masks: None,
    inputs: Sequence[str | Path] = (),
    preview: Callable[[Frame, Mapping[int, Any]], bytes] | None = None,
    objects: Mapping[int, ObjectInfo | str] | None = None,
) -> RunProgress:
    """Tracks through a video and writes `OUT/masks/`, `OUT/table.csv`, `OUT/report.json` and, if requested, videos.

    While it runs there is `OUT/checkpoint/`. After an interruption, the run is resumed from there:

        checkpoint = find_checkpoint(out, model.device, settings)
        tracker = Tracker.from_state(checkpoint.state, model)
        video = VideoReader(video, start=checkpoint.last_frame)
        segment(video, tracker, out, prompts, settings=settings, resume=checkpoint)

    and all files are then the same as without the interruption.

    Before the first frame, the run checks that it replaces no files but those of an earlier run, which `overwrite` or
    `resume` must allow: `OUT/.mnemask-written` lists what runs wrote. No other run may write to `out` meanwhile.
    `max_memory` may also be a size such as "2GiB".

    Args:
        frames: the frames: `Frame`s, uint8 RGB tensors [3 H W] or arrays [H W 3], which are counted from 0; for a
            VideoReader, the report describes the video and what happened to it.
        tracker: a new tracker, or one restored from the state of `resume`.
        out: the output folder, created if missing.
        prompts: returns the known masks of a frame by object id, None for an object that is gone; or None.
        mask_format: "png", "ffv1", "rgba", "rle" or "parquet", see MaskWriter.
        videos: further videos to write, such as `VideoOutputs(("overlay",))`. For videos for editing programs, frames
            should come from a reader with `originals`, so that colours stay unchanged.
        overwrite: whether `out` may already hold a run; its files, and no others, are then removed.
        settings: values in JSON types, included in the report and in checkpoints; a run can only be resumed with the
            same settings.
        checkpoint_every: seconds between checkpoints (with video formats, rounded up to the end of the current stretch
            of 48 frames); None for no checkpoints.
        resume: the checkpoint to resume from. Frames before its position are skipped.
        max_memory: bytes that bank, network, buffers and queues may take together, checked before the first frame, for
            all objects known to come, and whenever more appear; None for no limit.
        stop: called before each frame; a reason that it returns ends the run early and is given in the report.
        on_frame: called after each frame.
        inputs: files that the run reads and must not write to; those of a VideoReader of images are known already.
        preview: returns a PNG of the first frame and its prompts, written to `OUT/preview.png`.
        objects: classes and names of objects by id, such as {1: "camel", 2: "rider:Anna"}, for the report and for
            formats that have classes.

    Raises:
        InputError: if an argument cannot be used; an earlier run in `out` is then kept.
        OutputError: if `out` already holds a run, is in use by another one, has foreign files where this one will
            write, cannot be written to, or clearly has too little space.
        BudgetError: if the memory needed exceeds `max_memory`.
        MnemaskError: for any other error that ends the run early. Files written so far are kept, and the report gives
            the error.
    """
    refuse_unusable(frames, mask_format, videos, settings, checkpoint_every)
    refuse_uncallable(prompts, stop=stop, on_frame=on_frame, preview=preview or repr)
    max_bytes, infos = bytes_allowed(max_memory), object_infos(objects)
    trace = getattr(tracker.memory.trace, "path", None)
    reader = frames if isinstance(frames, VideoReader) else None
    paths, expected = [Path(path) for path in inputs], Expected.of(reader)
    places = Places(Path(out), mask_format, videos, preview is not None, trace, paths, expected)
    with OutputLock(out) as lock:
        written = Written(out)
        if written.owns(places.out / "report.html"):
            raise OutputError(f"{str(out)!r} holds a batch", "give another folder")
        if resume is None and not overwrite and (written.files() or written.claims(places.out / CHECKPOINT)):
            raise OutputError(
                f"{str(out)!r} already holds a run",
                "continue it (--resume), choose another folder, or overwrite it (--overwrite)",
            )
        places.check(written, 0 if resume is None else resume.position)
        run = _Run(
            tracker=tracker,
            places=places,
            written=written,
            lock=lock,
            progress=RunProgress(settings=settings or {}, objects=infos),
            prompts=prompts,
            preview=preview,
            every=checkpoint_every,
            resume=resume,
            max_memory=max_bytes,
            reader=reader,
            stop=stop,
            on_frame=on_frame,
        )
        if reader is not None and resume is not None:
            resume.prepare(reader)
        # The reader is closed last: it may be waiting for a camera, and everything else must be saved by then.
        with closing(cast(Generator[Picture, None, None], prefetch(frames))) as ahead:
            try:
                run.follow(ahead)
            except BaseException as error:
                with _noting(error):
                    run.report()
                raise
            run.report()
    return run.progress


@contextmanager
def _noting(error: BaseException) -> Iterator[None]:
    """Adds errors that are raised within it as notes to an earlier error."""
    try:
        yield
    except InputError as consequence:
        error.add_note(str(consequence))


@dataclass(slots=True, kw_only=True)
class _Run:
    """One call of `segment`: its arguments, and below them its state.

    Attributes:
        given: the known masks of the current frame.
        before: the tracker's state before the first frame, for a checkpoint at its start.
        latest: the last point where the run can resume, if not saved yet.
        num_seen: index of the last frame received, plus 1.
        gap: whether frames just before that one are missing.
        saved: time of the last saved checkpoint.
    """

    tracker: Tracker
    places: Places
    written: Written
    lock: OutputLock
    progress: RunProgress
    prompts: PromptFunction
    preview: Callable[[Frame, Mapping[int, Any]], bytes] | None
    every: float | None
    resume: Checkpoint | None
    max_memory: int | None
    reader: VideoReader | None
    stop: Callable[[], str | None]
    on_frame: Callable[[RunProgress, Masks], None]

    folder: CheckpointFolder | None = field(init=False)
    begin: float = field(init=False)
    saved: float = field(init=False)
    stack: ExitStack = field(default_factory=ExitStack, init=False)
    outputs: Outputs | None = field(default=None, init=False)
    latest: PendingCheckpoint | None = field(default=None, init=False)
    estimated: tuple[object, ...] = field(default=(), init=False)
    given: Mapping[int, Prompt | None] = field(default_factory=dict, init=False)
    before: TrackerState | None = field(default=None, init=False)
    num_seen: int = field(default=0, init=False)
    gap: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.begin = self.saved = time.perf_counter()
        self.folder = None if self.every is None else CheckpointFolder(self.written, self.progress.settings)
        if self.resume is None:
            self.progress.computed_on = computed_on(self.tracker, 0)
        else:
            before, position = self.resume.progress, self.resume.position
            self.progress.computed_on = computed_on(self.tracker, position, before["computed_on"])
            self.progress.take_up(before, position)
            self.begin -= self.progress.seconds
            self.num_seen = position

    def follow(self, frames: Iterable[Picture]) -> None:
        """Tracks the objects to the end of the frames, or until the run ends early."""
        progress = self.progress
        try:
            with self.stack:
                if self.resume is not None:
                    self.outputs = self._open(max({*self._ids(), *self.tracker.object_ids}, default=0))
                try:
                    for frame, masks in self.tracker.follow(self._due(frames), self._known):
                        progress.last_name = frame.name
                        outputs = self.outputs or self._begin_at(frame)
                        outputs.write(masks, frame)
                        progress.add(self.tracker.stats(), masks.object_ids)
                        progress.seconds = time.perf_counter() - self.begin
                        self._checkpoint(frame.index + 1, outputs)
                        self.on_frame(progress, masks)
                except BaseException as error:
                    with _noting(error):
                        self._save()
                    raise
            self._refuse_left()
        except StopError as stopped:
            progress.stopped_by = str(stopped)
        except BaseException as error:
            if isinstance(error, BudgetError) and progress.frames:
                error.remedy += "; --resume keeps budget, policy and size, so start over to change them (--overwrite)"
            progress.stopped_by = f"{type(error).__name__}: {error}".rstrip(": ")
            raise
        else:
            progress.complete = True

    def _refuse_left(self) -> None:
        """Raises InputError if the video ended before a frame that masks are given for."""
        if left := masks_to_come(self.prompts):
            first, events = min(left), self._happened()
            if first in (*events.skipped.frames, *events.dropped.frames):
                raise self._left_out(first)
            stopped = self.reader is not None and self.reader.goes_on
            raise beyond_the_end(first, self.num_seen, stop=self.places.expected.stop if stopped else None)

    def _left_out(self, frame: int) -> InputError:
        """Returns the error for masks of a frame that is in the video but was not received."""
        events, why, hold = self._happened(), "is missing", ""
        if frame in events.dropped.frames:
            why = "was dropped to keep up"
        elif frame in events.skipped.frames:
            why = "is damaged and was skipped"
            hold = ", or replace this frame with the one before (--on-corrupt hold)" if self.progress.frames else ""
        return InputError(f"masks are given for frame {frame}, which {why}", f"give them at a later frame{hold}")

    def _due(self, frames: Iterable[Picture]) -> Iterator[Frame]:
        """Yields the frames that are not done; raises StopError when `stop` returns a reason."""
        for number, picture in enumerate(frames):
            frame = Frame.from_picture(picture, number)
            self.gap = frame.index > self.num_seen
            self.num_seen = frame.index + 1
            self._end_if_asked()
            if self.resume is None or frame.index >= self.resume.position:
                yield frame
        self._end_if_asked()

    def _end_if_asked(self) -> None:
        if reason := self.stop():
            raise StopError(reason)

    def _known(self, frame: Frame) -> Mapping[int, Prompt | None] | None:
        """Returns the known masks of a frame, after checks that the run can continue with it."""
        given = self.prompts(frame)
        if not isinstance(given, Mapping | None):
            raise InputError(
                f"the masks of frame {frame.index} are a {type(given).__name__}",
                "give them by object id, {1: mask}; for a label map, {i: labels == i} for each id in it",
            )
        if self.gap and (left_out := [each for each in masks_to_come(self.prompts) if each < frame.index]):
            raise self._left_out(min(left_out))
        self.given = {} if given is None else given
        self._check_estimate(frame)
        self.lock.check()
        if self.outputs is None:
            self._check_first(frame)
            self.before = self.tracker.state()
        return given

    def report(self) -> None:
        """Writes the report; removes the checkpoints if the run is complete, or a new one that wrote no frame."""
        self._describe_video()
        self.progress.video_goes_on = self.reader is not None and self.reader.goes_on
        self.progress.seconds = time.perf_counter() - self.begin
        if self.outputs is not None:
            self.progress.looks = self.outputs.looks()
        if self.progress.frames:
            self.progress.memory = self.tracker.stats()
            text = json.dumps(self.progress.to_dict(), indent=2) + "\n"
            self.written.write(self.places.out / REPORT, text)
        if self.outputs is not None and self.places.own_trace is not None:
            self.written.settle(self.places.own_trace)
        nothing_to_go_on_with = self.progress.complete or (not self.progress.frames and self.resume is None)
        if self.folder is not None and self.outputs is not None and nothing_to_go_on_with:
            self.folder.remove()
        if self.progress.complete:
            warn_of_gone(self.written)

    def _open(self, largest_id: int) -> Outputs:
        """Opens the outputs; from here on the run can be resumed."""
        remove_left_overs(self.places.masks)
        remove_left_overs(self.places.out, below=False)
        journal = None
        if self.folder is not None:
            self.folder.make()
            journal = self.folder.path
            if self.resume is not None:
                self.folder.only(self.resume.position)
        resume_states = {} if self.resume is None else self.resume.resume_states
        return self.stack.enter_context(
            Outputs(self.places, self.written, journal, resume_states, largest_id, self.progress.objects)
        )

    def _check_first(self, frame: Frame) -> None:
        """Raises errors that the first frame reveals, before anything is computed or removed."""
        expected, ids = self.places.expected, self._ids()
        expected.refuse_beyond(masks_to_come(self.prompts))
        refuse_small_budget(self.tracker, frame.size, self._most_at_once())
        self.places.videos.cutout.refuse_unknown(tuple(sorted(ids | {*self.tracker.object_ids})))
        if expected.ahead is not None:
            freed = sum(path.stat().st_size for path in self.written.files())
            format, kinds = self.places.mask_format, self.places.videos.kinds
            refuse_without_room(self.places.out, format, kinds, frame.size, expected.ahead, len(ids), freed)

    def _ids(self) -> set[int]:
        """Returns the ids of the masks given in the current frame, and of those still to come."""
        return {*self.given, *(object_id for ids in masks_to_come(self.prompts).values() for object_id in ids)}

    def _most_at_once(self) -> int:
        """Returns the largest number of objects tracked at once, as far as it is known in the current frame."""
        known: int = getattr(self.prompts, "most_at_once", 0)
        return max(known, len({*self.tracker.object_ids, *self.given}))

    def _begin_at(self, frame: Frame) -> Outputs:
        """Removes what an earlier run wrote, opens the outputs, and saves a first checkpoint.

        Without that checkpoint, a run with other settings could be resumed in its place.
        """
        checkpoint, trace = self.places.out / CHECKPOINT, self.places.own_trace
        CheckpointFolder(self.written, {}).remove()
        if trace is not None:
            self.written.forget(trace)  # it already contains records of this run
        self.written.remove_all()
        if checkpoint.exists():  # with a foreign file in it
            self.written.claim(checkpoint)
        if self.preview is not None:
            self.written.write(self.places.out / PREVIEW, self.preview(frame, self.given))
        if trace is not None:
            self.written.claim(trace)
        self.outputs = outputs = self._open(max(self._ids(), default=0))
        before, self.before = self.before, None
        if self.folder is not None and before is not None:
            self.latest = self._pending(frame.index, before, outputs)
            self._save()
        return outputs

    def _checkpoint(self, position: int, outputs: Outputs) -> None:
        """Notes that the run can resume here, if it can, and saves a checkpoint if one is due."""
        if self.folder is None or self.progress.frames % outputs.stretch:
            return
        self.latest = self._pending(position, self.tracker.state(), outputs)
        if self.every is not None and time.perf_counter() - self.saved >= self.every:
            self._save()

    def _pending(self, position: int, state: TrackerState, outputs: Outputs) -> PendingCheckpoint:
        # Frames are read ahead: events of those will be noted again by the resumed run.
        self._describe_video(position)
        return PendingCheckpoint(position, state, outputs.resume_states(), self.progress.saved())

    def _describe_video(self, end: int = sys.maxsize) -> None:
        """Sets what the report says of the video, with the events before frame `end`."""
        self.progress.source = self.reader.facts.to_dict() if self.reader else {}
        self.progress.video = self._happened().within(end=end).to_dict()

    def _happened(self) -> ReaderEvents:
        """Returns the events of the video, including those before the run was resumed."""
        events = self.reader.events if self.reader else ReaderEvents()
        if self.resume is None:
            return events
        return self.resume.events + events.within(self.resume.position)

    def _save(self) -> None:
        moment, self.latest = self.latest, None
        if moment is not None and self.folder is not None and self.outputs is not None:
            resume_states = moment.written()
            self.outputs.sync()
            self.written.sync()
            self.folder.save(moment.position, moment.state, resume_states, moment.progress)
            self.saved = time.perf_counter()

    def _check_estimate(self, frame: Frame) -> None:
        if self.max_memory is None:
            return
        most = self._most_at_once()
        if self.estimated != (frame.size, most):
            videos = self.places.videos
            writers = 2 + len(videos.kinds) * videos.cutout.edges.smooth  # the number of frames that a median holds
            estimate_memory(self.tracker, frame.size, most, num_writers=writers).keep_within(self.max_memory)
            self.estimated = (frame.size, most)
