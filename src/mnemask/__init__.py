"""Segment and track objects through video of any length in fixed memory.

The public names; everything else may change from one release to the next.
"""

from mnemask.errors import MnemaskError
from mnemask.memory.bank import MemoryBank, MemoryStats
from mnemask.memory.budget import Budget
from mnemask.memory.policies import DEFAULT_POLICY, POLICIES, FirstAndLatest, KeepAll, LeastUsed, Policy, keep_best
from mnemask.memory.tokens import Tokens
from mnemask.model.checkpoints import load_model
from mnemask.model.stcn import STCN, STCNConfig
from mnemask.tracker import Tracker
from mnemask.types import Frame, Masks

__version__ = "0.1.0"

__all__ = [
    "DEFAULT_POLICY",
    "POLICIES",
    "STCN",
    "Budget",
    "FirstAndLatest",
    "Frame",
    "KeepAll",
    "LeastUsed",
    "Masks",
    "MemoryBank",
    "MemoryStats",
    "MnemaskError",
    "Policy",
    "STCNConfig",
    "Tokens",
    "Tracker",
    "keep_best",
    "load_model",
]
