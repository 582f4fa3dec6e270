"""The network built by OpenVINO for a CPU: in float32, or with convolutions in 8-bit integers."""

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from mnemask.engines.cache import cache_folder, digest, kept
from mnemask.engines.calibration import Ranges, calibrate, read_ranges, write_ranges
from mnemask.engines.fixed_shapes import FixedShapes, Runner
from mnemask.engines.quantize import Rounded
from mnemask.errors import InputError, MissingExtraError
from mnemask.model.stcn import STCN

logger = logging.getLogger(__name__)

GRAPH, RANGES = "part.xml", "ranges.json"


class OpenVino(FixedShapes):
    """An STCN that OpenVINO runs in float32.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        InputError: the model is not in float32 on a CPU.
    """

    name = "openvino"

    def __init__(self, model: STCN) -> None:
        try:
            import openvino
        except ImportError as error:
            raise MissingExtraError(
                f"the engine {self.name!r} needs OpenVINO; pip install 'mnemask[openvino]'"
            ) from error
        if model.device.type != "cpu" or model.dtype != torch.float32:
            raise InputError(
                f"the engine {self.name!r} takes a float32 network on the cpu, and this one is {model.dtype} on "
                f"{model.device}; give dtype float32 and device cpu, or use the engine 'eager'"
            )
        self._openvino = openvino
        self._core = openvino.Core()
        super().__init__(model, cache_folder() / self.name / digest(model, openvino.__version__))

    def build(self, part: str, module: nn.Module, inputs: tuple[Tensor, ...], folder: Path) -> None:
        """Writes OpenVINO's graph of a part."""
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

        # Not openvino.convert_model, which reports its use to OpenVINO's makers over the network.
        frontend = FrontEndManager().load_by_framework("pytorch")
        exported = torch.export.export(module, inputs, strict=False)
        decoder = TorchFXPythonDecoder.from_exported_program(exported)  # which must live until all is converted
        graph = frontend.convert(frontend.load(decoder))
        graph.reshape({port: list(tensor.shape) for port, tensor in zip(graph.inputs, inputs, strict=True)})
        self._openvino.save_model(graph, folder / GRAPH, compress_to_fp16=False)

    def load(self, folder: Path) -> Runner:
        """Returns what runs a graph, with as many threads as torch uses."""
        settings = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        request = self._core.compile_model(folder / GRAPH, "CPU", settings).create_infer_request()

        def run(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
            arrays = [tensor.contiguous().numpy() for tensor in inputs]
            return [torch.from_numpy(found) for found in request.infer(arrays, share_inputs=True).values()]

        return run


class Int8(OpenVino):
    """An STCN of which OpenVINO runs value encoder and decoder in 8-bit integers; what makes the keys stays in float32."""

    name = "int8"
    rounded: tuple[str, ...] = ("value", "decode")

    def build(self, part: str, module: nn.Module, inputs: tuple[Tensor, ...], folder: Path) -> None:
        """Writes OpenVINO's graph of a part with the rounding in it, where it is to be rounded."""
        if part not in self.rounded:
            super().build(part, module, inputs, folder)
            return
        with Rounded(self._ranges[part], (self.key_projection,)):
            super().build(part, module, inputs, folder)

    @cached_property
    def _ranges(self) -> Ranges:
        def watch(folder: Path) -> None:
            logger.warning("finding the ranges of values in the network on generated clips, once …")
            write_ranges(calibrate(self), folder / RANGES)

        return read_ranges(kept(self.folder / "ranges", watch) / RANGES)


class Int8All(Int8):
    """An STCN of which OpenVINO runs all convolutions in 8-bit integers, but for the one that makes the keys."""

    name = "int8-all"
    rounded = ("key", "value", "decode")
