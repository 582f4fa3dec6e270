"""Photographs with masks, `static/NAME/{images,masks}`: scenes, and objects to cut out."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from mnemask.errors import FrameError, InputError
from mnemask.io.images import DAMAGED_IMAGE_ERRORS, IMAGE_SUFFIXES
from mnemask.io.label_files import read_labels
from mnemask.io.shapes import pieces_of
from mnemask.metrics import VOID

MIN_OBJECT_PIXELS = 200
MAX_TRIES = 50


@dataclass(frozen=True, slots=True)
class SetRule:
    """How the masks of one set are read.

    Attributes:
        weight: relative probability of drawing a photograph of this set.
        kind: "union", all values together are one object; "instances", each value is an object, alone or with the
            others; "segments", values cover the whole picture and the compact ones are objects.
        shrink: pixels removed from an outline, so that no rim of the old background is included.
        min_share: minimum fraction of the picture that an object covers.
    """

    weight: float = 1.0
    kind: str = "instances"
    shrink: int = 1
    min_share: float = 0.004


SET_RULES = {
    "bsds500_segments": SetRule(1.5, "segments"),
    "clothing_coparsing": SetRule(1.2, "union"),
    "coco128_seg": SetRule(2.5),
    "duts_tr_2600": SetRule(3.0, "union"),
    "feral_cats": SetRule(2.0),
    "human_seg_290": SetRule(1.2, "union"),
    "via_cartruck": SetRule(2.0, "union", 2),
    "via_coolfish": SetRule(1.0, "union"),
    "via_dogcat": SetRule(1.5, shrink=2),
    "via_fifa": SetRule(0.5, "union", 2),
    "via_food2": SetRule(0.4),
    "via_heads": SetRule(0.5, "union", 2),
    "via_mug": SetRule(shrink=2),
    "weizmann_horses": SetRule(1.2, "union"),
}


@dataclass(frozen=True, slots=True)
class Photograph:
    """The files of a photograph and its mask, and the set it belongs to."""

    image: Path
    mask: Path
    set_name: str


@dataclass(frozen=True, slots=True)
class CutOut:
    """One object without its surroundings.

    Attributes:
        pixels: RGB and opacity, cropped to the object; the object is where opacity is above 127.
        set_name: name of the set it comes from.
    """

    pixels: UInt8[np.ndarray, "h w 4"]
    set_name: str

    @property
    def area(self) -> int:
        """Number of pixels of the object."""
        return int(np.count_nonzero(self.pixels[..., 3] > 127))


def balanced_weights(names: Sequence[str], weight_of: Callable[[str], float]) -> Float[np.ndarray, " N"]:
    """Returns the weight of each picture from its set's name, such that large sets do not crowd out small ones."""
    sizes = {name: names.count(name) for name in set(names)}
    return np.array([weight_of(name) * sizes[name] ** -0.4 for name in names])


class StaticImages:
    """All photographs under `root`; files are read on demand and cached by the operating system.

    Raises:
        InputError: there are no photographs, or one has no mask.
    """

    def __init__(self, root: Path) -> None:
        self.photographs = _photographs(root)
        names = [photograph.set_name for photograph in self.photographs]
        weights = balanced_weights(names, lambda name: rule_of(name).weight)
        self.weights = np.cumsum(weights / weights.sum())
        self.by_set = {name: [p for p in self.photographs if p.set_name == name] for name in set(names)}

    def draw(self, rng: np.random.Generator, set_name: str | None = None) -> Photograph:
        """Returns a random photograph, from the set `set_name` if given."""
        if set_name is not None:
            return self.by_set[set_name][int(rng.integers(len(self.by_set[set_name])))]
        index = int(np.searchsorted(self.weights, rng.random(), side="right"))
        return self.photographs[min(index, len(self.photographs) - 1)]

    def draw_image(self, rng: np.random.Generator) -> UInt8[np.ndarray, "H W 3"]:
        """Returns a random photograph as RGB."""
        return read_rgb(self.draw(rng).image)

    def draw_scene(
        self, rng: np.random.Generator, max_objects: int
    ) -> tuple[UInt8[np.ndarray, "H W 3"], list[Bool[np.ndarray, "H W"]]]:
        """Returns a photograph (RGB) and the masks of 1 to `max_objects` of its objects, which do not overlap."""
        for _ in range(MAX_TRIES):
            photograph = self.draw(rng)
            masks = choose_objects(rng, read_labels(photograph.mask), rule_of(photograph.set_name), max_objects)
            if masks:
                return read_rgb(photograph.image), masks
        raise _no_objects(self.photographs[0].mask.parent.parent.parent)

    def draw_cut_out(self, rng: np.random.Generator, set_name: str | None = None) -> CutOut:
        """Returns a random object, from the set `set_name` if given."""
        for _ in range(MAX_TRIES):
            photograph = self.draw(rng, set_name)
            rule = rule_of(photograph.set_name)
            masks = choose_objects(rng, read_labels(photograph.mask), rule, 1)
            if masks:
                pixels = _cut(read_rgb(photograph.image), masks[0], rule.shrink)
                cut_out = CutOut(pixels, photograph.set_name)
                if cut_out.area >= MIN_OBJECT_PIXELS // 2:
                    return cut_out
        raise _no_objects(self.photographs[0].mask.parent.parent.parent)


def rule_of(set_name: str) -> SetRule:
    """Returns how a set is read: as instances unless `SET_RULES` specifies otherwise."""
    return SET_RULES.get(set_name, SetRule())


def choose_objects(
    rng: np.random.Generator, mask: UInt8[np.ndarray, "H W"], rule: SetRule, max_objects: int
) -> list[Bool[np.ndarray, "H W"]]:
    """Returns the masks of up to `max_objects` random objects; none if no object is suitable for following."""
    if rule.kind == "instances" and ((mask > 0) & (mask < VOID)).any():
        mask = np.where(mask == VOID, 0, mask).astype(np.uint8)  # in a mask with ids it means unknown
    if rule.kind == "union" or (rule.kind == "instances" and rng.random() < 0.25):
        return [whole] if _is_fit(whole := _without_specks(mask > 0), rule.min_share) else []
    counts = cv2.calcHist([mask], [0], None, [256], [0, 256]).ravel()
    values = [value for value in range(1, 256) if counts[value] >= max(MIN_OBJECT_PIXELS, rule.min_share * mask.size)]
    chosen: list[Bool[np.ndarray, "H W"]] = []
    wanted = 1 + int(rng.integers(max_objects))
    for value in rng.permutation(values).tolist():
        candidate = mask == value
        if rule.kind == "segments":
            if not is_compact(candidate):
                continue
        elif not _is_fit(candidate, rule.min_share):
            continue
        chosen.append(candidate)
        if len(chosen) == wanted:
            break
    return chosen


def pictures_in(folder: Path) -> list[Path]:
    """Returns the pictures in a folder, of any common format, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def pairs_in(folder: Path) -> list[tuple[Path, Path]]:
    """Returns the pictures in a folder, sorted by name, each with its mask from the sibling folder `masks`.

    Raises:
        InputError: a picture has no mask.
    """
    pairs = [(picture, folder.parent / "masks" / f"{picture.stem}.png") for picture in pictures_in(folder)]
    for picture, mask in pairs:
        if not mask.is_file():
            raise InputError(f"{picture} has no mask", f"add {mask}")
    return pairs


_JPEG_BEGINS, _JPEG_ENDS = b"\xff\xd8", b"\xff\xd9"
_LONGEST_TAIL = 1024  # bytes that programs append to a picture


def read_rgb(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """Returns a picture as RGB; raises FrameError if the file is not a picture, or is a truncated JPEG."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FrameError(f"{path} cannot be read ({error.strerror})", "restore it") from error
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise FrameError(f"{path} is not a readable picture", "expected JPEG, WebP or PNG: restore or remove the file")
    # OpenCV returns the missing part of a truncated JPEG in grey. Phones may append a video to a picture.
    if data.startswith(_JPEG_BEGINS) and _JPEG_ENDS not in data[-_LONGEST_TAIL:]:
        try:
            with Image.open(io.BytesIO(data)) as whole:
                whole.load()
        except DAMAGED_IMAGE_ERRORS as error:
            raise FrameError(f"{path} is truncated ({error})", "copy it again, or remove it") from error
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _photographs(root: Path) -> list[Photograph]:
    folders = sorted(root.glob("*/images")) if root.is_dir() else []
    photographs = [Photograph(*pair, folder.parent.name) for folder in folders for pair in pairs_in(folder)]
    if not photographs:
        raise InputError(
            f"there are no photographs in {root}",
            f"expected {root}/NAME/images/*.jpg with {root}/NAME/masks/*.png next to them",
        )
    return photographs


def _without_specks(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, kernel) > 0


def _is_fit(mask: Bool[np.ndarray, "H W"], min_share: float) -> bool:
    """Whether the object is not too small and does not fill the picture."""
    area = np.count_nonzero(mask)
    height, width = mask.shape
    _, _, box_width, box_height = cv2.boundingRect(mask.astype(np.uint8))
    fills = area > 0.7 * mask.size or (
        box_width > 0.97 * width and box_height > 0.97 * height and area > 0.5 * mask.size
    )
    return bool(area >= max(MIN_OBJECT_PIXELS, min_share * mask.size) and not fills)


def is_compact(mask: Bool[np.ndarray, "H W"]) -> bool:
    """Whether a segment is in one piece and neither a stretch of background nor a sliver."""
    area = np.count_nonzero(mask)
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    touched = (left == 0) + (top == 0) + (left + width == mask.shape[1]) + (top + height == mask.shape[0])
    if not 0.008 * mask.size <= area <= 0.4 * mask.size or touched > 1 or area < 0.35 * width * height:
        return False
    return bool(pieces_of(mask)[1].max() > 0.85 * area)


def _cut(image: UInt8[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "H W"], shrink: int) -> UInt8[np.ndarray, "h w 4"]:
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    rows, columns = slice(top, top + height), slice(left, left + width)
    pad = 3  # room for the soft edge
    opacity = np.pad(mask[rows, columns].astype(np.uint8) * 255, pad)
    # A pixel is a large part of a small object: thin parts would vanish.
    if shrink and min(width, height) > 60:
        round_kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * shrink + 1, 2 * shrink + 1))
        opacity = np.asarray(cv2.erode(opacity, round_kernel))
    colours = cv2.copyMakeBorder(image[rows, columns], pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    return cv2.merge((*cv2.split(colours), cv2.GaussianBlur(opacity, (5, 5), 1.0)))


def _no_objects(root: Path) -> InputError:
    return InputError(
        f"{MAX_TRIES} photographs drawn from {root} had no object to follow",
        f"use masks in which an object covers at least {MIN_OBJECT_PIXELS} pixels and 0.4 % of the picture, and at "
        "most 70 %",
    )
