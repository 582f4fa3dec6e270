import numpy as np
import pytest
from drawn_data import draw_photographs

from mnemask.datasets.clip_augment import KINDS, Screens
from mnemask.datasets.clips import ClipShape, TrainingClip
from mnemask.datasets.composite.photographs import StaticImages

SHAPE = ClipShape(128, 4, 2)
GREY = 90


class Still:
    """A grey square before black, the same in all frames."""

    def draw(self, rng: np.random.Generator, shape: ClipShape) -> TrainingClip:
        labels = np.zeros((shape.num_frames, shape.size, shape.size), np.uint8)
        labels[:, 10:-10, 10:-10] = 1
        return TrainingClip(np.repeat(labels[..., None] * np.uint8(GREY), 3, 3), labels, 1)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> StaticImages:
    root = tmp_path_factory.mktemp("data")
    draw_photographs(root)
    return StaticImages(root / "static")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_a_screen_has_holes_of_all_shapes(kind, seed: int) -> None:
    opacity = kind(np.random.default_rng(seed), 180)
    assert opacity.shape == (180, 180)
    assert 0.01 < np.mean(opacity > 127) < 0.9


def test_what_is_seen_through_the_holes_keeps_its_label_and_the_rest_has_none(photographs: StaticImages) -> None:
    whole, screened = Still().draw(np.random.default_rng(0), SHAPE), Screens(Still(), photographs, 1.0)
    covered, seen = [], []
    for seed in range(12):
        clip = screened.draw(np.random.default_rng(seed), SHAPE)
        assert clip.num_objects == 1
        assert set(np.unique(clip.labels).tolist()) <= {0, 1}
        assert not (clip.labels > whole.labels).any()
        # Where nothing is in front, the frame is as it was.
        as_before = (clip.frames == whole.frames).all(axis=-1)
        gone = (whole.labels == 1) & (clip.labels == 0)
        assert np.mean(as_before & gone) < 0.01
        seen.append(np.mean(as_before & (clip.labels == 1)))
        covered.append(gone.sum() / whole.labels.sum())
    assert np.mean(seen) > 0.2
    assert 0.05 < np.mean(covered) < 0.7


def test_the_share_of_clips_and_the_same_clip_again(photographs: StaticImages) -> None:
    bare = Screens(Still(), photographs, 0.0).draw(np.random.default_rng(1), SHAPE)
    assert bare.labels.sum() == Still().draw(np.random.default_rng(1), SHAPE).labels.sum()
    twice = [Screens(Still(), photographs, 1.0).draw(np.random.default_rng(5), SHAPE) for _ in range(2)]
    assert np.array_equal(twice[0].frames, twice[1].frames)
    assert np.array_equal(twice[0].labels, twice[1].labels)


def test_an_object_that_a_screen_would_hide_altogether_stays(photographs: StaticImages, monkeypatch) -> None:
    wall = lambda rng, side: np.full((side, side), 255, np.uint8)  # noqa: E731
    monkeypatch.setattr("mnemask.datasets.clip_augment.KINDS", (wall,))
    clip = Screens(Still(), photographs, 1.0).draw(np.random.default_rng(0), SHAPE)
    assert clip.num_objects == 1
    assert clip.labels.any()
