"""Pictures of the memory: which past pixels it stores, and which of them a pixel was read from."""

from mnemask.inspection.canvas import draw_remembered
from mnemask.inspection.run import inspect_bank, inspect_video
from mnemask.inspection.sheets import explained_sheet, memory_sheet

__all__ = ["draw_remembered", "explained_sheet", "inspect_bank", "inspect_video", "memory_sheet"]
