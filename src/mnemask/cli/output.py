"""What a command says: to a person at a terminal, to a log, or as JSON lines to a program."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mnemask.cli.console import console, discard, errors, literal


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
    mode.quiet, mode.json = quiet, as_json
    console.quiet = quiet or as_json
    try:
        yield
    finally:
        mode.quiet = mode.json = console.quiet = False


def emit(kind: str, **fields: Any) -> None:
    """Writes one JSON object on a line of its own where a program listens: `type` and the fields."""
    if not mode.json:
        return
    try:
        sys.stdout.write(json.dumps({"type": kind, **fields}, default=str) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        discard(sys.stdout.fileno())


def say_error(message: str, exit_code: int) -> None:
    """Says what cannot be done, and the way out."""
    problem, _, remedy = message.rpartition("; ")
    emit("error", problem=problem or remedy, remedy=remedy if problem else "", exit_code=exit_code)
    errors.print(f"[bold red]error:[/] {literal(message)}", soft_wrap=True)


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
