"""What other programs take: masks in the files of other tools, and the network in a form that runs without PyTorch."""

from mnemask.engines.onnx import export_onnx
from mnemask.export.run import EXPORT_FORMATS, Exported, export_masks

__all__ = ["EXPORT_FORMATS", "Exported", "export_masks", "export_onnx"]
