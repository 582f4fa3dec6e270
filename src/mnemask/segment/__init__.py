"""A whole video from its first masks to files, and a report of what happened; it survives being cut off."""

from mnemask.segment.checkpoint import Checkpoint, find_checkpoint, is_complete
from mnemask.segment.promise import MemoryPromise, promise
from mnemask.segment.report import Progress, peak_memory_bytes, write_report
from mnemask.segment.run import PromptSource, segment

__all__ = [
    "Checkpoint",
    "MemoryPromise",
    "Progress",
    "PromptSource",
    "find_checkpoint",
    "is_complete",
    "peak_memory_bytes",
    "promise",
    "segment",
    "write_report",
]
