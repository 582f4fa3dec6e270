"""What a drawn clip is made of: a scene behind, and cut-outs that move before it."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from mnemask.datasets.clips import IGNORE
from mnemask.datasets.composite.appearance import motion_blur


@dataclass(frozen=True, slots=True)
class Track:
    """Where an object's middle is in each frame (x, y), and about how far it reaches from there, in pixels."""

    centre: Float[np.ndarray, "T 2"]
    radius: float


@dataclass(frozen=True, slots=True)
class Layer:
    """One cut-out and where it is in each frame.

    Attributes:
        pixels: RGB times opacity, and opacity: so no colour from outside the object bleeds in where pixels are mixed.
        label: the object's number, 0 for a thing that is not to be followed.
        to_frame: maps from pixels of the cut-out (x, y) to pixels of the frame.
        bend: displacements in pixels of the cut-out, spread over it; None for a rigid thing.
        light: logarithm of the brightness in each frame, 0 for as it is.
        smear: motion blur in each frame, in pixels (x, y).
        shadow: darkness of the shadow, 0 to 1, and its offset in pixels (x, y).
    """

    pixels: UInt8[np.ndarray, "h w 4"]
    label: int
    to_frame: Float[np.ndarray, "T 2 3"]
    bend: Float[np.ndarray, "T g g 2"] | None
    light: Float[np.ndarray, " T"]
    smear: Float[np.ndarray, "T 2"]
    shadow: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def paint(self, t: int, frame: UInt8[np.ndarray, "H W 3"], labels: UInt8[np.ndarray, "H W"]) -> None:
        """Draws the layer onto frame `t` and its labels, in place; its pixels are those with opacity above 127."""
        left, top, right, bottom = self._box(t)
        left, right = np.clip((left, right), 0, frame.shape[1]).tolist()
        top, bottom = np.clip((top, bottom), 0, frame.shape[0]).tolist()
        if right <= left or bottom <= top:
            return
        warped = self._warped(t, (left, top, right, bottom))
        alpha = np.ascontiguousarray(warped[..., 3])
        if self.shadow[0]:
            _darken(frame, alpha, left, top, self.shadow)
        colours = cv2.convertScaleAbs(warped[..., :3], alpha=float(np.exp(self.light[t])))
        weight = alpha.astype(np.float32) * np.float32(1 / 255)
        region = np.ascontiguousarray(frame[top:bottom, left:right])
        behind = cv2.blendLinear(np.zeros_like(region), region, weight, 1 - weight)
        frame[top:bottom, left:right] = cv2.add(behind, colours)
        labels[top:bottom, left:right][alpha > 127] = self.label

    def area(self, t: int) -> int:
        """Returns how many pixels the layer has in frame `t` and beyond its borders."""
        return int(np.count_nonzero(self._warped(t, self._box(t))[..., 3] > 127))

    def track(self) -> Track:
        """Returns where the cut-out is in each frame."""
        height, width = self.pixels.shape[:2]
        radius = np.sqrt(height * width * np.abs(np.linalg.det(self.to_frame[:, :, :2]))) / 2
        return Track(self.to_frame @ np.array([width / 2, height / 2, 1.0]), float(radius.mean()))

    def _warped(self, t: int, box: tuple[int, int, int, int]) -> UInt8[np.ndarray, "b w 4"]:
        warped = cv2.remap(self.pixels, *self._sources(t, box), cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        return motion_blur(warped, *self.smear[t].tolist())

    def _box(self, t: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of what the layer can touch, in the frame and beyond."""
        height, width = self.pixels.shape[:2]
        spread = 0.0 if self.bend is None else float(np.abs(self.bend[t]).max())
        x = np.array([-spread, width + spread, -spread, width + spread])
        y = np.array([-spread, -spread, height + spread, height + spread])
        corners = self.to_frame[t] @ np.stack((x, y, np.ones(4)))
        margin = 1 + np.abs(self.smear[t]).max()
        left, top = np.floor(corners.min(1) - margin).astype(int).tolist()
        right, bottom = np.ceil(corners.max(1) + margin).astype(int).tolist()
        return left, top, right, bottom

    def _sources(
        self, t: int, box: tuple[int, int, int, int]
    ) -> tuple[Float[np.ndarray, "b w"], Float[np.ndarray, "b w"]]:
        """The place in the cut-out that each pixel of the box shows."""
        x, y = sources(self.to_frame[t], box)
        if self.bend is None:
            return x, y
        height, width = self.pixels.shape[:2]
        cells = self.bend.shape[1]
        at = (x * ((cells - 1) / width), y * ((cells - 1) / height))
        moved = cv2.remap(self.bend[t], *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return x + moved[..., 0], y + moved[..., 1]


@dataclass(frozen=True, slots=True)
class Scene:
    """A photograph that fills the frame, and how the camera moves over it.

    Attributes:
        image: RGB.
        masks: objects 1, 2, … of the photograph that are to be followed; may be empty.
        to_frame: maps from pixels of the photograph (x, y) to pixels of the frame.
        bend: displacements in pixels of the photograph, spread over the frame; None for a rigid world.
    """

    image: UInt8[np.ndarray, "h w 3"]
    masks: list[Bool[np.ndarray, "h w"]]
    to_frame: Float[np.ndarray, "T 2 3"]
    bend: Float[np.ndarray, "T g g 2"] | None

    def tracks(self) -> list[Track]:
        """Returns where each of the scene's objects is in each frame."""
        tracks = []
        for mask in self.masks:
            ys, xs = np.nonzero(mask)
            radius = np.sqrt(len(xs) * np.abs(np.linalg.det(self.to_frame[:, :, :2]))) * 0.6
            tracks.append(Track(self.to_frame @ np.array([xs.mean(), ys.mean(), 1.0]), float(radius.mean())))
        return tracks

    def paint(self, t: int, size: int) -> tuple[UInt8[np.ndarray, "S S 3"], UInt8[np.ndarray, "S S"]]:
        """Returns frame `t` and its labels; beyond its border the photograph is mirrored, and objects there are 255."""
        x, y = sources(self.to_frame[t], (0, 0, size, size))
        if self.bend is not None:
            x += cv2.resize(self.bend[t, ..., 0], (size, size), interpolation=cv2.INTER_LINEAR)
            y += cv2.resize(self.bend[t, ..., 1], (size, size), interpolation=cv2.INTER_LINEAR)
        frame = cv2.remap(self.image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        labels = np.zeros((size, size), np.uint8)
        for label, mask in enumerate(self.masks, 1):
            # Softened first: the steps of a small mask would grow with it.
            soft = cv2.GaussianBlur(mask.astype(np.uint8) * 255, (3, 3), 0.8)
            shown = cv2.remap(soft, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
            labels[shown > 127] = label
        if self.masks:
            # A mirrored object is neither the object nor a background worth learning.
            height, width = self.image.shape[:2]
            beyond = (x < -0.5) | (y < -0.5) | (x > width - 0.5) | (y > height - 0.5)
            labels[beyond & (labels > 0)] = IGNORE
        return frame, labels


def sources(
    to_frame: Float[np.ndarray, "2 3"], box: tuple[int, int, int, int]
) -> tuple[Float[np.ndarray, "b w"], Float[np.ndarray, "b w"]]:
    """Returns x and y before the map for each pixel of a box (left, top, right, bottom) after it."""
    left, top, right, bottom = box
    back = cv2.invertAffineTransform(to_frame).astype(np.float32)
    xs = np.arange(left, right, dtype=np.float32)
    ys = np.arange(top, bottom, dtype=np.float32)[:, None]
    return back[0, 0] * xs + (back[0, 1] * ys + back[0, 2]), back[1, 0] * xs + (back[1, 1] * ys + back[1, 2])


def _darken(
    frame: UInt8[np.ndarray, "H W 3"],
    alpha: UInt8[np.ndarray, "b w"],
    left: int,
    top: int,
    shadow: tuple[float, float, float],
) -> None:
    """A soft dark copy of the shape, shifted, on what is already in the frame."""
    height, width = frame.shape[:2]
    darkness, dx, dy = shadow[0], round(shadow[1]), round(shadow[2])
    x0, y0 = max(0, left + dx), max(0, top + dy)
    x1, y1 = min(width, left + dx + alpha.shape[1]), min(height, top + dy + alpha.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    shape = cv2.blur(alpha, (9, 9))[y0 - top - dy : y1 - top - dy, x0 - left - dx : x1 - left - dx]
    kept = 1 - shape.astype(np.float32) * np.float32(darkness / 255)
    region = frame[y0:y1, x0:x1]
    region[:] = cv2.multiply(np.ascontiguousarray(region), cv2.merge((kept, kept, kept)), dtype=cv2.CV_8U)
