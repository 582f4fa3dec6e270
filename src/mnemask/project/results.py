"""The masks of a project on disk: the results, one PNG per frame, with their confidence; and the masks of keys.

The masks of keys are lossless files that are never changed or removed: an undo needs them.
"""

import hashlib
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int32
from PIL import Image
from torch import Tensor

from mnemask.errors import InputError
from mnemask.io.atomic import Unsynced, make_folder, replacing, write_file
from mnemask.io.table import Confidence
from mnemask.project.journal import Journal, read_journal
from mnemask.types import Prompt, checked_mask

FIELDS = Confidence._fields
Labels = Int32[Tensor, "H W"]
Mask = Bool[Tensor, "H W"]
KEYS, MASKS, CONFIDENCE = "keys", "masks", "confidence.jsonl"
HELD_BYTES = 64 * 2**20
_REMEDY = "restore it from a copy of the project's folder, or mark the object again"
_LINES_PER_FRAME = 4  # of the journal, before it is rewritten


class Results:
    """The results of tracking; frames are written one by one, each atomically, so that a kill loses no earlier one.

    Args:
        folder: the project's folder; the results are in `masks/0000120.png` and `confidence.jsonl`.
        num_frames: the number of frames of the video.
        size: height and width of its frames.
    """

    def __init__(self, folder: Path, num_frames: int, size: tuple[int, int]) -> None:
        self._masks = make_folder(folder / MASKS)
        self._size, self._num_frames = size, num_frames
        self._unsynced = Unsynced()
        self._pass: Int32[np.ndarray, " T"] = np.zeros(num_frames, np.int32)
        self._columns: dict[int, Float[np.ndarray, "C T"]] = {}
        path = folder / CONFIDENCE
        count = 0
        try:
            for count, line in enumerate(read_journal(path), 1):  # noqa: B007
                self._take(line)
        except InputError:  # of a line that is not JSON
            raise
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InputError(
                f"{str(path)!r} is damaged ({type(error).__name__}: {error})",
                "restore it, or delete it and track again",
            ) from error
        if count > _LINES_PER_FRAME * num_frames:
            self._write_anew(path)
        self._journal = Journal(path, durable=False)

    def has(self, index: int) -> bool:
        """Returns whether a frame has been tracked."""
        return bool(self._pass[index])

    def last_pass(self) -> int:
        """Returns the highest number of a pass that has written a frame; 0 for none."""
        return int(self._pass.max(initial=0))

    def of_pass(self, number: int) -> list[int]:
        """Returns the frames that were last written by this pass."""
        found: list[int] = np.flatnonzero(self._pass == number).tolist()
        return found

    def labels(self, index: int) -> Labels:
        """Returns the stored id at each pixel; all background if the frame has not been tracked.

        Raises:
            InputError: the file is damaged or of another size.
        """
        path = self._path(index)
        if not self._pass[index] or not path.exists():
            return torch.zeros(self._size, dtype=torch.int32)
        try:
            with Image.open(path, formats=("PNG",)) as image:
                labels = np.array(image).astype(np.int32)
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(f"{str(path)!r} is damaged ({error})", "delete it and track the frame again") from error
        if labels.shape != self._size:
            raise InputError(f"{str(path)!r} is {labels.shape}, the video is {self._size}", "delete it and track again")
        return torch.from_numpy(labels)

    def write(self, index: int, labels: Labels, confidence: Mapping[int, Confidence], number: int) -> None:
        """Writes a frame; objects without a new confidence keep their old one."""
        pixels = labels.cpu().numpy()
        pixels = pixels.astype(np.uint8 if pixels.max(initial=0) < 256 else np.uint16)
        path = self._path(index)
        write_file(path, cv2.imencode(".png", pixels)[1].tobytes())
        self._unsynced.add(path)
        line = {"f": index, "p": number, "o": {str(object_id): list(each) for object_id, each in confidence.items()}}
        self._journal.add(line)
        self._take(line)

    def known(self) -> Bool[np.ndarray, " T"]:
        """Returns which frames have been tracked."""
        return self._pass > 0

    def columns(self, object_id: int) -> dict[str, Float[np.ndarray, " T"]]:
        """Returns the fields of `Confidence` of an object in each frame."""
        empty = np.zeros((len(FIELDS), self._num_frames), np.float32)
        return dict(zip(FIELDS, self._columns.get(object_id, empty), strict=True))

    def close(self) -> None:
        """Flushes what was written to disk."""
        self._unsynced.sync()
        self._journal.close()

    def _path(self, index: int) -> Path:
        return self._masks / f"{index:07d}.png"

    def _take(self, line: Mapping[str, Any]) -> None:
        index = line["f"]
        if not 0 <= index < self._num_frames:
            return
        self._pass[index] = line["p"]
        for object_id, values in line["o"].items():
            columns = self._columns.get(int(object_id))
            if columns is None:
                columns = self._columns[int(object_id)] = np.zeros((len(FIELDS), self._num_frames), np.float32)
            columns[:, index] = np.array(values, np.float32).reshape(len(FIELDS))

    def _write_anew(self, path: Path) -> None:
        """Rewrites the journal with one line per frame; a process that is killed meanwhile leaves the old file."""
        with replacing(path) as partial, closing(Journal(partial, durable=False)) as journal:
            for index in np.flatnonzero(self._pass).tolist():
                journal.add(self._line(index))

    def _line(self, index: int) -> dict[str, Any]:
        objects = {str(number): columns[:, index].round(4).tolist() for number, columns in self._columns.items()}
        return {"f": index, "p": int(self._pass[index]), "o": objects}


class KeyMasks:
    """The masks of keys by file name; the last ones read from disk are cached, up to `HELD_BYTES`.

    Args:
        folder: the project's folder.
        size: height and width of a mask.
    """

    def __init__(self, folder: Path, size: tuple[int, int]) -> None:
        self._folder, self._size = folder, size
        self._held: dict[str, Mask] = {}

    def add(self, frame: int, object_id: int, mask: Prompt) -> str:
        """Writes a mask durably to disk and returns its file name; raises MaskError if the mask does not fit."""
        checked = checked_mask(object_id, mask, self._size)
        data = cv2.imencode(".png", checked.cpu().numpy().astype(np.uint8) * 255)[1].tobytes()
        name = f"{KEYS}/{frame:07d}-{object_id}-{hashlib.sha256(data).hexdigest()[:16]}.png"
        # Even if the file exists: it may be damaged, and marking again is the remedy.
        write_file(make_folder(self._folder / KEYS) / Path(name).name, data, durable=True)
        return name

    def read(self, name: str) -> Mask:
        """Returns a mask; raises InputError if its file is missing or damaged."""
        held = self._held.get(name)
        if held is not None:
            return held
        mask = read_key_mask(self._folder / name)
        if tuple(mask.shape) != self._size:
            raise InputError(f"{str(self._folder / name)!r} is {tuple(mask.shape)}, the video is {self._size}", _REMEDY)
        self._held[name] = mask
        while len(self._held) > max(1, HELD_BYTES // mask.numel()):
            self._held.pop(next(iter(self._held)), None)  # another thread may have been faster
        return mask


def read_key_mask(path: Path) -> Mask:
    """Returns the mask in a file; raises InputError if it is missing or damaged."""
    try:
        data = path.read_bytes()  # OpenCV itself crashes on a path that is not UTF-8
    except OSError:
        data = b""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if data else None
    if pixels is None:
        raise InputError(f"{str(path)!r} is missing or damaged", _REMEDY)
    return torch.from_numpy(pixels > 127)
