import numpy as np
import pytest

from mnemask.datasets.composite.clips import grow_limbs
from mnemask.datasets.composite.layers import Layer, move
from mnemask.datasets.composite.photographs import CutOut

STUFF = np.full((40, 60, 3), 50, np.uint8)


def body(rng: np.random.Generator, turned: float) -> Layer:
    cut_out = CutOut(np.full((60, 40, 4), 255, np.uint8), "boxes")
    return move(rng, cut_out, 2, 200, 4, 0.02, turned=turned)


def painted(layers: list[Layer], t: int) -> np.ndarray:
    frame, labels = np.zeros((200, 200, 3), np.uint8), np.zeros((200, 200), np.uint8)
    for layer in layers:
        layer.paint(t, frame, labels)
    return labels


@pytest.mark.parametrize("stuff", [STUFF, None])
@pytest.mark.parametrize("turned", [0.0, 1.0])
def test_limbs_begin_in_their_body_have_its_label_and_swing(turned: float, stuff: np.ndarray | None) -> None:
    changed = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        trunk = body(rng, turned)
        limbs = grow_limbs(rng, trunk, stuff)
        assert 1 <= len(limbs) <= 3
        for limb in limbs:
            assert limb.label == 2
            height, width = limb.pixels.shape[:2]
            joint = np.array([0.1 * width, height / 2, 1.0])
            rest = np.array([width, height / 2, 1.0])
            angles = []
            for t in range(4):
                at = limb.to_frame[t] @ joint
                in_body = np.linalg.solve(trunk.to_frame[t][:, :2], at - trunk.to_frame[t][:, 2])
                if t == 0:
                    first = in_body
                assert np.allclose(in_body, first)
                x, y = np.round(in_body).astype(int)
                assert trunk.pixels[y, x, 3] > 127
                away = np.linalg.solve(trunk.to_frame[t][:, :2], limb.to_frame[t] @ rest - at)
                angles.append(np.arctan2(away[1], away[0]))
            changed += len(set(np.round(angles, 3))) > 1
        grown = [painted([*limbs, trunk], t) for t in range(4)]
        bare = [painted([trunk], t) for t in range(4)]
        assert all((more >= less).all() for more, less in zip(grown, bare, strict=True))
    assert changed > 12


def test_a_body_of_a_few_pixels_has_no_limbs() -> None:
    rng = np.random.default_rng(0)
    speck = move(rng, CutOut(np.full((3, 3, 4), 255, np.uint8), "specks"), 1, 64, 3, 0.02)
    small = Layer(speck.pixels[:3, :3], 1, speck.to_frame, None, speck.light, speck.smear)
    assert grow_limbs(rng, small, STUFF) == []


def test_limbs_of_a_bodys_own_colours_are_not_black() -> None:
    for seed in range(12):
        rng = np.random.default_rng(seed)
        for limb in grow_limbs(rng, body(rng, 1.0), None):
            solid = limb.pixels[limb.pixels[..., 3] == 255]
            assert (solid[:, :3].max(axis=1) > 60).all()
