"""Optional soft post-processing of masks, frame by frame, before objects are cut out along them."""

import io
import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, Integer, UInt8

from mnemask.errors import InputError, ObjectIdError
from mnemask.io.shapes import border_of, pieces_of
from mnemask.types import Frame, Masks, check_object_id

MOST_PIXELS, MOST_FRAMES = 200, 9
ALL = -1  # holes of any size
_SIGMA = 0.7  # pixels; the blur that softens hard edges

Alpha = Float32[np.ndarray, "H W"]
"""The degree to which each pixel belongs to an object, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Edges:
    """Operations on masks, applied in this order: smooth, largest, fill_holes, grow, feather.

    Attributes:
        smooth: the number of frames, odd, of the median that each pixel gets; 1 for none. Frames are written
            (smooth - 1) / 2 frames later.
        largest: whether to keep only the largest part of each object.
        fill_holes: the largest hole to fill in an object, in pixels; 0 for none, ALL for any.
        grow: pixels by which objects grow, negative to shrink.
        feather: pixels over which edges fade.

    Raises:
        InputError: a value is out of range.
    """

    smooth: int = 1
    largest: bool = False
    fill_holes: int = 0
    grow: int = 0
    feather: float | int = 0.0

    def __post_init__(self) -> None:
        if not (1 <= self.smooth <= MOST_FRAMES and self.smooth % 2):
            raise InputError(f"cannot smooth over {self.smooth} frames", "expected 1, 3, 5, 7 or 9 (--smooth)")
        for name, value in (("shrink" if self.grow < 0 else "grow", abs(self.grow)), ("feather", self.feather)):
            if not 0 <= value <= MOST_PIXELS:
                raise InputError(f"cannot {name} masks by {value} pixels", f"expected 0 to {MOST_PIXELS}")
        if self.fill_holes < ALL:
            raise InputError(f"cannot fill holes of {self.fill_holes} pixels", "expected 0 or more, or all")

    @property
    def delay(self) -> int:
        """The number of frames by which writing lags behind."""
        return self.smooth // 2

    def apply(self, masks: Masks) -> Masks:
        """Returns the masks after all operations that need a single frame, that is, all but `smooth`."""
        if self == Edges(self.smooth) or not masks.object_ids:
            return masks
        return masks_of(np.stack([self._shaped(alpha) for alpha in _objects(masks)]), masks)

    def _shaped(self, alpha: Alpha) -> Alpha:
        if self.largest:
            alpha = alpha * _kept(alpha, largest=True)
        if self.fill_holes:
            alpha = 1 - (1 - alpha) * _kept(1 - alpha, above=self.fill_holes)
        if self.grow:
            side = 2 * abs(self.grow) + 1
            disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
            # An object is taken to continue beyond the picture, so that shrinking does not detach it from the border.
            alpha = (cv2.dilate if self.grow > 0 else cv2.erode)(alpha, disc)
        if self.feather:
            alpha = cv2.GaussianBlur(alpha, (0, 0), self.feather / 2, borderType=cv2.BORDER_REPLICATE)
        return np.asarray(alpha, np.float32)


@dataclass(frozen=True, slots=True)
class Cutout:
    """How objects are cut out of their video.

    Attributes:
        objects: the ids of the objects to keep, in videos for editors; empty for all.
        background: red, green and blue of a green screen, 0 to 255.
        edges: the operations applied to the masks first.

    Raises:
        InputError: a value is out of range.
    """

    objects: tuple[int, ...] = ()
    background: tuple[int, int, int] = (0, 255, 0)
    edges: Edges = Edges()

    def __post_init__(self) -> None:
        for object_id in self.objects:
            check_object_id(object_id)
        if len(self.background) != 3 or not all(0 <= level <= 255 for level in self.background):
            raise InputError(f"{self.background} is not a colour", "expected red, green and blue from 0 to 255")

    def alpha(self, masks: Masks) -> Alpha:
        """Returns the degree to which each pixel belongs to the kept objects; 0 if none of them is there."""
        if not self.objects:
            return np.asarray(1 - masks.probs[0].float().cpu().numpy(), np.float32).clip(0, 1)
        rows = [row for row, object_id in enumerate(masks.object_ids, 1) if object_id in self.objects]
        return np.asarray(masks.probs[rows].float().sum(0).cpu().numpy(), np.float32).clip(0, 1)

    def refuse_unknown(self, object_ids: tuple[int, ...]) -> None:
        """Raises ObjectIdError if an object to keep is not among these ids."""
        if unknown := [object_id for object_id in self.objects if object_id not in object_ids]:
            raise ObjectIdError(
                f"object {unknown[0]} is not in the masks", f"they have {', '.join(map(str, object_ids)) or 'none'}"
            )


class Smoother:
    """The median of each pixel over the frames around it; holds that many frames in memory.

    Probabilities are held with 8 bits. At both ends of a video the median covers the frames that exist.

    Args:
        frames: the number of frames of the median, odd.
        saved: what `save` of an earlier smoother returned, to resume it.
    """

    def __init__(self, frames: int, saved: bytes | None = None) -> None:
        self._half = frames // 2
        self._window: deque[_Held] = deque(maxlen=frames)
        self._waiting: deque[Frame | None] = deque()
        if saved is not None:
            self._load(saved)

    def add(self, masks: Masks, frame: Frame | None) -> Iterator[tuple[Masks, Frame | None]]:
        """Adds a frame; yields the frame whose window is now complete, if any."""
        probs = np.round(_objects(masks) * 255).astype(np.uint8)
        self._window.append(_Held(masks.object_ids, masks.index, masks.name, probs))
        self._waiting.append(frame)
        if len(self._waiting) > self._half:
            yield self._next()

    def flush(self) -> Iterator[tuple[Masks, Frame | None]]:
        """Yields the remaining frames."""
        while self._waiting:
            yield self._next()

    def _next(self) -> tuple[Masks, Frame | None]:
        while len(self._window) - len(self._waiting) > self._half:
            self._window.popleft()
        middle = self._window[-len(self._waiting)]
        shape = middle.probs.shape[1:]
        # An object that is missing from a frame of the window has probability 0 there.
        ids = tuple(dict.fromkeys(object_id for held in self._window for object_id in held.ids))
        alphas = np.zeros((len(ids), *shape), np.float32)
        for row, object_id in enumerate(ids):
            alphas[row] = np.median([held.of(object_id) for held in self._window], axis=0) / 255
        empty = Masks(torch.zeros(shape, dtype=torch.int32), torch.ones((1, *shape)), ())
        masks = replace(empty, object_ids=ids, index=middle.index, name=middle.name)
        return masks_of(alphas, masks), self._waiting.popleft()

    def save(self) -> bytes:
        """Returns the state, from which another smoother can resume."""
        facts = [[held.ids, held.index, held.name] for held in self._window]
        arrays = {f"probs{number}": held.probs for number, held in enumerate(self._window)}
        times: list[object] = []
        for number, frame in enumerate(self._waiting):
            times.append(frame and [frame.index, frame.seconds, frame.name, str(frame.pixel_aspect), frame.duration])
            if frame is not None:
                arrays[f"image{number}"] = frame.image.cpu().numpy()
                if frame.ycbcr is not None:
                    arrays[f"ycbcr{number}"] = frame.ycbcr
        packed = io.BytesIO()
        np.savez(packed, facts=np.array(json.dumps([facts, times])), allow_pickle=False, **arrays)
        return packed.getvalue()

    def _load(self, saved: bytes) -> None:
        with np.load(io.BytesIO(saved), allow_pickle=False) as arrays:
            facts, times = json.loads(str(arrays["facts"]))
            for number, (ids, index, name) in enumerate(facts):
                self._window.append(_Held(tuple(ids), index, name, arrays[f"probs{number}"]))
            for number, fact in enumerate(times):
                if fact is None:
                    self._waiting.append(None)
                    continue
                index, seconds, name, aspect, *duration = fact  # which checkpoints of earlier versions lack
                image, ycbcr = torch.from_numpy(arrays[f"image{number}"]), arrays.get(f"ycbcr{number}")
                self._waiting.append(Frame(image, index, seconds, name, Fraction(aspect), ycbcr, *duration))


@dataclass(frozen=True, slots=True)
class _Held:
    """One frame's masks in the window: ids, index, name, and probabilities of the objects from 0 to 255."""

    ids: tuple[int, ...]
    index: int
    name: str
    probs: UInt8[np.ndarray, "K H W"]

    def of(self, object_id: int) -> UInt8[np.ndarray, "H W"]:
        """Returns the probabilities of an object, all 0 if it is not in the frame."""
        return (
            self.probs[self.ids.index(object_id)] if object_id in self.ids else np.zeros(self.probs.shape[1:], np.uint8)
        )


def soft_masks(labels: Integer[np.ndarray, "H W"], object_ids: Sequence[int], index: int, name: str) -> Masks:
    """Returns the masks of a label map, with the hard edges blurred by about one pixel.

    Args:
        labels: the object at each pixel, 0 for none.
        object_ids: the ids of all objects, in order.
        index: the frame's number.
        name: the frame's name.
    """
    alphas = np.zeros((len(object_ids), *labels.shape), np.float32)
    for alpha, object_id in zip(alphas, object_ids, strict=True):
        hard = (labels == object_id).astype(np.float32)
        alpha[:] = cv2.GaussianBlur(hard, (0, 0), _SIGMA, borderType=cv2.BORDER_REPLICATE)
    kept = torch.from_numpy(labels.astype(np.int32))
    masks = Masks(kept, torch.ones((1, *labels.shape)), tuple(object_ids), index, name)
    return replace(masks_of(alphas, masks), labels=kept)


def masks_of(alphas: Float32[np.ndarray, "K H W"], masks: Masks) -> Masks:
    """Returns the masks with these probabilities of the objects; the background gets the remainder.

    Where they add up to more than 1, they are scaled down in proportion.
    """
    total = alphas.sum(0, dtype=np.float32) if len(alphas) else np.zeros(masks.labels.shape, np.float32)
    alphas = alphas / np.maximum(total, 1)
    probs = np.concatenate((1 - np.minimum(total, 1)[None], alphas))
    ids = np.array([0, *masks.object_ids], np.int32)
    return replace(
        masks,
        labels=torch.from_numpy(ids[probs.argmax(0)]),
        probs=torch.from_numpy(np.ascontiguousarray(probs, np.float32)),
    )


def _objects(masks: Masks) -> Float32[np.ndarray, "K H W"]:
    return np.asarray(masks.probs[1:].float().cpu().numpy(), np.float32)


def _kept(alpha: Alpha, *, largest: bool = False, above: int = 0) -> Bool[np.ndarray, "H W"]:
    """Returns which pixels belong to the parts that are kept, soft edges included: each goes with the nearest part.

    Args:
        alpha: the alpha of an object, or of its complement.
        largest: whether to keep only the largest part.
        above: the size in pixels up to which parts that do not touch the border are dropped; ALL for any size.
    """
    inside = alpha >= 0.5
    parts, areas = pieces_of(inside)
    if len(areas) <= 1:
        return np.ones(alpha.shape, bool)
    if largest:
        keep = np.arange(len(areas)) == areas.argmax()
    else:
        rim = border_of(parts)
        keep = np.zeros(len(areas), bool)
        keep[np.unique(rim)] = True
        if above != ALL:
            keep |= areas > above
    keep[0] = False
    _, nearest = cv2.distanceTransformWithLabels(
        (~inside).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_CCOMP
    )
    # OpenCV numbers the parts differently here.
    own = np.zeros(int(nearest.max()) + 1, bool)
    own[nearest[inside]] = keep[parts[inside]]
    kept: Bool[np.ndarray, "H W"] = own[nearest]
    return kept
