"""The network with convolutions in 8-bit integers, built by OpenVINO for a CPU.

A convolution is known by its place in the order of execution, so that it does not matter how the network is written.
Its input becomes one of 256 steps of its range, zero among them; each of its filters one of 255 steps symmetric to
zero. A compiler that finds this rounding before a convolution computes it in integers. The ranges are those of the
values in the network while it follows generated clips.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
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
NUM_CLIPS, NUM_FRAMES, SIZE, PACE = 3, 4, (288, 512), 10  # of the clips that ranges are seen in


def precise_convolutions(model: STCN) -> tuple[nn.Conv2d, ...]:
    """Returns the convolutions that stay in float32.

    One makes the keys, in which small differences decide what is found. The others are the key encoder's first ones:
    of the error that rounding brings into the keys, two thirds come from them (docs/speed.md).
    """
    encoder = model.key_encoder
    blocks = [block for block in encoder.layer1 if isinstance(block, BasicBlock | Bottleneck)]
    return (model.key_projection, encoder.conv1, *(block.conv1 for block in blocks))


@dataclass(slots=True)
class InputRange:
    """What the input of one convolution was seen to hold.

    Attributes:
        weight: the shape of the convolution's weight, to know it by.
        low: the least value, at most 0.
        high: the largest, at least 0.
    """

    weight: tuple[int, ...]
    low: float = 0.0
    high: float = 0.0

    def add(self, x: Tensor) -> None:
        """Widens the range to what x holds."""
        low, high = torch.aminmax(x.detach())
        self.low, self.high = min(self.low, float(low)), max(self.high, float(high))

    def rounded(self, x: Tensor) -> Tensor:
        """Returns x with each value at the nearest step, and those outside the range at its ends."""
        scale = (self.high - self.low) / STEPS or 1.0
        return torch.fake_quantize_per_tensor_affine(x, scale, round(-self.low / scale), 0, STEPS)


def rounded_filters(weight: Tensor) -> Tensor:
    """Returns a convolution's weight with each filter at the nearest of its own steps."""
    largest = weight.detach().abs().amax((1, 2, 3)).clamp_min(1e-12)  # filters of zeros only
    zero = torch.zeros_like(largest, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, largest / (STEPS // 2), zero, 0, -(STEPS // 2), STEPS // 2)


@dataclass
class ConvolutionHook(TorchFunctionMode):
    """Within it, each convolution is handed its range, in the order of execution.

    Attributes:
        ranges: of the convolutions in order; where there is none yet, one is added.
        precise: convolutions that stay as they are; by module, for an exporter puts tensors of its own into these.
    """

    ranges: list[InputRange]
    precise: Sequence[nn.Conv2d]
    number: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Returns the result of torch's function, of a convolution after `handle`."""
        if function is not torch.conv2d or any(args[1] is one.weight for one in self.precise):
            return function(*args, **(kwargs or {}))
        x, weight, *others = args
        if self.number == len(self.ranges):
            self.ranges.append(InputRange(tuple(weight.shape)))
        expected = self.ranges[self.number]
        assert expected.weight == tuple(weight.shape), f"convolution {self.number} is another one than was calibrated"
        self.number += 1
        return function(*self.handle(expected, x, weight), *others, **(kwargs or {}))

    def handle(self, expected: InputRange, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the input and the weight that the convolution is given."""
        raise NotImplementedError


class RangeObserver(ConvolutionHook):
    """Widens the ranges to what the inputs hold."""

    def handle(self, expected: InputRange, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Returns both as they are."""
        expected.add(x)
        return x, weight


class FakeQuantizer(ConvolutionHook):
    """Rounds inputs and filters to the steps of 8 bits."""

    def handle(self, expected: InputRange, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Returns both at their nearest steps."""
        return expected.rounded(x), rounded_filters(weight)


Ranges = dict[str, list[InputRange]]


class CalibrationModel(SharedWeights):
    """An STCN that notes the range of each convolution's input."""

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
                f"8-bit engines take a float32 network on the cpu, and this one is {model.dtype} on {model.device}",
                "give dtype float32 and device cpu, or use the engine 'eager'",
            )
        self._openvino = openvino
        self._precise = precise_convolutions(model)
        self._core = openvino.Core()
        super().__init__(model, cache_folder() / "int8" / digest(model, openvino.__version__))

    def build(self, part: str, module: nn.Module, inputs: tuple[Tensor, ...], folder: Path) -> None:
        """Writes OpenVINO's graph of a part with the rounding in it."""
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

        with FakeQuantizer(self._ranges[part], self._precise):
            exported = torch.export.export(module, inputs, strict=False)
        # Not openvino.convert_model, which reports its use to OpenVINO's makers over the network.
        frontend = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchFXPythonDecoder.from_exported_program(exported)  # which must live until all is converted
        graph = frontend.convert(frontend.load(decoder))
        graph.reshape({port: list(tensor.shape) for port, tensor in zip(graph.inputs, inputs, strict=True)})
        self._openvino.save_model(self._channels_last(part, graph), folder / GRAPH, compress_to_fp16=False)

    def load(self, part: str, folder: Path) -> Runner:
        """Returns a function that runs a graph, with as many threads as torch uses."""
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

        return read_ranges(build_cached(self.folder / "ranges", watch) / RANGES)


class Int8(Int8All):
    """An STCN with value encoder and decoder in 8-bit integers; keys are computed in full precision."""

    def encode_key(self, image: Float[Tensor, "B 3 H W"]) -> KeyFeatures:
        """Returns keys and features of images, see STCN."""
        return STCN.encode_key(self, image)
