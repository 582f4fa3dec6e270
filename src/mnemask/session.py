"""What a tracker knows besides its network: a value that can be kept, copied, and written to a file.

Tokens are never changed in place, so that a session costs nothing to take and stays what it was.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mnemask.errors import CheckpointError, MnemaskError
from mnemask.memory.budget import Budget
from mnemask.memory.policies import Policy, restored_policy, saved_policy
from mnemask.memory.storage import load_bank, save_bank
from mnemask.memory.tokens import Tokens
from mnemask.types import check_object_id


@dataclass(frozen=True, slots=True)
class Session:
    """A tracker between two frames.

    Attributes:
        model: the network's fingerprint.
        policy: what is kept in memory.
        budget: how much is kept.
        top_k: memories read per query.
        metric: how alike a query and a memory are.
        short_side: of the frames as they are processed.
        object_ids: the caller's, by row.
        steps: frames seen.
        last_write: the step of the last write.
        size: height and width of the frames, None before the first.
        frozen: whether the memory is read only.
        counts: the memory's numbers.
        tokens: what is remembered.
    """

    model: str
    policy: Policy
    budget: Budget
    top_k: int
    metric: str
    short_side: int | None
    object_ids: tuple[int, ...]
    steps: int
    last_write: int
    size: tuple[int, int] | None
    frozen: bool
    counts: Mapping[str, int]
    tokens: Tokens | None

    def save(self, path: Path, **more: Any) -> None:
        """Writes the session, and more facts that JSON holds, to one file: whole or not at all, and durably.

        Raises:
            OutputError: if the place cannot be written to.
        """
        facts = {name: getattr(self, name) for name in self.__slots__ if name not in ("tokens", "policy", "budget")}
        facts |= {"policy": saved_policy(self.policy), "budget": asdict(self.budget), **more}
        save_bank(path, self.tokens, facts)

    @classmethod
    def load(
        cls, path: Path, device: torch.device, policy: Policy | None = None
    ) -> tuple["Session", Mapping[str, Any]]:
        """Returns what `save` wrote, and all facts in the file.

        Args:
            path: of the file.
            device: where the tokens go.
            policy: needed where the saved one is not among `POLICIES`.

        Raises:
            CheckpointError: if the file is foreign, damaged, inconsistent or of another version.
        """
        tokens, facts = load_bank(path, device)
        try:
            session = cls(
                model=str(facts["model"]),
                policy=policy or restored_policy(facts["policy"]),
                budget=Budget(**facts["budget"]),
                top_k=facts["top_k"],
                metric=facts["metric"],
                short_side=facts["short_side"],
                object_ids=tuple(map(check_object_id, facts["object_ids"])),
                steps=int(facts["steps"]),
                last_write=int(facts["last_write"]),
                size=None if facts["size"] is None else (int(facts["size"][0]), int(facts["size"][1])),
                frozen=bool(facts["frozen"]),
                counts={str(name): int(count) for name, count in facts["counts"].items()},
                tokens=tokens,
            )
        except MnemaskError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise CheckpointError(f"memory bank {str(path)!r} lacks or garbles {error}; write it again") from error
        if tokens is not None and tokens.num_objects != len(session.object_ids):
            raise CheckpointError(
                f"memory bank {str(path)!r} remembers {tokens.num_objects} objects but names "
                f"{len(session.object_ids)}; write it again"
            )
        return session, facts

    def in_another_video(self) -> "Session":
        """Returns the session before the first frame of another video.

        Frames and steps of the past become negative: −1 is the last frame of the video that is over.
        """
        tokens = self.tokens
        if tokens is not None and len(tokens):
            past = int(tokens.frame.max()) + 1
            tokens = replace(
                tokens, frame=tokens.frame - past, born=tokens.born - self.steps, last_hit=tokens.last_hit - self.steps
            )
        return replace(self, steps=0, last_write=0, size=None, tokens=tokens)
