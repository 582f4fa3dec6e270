"""Objects of one video in another: exact masks, each hiding and hidden, one of several to follow."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_data import draw_photographs
from refusals import refusal

from mnemask.datasets.annotated import AnnotatedVideo
from mnemask.datasets.clips import ClipShape, TrainingClip
from mnemask.datasets.composite.photographs import StaticImages
from mnemask.datasets.pasted_clips import PastedClips
from mnemask.datasets.stcn_augment import ColourTransform
from mnemask.datasets.video_clips import VideoClips
from mnemask.errors import InputError

HOST, GUEST = (0, 0, 255), (0, 255, 0)  # RGB: what is followed in the host's video is blue, what is pasted green


class Host:
    """A blue square on black."""

    def draw(self, rng, shape):
        frames = np.zeros((shape.num_frames, shape.size, shape.size, 3), np.uint8)
        labels = np.zeros(frames.shape[:3], np.uint8)
        for t in range(shape.num_frames):
            box = (slice(40, 90), slice(30 + 5 * t, 90 + 5 * t))
            frames[t][box], labels[t][box] = HOST, 1
        return TrainingClip(frames, labels, 1)


def guest_video(root: Path, name: str = "guest", border: bool = False) -> AnnotatedVideo:
    """A green square that drifts over red ground."""
    (root / name).mkdir()
    frames, masks = [], {}
    for t in range(8):
        picture, mask = np.full((96, 96, 3), (0, 0, 255), np.uint8), np.zeros((96, 96), np.uint8)
        box = (slice(0 if border else 30, 60), slice(0 if border else 20 + 2 * t, 50 + 2 * t))
        picture[box], mask[box] = (0, 255, 0), 1
        frames.append(root / name / f"{t}.bmp")
        masks[t] = root / name / f"{t}.png"
        assert cv2.imwrite(str(frames[t]), picture)
        assert cv2.imwrite(str(masks[t]), mask)
    return AnnotatedVideo(name, tuple(frames), masks, True)


@pytest.fixture
def clips(tmp_path, monkeypatch):
    monkeypatch.setattr(
        ColourTransform, "apply", lambda colours, image: image
    )  # so that colours say what a pixel is of
    return PastedClips(Host(), [(VideoClips([guest_video(tmp_path)]), 1.0)], zoom=3.0)


def draws(clips, max_objects=4, count=60):
    return [clips.draw(np.random.default_rng(seed), ClipShape(128, 4, max_objects)) for seed in range(count)]


def test_masks_lie_exactly_on_what_they_name(clips):
    seen = set()
    for clip in draws(clips):
        for label in range(1, clip.num_objects + 1):
            pixels = clip.frames[clip.labels == label]
            inner = np.stack([cv2.erode((one == label).astype(np.uint8), np.ones((5, 5))) for one in clip.labels]) > 0
            if not inner.any():
                continue
            (colour,) = {tuple(pixel) for pixel in (clip.frames[inner] > 127).astype(int).tolist()}
            seen.add(colour)
            assert np.mean((pixels > 127) == np.array(colour)) > 0.9  # its edge is soft
    assert seen == {(0, 0, 1), (0, 1, 0)}
    # None of the guest's old background came along, and all that is green or blue has a label.
    for clip in draws(clips):
        assert clip.frames[..., 0].max() < 100


def test_each_hides_the_other_in_some_clips(clips):
    host_hidden, guest_hidden = 0, 0
    for clip in draws(clips):
        blue = (clip.frames[..., 2] > 127).sum((1, 2))
        host_hidden += bool((blue < 0.95 * 50 * 60).any())
        whole = [
            cv2.minAreaRect(cv2.findNonZero((frame[..., 1] > 127).astype(np.uint8)))
            for frame in clip.frames
            if (frame[..., 1] > 127).any()
        ]
        guest_hidden += bool((blue == 50 * 60).all() and whole)
    assert host_hidden > 10
    assert guest_hidden > 10


def test_no_more_are_followed_than_asked_for_and_either_may_be_the_one(clips):
    colours = set()
    for clip in draws(clips, max_objects=1):
        assert clip.num_objects == 1
        assert set(np.unique(clip.labels)) <= {0, 1}
        colours.add(int(clip.frames[0][clip.labels[0] == 1].mean(0).argmax()))
    assert colours == {1, 2}
    assert {clip.num_objects for clip in draws(clips)} >= {2, 3}


def test_guests_grow_and_shrink(clips):
    ratios = []
    for clip in draws(clips, max_objects=1):
        areas = [(frame[..., 1] > 127).sum() for frame in clip.frames]
        ratios.append(max(areas) / max(1, min(areas)))
    assert np.mean(np.array(ratios) > 3) > 0.1


def test_a_clip_depends_on_the_generator_alone(clips):
    one, other = (clips.draw(np.random.default_rng(3), ClipShape(128, 3, 3)) for _ in range(2))
    assert (one.frames == other.frames).all()
    assert (one.labels == other.labels).all()


def test_a_double_of_the_hosts_object_is_followed_or_is_background(clips):
    """What is blue is the host's square or a double of it."""
    clips.doubles = 1.0
    followed, background = 0, 0
    for clip in draws(clips):
        blue = (clip.frames[0][..., 2] > 200).astype(np.uint8)
        labels = {int(each) for each in np.unique(clip.labels[0][cv2.erode(blue, np.ones((5, 5))) > 0])}
        followed += len(labels - {0}) > 1
        background += 0 in labels and len(labels) > 1
    assert followed > 10
    assert background > 15


def test_things_of_photographs_are_pasted_too(clips, tmp_path):
    """What a label lies on is blue, green, or of a photograph; each kind of guest comes in about half of the clips."""
    draw_photographs(tmp_path)
    clips.photographs = StaticImages(tmp_path / "static")
    with_photographs = 0
    for clip in draws(clips):
        colours = {
            tuple((np.median(clip.frames[0][clip.labels[0] == label], 0) > 127).tolist())
            for label in range(1, clip.num_objects + 1)
        }
        with_photographs += bool(colours - {(False, False, True), (False, True, False)})
        known = (clip.frames > 127).any(-1)
        assert (clip.labels[known] > 0).mean() > 0.9
    assert 10 < with_photographs < 50


def test_what_its_video_cuts_off_is_not_pasted(tmp_path):
    cut = PastedClips(Host(), [(VideoClips([guest_video(tmp_path, border=True)]), 1.0)])
    with refusal(InputError, r"50"):
        cut.draw(np.random.default_rng(0), ClipShape(128, 3, 2))
