"""Memory policies: what to keep when something new arrives. One file each; the registry knows them by name."""

from dataclasses import fields
from typing import Any

from mnemask.choices import DEFAULT_POLICY
from mnemask.errors import CheckpointError, InputError
from mnemask.memory.policies.afb import AdaptiveFeatureBank
from mnemask.memory.policies.base import Policy, keep_best
from mnemask.memory.policies.diverse import Diverse
from mnemask.memory.policies.readmem import DiverseMemory
from mnemask.memory.policies.rmem import RestrictedMemory
from mnemask.memory.policies.scored import LFU, AttentionMass, Fifo, LeastRecentlyUsed, RandomEviction
from mnemask.memory.policies.whole_frames import FirstAndLatest, KeepAll
from mnemask.memory.policies.wrappers import PerObject, Pinned, WithLatest
from mnemask.memory.policies.xmem import Prototypes

POLICIES: dict[str, Policy] = {
    "diverse": Diverse(),
    "lfu-pinned": LFU(),
    "lfu": LFU(pin=False),
    "keep-all": KeepAll(),
    "first-and-latest": FirstAndLatest(),
    "fifo": Fifo(),
    "lru": LeastRecentlyUsed(),
    "random": RandomEviction(),
    "attention-mass": AttentionMass(pin=False),
    "afb": AdaptiveFeatureBank(),
    "prototypes": Prototypes(),
    "rmem": RestrictedMemory(),
    "readmem": DiverseMemory(),
    "with-latest": WithLatest(LFU()),
    "per-object": PerObject(LFU()),
}


def policy_named(name: str) -> Policy:
    """Returns a registered policy; raises InputError for an unknown name."""
    if name not in POLICIES:
        raise InputError(f"policy {name!r} is unknown", f"choose one of {', '.join(POLICIES)}")
    return POLICIES[name]


def saved_policy(policy: Policy) -> dict[str, Any]:
    """Returns the name and the hyper-parameters of a policy, and of those inside it, as JSON holds them."""
    values = {field.name: getattr(policy, field.name) for field in fields(policy)}
    inner = {name: saved_policy(value) for name, value in values.items() if isinstance(value, Policy)}
    return {"name": type(policy).__name__, **values, **inner}


def restored_policy(saved: dict[str, Any]) -> Policy:
    """Returns the policy of a saved tracker; raises CheckpointError for one that is not registered."""
    known: dict[str, type[Policy]] = {kind.__name__: kind for kind in (Pinned, *map(type, POLICIES.values()))}
    name = saved["name"]
    if name not in known:
        raise CheckpointError(f"policy {name!r} of the memory bank is not one of {sorted(known)}", "give policy=")
    values: dict[str, Any] = {key: value for key, value in saved.items() if key != "name"}
    if "inner" in values:
        values["inner"] = restored_policy(values["inner"])
    return known[name](**values)


__all__ = [
    "DEFAULT_POLICY",
    "LFU",
    "POLICIES",
    "AdaptiveFeatureBank",
    "AttentionMass",
    "Diverse",
    "DiverseMemory",
    "Fifo",
    "FirstAndLatest",
    "KeepAll",
    "LeastRecentlyUsed",
    "PerObject",
    "Pinned",
    "Policy",
    "Prototypes",
    "RandomEviction",
    "RestrictedMemory",
    "WithLatest",
    "keep_best",
    "policy_named",
    "restored_policy",
    "saved_policy",
]
