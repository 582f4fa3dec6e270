"""`mnemask segment`: from a video and the masks of its first frame to the masks of every frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import mnemask as mm
from mnemask import choices
from mnemask.cli import inputs
from mnemask.cli.app import command, console, errors, locks_out
from mnemask.cli.inputs import PromptOptions
from mnemask.cli.options import (
    CONFIG,
    DEFAULT_BOX_FORMAT,
    DEFAULT_ENGINE,
    VIDEOS,
    AtOption,
    BoxFormatOption,
    BoxOption,
    CleanOption,
    ClickOption,
    DeviceOption,
    EngineOption,
    MaskOption,
    ModelOption,
    NotOption,
    ObjectOption,
    RemoveOption,
    VoidOption,
    configured,
    with_videos,
)
from mnemask.cli.output import emit
from mnemask.cli.progress import progress as shown_progress
from mnemask.cli.progress import show_frames

if TYPE_CHECKING:
    from mnemask.cli.progress import Show
    from mnemask.pipeline import RunProgress
    from mnemask.prompts import PromptPlan

Format = Enum("Format", {name: name for name in choices.MASK_FORMAT_NAMES})  # type: ignore[misc]
Precision = Enum("Precision", {name: name for name in ("auto", "float32", "bfloat16", "float16")})  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class Lent:
    """What a process that segments clip after clip lends to each (`cli/batch_worker.py`); nothing for a single one.

    Attributes:
        load: in place of `load_model`, so that weights stay loaded.
        signals: in place of StopSignals.
        on_frame: is called with progress, masks and the number of frames after each.
        checks_only: whether to end where the network would be loaded, with all that is known by then checked.
    """

    load: Callable[..., Any] | None = None
    signals: Callable[[Callable[[], None]], AbstractContextManager[Any]] | None = None
    on_frame: Callable[[Any, mm.Masks, int | None], None] = lambda progress, masks, total: None
    checks_only: bool = False


_NOTHING_LENT = Lent()
LENT: ContextVar[Lent] = ContextVar("LENT", default=_NOTHING_LENT)
_TOLD = 5  # objects of which the end of a run tells where to look
OnCorrupt = Enum("OnCorrupt", {"stop": "stop", "skip": "skip", "hold": "hold"})


@command
@locks_out
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
    mask: MaskOption = None,
    box: BoxOption = None,
    box_format: BoxFormatOption = DEFAULT_BOX_FORMAT,
    click: ClickOption = None,
    not_: NotOption = None,
    at: AtOption = None,
    remove: RemoveOption = None,
    object_: ObjectOption = None,
    void: VoidOption = "auto",
    clean_masks: CleanOption = False,
    model: ModelOption = "compact",
    config: mm.TrackerConfig = CONFIG,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also draw the masks into OUT/overlay.mp4.")] = False,
    videos: Any = VIDEOS,
    format: Annotated[
        Format,
        typer.Option(
            help="`png` indexed, `ffv1` lossless video, `rgba` cut-outs, `rle` COCO JSON, `parquet` a file an hour."
        ),
    ] = Format["png"],
    trace: Annotated[
        Path | None,
        typer.Option(help="File for one line of JSON per write: what was evicted, and how it had been used."),
    ] = None,
    device: DeviceOption = None,
    dtype: Annotated[Precision, typer.Option(help="Precision of the convolutions.")] = Precision["auto"],
    engine: EngineOption = DEFAULT_ENGINE,
    adapt: Annotated[
        str | None,
        typer.Option(
            metavar="60s|STEPS",
            help="Tune the network to the first objects before tracking, for so many seconds or steps; with steps the "
            "masks are the same each time. It is kept only if it does better on held-out copies of their frame.",
        ),
    ] = None,
    bank: Annotated[
        Path | None, typer.Option(help="Start from a memory bank of the same objects (Tracker.save).")
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option(help="Refuse to start if the run may need more memory than this, such as 2GiB.")
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Drop frames to keep up with a camera.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="The file or folder is still being written.")] = False,
    on_corrupt: Annotated[
        OnCorrupt, typer.Option(help="A damaged frame: stop, skip it, or hold the one before.")
    ] = OnCorrupt["stop"],
    reconnect: Annotated[
        float, typer.Option(min=0, help="Seconds to keep reconnecting when a camera or an address breaks off.")
    ] = 0.0,
    start: Annotated[
        str,
        typer.Option(help="First frame to read: a number from 0, or a time (12.5s, 00:01:30). --mask belongs to it."),
    ] = "0",
    stop: Annotated[str | None, typer.Option(help="Frame or time to stop before. Frames keep their numbers.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume a run that was cut off; start one if there is none.")
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

    `mnemask segment street.mp4 --mask first.png -o out --as prores` cuts the object out for an editing program.

    `mnemask segment street.mp4 --box 120,80,200,160 -o out` makes the first mask from a box: x, y, width, height.

    `mnemask segment street.mp4 --click 1=320,200 --not 1=320,260 -o out` from a place on object 1 and one outside it.

    `mnemask segment street.mp4 --mask first.png --object 1=camel --object 2=rider:Anna -o out` says what objects are.

    `mnemask segment frames/ --mask masks/ -o out` uses the masks that an annotation tool left for some frames.

    `mnemask segment frames/ --mask first.png --at 240:2=dog.png -o out` adds object 2 at frame 240.

    `mnemask segment street.mp4 --mask first.png -o out --resume` resumes after a crash or Ctrl-C, with the same masks.

    Something wrong with a file? `mnemask doctor FILE` says what.
    """
    import torch

    from mnemask.io.stop_signals import StopSignals
    from mnemask.memory.policies import is_own
    from mnemask.memory.trace import TraceFile
    from mnemask.pipeline import find_checkpoint, is_complete
    from mnemask.pipeline.checkpoint import network_of
    from mnemask.prompts import parse_objects, refuse_unknown

    prompts = PromptOptions(
        mask,
        box or (),
        at or (),
        clean_masks,
        remove or (),
        box_format.value,
        void,
        click or (),
        not_ or (),
        object_ or (),
    )
    plan = prompts.plan(video, growing=follow) if bank is None else None
    max_bytes = None if max_memory is None else mm.Budget(bytes=max_memory).max_bytes
    _refuse_resume(resume, inputs.is_repeatable(video) and not live, video, trace, overwrite)
    length = None if adapt is None else _adaptation(adapt, engine.value, bank, live, max_bytes)
    precision = None if dtype is Precision["auto"] else getattr(torch, dtype.value)
    lent = LENT.get()
    if lent.checks_only:
        return
    network = (lent.load or mm.load_model)(model, device=device, dtype=precision, engine=engine.value)
    tracker = mm.Tracker(network, config)
    if bank is not None:
        tracker.warm_start(mm.Tracker.load(bank, tracker.model))
        plan = prompts.plan(video, growing=follow, known=tracker.object_ids) if prompts.any else None
    objects = parse_objects(prompts.objects) if plan is None else plan.objects
    refuse_unknown(objects, tracker.object_ids if plan is None else objects)
    settings = {
        "video": inputs.of_video(video, growing=follow),
        **prompts.settings(),
        "colours": {} if plan is None else plan.colours,
        "bank": inputs.of_files(bank),
        "model": inputs.of_model(model),
        **tracker.config.to_dict(),
        "format": format.value,
        "overlay": overlay,
        **videos.to_dict(),
        "on_corrupt": on_corrupt.value,
        "start": start,
        "stop": stop,
        "engine": engine.value,
        "adapt": length,
    }
    checkpoint = None
    if resume:
        if is_complete(out, settings):
            emit("result", command="segment", out=str(out), complete=True)
            console.print(f"{out} is complete", markup=False)
            return
        checkpoint = find_checkpoint(
            out, tracker.model.device, settings, tracker.policy if is_own(tracker.policy) else None
        )
    if checkpoint is not None:
        network = tracker.model if length is None else network_of(out, checkpoint, tracker.model)
        tracker = mm.Tracker.from_state(checkpoint.state, network)
        if plan is not None and checkpoint.progress["frames"]:
            plan.skip(checkpoint.position)
        console.print(f"resuming at frame {checkpoint.position}")
    if plan is not None:
        _refuse_beyond(plan, stop)
        if start != "0" and (checkpoint is None or not checkpoint.progress["frames"]):
            plan.begin_later()
        plan.prepare(tracker.model)
        plan.say_notes()
    with ExitStack() as stack:
        reader = stack.enter_context(
            mm.VideoReader(
                video,
                start=start if checkpoint is None else checkpoint.last_frame,
                stop=stop,
                live=live,
                follow=follow,
                on_corrupt=on_corrupt.value,
                reconnect=reconnect,
                masks=prompts.files(),
                originals=videos.originals,
            )
        )
        videos = videos.with_overlay(overlay)
        videos.refuse_idle(format.value, reader.facts.timed)
        if videos.kinds and reader.facts.timed and reader.facts.footage.path is None:
            errors.print("sound is kept of files alone, so the videos have none", soft_wrap=True)
        # Of an address only the connection tells.
        _refuse_resume(resume, reader.repeatable, video, trace, overwrite)
        if trace is not None:
            tracker.memory.trace = stack.enter_context(TraceFile(trace, overwrite=overwrite))
        asked = stack.enter_context((lent.signals or StopSignals)(reader.interrupt))
        show = stack.enter_context(shown_progress())
        before = 0 if checkpoint is None else max(checkpoint.progress["frames"] - 1, 0)
        total = None if reader.num_frames is None else before + reader.num_frames

        def on_frame(progress: RunProgress, masks: mm.Masks) -> None:
            show_frames(show, progress, total)
            lent.on_frame(progress, masks, total)

        progress = mm.segment(
            reader,
            tracker,
            out,
            plan or (lambda frame: None),
            mask_format=format.value,
            videos=videos,
            overwrite=overwrite or resume,
            settings=settings,
            checkpoint_every=checkpoint_every if reader.repeatable else None,
            resume=checkpoint,
            max_memory=max_bytes,
            events=lambda: reader.events,
            source=reader.facts.to_dict(),
            stop=asked,
            on_frame=on_frame,
            inputs=[video, model, *prompts.files(), *([bank] if bank else [])],
            preview=None if plan is None else plan.preview,
            objects=objects,
            adapt=length,
            on_adapt=lambda steps, seconds: _show_adapting(show, length or {}, steps, seconds),
        )
    emit("result", command="segment", out=str(out), **progress.to_dict())
    if not progress.complete:
        go_on = "; resume with --resume" if reader.repeatable else ""
        console.print(f"stopped by {progress.stopped_by} after {progress.frames} frames, all of them written{go_on}")
        raise typer.Exit(asked.exit_code)
    if plan is not None:
        plan.check_all_given(progress.frames)
    _summarise(progress, tracker, out, videos.places(out))


def _adaptation(text: str, engine: str, bank: Path | None, live: bool, max_bytes: int | None) -> dict[str, int | float]:
    """Returns how long to adapt; raises InputError where that cannot be."""
    from mnemask.training.adapt import parse_length

    if engine != "eager":
        raise mm.InputError(f"--adapt trains with PyTorch, and the engine is {engine}", "leave out one of them")
    if bank is not None:
        raise mm.InputError("--bank has memories of the network as it was before --adapt", "leave out one of them")
    if live:
        raise mm.InputError("--adapt takes long, and --live would drop what comes meanwhile", "leave out one of them")
    if max_bytes is not None:
        raise mm.InputError("what --adapt needs is not in the estimate of --max-memory", "leave out one of them")
    return parse_length(text)


def _show_adapting(show: Show, length: dict[str, int | float], steps: int, seconds: float) -> None:
    done, total = (steps, length["steps"]) if "steps" in length else (seconds, length["seconds"])
    show(round(done), round(total), f"adapting: {steps} steps in {seconds:.0f} s", "adapting", unit=next(iter(length)))


def _refuse_beyond(plan: PromptPlan, stop: str | None) -> None:
    """Raises InputError if masks are given for frames that are not read; where --stop is a time, the end tells."""
    from mnemask.io.reader import Position

    end = None if stop is None else Position.of(stop).frame
    if end is not None and (beyond := [frame for frame in plan.to_come if frame >= end]):
        raise mm.InputError(f"masks are given for frame {min(beyond)}, and --stop {stop} is before it", "correct one")


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
        raise mm.InputError("--resume continues a run and --overwrite starts again", "give one of them")


def _summarise(progress: RunProgress, tracker: mm.Tracker, out: Path, videos: Mapping[str, Path]) -> None:
    held = progress.memory or tracker.stats()
    console.print(
        f"{progress.frames} frames, objects {', '.join(map(str, tracker.object_ids))} in {progress.seconds:.1f} s "
        f"({progress.frames_per_second:.2f} frames/s); memory {held.tokens} tokens "
        f"({held.frames:.2f} frames, {held.bank_bytes / 2**20:.1f} MiB), {held.evictions} evicted"
    )
    happened = ", ".join(f"{name.replace('_', ' ')} {noted['count']}" for name, noted in progress.video.items())
    if about := progress.source.get("about"):
        errors.print(f"of the video: {'; '.join(about)}", markup=False)
    if happened:
        errors.print(f"[yellow]of the video:[/] {happened}; report.json tells at which frames")
    if adapted := progress.adaptation:
        how = "better than" if adapted["kept"] else "not better than, so not used instead of"
        console.print(
            f"adapted in {adapted['steps']} steps, {adapted['seconds']} s: on held-out copies of the first frame IoU "
            f"{adapted['after']:.3f}, {how} {adapted['before']:.3f} before"
        )
    look = {object_id: str(each["look"]) for object_id, each in progress.looks.items() if each["look"]}
    for object_id, where in list(look.items())[:_TOLD]:
        info = progress.objects.get(object_id)
        name = f"object {object_id} ({info})" if info else f"object {object_id}"
        shown = where if len(where) <= 100 else f"{where[:100]} ..."
        console.print(f"{name} is {shown}", markup=False)
    if len(look) > _TOLD:
        console.print(f"{len(look) - _TOLD} more objects are lost or doubtful somewhere; report.json tells where")
    console.print(
        ", ".join([f"masks in {out / 'masks'}", *(f"{kind} {path}" for kind, path in videos.items())]), markup=False
    )
