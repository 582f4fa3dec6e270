"""The network in a form that runs without PyTorch."""

from mnemask.engines.onnx import export_onnx

__all__ = ["export_onnx"]
