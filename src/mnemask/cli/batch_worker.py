"""The worker of `mnemask batch`: runs `mnemask segment --resume` on each clip, with weights that stay loaded."""

from __future__ import annotations

import inspect
import json
import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, get_args, get_origin

import typer

import mnemask as mm
from mnemask.cli import segment
from mnemask.cli.app import USAGE_ERROR
from mnemask.cli.batch import SEGMENT, options_of_a_clip
from mnemask.cli.output import errors, speaking
from mnemask.config import views_of
from mnemask.errors import CheckpointError, InputError, OutputError
from mnemask.io.lock import FolderInUseError, OutputLock
from mnemask.io.storage import fetched, is_fetched
from mnemask.io.written import Written
from mnemask.manifest.lines import VIDEO, Column, placed
from mnemask.manifest.schedule import Outcome, State
from mnemask.manifest.storage import MOMENTS, ClipFolder, clip_folder

if TYPE_CHECKING:
    from mnemask.manifest.run import Control, Work
    from mnemask.manifest.schedule import Clip

_ADVANCE_SECONDS = 0.5
_NETWORKS = 2  # networks, of different weights or devices, that stay loaded


@lru_cache
def clip_command() -> Any:
    """Returns `segment` as a click command that raises its errors instead of printing them."""
    app = typer.Typer()
    app.command()(SEGMENT)
    return typer.main.get_command(app)


def columns() -> list[Column]:
    """Returns the columns that a manifest may have: the options of `segment`."""
    return [Column(VIDEO, is_path=True), *(_column(parameter) for parameter in options_of_a_clip())]


def _column(parameter: inspect.Parameter) -> Column:
    kind, info = get_args(parameter.annotation)[:2]
    kinds = {kind, *get_args(kind)}
    declared = (info.default, *(info.param_decls or ()))  # in an Annotated, typer stores the first name as the default
    spelled = [each for each in declared if isinstance(each, str) and each.startswith("--")]
    name = spelled[0].removeprefix("--").partition("/")[0] if spelled else parameter.name.replace("_", "-")
    many = any(get_origin(each) is list for each in kinds)
    return Column(name, many, bool in kinds, Path in kinds, _PLACES.get(name, lambda text, base: text))


def _place_at(text: str, base: str) -> str:
    """Returns FRAME=MASK with the path of the mask made absolute."""
    where, equals, path = text.partition("=")
    return where + equals + placed(path, base) if path else text


def _place_model(text: str, base: str) -> str:
    """Returns the path of a checkpoint made absolute, or a model's name unchanged."""
    return str(Path(base, text)) if Path(base, text).is_file() else text


def _refuse_code(text: str, base: str) -> str:
    """Returns the policy's name; raises InputError for the user's own code, which a manifest may not import."""
    if ":" in text:
        raise InputError(
            f"policy {text!r} is code, which a manifest may not import",
            "give it on the command line (--policy), or install a package that registers it",
        )
    return text


_PLACES: dict[str, Callable[[str, str], str]] = {"at": _place_at, "model": _place_model, "policy": _refuse_code}


def placed_here(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options given to the command, with their paths made absolute."""
    by_name = {column.name: column for column in columns()}

    def place(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return [place(name, each) for each in value]
        column = by_name[name]
        if name == "policy":  # the user's own code: an absolute path, so that workers find it from any folder
            file, colon, rest = value.partition(".py:")
            return f"{Path(file).resolve()}{colon}{rest}" if colon else value
        return value if column.flag or column.is_path else column.place(value, str(Path.cwd()))

    return {name: place(name, value) for name, value in options.items()}


def arguments(options: Mapping[str, Any]) -> list[str]:
    """Returns a manifest line's options as command-line arguments for `segment`."""
    found = []
    for name, value in options.items():
        if name == VIDEO:
            continue
        if isinstance(value, bool):
            found += [f"--{name}"] * value
        else:
            found += [f"--{name}={each}" for each in (value if isinstance(value, list) else [value])]
    return [*found, "--", str(options[VIDEO])]


def open_worker(options: Mapping[str, Any]) -> Work:
    """Returns the function that segments one clip.

    Args:
        options: `out`, the folder or address of the batch; `redo`, whether to redo clips that were done with other
            settings; `threads`, the number of threads.
    """
    import torch

    torch.set_num_threads(int(options["threads"]))
    load = lru_cache(_NETWORKS)(mm.load_model)

    def work(clip: Clip, control: Control) -> Outcome:
        with TemporaryDirectory(prefix="mnemask-") as scratch, clip_folder(options["out"], clip.name) as folder:
            given = _at_hand(clip.options, Path(scratch))
            try:
                outcome = _segment(given, folder, control, load)
            except CheckpointError as error:
                if not options["redo"]:
                    raise
                folder.begin_again()
                outcome = _segment(given, folder, control, load, f"done again: {error.problem}")
            if outcome.state == "done":
                folder.keep()
            return outcome

    return work


def _at_hand(options: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    """Returns the options with files on remote storage replaced by local copies, each in its own folder."""
    paths = {VIDEO, "at", *(column.name for column in columns() if column.is_path)}
    folders = (scratch / str(number) for number in count())

    def at_hand(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return [at_hand(name, each) for each in value]
        if name not in paths or not isinstance(value, str) or not is_fetched(value):
            return value
        frame, equals, address = value.partition("=") if name == "at" else ("", "", value)
        return f"{frame}{equals}{fetched(address, next(folders))}"

    return {name: at_hand(name, value) for name, value in options.items()}


def _segment(
    options: Mapping[str, Any], place: ClipFolder, control: Control, load: Callable[..., Any], again: str = ""
) -> Outcome:
    """Segments a clip and returns its outcome; raises MnemaskError if that is not possible."""
    folder, teller, said = place.path, _Teller(control), [again] if again else []
    hooks = segment.BatchHooks(load, lambda interrupt: _Asked(control), teller, masks_elsewhere=bool(place.address))
    token = segment.BATCH_HOOKS.set(hooks)
    begin = time.monotonic()
    try:
        with speaking(quiet=True, as_json=False), _warnings(said):
            code = _call(options, folder, "--overwrite" if again else "--resume")
    except FolderInUseError as error:
        return Outcome("busy", error.problem, error.remedy)
    finally:
        segment.BATCH_HOOKS.reset(token)
    if code:
        return Outcome("stopped", "the batch was stopped", "run it again to resume the clip")
    facts = {
        **_facts(folder),
        "moments": _moments(folder, str(options[VIDEO])),
        "worked_seconds": round(time.monotonic() - begin, 3),
        "warnings": said,
    }
    state: State = "done" if teller.frames else "complete"
    return Outcome(state, facts={**facts, "host": socket.gethostname()})


def _facts(folder: Path) -> dict[str, Any]:
    """Returns the facts about a clip that the batch's report takes from the clip's report."""
    report = json.loads((folder / "report.json").read_text())
    kept = ("frames", "seconds", "frames_per_second", "resumed_at", "peak_memory_bytes")
    known = {name: report.get(name) for name in kept}
    return {**known, "events": report.get("video")}


def _moments(folder: Path, video: str) -> list[dict[str, Any]]:
    """Returns the most doubtful frames of a complete clip; they are found once and saved."""
    from mnemask.manifest.report import doubtful_frames

    saved, written = folder / MOMENTS, Written(folder)
    if written.owns(saved):
        return list(json.loads(saved.read_bytes()))
    found = [each.to_dict() for each in doubtful_frames(folder, video)]
    # A user's own file of that name is left alone; the batch's report has the frames anyway.
    with suppress(OutputError), OutputLock(folder):
        written.write(saved, json.dumps(found))
    return found


class _Teller:
    """Called after each frame; reports the clip's progress, at most every `_ADVANCE_SECONDS`.

    Attributes:
        frames: the number of frames tracked.
    """

    def __init__(self, control: Control) -> None:
        self.frames = 0
        self._control, self._said = control, 0.0

    def __call__(self, progress: Any, masks: mm.Masks, total: int | None) -> None:
        self.frames += 1
        if time.monotonic() - self._said >= _ADVANCE_SECONDS:
            self._said = time.monotonic()
            self._control.advance(progress.frames, total)


class _Asked:
    """Replaces StopSignals in a worker, where the batch handles the signals."""

    exit_code = 130

    def __init__(self, control: Control) -> None:
        self._control = control

    def __call__(self) -> str | None:
        return self._control.stop()

    def __enter__(self) -> _Asked:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@contextmanager
def _warnings(said: list[str]) -> Iterator[None]:
    """Collects warnings in `said` and prints nothing while the context is active."""

    class Noting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    root, handler = logging.getLogger(), Noting(logging.WARNING)
    root.addHandler(handler)
    errors.quiet = True
    try:
        yield
    finally:
        errors.quiet = False
        root.removeHandler(handler)


@contextmanager
def checking() -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yields a function that raises MnemaskError for options that `segment` refuses before it loads the network."""
    with TemporaryDirectory(prefix="mnemask-") as nowhere:

        def check(options: Mapping[str, Any]) -> None:
            if any(is_fetched(str(each)) for each in options.values()):
                # Files on remote storage are checked only when the clip's turn comes.
                with _usage_told(options):
                    clip_command().make_context("segment", _line(options, Path(nowhere), "--resume"))
                views_of(str(options.get("tta", "")))
                return
            token = segment.BATCH_HOOKS.set(segment.BatchHooks(checks_only=True))
            try:
                with speaking(quiet=True, as_json=False):
                    _call(options, Path(nowhere), "--resume")
            finally:
                segment.BATCH_HOOKS.reset(token)

        yield check


def _call(options: Mapping[str, Any], folder: Path, mode: str) -> int:
    """Calls `segment` and returns its exit code, 0 if the clip is complete; raises MnemaskError if it fails."""
    with _usage_told(options):
        code = clip_command().main(_line(options, folder, mode), "segment", standalone_mode=False)
    return int(code or 0)


def _line(options: Mapping[str, Any], folder: Path, mode: str) -> list[str]:
    *given, end, video = arguments(options)
    return [*given, mode, f"--out={folder}", end, video]


@contextmanager
def _usage_told(options: Mapping[str, Any]) -> Iterator[None]:
    """Converts errors in the usage of `segment`, in a `with` block, to an InputError that names the option."""
    try:
        yield
    except USAGE_ERROR as error:
        name = max(getattr(getattr(error, "param", None), "opts", ["--"]), key=len).removeprefix("--")
        said = f"{name} is {options[name]!r}: " if name in options else ""
        raise InputError(
            said + error.message.removeprefix("Value error, ").rstrip("."),
            "correct it, or leave it out to use the default",
        ) from error
