"""Pictures with objects to click on, and simulated clicks of a user (as in RITM, Sofiiuk et al. 2021)."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from mnemask.datasets.composite.photographs import balanced_weights, is_compact, pairs_in, pictures_in, read_rgb
from mnemask.datasets.real_video import SELECTION
from mnemask.datasets.shrunk_masks import SHRUNK, realign
from mnemask.errors import InputError
from mnemask.io.label_files import Labels, read_labels
from mnemask.metrics import VOID, region_similarity

# 300 of the 6,395 photographs are never trained on: those with the smallest SHA-256 of "SET/NAME".
HELD_OUT_BELOW = 0x0BC63355
# In these sets, everything that a mask shows is one object; in others, each value is one.
UNIONS = {"clothing_coparsing", "human_seg_290", "weizmann_horses"}
SEGMENTS = {"bsds500_segments"}  # values cover the picture, and the compact ones are objects
WEIGHTS = {"duts_tr_2600": 2.0, "davis2016_train": 4.0, "coco128_seg": 2.5, "coco_tiny": 2.5, "cdnet_instances": 0.4}
MIN_SHARE = 0.004  # of the picture; minimum size of an object
MAX_SHARE = 0.7
MIN_PIXELS = 100  # of a crop that must show the object
MAX_TRIES = 500  # objects may be out of sight in most frames of a video


@dataclass(frozen=True, slots=True)
class ClickPicture:
    """One picture and its mask.

    Attributes:
        image, mask: the files.
        set_name: name of the set.
        video: whether the picture is a frame of a video. In masks of video, and in others with ids, 255 is void.
    """

    image: Path
    mask: Path
    set_name: str
    video: bool = False

    @property
    def held_out(self) -> bool:
        """Whether the picture is held out for evaluation."""
        if self.video:
            return False
        name = f"{self.set_name}/{self.image.stem}"
        return int(sha256(name.encode()).hexdigest()[:8], 16) < HELD_OUT_BELOW

    def read(self) -> tuple[UInt8[np.ndarray, "H W 3"], Labels]:
        """Returns the picture as RGB, and the values of its mask.

        Raises:
            InputError: a file cannot be read, the mask has colours, or picture and mask differ in size.
        """
        image, values = read_rgb(self.image), realign(read_labels(self.mask), SHRUNK.get(self.set_name))
        if image.shape[:2] != values.shape:
            (height, width), (rows, columns) = image.shape[:2], values.shape
            raise InputError(
                f"mask {self.mask} is {columns}x{rows} but its picture is {width}x{height}",
                "export it at the picture's size",
            )
        return image, values

    def objects(self, values: Labels) -> list[UInt8[np.ndarray, "H W"]]:
        """Returns the objects of the mask, largest first, each as 1 on it, 0 elsewhere and 255 where unknown."""
        found, counts = np.unique(values, return_counts=True)
        has_ids = self.set_name not in UNIONS | SEGMENTS and ((found > 0) & (found < VOID)).any()
        void = (values == VOID) & (self.video or has_ids)
        if self.set_name in UNIONS:
            candidates = [values > 0]
        else:
            order = np.argsort(-counts, kind="stable")
            ids = [int(found[i]) for i in order if found[i] != 0]
            candidates = [(values == value) & ~void for value in ids]
        fit = is_compact if self.set_name in SEGMENTS else _is_fit
        return [np.where(void, VOID, mask).astype(np.uint8) for mask in candidates if fit(mask)]


@dataclass(frozen=True, slots=True)
class ClickCrop:
    """A square piece of a picture and two of its objects, which may be the same one.

    Attributes:
        image: RGB picture.
        truths: masks with 1 on the object, 0 elsewhere, 255 where unknown.
    """

    image: UInt8[np.ndarray, "S S 3"]
    truths: tuple[UInt8[np.ndarray, "S S"], UInt8[np.ndarray, "S S"]]


class ClickPictures:
    """All pictures under a folder except those held out.

    Raises:
        InputError: there are no pictures.
    """

    def __init__(self, root: Path) -> None:
        self.pictures = [picture for picture in list_pictures(root) if not picture.held_out]
        if not self.pictures:
            raise InputError(f"all pictures of {root} are held out for evaluation", "add others")
        names = [picture.set_name for picture in self.pictures]
        weights = balanced_weights(names, lambda name: WEIGHTS.get(name, 1.0))
        self.weights = np.cumsum(weights / weights.sum())

    def draw(self, rng: np.random.Generator, size: int) -> ClickCrop:
        """Returns a random crop with two objects and sides of `size` pixels."""
        for _ in range(MAX_TRIES):
            index = min(int(np.searchsorted(self.weights, rng.random(), side="right")), len(self.pictures) - 1)
            picture = self.pictures[index]
            image, values = picture.read()
            objects = picture.objects(values)
            if objects and (crop := _crop(rng, image, objects, size)):
                return crop
        raise InputError(
            f"{MAX_TRIES} pictures in a row show no object to click on", f"check masks such as {picture.mask}"
        )


def list_pictures(root: Path) -> list[ClickPicture]:
    """Returns the pictures under a folder, sorted by name, including photographs that are held out.

    They are photographs, `static/NAME/{images,masks}`, and frames of video, `video_train/SET/NAME/{frames,masks}`.

    Raises:
        InputError: there are no pictures, or a photograph has no mask.
    """
    found = [
        ClickPicture(*pair, folder.parent.name)
        for folder in sorted(root.glob("static/*/images"))
        for pair in pairs_in(folder)
    ]
    for folder in sorted(root.glob("video_train/*/*/frames")):
        if folder.parent.name not in SELECTION:
            frames = [(image, folder.parent / "masks" / f"{image.stem}.png") for image in pictures_in(folder)]
            set_name = folder.parent.parent.name
            found += [ClickPicture(image, mask, set_name, video=True) for image, mask in frames if mask.is_file()]
    if not found:
        raise InputError(
            f"there are no pictures to click on in {root}",
            "expected static/NAME/images/*.jpg with static/NAME/masks/*.png, or video_train/SET/NAME/frames with "
            "masks next to it",
        )
    return found


def _crop(
    rng: np.random.Generator,
    image: UInt8[np.ndarray, "H W 3"],
    objects: Sequence[UInt8[np.ndarray, "H W"]],
    size: int,
) -> ClickCrop | None:
    """Returns a random piece of the picture around an object, scaled, mirrored and relit; None if unsuitable."""
    short = min(image.shape[:2])
    scale = size * float(np.exp(rng.uniform(0.0, np.log(2.0)))) / short
    shape = (max(size, round(image.shape[1] * scale)), max(size, round(image.shape[0] * scale)))
    image = cv2.resize(image, shape, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    chosen = [objects[int(rng.integers(len(objects)))] for _ in range(2)]
    first = cv2.resize(chosen[0], shape, interpolation=cv2.INTER_NEAREST_EXACT)
    rows, columns = np.nonzero(first == 1)
    if not len(rows):
        return None
    at = int(rng.integers(len(rows)))
    left = int(np.clip(columns[at] - rng.integers(size), 0, shape[0] - size))
    top = int(np.clip(rows[at] - rng.integers(size), 0, shape[1] - size))
    window = np.s_[top : top + size, left : left + size]
    second = cv2.resize(chosen[1], shape, interpolation=cv2.INTER_NEAREST_EXACT)
    if not _shows_object(first[window]):
        return None
    planes = [
        _relight(rng, image[window]),
        first[window],
        second[window] if _shows_object(second[window]) else first[window],
    ]
    if rng.random() < 0.5:
        planes = [plane[:, ::-1] for plane in planes]
    piece, one, other = map(np.ascontiguousarray, planes)
    return ClickCrop(piece, (one, other))


def _shows_object(truth: UInt8[np.ndarray, "S S"]) -> bool:
    """Whether a crop shows enough of the object and of its surroundings."""
    return bool(MIN_PIXELS <= np.count_nonzero(truth == 1) <= 0.9 * truth.size)


def _relight(rng: np.random.Generator, image: UInt8[np.ndarray, "S S 3"]) -> UInt8[np.ndarray, "S S 3"]:
    gain, gamma = (
        rng.uniform(0.75, 1.25, 3) if rng.random() < 0.3 else np.full(3, rng.uniform(0.8, 1.2)),
        rng.uniform(0.8, 1.25),
    )
    levels = (np.arange(256) / 255.0) ** gamma
    table = np.clip(levels[:, None] * gain * 255, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table[:, None, :].reshape(1, 256, 3)))


def _is_fit(mask: Bool[np.ndarray, "H W"]) -> bool:
    return bool(MIN_SHARE * mask.size <= np.count_nonzero(mask) <= MAX_SHARE * mask.size)


class Click(NamedTuple):
    """A click on the object (`sign` 1) or on the background (−1), in pixels."""

    x: int
    y: int
    sign: int


def next_click(
    truth: UInt8[np.ndarray, "H W"], predicted: Bool[np.ndarray, "H W"], rng: np.random.Generator | None = None
) -> Click | None:
    """Returns a click in the widest region of wrong pixels, None if there are none.

    Args:
        truth: 1 on the object, 0 elsewhere, 255 where unknown.
        predicted: the mask so far; empty before the first click.
        rng: random number generator, to click anywhere in the inner half of the region; None for its innermost pixel.
    """
    missed, added = (truth == 1) & ~predicted, (truth == 0) & predicted
    depth_missed, depth_added = depth(missed), depth(added)
    sign = 1 if depth_missed.max() >= depth_added.max() else -1
    deepest = depth_missed if sign == 1 else depth_added
    if deepest.max() == 0:
        return None
    return Click(*inner_pixel(deepest, rng), sign)


def first_clicks(
    truth: UInt8[np.ndarray, "H W"], rng: np.random.Generator, positive: int, negative: int
) -> list[Click]:
    """Returns clicks as made before a mask is shown: inside the object, and outside it near its outline."""
    inside, outside = depth(truth == 1), (truth == 0).astype(np.uint8)
    clicks = [Click(*inner_pixel(inside, rng), 1) for _ in range(positive)]
    reach = max(5.0, 2 * float(inside.max()))
    away = np.asarray(cv2.distanceTransform(outside, cv2.DIST_L2, 3))
    near = outside * (away > 2) * (away < reach) if negative else outside
    rows, columns = np.nonzero(near)
    for _ in range(negative if len(rows) else 0):
        chosen = int(rng.integers(len(rows)))
        clicks.append(Click(int(columns[chosen]), int(rows[chosen]), -1))
    return clicks


def depth(mask: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Returns the distance of each pixel of the mask from its outline; the frame's border counts as outline."""
    padded = np.pad(mask.astype(np.uint8), 1)
    return np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 5))[1:-1, 1:-1]


def inner_pixel(depths: Float[np.ndarray, "H W"], rng: np.random.Generator | None) -> tuple[int, int]:
    """Returns x, y of the deepest pixel or, with `rng`, of a random one at least half as deep."""
    if rng is None:
        y, x = np.unravel_index(int(depths.argmax()), depths.shape)
        return int(x), int(y)
    rows, columns = np.nonzero(depths >= max(float(depths.max()) / 2, 1e-6))
    chosen = int(rng.integers(len(rows)))
    return int(columns[chosen]), int(rows[chosen])


def corrupt_mask(
    truth: UInt8[np.ndarray, "H W"], other: UInt8[np.ndarray, "H W"], rng: np.random.Generator
) -> Bool[np.ndarray, "H W"]:
    """Returns the object's mask with errors like those of a tracker: grown or shrunk, shifted, cut, or with additions.

    Args:
        truth: 1 on the object.
        other: 1 on another object of the picture, which may be included.
        rng: random number generator.
    """
    mask = (truth == 1).astype(np.uint8)
    extent = max(3, int(np.sqrt(mask.sum())))
    brush = np.ones((int(rng.integers(2, 3 + extent // 8)),) * 2, np.uint8)
    if rng.random() < 0.5:
        mask = np.asarray(cv2.dilate(mask, brush) if rng.random() < 0.6 else cv2.erode(mask, brush))
    if rng.random() < 0.3:
        mask = mask | (other == 1).astype(np.uint8)
    height, width = mask.shape
    for _ in range(int(rng.integers(1, 4))):
        centre = (
            inner_pixel(np.asarray(cv2.dilate(mask, np.ones((9, 9), np.uint8)), float), rng) if mask.any() else (0, 0)
        )
        axes = tuple(int(n) for n in rng.integers(2, 3 + extent // 2, 2))
        cv2.ellipse(mask, (centre, (2 * axes[0], 2 * axes[1]), float(rng.uniform(0, 180))), int(rng.random() < 0.4), -1)
    shift = rng.normal(0, extent / 20, 2)
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    moved = cv2.warpAffine(mask, matrix, (width, height), flags=cv2.INTER_NEAREST)
    return np.asarray(moved) > 0


def drawn_box(truth: UInt8[np.ndarray, "H W"], rng: np.random.Generator | None = None) -> tuple[int, int, int, int]:
    """Returns x, y, width and height of a box around the object; with `rng`, drawn as loosely as people do."""
    left, top, width, height = cv2.boundingRect((truth == 1).astype(np.uint8))
    edges = np.array([left, top, left + width, top + height], float)
    if rng is not None:
        edges += rng.normal(0, 0.04, 4) * (width, height, width, height) + (-1, -1, 1, 1)
    limit = (truth.shape[1], truth.shape[0])
    x0, y0 = (int(np.clip(round(edges[i]), 0, limit[i] - 1)) for i in (0, 1))
    x1, y1 = (int(np.clip(round(edges[i + 2]), (x0, y0)[i] + 1, limit[i])) for i in (0, 1))
    return x0, y0, x1 - x0, y1 - y0


def iou(truth: UInt8[np.ndarray, "H W"], predicted: Bool[np.ndarray, "H W"]) -> float:
    """Returns the IoU of the object and a mask without unknown pixels; 1 if both are empty."""
    return region_similarity(predicted, truth == 1, truth == VOID)
