"""One folder, fixed shares, some videos left out."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_data import draw_photographs, draw_video, write
from refusals import refusal

from mnemask.datasets.clips import ClipShape
from mnemask.datasets.real_video import SELECTION, RealVideoMixture, open_real_video
from mnemask.errors import InputError

NONE = {"real": 0.0, "pasted": 0.0, "composite": 0.0, "warped": 0.0, "moving": 0.0}


def draw_set(root: Path, name: str, videos: tuple[str, ...], value: int = 1) -> None:
    """Videos of a square that drifts."""
    for video in videos:
        for index in range(10):
            frame, mask = np.full((64, 80, 3), 90, np.uint8), np.zeros((64, 80), np.uint8)
            box = (slice(20, 44), slice(20 + index, 44 + index))
            frame[box], mask[box] = 220, value
            folder = root / "video_train" / name / video
            write(folder / "frames" / f"{index:05d}.webp", frame)
            write(folder / "masks" / f"{index:05d}.png", mask)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    draw_photographs(root)
    draw_video(root)
    draw_set(root, "davis2016_train", ("bear", "hike", "bus"), 255)
    draw_set(root, "omnimatte", ("lime",))
    return root


def test_kinds_come_in_their_shares_whatever_the_size_of_their_sets(root: Path) -> None:
    mixture = open_real_video(root, RealVideoMixture(0.5, 0.25, 0.125, 0.125, 0.0))
    assert mixture.shares.tolist() == [0.5, 0.25, 0.25]
    real = mixture.sources[0].source.source
    assert real.shares.tolist() == pytest.approx([0.75 / 0.84, 0.09 / 0.84])
    assert len(open_real_video(root, RealVideoMixture(**NONE | {"real": 1.0})).sources) == 2


@pytest.mark.parametrize("kind", NONE)
def test_each_kind_can_be_had_alone(root: Path, kind: str) -> None:
    clips = open_real_video(root, RealVideoMixture(**NONE | {kind: 1.0}))
    for seed in range(5):
        clip = clips.draw(np.random.default_rng(seed), ClipShape(64, 4, 2, 20))
        assert clip.frames.shape == (4, 64, 64, 3)
        assert 1 <= clip.num_objects <= 2


def test_what_a_kind_without_a_share_is_drawn_from_need_not_be_there(tmp_path: Path) -> None:
    draw_set(tmp_path, "davis2016_train", ("bear",), 255)
    open_real_video(tmp_path, RealVideoMixture(**NONE | {"real": 1.0})).draw(np.random.default_rng(0), ClipShape(64))
    with refusal(InputError, "photographs"):
        open_real_video(tmp_path)
    with refusal(InputError, "there"):
        open_real_video(tmp_path / "nothing", RealVideoMixture(**NONE | {"real": 1.0}))


def test_the_videos_to_choose_by_are_left_out(root: Path) -> None:
    assert "bus" in SELECTION
    davis = open_real_video(root).sources[0].source.source.sources[0]
    assert [video.name for video in davis.videos] == ["bear", "hike"]
    with refusal(InputError, r"davis2016_train"):
        open_real_video(root, RealVideoMixture(left_out=("bear", "hike", "bus")))


def test_zoom_changes_the_scale_within_clips_and_can_be_switched_off(root: Path) -> None:
    """Every clip shows a square: its area tells the scale."""
    spans = {}
    for zoom in (1.0, 3.0):
        clips = open_real_video(root, RealVideoMixture(**NONE | {"real": 1.0}, zoom=zoom, zoomed=1.0))
        drawn = [clips.draw(np.random.default_rng(seed), ClipShape(96, 4, 1, 10)) for seed in range(80)]
        areas = np.array([[np.count_nonzero(label == 1) for label in clip.labels] for clip in drawn])
        spans[zoom] = np.sqrt(areas.max(1) / areas.min(1).clip(1))
    assert np.median(spans[1.0]) < 1.15
    assert np.median(spans[3.0]) > 1.3
    assert np.percentile(spans[3.0], 90) > 1.8


def test_a_clip_depends_on_the_generator_alone(root: Path) -> None:
    one, other = open_real_video(root), open_real_video(root)
    shapes = Counter()
    for seed in range(20):
        clip = one.draw(np.random.default_rng(seed), ClipShape(64, 3, 3, 20))
        same = other.draw(np.random.default_rng(seed), ClipShape(64, 3, 3, 20))
        assert np.array_equal(clip.frames, same.frames)
        assert np.array_equal(clip.labels, same.labels)
        shapes[clip.num_objects] += 1
    assert len(shapes) > 1


def test_masks_stay_on_what_they_name_through_a_zoom(root: Path) -> None:
    clips = open_real_video(root, RealVideoMixture(**NONE | {"real": 1.0}, zoomed=1.0))
    for seed in range(30):
        clip = clips.draw(np.random.default_rng(seed), ClipShape(96, 4, 1, 10))
        for frame, label in zip(clip.frames, clip.labels, strict=True):
            inner = cv2.erode(label, np.ones((5, 5))) == 1
            outer = cv2.dilate(label, np.ones((5, 5))) == 0
            if inner.any() and outer.any():
                assert frame[inner].mean() > 1.3 * frame[outer].mean()
