"""The commands' common ground: one application, one way to say what cannot be done, one way to be interrupted."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, ParamSpec

import typer

import mnemask as mm
from mnemask.cli.console import accept_any_text, console, errors, literal
from mnemask.cli.output import emit, hear_the_package, say_error, speaking
from mnemask.cli.stop import INTERRUPTS

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

    It gets the options `--quiet` and `--json`, unless it has a `--json` of its own.
    """
    signature = inspect.signature(function, eval_str=True)
    own = dict(signature.parameters)
    has_json = "json_file" in own

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        quiet, as_json = bool(kwargs.pop("quiet", False)), bool(kwargs.pop("as_json", False))
        with speaking(quiet, as_json or (has_json and str(kwargs.get("json_file")) == "-")):
            _run(lambda: function(*args, **kwargs))

    added = {"quiet": Quiet} if has_json else {"quiet": Quiet, "as_json": Json}
    for name, annotation in added.items():
        own[name] = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
    guarded.__signature__ = signature.replace(parameters=list(own.values()))  # type: ignore[attr-defined]
    guarded.__annotations__ = {name: parameter.annotation for name, parameter in own.items()}
    app.command()(guarded)
    return guarded


def _run(do: Callable[[], Any]) -> None:
    """Runs a command; raises typer.Exit where it fails or is interrupted."""
    try:
        import torch  # noqa: F401 - the longest wait, in which a Ctrl-C has nothing to save

        INTERRUPTS.raise_once()
        do()
    except mm.MnemaskError as error:
        if INTERRUPTS.heard:
            raise _interrupted() from None
        say_error(str(error), 2)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        raise _interrupted() from None
    except Exception:
        # What a library makes of an interrupt, such as an import that failed.
        if INTERRUPTS.heard:
            raise _interrupted() from None
        raise


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
