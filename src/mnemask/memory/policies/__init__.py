"""Memory policies, which decide what is kept when a frame is written, and their registry."""

from dataclasses import fields
from typing import Any

from mnemask.choices import DEFAULT_POLICY, POLICY_NAMES
from mnemask.errors import CheckpointError, InputError
from mnemask.memory.policies.afb import AdaptiveFeatureBank
from mnemask.memory.policies.base import Policy, keep_best
from mnemask.memory.policies.contract import check_policy
from mnemask.memory.policies.diverse import Diverse
from mnemask.memory.policies.identity import holds_address, recorded
from mnemask.memory.policies.scored import LFU, AttentionMass, Fifo, LeastRecentlyUsed, RandomEviction
from mnemask.memory.policies.whole_frames import DiverseMemory, FirstAndLatest, KeepAll, RestrictedMemory
from mnemask.memory.policies.wrappers import PerObject, Pinned, WithLatest
from mnemask.memory.policies.xmem import Prototypes
from mnemask.plugins import Registry, source_digest

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


def _accepted(made: object, label: str) -> Policy:
    """Returns a policy that keeps the contract; raises InputError or PolicyError for anything else."""
    if not isinstance(made, Policy):
        raise InputError(f"{label} is a {type(made).__name__}, not a policy", "derive its class from mnemask.Policy")
    try:
        made.check_fields()
    except (TypeError, ValueError) as error:
        raise InputError(f"policy {label}: {error}", "correct it, or leave it out") from error
    if is_custom(made):
        check_policy(made, label)
        for name, value in saved_policy(made).items():
            if holds_address(value):
                raise InputError(
                    f"policy {label}: {name} would not be recognised in another process ({value})"[:400],
                    "make it a number, a text, a tensor, a network, a function or a dataclass of these, or give its "
                    "class a __repr__ that tells its values",
                )
    return made


REGISTRY = Registry("policy", "mnemask.policies", POLICIES, _accepted)


def policy_named(name: str) -> Policy:
    """Returns the policy of a name, registered or an entry point; arguments may follow, as in "lfu(write_every=3)".

    Raises:
        InputError: if nothing has this name, or its arguments cannot be used. Code, as in "module:Class", is rejected,
            because names also come from files. The command line imports it (`choose_policy`).
    """
    return REGISTRY.named(name)


def choose_policy(text: str) -> str:
    """Registers the policy that a user named on the command line, and returns its name in `POLICIES`.

    It may be the user's own code, "module:Class" or "file.py:Class(argument=1)", which is imported.

    Raises:
        InputError: if there is no such policy, or its arguments cannot be used.
        PolicyError: if it breaks the contract.
    """
    return REGISTRY.choose(text)


def register_policy(name: str, policy: Policy | type[Policy]) -> None:
    """Registers a policy under a name, for `TrackerConfig`, `evaluate`, `compare` and saved trackers in this process.

    Args:
        name: letters, digits, - and _.
        policy: the custom policy; a class is called without arguments.

    Raises:
        InputError: if the name is taken, or this is not a policy.
        PolicyError: if it breaks the contract of policies (`mnemask.testing.check_policy`).

    Example:
        >>> register_policy("lfu-each-second", LFU(write_every=2))
        >>> POLICIES.pop("lfu-each-second").write_every
        2
    """
    REGISTRY.register(name, policy)


def is_custom(policy: Policy) -> bool:
    """Returns whether the policy, or one inside it, is code outside this package."""
    values = (getattr(policy, field.name) for field in fields(policy))
    inner = (is_custom(value) for value in values if isinstance(value, Policy))
    return not type(policy).__module__.startswith("mnemask.memory.policies.") or any(inner)


def class_name(kind: type[Policy]) -> str:
    """Returns the name of a policy class in files; that of a custom one begins with its module."""
    own = not kind.__module__.startswith("mnemask.memory.policies.")
    return f"{kind.__module__}:{kind.__qualname__}" if own else kind.__name__


def saved_policy(policy: Policy) -> dict[str, Any]:
    """Returns the name and the hyper-parameters of a policy, and of those inside it, as JSON can hold them.

    A custom policy also has digests of its class's source and of its weights and functions, so that results of an
    earlier version, or of one that has been trained further, are recognised.
    """
    values = {field.name: getattr(policy, field.name) for field in fields(policy)}
    inner = {name: saved_policy(value) for name, value in values.items() if isinstance(value, Policy)}
    name = class_name(type(policy))
    if ":" in name:
        plain = {key: value for key, value in values.items() if key not in inner}
        values = recorded(plain) | {"source": source_digest(policy)}
    return {"name": name, **values, **inner}


def saved_unless_built_in(name: str, policy: Policy) -> dict[str, Any]:
    """Returns `saved_policy` of the policy with a name, nothing for a built-in name.

    Only built-in names are reserved: any other may stand for another policy in the next process, even if the class is
    one of this package.
    """
    return {} if name in POLICY_NAMES else saved_policy(policy)


def restored_policy(saved: dict[str, Any]) -> Policy:
    """Returns the policy of a saved tracker; raises CheckpointError for one that is not registered."""
    kinds = (Pinned, *map(type, POLICIES.values()))
    known: dict[str, type[Policy]] = {class_name(kind): kind for kind in kinds}
    name = saved["name"]
    if name not in known:
        raise CheckpointError(
            f"policy {name!r} of the memory bank is not one of {sorted(known)}",
            "name it (--policy, policy=), or register it first",
        )
    values: dict[str, Any] = {key: value for key, value in saved.items() if key not in ("name", "source")}
    if "inner" in values:
        values["inner"] = restored_policy(values["inner"])
    return known[name](**values)


__all__ = [
    "DEFAULT_POLICY",
    "LFU",
    "POLICIES",
    "POLICY_NAMES",
    "REGISTRY",
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
    "choose_policy",
    "is_custom",
    "keep_best",
    "policy_named",
    "register_policy",
    "restored_policy",
    "saved_policy",
]
