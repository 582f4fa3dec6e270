"""`mnemask batch`: segments every clip of a manifest, on this machine or on a Ray cluster."""

from __future__ import annotations

import functools
import inspect
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, cast

import typer

import mnemask as mm
from mnemask.cli import segment
from mnemask.cli.app import command, console, errors
from mnemask.cli.output import emit, literal, say_error
from mnemask.cli.parameters import in_panel
from mnemask.cli.progress import BatchShown
from mnemask.cli.progress import progress as shown_progress

if TYPE_CHECKING:
    from mnemask.manifest.lines import Column, Manifest
    from mnemask.manifest.run import Backend
    from mnemask.manifest.schedule import Outcome

EXAMPLE = """\
video,name,mask,click,object,size
street.mp4,street,street-first.png,,1=car; 2=rider,
zoo/frames,zoo,,"1=320,200; 2=610,240",1=camel; 2=keeper,360
dock.mp4,dock,dock-masks,,,
"""
EXAMPLE_JSONL = """\
{"video": "street.mp4", "mask": "street-first.png", "objects": {"1": "car", "2": "rider"}}
{"video": "zoo/frames", "name": "zoo", "clicks": {"1": [320, 200], "2": [[610, 240], [622, 300]]}, "size": 360}
{"video": "dock.mp4", "box": [120, 80, 200, 160], "policy": "lfu", "_annotator": "AB"}
"""
_PROCESS_BYTES = 700 * 2**20
"""Memory of a worker for Python, PyTorch, the weights and the memory bank; measured with the compact weights."""
_OBJECTS = 3
"""Number of objects expected in a clip."""
_PANEL = "For every clip, unless set in its line"
REPORTS = ("report.html", "report.json")
P = ParamSpec("P")


SEGMENT = cast(Any, segment.segment).__wrapped__  # without the error reporting of `command`
OWN = ("out", "resume", "overwrite", "live", "follow", "reconnect", "trace")
"""Options of `segment` that are not columns: the batch sets them itself, or they only suit a single video."""


def options_of_a_clip() -> list[inspect.Parameter]:
    """Returns the parameters of `segment` that can be set for each clip."""
    parameters = inspect.signature(SEGMENT).parameters
    return [parameter for name, parameter in parameters.items() if name not in ("video", *OWN)]


def show_example(wanted: bool) -> bool:
    """Prints an example of a manifest and exits, if wanted."""
    if wanted:
        console.print(EXAMPLE, markup=False, end="")
        errors.print(f"\nthe same as JSON lines (clips.jsonl):\n{EXAMPLE_JSONL}", markup=False, soft_wrap=True)
        raise typer.Exit
    return wanted


def for_every_clip(function: Callable[P, None]) -> Callable[P, None]:
    """Adds the options of `segment` for one clip to a command, and passes those given by the user as `options`."""
    own = inspect.signature(function, eval_str=True).parameters
    added = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=in_panel(parameter.annotation, _PANEL))
        for parameter in options_of_a_clip()
    ]

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        context: Any = kwargs.pop("context")
        values = {each.name: kwargs.pop(each.name) for each in added}
        given = (name for name in values if context.get_parameter_source(name).name == "COMMANDLINE")
        columns = {each.name: max(each.opts, key=len).lstrip("-") for each in context.command.params}
        kwargs["options"] = {columns[name]: _plain(values[name]) for name in given}
        function(*args, **kwargs)

    injected = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    kept = [parameter for name, parameter in own.items() if name != "options"]
    run.__signature__ = inspect.Signature([injected, *kept, *added])  # type: ignore[attr-defined]
    return run


def _plain(value: Any) -> Any:
    """Returns the value of an option in the form in which a manifest holds it."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, Enum):
        return str(value.value)
    return value if isinstance(value, bool) else str(Path(value).resolve() if isinstance(value, Path) else value)


@command
@for_every_clip
def batch(
    manifest: Annotated[
        str,
        typer.Argument(help="A .csv or .jsonl file with one line per clip, its address, or a folder of clips."),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "-o", "--out", help="Folder for the results, with a subfolder per clip, or an address: s3://bucket/run."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Clips at a time. [default: as many as cores, GPUs and memory allow]")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="auto|ADDRESS", help="Run on a Ray cluster: `auto` for this machine's, or an address."),
    ] = None,
    redo: Annotated[
        bool, typer.Option("--redo", help="Redo clips done with other settings; without it they are refused.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Only read and check the manifest.")] = False,
    example: Annotated[
        bool, typer.Option("--example", callback=show_example, is_eager=True, help="Print a manifest and exit.")
    ] = False,
    options: Any = None,
) -> None:
    """Segment all clips of a manifest: several at a time, each as `mnemask segment --resume` would.

    A manifest has one line per clip: its `video`, its prompts and settings under the names of the options of
    `mnemask segment`, and the `name` of its folder. Relative paths are relative to the manifest.

    `video,mask,object,name`

    `street.mp4,street-first.png,1=car; 2=rider,street`

    `zoo/frames,zoo-masks,1=camel,zoo`

    **Examples**

    `mnemask batch --example > clips.csv  # writes a manifest to start from`

    `mnemask batch clips.csv -o out  # runs all clips on this machine; after Ctrl-C or a crash, run it again to resume`

    `mnemask batch clips.csv -o out --size 360 --overlay  # sets defaults for all lines`

    `mnemask batch clips/ -o out  # takes each video in a folder with the mask next to it (street.mp4, street.png)`

    `mnemask batch clips.jsonl -o s3://bucket/run --ray auto  # runs on a Ray cluster, with results on shared storage`

    A clip that fails does not stop the others: `OUT/report.html` has the reason, and the exit code is 1.
    """
    from mnemask.cli import batch_worker
    from mnemask.errors import counted
    from mnemask.manifest.storage import batch_folder

    columns = batch_worker.columns()
    read = _read(manifest, columns, batch_worker.placed_here(options))
    for note in read.notes:
        errors.print(literal(note), soft_wrap=True)
    if check:
        emit("result", command="batch", clips=len(read.clips), checked=True)
        console.print(f"{counted(len(read.clips), 'clip')}, no errors found")
        return
    if out is None:
        raise mm.InputError("no folder for the results is given", "give one (-o OUT), or --check to check only")
    begin = time.monotonic()
    with batch_folder(out, REPORTS) as write:
        outcomes, why = _run(read, out, workers, ray, redo)
        _finish(read, out, outcomes, time.monotonic() - begin, why, write)


def _read(manifest: str, columns: list[Column], defaults: Mapping[str, Any]) -> Manifest:
    """Returns the manifest, with defaults filled in; raises InputError after reporting each invalid line."""
    from mnemask.cli import batch_worker
    from mnemask.io.storage import fetched, is_address
    from mnemask.manifest.folder import read_folder
    from mnemask.manifest.lines import read_manifest

    with batch_worker.checking() as check, TemporaryDirectory(prefix="mnemask-") as scratch:
        if is_address(manifest):
            path = Path(fetched(manifest, Path(scratch), only_file=True))
            read = read_manifest(path, columns, check, defaults, base=manifest.rpartition("/")[0])
        else:
            path = Path(manifest)
            read = (read_folder if path.is_dir() else read_manifest)(path, columns, check, defaults)
    if read.faults:
        for fault in read.faults:
            say_error(fault, 2)
        of = len(read.clips) + len(read.faults)
        raise mm.InputError(
            f"{len(read.faults)} of {of} clips in {path.name!r} cannot be used", "correct them; no clip was started"
        )
    return read


def _run(
    read: Manifest, out: str, workers: int | None, ray: str | None, redo: bool
) -> tuple[dict[str, Outcome], str | None]:
    """Returns the outcomes of all clips, and the name of the signal that ended the batch early, or None."""
    from mnemask.io.stop_signals import StopSignals
    from mnemask.manifest.run import run_batch

    backend = _backend(read, out, workers, ray, redo)
    with shown_progress() as show, StopSignals(lambda: None) as asked:
        state = BatchShown(show, len(read.clips))
        outcomes = run_batch(read.clips, backend, stop=asked, on_event=state.hear, on_end=state.end)
    return outcomes, asked()


def _backend(read: Manifest, out: str, workers: int | None, ray: str | None, redo: bool) -> Backend:
    from mnemask.io.lock import LOCK
    from mnemask.io.storage import is_address
    from mnemask.manifest.run import Setup
    from mnemask.model.devices import choose_device

    memory = _memory_each(read.clips)
    place = out if is_address(out) else str(Path(out).resolve())
    must_see = "" if is_address(out) else str(Path(place) / LOCK)
    options = {"out": place, "redo": redo}
    setup = Setup("mnemask.cli.batch_worker:open_worker", options, memory=memory, must_see=must_see)
    if ray is not None:
        from mnemask.manifest.on_ray import RayWorkers

        devices = {str(clip.options.get("device", "cuda")) for clip in read.clips}
        setup = replace(setup, gpus=float(any(device.startswith("cuda") for device in devices)))
        return RayWorkers(setup, ray, workers or len(read.clips))
    import torch

    from mnemask.manifest.local import LocalWorkers
    from mnemask.manifest.sizing import free_memory, num_workers, usable_cores

    on_gpu = choose_device(None).type == "cuda" and not any("device" in clip.options for clip in read.clips)
    gpus = torch.cuda.device_count() if on_gpu else 0
    number, threads = num_workers(usable_cores(), free_memory(), memory, len(read.clips), gpus, workers)
    setup = replace(setup, threads=threads, gpus=float(gpus > 0))
    return LocalWorkers(setup, number, gpus)


def _memory_each(clips: Any) -> int:
    """Returns the bytes that a worker may need, for the largest frame size of the clips."""
    from mnemask.config import views_of
    from mnemask.pipeline.estimates import activation_bytes

    side = max(
        int(clip.options.get("size", 480)) * view.scale
        for clip in clips
        for view in views_of(str(clip.options.get("tta", "")))
    )
    side = math.ceil(side)
    return _PROCESS_BYTES + activation_bytes((side, side * 16 // 9), _OBJECTS)


def _finish(
    read: Manifest,
    out: str,
    outcomes: Mapping[str, Outcome],
    seconds: float,
    why: str | None,
    write: Callable[[dict[str, str]], None],
) -> None:
    """Writes the reports, prints a summary, and exits with the batch's exit code unless all went well."""
    from mnemask.errors import counted
    from mnemask.manifest.report import page_of, report_of

    report = report_of(read, outcomes, seconds, why)
    write(dict(zip(REPORTS, (page_of(report), report.to_json()), strict=True)))
    emit("result", command="batch", out=out, **{key: each for key, each in report.facts.items() if key != "clips"})
    counts = report.facts["counts"]
    said = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    console.print(f"{counted(len(read.clips), 'clip')} in {seconds:.1f} s: {said}", markup=False)
    console.print(f"report in {out}/report.html", markup=False)
    if why is not None:
        console.print("stopped; run the same command again to resume")
        raise typer.Exit(130 if why == "SIGINT" else 143)
    if counts["failed"]:
        raise typer.Exit(1)
