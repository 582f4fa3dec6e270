"""Memory policies: what to keep when something new arrives. One file each; the registry knows them by name."""

from dataclasses import fields
from typing import Any

from mnemask.errors import CheckpointError, InputError
from mnemask.memory.policies.base import Policy, keep_best
from mnemask.memory.policies.fifo import Fifo
from mnemask.memory.policies.first_and_latest import FirstAndLatest
from mnemask.memory.policies.keep_all import KeepAll
from mnemask.memory.policies.least_used import LeastUsed
from mnemask.memory.policies.lru import LeastRecentlyUsed
from mnemask.memory.policies.per_object import PerObject
from mnemask.memory.policies.pinned import Pinned
from mnemask.memory.policies.random_eviction import RandomEviction
from mnemask.memory.policies.softmax_index import SoftmaxIndex
from mnemask.memory.policies.with_latest import WithLatest

POLICIES: dict[str, Policy] = {
    "least-used": LeastUsed(),
    "thesis": LeastUsed(pin=False),
    "keep-all": KeepAll(),
    "first-and-latest": FirstAndLatest(),
    "fifo": Fifo(),
    "lru": LeastRecentlyUsed(),
    "random": RandomEviction(),
    "softmax-index": SoftmaxIndex(pin=False),
    "with-latest": WithLatest(LeastUsed()),
    "per-object": PerObject(LeastUsed()),
}
DEFAULT_POLICY = "least-used"


def policy_named(name: str) -> Policy:
    """Returns a registered policy; raises InputError for an unknown name."""
    if name not in POLICIES:
        raise InputError(f"policy {name!r} is unknown; choose one of {', '.join(POLICIES)}")
    return POLICIES[name]


def saved_policy(policy: Policy) -> dict[str, Any]:
    """Returns the name and the hyper-parameters of a policy, and of those inside it, as JSON holds them."""
    values = {field.name: getattr(policy, field.name) for field in fields(policy)}
    inner = {name: saved_policy(value) for name, value in values.items() if isinstance(value, Policy)}
    return {"name": type(policy).__name__, **values, **inner}


def restored_policy(saved: dict[str, Any]) -> Policy:
    """Returns the policy of a saved tracker; raises CheckpointError for one that is not registered."""
    known = {kind.__name__: kind for kind in (Pinned, *map(type, POLICIES.values()))}
    name, values = saved["name"], {key: value for key, value in saved.items() if key != "name"}
    if name not in known:
        raise CheckpointError(f"policy {name!r} of the memory bank is not one of {sorted(known)}; give policy=")
    return known[name](**{key: restored_policy(value) if key == "inner" else value for key, value in values.items()})


__all__ = [
    "DEFAULT_POLICY",
    "POLICIES",
    "Fifo",
    "FirstAndLatest",
    "KeepAll",
    "LeastRecentlyUsed",
    "LeastUsed",
    "PerObject",
    "Pinned",
    "Policy",
    "RandomEviction",
    "SoftmaxIndex",
    "WithLatest",
    "keep_best",
    "policy_named",
    "restored_policy",
    "saved_policy",
]
