"""Segment and track objects through video of any length in fixed memory.

The public names; everything else may change from one release to the next.
"""

from mnemask.datasets.davis import DavisSequences
from mnemask.datasets.drawn import DrawnVideo
from mnemask.demo import run_demo
from mnemask.doctor import Finding, diagnose
from mnemask.errors import InputError, MissingExtraError, MnemaskError
from mnemask.evaluation.job import TrackerSettings
from mnemask.evaluation.protocol import DATASETS, Benchmark
from mnemask.evaluation.results import Result
from mnemask.evaluation.run import evaluate
from mnemask.evaluation.score import format_table, score_folder
from mnemask.evaluation.submission import write_submission
from mnemask.evaluation.suite import SuiteProgress, run_benchmark
from mnemask.evaluation.tables import write_tables
from mnemask.inspection import inspect_bank, inspect_video
from mnemask.memory.bank import MemoryBank, MemoryStats
from mnemask.memory.budget import Budget
from mnemask.memory.explanation import Explanation
from mnemask.memory.policies import DEFAULT_POLICY, POLICIES, FirstAndLatest, KeepAll, LeastUsed, Policy, keep_best
from mnemask.memory.provenance import Provenance, read_provenance
from mnemask.memory.tokens import Tokens
from mnemask.memory.trace import TraceFile, WriteRecord, read_trace
from mnemask.model.checkpoints import load_model, save_model
from mnemask.model.stcn import STCN, STCNConfig
from mnemask.prompts import mask_from_box, mask_from_polygon, mask_from_scribble, parse_at, parse_box, read_mask
from mnemask.segment import Progress, segment, write_report
from mnemask.tracker import Tracker
from mnemask.types import Frame, Masks
from mnemask.version import __version__
from mnemask.video import MASK_FORMATS, MaskWriter, VideoReader, contact_sheet, draw_overlay

__all__ = [
    "DATASETS",
    "DEFAULT_POLICY",
    "MASK_FORMATS",
    "POLICIES",
    "STCN",
    "Benchmark",
    "Budget",
    "DavisSequences",
    "DrawnVideo",
    "Explanation",
    "Finding",
    "FirstAndLatest",
    "Frame",
    "InputError",
    "KeepAll",
    "LeastUsed",
    "MaskWriter",
    "Masks",
    "MemoryBank",
    "MemoryStats",
    "MissingExtraError",
    "MnemaskError",
    "Policy",
    "Progress",
    "Provenance",
    "Result",
    "STCNConfig",
    "SuiteProgress",
    "Tokens",
    "TraceFile",
    "Tracker",
    "TrackerSettings",
    "VideoReader",
    "WriteRecord",
    "__version__",
    "contact_sheet",
    "diagnose",
    "draw_overlay",
    "evaluate",
    "format_table",
    "inspect_bank",
    "inspect_video",
    "keep_best",
    "load_model",
    "mask_from_box",
    "mask_from_polygon",
    "mask_from_scribble",
    "parse_at",
    "parse_box",
    "read_mask",
    "read_provenance",
    "read_trace",
    "run_benchmark",
    "run_demo",
    "save_model",
    "score_folder",
    "segment",
    "write_report",
    "write_submission",
    "write_tables",
]
