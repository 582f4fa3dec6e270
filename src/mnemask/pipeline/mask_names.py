"""Names of mask files on the file system that they are written to."""

import os
import re
import shutil
import unicodedata
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from mnemask.errors import OutputError
from mnemask.io.atomic import make_folder

_PLAIN_NAME = re.compile(r"[\w.\-]{1,100}", re.ASCII)


def probe_names(names: Sequence[str], out: Path, masks: Path) -> None:
    """Raises OutputError if the file system takes two names for the same, or refuses one.

    Args:
        names: the names of the masks, without .png.
        out: the output folder; removed again if it is empty.
        masks: the folder in it for the masks, likewise.
    """
    by_key: dict[str, str] = {}
    doubtful = []
    for name in names:
        other = by_key.setdefault(folded(name), name)
        if other is not name:
            doubtful.append((other, name))
    telling = list(_telling(names))
    if not telling and not doubtful:
        return
    folder = make_folder(masks) / f".mnemask-{uuid.uuid4().hex[:12]}"
    try:
        folder.mkdir()
        for one, other in doubtful:
            _touch(folder, one)
            if one == other or (folder / f"{other}.png").exists():
                raise OutputError(
                    f"frames {one!r} and {other!r} would both write {other}.png here", "rename one of them"
                )
        for name in telling:  # not before: they may be among the doubtful names
            _touch(folder, name)
    except OSError as error:
        raise OutputError(
            f"{str(masks)!r} cannot be written to ({error.strerror})", "give a writable folder"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for empty in (masks, out):
            if not any(empty.iterdir()):
                empty.rmdir()


def _touch(folder: Path, name: str) -> None:
    try:
        (folder / f"{name}.png").touch()
    except OSError as error:
        shown = name if len(name) < 60 else f"{name[:40]}… ({len(name)} characters)"
        raise OutputError(
            f"the file system refuses {shown!r} with .png as a mask's file name ({error.strerror})",
            "rename the frame, or write a single file (--format ffv1 or rle)",
        ) from error


def _telling(names: Sequence[str]) -> Iterator[str]:
    """Yields a few names that stand for all: the longest ones, and one for each unusual character."""
    unusual = [name for name in names if not _PLAIN_NAME.fullmatch(name)]
    if not unusual:
        return
    yield max(unusual, key=lambda name: len(os.fsencode(name)))
    yield max(unusual, key=len)
    seen: set[str] = set()
    for name in unusual:
        if not seen.issuperset(name):
            seen.update(name)
            yield name


def folded(name: str) -> str:
    """Returns a key that is equal for names that some file systems take for the same."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
