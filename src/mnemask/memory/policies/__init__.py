"""Memory policies: what to keep when something new arrives. One file each; the registry knows them by name."""

import json
from dataclasses import fields
from typing import Any

from mnemask.choices import DEFAULT_POLICY, POLICY_NAMES
from mnemask.errors import CheckpointError, InputError
from mnemask.memory.policies.afb import AdaptiveFeatureBank
from mnemask.memory.policies.base import Policy, keep_best
from mnemask.memory.policies.contract import check_policy
from mnemask.memory.policies.diverse import Diverse
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
        raise InputError(f"{label} is a {type(made).__name__} and no policy", "derive its class from mnemask.Policy")
    try:
        made.check_fields()
    except (TypeError, ValueError) as error:
        raise InputError(f"policy {label}: {error}", "correct it, or leave it out") from error
    if is_custom(made):
        check_policy(made, label)
    return made


REGISTRY = Registry("policy", "mnemask.policies", POLICIES, _accepted)


def policy_named(name: str) -> Policy:
    """Returns the policy of a name: registered, or an entry point; with arguments, as in "lfu(write_every=3)".

    Raises:
        InputError: nothing has this name, or its arguments cannot be used. Code, as in "module:Class", is refused:
            names also come from files. The command line imports it (`choose_policy`).
    """
    return REGISTRY.named(name)


def choose_policy(text: str) -> str:
    """Returns the name under which `POLICIES` has, from now on, the policy that the user of a command line wrote.

    It may be code of theirs, "module:Class" or "file.py:Class(argument=1)", which is imported.

    Raises:
        InputError: there is no such policy, or its arguments cannot be used.
        PolicyError: it breaks the contract.
    """
    return REGISTRY.choose(text)


def register_policy(name: str, policy: Policy | type[Policy]) -> None:
    """Makes a policy known by a name, to `TrackerConfig`, `evaluate`, `compare` and saved trackers in this process.

    Args:
        name: letters, digits, - and _.
        policy: of your own; a class is called without arguments.

    Raises:
        InputError: the name is taken, or this is no policy.
        PolicyError: it breaks the contract of policies (`mnemask.testing.check_policy`).

    Example:
        >>> register_policy("lfu-each-second", LFU(write_every=2))
        >>> POLICIES.pop("lfu-each-second").write_every
        2
    """
    REGISTRY.register(name, policy)


def is_custom(policy: Policy) -> bool:
    """Returns whether code outside this package decides: the policy, or one inside it."""
    values = (getattr(policy, field.name) for field in fields(policy))
    inner = (is_custom(value) for value in values if isinstance(value, Policy))
    return not type(policy).__module__.startswith("mnemask.memory.policies.") or any(inner)


def class_name(kind: type[Policy]) -> str:
    """Returns the name of a class of policies in files; a user's own has its module in front."""
    own = not kind.__module__.startswith("mnemask.memory.policies.")
    return f"{kind.__module__}:{kind.__qualname__}" if own else kind.__name__


def saved_policy(policy: Policy) -> dict[str, Any]:
    """Returns the name and the hyper-parameters of a policy, and of those inside it, as JSON holds them.

    One's own also has a digest of its class's source, so that results of an earlier version are known as such.
    """
    values = {field.name: getattr(policy, field.name) for field in fields(policy)}
    inner = {name: saved_policy(value) for name, value in values.items() if isinstance(value, Policy)}
    name = class_name(type(policy))
    if ":" in name:
        plain = {key: value for key, value in values.items() if key not in inner}
        values = json.loads(json.dumps(plain, default=repr), parse_constant=str)  # Infinity is no JSON
        values["source"] = source_digest(policy)
    return {"name": name, **values, **inner}


def saved_unless_built_in(name: str, policy: Policy) -> dict[str, Any]:
    """Returns `saved_policy` of the policy that goes by a name, nothing where the name says it all.

    Only the package's own names cannot be taken: any other may stand for another policy in the next process, whether
    the package has its class or not.
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
            "name it (--policy, policy=), or register it before",
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
