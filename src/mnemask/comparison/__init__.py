"""Compares policies on one video: masks, agreement, scores, cost and memory, on one page that works offline."""

from mnemask.comparison.run import CompareProgress, compare_video

__all__ = ["CompareProgress", "compare_video"]
