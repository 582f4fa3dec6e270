"""The same clip in other colours: what moves, and how, stays."""

import numpy as np
import pytest

from mnemask.datasets import clip_augment
from mnemask.datasets.clip_augment import NewLooks
from mnemask.datasets.clips import ClipShape, TrainingClip

SHAPE = ClipShape(64, 3, 2)


class Squares:
    """Two objects of one grey, before ground of the same grey."""

    def draw(self, rng, shape):
        frames = np.full((shape.num_frames, shape.size, shape.size, 3), 120, np.uint8)
        labels = np.zeros(frames.shape[:3], np.uint8)
        labels[:, 4:28, 4:28], labels[:, 36:60, 36:60], labels[:, 50:60, 4:20] = 1, 2, 255
        return TrainingClip(frames, labels, 2)


@pytest.fixture
def without_a_camera(monkeypatch):
    monkeypatch.setattr(clip_augment, "sensor_effects", lambda rng, frames: np.stack(frames))
    monkeypatch.setattr(clip_augment, "WHOLE", 0.0)


@pytest.mark.parametrize("seed", range(5))
def test_each_object_and_the_ground_change_alike_in_all_frames(without_a_camera, seed):
    clip = NewLooks(Squares(), 1.0).draw(np.random.default_rng(seed), SHAPE)
    assert np.array_equal(clip.labels, Squares().draw(None, SHAPE).labels)
    assert np.array_equal(clip.frames[0], clip.frames[2])
    one, other, ground, void = (clip.frames[0][at] for at in ((16, 16), (48, 48), (16, 48), (55, 12)))
    assert np.array_equal(ground, void)
    assert len({tuple(colour.tolist()) for colour in (one, other, ground)}) == 3


def test_the_border_between_two_looks_is_soft(without_a_camera):
    frame = NewLooks(Squares(), 1.0).draw(np.random.default_rng(0), SHAPE).frames[0].astype(int)
    across = frame[16, 20:40].sum(-1)
    steps = np.abs(np.diff(across))
    assert 0 < np.count_nonzero(steps) <= 8
    assert steps.max() < abs(across[-1] - across[0])


def test_the_camera_changes_the_frames_and_not_the_labels():
    clips = [NewLooks(Squares(), 1.0).draw(np.random.default_rng(seed), SHAPE) for seed in (3, 3, 4)]
    assert np.array_equal(clips[0].frames, clips[1].frames)
    assert not np.array_equal(clips[0].frames, clips[2].frames)
    assert np.array_equal(clips[0].labels, clips[2].labels)


def test_the_share_says_how_many_clips_change(without_a_camera):
    plain = Squares().draw(None, SHAPE).frames
    rng = np.random.default_rng(0)
    drawn = [NewLooks(Squares(), 0.5).draw(rng, SHAPE) for _ in range(60)]
    changed = sum(not np.array_equal(clip.frames, plain) for clip in drawn)
    assert 15 < changed < 45
    assert not any((clip.frames != plain).any() for clip in (NewLooks(Squares(), 0.0).draw(rng, SHAPE),) * 5)


def test_at_times_one_look_is_given_to_all(without_a_camera, monkeypatch):
    monkeypatch.setattr(clip_augment, "WHOLE", 1.0)
    frames = NewLooks(Squares(), 1.0).draw(np.random.default_rng(0), SHAPE).frames
    assert len(np.unique(frames.reshape(-1, 3), axis=0)) == 1
    assert frames[0, 0, 0].tolist() != [120, 120, 120]
