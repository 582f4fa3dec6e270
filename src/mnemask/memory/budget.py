"""The memory budget in frames, tokens or bytes, converted to a number of tokens before anything is allocated."""

import re
from dataclasses import dataclass

import torch

from mnemask.errors import BudgetError
from mnemask.memory.read import AFFINITY_BYTES, UNLIMITED, tile_bytes
from mnemask.types import take_numpy_numbers

CPU = torch.device("cpu")
UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


@dataclass(frozen=True, slots=True)
class Budget:
    """What a memory bank may hold, given in one of three units; no limit if none is given.

    Args:
        frames: as many tokens as this number of frames has. 2.5 is allowed.
        tokens: the number of tokens, which are cells of stride 16.
        bytes: a number or a size such as "64MiB" or "1.5 GB", for the bank and the buffers of a read. The choices of
            each query are counted for one group of objects that read the same tokens; each further group, of objects
            that appeared later, takes 12 more bytes per cell and token read (0.4 MB at 480 pixels and a top_k of 20).

    Raises:
        BudgetError: if the budget is not positive, or given in more than one unit.

    Example:
        >>> Budget(bytes="64MiB").max_bytes
        67108864
    """

    frames: int | float | None = None
    tokens: int | None = None
    bytes: int | str | None = None

    def __post_init__(self) -> None:
        take_numpy_numbers(self)
        given = {"frames": self.frames, "tokens": self.tokens, "bytes": self.bytes}
        given = {name: value for name, value in given.items() if value is not None}
        if len(given) > 1:
            raise BudgetError(f"budget has {' and '.join(given)}", "give only one of frames, tokens and bytes")
        kinds = {"frames": (int, float), "tokens": (int,), "bytes": (int, str)}
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, kinds[name]):
                raise BudgetError(f"budget of {name} is {value!r}", "give a number, or for bytes a size such as 64MiB")
            if not isinstance(value, str) and not 0 < value < UNLIMITED:
                remedy = "give less, or choose keep-all" if value >= UNLIMITED else "give 1 or more"
                raise BudgetError(f"budget of {value} {name} is not a positive number below 2⁶²", remedy)
        if isinstance(self.bytes, str):
            parse_bytes(self.bytes)

    @property
    def max_bytes(self) -> int | None:
        """The limit in bytes, None if it is not given in bytes."""
        return parse_bytes(self.bytes) if isinstance(self.bytes, str) else self.bytes

    def capacity(self, tokens_per_frame: int, bytes_per_token: int, top_k: int, device: torch.device = CPU) -> int:
        """Returns how many tokens may be held when a frame is written; the arguments are those of `limit`.

        Raises:
            BudgetError: if that is less than one frame, which no policy can work with.
        """
        capacity = self.limit(tokens_per_frame, bytes_per_token, top_k, device)
        if capacity >= tokens_per_frame:
            return capacity
        if self.max_bytes is not None:
            least = tokens_per_frame * bytes_per_token + read_buffer_bytes(tokens_per_frame, top_k, 0)
            # Two tiles, each a sixteenth of the total, are a seventh of the rest; 32 makes up for rounding.
            least += 2 * tile_bytes(device, least * 8 // 7 + 32)
            remedy = f"give at least {-(-least // 2**20)}MiB, process smaller frames, or track fewer objects"
        elif self.tokens is not None:
            remedy = f"give at least {tokens_per_frame} tokens, or process smaller frames"
        else:
            remedy = "give at least 1 frame"
        raise BudgetError(f"a budget of {self} holds {capacity} tokens, but one frame has {tokens_per_frame}", remedy)

    def limit(self, tokens_per_frame: int, bytes_per_token: int, top_k: int, device: torch.device = CPU) -> int:
        """Returns how many tokens may be held, even if that is less than a frame.

        Args:
            tokens_per_frame: the number of cells of one frame.
            bytes_per_token: the bytes of a token with the present number of objects.
            top_k: tokens read per query; their indices and weights are buffers too.
            device: the device of the memory, on which the size of a read's buffers depends.
        """
        if self.max_bytes is not None:
            held = self.max_bytes - read_buffer_bytes(tokens_per_frame, top_k, tile_bytes(device, self.max_bytes))
            return max(held, 0) // bytes_per_token
        if self.tokens is not None:
            return self.tokens
        return UNLIMITED if self.frames is None else int(self.frames * tokens_per_frame)

    def __str__(self) -> str:
        if self.bytes is not None:
            return str(self.bytes) if isinstance(self.bytes, str) else f"{self.bytes} bytes"
        if self.tokens is not None:
            return f"{self.tokens} tokens"
        return "no limit" if self.frames is None else f"{self.frames:g} frames"


def parse_bytes(text: str) -> int:
    """Returns the number of bytes of "64MiB", "1.5 GB" or "1000000"; raises BudgetError for anything else."""
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([a-zA-Z]*)\s*", text)
    unit = UNITS.get(match[2].lower()) if match else None
    size = 0 if match is None or unit is None else int(float(match[1]) * unit)
    if not 0 < size < UNLIMITED:
        raise BudgetError(
            f"budget {text[:40]!r} is not a size", "write a number and a unit such as 64MiB, 1.5GB or 200000"
        )
    return size


def read_buffer_bytes(num_queries: int, top_k: int, tile: int = AFFINITY_BYTES) -> int:
    """Returns the bytes of a read's buffers: two copies of one tile of affinities, and the chosen tokens.

    A chosen token is an int64 index, a float32 affinity and a float32 weight per query and slot, once in chunks and
    once concatenated.
    """
    return 2 * tile + 2 * num_queries * top_k * (8 + 4 + 4)
