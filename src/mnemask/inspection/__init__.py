"""A look inside the memory: which past pixels are remembered, and which of them a pixel was read from, as pictures."""

from mnemask.inspection.explained_sheet import explained_sheet
from mnemask.inspection.heat import draw_remembered
from mnemask.inspection.memory_sheet import memory_sheet
from mnemask.inspection.run import inspect_bank, inspect_video

__all__ = ["draw_remembered", "explained_sheet", "inspect_bank", "inspect_video", "memory_sheet"]
