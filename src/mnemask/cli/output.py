"""The output of commands: for a person at a terminal, for a log, or as JSON lines for a program.

The two consoles support any encoding and width, and keep working after their reader has gone.
"""

from __future__ import annotations

import codecs
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleDimensions
from rich.markup import escape

import mnemask as mm

# Columns of a pipe or a file, so that no line is wrapped.
UNLIMITED = 10_000
PLAIN = str.maketrans({"…": "...", "·": "-", "×": "x", "–": "-", "−": "-", "→": "->", "é": "e"})
ERRORS = "mnemask.plain"


class PipeConsole(Console):
    """A console that does not wrap or truncate lines in a pipe, and goes silent after its reader has gone."""

    @property  # type: ignore[misc]  # writable in rich, but never set here
    def size(self) -> ConsoleDimensions:
        """The terminal's size; without a terminal and COLUMNS, wide enough for any line."""
        if self.is_terminal or "COLUMNS" in os.environ:
            return super().size
        return ConsoleDimensions(UNLIMITED, 25)

    def print(self, *objects: Any, **how: Any) -> None:
        """Prints; if the disk of a log is full, this and all later output is dropped, as for a broken pipe."""
        try:
            super().print(*objects, **how)
        except OSError:
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        """Drops all later output, so that the run continues: its result is in its files."""
        discard(self.file.fileno())


console = PipeConsole(highlight=False, emoji=False)  # otherwise a name such as no:key:.png is shown as no🔑.png
errors = PipeConsole(stderr=True, highlight=False, emoji=False)


def discard(descriptor: int) -> None:
    """Redirects a file descriptor to the null device."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def literal(text: str) -> str:
    """Returns the text escaped for rich: brackets are not markup, and unprintable characters become escape sequences.

    The name of a file may contain control sequences for a terminal.
    """
    return escape("".join(character if character.isprintable() else repr(character)[1:-1] for character in text))


def accept_any_text() -> None:
    """Makes standard output and error write a character that their encoding lacks as a substitute or its code."""
    codecs.register_error(ERRORS, _plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=ERRORS)


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    refused = error.object[error.start : error.end]
    return refused.translate(PLAIN).encode("ascii", "backslashreplace").decode("ascii"), error.end


@dataclass(slots=True)
class Mode:
    """How the running command writes its output.

    Attributes:
        quiet: whether only warnings and errors are shown.
        json: whether one JSON object per line is written.
    """

    quiet: bool = False
    json: bool = False


mode = Mode()


@contextmanager
def speaking(quiet: bool, as_json: bool) -> Iterator[None]:
    """Sets the output mode while the context is active."""
    before = mode.quiet, mode.json
    mode.quiet, mode.json = quiet, as_json
    console.quiet = quiet or as_json
    try:
        yield
    finally:
        mode.quiet, mode.json = before
        console.quiet = any(before)


def emit(kind: str, **fields: Any) -> None:
    """Writes `type` and the fields as one JSON object on a line if the output is JSON."""
    if not mode.json or sys.stdout is None:
        return
    try:
        sys.stdout.write(json.dumps({"type": kind, **fields}, default=str) + "\n")
        sys.stdout.flush()
    except OSError:
        discard(sys.stdout.fileno())


def say(sentence: str) -> None:
    """Prints a sentence as it is, without wrapping it."""
    console.print(sentence, markup=False, soft_wrap=True)


def print_table(
    header: Iterable[str], rows: Iterable[Iterable[str]], *, title: str | None = None, total: bool = False
) -> None:
    """Prints cells of text as they are, which may be names with brackets.

    Args:
        header: names of the columns.
        rows: the cells of each row.
        title: a line above the table.
        total: whether the last row sums up the others, and stands out.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(*map(literal, header), box=SIMPLE_HEAD, title=title and literal(title), title_justify="left")
    for row in rows:
        table.add_row(*map(literal, row))
    if total and table.rows:
        table.rows[-1].style = "bold"
    console.print(table)


def say_error(error: mm.MnemaskError, exit_code: int) -> None:
    """Reports an error with its remedy."""
    emit("error", problem=error.problem, remedy=error.remedy, exit_code=exit_code)
    errors.print(f"[bold red]error:[/] {literal(str(error))}", soft_wrap=True)


class Notices(logging.Handler):
    """Shows log records: warnings always, others unless quiet; as JSON objects if the output is JSON."""

    def emit(self, record: logging.LogRecord) -> None:
        """Shows one record."""
        warning = record.levelno >= logging.WARNING
        if mode.json:
            emit("notice", level="warning" if warning else "info", text=record.getMessage())
        elif warning:
            errors.print(f"[yellow]warning:[/] {literal(record.getMessage())}", soft_wrap=True)
        elif not mode.quiet:
            errors.print(literal(record.getMessage()), soft_wrap=True)


def hear_the_package() -> None:
    """Shows the package's log records from INFO on, and those of other packages from WARNING on."""
    logging.basicConfig(level=logging.WARNING, handlers=[Notices()])
    logging.getLogger("mnemask").setLevel(logging.INFO)
