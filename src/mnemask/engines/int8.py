"""The network with convolutions in 8-bit integers, built by OpenVINO for a CPU."""

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemask.engines.cache import cache_folder, digest, kept
from mnemask.engines.calibration import Ranges, calibrate, read_ranges, write_ranges
from mnemask.engines.fixed_shapes import FixedShapes, Runner
from mnemask.engines.quantize import Rounded, precise_convolutions
from mnemask.errors import InputError
from mnemask.extras import missing_extra
from mnemask.model.stcn import STCN, KeyFeatures

logger = logging.getLogger(__name__)

GRAPH, RANGES = "part.xml", "ranges.json"


class Int8All(FixedShapes):
    """An STCN of which all convolutions are in 8-bit integers, but for those of `precise_convolutions`.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        InputError: the model is not in float32 on a CPU.
    """

    def __init__(self, model: STCN) -> None:
        try:
            import openvino
        except ImportError as error:
            raise missing_extra("8-bit engines need OpenVINO", "openvino") from error
        if model.device.type != "cpu" or model.dtype != torch.float32:
            raise InputError(
                f"8-bit engines take a float32 network on the cpu, and this one is {model.dtype} on {model.device}; "
                "give dtype float32 and device cpu, or use the engine 'eager'"
            )
        self._openvino = openvino
        self._precise = precise_convolutions(model)
        self._core = openvino.Core()
        super().__init__(model, cache_folder() / "int8" / digest(model, openvino.__version__))

    def build(self, part: str, module: nn.Module, inputs: tuple[Tensor, ...], folder: Path) -> None:
        """Writes OpenVINO's graph of a part with the rounding in it."""
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

        with Rounded(self._ranges[part], self._precise):
            exported = torch.export.export(module, inputs, strict=False)
        # Not openvino.convert_model, which reports its use to OpenVINO's makers over the network.
        frontend = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchFXPythonDecoder.from_exported_program(exported)  # which must live until all is converted
        graph = frontend.convert(frontend.load(decoder))
        graph.reshape({port: list(tensor.shape) for port, tensor in zip(graph.inputs, inputs, strict=True)})
        self._openvino.save_model(self._channels_last(part, graph), folder / GRAPH, compress_to_fp16=False)

    def load(self, part: str, folder: Path) -> Runner:
        """Returns what runs a graph, with as many threads as torch uses."""
        settings = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        request = self._core.compile_model(folder / GRAPH, "CPU", settings).create_infer_request()

        def run(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
            arrays = [(tensor.movedim(1, -1) if tensor.ndim == 4 else tensor).numpy() for tensor in inputs]
            found = [torch.from_numpy(array) for array in request.infer(arrays, share_inputs=True).values()]
            return [tensor.movedim(-1, 1) for tensor in found] if part == "key" else found

        return run

    def _channels_last(self, part: str, graph: Any) -> Any:
        """Returns a graph whose planes come and go as torch and OpenVINO have them inside, so that none is turned."""
        from openvino.preprocess import PrePostProcessor

        outside, inside = self._openvino.Layout("NHWC"), self._openvino.Layout("NCHW")
        steps = PrePostProcessor(graph)
        planes = [steps.input(number) for number, port in enumerate(graph.inputs) if len(port.shape) == 4]
        if part == "key":
            planes += [steps.output(number) for number in range(len(graph.outputs))]
        for one in planes:
            one.tensor().set_layout(outside)
            one.model().set_layout(inside)
        return steps.build()

    @cached_property
    def _ranges(self) -> Ranges:
        def watch(folder: Path) -> None:
            logger.info("finding the ranges of values in the network on generated clips, once …")
            write_ranges(calibrate(self), folder / RANGES)

        return read_ranges(kept(self.folder / "ranges", watch) / RANGES)


class Int8(Int8All):
    """An STCN of which value encoder and decoder are in 8-bit integers; keys are made as ever."""

    def encode_key(self, image: Float[Tensor, "B 3 H W"]) -> KeyFeatures:
        """Returns keys and features of images, see STCN."""
        return STCN.encode_key(self, image)
