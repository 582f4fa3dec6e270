"""Training clips from real video in which everything that moves is foreground, `video/NAME/{frames,masks}`."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mnemask.datasets.clips import ClipShape
from mnemask.datasets.composite.appearance import affine_path, log_uniform, smooth_path
from mnemask.datasets.composite.photographs import pairs_in, read_rgb
from mnemask.errors import InputError
from mnemask.io.label_files import read_labels
from mnemask.metrics import VOID

MAX_TRIES = 50
MIN_FOREGROUND = 0.003
MIN_OVERLAP = 0.4
# In the first three, cars move farther than their own length between two frames, so overlap does not identify them; the
# masks of the last belong to frames seven or eight earlier.
LEFT_OUT = frozenset({"cdnet__highway", "sbi2015__HighwayI", "sbi2015__HighwayII", "ucsd__flock"})
# The mask of frame t is stored as t + shift, the shift at which mask borders agree best with edges in the frames.
MASK_SHIFT = {"ucsd__bottle": 1, "ucsd__hockey": 1, "ucsd__jump": -1, "ucsd__surf": 1}


@dataclass(frozen=True, slots=True)
class ForegroundSequence:
    """The files of one video, in order."""

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]


class RealClips:
    """Clips of the usable videos under `root`; masks are 0, 1 for everything that moves, 255 for unknown.

    Raises:
        InputError: there are no videos, or a frame has no mask.
    """

    def __init__(self, root: Path) -> None:
        self.sequences = _sequences(root)

    def draw(
        self, rng: np.random.Generator, shape: ClipShape
    ) -> tuple[list[UInt8[np.ndarray, "S S 3"]], UInt8[np.ndarray, "T S S"]]:
        """Returns frames (RGB), 1 to `shape.max_gap` apart, forwards or backwards, and labels.

        Things that appear after the first frame are labelled 255: they are foreground, but not objects to follow.
        """
        size, num_frames = shape.size, shape.num_frames
        fit = [sequence for sequence in self.sequences if len(sequence.frames) >= num_frames]
        if not fit:
            longest = max(len(sequence.frames) for sequence in self.sequences)
            raise InputError(
                f"clips of {num_frames} frames cannot be drawn from videos of at most {longest}", "use shorter clips"
            )
        for _ in range(MAX_TRIES):
            sequence = fit[int(rng.integers(len(fit)))]
            span = _span(rng, len(sequence.frames), num_frames, shape.max_gap)
            onward = 1 if span[-1] > span[0] else -1
            masks = [read_labels(sequence.masks[i]) for i in range(span[0], span[-1] + onward, onward)]
            labels = _follow(rng, masks, [abs(i - span[0]) for i in span], shape.max_objects)
            views = _views(rng, labels[0], size, num_frames)
            seen = [_warp_labels(label, view, size) for label, view in zip(labels, views, strict=True)]
            if np.count_nonzero((seen[0] > 0) & (seen[0] < VOID)) < MIN_FOREGROUND * size * size:
                continue
            frames = [
                cv2.warpAffine(read_rgb(sequence.frames[i]), view, (size, size), borderMode=cv2.BORDER_REFLECT_101)
                for i, view in zip(span, views, strict=True)
            ]
            if rng.random() < 0.5:
                return [np.ascontiguousarray(frame[:, ::-1]) for frame in frames], np.stack(seen)[..., ::-1].copy()
            return frames, np.stack(seen)
        raise InputError(
            f"{MAX_TRIES} clips drawn from {self.sequences[0].frames[0].parent.parent.parent} had no foreground in "
            "their first frame",
            "set masks to 1, not 255, where something moves",
        )


def _span(rng: np.random.Generator, length: int, num_frames: int, max_gap: int) -> list[int]:
    """Indices of the frames of a clip, in the order shown."""
    max_gap = max(1, min(max_gap, (length - 1) // (num_frames - 1)))
    gaps = rng.integers(1, int(rng.integers(1, max_gap + 1)) + 1, num_frames - 1)
    indices = np.concatenate(([0], np.cumsum(gaps)))
    indices += int(rng.integers(length - indices[-1]))
    return [int(index) for index in indices][:: 1 if rng.random() < 0.5 else -1]


def _follow(
    rng: np.random.Generator, masks: list[UInt8[np.ndarray, "H W"]], shown: list[int], max_objects: int
) -> list[UInt8[np.ndarray, "H W"]]:
    """Labels of the masks `shown`: all things of the first mask as one, or some of them separately if none meet."""
    things, _ = _pieces(masks[0])
    history = [things]
    apart = True
    for mask in masks[1:]:
        things, alone = _continued(history[-1], mask)
        history.append(things)
        apart = apart and alone
    numbers = np.zeros(256, np.uint8)
    numbers[1:VOID] = 1
    numbers[VOID] = VOID
    sizes = np.bincount(history[0].ravel(), minlength=256)
    large = [thing for thing in range(1, VOID) if sizes[thing] > MIN_FOREGROUND * masks[0].size]
    if apart and large and rng.random() < 0.6:
        picked = rng.permutation(large)[:max_objects]
        numbers[1:VOID] = 0
        numbers[picked] = np.arange(1, len(picked) + 1)
    labels = []
    for index in shown:
        label = cv2.LUT(history[index], numbers)
        label[masks[index] == VOID] = VOID
        labels.append(label)
    return labels


def _continued(
    before: UInt8[np.ndarray, "H W"], mask: UInt8[np.ndarray, "H W"]
) -> tuple[UInt8[np.ndarray, "H W"], bool]:
    """The next mask's pieces, each with the number of the thing it overlaps, and whether none overlaps two.

    Pieces without much overlap, new things, and things that have met one of these are 255.
    """
    pieces, boxes = _pieces(mask)
    sizes = np.bincount(before.ravel(), minlength=256)
    named = np.where(pieces == VOID, VOID, 0).astype(np.uint8)
    alone = True
    for piece, (left, top, width, height) in enumerate(boxes, 1):
        box = (slice(top, top + height), slice(left, left + width))
        inside = pieces[box] == piece
        shared = np.bincount(before[box][inside], minlength=256)
        shared[0] = 0
        alone = alone and bool(np.count_nonzero(shared[:VOID]) < 2)
        nearest = int(shared.argmax())
        enough = MIN_OVERLAP * min(sizes[nearest], np.count_nonzero(inside))
        trusted = nearest > 0 and shared[nearest] > enough and shared[VOID] < 0.1 * shared[nearest]
        named[box][inside] = nearest if trusted else VOID
    return named, alone


def _pieces(mask: UInt8[np.ndarray, "H W"]) -> tuple[UInt8[np.ndarray, "H W"], list[list[int]]]:
    """The pieces of the foreground, numbered from 1, and their boxes; pieces that nearly touch count as one.

    Pieces beyond the first 254 are 255, unknown, and have no boxes.
    """
    moving = cv2.inRange(mask, 1, 1)
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(cv2.dilate(moving, np.ones((5, 5), np.uint8)))
    pieces = cv2.bitwise_and(np.minimum(numbers, VOID).astype(np.uint8), moving)
    return np.asarray(pieces), stats[1 : min(count, VOID), :4].tolist()


def _views(
    rng: np.random.Generator, labels: UInt8[np.ndarray, "H W"], size: int, num_frames: int
) -> Float[np.ndarray, "T 2 3"]:
    """Maps from the video to the clip: one crop around a thing, sometimes with the shake of a hand-held camera."""
    height, width = labels.shape
    ys, xs = np.nonzero((labels > 0) & (labels < VOID))
    side = min(height, width) * rng.uniform(0.35, 1.0)
    if len(xs) == 0:
        return np.repeat(np.array([[[size / width, 0, 0], [0, size / height, 0]]]), num_frames, 0)
    pick = int(rng.integers(len(xs)))
    centre = np.array([xs[pick], ys[pick]]) + rng.uniform(-0.3, 0.3, 2) * side
    centre = np.clip(centre, side / 2, np.array([width, height]) - side / 2)
    shake = log_uniform(rng, 0.002, 0.08) if rng.random() < 0.5 else 0.0
    path = smooth_path(rng, num_frames, 4) * shake
    aspect = np.exp(rng.uniform(-0.1, 0.1))
    scale = np.stack((np.exp(path[:, 2]) * aspect, np.exp(path[:, 2]) / aspect), -1) * size / side
    position = size * (0.5 + path[:, :2])
    return affine_path(centre.tolist(), position, path[:, 3], scale, np.zeros(num_frames))


def _warp_labels(
    labels: UInt8[np.ndarray, "H W"], view: Float[np.ndarray, "2 3"], size: int
) -> UInt8[np.ndarray, "S S"]:
    warped = np.zeros((size, size), np.uint8)
    for label in np.unique(labels[labels > 0]).tolist():
        part = (labels == label).astype(np.uint8) * 255
        shown = cv2.warpAffine(part, view, (size, size), borderMode=cv2.BORDER_REFLECT_101)
        warped[shown > 127] = label
    # Outside the video's border the frame is mirrored; what moves there is neither the object nor background.
    inside = cv2.warpAffine(np.full_like(labels, 255), view, (size, size))
    warped[(inside < 128) & (warped > 0)] = VOID
    return warped


def _sequences(root: Path) -> list[ForegroundSequence]:
    sequences = []
    for folder in sorted(root.glob("*/frames")) if root.is_dir() else []:
        if folder.parent.name in LEFT_OUT:
            continue
        filed = pairs_in(folder)
        shift = MASK_SHIFT.get(folder.parent.name, 0)
        pairs = [(frame, filed[t + shift][1]) for t, (frame, _) in enumerate(filed) if 0 <= t + shift < len(filed)]
        if pairs:
            sequences.append(
                ForegroundSequence(folder.parent.name, tuple(f for f, _ in pairs), tuple(m for _, m in pairs))
            )
    if not sequences:
        raise InputError(
            f"there is no video in {root}",
            f"expected {root}/NAME/frames/*.jpg with {root}/NAME/masks/*.png next to them",
        )
    return sequences
