"""A tracker on disk: tensors and a few facts in one safetensors file, written atomically and validated when read.

A SHA-256 of the content reveals damage. Saved tokens may have the right types and shapes, and still contain numbers
that no tracker can have written; this is checked too.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mnemask.errors import CheckpointError, OutputError, printable
from mnemask.io.atomic import refuse_no_name, replacing
from mnemask.io.utf8_path import utf8_path
from mnemask.io.written import foreign
from mnemask.memory.read import WINDOWS
from mnemask.memory.tokens import PER_OBJECT, Tokens

MOST_CELLS = 2**20  # of stride 16 in the largest frame
LARGEST_FRAME = 2**53  # larger integers are not exact in JSON and float64


def unsound(
    tokens: Tokens,
    *,
    steps: int,
    num_cells: int | None,
    key_channels: int,
    value_channels: int,
    detail_bytes: int,
) -> str | None:
    """Returns a phrase that describes what is wrong with tokens read from a file, or None.

    Args:
        tokens: tokens whose tensors fit together.
        steps: the tracker's count of frames.
        num_cells: the number of cells of its frames, None before the first. Tokens of an earlier video, whose frame
            indices are negative, may come from larger frames.
        key_channels: the network's channels of a key.
        value_channels: the network's channels of a value.
        detail_bytes: the bytes of a token for the affinity at stride 8.
    """
    if tokens.key.shape[1] != key_channels or tokens.value.shape[2] != value_channels:
        return (
            f"keys of {tokens.key.shape[1]} and values of {tokens.value.shape[2]} channels, where the network has "
            f"{key_channels} and {value_channels}"
        )
    windows, channels = tokens.detail.shape[1:]
    if windows != WINDOWS or windows * channels * tokens.detail.element_size() != detail_bytes:
        return f"{windows} × {channels} numbers at stride 8 per token, where {detail_bytes} bytes are expected"
    if not len(tokens):
        return None
    ranges = {
        "cell": (tokens.cell, 0, MOST_CELLS - 1),
        "cell of this video": (tokens.cell[tokens.frame >= 0], 0, (num_cells or MOST_CELLS) - 1),
        "frame": (tokens.frame, -LARGEST_FRAME, LARGEST_FRAME),
        "written_at": (tokens.written_at, -LARGEST_FRAME, steps),
        "last_used": (tokens.last_used, -LARGEST_FRAME, steps),
        "topk_count": (tokens.topk_count, 0, LARGEST_FRAME),
        "attention_mass": (tokens.attention_mass, 0, LARGEST_FRAME),
        "mask_fraction": (tokens.mask_fraction, 0, 1 + 1e-3),
    }
    for name, (values, least, most) in ranges.items():
        if not values.numel():
            continue
        low, high = values.min().item(), values.max().item()
        if not least <= low <= high <= most:
            return f"{name} from {low:g} to {high:g}, where {least:g} to {most:g} are possible"
    if bool((tokens.written_at[1:] < tokens.written_at[:-1]).any()):
        return "tokens that are not in the order of writing"
    if not bool(torch.isfinite(tokens.key.square().sum(-1)).all()):
        return "keys too large to compare"
    if not bool(torch.isfinite(tokens.value).all()):
        return f"values too large for {str(tokens.value.dtype).removeprefix('torch.')}"
    return None


FORMAT = "mnemask-bank-5"
DTYPES = {
    "key": torch.float32,
    "valid": torch.bool,
    "mask_fraction": torch.float32,
    "frame": torch.int64,
    "cell": torch.int64,
    "written_at": torch.int64,
    "topk_count": torch.int64,
    "attention_mass": torch.float32,
    "last_used": torch.int64,
    "pins": torch.bool,
    "detail": torch.float16,
}
VALUE_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def save_bank(path: Path, tokens: Tokens | None, facts: Mapping[str, Any]) -> None:
    """Writes tokens and facts atomically: the path always holds either the old file or the complete new one.

    Args:
        path: the file.
        tokens: the tokens, None if the memory is empty.
        facts: values that JSON can hold.

    Raises:
        OutputError: if the place cannot be written to, or holds a file of another kind, which is never replaced.
    """
    refuse_no_name(path)
    if path.is_symlink():  # its target is written, and the link stays
        path = Path(os.path.realpath(path))
    is_file = path.is_file()
    if (os.path.lexists(path) and not is_file) or (is_file and path.stat().st_size and not _is_bank(path)):
        raise foreign(path)
    tensors = {} if tokens is None else {name: tensor.cpu().contiguous() for name, tensor in tokens.tensors().items()}
    text = json.dumps(facts)
    try:
        with replacing(path, durable=True) as partial:
            save_file(tensors, partial, {"format": FORMAT, "facts": text, "sha256": digest_of(text, tensors)})
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"memory bank {str(path)!r} cannot be written ({error})", "make room or give another place"
        ) from error


def _is_bank(path: Path) -> bool:
    """Returns whether a file is a memory bank, of any version."""
    try:
        with utf8_path(path) as name, safe_open(name, "pt") as file:
            return str((file.metadata() or {}).get("format")).startswith(FORMAT.rstrip("0123456789"))
    except (OSError, SafetensorError):
        return False


def load_bank(path: Path, device: torch.device) -> tuple[Tokens | None, dict[str, Any]]:
    """Returns the bank that `save_bank` wrote; raises CheckpointError if the file is foreign or damaged."""
    if not path.is_file():
        raise CheckpointError(f"memory bank {str(path)!r} is not a file", "give one written by Tracker.save")
    try:
        with utf8_path(path) as name, safe_open(name, "pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(
            f"memory bank {str(path)!r} is damaged ({printable(str(error), 120)})", "write it again"
        ) from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{str(path)!r} has format {metadata.get('format')!r}, expected {FORMAT!r}",
            "give a memory bank of this version, or track the video again",
        )
    text = metadata.get("facts", "")
    if metadata.get("sha256") != digest_of(text, tensors):
        raise CheckpointError(
            f"memory bank {str(path)!r} is damaged: its content does not match its checksum", "write it again"
        )
    return (_checked(tensors, path) if tensors else None), _facts(text, path)


def digest_of(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 of the facts and of each tensor's name, dtype, shape and numbers."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _facts(text: str, path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"memory bank {str(path)!r} has malformed facts ({error})", "write it again") from error
    if not isinstance(facts, dict):
        raise CheckpointError(f"memory bank {str(path)!r} has unnamed facts {text[:60]!r}", "write it again")
    return facts


def _checked(tensors: Mapping[str, Tensor], path: Path) -> Tokens:
    names = {*DTYPES, "value"}
    if set(tensors) != names:
        raise CheckpointError(
            f"memory bank {str(path)!r} holds {sorted(tensors)}, expected {sorted(names)}", "write it again"
        )
    num_tokens, num_objects = (len(tensors[name]) if tensors[name].ndim else 0 for name in ("key", "valid"))
    for name, tensor in tensors.items():
        lead = (num_objects, num_tokens) if name in PER_OBJECT else (num_tokens,)
        rank = len(lead) + {"key": 1, "value": 1, "detail": 2}.get(name, 0)
        fits = tensor.ndim == rank and tuple(tensor.shape[: len(lead)]) == lead
        known = VALUE_DTYPES if name == "value" else (DTYPES[name],)
        if not fits or tensor.dtype not in known or not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"memory bank {str(path)!r} is inconsistent: {name} is {tensor.dtype} of shape "
                f"{tuple(tensor.shape)} for {num_objects} objects and {num_tokens} tokens, or not finite",
                "write it again",
            )
    return Tokens(**tensors)
