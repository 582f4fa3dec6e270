"""The lines of a manifest file: CSV in its dialects, or JSON lines."""

import codecs
import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mnemask.errors import InputError, MnemaskError

_MOST_BYTES = 256 * 2**20


def read_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Yields number and content of each line that is neither empty nor a comment; an error for one that is garbled."""
    kind = path.suffix.lower()
    if kind not in (".csv", ".tsv", ".txt", ".jsonl", ".ndjson"):
        raise InputError(
            f"{path.name!r} is no manifest", "expected .csv, .tsv or .jsonl (save a spreadsheet as CSV), or a folder"
        )
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path.name!r} is larger than 256 MiB", "split it: a manifest is a line for each clip")
        data = path.read_bytes()
        # A spreadsheet's "Unicode text" is UTF-16, and begins with a mark that says so.
        text = data.decode("utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read ({error.strerror})", "give a manifest that can") from error
    except UnicodeDecodeError as error:
        problem = f"{path.name!r} is neither UTF-8 nor UTF-16 (byte {error.start})"
        raise InputError(problem, "save it as CSV UTF-8") from error
    yield from _json_rows(text) if kind in (".jsonl", ".ndjson") else _csv_rows(text, path)


def _json_rows(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.lstrip().startswith(("#", "//")):
            continue
        try:
            row = json.loads(line, object_pairs_hook=_once)
        except MnemaskError as error:
            yield number, error
        except (ValueError, RecursionError) as error:
            yield number, InputError(f"{line.strip()[:40]!r} is no JSON ({error})", 'write {"video": "street.mp4", …}')
        else:
            wrong = InputError(f"{line.strip()[:40]!r} is no JSON object", 'write {"video": "street.mp4", …}')
            yield number, row if isinstance(row, dict) else wrong


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{twice!r} is given twice", "keep one of them")
    return found


def _csv_rows(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    head = next((line for line in text.split("\n") if line.strip() and not line.startswith("#")), "")
    delimiter = max(",;\t", key=head.count)  # a spreadsheet in a country of decimal commas writes semicolons
    rows = csv.reader(io.StringIO(text.replace("\0", "�"), newline=""), delimiter=delimiter, skipinitialspace=True)
    names: list[str] = []
    last = 0
    try:
        for row in rows:
            number, last = last + 1, rows.line_num
            if not any(cell.strip() for cell in row) or row[0].startswith("#"):
                continue
            if not names:
                names = [cell if cell.startswith("_") else cell.lower() for cell in map(str.strip, row)]
                _refuse_head(names, path)
            elif len(row) > len(names):
                problem = f"there are {len(row)} values for {len(names)} columns"
                yield number, InputError(problem, 'put a value that holds a comma in quotes: "1=320,200"')
            else:
                yield number, {name: cell for name, cell in zip(names, row, strict=False) if name}
    except csv.Error as error:
        yield last + 1, InputError(f"the line is no CSV ({error})", "look for a quote that is not closed")


def _refuse_head(names: Sequence[str], path: Path) -> None:
    if "video" not in names:
        raise InputError(
            f"the first line of {path.name!r} names no column 'video' but {', '.join(map(repr, names[:5]))}",
            "begin with a line of the columns, such as: video,mask,name",
        )
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise InputError(f"{path.name!r} has two columns {twice[0]!r}", "keep one of them")
