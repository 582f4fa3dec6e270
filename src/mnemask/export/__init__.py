"""The network in a form that runs without PyTorch."""

from mnemask.export.onnx_files import export_onnx

__all__ = ["export_onnx"]
