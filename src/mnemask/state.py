"""What a tracker knows apart from its network: a value that can be kept, copied, and written to a file.

Tokens are never changed in place, so that a state costs nothing to take and stays what it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mnemask.config import TrackerConfig
from mnemask.errors import CheckpointError, InputError, MnemaskError, printable
from mnemask.memory.policies import Policy
from mnemask.memory.read import stride8_bytes
from mnemask.memory.storage import VALUE_DTYPES, load_bank, save_bank, unsound
from mnemask.memory.tokens import CellGrid, Tokens
from mnemask.model.stcn import STCN
from mnemask.types import check_object_id

COUNTS = ("writes", "reads", "evictions", "tokens_per_frame")


@dataclass(frozen=True, slots=True)
class TrackerState:
    """A tracker between two frames.

    Attributes:
        model: the network's fingerprint: its weights' content, in whatever precision it computes.
        precisions: in which the network computed so far, first to last, such as ("float32", "bfloat16") for a tracker
            that was saved on one machine and went on on another.
        config: the settings, none of them left to the policy or the network.
        object_ids: the caller's, by row.
        steps: frames seen.
        last_write: the step of the last write.
        size: height and width of the frames, None before the first.
        frozen: whether the memory is read only.
        counts: the memory's numbers.
        tokens: what is remembered.
        written_area: the largest area of each object in any frame written, in cells, where writes depend on it.
        others: the trackers of the other views, with `TrackerConfig.tta`.
    """

    model: str
    precisions: tuple[str, ...]
    config: TrackerConfig
    object_ids: tuple[int, ...]
    steps: int
    last_write: int
    size: tuple[int, int] | None
    frozen: bool
    counts: Mapping[str, int]
    tokens: Tokens | None
    written_area: Float[Tensor, " K"] | None = None
    others: tuple["TrackerState", ...] = ()

    def save(self, path: Path, **more: Any) -> None:
        """Writes the state, and more facts that JSON holds, to one file: whole or not at all, and durably.

        Raises:
            OutputError: if the place cannot be written to.
        """
        tokens = [each.tokens for each in (self, *self.others) if each.tokens is not None]
        together = None if not tokens else sum(tokens[1:], tokens[0])
        save_bank(path, together, {**self._facts(), **more})

    def _facts(self) -> dict[str, Any]:
        """Returns the state as JSON holds it: of the tokens only their number."""
        left_out = ("tokens", "config", "written_area", "others")
        facts = {name: getattr(self, name) for name in self.__slots__ if name not in left_out}
        return facts | {
            "config": self.config.to_dict(),
            "written_area": None if self.written_area is None else self.written_area.tolist(),
            "num_tokens": None if self.tokens is None else len(self.tokens),
            "others": [other._facts() for other in self.others],
        }

    @classmethod
    def load(
        cls, path: Path, device: torch.device, policy: Policy | None = None
    ) -> tuple["TrackerState", Mapping[str, Any]]:
        """Returns the state that `save` wrote, and all facts in the file.

        Args:
            path: of the file.
            device: where the tokens go.
            policy: needed where the saved one is not among `POLICIES`.

        Raises:
            CheckpointError: if the file is foreign, damaged, inconsistent or of another version.
        """
        together, facts = load_bank(path, device)
        try:
            every = [facts, *facts["others"]]
            state, *others = (
                cls._of(each, tokens, device, policy)
                for each, tokens in zip(every, _apart(together, every), strict=True)
            )
            state = replace(state, others=tuple(others))
        except MnemaskError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
            reason = printable(f"{type(error).__name__} {error}", 120)
            raise CheckpointError(f"memory bank {str(path)!r} is malformed ({reason})", "write it again") from error
        for each in (state, *state.others):
            if each.tokens is not None and each.tokens.num_objects != len(each.object_ids):
                raise CheckpointError(
                    f"memory bank {str(path)!r} remembers {each.tokens.num_objects} objects but names "
                    f"{len(each.object_ids)}",
                    "write it again",
                )
        return state, facts

    @classmethod
    def _of(
        cls, facts: Mapping[str, Any], tokens: Tokens | None, device: torch.device, policy: Policy | None
    ) -> "TrackerState":
        """Returns the state of one view; raises whatever garbled facts lead to."""
        state = cls(
            model=str(facts["model"]),
            precisions=tuple(map(_precision, facts["precisions"])),
            config=TrackerConfig.from_dict(facts["config"], policy),
            object_ids=tuple(map(check_object_id, facts["object_ids"])),
            steps=_count(facts["steps"]),
            last_write=_count(facts["last_write"]),
            size=None if facts["size"] is None else (_count(facts["size"][0], 1), _count(facts["size"][1], 1)),
            frozen=bool(facts["frozen"]),
            counts={name: _count(facts["counts"][name]) for name in COUNTS},
            tokens=tokens,
            written_area=_areas(facts["written_area"], device),
        )
        state.check()
        return state

    def check(self) -> None:
        """Raises ValueError where what is told here cannot be true of any tracker."""
        ids, tokens = self.object_ids, self.tokens
        if len(set(ids)) < len(ids) or (tokens is None and ids):
            raise ValueError(f"objects {list(ids)[:9]}, {'none' if tokens is None else 'some'} of them remembered")
        if self.last_write > self.steps or (tokens is not None and self.counts["tokens_per_frame"] < 1):
            raise ValueError(
                f"write {self.last_write} of {self.steps}, {self.counts['tokens_per_frame']} cells a frame"
            )
        if self.written_area is not None and len(self.written_area) != len(ids):
            raise ValueError(f"{len(self.written_area)} areas of {len(ids)} objects")
        self.config.used_policy().check_fields()

    def refuse_other_model(self, model: str) -> None:
        """Raises CheckpointError unless what is remembered was written with the network of this fingerprint."""
        if self.model != model:
            raise CheckpointError(
                f"the memories are of another model ({self.model}, this is {model})",
                "load the model they were written with",
            )

    def refuse_other_affinity(self, config: TrackerConfig) -> None:
        """Raises InputError unless queries and memories are compared as another tracker compares them."""
        for name in ("metric", "stride8_weight", "tta"):
            theirs, ours = getattr(self.config, name), getattr(config, name)
            if theirs != ours:
                raise InputError(
                    f"the memories were made for {name} {theirs!r}, this tracker has {ours!r}", "give both the same"
                )

    def refuse_unsound(self, model: STCN) -> None:
        """Raises CheckpointError for tokens that this network cannot have written in frames of this size."""
        if self.tokens is None:
            return
        reason = unsound(
            self.tokens,
            steps=self.steps,
            num_cells=None if self.size is None else CellGrid(self.size, self.config.short_side).num_cells,
            key_channels=model.config.key_channels,
            value_channels=model.config.value_channels,
            detail_bytes=stride8_bytes(self.config.stride8_weight),
        )
        if reason:
            raise CheckpointError(f"the memory bank cannot be followed: it has {reason}", "write it again")

    def on(self, device: torch.device, dtype: torch.dtype) -> "TrackerState":
        """Returns the state for a network on this device and of this precision, to which values are converted."""
        tokens, area = self.tokens, self.written_area
        if tokens is not None:
            moved = {name: tensor.to(device) for name, tensor in tokens.tensors().items()}
            tokens = Tokens(**moved | {"value": moved["value"].to(dtype)})
        return replace(self, tokens=tokens, written_area=None if area is None else area.to(device))

    def in_another_video(self) -> "TrackerState":
        """Returns the state before the first frame of another video.

        Frames and steps of the past become negative: −1 is the last frame of the video that is over.
        """
        tokens = self.tokens
        if tokens is not None and len(tokens):
            past = int(tokens.frame.max()) + 1
            tokens = replace(
                tokens,
                frame=tokens.frame - past,
                written_at=tokens.written_at - self.steps,
                last_used=tokens.last_used - self.steps,
            )
        return replace(self, steps=0, last_write=0, size=None, tokens=tokens, written_area=None)


def _apart(together: Tokens | None, every: Sequence[Mapping[str, Any]]) -> list[Tokens | None]:
    """Returns the tokens of each view; raises ValueError where they are not as many as the facts say."""
    counts = [None if facts["num_tokens"] is None else _count(facts["num_tokens"]) for facts in every]
    total = sum(count or 0 for count in counts)
    if total != (0 if together is None else len(together)):
        raise ValueError(f"{counts} tokens"[:120])
    found: list[Tokens | None] = []
    begin = 0
    for count in counts:
        found.append(None if count is None or together is None else together[begin : begin + count])
        begin += count or 0
    return found


def _count(value: object, least: int = 0) -> int:
    """Returns a whole number that a video can have of something; raises ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**53:
        raise ValueError(f"{value!r} instead of a whole number from {least}"[:120])
    return value


def _precision(name: object) -> str:
    """Returns the name of a precision; raises ValueError for anything else."""
    if name not in [str(dtype).removeprefix("torch.") for dtype in VALUE_DTYPES]:
        raise ValueError(f"precision {name!r}"[:120])
    return str(name)


def _areas(saved: Any, device: torch.device) -> Float[Tensor, " K"] | None:
    """Returns the areas that were saved as numbers; raises ValueError or the like for what are none."""
    if saved is None:
        return None
    areas = torch.tensor(saved, dtype=torch.float32, device=device)
    if areas.ndim != 1 or not bool((areas >= 0).all()) or not bool(areas.isfinite().all()):
        raise ValueError(f"areas {str(saved)[:60]}")
    return areas
