"""The memory bank of one video: it owns the tokens, writes, reads and evicts them, and keeps count."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Float32, Int64
from torch import Tensor

from mnemask.config import TrackerConfig
from mnemask.errors import BudgetError, InputError
from mnemask.memory.budget import CPU, read_buffer_bytes
from mnemask.memory.introspection import Provenance, array
from mnemask.memory.policies import is_custom
from mnemask.memory.policies.contract import checked_update
from mnemask.memory.policies.wrappers import last_write_apart
from mnemask.memory.read import (
    PLACE_BYTES,
    UNLIMITED,
    KMNKernel,
    Reading,
    key_energy,
    read_top_k,
    rerank,
    stride8_bytes,
    stride8_windows,
    tile_bytes,
)
from mnemask.memory.tokens import CellGrid, Readers, Tokens, bytes_per_token, readers_of, runs_of
from mnemask.memory.trace import WriteRecord

log = logging.getLogger(__name__)

COUNTS = ("writes", "reads", "evictions", "tokens_per_frame")  # in the order in which they are saved


@dataclass(frozen=True, slots=True)
class MemoryStats:
    """Statistics of a memory bank.

    Attributes:
        tokens: tokens in memory now.
        frames: the same, in multiples of the tokens of one frame.
        pinned: how many of them are pinned, that is, never evicted.
        capacity: the maximum number of tokens, None without a limit.
        bank_bytes: bytes of keys, values and bookkeeping.
        buffer_bytes: the most additional bytes that a read needs.
        writes: frames written.
        reads: frames for which the memory was read.
        evictions: tokens, old or new, that writes did not keep, including those merged into others.
    """

    tokens: int
    frames: float
    pinned: int
    capacity: int | None
    bank_bytes: int
    buffer_bytes: int
    writes: int
    reads: int
    evictions: int

    def __add__(self, other: "MemoryStats") -> "MemoryStats":
        """Returns the combined statistics of two banks, which are read in turn, so that the larger buffer counts."""
        both = {name: getattr(self, name) + getattr(other, name) for name in self.__slots__ if name != "capacity"}
        limits = self.capacity, other.capacity
        capacity = None if None in limits else sum(each for each in limits if each is not None)
        buffer = max(self.buffer_bytes, other.buffer_bytes)
        return MemoryStats(**both | {"capacity": capacity, "buffer_bytes": buffer})


@dataclass(frozen=True, slots=True)
class LastRead:
    """The tokens that each query of the last read chose, and their origin; no keys, values or pictures.

    It takes 12 bytes per query and slot for each group of objects that read the same tokens; the read itself needed
    these bytes too.

    Attributes:
        frame: source frame of each token in memory at the read.
        cell: its cell in that frame.
        mask_fraction: how much of the cell each object filled.
        readings: for each read, the rows of the objects that shared it, and its result.
    """

    frame: Int64[Tensor, " N"]
    cell: Int64[Tensor, " N"]
    mask_fraction: Float[Tensor, "K N"]
    readings: tuple[tuple[tuple[int, ...], Reading], ...]

    @classmethod
    def from_readings(cls, tokens: Tokens, readings: list[tuple[tuple[int, ...], Reading]]) -> "LastRead":
        """Returns the record of a read; it holds no reference to keys and values."""
        return cls(tokens.frame, tokens.cell, tokens.mask_fraction, tuple(readings))

    @property
    def num_bytes(self) -> int:
        """Bytes of the readings; the other tensors are shared with the memory until the next write."""
        return sum(reading.index.nbytes + reading.weight.nbytes for _, reading in self.readings)

    def votes(self, query: int) -> tuple[Int64[np.ndarray, " M"], Float32[np.ndarray, "K M"]]:
        """Returns the tokens that any object read for one query, heaviest first, and their weight for each object."""
        weight = torch.zeros(self.mask_fraction.shape, dtype=torch.float32, device=self.mask_fraction.device)
        for rows, reading in self.readings:
            for row in rows:
                weight[row, reading.index[query]] = reading.weight[query].to(weight.dtype)
        chosen = torch.nonzero(weight.any(0))[:, 0]
        order = torch.argsort(weight[:, chosen].mean(0), descending=True, stable=True)
        return array(chosen[order]), array(weight[:, chosen[order]])


class MemoryBank:
    """The tokens of one video: written, read and evicted.

    Args:
        config: what is kept and how it is read; `short_side` is used by the tracker only. With a `kmn_sigma`, `grid`
            must be set before a read; None means 0 here, where the network is not known.

    Attributes:
        tokens: the tokens in memory, None before the first write or without objects.
        grid: the grid of a frame's cells, set by the tracker; needed by `provenance`, `trace` and the KMN kernel.
        trace: called with a record of each write, such as a TraceFile; None, the default, makes no records. A copy has
            none: two banks would write to one file.
        step: the tracker's count of frames at the last read or write, from which `provenance` counts ages.
        last_read: the choices of the last read, until the tracker's next step.
        frozen: True makes the memory read-only: nothing is written, evicted or counted any more, and what would change
            it (given masks, removal) is rejected. Only tokens of another tracker that exceed the budget are evicted at
            the first read.
    """

    def __init__(self, config: TrackerConfig) -> None:
        self.config = config = config.filled(kmn_sigma=0.0)
        self.policy, self.budget = config.used_policy(), config.used_budget()
        self._policy_is_custom = is_custom(self.policy)
        self.kmn_sigma = config.kmn_sigma or 0.0
        self.tokens: Tokens | None = None
        self.writes = self.reads = self.evictions = self.tokens_per_frame = 0
        self.step = 0
        self.grid: CellGrid | None = None
        self.trace: Callable[[WriteRecord], None] | None = None
        self.last_read: LastRead | None = None
        self.frozen = False
        self._energy = torch.empty(0)
        self._grouped: tuple[Tensor, list[tuple[Readers, slice | Tensor]]] | None = None
        self._counted: tuple[Tensor, int] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state for copies and pickles, without the trace."""
        return vars(self) | {"trace": None}

    def write(
        self,
        key: Float[Tensor, "P Ck"],
        value: Float[Tensor, "K P Cv"],
        mask_fraction: Float[Tensor, "K P"],
        *,
        frame: int,
        step: int,
        pins: Bool[Tensor, "K P"],
        stride8: Float[Tensor, "C8 h8 w8"] | None = None,
    ) -> None:
        """Writes a frame, and evicts what the policy does not keep.

        Args:
            key: the key of each cell.
            value: the value of each object and cell.
            mask_fraction: how much of each cell each object fills, 0 to 1.
            frame: index of the frame in the video.
            step: the tracker's count of frames.
            pins: which cells are pinned for which object.
            stride8: the frame's features at stride 8; required if reads are refined.

        Raises:
            BudgetError: if the budget cannot hold what must be kept; the memory does not change.
            PolicyError: if a custom policy fails or breaks its contract; the memory does not change.
        """
        self.tokens_per_frame, self.step = len(key), step
        new = Tokens.from_frame(
            key, value, mask_fraction, frame=frame, step=step, pins=pins, detail=self._detail(stride8)
        )
        capacity = self.budget.capacity(*self._sizes(new))
        memory = new[:0] if self.tokens is None else self.tokens
        kept = self._keep(memory, new, capacity, frame)
        self.writes += 1
        if self.trace is not None:
            limit = None if capacity == UNLIMITED else capacity
            self.trace(
                WriteRecord.from_write(
                    memory, new, kept, grid=self._known_grid(), policy=str(self.policy), capacity=limit
                )
            )

    def _keep(self, memory: Tokens, new: Tokens, capacity: int, frame: int) -> Tokens:
        """Evicts what the policy does not keep of old and new tokens, and returns what it keeps."""
        try:
            kept = self._update(memory, new, capacity, frame)
        except BudgetError:
            fewer = None if self.config.keep_corrections else self._update_with_fewer_pins(memory, new, capacity, frame)
            if fewer is None:
                raise
            kept = fewer
        self.evictions += len(memory) + len(new) - len(kept)
        self.tokens, self._energy = kept, key_energy(kept.key)
        return kept

    def _fit(self, tokens: Tokens) -> Tokens:
        """Evicts what the budget cannot hold of tokens from a tracker with a larger one; returns what is left.

        A write does the same. A frozen memory has none, so this is done before the first read.
        """
        capacity = self.budget.capacity(*self._sizes(tokens))
        if len(tokens) <= capacity:
            return tokens
        memory, new = last_write_apart(tokens)
        return self._keep(memory, new, capacity, int(new.frame[-1]) + 1)

    def _update(self, memory: Tokens, new: Tokens, capacity: int, frame: int) -> Tokens:
        if self._policy_is_custom:
            return checked_update(self.policy, memory, new, capacity, f"at frame {frame}")
        return self.policy.update(memory, new, capacity)

    def _update_with_fewer_pins(self, memory: Tokens, new: Tokens, capacity: int, frame: int) -> Tokens | None:
        """Returns what is kept if less is pinned; None if the first frame, or half of a new object, does not fit.

        Earlier corrections are unpinned first, then those in the new frame, then first masks of later objects.
        """
        first, known = memory.without_corrections(range(memory.num_objects)), memory.pins.any(1, keepdim=True)
        came = new.pins.any(1) & ~memory.valid.any(1)
        stages = {
            "corrections before frame %d do": (first, new),
            "corrections up to frame %d do": (first, replace(new, pins=new.pins & ~known)),
            "first masks of later objects up to frame %d do": (
                memory.with_oldest_pins(),
                replace(new, pins=new.pins & ~known.any()),
            ),
        }
        for what, (old, added) in stages.items():
            try:
                kept = self._update(old, added, capacity, frame)
            except BudgetError:
                continue
            if bool((kept.mask_fraction[came].sum(1) >= new.mask_fraction[came].sum(1) / 2).all()):
                log.info(f"{what} not fit the budget and may be evicted; give a larger one", frame)
                return kept
        return None

    def _sizes(self, like: Tokens) -> tuple[int, int, int, torch.device]:
        """Returns the arguments of `Budget.limit` for tokens of this shape."""
        num_bytes = self.bytes_per_token(
            like.num_objects, like.key.shape[1], like.value.shape[2], like.value.element_size()
        )
        return self.tokens_per_frame, num_bytes, self.config.top_k, like.key.device

    def bytes_per_token(self, num_objects: int, key_channels: int, value_channels: int, value_bytes: int) -> int:
        """Returns the bytes that a token takes in this bank, including its place for the KMN kernel during a read."""
        more = stride8_bytes(self.config.stride8_weight) + (PLACE_BYTES if self.kmn_sigma else 0)
        return bytes_per_token(num_objects, key_channels, value_channels, value_bytes) + more

    def read_buffer_bytes(self, device: torch.device, num_queries: int | None = None) -> int:
        """Returns the most bytes that a read needs on a device, by default for frames of the present size."""
        num_queries = self.tokens_per_frame if num_queries is None else num_queries
        return read_buffer_bytes(num_queries, self.config.top_k, tile_bytes(device, self.budget.max_bytes))

    def _detail(self, stride8: Float[Tensor, "C8 h8 w8"] | None) -> Float16[Tensor, "P 4 D"] | None:
        if not self.config.stride8_weight:
            return None
        assert stride8 is not None, "a refined memory needs the features at stride 8"
        return stride8_windows(stride8)

    def read(
        self, query_key: Float[Tensor, "P Ck"], step: int, stride8: Float[Tensor, "C8 h8 w8"] | None = None
    ) -> Float[Tensor, "K P Cv"]:
        """Returns each object's readout at each query, and counts the usage of tokens.

        An object reads only tokens that cover it. Objects with the same tokens share one read; if they differ (objects
        that appeared later), usage is counted only in the read over the most tokens, so that each query counts once.

        Args:
            query_key: the key of each cell.
            step: the tracker's count of frames.
            stride8: the frame's features at stride 8; required if reads are refined.

        Raises:
            BudgetError: if the tokens come from another tracker, and the budget cannot hold those that are pinned, or a
                frame.
        """
        assert self.tokens is not None, "a memory is written before it is read"
        self.tokens_per_frame, self.step = len(query_key), step  # also before the first write in another video
        tokens, self.last_read, detail = self._fit(self.tokens), None, self._detail(stride8)
        readout = tokens.value.new_empty((tokens.num_objects, len(query_key), tokens.value.shape[2]))
        if not len(tokens):
            return readout.zero_()
        kernel = self._kernel()
        readings: list[tuple[tuple[int, ...], Reading]] = []
        for number, (readers, seen) in enumerate(self._groups(tokens)):
            rows = readers.rows
            if not readers.count:
                readout[list(rows)] = 0
                continue
            key, energy = tokens.key[seen], self._energy[seen]
            top_k, metric, max_bytes = self.config.top_k, self.config.metric, self.budget.max_bytes
            reading = read_top_k(query_key, key, energy, top_k, metric, kernel, max_bytes)
            if detail is not None:
                reading = rerank(reading, detail, tokens.detail[seen], self.config.stride8_weight, max_bytes)
            if readers.count < len(tokens):
                chosen = reading.index + seen.start if isinstance(seen, slice) else seen[reading.index]
                reading = replace(reading, index=chosen)
            readings.append((rows, reading))
            for some in runs_of(rows, reading.objects_at_once(max_bytes)):
                readout[some] = reading.gather(tokens.value[some])
            if number == 0 and not self.frozen:
                self.tokens = update_usage(tokens, reading, step)
        if not self.frozen:
            self.reads += 1
        self.last_read = LastRead.from_readings(tokens, readings)
        return readout

    def _kernel(self) -> KMNKernel | None:
        return KMNKernel.from_sigma(self.kmn_sigma, self._known_grid().shape) if self.kmn_sigma else None

    def _groups(self, tokens: Tokens) -> list[tuple[Readers, slice | Tensor]]:
        """Returns which objects read which tokens; computed only after a change, since it waits for the device."""
        if self._grouped is None or self._grouped[0] is not tokens.valid:
            groups = readers_of(tokens.valid)
            places = [each.places or torch.nonzero(tokens.valid[each.rows[0]])[:, 0] for each in groups]
            self._grouped = tokens.valid, list(zip(groups, places, strict=True))
        return self._grouped[1]

    def add_object(self) -> None:
        """Adds a row for a new object."""
        if self.tokens is not None:
            self.tokens = self.tokens.add_object()

    def remove_object(self, row: int) -> None:
        """Removes an object's row, and the tokens that no other object reads."""
        self.last_read = None
        if self.tokens is not None:
            self.tokens = None if self.tokens.num_objects == 1 else self.tokens.remove_object(row)
            self._energy = torch.empty(0) if self.tokens is None else key_energy(self.tokens.key)

    def expect_correction(self, rows: Sequence[int]) -> None:
        """Unpins earlier corrections of these objects, unless `keep_corrections` is set, but not their first masks."""
        if self.tokens is not None and not self.config.keep_corrections:
            self.tokens = self.tokens.without_corrections(rows)

    def counts(self) -> dict[str, int]:
        """Returns the counters that are saved with the tokens."""
        return {name: getattr(self, name) for name in COUNTS}

    def restore(self, tokens: Tokens | None, counts: Mapping[str, int]) -> None:
        """Takes over saved tokens and their counters, of which missing ones are 0."""
        for name in COUNTS:
            setattr(self, name, counts.get(name, 0))
        if tokens is not None:
            self.tokens, self._energy = tokens, key_energy(tokens.key)

    def provenance(self) -> Provenance:
        """Returns where the tokens come from, as copied arrays; raises InputError before the first frame."""
        grid = self._known_grid()
        return Provenance.empty(grid) if self.tokens is None else Provenance.from_tokens(self.tokens, grid, self.step)

    def _known_grid(self) -> CellGrid:
        if self.grid is None:
            raise InputError("the size of frames is not known yet", "step a frame, or set memory.grid")
        return self.grid

    def _num_pinned(self, tokens: Tokens) -> int:
        """Returns how many tokens are pinned; counted only after a change, since it waits for the device."""
        if self._counted is None or self._counted[0] is not tokens.pins:
            self._counted = tokens.pins, int(tokens.pinned.sum())
        return self._counted[1]

    def stats(self) -> MemoryStats:
        """Returns the statistics of the bank."""
        tokens = self.tokens
        capacity = UNLIMITED if tokens is None else self.budget.limit(*self._sizes(tokens))
        return MemoryStats(
            tokens=0 if tokens is None else len(tokens),
            frames=0.0 if tokens is None else len(tokens) / self.tokens_per_frame,
            pinned=0 if tokens is None else self._num_pinned(tokens),
            capacity=None if capacity == UNLIMITED else capacity,
            bank_bytes=0 if tokens is None else tokens.num_bytes + self._energy.nbytes,
            buffer_bytes=self.read_buffer_bytes(CPU if tokens is None else tokens.key.device),
            writes=self.writes,
            reads=self.reads,
            evictions=self.evictions,
        )


def update_usage(tokens: Tokens, reading: Reading, step: int) -> Tokens:
    """Returns the tokens with a read added to their usage."""
    index = reading.index.flatten()
    # Summed on its own first: float32 would lose single weights next to the mass of many thousand frames.
    mass = torch.zeros_like(tokens.attention_mass).index_add_(0, index, reading.weight.flatten())
    return replace(
        tokens,
        # Not bincount, which makes the host wait for a GPU.
        topk_count=tokens.topk_count.scatter_add(0, index, torch.ones_like(index)),
        attention_mass=tokens.attention_mass + mass,
        last_used=tokens.last_used.index_fill(0, index, step),
    )
