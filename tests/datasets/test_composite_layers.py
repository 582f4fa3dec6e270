import numpy as np
import pytest

from mnemask.datasets.composite.appearance import affine_path, bend_path
from mnemask.datasets.composite.layers import Layer, Scene, fit, move, pass_in_front, spray
from mnemask.datasets.composite.photographs import CutOut

SIZE = 80


def disc(radius: int = 20) -> np.ndarray:
    """A white disc with a soft edge; its colours are multiplied with its opacity."""
    y, x = np.mgrid[-radius - 3 : radius + 4, -radius - 3 : radius + 4]
    opacity = np.clip((radius - np.hypot(y, x)) * 60 + 128, 0, 255)
    return np.repeat(opacity.astype(np.uint8)[..., None], 4, 2)


def still(pixels: np.ndarray, label: int, at: tuple[float, float], **change: object) -> Layer:
    middle = (pixels.shape[1] / 2, pixels.shape[0] / 2)
    ones = np.ones((1, 2))
    to_frame = affine_path(middle, np.array([at], float), np.zeros(1), ones, np.zeros(1))
    given = {"bend": None, "light": np.zeros(1), "smear": np.zeros((1, 2))} | change
    return Layer(pixels, label, to_frame, **given)  # type: ignore[arg-type]


def canvas() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((SIZE, SIZE, 3), np.uint8), np.zeros((SIZE, SIZE), np.uint8)


@pytest.mark.parametrize("seed", range(5))
def test_the_label_is_where_a_moving_bent_smeared_layer_is_more_than_half_opaque(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bend = bend_path(rng, 3, 2.0)
    turn = affine_path(
        (23.0, 23.0), rng.uniform(10, 70, (3, 2)), rng.normal(size=3), rng.uniform(0.7, 1.6, (3, 2)), np.zeros(3)
    )
    layer = Layer(disc(), 2, turn, bend, np.zeros(3), rng.normal(0, 4, (3, 2)))
    for t in range(3):
        frame, labels = canvas()
        layer.paint(t, frame, labels)
        # White on black: what the frame shows is the opacity.
        assert np.array_equal(labels == 2, frame[..., 0] > 127)
        assert (labels == 2).any()


def test_a_layer_in_front_takes_the_pixels_and_an_unlabelled_one_clears_them() -> None:
    frame, labels = canvas()
    still(disc(), 1, (30, 40)).paint(0, frame, labels)
    alone = np.count_nonzero(labels == 1)
    still(disc(), 2, (50, 40)).paint(0, frame, labels)
    assert labels[40, 40] == 2
    assert np.count_nonzero(labels == 1) < alone
    still(disc(30), 0, (40, 40)).paint(0, frame, labels)
    assert labels[40, 40] == 0


def test_a_layer_outside_the_frame_leaves_it_as_it_is() -> None:
    frame, labels = canvas()
    still(disc(), 1, (-60, 40)).paint(0, frame, labels)
    assert not frame.any()
    assert not labels.any()


def test_a_shadow_darkens_the_frame_and_has_no_label() -> None:
    frame, labels = canvas()
    frame[:] = 200
    still(disc(), 1, (30, 40), shadow=(0.5, 25.0, 0.0)).paint(0, frame, labels)
    assert frame[40, 65].tolist() == [100, 100, 100]
    assert labels[40, 65] == 0
    assert frame[40, 30].tolist() == [255, 255, 255]


def test_an_object_mirrored_beyond_the_border_is_ignored() -> None:
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[20:50, :20] = True
    shifted = np.array([[[1.0, 0.0, 30.0], [0.0, 1.0, 0.0]]])
    _, labels = Scene(image, [mask], shifted, None).paint(0, SIZE)
    assert (labels[22:48, 31:49] == 1).all()
    assert (labels[22:48, 12:29] == 255).all()
    assert not labels[:18].any()


def test_a_fitted_cut_out_covers_the_share_asked_for() -> None:
    cut_out = CutOut(disc(40), "discs")
    for share in (0.005, 0.05, 0.3):
        pixels, grow = fit(cut_out, 200, share)
        assert CutOut(pixels, "").area * grow**2 == pytest.approx(share * 200**2, rel=0.1)


@pytest.mark.parametrize("seed", range(10))
def test_an_occluder_is_beside_its_target_first_and_before_it_later(seed: int) -> None:
    rng = np.random.default_rng(seed)
    target = move(rng, CutOut(disc(), "discs"), 1, 200, 3, 0.02)
    screen = pass_in_front(rng, CutOut(disc(), "discs"), target.track(), 200, 3)
    hidden = []
    for t in range(3):
        frame, labels = np.zeros((200, 200, 3), np.uint8), np.zeros((200, 200), np.uint8)
        target.paint(t, frame, labels)
        before = np.count_nonzero(labels)
        screen.paint(t, frame, labels)
        hidden.append(1 - np.count_nonzero(labels) / max(1, before))
    assert hidden[0] < 0.3
    assert max(hidden) > 0.3


def test_an_object_that_leaves_is_gone_for_a_frame_and_comes_back() -> None:
    layer = move(np.random.default_rng(0), CutOut(disc(), "discs"), 1, 200, 3, 0.01, leave=1.0)
    seen = []
    for t in range(3):
        frame, labels = np.zeros((200, 200, 3), np.uint8), np.zeros((200, 200), np.uint8)
        layer.paint(t, frame, labels)
        seen.append(bool(labels.any()))
    assert seen == [True, False, True]


def test_an_object_that_turns_looks_different_in_each_frame_and_as_such_in_a_frame_of_its_own() -> None:
    layer = move(np.random.default_rng(0), CutOut(disc(), "discs"), 1, 200, 3, 0.01, turned=1.0)
    flat = move(np.random.default_rng(0), CutOut(disc(), "discs"), 1, 200, 3, 0.01)
    assert flat.views is None
    assert layer.views is not None
    assert len(layer.views) == 3
    assert not np.array_equal(layer.views[0], layer.views[2])
    for t in range(3):
        whole, one = np.zeros((2, 200, 200, 3), np.uint8)
        labels = np.zeros((2, 200, 200), np.uint8)
        layer.paint(t, whole, labels[0])
        layer.at(t).paint(0, one, labels[1])
        assert np.array_equal(whole, one)
        assert np.array_equal(labels[0], labels[1])
        assert labels.any()


@pytest.mark.parametrize("seed", range(5))
def test_spray_is_seen_near_its_object_and_changes_no_label(seed: int) -> None:
    rng = np.random.default_rng(seed)
    target = move(rng, CutOut(disc(), "discs"), 1, 200, 3, 0.02).track()
    cloud = spray(rng, target)
    for t in range(3):
        frame, labels = np.zeros((200, 200, 3), np.uint8), np.ones((200, 200), np.uint8)
        cloud.paint(t, frame, labels)
        assert (labels == 1).all()
        ys, xs = np.nonzero(frame.any(axis=2))
        assert len(xs)
        assert frame.max() < 128
        assert np.hypot(xs.mean() - target.centre[t, 0], ys.mean() - target.centre[t, 1]) < 4 * target.radius
