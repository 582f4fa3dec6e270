"""Pictures with objects to click on: photographs and frames of video, `static/NAME` and `video_train/SET/NAME`."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from mnemask.datasets.clips import IGNORE
from mnemask.datasets.composite.photographs import is_compact
from mnemask.datasets.real_video import SELECTION
from mnemask.errors import InputError
from mnemask.io.images import IMAGE_SUFFIXES

# 300 of the 6,395 photographs are never trained on: those with the smallest SHA-256 of "SET/NAME".
HELD_OUT_BELOW = 0x0BC63355
# All that the mask shows is one object; elsewhere each value is one.
UNIONS = {"clothing_coparsing", "human_seg_290", "weizmann_horses"}
SEGMENTS = {"bsds500_segments"}  # values cover the picture, and the compact ones are objects
WEIGHTS = {"duts_tr_2600": 2.0, "davis2016_train": 4.0, "coco128_seg": 2.5, "coco_tiny": 2.5, "cdnet_instances": 0.4}
MIN_SHARE = 0.004  # of the picture, as small as an object may be
MAX_SHARE = 0.7
MIN_PIXELS = 100  # of a crop
MAX_TRIES = 20


@dataclass(frozen=True, slots=True)
class ClickPicture:
    """One picture and its mask.

    Attributes:
        image, mask: the files.
        set_name: of its set.
        video: whether it is a frame of a video; there 255 is void.
    """

    image: Path
    mask: Path
    set_name: str
    video: bool = False

    @property
    def held_out(self) -> bool:
        """Whether it is kept for measuring."""
        if self.video:
            return False
        name = f"{self.set_name}/{self.image.stem}"
        return int(sha256(name.encode()).hexdigest()[:8], 16) < HELD_OUT_BELOW

    def read(self) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]:
        """Returns the picture as RGB, and the values of its mask."""
        with Image.open(self.image) as image, Image.open(self.mask) as mask:
            return np.asarray(image.convert("RGB")), np.asarray(mask)

    def objects(self, values: UInt8[np.ndarray, "H W"]) -> list[UInt8[np.ndarray, "H W"]]:
        """Returns the objects of the mask, largest first, each 1 on it, 0 beside it and 255 where nobody knows."""
        void = (values == IGNORE) & self.video
        if self.set_name in UNIONS:
            candidates = [values > 0]
        else:
            found, counts = np.unique(values, return_counts=True)
            order = np.argsort(-counts, kind="stable")
            ids = [int(found[i]) for i in order if found[i] != 0 and not (self.video and found[i] == IGNORE)]
            candidates = [values == value for value in ids]
        fit = is_compact if self.set_name in SEGMENTS else _is_fit
        return [np.where(void, IGNORE, mask).astype(np.uint8) for mask in candidates if fit(mask)]


@dataclass(frozen=True, slots=True)
class ClickCrop:
    """A square piece of a picture and two of its objects, which may be the same one.

    Attributes:
        image: RGB.
        truths: 1 on the object, 0 beside it, 255 where nobody knows.
    """

    image: UInt8[np.ndarray, "S S 3"]
    truths: tuple[UInt8[np.ndarray, "S S"], UInt8[np.ndarray, "S S"]]


class ClickPictures:
    """All pictures below a folder but those that are held out.

    Raises:
        InputError: there are none.
    """

    def __init__(self, root: Path) -> None:
        self.pictures = [picture for picture in list_pictures(root) if not picture.held_out]
        names = [picture.set_name for picture in self.pictures]
        sizes = {name: names.count(name) for name in set(names)}
        # The power keeps the large sets from crowding out the small ones.
        weights = np.array([WEIGHTS.get(name, 1.0) * sizes[name] ** -0.4 for name in names])
        self.weights = np.cumsum(weights / weights.sum())

    def draw(self, rng: np.random.Generator, size: int) -> ClickCrop:
        """Returns a crop of `size` pixels a side with two objects, at random."""
        for _ in range(MAX_TRIES):
            index = min(int(np.searchsorted(self.weights, rng.random(), side="right")), len(self.pictures) - 1)
            image, values = self.pictures[index].read()
            objects = self.pictures[index].objects(values)
            if objects and (crop := _crop(rng, image, objects, size)):
                return crop
        raise InputError(
            f"{MAX_TRIES} pictures in a row show no object to click on", f"look at {self.pictures[0].mask}"
        )


def list_pictures(root: Path) -> list[ClickPicture]:
    """Returns the pictures below a folder, by name, those that are held out among them.

    Raises:
        InputError: there are none, or one has no mask.
    """
    found = [
        ClickPicture(image, folder.parent / "masks" / f"{image.stem}.png", folder.parent.name)
        for folder in sorted(root.glob("static/*/images"))
        for image in _images(folder)
    ]
    found = [_checked(picture) for picture in found]
    for folder in sorted(root.glob("video_train/*/*/frames")):
        if folder.parent.name not in SELECTION:
            frames = [(image, folder.parent / "masks" / f"{image.stem}.png") for image in _images(folder)]
            set_name = folder.parent.parent.name
            found += [ClickPicture(image, mask, set_name, video=True) for image, mask in frames if mask.is_file()]
    if not found:
        raise InputError(
            f"no pictures to click on in {root}",
            "expected static/NAME/images/*.jpg with static/NAME/masks/*.png, or video_train/SET/NAME/frames with "
            "masks beside it",
        )
    return found


def _checked(picture: ClickPicture) -> ClickPicture:
    if not picture.mask.is_file():
        raise InputError(f"{picture.image} has no mask", f"expected {picture.mask}")
    return picture


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def _crop(
    rng: np.random.Generator,
    image: UInt8[np.ndarray, "H W 3"],
    objects: Sequence[UInt8[np.ndarray, "H W"]],
    size: int,
) -> ClickCrop | None:
    """Returns a piece of the picture around an object, scaled, mirrored and in another light; None where it failed."""
    short = min(image.shape[:2])
    scale = size * float(np.exp(rng.uniform(0.0, np.log(2.0)))) / short
    shape = (max(size, round(image.shape[1] * scale)), max(size, round(image.shape[0] * scale)))
    image = cv2.resize(image, shape, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    chosen = [objects[int(rng.integers(len(objects)))] for _ in range(2)]
    first = cv2.resize(chosen[0], shape, interpolation=cv2.INTER_NEAREST)
    rows, columns = np.nonzero(first == 1)
    if not len(rows):
        return None
    at = int(rng.integers(len(rows)))
    left = int(np.clip(columns[at] - rng.integers(size), 0, shape[0] - size))
    top = int(np.clip(rows[at] - rng.integers(size), 0, shape[1] - size))
    window = np.s_[top : top + size, left : left + size]
    second = cv2.resize(chosen[1], shape, interpolation=cv2.INTER_NEAREST)
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
    """Whether enough of the object, and of what is around it, is in a crop."""
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
