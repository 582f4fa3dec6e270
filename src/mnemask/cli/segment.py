"""`mnemask segment`: tracks objects given by masks, boxes or clicks and writes their masks in every frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import mnemask as mm
from mnemask import choices
from mnemask.cli import inputs
from mnemask.cli.app import command, console, errors, locks_out
from mnemask.cli.inputs import PROMPTS, PromptOptions, with_prompts
from mnemask.cli.options import (
    CONFIG,
    DEFAULT_ENGINE,
    DeviceOption,
    EngineOption,
    ModelOption,
    Precision,
    configured,
    in_panels,
)
from mnemask.cli.output import emit
from mnemask.cli.progress import progress as shown_progress
from mnemask.cli.progress import show_frames, show_result
from mnemask.cli.reading import READING, VideoReading, with_reading
from mnemask.cli.video_options import VIDEOS, with_videos

if TYPE_CHECKING:
    from mnemask.cli.progress import Show
    from mnemask.pipeline import Checkpoint, RunProgress
    from mnemask.prompts import PromptPlan

Format = Enum("Format", {name: name for name in choices.MASK_FORMAT_NAMES})  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class BatchHooks:
    """What a process that runs `segment` for many clips passes to each run (`cli/batch_worker.py`).

    Attributes:
        load: called in place of `load_model`, so that weights stay loaded; None for `load_model`.
        signals: called in place of `StopSignals`; None for `StopSignals`.
        on_frame: called after each frame with the progress, the masks and the total number of frames.
        checks_only: whether to check the options and return before the network is loaded.
        masks_elsewhere: whether the masks of a complete run are stored outside its folder.
    """

    load: Callable[..., Any] | None = None
    signals: Callable[[Callable[[], None]], AbstractContextManager[Any]] | None = None
    on_frame: Callable[[Any, mm.Masks, int | None], None] = lambda progress, masks, total: None
    checks_only: bool = False
    masks_elsewhere: bool = False


_NO_HOOKS = BatchHooks()
BATCH_HOOKS: ContextVar[BatchHooks] = ContextVar("BATCH_HOOKS", default=_NO_HOOKS)


@command
@locks_out
@in_panels()
@with_prompts()
@with_reading
@with_videos
@configured()
def segment(
    video: Annotated[
        str,
        typer.Argument(
            help="A video file, a folder or quoted glob of images, `camera:0`, `-` for a pipe, or an address."
        ),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for masks/, overlay.mp4, preview.png and report.json.")
    ],
    prompts: PromptOptions = PROMPTS,
    model: ModelOption = "compact",
    config: mm.TrackerConfig = CONFIG,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also draw the masks into OUT/overlay.mp4.")] = False,
    videos: Any = VIDEOS,
    format: Annotated[
        Format,
        typer.Option(
            help="`png` (indexed), `ffv1` (lossless video), `rgba` (cut-outs), `rle` (COCO JSON) or `parquet` (one "
            "file per hour of video)."
        ),
    ] = Format["png"],
    trace: Annotated[
        Path | None,
        typer.Option(help="File for one line of JSON per write to memory: the evicted tokens and their usage."),
    ] = None,
    device: DeviceOption = None,
    dtype: Annotated[Precision, typer.Option(help="Precision of the convolutions.")] = Precision["auto"],
    engine: EngineOption = DEFAULT_ENGINE,
    bank: Annotated[
        Path | None,
        typer.Option(help="Start with the memory of the same objects from a file written by Tracker.save."),
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option(help="Refuse to start if the run may need more memory than this, such as 2GiB.")
    ] = None,
    reading: VideoReading = READING,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume an interrupted run; start a new one if there is none.")
    ] = False,
    checkpoint_every: Annotated[
        float, typer.Option(min=0, help="Seconds between checkpoints in OUT/checkpoint.")
    ] = 30.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run in the folder, and the trace.")
    ] = False,
) -> None:
    """Track objects through a video: give each object's mask where it first appears, get its mask in every frame.

    **Examples**

    `mnemask segment street.mp4 --mask first.png -o out --overlay`

    `mnemask segment street.mp4 --mask first.png -o out --as prores  # writes a cut-out for an editing program`

    `mnemask segment street.mp4 --box 120,80,200,160 -o out  # makes the first mask from a box: x, y, width, height`

    `mnemask segment street.mp4 --click 1=320,200 --not 1=320,260 -o out  # from a point on object 1 and one outside it`

    `mnemask segment street.mp4 --mask first.png --object 1=camel --object 2=rider:Anna -o out  # names the objects`

    `mnemask segment frames/ --mask masks/ -o out  # uses the masks that an annotation tool left for some frames`

    `mnemask segment frames/ --mask first.png --at 240:2=dog.png -o out  # adds object 2 at frame 240`

    `mnemask segment street.mp4 --mask first.png
    -o out --resume  # resumes after a crash or Ctrl-C, with the same masks`

    If something is wrong with a file, `mnemask doctor FILE` says what, and how to fix it.
    """
    import torch

    from mnemask.io import MASK_FORMATS
    from mnemask.io.stop_signals import StopSignals
    from mnemask.pipeline.render import report_of

    plan = None
    if bank is None:
        plan = prompts.plan(video, growing=reading.follow, begins_later=reading.begins_later)
    max_bytes = None if max_memory is None else mm.Budget(bytes=max_memory).max_bytes
    if resume and reading.live:
        raise mm.InputError(
            "a run with --live cannot be resumed: it drops different frames each time",
            "leave out --live or --resume",
        )
    _refuse_resume(resume, inputs.is_repeatable(video), video, trace, overwrite)
    precision = None if dtype is Precision["auto"] else getattr(torch, dtype.value)
    hooks = BATCH_HOOKS.get()
    for kind in (format.value, *videos.with_overlay(overlay).kinds):
        MASK_FORMATS[kind].check()
    if hooks.checks_only:
        if plan is not None:
            reading.check(plan, video, prompts.files())
        return
    network = (hooks.load or mm.load_model)(model, device=device, dtype=precision, engine=engine.value)
    run = _Run(
        video=video,
        out=out,
        prompts=prompts,
        plan=plan,
        reading=reading,
        model=model,
        tracker=mm.Tracker(network, config),
        bank=bank,
        engine=engine.value,
        format=format.value,
        overlay=overlay,
        videos=videos,
        trace=trace,
        resume=resume,
        overwrite=overwrite,
        checkpoint_every=checkpoint_every,
        max_bytes=max_bytes,
    )
    run.start()
    if resume and not run.take_up():
        emit("result", command="segment", out=str(out), **report_of(out))
        console.print(f"{out} is complete", markup=False)
        return
    run.prepare()
    with ExitStack() as stack:
        reader = run.open(stack)
        asked = stack.enter_context((hooks.signals or StopSignals)(reader.interrupt))
        progress = run.follow(reader, asked, stack.enter_context(shown_progress()), hooks.on_frame)
    emit("result", command="segment", out=str(out), **progress.to_dict())
    if not progress.complete:
        go_on = "; resume with --resume" if reader.repeatable else ""
        console.print(f"stopped by {progress.stopped_by} after {progress.frames} frames, all of them written{go_on}")
        raise typer.Exit(asked.exit_code)
    show_result(progress, run.tracker, out, run.all_videos.places(out))


@dataclass(slots=True, kw_only=True)
class _Run:
    """The options of one run and the state made from them; the methods are its stages, in the order of their calls.

    Attributes:
        plan: the prompts; None until they can be read, and for a run that has only a bank.
        tracker: a new tracker; the restored one when a run is resumed.
        checkpoint: the checkpoint to resume from; None for a new run.
    """

    video: str
    out: Path
    prompts: PromptOptions
    plan: PromptPlan | None
    reading: VideoReading
    model: str
    tracker: mm.Tracker
    bank: Path | None
    engine: str
    format: str
    overlay: bool
    videos: Any
    trace: Path | None
    resume: bool
    overwrite: bool
    checkpoint_every: float
    max_bytes: int | None
    checkpoint: Checkpoint | None = None
    objects: Mapping[int, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def all_videos(self) -> Any:
        """The videos that are written in addition to the masks, including the overlay."""
        return self.videos.with_overlay(self.overlay)

    def start(self) -> None:
        """Loads the bank, if one is given, and sets the objects' names and the run's settings."""
        from mnemask.prompts import parse_objects, refuse_unknown

        if self.bank is not None:
            self.tracker.warm_start(mm.Tracker.load(self.bank, self.tracker.model))
            if self.prompts.any:
                known = self.tracker.object_ids
                self.plan = self.prompts.plan(
                    self.video, growing=self.reading.follow, known=known, begins_later=self.reading.begins_later
                )
        self.objects = parse_objects(self.prompts.objects) if self.plan is None else self.plan.objects
        refuse_unknown(self.objects, self.tracker.object_ids if self.plan is None else self.objects)
        self.settings = {
            "video": inputs.of_video(self.video, growing=self.reading.follow),
            **self.prompts.settings(),
            "colours": {} if self.plan is None else self.plan.colours,
            "bank": inputs.of_files(self.bank),
            "model": inputs.of_model(self.model),
            **self.tracker.config.to_dict(),
            "format": self.format,
            "overlay": self.overlay,
            **self.videos.to_dict(),
            "on_corrupt": self.reading.on_corrupt,
            "start": self.reading.start,
            "stop": self.reading.stop,
            "engine": self.engine,
        }

    def take_up(self) -> bool:
        """Restores the state of an interrupted run, if there is one; returns whether anything is left to do.

        Raises:
            CheckpointError: if the run there has other settings, or masks but no checkpoint: a new run, which starts
                where there is none, would remove them. If masks are matched by names to pictures of a followed folder
                that would not have the same numbers again.
        """
        from mnemask.memory.policies import is_custom
        from mnemask.pipeline import find_checkpoint, is_complete

        if is_complete(self.out, self.settings, masks_elsewhere=BATCH_HOOKS.get().masks_elsewhere):
            return False
        policy, network = self.tracker.policy, self.tracker.model
        found = find_checkpoint(self.out, network.device, self.settings, policy if is_custom(policy) else None)
        if found is None:
            _refuse_masks_without_checkpoint(self.out)
        else:
            self._refuse_other_numbers(found)
            self.checkpoint = found
            self.tracker = mm.Tracker.from_state(found.state, network)
            console.print(f"resuming at frame {found.position}")
        return True

    def _refuse_other_numbers(self, found: Checkpoint) -> None:
        """Raises CheckpointError if pictures before the checkpoint are gone or new, and masks are matched by names."""
        from mnemask.errors import CheckpointError

        if not self.reading.follow or self.plan is None or not self.plan.by_names:
            return
        name = found.progress.get("last_name")  # older checkpoints lack it
        names = inputs.frame_names(self.video, self.prompts.files()) or []
        if name and names[found.last_frame : found.last_frame + 1] != [name]:
            raise CheckpointError(
                f"{inputs.shown(self.video)} has lost or gained pictures before {name!r}, with which the run would be "
                "resumed, so its masks cannot be matched to frames by names",
                "put the pictures there that the run began with, and no others before that one",
            )

    def prepare(self) -> None:
        """Makes masks from the clicks and boxes of the frames still to come, and logs notes about the prompts."""
        if self.plan is None:
            return
        if self.checkpoint is not None and self.checkpoint.progress["frames"]:
            self.plan.skip(self.checkpoint.position)
        self.reading.refuse_beyond(self.plan)
        self.plan.prepare(self.tracker.model)
        self.plan.say_notes()

    def open(self, stack: ExitStack) -> mm.VideoReader:
        """Opens the video until the stack is closed, and checks that it fits the options."""
        from mnemask.memory.trace import TraceFile

        start = None if self.checkpoint is None else self.checkpoint.last_frame
        reader = self.reading.open(self.video, start, self.prompts.files(), self.videos.originals)
        stack.enter_context(reader)
        self.all_videos.refuse_idle(self.format, reader.facts.timed)
        if self.all_videos.kinds and reader.facts.timed and reader.facts.footage.path is None:
            errors.print("the videos have no sound: it is kept only from files", soft_wrap=True)
        # Whether an address can be read again is known only once it is open.
        _refuse_resume(self.resume, reader.repeatable, self.video, self.trace, self.overwrite)
        if self.trace is not None:
            self.tracker.memory.trace = stack.enter_context(TraceFile(self.trace, overwrite=self.overwrite))
        return reader

    def follow(
        self,
        reader: mm.VideoReader,
        asked: Callable[[], str | None],
        show: Show,
        tell: Callable[[Any, mm.Masks, int | None], None],
    ) -> RunProgress:
        """Tracks the objects to the end of the video, or until a stop is requested."""
        before = 0 if self.checkpoint is None else max(self.checkpoint.progress["frames"] - 1, 0)
        growing = self.reading.follow  # the current number of frames is not the total
        total = None if reader.num_frames is None or growing else before + reader.num_frames

        def on_frame(progress: RunProgress, masks: mm.Masks) -> None:
            show_frames(show, progress, total)
            tell(progress, masks, total)

        return mm.segment(
            reader,
            self.tracker,
            self.out,
            self.plan or (lambda frame: None),
            mask_format=self.format,
            videos=self.all_videos,
            overwrite=self.overwrite or self.resume,
            settings=self.settings,
            checkpoint_every=self.checkpoint_every if reader.repeatable else None,
            resume=self.checkpoint,
            max_memory=self.max_bytes,
            stop=asked,
            on_frame=on_frame,
            inputs=[self.video, self.model, *self.prompts.files(), *([self.bank] if self.bank else [])],
            preview=None if self.plan is None else self.plan.preview,
            objects=self.objects,
        )


def _refuse_resume(resume: bool, repeatable: bool, video: str, trace: Path | None, overwrite: bool) -> None:
    if not resume:
        return
    if not repeatable:
        raise mm.InputError(
            f"{inputs.shown(video)} does not give the same frames again, so a run on it cannot be resumed",
            "save it to a file, or leave out --resume",
        )
    if trace is not None:
        raise mm.InputError("a trace cannot be resumed", "leave out --trace, or start again without --resume")
    if overwrite:
        raise mm.InputError("--resume continues a run and --overwrite starts a new one", "give only one of them")


def _refuse_masks_without_checkpoint(out: Path) -> None:
    from mnemask.errors import CheckpointError, counted
    from mnemask.io.written import Written

    masks = [path for path in Written(out).files() if out / "masks" in path.parents and path.stat().st_size]
    if masks:
        raise CheckpointError(
            f"{str(out)!r} holds {counted(len(masks), 'file')} of masks from a run that left no checkpoint, and so "
            "cannot be resumed",
            "give another folder, or start over (--overwrite, or --redo for a batch)",
        )
