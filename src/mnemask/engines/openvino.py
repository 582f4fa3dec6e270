"""The network with convolutions in 8-bit integers, built by OpenVINO for a CPU.

A convolution is identified by its place in the order of execution, so that the structure of the code does not matter.
Its input is rounded to 256 steps over its range, including zero; each of its filters to 255 steps symmetric about zero.
A compiler that finds this rounding before a convolution computes it in integers. The ranges are those of the values in
the network while it tracks generated clips.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mnemask.datasets.synthetic.video import SyntheticVideo
from mnemask.engines.fixed_shapes import FixedShapes, Runner, build_cached, cache_folder, digest
from mnemask.engines.parts import SharedWeights
from mnemask.errors import InputError, missing_extra
from mnemask.memory.policies import LFU
from mnemask.model.resnet import BasicBlock, Bottleneck
from mnemask.model.stcn import STCN, KeyFeatures
from mnemask.tracker import Tracker
from mnemask.types import Frame

logger = logging.getLogger(__name__)

STEPS = 255
GRAPH, RANGES = "part.xml", "ranges.json"
NUM_CLIPS, NUM_FRAMES, SIZE, PACE = 3, 4, (288, 512), 10  # of the clips for the ranges


def precise_convolutions(model: STCN) -> tuple[nn.Conv2d, ...]:
    """Returns the convolutions that stay in float32.

    One computes the keys, whose small differences decide which tokens are read. The others are the key encoder's first
    ones, which cause two thirds of the rounding error of the keys (docs/speed.md).
    """
    encoder = model.key_encoder
    blocks = [block for block in encoder.layer1 if isinstance(block, BasicBlock | Bottleneck)]
    return (model.key_projection, encoder.conv1, *(block.conv1 for block in blocks))


@dataclass(slots=True)
class InputRange:
    """The observed range of the input of one convolution.

    Attributes:
        weight: the shape of the convolution's weight, which identifies it.
        low: the smallest value, at most 0.
        high: the largest value, at least 0.
    """

    weight: tuple[int, ...]
    low: float = 0.0
    high: float = 0.0

    def add(self, x: Tensor) -> None:
        """Widens the range to include the values of x."""
        low, high = torch.aminmax(x.detach())
        self.low, self.high = min(self.low, float(low)), max(self.high, float(high))

    def rounded(self, x: Tensor) -> Tensor:
        """Returns x with each value rounded to the nearest step and clipped to the range."""
        scale = (self.high - self.low) / STEPS or 1.0
        return torch.fake_quantize_per_tensor_affine(x, scale, round(-self.low / scale), 0, STEPS)


def rounded_filters(weight: Tensor) -> Tensor:
    """Returns a convolution's weight with each filter rounded to its own steps."""
    largest = weight.detach().abs().amax((1, 2, 3)).clamp_min(1e-12)  # for filters of zeros only
    zero = torch.zeros_like(largest, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, largest / (STEPS // 2), zero, 0, -(STEPS // 2), STEPS // 2)


@dataclass
class ConvolutionHook(TorchFunctionMode):
    """A torch mode in which `handle` gets each convolution with its range, in the order of execution.

    Attributes:
        ranges: the ranges of the convolutions in order; missing ones are added.
        precise: convolutions that stay unchanged; by module, because an exporter replaces the tensors in these.
    """

    ranges: list[InputRange]
    precise: Sequence[nn.Conv2d]
    number: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Returns the result of torch's function; the arguments of a convolution pass through `handle`."""
        if function is not torch.conv2d or any(args[1] is one.weight for one in self.precise):
            return function(*args, **(kwargs or {}))
        x, weight, *others = args
        if self.number == len(self.ranges):
            self.ranges.append(InputRange(tuple(weight.shape)))
        expected = self.ranges[self.number]
        assert expected.weight == tuple(weight.shape), f"convolution {self.number} differs from the calibrated one"
        self.number += 1
        return function(*self.handle(expected, x, weight), *others, **(kwargs or {}))

    def handle(self, expected: InputRange, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the input and the weight with which to compute the convolution."""
        raise NotImplementedError


class RangeObserver(ConvolutionHook):
    """Widens the ranges to include the inputs."""

    def handle(self, expected: InputRange, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Returns both unchanged."""
        expected.add(x)
        return x, weight


class FakeQuantizer(ConvolutionHook):
    """Rounds inputs and filters to the steps of 8 bits."""

    def handle(self, expected: InputRange, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Returns both rounded to their nearest steps."""
        return expected.rounded(x), rounded_filters(weight)


Ranges = dict[str, list[InputRange]]


class CalibrationModel(SharedWeights):
    """An STCN that records the range of each convolution's input."""

    def __init__(self, model: STCN, ranges: Ranges) -> None:
        super().__init__(model)
        self.ranges = ranges

    def encode_key(self, image: Float[Tensor, "B 3 H W"]) -> KeyFeatures:
        """Returns keys and features of images, see STCN."""
        with self._observed("key"):
            return super().encode_key(image)

    def encode_value(
        self, image: Float[Tensor, "B 3 H W"], features: KeyFeatures, masks: Float[Tensor, "B K H W"]
    ) -> Float[Tensor, "B K Cv h w"]:
        """Returns a value per object and cell, see STCN."""
        with self._observed("value"):
            return super().encode_value(image, features, masks)

    def decode(self, readout: Float[Tensor, "B K Cv h w"], features: KeyFeatures) -> Float[Tensor, "B K H W"]:
        """Returns the logit of each object at each pixel, see STCN."""
        with self._observed("decode"):
            return super().decode(readout, features)

    def _observed(self, part: str) -> RangeObserver:
        return RangeObserver(self.ranges.setdefault(part, []), precise_convolutions(self))


def calibrate(model: STCN, size: tuple[int, int] = SIZE) -> Ranges:
    """Returns the range of each convolution's input, by part, over a few generated clips with two objects each."""
    ranges: Ranges = {}
    watched = CalibrationModel(model, ranges)
    for seed in range(NUM_CLIPS):
        tracker = Tracker(watched, policy=LFU(write_every=1), short_side=None)
        video = SyntheticVideo(NUM_FRAMES, size, num_objects=2, seed=1000 + seed, pace=PACE)
        for frame, labels, truth in video:
            given = {object_id: labels == object_id for object_id in truth} if frame.index == 0 else None
            tracker.step(Frame(frame.image, frame.index), given)
    return ranges


def write_ranges(ranges: Ranges, path: Path) -> None:
    """Writes ranges as JSON."""
    path.write_text(json.dumps({part: [asdict(one) for one in found] for part, found in ranges.items()}))


def read_ranges(path: Path) -> Ranges:
    """Returns ranges that `write_ranges` wrote."""
    saved = json.loads(path.read_text())
    return {
        part: [InputRange(tuple(one["weight"]), one["low"], one["high"]) for one in found]
        for part, found in saved.items()
    }


@cache
def _core() -> Any:
    """Returns OpenVINO's runtime; no engine holds it, since it cannot be pickled."""
    import openvino

    return openvino.Core()


class Int8All(FixedShapes):
    """An STCN whose convolutions are all in 8-bit integers, except those of `precise_convolutions`.

    Raises:
        MissingExtraError: if OpenVINO is not installed.
        InputError: if the model is not in float32 on a CPU.
    """

    def __init__(self, model: STCN) -> None:
        try:
            import openvino
        except ImportError as error:
            raise missing_extra("8-bit engines need OpenVINO", "openvino") from error
        if model.device.type != "cpu" or model.dtype != torch.float32:
            raise InputError(
                f"8-bit engines need a float32 network on the cpu, but this one is {model.dtype} on {model.device}",
                "give dtype float32 and device cpu, or use the engine 'eager'",
            )
        self._precise = precise_convolutions(model)
        super().__init__(model, cache_folder() / "int8" / digest(model, openvino.__version__))

    def build(self, part: str, module: nn.Module, inputs: tuple[Tensor, ...], folder: Path) -> None:
        """Writes OpenVINO's graph of a part, including the rounding."""
        import openvino
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

        with FakeQuantizer(self._ranges[part], self._precise):
            exported = torch.export.export(module, inputs, strict=False)
        # Not openvino.convert_model, which sends usage reports to OpenVINO's makers over the network.
        frontend = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchFXPythonDecoder.from_exported_program(exported)  # must live until the conversion is done
        graph = frontend.convert(frontend.load(decoder))
        graph.reshape({port: list(tensor.shape) for port, tensor in zip(graph.inputs, inputs, strict=True)})
        openvino.save_model(self._channels_last(part, graph), folder / GRAPH, compress_to_fp16=False)

    def load(self, part: str, folder: Path) -> Runner:
        """Returns a function that runs a graph, with as many threads as torch uses."""
        settings = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        request = _core().compile_model(folder / GRAPH, "CPU", settings).create_infer_request()

        def run(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
            arrays = [(tensor.movedim(1, -1) if tensor.ndim == 4 else tensor).numpy() for tensor in inputs]
            found = [torch.from_numpy(array) for array in request.infer(arrays, share_inputs=True).values()]
            return [tensor.movedim(-1, 1) for tensor in found] if part == "key" else found

        return run

    def _channels_last(self, part: str, graph: Any) -> Any:
        """Returns a graph whose planes are channels-last, as inside torch and OpenVINO, so that none is transposed."""
        from openvino import Layout
        from openvino.preprocess import PrePostProcessor

        outside, inside = Layout("NHWC"), Layout("NCHW")
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
            logger.info("measuring the ranges of values in the network on generated clips, once …")
            write_ranges(calibrate(self), folder / RANGES)

        return read_ranges(build_cached(self.folder / "ranges", watch) / RANGES)


class Int8(Int8All):
    """An STCN with value encoder and decoder in 8-bit integers; keys are computed in full precision."""

    def encode_key(self, image: Float[Tensor, "B 3 H W"]) -> KeyFeatures:
        """Returns keys and features of images, see STCN."""
        return STCN.encode_key(self, image)
