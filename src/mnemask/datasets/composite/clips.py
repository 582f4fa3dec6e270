"""Training clips: composed of photographs and cut-outs, with exact masks, or taken from real video."""

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from mnemask.datasets.clips import ClipShape, TrainingClip, keep_visible
from mnemask.datasets.composite.appearance import (
    affine_path,
    augment_appearance,
    log_uniform,
    recolour,
    sensor_effects,
    smooth_path,
)
from mnemask.datasets.composite.layers import Layer, move, pass_in_front, render_clip, render_scene, spray
from mnemask.datasets.composite.moving_foreground import RealClips
from mnemask.datasets.composite.photographs import CutOut, StaticImages, read_rgb
from mnemask.datasets.composite.turning import opaque
from mnemask.errors import InputError

MAX_TRIES = 30
OWN_COLOURS = 0.75  # fraction of limbs in the body's colours
LIMB_OUTLINE = np.array([[0, 0.35], [0.25, 0.5], [0.6, 0.32], [0.95, 0.22], [1, 0]])  # along a limb, half its width


@dataclass(frozen=True, slots=True)
class CompositeRecipe:
    """How clips are made.

    Attributes:
        composite, warped, real: relative shares of the three kinds.
        max_step: largest motion from frame to frame, as a fraction of the frame (root mean square, each axis).
        distractor: probability of an unlabelled moving thing in a composite; half of them look like an object.
        occluder: probability of an unlabelled thing that passes in front of an object after the first frame.
        leave: probability that an object leaves the picture for a frame and comes back.
        crowd: probability that the first moving object of a composite is from the same set as the photograph behind it,
            and so passes in front of others of its kind that are not followed.
        zoom: maximum factor by which moving things, or the photograph itself, grow or shrink within a clip; 1 for none.
        zoomed: probability of zoom in a clip.
        turned: probability that a moving thing turns about its own axis, so that its sides come into view.
        spray: probability that an object of a composite throws up dust, smoke or water.
        limbs: probability that a moving thing has swinging limbs.
    """

    composite: float = 0.55
    warped: float = 0.33
    real: float = 0.12
    max_step: float = 0.2
    distractor: float = 0.25
    occluder: float = 0.12
    leave: float = 0.1
    crowd: float = 0.25
    zoom: float = 1.0
    zoomed: float = 0.5
    turned: float = 0.0
    spray: float = 0.0
    limbs: float = 0.0

    def __post_init__(self) -> None:
        shares = (self.composite, self.warped, self.real)
        if min(shares) < 0 or sum(shares) <= 0:
            raise InputError(
                f"clips cannot be drawn with the shares {shares} of composite, warped and real ones",
                "expected none below 0, not all 0",
            )


class CompositeClips:
    """Endless clips made from photographs and short real videos; a `ClipSource`.

    Args:
        root: folder that contains `static/NAME/{images,masks}` and, for real clips, `video/NAME/{frames,masks}`.
        recipe: how clips are made.

    Raises:
        InputError: a folder that the recipe needs is missing or incomplete.
    """

    def __init__(self, root: Path, recipe: CompositeRecipe = CompositeRecipe()) -> None:
        self.recipe = recipe
        self.static = StaticImages(root / "static")
        self.video = RealClips(root / "video") if recipe.real > 0 else None

    def __len__(self) -> int:
        return len(self.static.photographs)

    def draw(self, rng: np.random.Generator, shape: ClipShape) -> TrainingClip:
        """Returns a clip that depends only on the state of `rng` and on `shape`."""
        shares = np.array([self.recipe.composite, self.recipe.warped, self.recipe.real])
        kind = int(rng.choice(3, p=shares / shares.sum()))
        for _ in range(MAX_TRIES):
            if kind == 2 and self.video:
                frames, labels = self.video.draw(rng, shape)
            else:
                frames, labels = _draw(rng, self.static, self.recipe, shape, warped=kind == 1)
            labels, num_objects = keep_visible(labels, shape.max_objects)
            if num_objects:
                return TrainingClip(sensor_effects(rng, frames), labels, num_objects)
        raise InputError(f"{MAX_TRIES} clips drawn had no object in the first frame", "use data with larger objects")


def _draw(
    rng: np.random.Generator, static: StaticImages, recipe: CompositeRecipe, clip: ClipShape, warped: bool
) -> tuple[list[UInt8[np.ndarray, "S S 3"]], UInt8[np.ndarray, "T S S"]]:
    """A scene and the things that move in front of it; the scene's own objects are labelled if `warped`."""
    step = log_uniform(rng, min(0.006, recipe.max_step), recipe.max_step)
    masks: list[Bool[np.ndarray, "h w"]] = []
    like = None
    if warped or rng.random() < 0.2:
        # Some composites have an object in the scene too; cut-outs then pass in front of it.
        image, masks = static.draw_scene(rng, clip.max_objects if warped else 1)
    else:
        photograph = static.draw(rng)
        image = read_rgb(photograph.image)
        like = photograph.set_name if rng.random() < recipe.crowd else None
    shape = (clip.size, clip.num_frames)
    most = recipe.zoom if rng.random() < recipe.zoomed else 1.0
    scene = render_scene(
        rng, image, masks, *shape, step * (1 if warped else rng.uniform(0, 0.6)), most if warped else 1.0
    )
    cast = [] if warped else _cast(rng, static, clip.max_objects, len(masks), like)
    layers = [
        move(
            rng,
            augment_appearance(rng, cut_out, image, static),
            len(masks) + n,
            *shape,
            step,
            recipe.leave,
            most,
            recipe.turned,
        )
        for n, cut_out in enumerate(cast, 1)
    ]
    rng.shuffle(layers)
    if rng.random() < recipe.distractor * (0.4 if warped else 1):
        extra = move(
            rng,
            augment_appearance(rng, _distractor(rng, static, cast), image, static),
            0,
            *shape,
            step,
            turned=recipe.turned,
        )
        layers.insert(int(rng.integers(len(layers) + 1)), extra)
    if rng.random() < recipe.occluder:
        screen = _bar(rng, static.draw_image(rng)) if rng.random() < 0.4 else static.draw_cut_out(rng)
        targets = [*scene.tracks(), *(layer.track() for layer in layers if layer.label)]
        layers.append(pass_in_front(rng, screen, targets[int(rng.integers(len(targets)))], *shape))
    followed = [layer for layer in layers if layer.label]
    if recipe.limbs > 0:
        layers = [part for layer in layers for part in _with_limbs(rng, layer, static, recipe.limbs)]
    if followed and recipe.spray > 0 and rng.random() < recipe.spray:
        layers.append(spray(rng, followed[int(rng.integers(len(followed)))].track()))
    frames, labels = render_clip(scene, layers, range(clip.num_frames), clip.size)
    return frames, np.stack(labels)


def _cast(
    rng: np.random.Generator, static: StaticImages, max_objects: int, num_taken: int, like: str | None
) -> list[CutOut]:
    """The cut-outs to follow, the first from the set `like`; sometimes several are from one set and look alike."""
    room = max_objects - num_taken
    cast: list[CutOut] = []
    wanted = 0 if room == 0 else 1 if rng.random() < 0.4 else int(rng.integers(1, room + 1))
    while len(cast) < wanted:
        cast.append(static.draw_cut_out(rng, _set_of(rng, cast, like)))
    return cast


def _set_of(rng: np.random.Generator, cast: list[CutOut], like: str | None) -> str | None:
    """The set to draw the next cut-out from, None for any."""
    if not cast:
        return like
    return cast[-1].set_name if rng.random() < 0.35 else None


def _with_limbs(rng: np.random.Generator, body: Layer, static: StaticImages, share: float) -> list[Layer]:
    """A layer, with probability `share` with limbs in front of it or behind it."""
    if rng.random() >= share:
        return [body]
    stuff = None if rng.random() < OWN_COLOURS else static.draw_image(rng)
    limbs = grow_limbs(rng, body, stuff)
    return [*limbs, body] if rng.random() < 0.6 else [body, *limbs]


def _distractor(rng: np.random.Generator, static: StaticImages, cast: list[CutOut]) -> CutOut:
    """A cut-out that is not followed; half of the time it looks like one that is."""
    if not cast or rng.random() < 0.5:
        return static.draw_cut_out(rng)
    model = cast[int(rng.integers(len(cast)))]
    return model if rng.random() < 0.4 else static.draw_cut_out(rng, model.set_name)


def _bar(rng: np.random.Generator, image: UInt8[np.ndarray, "H W 3"]) -> CutOut:
    """An upright strip of a photograph: a trunk or a post to pass behind."""
    height, width = image.shape[:2]
    wide = int(width * rng.uniform(0.05, 0.2))
    left = int(rng.integers(width - wide))
    opacity = np.full((height, wide, 1), 255, np.uint8)
    return CutOut(np.concatenate((image[:, left : left + wide], opacity), -1), "")


def grow_limbs(rng: np.random.Generator, body: Layer, stuff: UInt8[np.ndarray, "H W 3"] | None) -> list[Layer]:
    """Returns one to three limbs of a body that swing about a joint, so that they appear from behind it and hide again.

    They move with the body, have its label and all look the same.

    Args:
        rng: random number generator.
        body: layer that the limbs belong to.
        stuff: photograph that their colours are taken from, as for clothes and wheels; None for the body's own colours.
    """
    seen = body.pixels if body.views is None else body.views[0]
    ys, xs = np.nonzero(seen[..., 3] > 127)
    if len(xs) < 16:
        return []
    size = float(np.sqrt(len(xs)))
    long = max(6, round(size * rng.uniform(0.4, 1.1)))
    wide = max(3, round(long * log_uniform(rng, 0.12, 0.6)))
    pixels = _limb(rng, seen, stuff, long, wide)
    num_frames = len(body.to_frame)
    limbs = []
    for _ in range(int(rng.integers(1, 4))):
        joint = int(rng.integers(len(xs)))
        step = log_uniform(rng, 0.05, 1.0)
        angles = rng.uniform(0, 2 * np.pi) + smooth_path(rng, num_frames, 1)[:, 0] * step
        at = np.tile((float(xs[joint]), float(ys[joint])), (num_frames, 1))
        held = affine_path((0.1 * long, wide / 2), at, angles, np.ones((num_frames, 2)), np.zeros(num_frames))
        to_frame = body.to_frame[..., :2] @ held
        to_frame[..., 2] += body.to_frame[..., 2]
        limbs.append(replace(body, pixels=pixels, views=None, bend=None, to_frame=to_frame, shadow=(0.0, 0.0, 0.0)))
    return limbs


def _limb(
    rng: np.random.Generator,
    body: UInt8[np.ndarray, "h w 4"],
    stuff: UInt8[np.ndarray, "H W 3"] | None,
    long: int,
    wide: int,
) -> UInt8[np.ndarray, "wide long 4"]:
    """RGB times opacity, and opacity."""
    colours = recolour(rng, opaque(body), rng.uniform(0, 0.4)) if stuff is None else stuff
    height, width = colours.shape[:2]
    rows, columns = max(1, min(height, wide * 2)), max(1, min(width, long))
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    patch = cv2.resize(colours[top : top + rows, left : left + columns], (long, wide), interpolation=cv2.INTER_AREA)
    along, half = (LIMB_OUTLINE * (long - 1, wide - 1)).T
    middle = (wide - 1) / 2
    points = np.stack((np.r_[along, along[::-1]], middle + np.r_[half, -half[::-1]]), 1)
    opacity = np.zeros((wide, long), np.uint8)
    cv2.fillPoly(opacity, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return np.dstack((patch * (opacity[..., None] / 255), opacity)).astype(np.uint8)
