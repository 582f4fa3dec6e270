"""Cut-outs that turn: an object of a photograph gets a body, so that it can show its sides and its back."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mnemask.datasets.composite.appearance import log_uniform, recolour, smooth_path

LARGEST = 224  # pixels along a side; larger cut-outs are downscaled, which keeps clips cheap
DENSITY = 3  # points per pixel of a row: a surface that is as steep as 2 is stretched by up to 2.2
ACROSS = np.ones((1, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class Body:
    """A cut-out with a front and a back of the same bulging shape.

    Attributes:
        front, back: RGB pictures.
        opacity: opacity of the object.
        depth: depth of the front in pixels towards the viewer, with a slope of at most 2; the back is its mirror image.
    """

    front: UInt8[np.ndarray, "h w 3"]
    back: UInt8[np.ndarray, "h w 3"]
    opacity: UInt8[np.ndarray, "h w"]
    depth: Float[np.ndarray, "h w"]

    def view(self, angle: float, light: Float[np.ndarray, " 3"]) -> UInt8[np.ndarray, "h w 4"]:
        """Returns RGB times opacity, and opacity, of the body turned by `angle` (radians) about its upright axis.

        Args:
            angle: 0 shows the front unchanged, half a turn the back.
            light: direction of the light (x, y, towards the viewer); its length is the strength.
        """
        height, width = self.opacity.shape
        dense = (width * DENSITY, height)
        xs, ys = np.nonzero(cv2.resize(self.opacity, dense, interpolation=cv2.INTER_LINEAR).T > 127)  # by x
        depth = cv2.resize(self.depth, dense, interpolation=cv2.INTER_LINEAR)[ys, xs]
        x, column = (xs + 0.5) / DENSITY - width / 2, xs // DENSITY
        slope_y, slope_x = (slope[ys, column] for slope in np.gradient(self.depth))
        steep = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)
        cos, sin = np.cos(angle), np.sin(angle)
        # Painted in this order, nearer points cover farther ones without comparing depths (McMillan and Bishop,
        # Plenoptic Modeling, SIGGRAPH 1995).
        way = -1 if sin > 0 else 1
        shown = np.zeros((height, width, 4), np.uint8)
        for colours, side in ((self.back, -1), (self.front, 1)) if cos > 0 else ((self.front, 1), (self.back, -1)):
            points = np.flatnonzero(side * cos + slope_x * sin > 0)[::way]
            across = x[points] * cos + side * depth[points] * sin + width / 2
            # The photograph already contains shading: only the change caused by the turn is added.
            before = light[2] - side * light[0] * slope_x
            after = light[0] * (side * sin - slope_x * cos) + light[2] * (side * cos + slope_x * sin)
            gain = np.exp(np.clip((after - before) * steep, -1, 1))[points, None]
            target = np.clip(across.astype(int), 0, width - 1)
            row = ys[points]
            shown[row, target, :3] = np.minimum(colours[row, column[points]] * gain, 255)
            shown[row, target, 3] = 255
        # There may be a gap of one pixel between front and back.
        gaps = (cv2.morphologyEx(shown[..., 3], cv2.MORPH_CLOSE, ACROSS) > 0) & (shown[..., 3] == 0)
        shown[gaps] = cv2.dilate(shown, ACROSS)[gaps]
        return cv2.GaussianBlur(shown, (3, 3), 0.6)


def turning(
    rng: np.random.Generator, pixels: UInt8[np.ndarray, "h w 4"], num_frames: int
) -> tuple[UInt8[np.ndarray, "T H W 4"], float]:
    """Returns a cut-out in each frame while it turns about its upright axis, and the factor by which it was scaled.

    Pixels are RGB times opacity, and opacity. The object is 0.4 to 1 times as deep as it is wide and starts up to 60
    degrees from its front; its back has the front's colours, mirrored and in other tints.
    """
    smaller = min(1.0, LARGEST / max(pixels.shape))
    if smaller < 1:
        pixels = cv2.resize(pixels, None, fx=smaller, fy=smaller, interpolation=cv2.INTER_AREA)
    body = _body(rng, pixels)
    step = log_uniform(rng, 0.05, 0.9)
    angles = np.clip(rng.normal(0, 0.5), -1.05, 1.05) + smooth_path(rng, num_frames, 1)[:, 0] * step
    light = rng.standard_normal(3) * rng.uniform(0, 0.35)
    return np.stack([body.view(float(angle), light) for angle in angles]), smaller


def _body(rng: np.random.Generator, pixels: UInt8[np.ndarray, "h w 4"]) -> Body:
    opacity = pixels[..., 3]
    solid = (opacity > 127).astype(np.uint8)
    framed = cv2.copyMakeBorder(solid, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    inside = cv2.distanceTransform(framed, cv2.DIST_L2, 5)[1:-1, 1:-1]
    reach = max(float(inside.max()), 1.0)
    # A parabola over the distance from the outline: steepest there (twice the depth / radius), level in the middle.
    bulge = rng.uniform(0.4, 1.0) * inside * (2 - inside / reach)
    depth = cv2.GaussianBlur(bulge.astype(np.float32), (0, 0), 0.05 * reach + 0.5) * solid
    front = opaque(pixels)
    back = recolour(rng, _mirrored(front, solid), rng.uniform(0, 0.6))
    margin = int(np.ceil(float(depth.max()))) + 1
    edges = (1, 1, margin, margin)
    front, back = (cv2.copyMakeBorder(side, *edges, cv2.BORDER_REPLICATE) for side in (front, back))
    whole = cv2.copyMakeBorder(np.ascontiguousarray(opacity), *edges, cv2.BORDER_CONSTANT)
    return Body(front, back, whole, cv2.copyMakeBorder(np.asarray(depth, np.float32), *edges, cv2.BORDER_CONSTANT))


def opaque(pixels: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 3"]:
    """Returns colours without opacity: at the rim the mean of the surroundings, farther out the overall mean."""
    around = cv2.blur(pixels, (5, 5)).astype(np.float32)
    around = np.where(around[..., 3:] > 0, around, pixels.reshape(-1, 4).mean(0))
    mean = around[..., :3] * (255 / np.maximum(around[..., 3:], 1e-3))
    colours = np.where(pixels[..., 3:] > 250, pixels[..., :3], mean)
    return np.asarray(np.minimum(colours, 255), np.uint8)


def _mirrored(front: UInt8[np.ndarray, "h w 3"], solid: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Each row of an object reversed between its ends; pixels that would come from outside are unchanged."""
    height, width = solid.shape
    left, right = solid.argmax(1), width - 1 - solid[:, ::-1].argmax(1)
    columns = np.clip((left + right)[:, None] - np.arange(width), 0, width - 1)
    rows = np.arange(height)[:, None]
    return np.where(solid[rows, columns][..., None] > 0, front[rows, columns], front)
