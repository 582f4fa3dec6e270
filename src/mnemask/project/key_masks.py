"""The masks of keys, lossless files below a project's folder that are never replaced: an undo must find them again."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from mnemask.errors import InputError
from mnemask.io.atomic import make_folder, write_file
from mnemask.types import Prompt, checked_mask

Mask = Bool[Tensor, "H W"]
KEYS = "keys"
HELD_BYTES = 64 * 2**20


class KeyMasks:
    """Masks by the name of their file; those that were read last are held, up to `HELD_BYTES`.

    Args:
        folder: of the project.
        size: height and width of a mask.
    """

    def __init__(self, folder: Path, size: tuple[int, int]) -> None:
        self._folder, self._size = folder, size
        self._held: dict[str, Mask] = {}

    def add(self, frame: int, object_id: int, mask: Prompt) -> str:
        """Returns the name of the file of a mask, written unless it is there; raises MaskError if it does not fit."""
        checked = checked_mask(object_id, mask, self._size)
        data = cv2.imencode(".png", checked.cpu().numpy().astype(np.uint8) * 255)[1].tobytes()
        name = f"{KEYS}/{frame:07d}-{object_id}-{hashlib.sha256(data).hexdigest()[:16]}.png"
        if not (self._folder / name).exists():
            write_file(make_folder(self._folder / KEYS) / Path(name).name, data)
        return name

    def read(self, name: str) -> Mask:
        """Returns a mask; raises InputError if its file is missing or damaged."""
        held = self._held.get(name)
        if held is not None:
            return held
        mask = read_key_mask(self._folder / name)
        if tuple(mask.shape) != self._size:
            raise InputError(f"{str(self._folder / name)!r} is {tuple(mask.shape)}, the video {self._size}", _REMEDY)
        self._held[name] = mask
        while len(self._held) > max(1, HELD_BYTES // mask.numel()):
            self._held.pop(next(iter(self._held)), None)  # another thread may have been faster
        return mask


def read_key_mask(path: Path) -> Mask:
    """Returns the mask in a file; raises InputError if it is missing or damaged."""
    pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise InputError(f"{str(path)!r} is missing or damaged", _REMEDY)
    return torch.from_numpy(pixels > 127)


_REMEDY = "restore it from a copy of the project's folder, or mark the object again"
