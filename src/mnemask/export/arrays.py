"""Masks as arrays for programs, NPZ and Zarr, and the table of a run as Parquet."""

import io
import zipfile
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from jaxtyping import UInt8

from mnemask.errors import MaskError, missing_extra
from mnemask.export.source import Exporting, FrameMasks
from mnemask.io.parquet import require_pyarrow
from mnemask.io.table import COLUMNS
from mnemask.types import ObjectInfo


class _Arrays:
    """What array formats share: one size for all frames, ids, classes, and names and numbers of frames."""

    pictures: str | None = None

    def __init__(self, how: Exporting) -> None:
        self._how, self._source = how, how.source
        self._ids = self._source.object_ids
        self._kind = np.uint8 if max(self._ids, default=0) < 256 else np.uint16
        self._size: tuple[int, int] | None = None
        self._objects: Mapping[int, ObjectInfo] = {}
        self._frames: list[int] = []
        self._names: list[str] = []

    def add(self, frame: FrameMasks) -> None:
        if self._size is None:
            self._size, self._objects = frame.size, frame.objects
            self._begin(frame)
        if frame.size != self._size:
            raise MaskError(
                f"frame {frame.index} is {frame.size} and the first {self._size} (height, width)",
                "an array has one size, so export to coco or labelme",
            )
        at = len(self._frames)
        self._frames.append(frame.index)
        self._names.append(frame.name)
        self._put(at, frame)

    def _begin(self, frame: FrameMasks) -> None:
        raise NotImplementedError

    def _put(self, at: int, frame: FrameMasks) -> None:
        raise NotImplementedError

    def _alphas(self, frame: FrameMasks) -> UInt8[np.ndarray, "K H W"]:
        empty = np.zeros(frame.size, np.uint8)
        return np.stack([frame.alphas.get(object_id, empty) for object_id in self._ids])

    def _about(self) -> dict[str, list[Any]]:
        infos = [self._objects.get(object_id, ObjectInfo()) for object_id in self._ids]
        return {
            "frames": self._frames,
            "names": self._names,
            "object_ids": list(self._ids),
            "classes": [info.category for info in infos],
            "instances": [info.name for info in infos],
        }


class NpzArrays(_Arrays):
    """masks.npz: `labels` [T H W], `frames`, `names`, `object_ids`, `classes`, `instances`.

    Exports of cut-outs add `probabilities` [T K H W], from 0 to 255. Frames are written to disk one by one, so that a
    long video needs no more memory.
    """

    def __init__(self, how: Exporting) -> None:
        super().__init__(how)
        self._zip = how.stack.enter_context(
            zipfile.ZipFile(how.out / "masks.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        )
        self._labels: IO[bytes] | None = None
        self._beside: IO[bytes] | None = None  # a zip file is written one member at a time

    def _begin(self, frame: FrameMasks) -> None:
        shape = (len(self._source), *frame.size)
        self._labels = self._how.stack.enter_context(self._zip.open("labels.npy", "w", force_zip64=True))
        self._labels.write(_npy_head(shape, self._kind))
        if self._source.has_alphas:
            self._beside = self._how.stack.enter_context((self._how.out / "probabilities.npy").open("w+b"))
            self._beside.write(_npy_head((shape[0], len(self._ids), *frame.size), np.uint8))

    def _put(self, at: int, frame: FrameMasks) -> None:
        assert self._labels is not None
        self._labels.write(frame.labels.astype(self._kind).tobytes())
        if self._beside is not None:
            self._beside.write(self._alphas(frame).tobytes())

    def finish(self) -> None:
        if self._labels is not None:
            self._labels.close()
        if self._beside is not None:
            path = self._how.out / "probabilities.npy"
            self._beside.close()
            self._zip.write(path, path.name)
            path.unlink()
        for name, values in self._about().items():
            with self._zip.open(f"{name}.npy", "w") as file:
                kind = np.int64 if name in ("frames", "object_ids") else np.str_
                np.lib.format.write_array(file, np.array(values, kind), allow_pickle=False)
        self._zip.close()


class ZarrArrays(_Arrays):
    """masks.zarr: the same, in chunks of one frame; everything but the pixels is stored in attributes.

    Raises:
        MissingExtraError: zarr is not installed.
    """

    def __init__(self, how: Exporting) -> None:
        super().__init__(how)
        try:
            import zarr
        except ImportError as error:
            raise missing_extra("Zarr arrays need zarr", "arrays") from error
        self._group = zarr.open_group(str(how.out / "masks.zarr"), mode="w")
        self._alphas_array: Any = None

    def _begin(self, frame: FrameMasks) -> None:
        height, width = frame.size
        shape, chunk = (len(self._source), height, width), (1, height, width)
        self._labels = self._group.create_array("labels", shape=shape, chunks=chunk, dtype=np.dtype(self._kind).name)
        if self._source.has_alphas:
            count = len(self._ids)
            shapes = (shape[0], count, height, width), (1, count, height, width)
            self._alphas_array = self._group.create_array(
                "probabilities", shape=shapes[0], chunks=shapes[1], dtype="uint8"
            )

    def _put(self, at: int, frame: FrameMasks) -> None:
        self._labels[at] = frame.labels.astype(self._kind)
        if self._alphas_array is not None:
            self._alphas_array[at] = self._alphas(frame)

    def finish(self) -> None:
        self._group.attrs.update(self._about())


_TEXT = ("name", "class", "instance")
_WHOLE = ("frame", "object", "area", "left", "top", "width", "height", "specks")


class ParquetTable:
    """table.parquet from the table.csv of a run, see `ObjectTable`; for a project, both files.

    Raises:
        InputError: there is no table.
        MissingExtraError: pyarrow is not installed.
    """

    pictures: str | None = None

    def __init__(self, how: Exporting) -> None:
        require_pyarrow()
        from pyarrow import csv, parquet

        path = how.source.table(how.out)
        # pyarrow would guess them from the first megabyte, in which a column may be empty.
        types = dict.fromkeys(COLUMNS, "float64") | dict.fromkeys(_WHOLE, "int64") | dict.fromkeys(_TEXT, "string")
        how_read = csv.ConvertOptions(column_types=types, strings_can_be_null=False)
        with (  # opened here, because pyarrow refuses paths that are not UTF-8
            path.open("rb") as text,
            (how.out / "table.parquet").open("wb") as out,
            csv.open_csv(text, convert_options=how_read) as rows,
            parquet.ParquetWriter(out, rows.schema) as writer,
        ):
            for batch in rows:
                writer.write_batch(batch)

    def add(self, frame: FrameMasks) -> None:
        """Does nothing: the table is already written."""

    def finish(self) -> None:
        """Does nothing: the table is already written."""


def _npy_head(shape: tuple[int, ...], kind: type[np.generic]) -> bytes:
    """Returns the header of a NumPy file, to be followed by the values."""
    head = io.BytesIO()
    about = {"descr": np.lib.format.dtype_to_descr(np.dtype(kind)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(head, about)
    return head.getvalue()
