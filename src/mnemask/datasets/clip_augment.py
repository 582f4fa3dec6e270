"""Augmentation of clips from any source: new colours, camera effects, and screens with holes in front.

Training on small video sets overfits to their colours. Leaves, grass, fences and railings hide thin parts of objects
for many frames.
"""

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Float, Int32, UInt8

from mnemask.datasets.clips import ClipShape, ClipSource, TrainingClip, keep_visible
from mnemask.datasets.composite.appearance import (
    affine_path,
    log_uniform,
    recolour,
    sensor_effects,
    smooth_path,
    tint,
    tone_table,
)
from mnemask.datasets.composite.layers import Layer
from mnemask.datasets.composite.photographs import StaticImages

STRONGEST = 0.7  # 1 is garish
WHOLE = 0.5  # fraction of these clips with one look for everything
EDGE = 1.0  # pixels; standard deviation of the blend between two looks
MARGIN = 1.4  # side of a screen / side of a frame, so that it can drift
SUBPIXEL = 4  # fractional bits of OpenCV's coordinates
Opacity = UInt8[np.ndarray, "H H"]


class NewLooks:
    """Gives clips of a source new looks; a `ClipSource`.

    The whole clip, or each object and the background separately, gets other tones and tints, the same in all frames,
    like a different object in a different place with the same motion; then `sensor_effects` are applied to the whole
    clip. Labels do not change.

    Args:
        source: source of the clips.
        share: fraction of the clips that are changed.
    """

    def __init__(self, source: ClipSource, share: float) -> None:
        self.source, self.share = source, share

    def draw(self, rng: np.random.Generator, shape: ClipShape) -> TrainingClip:
        """Returns a clip that depends on the state of `rng` and on `shape` alone; raises what the source raises."""
        clip = self.source.draw(rng, shape)
        if rng.random() >= self.share:
            return clip
        # Separate looks leave a step along every outline, which real objects do not have.
        num_looks = 1 if rng.random() < WHOLE else clip.num_objects + 1
        looks = [_ColourShift(rng) for _ in range(num_looks)]
        frames = [_seen(frame, labels, looks) for frame, labels in zip(clip.frames, clip.labels, strict=True)]
        return TrainingClip(sensor_effects(rng, frames), clip.labels, clip.num_objects)


class _ColourShift:
    """A change of tone and tint, weak more often than strong."""

    def __init__(self, rng: np.random.Generator) -> None:
        strength = STRONGEST * rng.random() ** 1.5
        self.tones = tone_table(*(rng.uniform(-1, 1, 5) * strength).tolist())
        self.hue, self.saturation = (rng.uniform(-1, 1, 2) * (0.5, 0.9) * strength).tolist()

    def apply(self, image: UInt8[np.ndarray, "S S 3"]) -> UInt8[np.ndarray, "S S 3"]:
        return tint(cv2.LUT(image, self.tones), self.hue, self.saturation)


def _seen(
    frame: UInt8[np.ndarray, "S S 3"], labels: UInt8[np.ndarray, "S S"], looks: list[_ColourShift]
) -> UInt8[np.ndarray, "S S 3"]:
    """A frame in the first look, with each object in its own if there are more."""
    seen = looks[0].apply(frame)
    for label, look in enumerate(looks[1:], 1):
        inside = cv2.GaussianBlur(cv2.inRange(labels, label, label), (0, 0), EDGE).astype(np.float32) / 255
        if inside.any():
            seen = cv2.blendLinear(look.apply(frame), seen, inside, 1 - inside)
    return np.asarray(seen, np.uint8)


class Screens:
    """Puts a screen with holes in front of clips of a source; a `ClipSource`.

    The screen stands still or drifts slowly, like something close to a moving camera. What is visible through the holes
    keeps its label; the screen has none.

    Args:
        source: source of the clips.
        photographs: source of the screens' colours.
        share: fraction of the clips with a screen.
    """

    def __init__(self, source: ClipSource, photographs: StaticImages, share: float) -> None:
        self.source, self.photographs, self.share = source, photographs, share

    def draw(self, rng: np.random.Generator, shape: ClipShape) -> TrainingClip:
        """Returns a clip that depends on the state of `rng` and on `shape` alone; raises what the source raises."""
        clip = self.source.draw(rng, shape)
        if rng.random() >= self.share:
            return clip
        screen = self._screen(rng, shape)
        frames, labels = clip.frames.copy(), clip.labels.copy()
        for t in range(shape.num_frames):
            screen.paint(t, frames[t], labels[t])
        labels, num_objects = keep_visible(labels, shape.max_objects)
        return TrainingClip(frames, labels, num_objects) if num_objects else clip

    def _screen(self, rng: np.random.Generator, shape: ClipShape) -> Layer:
        side = round(MARGIN * shape.size)
        kind = KINDS[int(rng.integers(len(KINDS)))]
        opacity = cv2.GaussianBlur(kind(rng, side), (3, 3), log_uniform(rng, 0.4, 1.2))
        colours = cv2.resize(self.photographs.draw_image(rng), (side, side), interpolation=cv2.INTER_AREA)
        colours = recolour(rng, colours, rng.uniform(0, 0.8))
        weight = opacity.astype(np.float32)[..., None] / 255
        pixels = np.dstack((colours * weight, opacity)).astype(np.uint8)
        still, num_frames = np.zeros(shape.num_frames), shape.num_frames
        path = smooth_path(rng, num_frames, 3) * log_uniform(rng, 0.002, 0.05)
        scale = np.exp(path[:, 2:] * 0.5) * np.array([rng.choice([-1, 1]), 1.0])
        angle = np.full(num_frames, rng.normal(0, 0.1))
        middle = shape.size / 2 + shape.size * path[:, :2]
        to_frame = affine_path((side / 2, side / 2), middle, angle, scale, still)
        return Layer(pixels, 0, to_frame, None, still, np.zeros((num_frames, 2)))


def _leaves(rng: np.random.Generator, side: int) -> Opacity:
    """Twigs with leaves along them, in one corner or all over."""
    opacity = np.zeros((side, side), np.uint8)
    length, slender = log_uniform(rng, 0.012, 0.05) * side, rng.uniform(0.3, 0.6)
    root, reach = rng.random(2) * side, rng.uniform(0.25, 0.8) * side
    for _ in range(int(rng.integers(5, 25))):
        begin, direction = root + rng.normal(0, 0.25, 2) * reach, rng.uniform(0, 2 * np.pi)
        end = begin + reach * rng.uniform(0.3, 1) * np.array([np.cos(direction), np.sin(direction)])
        cv2.line(opacity, _fixed(begin), _fixed(end), 255, int(rng.integers(2, 6)), cv2.LINE_AA, SUBPIXEL)
        for at in rng.random(int(rng.integers(8, 30))):
            middle = begin + at * (end - begin) + rng.normal(0, 0.6, 2) * length
            axes = _fixed(length * np.array([1, slender]) * rng.uniform(0.5, 1.2) / 2)
            turn = np.rad2deg(direction) + rng.normal(0, 50)
            cv2.ellipse(opacity, _fixed(middle), axes, turn, 0, 360, 255, -1, cv2.LINE_AA, SUBPIXEL)
    return opacity


def _grass(rng: np.random.Generator, side: int) -> Opacity:
    """Blades that rise from the bottom, thick at the foot and thin at the tip."""
    opacity = np.zeros((side, side), np.uint8)
    height, width = side * rng.uniform(0.3, 0.75), log_uniform(rng, 2.0, 7.0)
    for foot in rng.uniform(0, side, int(rng.integers(40, 200))):
        tall, lean = height * rng.uniform(0.5, 1.1), rng.normal(0, 0.25) * height
        rise = np.linspace(0, 1, 6)[:, None]
        spine = np.hstack((foot + lean * rise**2, side - tall * rise))
        half = np.hstack((width / 2 * (1 - rise), np.zeros_like(rise)))
        outline = np.vstack((spine - half, (spine + half)[::-1]))
        cv2.fillPoly(opacity, [_points(outline)], 255, cv2.LINE_AA, SUBPIXEL)
    return opacity


def _fence(rng: np.random.Generator, side: int) -> Opacity:
    """Evenly spaced bars: upright ones with rails, or two slanting sets that form a net."""
    opacity = np.zeros((side, side), np.uint8)
    gap = log_uniform(rng, 0.03, 0.15) * side
    thick = max(2, round(gap * rng.uniform(0.08, 0.35)))
    slants = (rng.uniform(0.5, 1.2), -rng.uniform(0.5, 1.2)) if rng.random() < 0.4 else (rng.normal(0, 0.03),)
    for slant in slants:
        for x in np.arange(-side, 2 * side, gap):
            ends = _fixed(np.array([x, 0.0])), _fixed(np.array([x + slant * side, float(side)]))
            cv2.line(opacity, *ends, 255, thick, cv2.LINE_AA, SUBPIXEL)
    for y in rng.uniform(0.1, 0.9, int(rng.integers(0, 4))) * side:
        cv2.line(
            opacity, _fixed(np.array([0.0, y])), _fixed(np.array([float(side), y])), 255, thick, cv2.LINE_AA, SUBPIXEL
        )
    return opacity


def _patches(rng: np.random.Generator, side: int) -> Opacity:
    """Regions where random noise is above a level, like a hedge, foliage or lace."""
    cells = round(log_uniform(rng, 20.0, 90.0))
    rough = np.zeros((side, side), np.float32)
    for weight, n in ((1.0, cells), (0.5, 2 * cells), (0.8, 3)):
        rough += weight * cv2.resize(rng.random((n, n), np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    level = np.quantile(rough[::4, ::4], rng.uniform(0.6, 0.85))
    return np.asarray(rough > level, np.uint8) * np.uint8(255)


KINDS: tuple[Callable[[np.random.Generator, int], Opacity], ...] = (_leaves, _grass, _fence, _patches)


def _points(places: Float[np.ndarray, "*n 2"]) -> Int32[np.ndarray, "*n 2"]:
    """Pixel coordinates for OpenCV's drawing functions, with `SUBPIXEL` fractional bits."""
    return np.asarray(np.round(places * 2**SUBPIXEL), np.int32)


def _fixed(place: Float[np.ndarray, " 2"]) -> tuple[int, int]:
    x, y = _points(place).tolist()
    return x, y
