"""Reads a manifest (CSV, JSON lines or a folder) and checks all of it before the first clip.

It accepts only the columns passed to it; their meaning is up to the worker. Every unusable line gets its own message,
so that a manifest of a thousand lines is corrected once and not a thousand times.
"""

import codecs
import csv
import difflib
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import Any

from mnemask.errors import InputError, MnemaskError
from mnemask.io.atomic import safe_name
from mnemask.io.name_order import composed
from mnemask.io.storage import is_address
from mnemask.manifest.schedule import Clip
from mnemask.types import is_number

NAME, VIDEO = "name", "video"
_ALIASES = {"output": NAME, "out": NAME, "boxes": "box", "clicks": "click", "objects": "object", "masks": "mask"}
_SEPARATOR = re.compile(r"\s*[;\n]\s*")
_MOST_BYTES = 256 * 2**20
_FRAME_BYTES = 20_000  # of a compressed video, roughly
_TAKEN = ("report.json", "report.html", "masks", "checkpoint")
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a manifest.

    Attributes:
        name: name of the column.
        many: whether it may hold several values.
        flag: whether it is true or false.
        is_path: whether it is the path of a file or folder that must exist.
        place: returns a value with any path in it resolved against the manifest's folder or address.
    """

    name: str
    many: bool = False
    flag: bool = False
    is_path: bool = False
    place: Callable[[str, str], str] = lambda text, base: text


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of a manifest.

    Attributes:
        path: path of the file or folder.
        clips: the clips of all usable lines, in order.
        faults: the errors of all other lines.
        notes: sentences that say what was guessed or left out.
    """

    path: Path
    clips: Sequence[Clip] = ()
    faults: Sequence[MnemaskError] = ()
    notes: Sequence[str] = ()


@dataclass(slots=True)
class _Reader:
    """One reading of a manifest; faults have the numbers of their lines."""

    path: Path
    columns: Mapping[str, Column]
    check: Callable[[Mapping[str, Any]], object]
    defaults: Mapping[str, Any]
    base: str
    faults: list[tuple[int, MnemaskError]] = field(default_factory=list)

    def add_fault(self, number: int, error: MnemaskError) -> None:
        line = "" if self.path.is_dir() else f", line {number}"  # clips of a folder have no lines
        self.faults.append((number, InputError(f"{self.path.name or self.path}{line}: {error.problem}", error.remedy)))


def read_manifest(
    path: Path,
    columns: Sequence[Column],
    check: Callable[[Mapping[str, Any]], object] = lambda options: None,
    defaults: Mapping[str, Any] | None = None,
    rows: Sequence[tuple[int, Mapping[str, Any]]] | None = None,
    base: str | None = None,
) -> Manifest:
    """Returns the clips and the faults of a manifest.

    Args:
        path: path of a .csv, .tsv or .jsonl file.
        columns: the allowed columns, including `video`; `name` is always allowed, and `_...` are the user's own.
        check: called with the options of each line that is valid so far; raises MnemaskError.
        defaults: options of every clip unless its line overrides them.
        rows: number and values of each line if already known, as for a folder.
        base: folder or address that relative paths are relative to; None for the manifest's folder.

    Raises:
        InputError: the file cannot be read at all.
    """
    reader = _Reader(
        path, {column.name: column for column in columns}, check, defaults or {}, base or str(path.parent.resolve())
    )
    clips: list[Clip] = []
    for number, row in _read_rows(path) if rows is None else rows:
        if isinstance(row, MnemaskError):
            reader.add_fault(number, row)
            continue
        try:
            clips.append(_clip(reader, number, row))
        except MnemaskError as error:
            reader.add_fault(number, error)
    kept = list(_without_clashes(reader, clips))
    if not clips and not reader.faults:
        raise InputError(f"{str(path)!r} lists no clip", "give each clip a line (mnemask batch --example shows some)")
    return Manifest(path, kept, [error for _, error in sorted(reader.faults, key=itemgetter(0))])


def _clip(reader: _Reader, number: int, row: Mapping[str, Any]) -> Clip:
    options: dict[str, Any] = {}
    notes: dict[str, str] = {}
    for given, value in row.items():
        if str(given).startswith("_"):
            notes[given] = str(value)
            continue
        name = given if given in reader.columns else _ALIASES.get(given, given)
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        if name in options:
            raise InputError(f"{given!r} is the same as {name!r}, which is given too", "keep one of them")
        options[name] = _value(reader, name, value)
    if VIDEO not in options:
        raise InputError("there is no video", "give its path in the column 'video'")
    name = options.pop(NAME, None) or _default_name(options[VIDEO])
    _check_name(name)
    options = {**reader.defaults, **options}
    reader.check(options)
    return Clip(name, number, options, notes, size_of(options[VIDEO]))


def _value(reader: _Reader, name: str, value: Any) -> Any:
    """Returns the value of a cell in the form that workers take: a string, a list of strings, or a bool for a flag."""
    if name == NAME:
        return str(value).strip()
    column = reader.columns.get(name)
    if column is None:
        close = difflib.get_close_matches(name, [NAME, *reader.columns], 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise InputError(f"there is no column {name!r}", f"{hint}A column of your own begins with _: '_{name}'")
    if column.flag:
        said = str(value).strip().lower()
        if said not in (*_TRUE, *_FALSE):
            raise InputError(f"{name} is {value!r}", "write true or false")
        return said in _TRUE
    texts = _texts(value, split=column.many)
    if not column.many and len(texts) != 1:
        raise InputError(f"{name} has {len(texts)} values", "give one")
    texts = [placed(text, reader.base) if column.is_path else column.place(text, reader.base) for text in texts]
    return texts if column.many else texts[0]


def _texts(value: Any, *, split: bool) -> list[str]:
    """Returns the values of a cell: `a; b`, a list, a list of numbers (one value), or {"1": "camel"} for 1=camel."""
    if isinstance(value, Mapping):
        return [f"{key}={text}" for key, inner in value.items() for text in _texts(inner, split=split)]
    if isinstance(value, list):
        if value and all(map(is_number, value)):
            return [",".join(map(_plain, value))]
        return [text for each in value for text in _texts(each, split=split)]
    if isinstance(value, str):
        return [text for text in _SEPARATOR.split(value.strip()) if text] if split else [value.strip()]
    return [_plain(value)]


def _plain(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def placed(text: str, base: str) -> str:
    """Returns a path resolved against a folder or address; raises InputError if it does not exist.

    Addresses are not checked for existence.
    """
    if is_address(text):
        return text
    if is_address(base) and not Path(text).expanduser().is_absolute():
        return f"{base.rstrip('/')}/{text}"
    path = base / Path(text).expanduser()
    try:
        there = path.exists() or any(mark in text for mark in "*?[")
    except (OSError, ValueError):
        there = False
    if not there:
        raise InputError(f"there is no {str(path)[:300]!r}", "give paths relative to the folder of the manifest")
    return str(path)


def size_of(video: str) -> int:
    """Returns the bytes of a video file, or an estimate for a video of a folder's frames; 0 if unknown."""
    path = Path(video)
    try:
        if is_address(video):
            return 0
        return path.stat().st_size if path.is_file() else _FRAME_BYTES * sum(1 for _ in path.iterdir())
    except OSError:
        return 0


def _default_name(video: str) -> str:
    if is_address(video):
        return PurePosixPath(video.rstrip("/").split("?")[0]).stem
    path = Path(video)
    path = path.parent if any(mark in path.name for mark in "*?[") else path
    return path.name if path.is_dir() else path.stem


def _check_name(name: str) -> None:
    parts = name.split("/")
    if len(name) > 200 or any(part != safe_name(part) or part.startswith(".") or not part for part in parts):
        raise InputError(f"name {name[:60]!r} cannot name a folder", "give one such as street or day1/street")
    if parts[0].casefold() in _TAKEN:
        raise InputError(f"name {name[:60]!r} is reserved for results", "give the clip another name")


def _without_clashes(reader: _Reader, clips: Sequence[Clip]) -> Iterator[Clip]:
    """Yields the clips that have their own folder; adds a fault for each of the others."""
    first: dict[str, Clip] = {}
    inner: dict[str, Clip] = {}
    for clip in clips:
        key = composed(clip.name.casefold())  # as some file systems compare them
        above = ["/".join(key.split("/")[:count]) for count in range(1, key.count("/") + 1)]
        other = first.get(key) or inner.get(key) or next((first[each] for each in above if each in first), None)
        if other is not None:
            problem = f"{clip.name!r} would be written where line {other.line} writes {other.name!r}"
            reader.add_fault(clip.line, InputError(problem, "give one of them another name"))
            continue
        first[key] = clip
        inner.update(dict.fromkeys(above, clip))
        yield clip


def _read_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Yields number and content of each line that is neither empty nor a comment; an error for malformed lines."""
    kind = path.suffix.lower()
    if kind not in (".csv", ".tsv", ".txt", ".jsonl", ".ndjson"):
        raise InputError(
            f"{path.name!r} is not a manifest", "give .csv, .tsv or .jsonl (save a spreadsheet as CSV), or a folder"
        )
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path.name!r} is larger than 256 MiB", "split it: a manifest has one line for each clip")
        data = path.read_bytes()
        # A spreadsheet's "Unicode text" is UTF-16 with a byte order mark.
        text = data.decode("utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read ({error.strerror})", "give a readable manifest") from error
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
            yield number, InputError(f"{line.strip()[:40]!r} is not JSON ({error})", 'write {"video": "street.mp4", …}')
        else:
            wrong = InputError(f"{line.strip()[:40]!r} is not a JSON object", 'write {"video": "street.mp4", …}')
            yield number, row if isinstance(row, dict) else wrong


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{twice!r} is given twice", "keep one of them")
    return found


def _csv_rows(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    head = next((line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")), "")
    delimiter = max(",;\t", key=head.count)  # spreadsheets write semicolons in countries with decimal commas
    text = re.sub(r"^[ \t]*#.*$", "", text.replace("\0", "�"), flags=re.MULTILINE)  # comments may hold any quotes
    # Spaces after a quoted value, which spreadsheets accept.
    text = re.sub(rf'((?:^|{delimiter}) *"(?:[^"\n]|"")*") +(?={delimiter}|$)', r"\1", text, flags=re.MULTILINE)
    lines = io.StringIO(text, newline="")
    # Strict: otherwise an unclosed quote would merge all following lines into one value.
    rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    names: list[str] = []
    last = 0
    try:
        for row in rows:
            number, last = last + 1, rows.line_num
            if not any(cell.strip() for cell in row) or row[0].lstrip().startswith("#"):  # quoted by a spreadsheet
                continue
            if not names:
                names = [cell if cell.startswith("_") else cell.lower() for cell in map(str.strip, row)]
                _refuse_head(names, path)
            elif len(row) > len(names):
                problem = f"there are {len(row)} values for {len(names)} columns"
                yield number, InputError(problem, 'put values with commas in quotes: "1=320,200"')
            else:
                yield number, {name: cell for name, cell in zip(names, row, strict=False) if name}
    except csv.Error as error:
        yield last + 1, InputError(f"the line is not valid CSV ({error})", "look for an unclosed quote")


def _refuse_head(names: Sequence[str], path: Path) -> None:
    if "video" not in names:
        raise InputError(
            f"the first line of {path.name!r} has no column 'video' but {', '.join(map(repr, names[:5]))}",
            "start with a line of column names, such as: video,mask,name",
        )
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise InputError(f"{path.name!r} has two columns named {twice[0]!r}", "keep one of them")
