"""The camera of a generated video: what it looks at, and what its sensor makes of it."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Int8, UInt8

from mnemask.datasets.drawn_bodies import Wave
from mnemask.datasets.noise import Rng

CANVAS = 1.35  # of the frame's size: all that the camera can look at
GRAIN = 2.2


@dataclass(frozen=True)
class Camera:
    """A slow look about a picture that is larger than the frame.

    Attributes:
        canvas: RGB, all that can be seen.
        size: height and width of the frame.
        pan: how far the middle of the view is from that of the canvas, in pixels, as x, y.
        reach: the size of the view / the size of the frame.
        exposure: logarithm of the brightness.
        grain: noise of the sensor, larger than the frame, shown from another corner each time.
    """

    canvas: UInt8[np.ndarray, "Y X 3"]
    size: tuple[int, int]
    pan: tuple[Wave, Wave]
    reach: Wave
    exposure: Wave
    grain: Int8[np.ndarray, "y x 3"]

    @classmethod
    def over(
        cls, rng: Rng, canvas: UInt8[np.ndarray, "Y X 3"], size: tuple[int, int], steady_light: bool = False
    ) -> "Camera":
        """Returns a camera that never looks past the border of a canvas of `CANVAS` times the size."""
        height, width = size
        margin = (CANVAS - 1) / 2
        pan = (Wave.about(rng, 0.0, 0.6 * margin * width, 600), Wave.about(rng, 0.0, 0.6 * margin * height, 600))
        reach = Wave.about(rng, 1.0, 0.06, 450)
        exposure = Wave(0.0) if steady_light else Wave.about(rng, -0.05, 0.15, 400)
        grain = np.round(rng.normal(0, GRAIN, (height + 63, width + 63, 3))).astype(np.int8)
        return cls(canvas, size, pan, reach, exposure, grain)

    def look(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Returns the part of the canvas in view."""
        height, width = self.size
        reach = self.reach(index)
        left, top = (
            (canvas - reach * side) / 2 + pan(index)
            for canvas, side, pan in zip(self.canvas.shape[1::-1], (width, height), self.pan, strict=True)
        )
        view = np.array([[reach, 0, left], [0, reach, top]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(self.canvas, view, (width, height), flags=flags), np.uint8)

    def expose(self, index: int, picture: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """Returns the picture as bright as it is at the time, with grain."""
        height, width = self.size
        y, x = np.random.default_rng(index).integers(0, 64, 2)
        lit = cv2.convertScaleAbs(picture, alpha=float(np.exp(self.exposure(index))))
        return cv2.add(lit, self.grain[y : y + height, x : x + width], dtype=cv2.CV_8U)
