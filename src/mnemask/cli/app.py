"""The commands' common ground: one application, one way to say what cannot be done, one progress bar."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, ParamSpec

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

import mnemask as mm
from mnemask.cli.stop import repeat_ignored_interrupts

P = ParamSpec("P")

app = typer.Typer(
    name="mnemask",
    help="Segment and track objects through video of any length in fixed memory.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def main() -> None:
    """Runs the command line."""
    repeat_ignored_interrupts()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[RichHandler(console=errors)])
    app()


def command(function: Callable[P, None]) -> Callable[P, None]:
    """Registers a command that says in one sentence what it cannot do: exit code 2, and 130 where it is interrupted."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except mm.MnemaskError as error:
            errors.print(f"[bold red]error:[/] {literal(str(error))}", soft_wrap=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            errors.print("stopped; what was written before is complete")
            raise typer.Exit(130) from None

    app.command()(guarded)
    return guarded


def literal(text: str) -> str:
    """Returns what rich prints as the text: its brackets are no markup, and unprintable characters are written out.

    A file's name may hold commands to a terminal.
    """
    return escape("".join(character if character.isprintable() else repr(character)[1:-1] for character in text))


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


@contextmanager
def progress_bar(total: int | None) -> Iterator[Callable[[mm.Progress], None]]:
    """Yields a function that shows how far a run has come: frames, frames/s, tokens and bytes held."""
    columns = (
        SpinnerColumn(),
        BarColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task("reading …", total=total)

        def show(progress: mm.Progress) -> None:
            memory = progress.memory
            held = "" if memory is None else f" · {memory.tokens} tokens, {memory.bank_bytes / 2**20:.1f} MiB held"
            of = "" if total is None else f"/{total}"
            text = f"{progress.frames}{of} frames · {progress.frames_per_second:.1f} frames/s{held}"
            bar.update(task, completed=progress.frames, description=text)

        yield show
