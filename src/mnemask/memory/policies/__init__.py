"""Memory policies: what to keep when something new arrives. One file each; the registry knows them by name."""

from typing import Any

from mnemask.errors import CheckpointError, InputError
from mnemask.memory.policies.base import Policy, keep_best
from mnemask.memory.policies.first_and_latest import FirstAndLatest
from mnemask.memory.policies.keep_all import KeepAll
from mnemask.memory.policies.least_used import LeastUsed

POLICIES: dict[str, Policy] = {
    "least-used": LeastUsed(),
    "thesis": LeastUsed(pin=False),
    "keep-all": KeepAll(),
    "first-and-latest": FirstAndLatest(),
}
DEFAULT_POLICY = "least-used"


def policy_named(name: str) -> Policy:
    """Returns a registered policy; raises InputError for an unknown name."""
    if name not in POLICIES:
        raise InputError(f"policy {name!r} is unknown; choose one of {', '.join(POLICIES)}")
    return POLICIES[name]


def restored_policy(saved: dict[str, Any]) -> Policy:
    """Returns the policy of a saved tracker; raises CheckpointError for one that is not registered."""
    name, values = saved["name"], {key: value for key, value in saved.items() if key != "name"}
    known = {type(policy).__name__: type(policy) for policy in POLICIES.values()}
    if name not in known:
        raise CheckpointError(f"policy {name!r} of the memory bank is not one of {sorted(known)}; give policy=")
    return known[name](**values)


__all__ = [
    "DEFAULT_POLICY",
    "POLICIES",
    "FirstAndLatest",
    "KeepAll",
    "LeastUsed",
    "Policy",
    "keep_best",
    "policy_named",
    "restored_policy",
]
