"""A trace of what was evicted, when and why: a record of each write, as lines of JSON."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import torch

from mnemask.errors import InputError, OutputError
from mnemask.memory.introspection import Provenance
from mnemask.memory.tokens import CellGrid, Tokens


@dataclass(frozen=True, slots=True, eq=False)
class WriteRecord:
    """What one write did to the memory.

    Attributes:
        frame: index of the frame that was written.
        step: the tracker's count of frames.
        policy: the policy, with its settings.
        capacity: the maximum number of tokens, None without a limit.
        held: the number of tokens in memory afterwards.
        evicted: the evicted tokens, with their top-k count, age and usage at that time.
        left_out: cells of the new frame that were not added, for lack of room or because they were merged into others.
        evicted_earlier: the number of evicted tokens that a warm start had brought from an earlier video; they are not
            in `evicted`, since they have no place in this video.
    """

    frame: int
    step: int
    policy: str
    capacity: int | None
    held: int
    evicted: Provenance
    left_out: Provenance
    evicted_earlier: int = 0

    @classmethod
    def from_write(
        cls, memory: Tokens, new: Tokens, kept: Tokens, *, grid: CellGrid, policy: str, capacity: int | None
    ) -> "WriteRecord":
        """Returns the record of a write, from the old and the new tokens and those that were kept of both."""
        step = int(new.written_at[0])
        # Step and cell identify a token: a step writes a cell at most once, and policies that merge tokens or replace
        # values change neither. An earlier video may have had more cells than the grid.
        num_cells = 1 + torch.cat((memory.cell, new.cell, kept.cell)).max()
        kept_ids = kept.written_at * num_cells + kept.cell
        gone, out = (part[~torch.isin(part.written_at * num_cells + part.cell, kept_ids)] for part in (memory, new))
        return cls(
            frame=int(new.frame[0]),
            step=step,
            policy=policy,
            capacity=capacity,
            held=len(kept),
            evicted=Provenance.from_tokens(gone, grid, step),
            left_out=Provenance.from_tokens(out, grid, step),
            evicted_earlier=int((gone.frame < 0).sum()),
        )

    def to_json(self) -> str:
        """Returns the record as one line."""
        grid = self.evicted.grid
        record = {
            "frame": self.frame,
            "step": self.step,
            "policy": self.policy,
            "capacity": self.capacity,
            "held": self.held,
            "size": grid.size,
            "short_side": grid.short_side,
            "evicted": {**self.evicted.columns(), "use": self.evicted.usage.round(4).tolist()},
            "left_out": self.left_out.columns(),
            "evicted_earlier": self.evicted_earlier,
        }
        return json.dumps(record, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> "WriteRecord":
        """Returns the record that `to_json` wrote; raises KeyError, TypeError or ValueError for anything else."""
        record = json.loads(line)
        (height, width), short_side = record["size"], record["short_side"]
        grid = CellGrid((int(height), int(width)), None if short_side is None else int(short_side))
        capacity = record["capacity"]
        return cls(
            frame=int(record["frame"]),
            step=int(record["step"]),
            policy=str(record["policy"]),
            capacity=None if capacity is None else int(capacity),
            held=int(record["held"]),
            evicted=Provenance.from_columns(grid, record["evicted"]),
            left_out=Provenance.from_columns(grid, record["left_out"]),
            evicted_earlier=int(record.get("evicted_earlier", 0)),
        )


class TraceFile:
    """A file with a line for each write of a memory bank, flushed immediately, so that an interrupted run loses none.

    Args:
        path: the file, created with the first line.
        overwrite: whether an existing trace may be replaced; a file of another kind never is.

    Attributes:
        path: the path as given.

    Raises:
        OutputError: if the file already exists, or the place cannot be written to.

    Example:
        >>> with TraceFile("street.jsonl") as trace:  # doctest: +SKIP
        ...     tracker.memory.trace = trace
        ...     for frame in video:
        ...         tracker.step(frame)
        >>> [len(record.evicted) for record in read_trace("street.jsonl")]  # doctest: +SKIP
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self.path, self._overwrite = Path(path), overwrite
        self._file: TextIO | None = None
        if not overwrite and self.path.exists():
            raise OutputError(
                f"trace {str(path)!r} already exists", "choose another, or overwrite it (overwrite=True or --overwrite)"
            )
        if overwrite and self.path.exists() and not _is_trace(self.path):
            raise OutputError(f"{str(path)!r} is not a trace, so it is not overwritten", "choose another file")

    def __call__(self, record: WriteRecord) -> None:
        """Writes a record."""
        try:
            if self._file is None:
                self._file = self.path.open("w" if self._overwrite else "x", encoding="utf-8")
            self._file.write(record.to_json() + "\n")
            self._file.flush()
        except OSError as error:
            raise OutputError(
                f"cannot write trace {str(self.path)!r} ({error.strerror})", "make room or give another place"
            ) from error

    def __enter__(self) -> "TraceFile":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def _is_trace(path: Path) -> bool:
    """Returns whether a file is empty or begins with a record."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            first = file.readline()
        return not first or bool(WriteRecord.from_json(first))
    except (OSError, KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return False


def read_trace(path: str | Path) -> Iterator[WriteRecord]:
    """Yields the records that `TraceFile` wrote, in the order of writing.

    Raises:
        InputError: if there is no such file, or, after the lines before it, for a line that is not a record.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"trace {str(path)!r} is not a file", "give one written by TraceFile or segment --trace")
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                record = WriteRecord.from_json(line)
            except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
                raise InputError(
                    f"line {number} of trace {str(path)!r} is truncated or not a record of a write ({error})",
                    "delete it, or trace the video again",
                ) from error
            yield record
