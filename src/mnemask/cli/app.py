"""Shared by all commands: the application, error reporting, `--quiet` and `--json`, and the handling of Ctrl-C.

The first SIGINT or SIGTERM asks a run to end cleanly, the second ends it at once; none is lost.
"""

from __future__ import annotations

import _thread
import functools
import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, ParamSpec

import typer
from typer.core import TyperCommand

import mnemask as mm
from mnemask.cli.output import accept_any_text, console, emit, errors, hear_the_package, literal, say_error, speaking


class Interrupts:
    """Handles Ctrl-C outside `StopSignals`, from the first import to the end: exit code 130 and no traceback.

    Attributes:
        heard: whether a Ctrl-C that should end the command has arrived.
    """

    def __init__(self) -> None:
        self.heard = False
        self._installed = False

    def leave_at_once(self) -> None:
        """Makes a Ctrl-C end the process immediately, while there is nothing to save.

        A process started with SIGINT ignored, such as a background job of a script, continues to ignore it.
        """
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))
            self._installed = True

    def raise_once(self) -> None:
        """Makes the first Ctrl-C raise KeyboardInterrupt and the second end the process immediately."""
        if self._installed:
            self._repeat_ignored()
            signal.signal(signal.SIGINT, self._raise)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self.heard:
            os._exit(128 + number)
        self.heard = True
        raise KeyboardInterrupt

    def _repeat_ignored(self) -> None:
        """Raises KeyboardInterrupt again where Python discarded it, which it does while an object is finalised."""
        show, main_thread = sys.unraisablehook, threading.get_ident()

        def interrupt() -> None:
            if hasattr(signal, "pthread_kill"):
                signal.pthread_kill(main_thread, signal.SIGINT)  # this ends also a wait of the main thread
            else:
                _thread.interrupt_main()

        def hook(ignored: sys.UnraisableHookArgs) -> None:
            if not issubclass(ignored.exc_type, KeyboardInterrupt):
                show(ignored)
                return
            self.heard = False
            # Delayed, because an exception raised inside this hook is ignored too.
            again = threading.Timer(0.05, interrupt)
            again.daemon = True
            again.start()

        sys.unraisablehook = hook


INTERRUPTS = Interrupts()


P = ParamSpec("P")

app = typer.Typer(
    name="mnemask",
    help="Segment and track objects through video of any length in fixed memory.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show only warnings and errors.")]
Json = Annotated[
    bool,
    typer.Option("--json", help="Write one JSON object per line: progress, notices, result (docs/command-line.md)."),
]

USAGE_ERROR: type[Any] = typer.BadParameter.__mro__[1]  # UsageError of click, or of typer's own copy of click

__all__ = ["USAGE_ERROR", "app", "command", "console", "errors", "literal", "main"]


class Command(TyperCommand):
    """A command whose usage errors name the invalid value as well; typer names only the option.

    It also refuses paths that are empty, which `Path` takes for the current folder, and two values of --mask, of which
    the parser drops the first.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Returns the remaining arguments; raises typer.BadParameter for an invalid value of an option."""
        given = list(args)
        try:
            remaining = super().parse_args(ctx, args)
            # As typed: `Path` makes "." of an empty one.
            texts, _, _ = self.make_parser(ctx).parse_args(list(given))
            for param in self.params:
                if param.param_type_name == "argument":
                    text = texts.get(param.name)
                    _check_paths(ctx, param, text if isinstance(text, (list, tuple)) else [text])
                elif isinstance(ctx.params.get(param.name), Path):
                    _check_paths(ctx, param, _values_of(param.opts, given))
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            values = _values_of(error.param.opts, given) if error.param is not None else []
            if values and not any(value in error.message for value in values):
                error.message = f"{', '.join(map(repr, values))}: {error.message}"
            raise
        except USAGE_ERROR as error:
            # Path.is_file raises for names that no file can have.
            files = [arg for arg in given if os.path.isfile(arg)]  # noqa: PTH113
            if "unexpected extra argument" in error.message and len(files) > 1:
                error.message = (
                    f"Got unexpected extra files, such as {files[-1]!r}; if a pattern was meant, put it in quotes, as "
                    "in 'frames/*.png', or give the folder"
                )
            raise
        return remaining


def _check_paths(ctx: Any, param: Any, values: Sequence[str | None]) -> None:
    """Raises typer.BadParameter for an empty path, and for several masks of the first frame."""
    if "" in values:
        raise typer.BadParameter("it is empty, as the value of a variable that is not set; give one", ctx, param)
    if param.name == "mask" and len(set(values)) > 1:
        raise typer.BadParameter(
            f"{', '.join(map(repr, values))} are {len(values)} paths; give one, and each further mask as "
            "--at FRAME:ID=MASK",
            ctx,
            param,
        )


def _values_of(names: Sequence[str], args: Sequence[str]) -> list[str]:
    """Returns the values given to the option with these names, as in `--size 3` or `--size=3`."""
    pairs = [arg.partition("=") for arg in args]
    return [
        value if equals else following
        for (name, equals, value), following in zip(pairs, [*args[1:], ""], strict=False)
        if name in names
    ]


def main() -> None:
    """Runs the command line."""
    INTERRUPTS.leave_at_once()
    accept_any_text()
    hear_the_package()
    try:
        app()
    finally:
        INTERRUPTS.leave_at_once()  # everything is written; a Ctrl-C while Python shuts down needs no traceback


def command(function: Callable[P, None]) -> Callable[P, None]:
    """Registers a command that reports a failure in one sentence: exit code 2, or 130 if it is interrupted.

    The command gets the options `--quiet` and `--json`. If it has a `--json FILE` of its own (parameter `json_file`),
    only `--quiet` is added, and `--json -` selects one JSON object per line and is passed on as None.
    """
    signature = inspect.signature(function, eval_str=True)
    own = dict(signature.parameters)
    has_json = "json_file" in own

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        quiet, as_json = bool(kwargs.pop("quiet", False)), bool(kwargs.pop("as_json", False))
        if str(kwargs.get("json_file")) == "-":
            kwargs["json_file"], as_json = None, True
        with speaking(quiet, as_json):
            _run(lambda: function(*args, **kwargs))

    added = {"quiet": Quiet} if has_json else {"quiet": Quiet, "as_json": Json}
    for name, annotation in added.items():
        own[name] = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
    guarded.__signature__ = signature.replace(parameters=list(own.values()))  # type: ignore[attr-defined]
    guarded.__annotations__ = {name: parameter.annotation for name, parameter in own.items()}
    app.command(cls=Command)(guarded)
    return guarded


def locks_out(function: Callable[P, None]) -> Callable[P, None]:
    """Makes a command lock its folder `out` against other writers for as long as it runs.

    In a training on several devices, only the process of rank 0 takes the lock; the others are started with the same
    command line and work for that one.
    """

    @functools.wraps(function)
    def locked(*args: P.args, **kwargs: P.kwargs) -> None:
        from mnemask.io.lock import OutputLock

        if os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) != "0":
            function(*args, **kwargs)
            return
        with OutputLock(str(kwargs["out"])):
            function(*args, **kwargs)

    return locked


def _run(do: Callable[[], Any]) -> None:
    """Runs a command; raises typer.Exit if it fails or is interrupted."""
    try:
        import torch  # noqa: F401 - the longest wait, in which a Ctrl-C has nothing to save

        INTERRUPTS.raise_once()
        do()
    except mm.MnemaskError as error:
        if INTERRUPTS.heard:
            raise _interrupted() from None
        say_error(error, 2)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        raise _interrupted() from None
    except OSError as error:
        if INTERRUPTS.heard:
            raise _interrupted() from None
        if error.filename is None:
            raise
        say_error(_unusable(error), 2)
        raise typer.Exit(2) from None
    except Exception:
        # A library may turn an interrupt into another exception, such as a failed import.
        if INTERRUPTS.heard:
            raise _interrupted() from None
        raise


def _unusable(error: OSError) -> mm.InputError:
    """Returns the error for a file that the operating system refuses."""
    place = str(error.filename if error.filename2 is None else error.filename2)
    if isinstance(error, PermissionError):
        return mm.InputError(f"no permission for {place!r} ({error.strerror})", "change its permissions, or copy it")
    return mm.InputError(f"{place!r:.300} cannot be used ({error.strerror})", "correct the path, or give another one")


def _interrupted() -> typer.Exit:
    emit("error", problem="interrupted", remedy="", exit_code=130)
    errors.print("stopped; the files written so far are complete", soft_wrap=True)
    # After an interrupt inside exec() of a string, as dataclasses use it, `python -m` ends by SIGINT whatever the exit
    # code; another exec() clears that.
    exec("")
    return typer.Exit(130)


def show_version(wanted: bool | None) -> None:
    """Prints the version and exits."""
    if wanted:
        console.print(f"mnemask {mm.__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool | None, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")
    ] = None,
) -> None:
    """Segment and track objects through video of any length in fixed memory."""
