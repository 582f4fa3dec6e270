"""`compare` as its user runs it."""

import json
import re
import shutil

import cv2
import pytest
import torch
from command_line import mnemask
from drawn_clip import drawn_clip, write_video
from PIL import Image

from mnemask.model.checkpoints import save_model


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny_model):
    """A folder with a clip as images, its true masks, and a checkpoint of the tiny model."""
    folder = tmp_path_factory.mktemp("files")
    frames, masks = drawn_clip(5)
    (folder / "frames").mkdir()
    (folder / "truth").mkdir()
    for index, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"frames/{index:05d}.png"), frame.permute(1, 2, 0).numpy()[..., ::-1])
        Image.fromarray(masks[index, 0].byte().numpy() * 255).save(folder / f"truth/{index:05d}.png")
    write_video(folder / "clip.mkv", frames)
    save_model(tiny_model, folder / "tiny.safetensors", dtype=torch.float32)
    return folder


def compare(files, *arguments):
    """Returns the exit code and the output with its line breaks taken out."""
    common = "--model", files / "tiny.safetensors", "--size", 64
    return mnemask("compare", *arguments, *common)


def test_compare_leaves_a_page_and_says_where(files, tmp_path):
    policies = "--policy", "lfu", "--policy", "keep-all"
    given = files / "frames", "--mask", files / "truth/00000.png", *policies, "-o", tmp_path / "out"
    code, output = compare(files, *given, "--frames", 2)
    assert code == 0, output
    assert "consistency" in output
    assert str(tmp_path / "out/compare.html") in re.sub(r" (?=/)", "", output)
    assert (tmp_path / "out/compare.html").stat().st_size > 10_000
    code, output = compare(files, *given, "--frames", 2, "--gt", files / "truth")
    assert code == 0, output
    assert "J&F" in output
    assert json.loads((tmp_path / "out/compare.json").read_text())["ranked_by"] == "J&F"
    code, output = compare(files, *given, "--frames", 3)
    assert code == 2
    assert "holds results with budget" in output
    other_mask = ["--mask", files / "truth/00002.png", *policies, "-o", tmp_path / "out", "--frames", 2]
    code, output = compare(files, files / "frames", *other_mask)
    assert code == 2
    assert "holds results with mask = " in output


def test_a_video_goes_by_its_content_and_not_by_its_name(files, tmp_path):
    shutil.copytree(files / "frames", tmp_path / "frames")
    given = "--mask", files / "truth/00000.png", "--policy", "fifo", "-o", tmp_path / "out", "--no-consistency"
    assert compare(files, tmp_path / "frames", *given)[0] == 0
    assert compare(files, files / "frames", *given)[0] == 0  # the same in another place
    frame = cv2.imread(str(tmp_path / "frames/00003.png"))
    cv2.imwrite(str(tmp_path / "frames/00003.png"), frame // 2)
    code, output = compare(files, tmp_path / "frames", *given)
    assert code == 2
    assert "holds results with video = " in output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["frames", "--policy", "fifo"], "nothing to track"),
        (["-", "--policy", "fifo", "--mask", "truth/00000.png"], "gives its frames only once"),
        (["nothing.mp4", "--policy", "fifo", "--mask", "truth/00000.png"], "there is no 'nothing.mp4'"),
        (["frames", "--policy", "fifo", "--mask", "nothing.png"], "does not exist"),
        (["frames", "--policy", "fifo", "--box", "1,2,3"], "1,2,3"),
        (["frames", "--policy", "nonsense", "--mask", "truth/00000.png"], "nonsense"),
    ],
)
def test_what_compare_cannot_do_is_said_in_one_sentence(files, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(files)
    code, output = compare(files, *arguments, "-o", tmp_path / "out")
    assert code == 2
    assert sentence in output
    assert not (tmp_path / "out/compare.html").exists()


def test_a_mask_with_soft_edges_among_the_frames_is_no_frame(files, tmp_path):
    shutil.copytree(files / "frames", tmp_path / "frames")
    with Image.open(files / "truth/00000.png") as mask:
        mask.resize((16, 12)).resize(mask.size, Image.Resampling.BICUBIC).save(tmp_path / "frames/00000-1.png")
    given = "--mask", tmp_path / "frames/00000-1.png", "--policy", "fifo", "-o", tmp_path / "out", "--no-consistency"
    code, output = compare(files, tmp_path / "frames", *given, "--clean-masks")
    assert code == 0, output
    assert len((tmp_path / "out/frames.csv").read_text().splitlines()) == 1 + 5


@pytest.mark.parametrize(
    ("option", "wrong", "right"),
    [
        ("--at", "99=truth/00003.png", "3=truth/00003.png"),
        ("--remove", "99:1", "3:1"),
        ("--click", "99:2=40,30", "3:2=40,30"),
    ],
)
def test_masks_beyond_the_end_are_refused_before_the_folder_is_taken(
    files, tmp_path, monkeypatch, option, wrong, right
):
    monkeypatch.chdir(files)
    model = ("compact",) if option == "--click" else ("tiny.safetensors",)  # the tiny model has no click head
    given = "clip.mkv", "--mask", "truth/00000.png", "--policy", "fifo", "--no-consistency", "-o", tmp_path / "out"
    common = "compare", *given, "--model", *model, "--size", 32
    code, output = mnemask(*common, option, wrong)
    assert code == 2
    assert "frame 99 but the video has 5 frames" in output
    assert not (tmp_path / "out/policies").exists()
    code, output = mnemask(*common, option, right)
    assert code == 0, output
    assert (tmp_path / "out/compare.html").exists()
