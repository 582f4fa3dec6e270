"""The ranges of values in a network, seen while it follows generated clips."""

import json
from dataclasses import asdict
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from mnemask.datasets.synthetic import SyntheticVideo
from mnemask.engines.quantize import InputRange, Observed, precise_convolutions
from mnemask.memory.policies import LeastUsed
from mnemask.model.parts import SharedWeights
from mnemask.model.stcn import STCN, KeyFeatures
from mnemask.tracker import Tracker
from mnemask.types import Frame

NUM_CLIPS, NUM_FRAMES, SIZE, PACE = 3, 4, (288, 512), 10
Ranges = dict[str, list[InputRange]]


class Watched(SharedWeights):
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

    def _observed(self, part: str) -> Observed:
        return Observed(self.ranges.setdefault(part, []), precise_convolutions(self))


def calibrate(model: STCN, size: tuple[int, int] = SIZE) -> Ranges:
    """Returns the range of each convolution's input, by part, over a few generated clips with two objects each."""
    ranges: Ranges = {}
    watched = Watched(model, ranges)
    for seed in range(NUM_CLIPS):
        tracker = Tracker(watched, LeastUsed(write_every=1), short_side=None)
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
