from pathlib import Path

import cv2
import numpy as np
from drawn_data import draw_video
from refusals import refusal

from mnemask.datasets.clips import ClipShape
from mnemask.datasets.composite.moving_foreground import RealClips, _continued, _pieces
from mnemask.errors import InputError


def test_frames_and_labels_show_the_same_thing(tmp_path: Path) -> None:
    draw_video(tmp_path)
    clips = RealClips(tmp_path / "video")
    for seed in range(10):
        frames, labels = clips.draw(np.random.default_rng(seed), ClipShape(64, 3, max_objects=2, max_gap=4))
        for frame, label in zip(frames, labels, strict=True):
            bright = frame[..., 0] > 155
            known = label < 255
            assert np.mean(bright[known] != (label[known] == 1)) < 0.03


def test_what_comes_in_after_the_first_frame_is_ignored_not_background(tmp_path: Path) -> None:
    draw_video(tmp_path, count=4, newcomer_from=2)
    clips = RealClips(tmp_path / "video")
    newcomers = 0
    for seed in range(20):
        frames, labels = clips.draw(np.random.default_rng(seed), ClipShape(64, 4, max_objects=1, max_gap=1))
        for frame, label in zip(frames, labels, strict=True):
            wrong = (frame[..., 0] > 190) & (label == 0)
            # A clip shown backwards starts with both; then one of them may be left out on purpose.
            if not (labels[0] == 255).any() and (labels[-1] == 255).sum() > 50:
                newcomers += 1
                assert wrong.mean() < 0.02
    assert newcomers


def test_unknown_pixels_stay_unknown(tmp_path: Path) -> None:
    draw_video(tmp_path)
    for path in (tmp_path / "video" / "square" / "masks").iterdir():
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        mask[:12] = 255
        assert cv2.imwrite(str(path), mask)
    found = [
        RealClips(tmp_path / "video").draw(np.random.default_rng(seed), ClipShape(64, 3, max_objects=1, max_gap=2))[1]
        for seed in range(8)
    ]
    assert any((labels == 255).mean() > 0.02 for labels in found)


def test_of_more_pieces_than_have_numbers_the_others_are_unknown_and_not_background() -> None:
    mask = np.zeros((400, 400), np.uint8)
    for row in range(20):
        for column in range(20):
            mask[20 * row : 20 * row + 6, 20 * column : 20 * column + 6] = 1
    things, boxes = _pieces(mask)
    assert len(boxes) == 254
    assert np.array_equal(things > 0, mask > 0)
    assert np.array_equal(_continued(things, mask)[0] > 0, mask > 0)


def test_clips_longer_than_any_video_are_refused(tmp_path: Path) -> None:
    draw_video(tmp_path, count=3)
    with refusal(InputError, "frames"):
        RealClips(tmp_path / "video").draw(np.random.default_rng(0), ClipShape(64, 5, max_objects=1, max_gap=2))


def test_a_frame_without_a_mask_is_named(tmp_path: Path) -> None:
    draw_video(tmp_path, count=3)
    (tmp_path / "video" / "square" / "masks" / "00001.png").unlink()
    with refusal(InputError, r"00001\.jpg"):
        RealClips(tmp_path / "video")


def test_masks_filed_under_a_neighbouring_frame_are_put_right(tmp_path: Path) -> None:
    draw_video(tmp_path, name="ucsd__hockey", count=6)
    (sequence,) = RealClips(tmp_path / "video").sequences
    assert [path.stem for path in sequence.frames] == ["00000", "00001", "00002", "00003", "00004"]
    assert [path.stem for path in sequence.masks] == ["00001", "00002", "00003", "00004", "00005"]


def test_videos_that_cannot_be_followed_are_left_out(tmp_path: Path) -> None:
    draw_video(tmp_path, name="cdnet__highway")
    with refusal(InputError, "video"):
        RealClips(tmp_path / "video")
