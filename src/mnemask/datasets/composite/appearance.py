"""Random appearance: smooth changes over the frames of a clip, sensor effects, and new looks for a cut-out."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mnemask.datasets.composite.photographs import CutOut, StaticImages

# Weights of Rec. 601, so that a change of saturation preserves the brightness.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Returns a random number from low to high, log-uniformly distributed."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def smooth_path(rng: np.random.Generator, num_frames: int, num_values: int) -> Float[np.ndarray, "T n"]:
    """Returns values that start at 0 and drift with momentum; steps are about 1 (root mean square)."""
    path = np.zeros((num_frames, num_values))
    velocity = rng.standard_normal(num_values)
    for t in range(1, num_frames):
        path[t] = path[t - 1] + velocity
        velocity = 0.7 * velocity + 0.7 * rng.standard_normal(num_values)
    return path


def zoom_path(rng: np.random.Generator, num_frames: int, most: float) -> Float[np.ndarray, " T"]:
    """Returns the scale of things in each frame, 1 in the first.

    The largest / smallest scale is up to `most`, log-uniformly distributed. In most clips the scale changes steadily,
    as of a car that approaches or drives away; in the others it is independent in each frame, as after a cut or a long
    gap.

    Args:
        rng: random number generator.
        num_frames: number of frames, at least 2.
        most: maximum ratio of the largest to the smallest scale, at least 1.
    """
    depth = rng.random(num_frames)
    if rng.random() < 0.7:
        depth = np.sort(depth)[:: rng.choice([-1, 1])]
    depth = (depth - depth.min()) / max(float(np.ptp(depth)), 1e-6)
    return np.asarray(log_uniform(rng, 1.0, most) ** (depth - depth[0]))


def affine_path(
    centre: Sequence[float],
    position: Float[np.ndarray, "T 2"],
    angle: Float[np.ndarray, " T"],
    scale: Float[np.ndarray, "T 2"],
    shear: Float[np.ndarray, " T"],
) -> Float[np.ndarray, "T 2 3"]:
    """Returns maps that scale (x, y), shear and rotate about `centre` (x, y) and move it to `position` (x, y)."""
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.stack((np.stack((cos, -sin), -1), np.stack((sin, cos), -1)), -2)
    stretch = np.zeros((len(angle), 2, 2))
    stretch[:, 0, 0], stretch[:, 1, 1], stretch[:, 0, 1] = scale[:, 0], scale[:, 1], shear * scale[:, 1]
    linear = turn @ stretch
    offset = position - linear @ np.asarray(centre, float)
    return np.concatenate((linear, offset[..., None]), -1)


def bend_path(rng: np.random.Generator, num_frames: int, amplitude: float) -> Float[np.ndarray, "T g g 2"]:
    """Returns displacements that are smooth in space and time, of a size of about `amplitude`, in the same unit."""
    shape = (4, 4, 2)  # of the knots
    num_values = math.prod(shape)
    path = smooth_path(rng, num_frames, num_values) + rng.standard_normal(num_values) * 0.5
    path = 2 * np.tanh(path / 2)  # more would fold the picture over itself
    fields = [cv2.resize(p.reshape(shape), (24, 24), interpolation=cv2.INTER_CUBIC) for p in path]
    return np.asarray(np.stack(fields) * amplitude, np.float32)


def recolour(
    rng: np.random.Generator, image: UInt8[np.ndarray, "h w 3"], strength: float
) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the picture in different light and with different tints; strength 0 is no change, 1 is garish."""
    table = tone_table(*(rng.uniform(-1, 1, 5) * strength).tolist())
    return tint(cv2.LUT(image, table), rng.uniform(-0.5, 0.5) * strength, rng.uniform(-0.9, 0.9) * strength)


def tone_table(
    brightness: float, contrast: float, gamma: float, red: float, blue: float
) -> UInt8[np.ndarray, "1 256 3"]:
    """Returns the lookup table (for cv2.LUT) of a change of tone; 0 is no change, ±1 is strong."""
    ramp = np.linspace(0, 1, 256)[:, None] ** np.exp(0.5 * gamma)
    ramp = (ramp - 0.5) * np.exp(0.5 * contrast) + 0.5 + 0.25 * brightness
    ramp = ramp * np.exp(np.array([0.25 * red, 0.0, 0.25 * blue]))
    return np.asarray((np.clip(ramp, 0, 1) * 255).round()[None], np.uint8)


def tint(image: UInt8[np.ndarray, "h w 3"], hue: float, saturation: float) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the picture with the hue rotated (radians) and the saturation multiplied by 1 + `saturation`."""
    if hue == 0 and saturation == 0:
        return image
    return cv2.transform(image, tint_matrix(hue, saturation))


def tint_matrix(hue: float, saturation: float) -> Float[np.ndarray, "3 3"]:
    """Returns the linear map of RGB that `tint` applies; it leaves greys unchanged."""
    axis = np.ones((3, 1)) / np.sqrt(3)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    turn = np.cos(hue) * np.eye(3) + np.sin(hue) * cross + (1 - np.cos(hue)) * axis @ axis.T
    grey = np.ones((3, 1)) @ LUMA[None]
    return np.asarray((1 + saturation) * turn - saturation * grey @ turn)


def motion_blur(image: UInt8[np.ndarray, "h w c"], dx: float, dy: float) -> UInt8[np.ndarray, "h w c"]:
    """Returns the picture with motion blur along (dx, dy) pixels, at most 14."""
    length = float(np.hypot(dx, dy))
    if length < 2:
        return image
    # A small kernel twice: from 11 cells on OpenCV uses a Fourier transform, which is ten times slower.
    passes = 1 if length <= 7 else 2
    reach = min(length / passes, 7.0) / length / 2
    kernel = np.zeros((9, 9), np.uint8)
    ends = [(round(16 * (4 + side * dx * reach)), round(16 * (4 + side * dy * reach))) for side in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 255, 1, cv2.LINE_AA, 4)
    weights = kernel / float(kernel.sum())
    for _ in range(passes):
        image = cv2.filter2D(image, -1, weights)
    return image


def sensor_effects(rng: np.random.Generator, frames: list[UInt8[np.ndarray, "S S 3"]]) -> UInt8[np.ndarray, "T S S 3"]:
    """Returns the clip with random camera effects: drifting tones, shade, blur, noise and compression."""
    num_frames = len(frames)
    tone = rng.uniform(-1, 1, 5) * rng.choice([0.1, 0.5]) + smooth_path(rng, num_frames, 5) * log_uniform(
        rng, 0.01, 0.15
    )
    hue = rng.uniform(-0.15, 0.15) if rng.random() < 0.4 else 0.0
    saturation = -1.0 if rng.random() < 0.07 else (rng.uniform(-0.5, 0.4) if rng.random() < 0.4 else 0.0)
    frames = [
        tint(cv2.LUT(f, tone_table(*np.clip(v, -1.2, 1.2).tolist())), hue, saturation)
        for f, v in zip(frames, tone, strict=True)
    ]
    if rng.random() < 0.2:
        frames = _shade(rng, frames)
    if rng.random() < 0.2:
        frames = _soften(rng, frames)
    if rng.random() < 0.25:
        frames = _grain(rng, frames)
    if rng.random() < 0.35:
        quality = int(rng.integers(25, 90))
        frames = [_compress(frame, quality) for frame in frames]
    return np.stack(frames)


def _shade(rng: np.random.Generator, frames: list[UInt8[np.ndarray, "S S 3"]]) -> list[UInt8[np.ndarray, "S S 3"]]:
    size = frames[0].shape[0]
    low = rng.uniform(0.45, 0.9)
    shaded: list[UInt8[np.ndarray, "S S 3"]] = []
    for field in bend_path(rng, len(frames), 1.0)[..., 0]:
        # Two smooth levels with a soft border between them, like the shade of trees or clouds.
        gain = low + (1.05 - low) / (1 + np.exp(-4 * field))
        gain = cv2.resize(gain.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
        shaded.append(cv2.multiply(frames[len(shaded)], cv2.merge((gain, gain, gain)), dtype=cv2.CV_8U))
    return shaded


def _soften(rng: np.random.Generator, frames: list[UInt8[np.ndarray, "S S 3"]]) -> list[UInt8[np.ndarray, "S S 3"]]:
    """Defocus of all frames, or motion blur of each."""
    if rng.random() < 0.5:
        sigma = log_uniform(rng, 0.5, 2.0)
        return [cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames]
    return [motion_blur(frame, *(rng.standard_normal(2) * 4).tolist()) for frame in frames]


def _grain(rng: np.random.Generator, frames: list[UInt8[np.ndarray, "S S 3"]]) -> list[UInt8[np.ndarray, "S S 3"]]:
    size = frames[0].shape[0]
    strength = log_uniform(rng, 2.0, 14.0)
    sheet = np.asarray(rng.standard_normal((size + 32, size + 32), np.float32)) * np.float32(strength)
    if rng.random() < 0.4:
        sheet = np.asarray(cv2.blur(sheet, (2, 2)) * 2, np.float32)
    sheet = np.asarray(cv2.merge((sheet, sheet, sheet)), np.float32)
    noisy = []
    for frame in frames:
        y, x = rng.integers(0, 32, 2)
        noisy.append(cv2.add(frame, sheet[y : y + size, x : x + size], dtype=cv2.CV_8U))
    return noisy


def _compress(frame: UInt8[np.ndarray, "S S 3"], quality: int) -> UInt8[np.ndarray, "S S 3"]:
    # The codec takes the picture for BGR, which only shifts a little of its loss between red and blue.
    _, encoded = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


def augment_appearance(
    rng: np.random.Generator, cut_out: CutOut, scene: UInt8[np.ndarray, "H W 3"], static: StaticImages
) -> CutOut:
    """Returns the cut-out as is, or recoloured, tinted like the scene, with foreign texture or with added lines."""
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
    """Adds thin parts such as strings, poles and limbs, which photographs with coarse masks lack."""
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
