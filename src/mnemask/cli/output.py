"""What a command says: to a person at a terminal, to a log, or as JSON lines to a program.

Its two consoles fit any encoding and any width, and go on when nobody reads them any more.
"""

from __future__ import annotations

import codecs
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleDimensions
from rich.markup import escape

import mnemask as mm

# A pipe or a file has as much room as a line takes.
UNLIMITED = 10_000
PLAIN = str.maketrans({"…": "...", "·": "-", "×": "x", "–": "-", "−": "-", "→": "->", "é": "e"})
ERRORS = "mnemask.plain"


class PipeConsole(Console):
    """A console that wraps and cuts nothing in a pipe, and goes on silently when nobody reads it any more."""

    @property  # type: ignore[misc]  # rich can set it, and nobody does
    def size(self) -> ConsoleDimensions:
        """The terminal's size; where there is none, and COLUMNS is not set, room for any line."""
        if self.is_terminal or "COLUMNS" in os.environ:
            return super().size
        return ConsoleDimensions(UNLIMITED, 25)

    def print(self, *objects: Any, **how: Any) -> None:
        """Prints; where the disk of a log is full, that and what follows is dropped as in a broken pipe."""
        try:
            super().print(*objects, **how)
        except OSError:
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        """Drops what is still to be said: a run is worth its files, not only its words."""
        discard(self.file.fileno())


console = PipeConsole(highlight=False, emoji=False)  # else a name like no:key:.png is shown as no🔑.png
errors = PipeConsole(stderr=True, highlight=False, emoji=False)


def discard(descriptor: int) -> None:
    """Sends what is written to a file descriptor from now on nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def literal(text: str) -> str:
    """Returns the text escaped for rich: brackets are not markup, and unprintable characters are written out.

    A file's name may hold commands to a terminal.
    """
    return escape("".join(character if character.isprintable() else repr(character)[1:-1] for character in text))


def accept_any_text() -> None:
    """Lets standard output and error write the code of a character that their encoding does not have."""
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
    """Who listens to the command that is running.

    Attributes:
        quiet: nobody; only warnings and errors are said.
        json: a program that reads one JSON object a line.
    """

    quiet: bool = False
    json: bool = False


mode = Mode()


@contextmanager
def speaking(quiet: bool, as_json: bool) -> Iterator[None]:
    """Within it a command speaks as the user asked for."""
    before = mode.quiet, mode.json
    mode.quiet, mode.json = quiet, as_json
    console.quiet = quiet or as_json
    try:
        yield
    finally:
        mode.quiet, mode.json = before
        console.quiet = any(before)


def emit(kind: str, **fields: Any) -> None:
    """Writes one JSON object on a line of its own where a program listens: `type` and the fields."""
    if not mode.json or sys.stdout is None:
        return
    try:
        sys.stdout.write(json.dumps({"type": kind, **fields}, default=str) + "\n")
        sys.stdout.flush()
    except OSError:
        discard(sys.stdout.fileno())


def say_error(error: mm.MnemaskError, exit_code: int) -> None:
    """Says what cannot be done, and the way out."""
    emit("error", problem=error.problem, remedy=error.remedy, exit_code=exit_code)
    errors.print(f"[bold red]error:[/] {literal(str(error))}", soft_wrap=True)


class Notices(logging.Handler):
    """Says what the package logs: news to whoever wants it, warnings to all but a program, which gets both as JSON."""

    def emit(self, record: logging.LogRecord) -> None:
        """Says one record."""
        warning = record.levelno >= logging.WARNING
        if mode.json:
            emit("notice", level="warning" if warning else "info", text=record.getMessage())
        elif warning:
            errors.print(f"[yellow]warning:[/] {literal(record.getMessage())}", soft_wrap=True)
        elif not mode.quiet:
            errors.print(literal(record.getMessage()), soft_wrap=True)


def hear_the_package() -> None:
    """Makes notices of what the package logs, and of warnings that others log."""
    logging.basicConfig(level=logging.WARNING, handlers=[Notices()])
    logging.getLogger("mnemask").setLevel(logging.INFO)
