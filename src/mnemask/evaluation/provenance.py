"""What a result was made of, so that it is not taken for one of a video or of masks that have changed since."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from mnemask.errors import InputError
from mnemask.evaluation.benchmark import BenchmarkSequence
from mnemask.io.label_files import holds_labels

_SAMPLE = 4096  # bytes


def digest_of(sequence: BenchmarkSequence) -> str:
    """Returns a digest of a sequence: its frames by name, size and samples, its masks by content, what is asked for.

    Raises:
        InputError: a file is not there or cannot be read.
    """
    given, truth = sequence.given, sequence.truth
    lines = [f"{len(given.frames)} frames, {len(sequence.asked)} asked, one object {given.single_object}"]
    lines += [f"{path.name} {_sampled(path)}" for path in _files(given.frames)]
    masks = given.masks if truth is None else {**given.masks, **truth.masks}
    lines += [f"{index} {path.name}" for index, path in sorted(masks.items())]
    lines += [f"{path.name} {_content(path)}" for path in _files(masks.values())]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]


def _files(paths: Iterable[Path]) -> list[Path]:
    """Returns files and folders, each once; of a label map inside a file, that file."""
    unique = dict.fromkeys(paths)
    return list(dict.fromkeys(path.parent if holds_labels(path) and not path.exists() else path for path in unique))


def _sampled(path: Path) -> str:
    """Returns the size of a file, and a digest of both ends and the middle: another picture may be as large."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            for place in (0, size // 2, max(size - _SAMPLE, 0)):
                file.seek(place)
                digest.update(file.read(_SAMPLE))
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read ({error.strerror})", "restore it") from error
    return f"{size} {digest.hexdigest()[:16]}"


def _content(path: Path) -> str:
    if path.is_dir():  # a file for each frame, of labelme or YOLO
        return " ".join(f"{each.name} {_content(each)}" for each in sorted(path.rglob("*")) if each.is_file())
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read ({error.strerror})", "restore it") from error
