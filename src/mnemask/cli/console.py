"""The two consoles of the command line: fit for any encoding, any width, and a reader that goes away."""

from __future__ import annotations

import codecs
import os
import sys

from rich.console import Console, ConsoleDimensions
from rich.markup import escape

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

    def on_broken_pipe(self) -> None:
        """Drops what is still to be said: a run is worth its files, not only its words."""
        discard(self.file.fileno())


console = PipeConsole(highlight=False)
errors = PipeConsole(stderr=True, highlight=False)


def discard(descriptor: int) -> None:
    """Sends what is written to a file descriptor from now on nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def literal(text: str) -> str:
    """Returns what rich prints as the text: its brackets are no markup, and unprintable characters are written out.

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
