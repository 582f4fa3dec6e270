"""The thesis's augmentation (4.2), and clips made from photographs with it.

Each clip gets one random change shared by its frames, then a small one per frame. The thesis names the steps; their
magnitudes are those of STCN's published training code, which it follows (github.com/hkchengrex/STCN,
dataset/static_dataset.py and dataset/vos_dataset.py). Two things differ. All steps are composed into one spatial map
and one colour map, so a frame is interpolated only once (bilinear) and pixels outside a crop return where a rotation
uncovers them. The thin-plate spline that STCN applies to a third of its stills is left out, as in the thesis.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mnemask.datasets.annotated import AnnotatedImage
from mnemask.datasets.clips import ClipShape, TrainingClip, keep_visible
from mnemask.datasets.composite.appearance import LUMA, affine_path, tint_matrix, zoom_path
from mnemask.datasets.composite.photographs import read_rgb
from mnemask.errors import InputError, MaskError

# The mean of ImageNet, 0 after normalisation.
MEAN_COLOUR = (124, 116, 104)
MAX_CROP_TRIES = 10
MAX_TRIES = 50


@dataclass(frozen=True, slots=True)
class ColourTransform:
    """A colour change: a linear mixture of the channels, then contrast about the mean grey, then brightness."""

    mixture: Float[np.ndarray, "3 3"]
    contrast: float
    brightness: float

    def then(self, later: "ColourTransform") -> "ColourTransform":
        """Returns both changes as one, without rounding and clipping in between."""
        return ColourTransform(
            later.mixture @ self.mixture, self.contrast * later.contrast, self.brightness * later.brightness
        )

    def apply(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """Returns the changed RGB picture."""
        grey = float(LUMA @ cv2.mean(image)[:3])
        linear = self.brightness * self.contrast * self.mixture
        offset = np.full((3, 1), self.brightness * (1 - self.contrast) * grey)
        return cv2.transform(image, np.hstack((linear, offset)))


@dataclass(frozen=True, slots=True)
class ColourJitter:
    """Limits of random colour changes.

    Attributes:
        brightness, contrast, saturation: largest deviation of the factor from 1.
        hue: largest rotation of the colours, as a fraction of the colour circle.
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float = 0.0

    def draw(self, rng: np.random.Generator) -> ColourTransform:
        """Returns a random change within the limits."""
        brightness, contrast, saturation, hue = rng.uniform(-1, 1, 4)
        mixture = tint_matrix(2 * np.pi * hue * self.hue, saturation * self.saturation)
        return ColourTransform(mixture, 1 + contrast * self.contrast, 1 + brightness * self.brightness)


@dataclass(frozen=True, slots=True)
class ClipColourJitter:
    """Colour jitter of a clip: one shared by all frames, made grey with probability `grey`, then one per frame."""

    clip: ColourJitter
    frame: ColourJitter
    grey: float = 0.05

    def draw(self, rng: np.random.Generator, num_frames: int) -> list[ColourTransform]:
        """Returns the change of each frame."""
        shared = self.clip.draw(rng)
        if rng.random() < self.grey:
            shared = shared.then(ColourTransform(tint_matrix(0.0, -1.0), 1.0, 1.0))
        return [shared.then(self.frame.draw(rng)) for _ in range(num_frames)]


@dataclass(frozen=True, slots=True)
class AffineJitter:
    """Limits of a frame's random rotation (± degrees), shear along x (± degrees) and scale (from, to)."""

    degrees: float
    shear: float
    scale: tuple[float, float] = (1.0, 1.0)

    def draw(
        self, rng: np.random.Generator, num_frames: int, centre: tuple[float, float]
    ) -> Float[np.ndarray, "T 3 3"]:
        """Returns a map per frame that leaves `centre` (x, y) in place."""
        angle = np.deg2rad(rng.uniform(-self.degrees, self.degrees, num_frames))
        shear = np.tan(np.deg2rad(rng.uniform(-self.shear, self.shear, num_frames)))
        scale = np.repeat(rng.uniform(*self.scale, (num_frames, 1)), 2, 1)
        return _square(affine_path(centre, np.tile(centre, (num_frames, 1)), angle, scale, shear))


@dataclass(frozen=True, slots=True)
class StillAugmentation:
    """Stage 1, samples of one photograph: a shared zoom and flip, then an affine map and a crop per sample.

    Attributes:
        zoom: range of the photograph's scale (from, to), before its shorter side is resized to that of the frames.
        flip: probability that a clip is mirrored.
        affine: affine jitter of each sample; the position of the crop differs too.
        look: colour jitter.
    """

    zoom: tuple[float, float] = (0.8, 1.5)
    flip: float = 0.5
    affine: AffineJitter = AffineJitter(20.0, 10.0, (0.9, 1.1))
    look: ClipColourJitter = ClipColourJitter(ColourJitter(0.1, 0.05, 0.05, 0.05), ColourJitter(0.1, 0.05, 0.05))

    def views(self, rng: np.random.Generator, picture: tuple[int, int], shape: ClipShape) -> Float[np.ndarray, "T 2 3"]:
        """Returns the maps from pixels (x, y) of a picture of this (height, width) to those of each sample."""
        height, width = picture
        zoom = rng.uniform(*self.zoom)
        mirror = -1 if rng.random() < self.flip else 1
        # About the centre, which is the origin from here on.
        shared = _square(np.array([[mirror * zoom, 0, -mirror * zoom * width / 2], [0, zoom, -zoom * height / 2]]))
        own = self.affine.draw(rng, shape.num_frames, (0.0, 0.0))
        fit = shape.size / min(height, width)
        room = fit * np.array([width, height]) - shape.size
        corner = rng.random((shape.num_frames, 2)) * room - fit * np.array([width, height]) / 2
        crop = np.zeros((shape.num_frames, 2, 3))
        crop[:, 0, 0] = crop[:, 1, 1] = fit
        crop[:, :, 2] = -corner
        return _for_opencv(crop @ own @ shared)


@dataclass(frozen=True, slots=True)
class VideoAugmentation:
    """Stage 2, frames of a video: a shared resized crop and flip, then an affine map per frame.

    Attributes:
        area: range of the crop's area (from, to), as a fraction of the picture's.
        aspect: range of the crop's width / height (from, to) before it is made square.
        flip: probability that a clip is mirrored.
        affine: affine jitter of each frame.
        look: colour jitter.
    """

    area: tuple[float, float] = (0.36, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    affine: AffineJitter = AffineJitter(15.0, 10.0)
    look: ClipColourJitter = ClipColourJitter(ColourJitter(0.1, 0.03, 0.03), ColourJitter(0.01, 0.01, 0.01))

    def views(self, rng: np.random.Generator, picture: tuple[int, int], shape: ClipShape) -> Float[np.ndarray, "T 2 3"]:
        """Returns the maps from pixels (x, y) of a video of this (height, width) to those of each frame."""
        left, top, width, height = self._crop(rng, *picture)
        x, y, half = shape.size / width, shape.size / height, shape.size / 2
        if rng.random() < self.flip:
            left, x = left + width, -x
        shared = _square(np.array([[x, 0, -x * left], [0, y, -y * top]]))
        own = self.affine.draw(rng, shape.num_frames, (half, half))
        return _for_opencv(own[:, :2] @ shared)

    def _crop(self, rng: np.random.Generator, height: int, width: int) -> tuple[float, float, float, float]:
        """Left, top, width and height of a crop, redrawn while it is wider or taller than the picture."""
        for _ in range(MAX_CROP_TRIES):
            area = rng.uniform(*self.area) * height * width
            aspect = np.exp(rng.uniform(*np.log(self.aspect)))
            wide, high = float(np.sqrt(area * aspect)), float(np.sqrt(area / aspect))
            if wide <= width and high <= height:
                break
        wide, high = min(wide, float(width)), min(high, float(height))
        return rng.uniform(0, width - wide), rng.uniform(0, height - high), wide, high


@dataclass(frozen=True, slots=True)
class ZoomAugmentation:
    """Frames of a video as if the camera moved closer or away: each frame has a crop of a different size.

    How far the crops follow the object varies from clip to clip: from not at all (they stay at its first position) to
    fully.

    This is not in the thesis, where the crop is the same in all frames of a clip.

    Attributes:
        most: largest / smallest scale of the frames, at least 1.
        side: range of the largest crop's side (from, to), as a fraction of the picture's shorter side.
        wander: scale of the random offset of a crop's centre from the object's, as a fraction of the crop's side.
        flip: probability that a clip is mirrored.
        affine: affine jitter of each frame.
    """

    most: float = 3.0
    side: tuple[float, float] = (0.6, 1.0)
    wander: float = 0.25
    flip: float = 0.5
    affine: AffineJitter = AffineJitter(15.0, 10.0)

    def views(
        self,
        rng: np.random.Generator,
        picture: tuple[int, int],
        boxes: Float[np.ndarray, "T 4"],
        shape: ClipShape,
    ) -> Float[np.ndarray, "T 2 3"]:
        """Returns the maps from pixels (x, y) of a video of this (height, width) to those of each frame.

        Args:
            rng: random number generator.
            picture: height and width.
            boxes: left, top, width and height of the object to show, in each frame.
            shape: shape of the clip.
        """
        height, width = picture
        scale = zoom_path(rng, shape.num_frames, self.most)
        sides = min(picture) * rng.uniform(*self.side) * scale.min() / scale
        # A crop shows most of a large object, if not all: an object that fills the whole frame teaches nothing.
        sides = np.clip(sides, 0.75 * boxes[:, 2:].max(1), min(picture))
        middle = boxes[:, :2] + boxes[:, 2:] / 2
        # A crop that always followed the object would remove its motion.
        middle = middle[0] + rng.uniform(0, 1) * (middle - middle[0])
        middle = (
            middle + (rng.uniform(-1, 1, 2) + 0.3 * rng.uniform(-1, 1, middle.shape)) * self.wander * sides[:, None]
        )
        middle = np.clip(middle, sides[:, None] / 2, np.array([width, height]) - sides[:, None] / 2)
        mirror = -1 if rng.random() < self.flip else 1
        fit, half = shape.size / sides, shape.size / 2
        crop = np.zeros((shape.num_frames, 2, 3))
        crop[:, 0, 0], crop[:, 1, 1] = mirror * fit, fit
        crop[:, 0, 2], crop[:, 1, 2] = half - mirror * fit * middle[:, 0], half - fit * middle[:, 1]
        own = self.affine.draw(rng, shape.num_frames, (half, half))
        return _for_opencv(own[:, :2] @ _square(crop))


def render(
    rng: np.random.Generator,
    look: ClipColourJitter,
    pictures: list[UInt8[np.ndarray, "h w 3"]],
    views: Float[np.ndarray, "T 2 3"],
    size: int,
) -> UInt8[np.ndarray, "T S S 3"]:
    """Returns RGB pictures warped by their maps, `MEAN_COLOUR` outside their borders, with random colour changes."""
    colours = look.draw(rng, len(views))
    warped = [_warp(picture, view, size, MEAN_COLOUR) for picture, view in zip(pictures, views, strict=True)]
    return np.stack([colour.apply(frame) for colour, frame in zip(colours, warped, strict=True)])


def warp_labels(
    labels: UInt8[np.ndarray, "h w"], values: list[int], view: Float[np.ndarray, "2 3"], size: int
) -> UInt8[np.ndarray, "S S"]:
    """Returns the labels warped by a map: one of `values` where it covers more than half of a pixel, else 0."""
    warped = np.zeros((size, size), np.uint8)
    for value in values:
        warped[_warp(cv2.inRange(labels, value, value), view, size, (0,)) > 127] = value
    return warped


def _warp(
    image: UInt8[np.ndarray, "h w *c"], view: Float[np.ndarray, "2 3"], size: int, fill: tuple[int, ...]
) -> UInt8[np.ndarray, "S S *c"]:
    times = int(abs(np.linalg.det(view[:, :2])) ** -0.5)
    if times > 1:
        # Interpolating between four neighbours would skip pixels of a picture that is downscaled this much.
        height, width = image.shape[:2]
        image = cv2.resize(image, (width // times, height // times), interpolation=cv2.INTER_AREA)
        x, y = width / image.shape[1], height / image.shape[0]
        view = (_square(view) @ _square(np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2]])))[:2]
    return np.asarray(cv2.warpAffine(image, view, (size, size), flags=cv2.INTER_LINEAR, borderValue=fill), np.uint8)


def _square(maps: Float[np.ndarray, "*T 2 3"]) -> Float[np.ndarray, "*T 3 3"]:
    """The maps with a last row that allows multiplying them."""
    last = np.broadcast_to(np.array([0.0, 0.0, 1.0]), (*maps.shape[:-2], 1, 3))
    return np.concatenate((maps, last), -2)


def _for_opencv(maps: Float[np.ndarray, "T 2 3"]) -> Float[np.ndarray, "T 2 3"]:
    """The maps for coordinates with integers at pixel centres instead of corners."""
    middle = maps[..., :2] @ np.array([0.5, 0.5]) - 0.5
    return np.concatenate((maps[..., :2], maps[..., 2:] + middle[..., None]), -1)


class ImageClips:
    """Endless clips of photographs with one object each: stage 1 of the thesis (4.2.1).

    The frames of a clip are samples of one photograph; files are read when they are drawn.

    Masks are as saliency sets publish them, with grey levels above 127 where the object is; for masks of 0 and 1, set
    `object_above=0` on each `AnnotatedImage`.

    Args:
        images: photographs with a mask of the same size, which shows a single object.

    Raises:
        InputError: there are no images.

    Example:
        images = [AnnotatedImage(p.stem, p, p.with_suffix(".png")) for p in sorted(Path("DUTS-TR").glob("*.jpg"))]
        clip = ImageClips(images).draw(np.random.default_rng(0), ClipShape(size=384, num_frames=3))
    """

    def __init__(self, images: Sequence[AnnotatedImage]) -> None:
        if not images:
            raise InputError("there are no images to draw clips from", "expected at least one photograph with its mask")
        self.images = images
        self.augmentation = StillAugmentation()

    def __len__(self) -> int:
        return len(self.images)

    def draw(self, rng: np.random.Generator, shape: ClipShape) -> TrainingClip:
        """Returns samples of one photograph; draws another if the first sample shows too little of the object.

        Raises:
            FrameError: a file is not a picture.
            MaskError: a file is not a mask, or differs in size from its picture.
            InputError: none of the photographs drawn shows enough of an object.
        """
        for _ in range(MAX_TRIES):
            image = self.images[int(rng.integers(len(self.images)))]
            whole = image.read_mask().view(np.uint8)
            views = self.augmentation.views(rng, (whole.shape[0], whole.shape[1]), shape)
            labels = np.stack([warp_labels(whole, [1], view, shape.size) for view in views])
            labels, num_objects = keep_visible(labels, 1)
            if not num_objects:
                continue
            picture = read_rgb(image.image)
            if picture.shape[:2] != whole.shape:
                raise MaskError(
                    f"{image.mask} has (height, width) {whole.shape} but {image.image} has {picture.shape[:2]}",
                    "export the mask at its picture's size",
                )
            pictures = [picture] * shape.num_frames
            frames = render(rng, self.augmentation.look, pictures, views, shape.size)
            return TrainingClip(frames, labels, num_objects)
        raise InputError(
            f"none of {MAX_TRIES} photographs drawn had an object to follow, the last one was {image.image}",
            "expected objects that cover at least 0.2 % of a sample",
        )
