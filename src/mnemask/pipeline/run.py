"""The loop from frames to files.

Decoding, computing and writing overlap in bounded queues, so a long video needs no more memory than a short one.
"""

import json
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from mnemask.errors import InputError, OutputError
from mnemask.io import MASK_FORMATS, ReaderEvents, VideoReader, prefetch
from mnemask.io.atomic import remove_left_overs
from mnemask.io.lock import OutputLock
from mnemask.io.written import PREVIEW, Written
from mnemask.pipeline.checkpoint import Checkpoint, CheckpointFolder, PendingCheckpoint, warn_of_gone
from mnemask.pipeline.estimates import estimate_memory, refuse_without_room
from mnemask.pipeline.outputs import Outputs, RunProgress, computed_on
from mnemask.pipeline.places import CHECKPOINT, REPORT, Expected, Places, VideoOutputs
from mnemask.prompts.plan import beyond_the_end
from mnemask.state import TrackerState
from mnemask.tracker import Tracker
from mnemask.types import Frame, Masks, ObjectInfo, Prompt, object_infos

PromptFunction = Callable[[Frame], Mapping[int, Prompt | None] | None]


class StopError(Exception):
    """Someone asked for an early end."""


def segment(
    frames: Iterable[Frame],
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
    max_memory: int | None = None,
    stop: Callable[[], str | None] = lambda: None,
    on_frame: Callable[[RunProgress, Masks], None] = lambda progress, masks: None,
    inputs: Sequence[str | Path] = (),
    preview: Callable[[Frame, Mapping[int, Any]], bytes] | None = None,
    objects: Mapping[int, ObjectInfo | str] | None = None,
) -> RunProgress:
    """Tracks through a video and writes `OUT/masks/`, `OUT/table.csv`, `OUT/report.json`, and videos if asked for.

    While it runs there is `OUT/checkpoint/`; what is left there when it is cut off, `find_checkpoint` reads:

        checkpoint = find_checkpoint(out, model.device, settings)
        tracker = Tracker.from_state(checkpoint.state, model)
        video = VideoReader(video, start=checkpoint.last_frame)
        segment(video, tracker, out, prompts, settings=settings, resume=checkpoint)

    and all files are then as if nothing had happened.

    Before the first frame it is seen to that no file is replaced but those of an earlier run, which `overwrite` or
    `resume` must allow: `OUT/.mnemask-written` says what runs wrote. No other run may write to `out` meanwhile.

    Args:
        frames: such as a VideoReader, of which the report says what it is and what happened to it.
        tracker: a new one, or one that is to go on.
        out: the folder, made if missing.
        prompts: returns the known masks of a frame by object id, None for an object that is gone; or None.
        mask_format: "png", "ffv1", "rgba", "rle" or "parquet", see MaskWriter.
        videos: what else to write, such as `VideoOutputs(("overlay",))`. Frames of videos for editing programs should
            come from a reader with `originals`, so that colours stay as they are.
        overwrite: whether a folder that holds a run may be written to; what that run wrote is removed, nothing else.
        settings: goes into the report, and into checkpoints: a run goes on only with what it was begun with.
        checkpoint_every: seconds from one checkpoint to the next (with video formats, to the end of the stretch of 48
            frames that is under way then); None for none.
        resume: where to go on, with a tracker of its state. Frames before its position are passed over.
        max_memory: bytes that bank, network, buffers and queues may take together, checked before the first frame and
            whenever objects come; None for no limit.
        stop: is asked before each frame; what it returns ends the run early, and the report gives it as the reason.
        on_frame: is called after each frame.
        inputs: files that the run reads, which it must not write to; those of a VideoReader of images are known.
        preview: returns a PNG of the first frame and its prompts, which becomes `OUT/preview.png`.
        objects: what objects are called, by id, such as {1: "camel", 2: "rider:Anna"}; for the report and for formats
            that have classes.

    Raises:
        OutputError: if `out` holds a run already, is in use by another one, holds files of others where this one will
            write, or cannot be written to, or has clearly too little room.
        BudgetError: if the memory needed exceeds `max_memory`.
        MnemaskError: whatever ends the run early. What was written before is kept, and the report says what happened.
    """
    if isinstance(frames, str | Path):
        raise InputError(f"frames are a {type(frames).__name__}", f"read them, with VideoReader({str(frames)!r:.60})")
    if mask_format not in MASK_FORMATS:
        raise InputError(f"there is no mask format {mask_format!r:.40}", f"choose one of {', '.join(MASK_FORMATS)}")
    if not callable(prompts):
        raise InputError(
            f"prompts are a {type(prompts).__name__}",
            "give a function from a Frame to its masks, such as lambda frame: masks.get(frame.index)",
        )
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
                "go on with it (--resume), choose another folder, or overwrite it (--overwrite)",
            )
        places.check(written, 0 if resume is None else resume.position)
        run = _Run(
            tracker=tracker,
            places=places,
            written=written,
            lock=lock,
            progress=RunProgress(
                settings=settings or {},
                source=reader.facts.to_dict() if reader else {},
                objects=object_infos(objects),
            ),
            prompts=prompts,
            preview=preview,
            every=checkpoint_every,
            resume=resume,
            max_memory=max_memory,
            reader=reader,
            stop=stop,
            on_frame=on_frame,
        )
        # The reader is let go of last: it may be waiting for a camera, and everything else must be safe by then.
        with closing(cast(Generator[Frame, None, None], prefetch(frames))) as ahead:
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
    """Within it, what goes wrong in consequence of an error becomes a note to it."""
    try:
        yield
    except InputError as consequence:
        error.add_note(str(consequence))


@dataclass(slots=True, kw_only=True)
class _Run:
    """One call of `segment`: what it was given, and below that how far it is.

    Attributes:
        given: the known masks of the frame that is computed.
        before: what was known before the first frame, for a checkpoint at its start.
        latest: where the run could go on, not yet written down.
        num_seen: frames up to the last that came, from the video's first.
        gap: whether frames before that one did not come.
        saved: when that was written down last.
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

    def follow(self, frames: Iterable[Frame]) -> None:
        """Follows the objects to the end of the frames, or until something else ends it."""
        progress = self.progress
        try:
            with self.stack:
                if self.resume is not None:
                    self.outputs = self._open(max({*self._ids(), *self.tracker.object_ids}, default=0))
                try:
                    for frame, masks in self.tracker.follow(self._due(frames), self._known):
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
            progress.stopped_by = f"{type(error).__name__}: {error}".rstrip(": ")
            raise
        else:
            progress.complete = True

    def _refuse_left(self) -> None:
        """Raises InputError if the video ended before a frame that masks are given for."""
        if left := self._to_come():
            first, events = min(left), self._happened()
            if first in (*events.skipped.frames, *events.dropped.frames):
                raise self._left_out(first)
            raise beyond_the_end(first, self.num_seen)

    def _left_out(self, frame: int) -> InputError:
        """Returns the error for masks of a frame that the video has, and that did not come."""
        events, why, hold = self._happened(), "did not come", ""
        if frame in events.dropped.frames:
            why = "was dropped, to keep up"
        elif frame in events.skipped.frames:
            why = "is damaged and left out"
            hold = ", or let the frame before stand for it (--on-corrupt hold)" if self.progress.frames else ""
        return InputError(f"masks are given for frame {frame}, which {why}", f"give them at a later frame{hold}")

    def _due(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yields the frames that are not done, for as long as nobody asks for an end."""
        for frame in frames:
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
        """Returns the known masks of a frame, once it is seen to that the run can go on with it."""
        given = self.prompts(frame)
        if not isinstance(given, Mapping | None):
            raise InputError(
                f"the masks of frame {frame.index} are a {type(given).__name__}",
                "give them by object id, {1: mask}; of a label map, {i: labels == i} for each id in it",
            )
        if self.gap and (left_out := [each for each in self._to_come() if each < frame.index]):
            raise self._left_out(min(left_out))
        self.given = {} if given is None else given
        self._check_estimate(frame)
        self.lock.check()
        if self.outputs is None:
            self._check_first(frame)
            self.before = self.tracker.state()
        return given

    def report(self) -> None:
        """Writes the report; if the run is complete, or never began, there is nothing to go on with."""
        self.progress.video = self._happened().to_dict()
        self.progress.seconds = time.perf_counter() - self.begin
        if self.outputs is not None:
            self.progress.looks = self.outputs.looks()
        if self.progress.frames:
            self.progress.memory = self.tracker.stats()
            text = json.dumps(self.progress.to_dict(), indent=2) + "\n"
            self.written.write(self.places.out / REPORT, text)
        if self.outputs is not None and self.places.own_trace is not None:
            self.written.settle(self.places.own_trace)
        nothing_to_go_on_with = self.progress.complete or not self.progress.frames
        if self.folder is not None and self.outputs is not None and nothing_to_go_on_with:
            self.folder.remove()
        if self.progress.complete:
            warn_of_gone(self.written)

    def _open(self, largest_id: int) -> Outputs:
        """Opens what is written to; from here on the run may be gone on with."""
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
        """Raises what can be known of the run when its first frame is, before anything is computed or removed."""
        expected, ids = self.places.expected, self._ids()
        expected.refuse_beyond(self._to_come())
        self.places.videos.cutout.refuse_unknown(tuple(sorted(ids | {*self.tracker.object_ids})))
        if expected.ahead is not None:
            freed = sum(path.stat().st_size for path in self.written.files())
            format, kinds = self.places.mask_format, self.places.videos.kinds
            refuse_without_room(self.places.out, format, kinds, frame.size, expected.ahead, len(ids), freed)

    def _to_come(self) -> Mapping[int, Collection[int]]:
        """Returns the ids of the masks that are to be given, by frame, where the source of prompts tells."""
        to_come: Mapping[int, Collection[int]] = getattr(self.prompts, "to_come", {})
        return to_come

    def _ids(self) -> set[int]:
        """Returns the ids of the masks that are given in the frame that is computed, and of those to come."""
        return {*self.given, *(object_id for ids in self._to_come().values() for object_id in ids)}

    def _begin_at(self, frame: Frame) -> Outputs:
        """Removes what an earlier run wrote, opens the outputs, and notes at once what the run is.

        Otherwise another one with other settings could go on in its place.
        """
        checkpoint, trace = self.places.out / CHECKPOINT, self.places.own_trace
        CheckpointFolder(self.written, {}).remove()
        if trace is not None:
            self.written.forget(trace)  # it has the records of this run by now
        self.written.remove_all()
        if checkpoint.exists():  # with a file of somebody else's in it
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
        """Notes that the run can go on here, if it can, and writes it down if it is time."""
        if self.folder is None or self.progress.frames % outputs.stretch:
            return
        self.latest = self._pending(position, self.tracker.state(), outputs)
        if self.every is not None and time.perf_counter() - self.saved >= self.every:
            self._save()

    def _pending(self, position: int, state: TrackerState, outputs: Outputs) -> PendingCheckpoint:
        # Frames are read ahead: what happened to those will be noted again by the run that goes on.
        self.progress.video = self._happened().within(end=position).to_dict()
        return PendingCheckpoint(position, state, outputs.resume_states(), self.progress.saved())

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
        ids = {*self.tracker.object_ids, *self.given}
        if self.estimated != (frame.size, len(ids)):
            videos = self.places.videos
            writers = 2 + len(videos.kinds) * videos.cutout.edges.smooth  # a median holds so many frames
            estimate_memory(self.tracker, frame.size, len(ids), num_writers=writers).keep_within(self.max_memory)
            self.estimated = (frame.size, len(ids))
