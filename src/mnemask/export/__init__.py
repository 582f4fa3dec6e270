"""Exports for other programs: masks in the file formats of other tools, and the network for use without PyTorch."""

from mnemask.engines.onnx import export_onnx
from mnemask.export.run import EXPORT_FORMATS, Exported, export_masks

__all__ = ["EXPORT_FORMATS", "Exported", "export_masks", "export_onnx"]
