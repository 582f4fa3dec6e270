"""A body in one frame: which pixels it covers, and how it looks there in the light."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mnemask.datasets.drawn_bodies import Body
from mnemask.datasets.drawn_coats import COAT_REACH

FIXED_POINT = 16  # outlines are drawn to a sixteenth of a pixel


@dataclass(frozen=True)
class Silhouette:
    """The outline of a body, filled, in a window that may stick out of the frame.

    Attributes:
        cover: how much of each pixel it covers, 0 to 255.
        corner: where the window's left upper pixel is in the frame, as x, y.
        size: height and width of the frame.
        body: whose it is.
        pose: see Body.pose.
    """

    cover: UInt8[np.ndarray, "h w"]
    corner: tuple[int, int]
    size: tuple[int, int]
    body: Body
    pose: Float[np.ndarray, "2 3"]

    @classmethod
    def of(cls, body: Body, index: int, size: tuple[int, int]) -> "Silhouette | None":
        """Returns the silhouette in a frame; None where neither the body nor its shadow is in it."""
        pose = body.pose(index)
        curves = [curve @ pose[:, :2].T + pose[:, 2] for curve in body.outline(index)]
        margin = math.ceil(0.3 * body.radius)
        left, top = (int(edge) - margin for edge in np.floor(curves[0].min(axis=0)))
        right, bottom = (int(edge) + margin + 1 for edge in np.ceil(curves[0].max(axis=0)))
        if right <= 0 or bottom <= 0 or left >= size[1] or top >= size[0]:
            return None
        cover = np.zeros((bottom - top, right - left), np.uint8)
        points = [np.round(FIXED_POINT * (curve - (left, top))).astype(np.int32) for curve in curves]
        cv2.fillPoly(cover, points, 255, cv2.LINE_AA, int(math.log2(FIXED_POINT)))
        return cls(cover, (left, top), size, body, pose)

    def mark(self, labels: UInt8[np.ndarray, "H W"], object_id: int) -> None:
        """Writes the id where at least half of the pixel is covered."""
        frame, window = self._overlap()
        labels[frame][self.cover[window] > 127] = object_id

    def paint(self, picture: UInt8[np.ndarray, "H W 3"]) -> None:
        """Draws the body with its coat, light and shadow."""
        frame, window = self._overlap()
        shaded = picture[frame] * self._shadow()[window][..., None]
        seen = self._coat()[window] * self._light()[window][..., None]
        shaded += (self.cover[window] * np.float32(1 / 255))[..., None] * (seen - shaded)
        picture[frame] = np.clip(shaded, 0, 255)

    def _overlap(self) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Returns the same pixels in the frame and in the window."""
        frame, window = [], []
        for start, length, end in zip(self.corner[::-1], self.cover.shape, self.size, strict=True):
            low, high = max(0, start), min(end, start + length)
            frame.append(slice(low, high))
            window.append(slice(low - start, high - start))
        return (frame[0], frame[1]), (window[0], window[1])

    def _coat(self) -> UInt8[np.ndarray, "h w 3"]:
        side = len(self.body.coat)
        to_radii = np.array(
            [[2 * COAT_REACH / side, 0, -COAT_REACH], [0, 2 * COAT_REACH / side, -COAT_REACH], [0, 0, 1]]
        )
        to_window = self.pose @ to_radii
        to_window[:, 2] -= self.corner
        size = self.cover.shape[::-1]
        return np.asarray(cv2.warpAffine(self.body.coat, to_window, size, borderMode=cv2.BORDER_REPLICATE))

    def _shadow(self) -> Float[np.ndarray, "h w"]:
        """Returns how much light reaches what lies below, 0 to 1; the light comes from the upper left."""
        small = cv2.resize(self.cover, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA).astype(np.float32)
        soft = cv2.GaussianBlur(small, (0, 0), max(0.5, 0.02 * self.body.radius))
        away = 0.13 * self.body.radius + 1.5
        shadow = cv2.warpAffine(soft, np.array([[4, 0, away], [0, 4, away]]), self.cover.shape[::-1])
        return 1 - np.float32(0.55 / 255) * shadow

    def _light(self) -> Float[np.ndarray, "h w"]:
        """Returns the brightness, about 1, of a cushion of this outline."""
        small = cv2.resize(self.cover, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        depth = 0.3 * self.body.radius
        inwards = np.minimum(cv2.distanceTransform((small > 127).astype(np.uint8), cv2.DIST_L2, 3) / depth, 1)
        height = cv2.GaussianBlur(depth * np.sqrt(1 - (1 - inwards) ** 2), (0, 0), max(0.6, 0.05 * self.body.radius))
        dx, dy = (cv2.Sobel(height, cv2.CV_32F, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1)))
        facing = (0.5 * dx + 0.55 * dy + 0.66) / np.sqrt(1 + dx * dx + dy * dy)
        return np.asarray(cv2.resize(0.42 + 0.88 * facing, self.cover.shape[::-1]))
