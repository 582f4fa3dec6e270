"""Segment and track objects through video of any length in fixed memory.

This module exports the public names. Everything else is imported from its own module and may change between releases.
Each name is imported on first use, so that ``mnemask --help`` does not wait for PyTorch.
"""

import logging
import os
from importlib import import_module

logging.getLogger(__name__).addHandler(logging.NullHandler())  # no output unless the program configures logging

imported_by = os.getpid()  # by which a forked process knows that it is one (model/devices.py)

TYPE_CHECKING = False  # type checkers take it as True; importing typing takes longer than the rest of this file
if TYPE_CHECKING:
    from mnemask.batch import TrackerBatch
    from mnemask.config import TrackerConfig
    from mnemask.datasets.synthetic.drawn import DrawnVideo
    from mnemask.engines import load_model
    from mnemask.errors import InputError, MnemaskError
    from mnemask.evaluation.runner import evaluate
    from mnemask.io import MaskWriter, VideoReader, draw_overlay
    from mnemask.memory.budget import Budget
    from mnemask.memory.policies import POLICIES, Policy, keep_best, register_policy
    from mnemask.pipeline import segment
    from mnemask.project import Project
    from mnemask.prompts import mask_from_box, mask_from_polygon, mask_from_scribble, read_mask
    from mnemask.prompts.clicks import mask_from_clicks
    from mnemask.tracker import Tracker, track
    from mnemask.types import Frame, Masks
    from mnemask.version import __version__

__all__ = [
    "POLICIES",
    "Budget",
    "DrawnVideo",
    "Frame",
    "InputError",
    "MaskWriter",
    "Masks",
    "MnemaskError",
    "Policy",
    "Project",
    "Tracker",
    "TrackerBatch",
    "TrackerConfig",
    "VideoReader",
    "__version__",
    "draw_overlay",
    "evaluate",
    "keep_best",
    "load_model",
    "mask_from_box",
    "mask_from_clicks",
    "mask_from_polygon",
    "mask_from_scribble",
    "read_mask",
    "register_policy",
    "segment",
    "track",
]

_NAMES_OF_MODULES = {
    "batch": ("TrackerBatch",),
    "config": ("TrackerConfig",),
    "datasets.synthetic.drawn": ("DrawnVideo",),
    "engines": ("load_model",),
    "errors": (
        "InputError",
        "MnemaskError",
    ),
    "evaluation.runner": ("evaluate",),
    "io": (
        "MaskWriter",
        "VideoReader",
        "draw_overlay",
    ),
    "memory.budget": ("Budget",),
    "memory.policies": (
        "POLICIES",
        "Policy",
        "keep_best",
        "register_policy",
    ),
    "pipeline": ("segment",),
    "project": ("Project",),
    "prompts": (
        "mask_from_box",
        "mask_from_polygon",
        "mask_from_scribble",
        "read_mask",
    ),
    "prompts.clicks": ("mask_from_clicks",),
    "tracker": (
        "Tracker",
        "track",
    ),
    "types": (
        "Frame",
        "Masks",
    ),
    "version": ("__version__",),
}
_MODULE_OF = {name: f"mnemask.{module}" for module, names in _NAMES_OF_MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Imports a public name on first use."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Lists the public names, including those that are not imported yet."""
    return sorted({*globals(), *__all__})
