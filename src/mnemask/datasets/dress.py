"""Other looks for a cut-out, so that one photograph gives many objects."""

import cv2
import numpy as np
from jaxtyping import UInt8

from mnemask.datasets.augment import recolour
from mnemask.datasets.static import CutOut, StaticImages


def dress(rng: np.random.Generator, cut_out: CutOut, scene: UInt8[np.ndarray, "H W 3"], static: StaticImages) -> CutOut:
    """Returns the cut-out as it is, recoloured, in the scene's colours, in another's texture or trailing lines."""
    colours = cut_out.pixels[..., :3]
    opacity = cut_out.pixels[..., 3]
    if rng.random() < 0.06:
        colours = _foreign_texture(static.draw_image(rng), opacity.shape)
    if rng.random() < 0.5:
        colours = recolour(rng, np.ascontiguousarray(colours), rng.uniform(0.1, 0.8))
    if rng.random() < 0.4:
        wanted = np.array(cv2.mean(scene)) - np.array(cv2.mean(colours, opacity))
        colours = cv2.add(colours, wanted * rng.uniform(0.2, 0.9))
    pixels = np.dstack((colours, opacity))
    if rng.random() < 0.06:
        pixels = _with_lines(rng, pixels)
    return CutOut(pixels, cut_out.set_name)


def _foreign_texture(image: UInt8[np.ndarray, "H W 3"], shape: tuple[int, ...]) -> UInt8[np.ndarray, "h w 3"]:
    grow = max(shape[0] / image.shape[0], shape[1] / image.shape[1])
    enlarged = (max(shape[1], round(image.shape[1] * grow)), max(shape[0], round(image.shape[0] * grow)))
    return cv2.resize(image, enlarged, interpolation=cv2.INTER_AREA)[: shape[0], : shape[1]]


def _with_lines(rng: np.random.Generator, pixels: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "H W 4"]:
    """Thin parts, which photographs with coarse masks lack: strings, poles, limbs."""
    reach = int(0.35 * max(pixels.shape))
    larger = cv2.copyMakeBorder(pixels, reach, reach, reach, reach, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))
    ys, xs = np.nonzero(larger[..., 3] > 127)
    height, width = larger.shape[:2]
    for _ in range(int(rng.integers(1, 4))):
        pick = int(rng.integers(len(xs)))
        colour = (*larger[ys[pick], xs[pick], :3].tolist(), 255)
        end = (int(rng.integers(width)), int(rng.integers(height)))
        thickness = max(2, round(max(pixels.shape) * rng.uniform(0.008, 0.03)))
        cv2.line(larger, (int(xs[pick]), int(ys[pick])), end, colour, thickness, cv2.LINE_AA)
    return larger
