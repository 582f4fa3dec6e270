"""Pictures of more than 8 bits a channel: which of their values is black, which is white.

A camera of 10, 12 or 14 bits writes 16-bit files in which most of the range is never used; scaled by 65535, they would
come out nearly black. The file formats do not say it reliably (the sBIT of PNG describes data that fills the range
anyway), so it is read off the pictures, once for the whole video.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8, UInt16

_WHITES = (2**8 - 1, 2**10 - 1, 2**12 - 1, 2**14 - 1, 2**16 - 1)
# Of a range that is used to less than this, as by cameras of temperature, the part that is used is spread out.
_NARROW = 1 / 8


@dataclass(frozen=True, slots=True)
class Levels:
    """The values that become 0 and 255."""

    black: int = 0
    white: int = 2**16 - 1

    @classmethod
    def of(cls, samples: Iterable[UInt16[np.ndarray, "..."]]) -> "Levels":
        """Returns the levels of a video from some of its pictures: 8 to 16 bits, or the narrow part that is used."""
        extremes = [(int(sample.min()), int(sample.max())) for sample in samples]
        lowest, highest = min((low for low, _ in extremes), default=0), max((high for _, high in extremes), default=0)
        if not highest:  # black, which says nothing of what is to come
            return cls()
        white = next(white for white in _WHITES if white >= highest)
        used = highest - lowest
        if not 0 < used < _NARROW * white or white == _WHITES[0]:
            return cls(0, white)
        margin = used // 4 + 1  # other pictures may use a little more
        return cls(max(lowest - margin, 0), min(highest + margin, _WHITES[-1]))

    def to_8_bits(self, values: UInt16[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
        """Returns the values from 0 to 255, those outside the levels cut off."""
        span = self.white - self.black
        above = values.astype(np.int64).clip(self.black, self.white) - self.black
        return ((above * 255 + span // 2) // span).astype(np.uint8)

    def __str__(self) -> str:
        if self.black:
            return f"values from {self.black} to {self.white} are spread from black to white"
        return f"{self.white} is white ({self.white.bit_length()} bits)"
