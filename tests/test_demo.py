"""The demo reads a real video file, as a user's run would."""

import pytest
from refusals import refusal

import mnemask as mm
from mnemask.demo import run_demo


def test_the_demo_leaves_a_video_and_its_first_mask_that_segment_takes(tiny_model, tmp_path):
    video = mm.DrawnVideo(12, size=(64, 96), num_objects=2)
    progress, report = run_demo(mm.Tracker(tiny_model, short_side=64), tmp_path, video)
    assert (progress.complete, progress.frames) == (True, 12)
    assert 0 <= report.j_and_f <= 1
    with mm.VideoReader(tmp_path / "clip.mp4") as reader:
        frames = list(reader)
    assert [frame.size for frame in frames] == [(64, 96)] * 12
    difference = (frames[0].image.float() - video[0][0].image.float()).abs().mean()
    assert difference < 12, "the clip is the drawn video, not one with masks drawn in"
    assert set(mm.read_mask(tmp_path / "first.png", (64, 96))) == {1, 2}
    assert len(list((tmp_path / "masks").glob("*.png"))) == 12
    assert (tmp_path / "contact-sheet.png").is_file()


def test_a_second_demo_takes_the_place_of_the_first(tiny_model, tmp_path):
    for num_frames in (14, 12):
        video = mm.DrawnVideo(num_frames, size=(64, 96))
        run_demo(mm.Tracker(tiny_model, short_side=64), tmp_path, video)
    assert len(list((tmp_path / "masks").glob("*.png"))) == 12


@pytest.mark.parametrize("name", ["clip.mp4", "contact-sheet.png", "score.json", "overlay.mp4"])
def test_a_demo_replaces_no_file_of_the_user(tiny_model, tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with refusal(mm.InputError, name):
        run_demo(mm.Tracker(tiny_model, short_side=64), tmp_path, mm.DrawnVideo(12, size=(64, 96)))
    assert (tmp_path / name).read_text() == "mine"
