"""Real clips with pasted objects: from other videos, from photographs, and doubles of their own objects."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from mnemask.datasets.annotated import AnnotatedVideo
from mnemask.datasets.clips import ClipShape, ClipSource, TrainingClip, keep_visible
from mnemask.datasets.composite.appearance import (
    affine_path,
    augment_appearance,
    log_uniform,
    smooth_path,
    zoom_path,
)
from mnemask.datasets.composite.layers import Layer, move
from mnemask.datasets.composite.photographs import StaticImages, read_rgb
from mnemask.datasets.stcn_augment import ColourJitter
from mnemask.datasets.video_clips import VideoClips, boxes_of, in_8_bits
from mnemask.errors import InputError
from mnemask.metrics import VOID

MAX_TRIES = 50
RIM = 3  # pixels; room for a soft edge
MIN_PIXELS = 300  # of a guest in its own video
MAX_GROWTH = 2.0  # larger scales would only show pixels
MAX_CUT = 0.15  # how much of a guest's box may lie along its video's border, which cuts it off straight
FOLLOWED_DOUBLES = 0.4  # the others are background
LOOK_ALIKES = 0.5  # of the doubles: about as large as the original, and in its colours
FROM_PHOTOGRAPHS = 0.5  # of the clips, if there are photographs
IN_FRONT = 0.6
REPAINT = ColourJitter(0.2, 0.2, 0.4, 0.08)


@dataclass(frozen=True, slots=True)
class Guest:
    """An object that is pasted into a clip.

    Attributes:
        layers: a layer for each frame, None where the object is not shown.
        label: its label in the clip, 0 if it is not followed.
        in_front: whether it passes in front of the host's objects; otherwise behind them.
    """

    layers: list[Layer | None]
    label: int
    in_front: bool


class PastedClips:
    """Endless clips of several objects with real motion that cross and occlude each other; a `ClipSource`.

    1 to 3 guests are pasted into the host's frames. Guests from other videos keep their motion and additionally follow
    a path that often meets one of the host's objects; sometimes they come from the same video and look alike. Guests
    from photographs move on a smooth path and bend. A double is a second copy of one of the host's own objects
    elsewhere, half of the time at another size and in other tints, mirrored or not, with its motion or the reverse of
    it; more often than not it is background. Of all objects visible in the first frame, up to `ClipShape.max_objects`
    are followed; the rest stay in the picture, unlabelled.

    Args:
        hosts: source of the clips that guests are pasted into.
        guests: sources of the guests with their weights; void is not cut out.
        zoom: maximum factor by which a guest grows or shrinks within a clip; 1 for none.
        doubles: fraction of the clips in which the first guest is a double.
        photographs: source of the other guests in half of the clips; None to use videos only.
        turned: probability that a guest from a photograph turns about its own axis.
    """

    def __init__(
        self,
        hosts: ClipSource,
        guests: Sequence[tuple[VideoClips, float]],
        zoom: float = 1.0,
        doubles: float = 0.0,
        photographs: StaticImages | None = None,
        turned: float = 0.0,
    ) -> None:
        self.hosts, self.zoom, self.doubles, self.photographs = hosts, zoom, doubles, photographs
        self.turned = turned
        self.guests = tuple(source for source, _ in guests)
        self.shares = np.array([weight for _, weight in guests]) / sum(weight for _, weight in guests)

    def draw(self, rng: np.random.Generator, shape: ClipShape) -> TrainingClip:
        """Returns a clip that depends on the state of `rng` and on `shape` alone; raises what the sources raise."""
        for _ in range(MAX_TRIES):
            host = self.hosts.draw(rng, replace(shape, max_objects=2))
            guests = self._guests(rng, shape, host)
            if not guests:
                continue
            frames, labels = _paint(host, guests)
            labels = _some(rng, labels, max(host.num_objects, *(guest.label for guest in guests)))
            labels, num_objects = keep_visible(labels, shape.max_objects)
            if num_objects:
                return TrainingClip(frames, labels, num_objects)
        raise InputError(f"{MAX_TRIES} clips drawn had no object to paste", "add videos with whole, large objects")

    def _guests(self, rng: np.random.Generator, shape: ClipShape, host: TrainingClip) -> list[Guest]:
        wanted = int(rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15]))
        twins = wanted > 1 and rng.random() < 0.5
        guests: list[Guest | None] = []
        if rng.random() < self.doubles:
            guests.append(self._double(rng, shape, host))
        label = host.num_objects + sum(guest is not None and guest.label > 0 for guest in guests) + 1
        others = range(label, label + wanted - len(guests))
        if self.photographs is not None and rng.random() < FROM_PHOTOGRAPHS:
            guests += self._cut_outs(rng, shape, host, others, twins)
        else:
            guests += self._from_videos(rng, shape, host, others, twins)
        return [guest for guest in guests if guest is not None]

    def _double(self, rng: np.random.Generator, shape: ClipShape, host: TrainingClip) -> Guest | None:
        """A copy of one of the host's own objects."""
        order = np.arange(shape.num_frames)[:: int(rng.choice([-1, 1]))]
        label = host.num_objects + 1 if rng.random() < FOLLOWED_DOUBLES else 0
        alike = bool(rng.random() < LOOK_ALIKES)
        return self._guest(rng, list(host.frames[order]), list(host.labels[order]), shape, host, label, alike)

    def _cut_outs(
        self, rng: np.random.Generator, shape: ClipShape, host: TrainingClip, labels: range, twins: bool
    ) -> Iterator[Guest]:
        """Objects of photographs, all from one set if they are twins."""
        assert self.photographs is not None
        step, set_name = log_uniform(rng, 0.006, 0.2), None
        for label in labels:
            cut_out = self.photographs.draw_cut_out(rng, set_name)
            set_name = cut_out.set_name if twins else None
            most = self.zoom if rng.random() < 0.5 else 1.0
            seen = augment_appearance(rng, cut_out, host.frames[0], self.photographs)
            layer = move(rng, seen, label, shape.size, shape.num_frames, step, leave=0.1, most=most, turned=self.turned)
            yield Guest([layer.at(t) for t in range(shape.num_frames)], label, bool(rng.random() < IN_FRONT))

    def _from_videos(
        self, rng: np.random.Generator, shape: ClipShape, host: TrainingClip, labels: range, twins: bool
    ) -> Iterator[Guest | None]:
        """Objects of other videos, all from one video if they are twins."""
        found: tuple[VideoClips, AnnotatedVideo] | None = None
        for label in labels:
            if found is None or not twins:
                source = self.guests[int(rng.choice(len(self.guests), p=self.shares))]
                found = source, source.draw_frames(rng, shape)[0]
            source, video = found
            _, indices = VideoClips([video], frame_step=source.frame_step).draw_frames(rng, shape)
            masks = in_8_bits(video, indices)
            yield self._guest(rng, [video.frames[index] for index in indices], masks, shape, host, label)

    def _guest(
        self,
        rng: np.random.Generator,
        pictures: Sequence[Path | UInt8[np.ndarray, "H W 3"]],
        masks: list[UInt8[np.ndarray, "H W"]],
        shape: ClipShape,
        host: TrainingClip,
        label: int,
        alike: bool = False,
    ) -> Guest | None:
        """A guest, or None if the first frame shows no object that can be cut out whole.

        If `alike`, the guest keeps its colours and about its size.
        """
        fit = [each for each in np.unique(masks[0]).tolist() if 0 < each < VOID and _is_whole(masks[0] == each)]
        if not fit:
            return None
        chosen = int(rng.choice(fit))
        shown = [(mask == chosen).astype(np.uint8) for mask in masks]
        boxes = boxes_of(masks, chosen)
        area = int(shown[0].sum())
        share = log_uniform(rng, 0.7, 1.4) * area / shape.size**2 if alike else log_uniform(rng, 0.01, 0.25)
        to_frame = _sample_path(rng, boxes, share / area, host, shape, self.zoom)
        colours = None if alike else REPAINT.draw(rng)
        layers: list[Layer | None] = []
        for picture, mask, view in zip(pictures, shown, to_frame, strict=True):
            if not mask.any():
                layers.append(None)
                continue
            rgb = read_rgb(picture) if isinstance(picture, Path) else picture
            pixels, corner = cut_out_of(rgb if colours is None else colours.apply(rgb), mask)
            layers.append(_layer(pixels, corner, view, label))
        return Guest(layers, label, bool(rng.random() < IN_FRONT))


def _layer(
    pixels: UInt8[np.ndarray, "h w 4"], corner: tuple[int, int], view: Float[np.ndarray, "2 3"], label: int
) -> Layer:
    """One frame of a guest, downscaled first if interpolation alone would skip pixels."""
    view = view.copy()
    view[:, 2] += view[:, :2] @ corner
    times = int(abs(np.linalg.det(view[:, :2])) ** -0.5)
    height, width = pixels.shape[:2]
    if times > 1 and min(height, width) >= 4 * times:
        pixels = cv2.resize(pixels, (width // times, height // times), interpolation=cv2.INTER_AREA)
        view[:, :2] *= (width / pixels.shape[1], height / pixels.shape[0])
    return Layer(pixels, label, view[None], None, np.zeros(1), np.zeros((1, 2)))


def _is_whole(mask: Bool[np.ndarray, "H W"]) -> bool:
    """Whether an object is large enough to be cut out and is not cut off by its video's border."""
    rim = np.count_nonzero(mask[[0, -1]]) + np.count_nonzero(mask[:, [0, -1]])
    _, _, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return bool(np.count_nonzero(mask) >= MIN_PIXELS and rim <= MAX_CUT * (width + height))


def _sample_path(
    rng: np.random.Generator,
    boxes: Float[np.ndarray, "T 4"],
    growth: float,
    host: TrainingClip,
    shape: ClipShape,
    zoom: float,
) -> Float[np.ndarray, "T 2 3"]:
    """Maps from the guest's frames to the clip's, in pixels (x, y): its size, its own motion, and an added path.

    `growth` is the fraction of the clip's area that the guest should cover / its area in pixels. In 60 % of the clips
    the path meets one of the host's objects in a frame after the first.
    """
    num_frames, size = shape.num_frames, shape.size
    near = zoom_path(rng, num_frames, zoom if rng.random() < 0.5 else 1.0)
    scale = size * float(np.sqrt(growth))
    scale = min(scale, MAX_GROWTH, 0.9 * size / float(boxes[0, 2:].max()))
    near = np.minimum(near, max(1.0, 1.2 * size / (scale * float(boxes[:, 2:].max()))))
    middle = boxes[:, :2] + boxes[:, 2:] / 2
    own = (middle - middle[0]) * scale * rng.uniform(0.3, 1.0)
    path = own + size * log_uniform(rng, 0.01, 0.2) * smooth_path(rng, num_frames, 2)
    begin = rng.uniform(0.1, 0.9, 2) * size
    if rng.random() < 0.6:
        meeting = int(rng.integers(1, num_frames))
        if (met := _middle_of(rng, host.labels[meeting])) is not None:
            # An added straight motion brings the guest there, whatever its own motion is until then.
            path += np.arange(num_frames)[:, None] / meeting * (met - begin - path[meeting])
    scales = np.repeat((scale * near)[:, None], 2, 1)
    scales[:, 0] *= rng.choice([-1, 1])
    angle = rng.normal(0, 0.1) + smooth_path(rng, num_frames, 1)[:, 0] * rng.uniform(0, 0.15)
    still = np.zeros(num_frames)
    maps = [
        affine_path(middle[t].tolist(), (begin + path[t])[None], angle[t : t + 1], scales[t : t + 1], still[:1])
        for t in range(num_frames)
    ]
    return np.concatenate(maps)


def _middle_of(rng: np.random.Generator, labels: UInt8[np.ndarray, "S S"]) -> Float[np.ndarray, " 2"] | None:
    """The centroid (x, y) of a random object, None if there are no objects."""
    ids = [each for each in np.unique(labels).tolist() if 0 < each < VOID]
    if not ids:
        return None
    ys, xs = np.nonzero(labels == int(rng.choice(ids)))
    return np.array([xs.mean(), ys.mean()])


def _paint(host: TrainingClip, guests: list[Guest]) -> tuple[UInt8[np.ndarray, "T S S 3"], UInt8[np.ndarray, "T S S"]]:
    """Frames and labels with all guests pasted; the host's objects keep their labels."""
    frames, labels = host.frames.copy(), host.labels.copy()
    for t in range(len(frames)):
        picture, label = frames[t].copy(), labels[t].copy()
        for guest in guests:
            if (layer := guest.layers[t]) is not None and not guest.in_front:
                layer.paint(0, picture, label)
        own = host.labels[t]
        if any(not guest.in_front for guest in guests) and own.any():
            picture = covered_by(host.frames[t], (own > 0).astype(np.uint8), picture)
            label[own > 0] = own[own > 0]
        for guest in guests:
            if (layer := guest.layers[t]) is not None and guest.in_front:
                layer.paint(0, picture, label)
        frames[t], labels[t] = picture, label
    return frames, labels


def _some(rng: np.random.Generator, labels: UInt8[np.ndarray, "T S S"], count: int) -> UInt8[np.ndarray, "T S S"]:
    """The labels in random order, so that all are equally likely to be followed if not all can be."""
    table = np.arange(256, dtype=np.uint8)
    table[1 : count + 1] = rng.permutation(count) + 1
    return np.asarray(cv2.LUT(labels.reshape(len(labels), -1), table).reshape(labels.shape))


def cut_out_of(
    picture: UInt8[np.ndarray, "H W 3"], mask: UInt8[np.ndarray, "H W"]
) -> tuple[UInt8[np.ndarray, "h w 4"], tuple[int, int]]:
    """Returns an object's pixels with a soft edge, RGB times opacity and opacity, and the x and y of their corner.

    Args:
        picture: RGB picture.
        mask: 1 where the object is, 0 elsewhere; not empty.
    """
    left, top, width, height = cv2.boundingRect(mask)
    rows, columns = slice(top, top + height), slice(left, left + width)
    # Shrunk by a pixel, so that no rim of the old background is included.
    opacity = cv2.GaussianBlur(cv2.erode(np.pad(mask[rows, columns] * 255, RIM), np.ones((3, 3))), (5, 5), 1.0)
    colours = cv2.copyMakeBorder(picture[rows, columns], RIM, RIM, RIM, RIM, cv2.BORDER_REPLICATE)
    pixels = cv2.merge([*(cv2.multiply(c, opacity, scale=1 / 255) for c in cv2.split(colours)), opacity])
    return pixels, (left - RIM, top - RIM)


def covered_by(
    front: UInt8[np.ndarray, "H W 3"], mask: UInt8[np.ndarray, "H W"], behind: UInt8[np.ndarray, "H W 3"]
) -> UInt8[np.ndarray, "H W 3"]:
    """Returns `behind` covered by `front` where a mask is 1 (0 elsewhere), with a soft edge."""
    cover = np.maximum(cv2.GaussianBlur(mask * np.float32(1), (3, 3), 0.8), mask)
    return cv2.blendLinear(front, behind, cover, 1 - cover)
