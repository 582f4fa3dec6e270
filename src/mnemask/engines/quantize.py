"""Convolutions in 8-bit integers: which range each one's input has, and the rounding that goes with it.

A convolution is known by its place in the order of execution, so that it does not matter how the network is written.
Its input becomes one of 256 steps of its range, zero among them; each of its filters one of 255 steps symmetric to
zero. A compiler that finds this rounding before a convolution computes it in integers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mnemask.model.resnet import BasicBlock, Bottleneck
from mnemask.model.stcn import STCN

STEPS = 255


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
class EachConvolution(TorchFunctionMode):
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
        """Returns what torch's function returns, convolutions being seen to."""
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


class Observed(EachConvolution):
    """Widens the ranges to what the inputs hold."""

    def handle(self, expected: InputRange, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Returns both as they are."""
        expected.add(x)
        return x, weight


class Rounded(EachConvolution):
    """Rounds inputs and filters to the steps of 8 bits."""

    def handle(self, expected: InputRange, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Returns both at their nearest steps."""
        return expected.rounded(x), rounded_filters(weight)
