"""A state dict as torch saves it, read without executing code and without unpacking more than the file holds."""

import mmap
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from mnemask.errors import CheckpointError


def read_pickled(path: Path) -> dict[str, Tensor]:
    """Returns the named tensors of a file that torch.save wrote; raises CheckpointError for anything else."""
    _refuse_bombs(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    # On hostile or damaged bytes the restricted unpickler raises whatever its stack machine runs into.
    except Exception as error:
        reason = plain(str(error) or type(error).__name__, 120)
        raise CheckpointError(
            f"weights {str(path)!r} cannot be read without executing code, or are damaged ({reason}); "
            "give a plain state dict or a safetensors file"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise CheckpointError(f"weights {str(path)!r} are not a state dict of named tensors; save model.state_dict()")
    return state


def _refuse_bombs(path: Path) -> None:
    """Raises CheckpointError for a small file that would take a lot of memory.

    torch.save stores the parts of its archive as they are, while torch.load inflates packed ones, of any size. And the
    restricted unpickler calls bytearray(n) for any n; no state dict needs that.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            claimed = sum(part.file_size for part in zipfile.ZipFile(file).infolist())
        except (zipfile.BadZipFile, ValueError, NotImplementedError):
            claimed = 0  # no archive: an older file, or one that torch.load refuses
        if size and claimed <= size:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if content.find(b"bytearray") < 0:
                    return
    raise CheckpointError(
        f"weights {str(path)!r} have {size} bytes and are empty, or would unpack to more, as those of no network do "
        "(damaged, or a decompression bomb); fetch them again"
    )


def plain(text: str, length: int) -> str:
    """Returns what a file said as one line of printable text, cut to a length."""
    line = "".join(char if char.isprintable() else "?" for char in text[: length + 1])
    return line if len(line) <= length else line[: length - 1] + "…"
