"""Tracking a whole video from its first masks to files and a report; interrupted runs can be resumed."""

from mnemask.pipeline.checkpoint import Checkpoint, find_checkpoint, is_complete
from mnemask.pipeline.estimates import MemoryEstimate, estimate_memory
from mnemask.pipeline.outputs import RunProgress, peak_memory_bytes, refuse_other_report, write_report
from mnemask.pipeline.places import VideoOutputs
from mnemask.pipeline.run import PromptFunction, segment

__all__ = [
    "Checkpoint",
    "MemoryEstimate",
    "PromptFunction",
    "RunProgress",
    "VideoOutputs",
    "estimate_memory",
    "find_checkpoint",
    "is_complete",
    "peak_memory_bytes",
    "refuse_other_report",
    "segment",
    "write_report",
]
