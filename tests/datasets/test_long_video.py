from drawn_benchmark import draw_video
from refusals import refusal

from mnemask.datasets.published import open_long_video
from mnemask.errors import InputError


def test_videos_have_masks_of_some_frames(tmp_path):
    for name in ("rat", "blueboy"):
        draw_video(tmp_path / "JPEGImages" / name, tmp_path / "Annotations" / name, 9, masked=(0, 4, 7))
    videos = open_long_video(tmp_path)
    assert [(video.name, len(video.frames), list(video.masks)) for video in videos] == [
        ("blueboy", 9, [0, 4, 7]),
        ("rat", 9, [0, 4, 7]),
    ]
    assert not videos[0].single_object


def test_what_is_missing_is_named(tmp_path):
    with refusal(InputError, r"Annotations/VIDEO"):
        open_long_video(tmp_path)
    draw_video(tmp_path / "elsewhere", tmp_path / "Annotations" / "rat", 3)
    with refusal(InputError, r"JPEGImages/rat"):
        open_long_video(tmp_path)
