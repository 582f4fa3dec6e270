"""How the camera and the things before it move through a clip."""

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from mnemask.datasets.composite.appearance import affine_path, bend_path, log_uniform, smooth_path, zoom_path
from mnemask.datasets.composite.layers import Layer, Scene, Track
from mnemask.datasets.composite.photographs import CutOut

MOST_COVERED = 0.7  # of a frame, by something that comes nearer


def film_scene(
    rng: np.random.Generator,
    image: UInt8[np.ndarray, "h w 3"],
    masks: list[Bool[np.ndarray, "h w"]],
    size: int,
    num_frames: int,
    step: float,
    most: float = 1.0,
) -> Scene:
    """Returns the photograph seen by a camera that moves by `step` (share of the frame) from frame to frame.

    It comes nearer or draws back by up to `most` times. With masks, the first view is on their objects, which then
    cover from 1.5 to 50 % of it where the photograph allows.
    """
    height, width = image.shape[:2]
    shorter = min(height, width)
    bounds = np.array([width, height], float)
    zoom, middle = log_uniform(rng, 1.0, 2.0), rng.random(2) * bounds
    if masks:
        ys, xs = np.nonzero(np.logical_or.reduce(masks))
        zoom = float(np.clip(shorter * np.sqrt(log_uniform(rng, 0.015, 0.5) / len(xs)), 1.0, 3.5))
        pick = int(rng.integers(len(xs)))
        at_pixel, at_mean = np.array([xs[pick], ys[pick]]), np.array([xs.mean(), ys.mean()])
        middle = at_mean + rng.uniform(0, 0.7) * (at_pixel - at_mean) + rng.uniform(-0.25, 0.25, 2) * shorter / zoom
    near = zoom_path(rng, num_frames, most)
    # The frame that shows most still shows no more than there is.
    side = min(shorter / zoom, shorter * float(near.min()))
    low = np.minimum(side / near.min() / 2, bounds / 2)
    middle = np.clip(middle, low, bounds - low)
    path = smooth_path(rng, num_frames, 6) * step
    aspect = np.exp(rng.normal(0, 0.06) + path[:, 5] * 0.3)
    grow = np.exp(path[:, 2] * rng.uniform(0, 1)) * near * size / side
    scale = np.stack((grow * aspect * rng.choice([-1, 1]), grow / aspect), -1)
    angle = rng.normal(0, 0.12) + path[:, 3] * rng.uniform(0, 2)
    position = size * (0.5 + path[:, :2] * (0.6 if masks else 1.0))
    bend = None
    if rng.random() < (0.7 if masks else 0.25):
        bend = bend_path(rng, num_frames, side * min(0.05, 0.004 + step * rng.uniform(0, 0.4)))
    return Scene(image, masks, affine_path(middle.tolist(), position, angle, scale, path[:, 4] * 0.5), bend)


def move(
    rng: np.random.Generator,
    cut_out: CutOut,
    label: int,
    size: int,
    num_frames: int,
    step: float,
    leave: float = 0.0,
    most: float = 1.0,
) -> Layer:
    """Returns the cut-out on a smooth path of its own, turning, growing and bending on the way.

    In the first frame it covers 0.8 to 45 % of the frame, where its resolution allows. `step` is the motion from frame
    to frame as a share of the frame, `leave` how likely it is out of the picture for a frame after the first, `most`
    by how many times it grows or shrinks at most; `label` is 0 if it is not to be followed.
    """
    near, share = zoom_path(rng, num_frames, most), log_uniform(rng, 0.008, 0.45)
    # Nothing grows until it covers the whole frame.
    near = np.minimum(near, max(1.0, float(np.sqrt(MOST_COVERED / share))))
    pixels, grow = fit(cut_out, size, share, float(near.max()))
    step *= log_uniform(rng, 0.4, 1.5)
    path = smooth_path(rng, num_frames, 5) * step
    position = size * _folded(rng.uniform(0.12, 0.88, 2) + path[:, :2])
    if rng.random() < leave:
        _leave(rng, position, size, grow * max(pixels.shape) * 0.6)
    scale = grow * near * np.exp(path[:, 2] * rng.uniform(0, 1.2))
    aspect = np.exp(rng.normal(0, 0.08))
    stretch = np.stack((scale * aspect * rng.choice([-1, 1]), scale / aspect), -1)
    angle = rng.normal(0, 0.25) + path[:, 3] * rng.uniform(0, 3)
    middle = (pixels.shape[1] / 2, pixels.shape[0] / 2)
    to_frame = affine_path(middle, position, angle, stretch, path[:, 4] * 0.5)
    bend = None
    if rng.random() < 0.8:
        reach = float(np.sqrt(pixels.shape[0] * pixels.shape[1]))
        bend = bend_path(rng, num_frames, reach * min(0.055, 0.008 + step * rng.uniform(0, 0.6)))
    light = smooth_path(rng, num_frames, 1)[:, 0] * (rng.uniform(0, 0.3) if rng.random() < 0.4 else 0.0)
    smear = np.gradient(position, axis=0) * (rng.uniform(0.1, 0.4) if rng.random() < 0.25 else 0.0)
    shadow = (0.0, 0.0, 0.0)
    if rng.random() < 0.2:
        shadow = (rng.uniform(0.2, 0.7), *(rng.uniform(-0.1, 0.1, 2) * grow * max(pixels.shape)).tolist())
    return Layer(pixels, label, to_frame, bend, light, smear, shadow)


def pass_in_front(rng: np.random.Generator, cut_out: CutOut, target: Track, size: int, num_frames: int) -> Layer:
    """Returns the cut-out crossing the target's way: beside it in the first frame, before it in a later one."""
    share = (2 * target.radius / size) ** 2 * log_uniform(rng, 0.4, 2.0)
    pixels, grow = fit(cut_out, size, min(share, 0.5))
    height, width = pixels.shape[:2]
    tilt = rng.uniform(-0.4, 0.4)
    direction = np.array([np.cos(tilt), np.sin(tilt)]) * rng.choice([-1, 1])
    meeting = int(rng.integers(1, num_frames))
    gap = (target.radius + grow * width / 2) * rng.uniform(1.0, 1.6)
    away = (np.arange(num_frames) - meeting)[:, None] * direction * gap
    position = target.centre + away + rng.normal(0, 0.15, 2) * target.radius
    scale = np.full((num_frames, 2), grow)
    angle = np.full(num_frames, rng.normal(0, 0.15))
    to_frame = affine_path((width / 2, height / 2), position, angle, scale, np.zeros(num_frames))
    return Layer(pixels, 0, to_frame, None, np.zeros(num_frames), np.zeros((num_frames, 2)))


def fit(cut_out: CutOut, size: int, share: float, most: float = 1.0) -> tuple[UInt8[np.ndarray, "h w 4"], float]:
    """Returns the cut-out's pixels, colours times opacity, and the factor by which they then cover `share` of a frame.

    A factor above 3 would only show pixels, one far below 1 would alias: the pixels are shrunk first, though not below
    what they need where the cut-out is later shown `most` times as large.
    """
    red, green, blue, opacity = cv2.split(cut_out.pixels)
    pixels = cv2.merge([*(cv2.multiply(c, opacity, scale=1 / 255) for c in (red, green, blue)), opacity])
    grow = min(3.0, size * float(np.sqrt(share / max(1, cut_out.area))), 1.5 * size / max(pixels.shape))
    if grow * most < 0.75:
        small = (max(4, round(pixels.shape[1] * grow * most)), max(4, round(pixels.shape[0] * grow * most)))
        return cv2.resize(pixels, small, interpolation=cv2.INTER_AREA), 1.0 / most
    return pixels, grow


def _folded(position: Float[np.ndarray, "T 2"]) -> Float[np.ndarray, "T 2"]:
    """Positions (0 to 1 is the frame) turned back a little inside the border."""
    low, high = 0.03, 0.97
    phase = np.mod((position - low) / (high - low), 2)
    return np.asarray(low + (high - low) * (1 - np.abs(1 - phase)))


def _leave(rng: np.random.Generator, position: Float[np.ndarray, "T 2"], size: int, reach: float) -> None:
    """Moves one position after the first to the place just beyond the border that is nearest, in place."""
    away = int(rng.integers(1, max(2, len(position) - 1)))
    axis = int(np.argmax(np.abs(position[away] - size / 2)))
    position[away, axis] = size + reach if position[away, axis] > size / 2 else -reach
