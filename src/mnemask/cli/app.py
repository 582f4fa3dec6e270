"""What the commands share: one application, one way to report errors, one progress bar, and stop signals.

The first SIGINT or SIGTERM asks a run to end well, the second ends it at once; and none is lost.
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
from types import FrameType
from typing import Annotated, Any, ParamSpec

import typer
from typer.core import TyperCommand

import mnemask as mm
from mnemask.cli.output import accept_any_text, console, emit, errors, hear_the_package, literal, say_error, speaking


class Interrupts:
    """Ctrl-C outside `StopSignals`, from the first import to the end: exit code 130 and no traceback.

    Attributes:
        heard: whether one came that is to end the command.
    """

    def __init__(self) -> None:
        self.heard = False
        self._installed = False

    def leave_at_once(self) -> None:
        """Lets a Ctrl-C end the process there and then, for as long as there is nothing to save.

        A process that was started to ignore it, as in the background of a script, goes on doing so.
        """
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))
            self._installed = True

    def raise_once(self) -> None:
        """Lets the first Ctrl-C raise KeyboardInterrupt, and the second end the process there and then."""
        if self._installed:
            self._repeat_ignored()
            signal.signal(signal.SIGINT, self._raise)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self.heard:
            os._exit(128 + number)
        self.heard = True
        raise KeyboardInterrupt

    def _repeat_ignored(self) -> None:
        """Raises a Ctrl-C again that Python ignored because it came while an object was being disposed of."""
        show = sys.unraisablehook

        def hook(ignored: sys.UnraisableHookArgs) -> None:
            if not issubclass(ignored.exc_type, KeyboardInterrupt):
                show(ignored)
                return
            self.heard = False
            # A little later: what is raised in here is ignored too.
            again = threading.Timer(0.05, _thread.interrupt_main)
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
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but warnings and errors.")]
Json = Annotated[
    bool, typer.Option("--json", help="Write one JSON object a line: progress, notices, result (docs/command-line.md).")
]

__all__ = ["app", "command", "console", "errors", "literal", "main"]


class Command(TyperCommand):
    """A command that names the value with what is wrong about it: typer names the option alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Returns the remaining arguments; raises typer.BadParameter for a value that an option cannot have."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            values = _values_of(error.param.opts, given) if error.param is not None else []
            if values and not any(value in error.message for value in values):
                error.message = f"{', '.join(map(repr, values))}: {error.message}"
            raise


def _values_of(names: Sequence[str], args: Sequence[str]) -> list[str]:
    """Returns the values that the arguments give an option of these names: `--size 3` or `--size=3`."""
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
        INTERRUPTS.leave_at_once()  # all is written; Python's own end need not say that it was interrupted


def command(function: Callable[P, None]) -> Callable[P, None]:
    """Registers a command that says in one sentence what it cannot do: exit code 2, and 130 where it is interrupted.

    It gets the options `--quiet` and `--json`, unless it has a `--json` of its own: a file, or `-`, which it gets as
    None, for one JSON object a line.
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
    """Makes a command keep all others out of its folder `out`, from its first moment on.

    The further processes of a training on several devices, which are started with the same command line, write for the
    first one and leave the lock to it.
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
    """Runs a command; raises typer.Exit where it fails or is interrupted."""
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
        # What a library makes of an interrupt, such as an import that failed.
        if INTERRUPTS.heard:
            raise _interrupted() from None
        raise


def _unusable(error: OSError) -> mm.InputError:
    """Returns the error for a file that the system does not let a command use."""
    place = str(error.filename if error.filename2 is None else error.filename2)
    if isinstance(error, PermissionError):
        return mm.InputError(f"{place!r} may not be used ({error.strerror})", "change its rights, or copy it")
    return mm.InputError(f"{place!r:.300} cannot be used ({error.strerror})", "correct its name, or give another place")


def _interrupted() -> typer.Exit:
    emit("error", problem="interrupted", remedy="", exit_code=130)
    errors.print("stopped; what was written before is complete", soft_wrap=True)
    # After an interrupt inside an exec() of text, such as a dataclass's, `python -m` ends by SIGINT, whatever the exit
    # code; another exec() makes it forget.
    exec("")
    return typer.Exit(130)


def show_version(wanted: bool | None) -> None:
    """Prints the version and leaves."""
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
