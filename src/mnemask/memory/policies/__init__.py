"""Memory policies: what to keep when something new arrives. One file each; the registry knows them by name."""

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

__all__ = ["DEFAULT_POLICY", "POLICIES", "FirstAndLatest", "KeepAll", "LeastUsed", "Policy", "keep_best"]
