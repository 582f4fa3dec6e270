import cv2
import numpy as np
import pytest

from mnemask.datasets.composite.turning import DENSITY, LARGEST, Body, turning

DARK = np.zeros(3)


def body(rng: np.random.Generator) -> Body:
    """Two bumps that hide each other when they turn; each pixel has a colour of its own, the back's above 128."""
    height, width = 40, 80
    y, x = np.mgrid[:height, :width]
    bumps = [np.clip(13 - np.hypot(y - 20, x - centre), 0, None) for centre in (28 + rng.uniform(-3, 3), 52)]
    depth = cv2.GaussianBlur(np.maximum(*bumps), (0, 0), 1.0)
    opacity = np.where(depth > 0.5, 255, 0).astype(np.uint8)
    front = np.stack((x, y, np.zeros_like(x)), -1).astype(np.uint8)
    return Body(front, front + np.uint8(128), opacity, depth)


def nearest(thing: Body, angle: float) -> np.ndarray:
    """Distance of the nearest point in each pixel by trying them all; NaN where there is none."""
    height, width = thing.opacity.shape
    dense = (width * DENSITY, height)
    ys, xs = np.nonzero(cv2.resize(thing.opacity, dense, interpolation=cv2.INTER_LINEAR) > 127)
    depth = cv2.resize(thing.depth, dense, interpolation=cv2.INTER_LINEAR)[ys, xs]
    x = (xs + 0.5) / DENSITY - width / 2
    buffer = np.full((height, width), np.nan)
    for z in (depth, -depth):
        across = np.floor(x * np.cos(angle) + z * np.sin(angle) + width / 2).astype(int)
        for row, column, near in zip(ys, across, z * np.cos(angle) - x * np.sin(angle), strict=True):
            buffer[row, column] = np.fmax(buffer[row, column], near)
    return buffer


@pytest.mark.parametrize("angle", [0.0, 0.5, -0.9, 1.3, -2.2])
def test_what_is_nearest_is_seen(angle: float) -> None:
    thing = body(np.random.default_rng(0))
    seen = thing.view(angle, DARK)
    wanted = nearest(thing, angle)
    inside = cv2.erode((~np.isnan(wanted)).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert seen[..., 3][inside].min() > 127
    # Blurring mixes neighbours, so the place that a pixel shows is known to about a pixel.
    side = np.where(seen[..., 1] >= 128, -1, 1)
    x = seen[..., 0].astype(float) - np.where(side < 0, 128, 0)
    y = seen[..., 1].astype(float) - np.where(side < 0, 128, 0)
    z = side * cv2.remap(thing.depth, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)
    near = z * np.cos(angle) - (x + 0.5 - thing.opacity.shape[1] / 2) * np.sin(angle)
    assert np.median(np.abs(near - wanted)[inside]) < 1
    assert np.mean(np.abs(near - wanted)[inside] < 4) > 0.85


def test_the_front_is_the_photograph_and_the_back_has_its_outline_mirrored() -> None:
    thing = body(np.random.default_rng(1))
    bright = np.array([0.3, 0.2, 0.3])
    front, back = thing.view(0.0, bright), thing.view(np.pi, bright)
    inside = cv2.erode(thing.opacity, np.ones((3, 3), np.uint8)) > 0
    assert np.abs(front[..., :3].astype(int) - thing.front)[inside].max() <= 1
    assert np.array_equal(back[..., 3] > 127, front[:, ::-1, 3] > 127)
    assert back[..., 1][inside[:, ::-1]].min() >= 128


def test_turning_towards_the_light_is_brighter() -> None:
    thing = body(np.random.default_rng(2))
    grey = Body(np.full_like(thing.front, 100), np.full_like(thing.front, 100), thing.opacity, thing.depth)
    from_the_right = np.array([0.35, 0.0, 0.0])

    def mean(angle: float) -> float:
        seen = grey.view(angle, from_the_right)
        return float(seen[..., 0][seen[..., 3] == 255].mean())

    assert mean(-0.5) < 92
    assert mean(0.0) == 100
    assert mean(0.5) > 108


@pytest.mark.parametrize("seed", range(4))
def test_a_large_cut_out_is_made_smaller_and_keeps_its_height(seed: int) -> None:
    rng = np.random.default_rng(seed)
    disc = np.zeros((300, 300, 4), np.uint8)
    cv2.circle(disc, (150, 150), 140, (90, 120, 200, 255), -1)
    views, smaller = turning(rng, disc, 4)
    assert smaller == pytest.approx(LARGEST / 300)
    assert views.shape[0] == 4
    for view in views:
        rows = np.flatnonzero((view[..., 3] > 127).any(1))
        assert np.ptp(rows) == pytest.approx(280 * smaller, abs=3)
        assert (view[..., :3].astype(int) <= view[..., 3:].astype(int) + 1).all()
    again, _ = turning(np.random.default_rng(seed), disc, 4)
    assert np.array_equal(views, again)


def test_a_cut_out_of_one_pixel_can_turn() -> None:
    views, smaller = turning(np.random.default_rng(0), np.full((1, 1, 4), 255, np.uint8), 2)
    assert smaller == 1
    assert views[..., 3].any()
