"""Segment and track objects through video of any length in fixed memory.

The public names; everything else may change from one release to the next. Each is imported when it is first used, so
that ``mnemask --help`` does not wait for PyTorch.
"""

import sys
from importlib import import_module
from types import ModuleType

TYPE_CHECKING = False  # known to type checkers; to import typing takes longer than all the rest of this file
if TYPE_CHECKING:
    from mnemask.batch import TrackerBatch
    from mnemask.bench.run import BenchReport, Measured, measure_speed
    from mnemask.choices import DATASETS
    from mnemask.comparison import CompareProgress, compare_video
    from mnemask.config import TrackerConfig
    from mnemask.datasets.davis import DavisSequences
    from mnemask.datasets.synthetic.drawn import DrawnVideo
    from mnemask.demo import run_demo
    from mnemask.doctor import Finding, diagnose, diagnose_installation
    from mnemask.engines import ENGINES, load_model
    from mnemask.errors import InputError, MissingExtraError, MnemaskError
    from mnemask.evaluation.benchmark import Benchmark
    from mnemask.evaluation.results import Result
    from mnemask.evaluation.runner import TrackerFactory, evaluate
    from mnemask.evaluation.score import format_table, score_folder
    from mnemask.evaluation.suite import SuiteProgress, run_benchmark
    from mnemask.evaluation.tables import write_submission, write_tables
    from mnemask.experiments import EXPERIMENTS, Experiment, ExperimentResult, Run, run_experiment
    from mnemask.export import export_onnx
    from mnemask.inspection import inspect_bank, inspect_video
    from mnemask.io import MASK_FORMATS, MaskWriter, VideoReader, contact_sheet, draw_overlay
    from mnemask.io.random_access import FrameAccess
    from mnemask.memory.bank import MemoryBank, MemoryStats
    from mnemask.memory.budget import Budget
    from mnemask.memory.introspection import Explanation, Provenance, read_provenance
    from mnemask.memory.policies import (
        DEFAULT_POLICY,
        LFU,
        POLICIES,
        Diverse,
        FirstAndLatest,
        KeepAll,
        Policy,
        keep_best,
    )
    from mnemask.memory.tokens import Tokens
    from mnemask.memory.trace import TraceFile, WriteRecord, read_trace
    from mnemask.model.checkpoints import save_model
    from mnemask.model.stcn import STCN, STCNConfig
    from mnemask.pipeline import Checkpoint, Progress, find_checkpoint, is_complete, segment, write_report
    from mnemask.project import PassReport, Project, export_project, picture_memory, picture_reason, replay
    from mnemask.prompts import mask_from_box, mask_from_polygon, mask_from_scribble, parse_at, parse_box, read_mask
    from mnemask.prompts.clicks import ClickSegmenter, ClickSession, mask_from_clicks
    from mnemask.tracker import Tracker, track
    from mnemask.types import Frame, Masks
    from mnemask.version import __version__

__all__ = [
    "DATASETS",
    "DEFAULT_POLICY",
    "ENGINES",
    "EXPERIMENTS",
    "LFU",
    "MASK_FORMATS",
    "POLICIES",
    "STCN",
    "BenchReport",
    "Benchmark",
    "Budget",
    "Checkpoint",
    "ClickSegmenter",
    "ClickSession",
    "CompareProgress",
    "DavisSequences",
    "Diverse",
    "DrawnVideo",
    "Experiment",
    "ExperimentResult",
    "Explanation",
    "Finding",
    "FirstAndLatest",
    "Frame",
    "FrameAccess",
    "InputError",
    "KeepAll",
    "MaskWriter",
    "Masks",
    "Measured",
    "MemoryBank",
    "MemoryStats",
    "MissingExtraError",
    "MnemaskError",
    "PassReport",
    "Policy",
    "Progress",
    "Project",
    "Provenance",
    "Result",
    "Run",
    "STCNConfig",
    "SuiteProgress",
    "Tokens",
    "TraceFile",
    "Tracker",
    "TrackerBatch",
    "TrackerConfig",
    "TrackerFactory",
    "VideoReader",
    "WriteRecord",
    "__version__",
    "compare_video",
    "contact_sheet",
    "diagnose",
    "diagnose_installation",
    "draw_overlay",
    "evaluate",
    "export_onnx",
    "export_project",
    "find_checkpoint",
    "format_table",
    "inspect_bank",
    "inspect_video",
    "is_complete",
    "keep_best",
    "load_model",
    "mask_from_box",
    "mask_from_clicks",
    "mask_from_polygon",
    "mask_from_scribble",
    "measure_speed",
    "parse_at",
    "parse_box",
    "picture_memory",
    "picture_reason",
    "read_mask",
    "read_provenance",
    "read_trace",
    "replay",
    "run_benchmark",
    "run_demo",
    "run_experiment",
    "save_model",
    "score_folder",
    "segment",
    "track",
    "write_report",
    "write_submission",
    "write_tables",
]

_NAMES_OF_MODULES = {
    "batch": ("TrackerBatch",),
    "bench.run": ("BenchReport", "Measured", "measure_speed"),
    "choices": ("DATASETS",),
    "comparison": ("CompareProgress", "compare_video"),
    "datasets.davis": ("DavisSequences",),
    "datasets.synthetic.drawn": ("DrawnVideo",),
    "demo": ("run_demo",),
    "doctor": ("Finding", "diagnose", "diagnose_installation"),
    "engines": ("ENGINES", "load_model"),
    "errors": ("InputError", "MissingExtraError", "MnemaskError"),
    "evaluation.benchmark": ("Benchmark",),
    "evaluation.results": ("Result",),
    "config": ("TrackerConfig",),
    "evaluation.runner": ("TrackerFactory", "evaluate"),
    "evaluation.score": ("format_table", "score_folder"),
    "evaluation.suite": ("SuiteProgress", "run_benchmark"),
    "evaluation.tables": ("write_submission", "write_tables"),
    "experiments": ("EXPERIMENTS", "Experiment", "ExperimentResult", "Run", "run_experiment"),
    "export": ("export_onnx",),
    "inspection": ("inspect_bank", "inspect_video"),
    "io": ("MASK_FORMATS", "MaskWriter", "VideoReader", "contact_sheet", "draw_overlay"),
    "io.random_access": ("FrameAccess",),
    "memory.bank": ("MemoryBank", "MemoryStats"),
    "memory.budget": ("Budget",),
    "memory.introspection": ("Explanation", "Provenance", "read_provenance"),
    "memory.policies": (
        "DEFAULT_POLICY",
        "POLICIES",
        "Diverse",
        "FirstAndLatest",
        "KeepAll",
        "LFU",
        "Policy",
        "keep_best",
    ),
    "memory.tokens": ("Tokens",),
    "memory.trace": ("TraceFile", "WriteRecord", "read_trace"),
    "model.checkpoints": ("save_model",),
    "model.stcn": ("STCN", "STCNConfig"),
    "pipeline": ("Checkpoint", "Progress", "find_checkpoint", "is_complete", "segment", "write_report"),
    "project": ("PassReport", "Project", "export_project", "picture_memory", "picture_reason", "replay"),
    "prompts": ("mask_from_box", "mask_from_polygon", "mask_from_scribble", "parse_at", "parse_box", "read_mask"),
    "prompts.clicks": ("ClickSegmenter", "ClickSession", "mask_from_clicks"),
    "tracker": ("Tracker", "track"),
    "types": ("Frame", "Masks"),
    "version": ("__version__",),
}
_MODULE_OF = {name: f"mnemask.{module}" for module, names in _NAMES_OF_MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Imports a public name when it is first used."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Lists the public names, those that are not imported yet too."""
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """The package, in which a public name stays what it is when a subpackage of the same name is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _MODULE_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
