"""Colour and camera augmentation of real clips: small video sets overfit to their colours."""

import cv2
import numpy as np
from jaxtyping import UInt8

from mnemask.datasets.clips import ClipShape, ClipSource, TrainingClip
from mnemask.datasets.composite.appearance import sensor_effects, tint, tone_table

STRONGEST = 0.7  # 1 is garish
WHOLE = 0.5  # of these clips have one look for all
EDGE = 1.0  # pixels; standard deviation of the border between two looks


class NewLooks:
    """Gives clips of a source new looks; a `ClipSource`.

    All of a clip, or each object and what is around them on its own, gets other tones and tints, the same in all
    frames, as if it were another thing in another place that moves alike; then all goes through one camera
    (`sensor_effects`). Labels stay.

    Args:
        source: of the clips.
        share: in which part of them; the others stay as they are.
    """

    def __init__(self, source: ClipSource, share: float) -> None:
        self.source, self.share = source, share

    def draw(self, rng: np.random.Generator, shape: ClipShape) -> TrainingClip:
        """Returns a clip that depends on the state of `rng` and on `shape` alone; raises what the source raises."""
        clip = self.source.draw(rng, shape)
        if rng.random() >= self.share:
            return clip
        # Looks of their own leave a step along every outline, which real objects do not have.
        num_looks = 1 if rng.random() < WHOLE else clip.num_objects + 1
        looks = [_ColourShift(rng) for _ in range(num_looks)]
        frames = [_seen(frame, labels, looks) for frame, labels in zip(clip.frames, clip.labels, strict=True)]
        return TrainingClip(sensor_effects(rng, frames), clip.labels, clip.num_objects)


class _ColourShift:
    """A change of tone and of tint; weak more often than strong."""

    def __init__(self, rng: np.random.Generator) -> None:
        strength = STRONGEST * rng.random() ** 1.5
        self.tones = tone_table(*(rng.uniform(-1, 1, 5) * strength).tolist())
        self.hue, self.saturation = (rng.uniform(-1, 1, 2) * (0.5, 0.9) * strength).tolist()

    def apply(self, image: UInt8[np.ndarray, "S S 3"]) -> UInt8[np.ndarray, "S S 3"]:
        return tint(cv2.LUT(image, self.tones), self.hue, self.saturation)


def _seen(
    frame: UInt8[np.ndarray, "S S 3"], labels: UInt8[np.ndarray, "S S"], looks: list[_ColourShift]
) -> UInt8[np.ndarray, "S S 3"]:
    """A frame with the first look, and each object with its own where there are more."""
    seen = looks[0].apply(frame)
    for label, look in enumerate(looks[1:], 1):
        inside = cv2.GaussianBlur(cv2.inRange(labels, label, label), (0, 0), EDGE).astype(np.float32) / 255
        if inside.any():
            seen = cv2.blendLinear(look.apply(frame), seen, inside, 1 - inside)
    return np.asarray(seen, np.uint8)
