"""The state of a tracker apart from its network: a value that can be kept, copied and written to a file.

Tokens are never modified in place, so taking a state costs nothing, and it does not change later.
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
from mnemask.memory.bank import COUNTS
from mnemask.memory.policies import Policy
from mnemask.memory.read import stride8_bytes
from mnemask.memory.storage import VALUE_DTYPES, load_bank, save_bank, unsound
from mnemask.memory.tokens import CellGrid, Tokens
from mnemask.model.stcn import STCN
from mnemask.types import check_object_id


@dataclass(frozen=True, slots=True)
class TrackerState:
    """The state of a tracker between two frames.

    Attributes:
        model: the network's fingerprint: the content of its weights, independent of the precision it computes in.
        precisions: the precisions in which the network has computed so far, in order, such as ("float32", "bfloat16")
            for a tracker that was saved on one machine and resumed on another.
        config: the settings, with the defaults of the policy and the network filled in.
        object_ids: the caller's object ids, by row.
        steps: the number of frames processed.
        last_write: the step of the last write.
        size: height and width of the frames, None before the first.
        frozen: whether the memory is read-only.
        counts: the counters of the memory bank, by the names in `COUNTS`.
        tokens: the tokens in memory, None before the first write or without objects.
        written_area: each object's largest area in any written frame, in cells; None unless writes depend on it.
        others: the states of the other views' trackers (`TrackerConfig.tta`).
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
        """Writes the state, and further facts that JSON can hold, to one file, atomically and durably.

        Raises:
            OutputError: if the place cannot be written to.
        """
        tokens = [each.tokens for each in (self, *self.others) if each.tokens is not None]
        together = None if not tokens else sum(tokens[1:], tokens[0])
        save_bank(path, together, {**self._facts(), **more})

    def _facts(self) -> dict[str, Any]:
        """Returns the state as values that JSON can hold; of the tokens, only their number."""
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
            path: the file.
            device: the device for the tokens.
            policy: the policy; required if the saved one is not in `POLICIES`.

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
                    f"memory bank {str(path)!r} holds tokens of {each.tokens.num_objects} objects but ids of "
                    f"{len(each.object_ids)}",
                    "write it again",
                )
        return state, facts

    @classmethod
    def _of(
        cls, facts: Mapping[str, Any], tokens: Tokens | None, device: torch.device, policy: Policy | None
    ) -> "TrackerState":
        """Returns the state of one view; malformed facts raise various errors, which `load` handles."""
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
        """Raises ValueError for a state that no tracker can have."""
        ids, tokens = self.object_ids, self.tokens
        if len(set(ids)) < len(ids) or (tokens is None and ids):
            raise ValueError(f"object ids {list(ids)[:9]}, {'none' if tokens is None else 'some'} of them in memory")
        if self.last_write > self.steps or (tokens is not None and self.counts["tokens_per_frame"] < 1):
            raise ValueError(
                f"last write {self.last_write} of {self.steps}, {self.counts['tokens_per_frame']} cells per frame"
            )
        if self.written_area is not None and len(self.written_area) != len(ids):
            raise ValueError(f"{len(self.written_area)} areas for {len(ids)} objects")
        self.config.used_policy().check_fields()

    def refuse_other_model(self, model: str) -> None:
        """Raises CheckpointError unless the memory was written with the network of this fingerprint."""
        if self.model != model:
            raise CheckpointError(
                f"the memory was written with another model ({self.model}; this one is {model})",
                "load the model that it was written with",
            )

    def refuse_other_affinity(self, config: TrackerConfig) -> None:
        """Raises InputError unless another tracker, with this config, computes affinities in the same way."""
        for name in ("metric", "stride8_weight", "tta"):
            theirs, ours = getattr(self.config, name), getattr(config, name)
            if theirs != ours:
                raise InputError(
                    f"the memory was written with {name} {theirs!r}, but this tracker has {ours!r}",
                    "give both the same value",
                )

    def refuse_unsound(self, model: STCN) -> None:
        """Raises CheckpointError for tokens that this network cannot have written for frames of this size."""
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
            raise CheckpointError(f"the memory bank is not valid: it has {reason}", "write it again")

    def on(self, device: torch.device, dtype: torch.dtype) -> "TrackerState":
        """Returns the state on the device of a network, with values converted to the network's precision."""
        tokens, area = self.tokens, self.written_area
        if tokens is not None:
            moved = {name: tensor.to(device) for name, tensor in tokens.tensors().items()}
            tokens = Tokens(**moved | {"value": moved["value"].to(dtype)})
        return replace(self, tokens=tokens, written_area=None if area is None else area.to(device))

    def in_another_video(self) -> "TrackerState":
        """Returns the state before the first frame of another video.

        Frame indices and steps of the tokens become negative: frame −1 is the newest one in memory, step −1 the last.
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
    """Returns the tokens of each view; raises ValueError if there are not as many as the facts state."""
    counts = [None if facts["num_tokens"] is None else _count(facts["num_tokens"]) for facts in every]
    total = sum(count or 0 for count in counts)
    if total != (0 if together is None else len(together)):
        raise ValueError(f"the numbers of tokens are not {counts}"[:120])
    found: list[Tokens | None] = []
    begin = 0
    for count in counts:
        found.append(None if count is None or together is None else together[begin : begin + count])
        begin += count or 0
    return found


def _count(value: object, least: int = 0) -> int:
    """Returns a whole number that is at least `least` and below 2⁵³; raises ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**53:
        raise ValueError(f"{value!r} is not a whole number of at least {least}"[:120])
    return value


def _precision(name: object) -> str:
    """Returns the name of a precision; raises ValueError for anything else."""
    if name not in [str(dtype).removeprefix("torch.") for dtype in VALUE_DTYPES]:
        raise ValueError(f"unknown precision {name!r}"[:120])
    return str(name)


def _areas(saved: Any, device: torch.device) -> Float[Tensor, " K"] | None:
    """Returns the areas that were saved as numbers; raises ValueError or TypeError for anything else."""
    if saved is None:
        return None
    areas = torch.tensor(saved, dtype=torch.float32, device=device)
    if areas.ndim != 1 or not bool((areas >= 0).all()) or not bool(areas.isfinite().all()):
        raise ValueError(f"impossible areas {str(saved)[:60]}")
    return areas
