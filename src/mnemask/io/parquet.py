"""Masks as Parquet, one row per object and frame: hours of video in a few files."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from jaxtyping import UInt16

from mnemask.errors import MaskError, missing_extra
from mnemask.io.atomic import ResumeState, TextJournal, Writing, make_folder, unfinished
from mnemask.io.image_formats import name_of
from mnemask.io.pictures import check_size
from mnemask.io.shapes import box_of, mask_from_run_lengths, run_lengths
from mnemask.types import Frame, Masks, ObjectInfo

PARQUET = ".parquet"
_SECONDS, _FRAMES = 3600.0, 90_000  # length of video per file, whichever is reached first
_GROUP = 512  # rows read or written at a time
_PART = re.compile(rf"masks-\d{{5,}}{re.escape(PARQUET)}")

_COLUMNS = {
    "frame": "int64",
    "name": "string",
    "seconds": "float64",
    "object": "int32",
    "class": "string",
    "instance": "string",
    "height": "int32",
    "width": "int32",
    "area": "int64",
    "box": "list",
    "rle": "list",
}


def require_pyarrow() -> Any:
    """Returns pyarrow; raises MissingExtraError if it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing_extra("Parquet needs pyarrow", "parquet") from error
    return pyarrow


class ParquetMasks:
    """OUT/masks-00000.parquet and a further file after each hour of video: one row per object and frame.

    Columns are `frame`, `name`, `seconds`, `object`, `class`, `instance`, `height`, `width`, `area`, `box` (left, top,
    width, height) and `rle` (COCO's uncompressed counts, column by column, background first). A frame without objects
    has one row, with object 0.

    Rows are first written to a text file, one line of JSON each, since an unfinished Parquet file cannot be read: a
    killed run leaves the files of the earlier hours and this text file, from which it is resumed.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """

    stretch = 1
    single_file: ClassVar[str | None] = f"masks-00000{PARQUET}"
    per_object: ClassVar[bool] = True
    bytes_per_pixel: ClassVar[float] = 1 / 4000

    @classmethod
    def check(cls) -> None:
        """Raises MissingExtraError if pyarrow is not installed."""
        require_pyarrow()

    def __init__(self, out: Path, how: Writing) -> None:
        self._arrow, self._how = require_pyarrow(), how
        self._folder = make_folder(out)
        how.files.refuse_foreign(*parts_in(self._folder))
        begun = how.resume_state or {"part": 0, "rows": 0, "length": 0, "frames": 0, "since": None}
        self._part, self._rows = int(begun["part"]), int(begun["rows"])
        self._frames, self._since = int(begun["frames"]), begun["since"]
        later = (path for path in parts_in(self._folder) if path.name > self._path(self._part).name)
        how.files.remove(*later)  # written after this state
        self._journal = self._open(int(begun["length"]))

    def _open(self, length: int) -> TextJournal:
        """Returns the text file of the current part; rows that are already in its Parquet file are read back."""
        path = self._text(self._part)
        whole = self._path(self._part)
        if self._how.journal is None:
            self._how.begin(path)
        if length and not path.exists() and whole.exists():
            with path.open("w", encoding="utf-8") as text:
                text.writelines(_line(row) for row in islice(_rows_of(whole), self._rows))
        return TextJournal(path, length)

    def write(self, masks: Masks, frame: Frame | None) -> None:
        """Writes the rows of one frame."""
        seconds = None if frame is None else frame.seconds
        self._since = seconds if self._since is None else self._since
        late = seconds is not None and self._since is not None and seconds - self._since >= _SECONDS
        if self._frames and (late or self._frames >= _FRAMES):
            self._end_part()
            self._part, self._rows, self._frames, self._since = self._part + 1, 0, 0, seconds
            self._journal = self._open(0)
        labels = masks.labels.cpu().numpy()
        common = {"frame": masks.index, "name": name_of(masks, frame), "seconds": seconds}
        sized = {"height": labels.shape[0], "width": labels.shape[1]}
        rows = []
        for object_id in masks.object_ids:
            mask = labels == object_id
            if area := int(mask.sum()):
                info = self._how.objects.get(object_id, ObjectInfo())
                about = {"object": object_id, "class": info.category, "instance": info.name}
                shape = {"area": area, "box": list(box_of(mask)), "rle": run_lengths(mask.T).tolist()}
                rows.append({**common, **about, **sized, **shape})
        nothing = {"object": 0, "class": "", "instance": "", **sized, "area": 0, "box": None, "rle": None}
        rows = rows or [{**common, **nothing}]
        for row in rows:
            self._journal.add(_line(row))
        self._journal.flush()
        self._rows += len(rows)  # after the flush: rows that a full disk cut off do not count
        self._frames += 1

    def resume_state(self) -> ResumeState:
        """Returns the current part and how much of it is written."""
        return {
            "part": self._part,
            "rows": self._rows,
            "length": self._journal.length,
            "frames": self._frames,
            "since": self._since,
        }

    def sync(self) -> None:
        """Makes the rows so far durable."""
        self._journal.sync()

    def finish(self, *, complete: bool) -> None:
        """Writes the last part, even if it is incomplete; a resumed run replaces it."""
        if self._frames:
            self._end_part(keep=not complete)
        else:
            self._journal.close()
            if self._how.journal is None:
                self._journal.path.unlink()

    def _end_part(self, *, keep: bool = False) -> None:
        self._journal.close()
        whole = self._path(self._part)
        with unfinished(whole) as partial:
            with self._journal.path.open(encoding="utf-8") as text:
                _write(self._arrow, partial, islice(text, self._rows))
            self._how.files.publish(partial, whole, durable=True)
        if not keep or self._how.journal is None:
            self._journal.path.unlink()

    def _path(self, part: int) -> Path:
        return self._folder / f"masks-{part:05d}{PARQUET}"

    def _text(self, part: int) -> Path:
        return (self._how.journal or self._folder) / f"masks.partial.{part:05d}.rows"


def parts_in(folder: Path) -> list[Path]:
    """Returns the files in a folder, which need not exist, that are named like those of `ParquetMasks`."""
    return [path for path in folder.glob(f"masks-*{PARQUET}") if _PART.fullmatch(path.name)]


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _write(arrow: Any, path: Path, text: Iterator[str]) -> None:
    """Writes rows to a Parquet file, a few hundred at a time."""
    kinds = {name: arrow.list_(arrow.int32()) if kind == "list" else kind for name, kind in _COLUMNS.items()}
    kinds = {name: getattr(arrow, kind)() if isinstance(kind, str) else kind for name, kind in kinds.items()}
    schema = arrow.schema(list(kinds.items()))
    # Opened here, because pyarrow refuses paths that are not UTF-8.
    with path.open("wb") as out, arrow.parquet.ParquetWriter(out, schema, compression="zstd") as file:
        while rows := [json.loads(line) for line in islice(text, _GROUP)]:
            file.write_table(arrow.Table.from_pylist(rows, schema))


@contextmanager
def _reading(arrow: Any, path: Path) -> Iterator[Any]:
    """Opens a Parquet file for a with block; pyarrow itself refuses paths that are not UTF-8."""
    with path.open("rb") as whole, arrow.parquet.ParquetFile(whole) as file:
        yield file


def _rows_of(path: Path) -> Iterator[dict[str, Any]]:
    with _reading(require_pyarrow(), path) as file:
        for group in range(file.num_row_groups):
            yield from file.read_row_group(group).to_pylist()


class ParquetLabels:
    """The label maps in a file of `ParquetMasks`; a few hundred rows are held at a time.

    Args:
        path: path of the file.

    Attributes:
        maps: the names of its frames, in order.
        objects: the classes and names of the objects, by id.

    Raises:
        MaskError: the file is damaged or not in this format.
        MissingExtraError: pyarrow is not installed.
    """

    # What only files of annotation tools state.
    files: Mapping[str, str] = MappingProxyType({})
    unannotated: frozenset[str] = frozenset()
    gone: Mapping[str, frozenset[int]] = MappingProxyType({})
    interpolated: Mapping[str, frozenset[int]] = MappingProxyType({})

    def __init__(self, path: Path) -> None:
        self._path, self._arrow = path, require_pyarrow()
        self._latest: tuple[int, list[dict[str, Any]]] = (-1, [])
        self.maps: dict[str, list[int]] = {}
        self.objects: dict[int, ObjectInfo] = {}
        try:
            with _reading(self._arrow, path) as file:
                for group in range(file.num_row_groups):
                    columns = file.read_row_group(group, columns=["name", "object", "class", "instance"]).to_pylist()
                    for row in columns:
                        groups = self.maps.setdefault(row["name"], [])
                        groups += [group] if group not in groups else []
                        if row["object"]:
                            self.objects[row["object"]] = ObjectInfo(row["class"], row["instance"])
        except (OSError, ValueError, KeyError, self._arrow.ArrowException) as error:
            raise self._unreadable(error) from error

    def read(self, name: str) -> UInt16[np.ndarray, "H W"]:
        """Returns the object id at each pixel of a frame; raises MaskError if the frame is missing or damaged."""
        if name not in self.maps:
            raise MaskError(f"{self._path} has no mask {name}", f"choose one of its {len(self.maps)}")
        try:
            rows = [row for group in self.maps[name] for row in self._group(group) if row["name"] == name]
            height, width = int(rows[0]["height"]), int(rows[0]["width"])
            check_size(width, height, str(self._path))
            labels = np.zeros((height, width), np.uint16)
            for row in rows:
                if row["object"]:
                    labels[mask_from_run_lengths(row["rle"], width, height).T] = row["object"]
        except (OSError, ValueError, KeyError, TypeError, IndexError, self._arrow.ArrowException) as error:
            raise self._unreadable(error) from error
        return labels

    def _group(self, group: int) -> list[dict[str, Any]]:
        if self._latest[0] != group:
            with _reading(self._arrow, self._path) as file:
                columns = ["name", "object", "height", "width", "rle"]
                self._latest = group, file.read_row_group(group, columns=columns).to_pylist()
        return self._latest[1]

    def _unreadable(self, error: Exception) -> MaskError:
        return MaskError(
            f"{self._path} cannot be read as masks ({type(error).__name__}: {error})",
            "expected a file written by `mnemask segment --format parquet`",
        )
