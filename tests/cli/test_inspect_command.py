"""`inspect` and `segment --trace` as their user runs them."""

import shutil

import cv2
import pytest
import torch
from command_line import mnemask
from drawn_clip import drawn_clip, write_video
from PIL import Image

import mnemask as mm
from mnemask.memory.trace import read_trace
from mnemask.model.checkpoints import save_model


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny_model):
    """A folder with a clip as images, its first mask, and a checkpoint of the tiny model."""
    folder = tmp_path_factory.mktemp("files")
    frames, masks = drawn_clip(6)
    (folder / "frames").mkdir()
    for index, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"frames/{index:05d}.png"), frame.permute(1, 2, 0).numpy()[..., ::-1])
    Image.fromarray(masks[0, 0].byte().numpy()).save(folder / "first.png")
    write_video(folder / "clip.mkv", frames)
    save_model(tiny_model, folder / "tiny.safetensors", dtype=torch.float32)
    return folder


def tracking(files):
    return files / "frames", "--mask", files / "first.png", "--model", files / "tiny.safetensors", "--size", 64


def test_inspect_leaves_the_pictures_it_names(files, tmp_path):
    looks = ("--at-frame", 3, "--at-frame", 5, "--pixel", "40,30", "--write-every", 2, "--policy", "lfu")
    code, output = mnemask("inspect", *tracking(files), *looks, "-o", tmp_path)
    assert code == 0, output
    names = {f"{what}-00000{t}{end}.png" for t in (3, 5) for what, end in (("memory", ""), ("pixel", "-x40-y30"))}
    assert {path.name for path in tmp_path.glob("[!.]*")} == {*names, "memory.json"}
    assert all(name in output for name in names)


def test_inspect_looks_into_a_saved_tracker(files, tmp_path, tiny_model):
    frames, masks = drawn_clip(6)
    tracker = mm.Tracker(tiny_model, short_side=64)
    for t in range(6):
        tracker.step(frames[t], {1: masks[0, 0]} if t == 0 else None)
    tracker.save(tmp_path / "a.bank")
    for number, video in enumerate(([], [files / "frames"])):
        code, output = mnemask("inspect", *video, "--bank", tmp_path / "a.bank", "-o", tmp_path / str(number))
        assert code == 0, output
        assert (tmp_path / str(number) / "memory.png").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "nothing to inspect"),
        (["-", "--mask", "m.png"], "gives its frames only once"),
        (["camera:0", "--mask", "m.png"], "gives its frames only once"),
        (["rtsp://me:secret@a/b", "--mask", "m.png"], "the address gives its frames only once"),
        (["a.mp4", "--mask", "m.png", "--pixel", "3;4"], "is not x,y in whole pixels"),
        (["--bank", "a.bank", "--pixel", "3,4"], "leave out"),
        (["--bank", "a.bank"], "is not a file"),
    ],
)
def test_what_inspect_cannot_do_is_said_in_one_sentence(tmp_path, arguments, sentence):
    code, output = mnemask("inspect", *arguments, "-o", tmp_path / "out")
    assert code == 2
    assert sentence in output


def test_segment_leaves_a_trace_and_the_same_masks(files, tmp_path):
    settings = ("--frames", 1.5, "--write-every", 2)
    assert mnemask("segment", *tracking(files), *settings, "-o", tmp_path / "plain")[0] == 0
    trace = ("--trace", tmp_path / "a.jsonl")
    code, output = mnemask("segment", *tracking(files), *settings, *trace, "-o", tmp_path / "traced")
    assert code == 0, output
    for mask in (tmp_path / "plain/masks").iterdir():
        assert mask.read_bytes() == (tmp_path / "traced/masks" / mask.name).read_bytes()
    records = list(read_trace(tmp_path / "a.jsonl"))
    assert [record.frame for record in records] == [0, 2, 4]
    assert sum(len(record.evicted) for record in records) > 0
    code, output = mnemask("segment", *tracking(files), *trace, "-o", tmp_path / "again")
    assert code == 2
    assert "already exists" in output


def test_the_given_mask_among_the_frames_is_no_frame(files, tmp_path):
    shutil.copytree(files / "frames", tmp_path / "frames")
    with Image.open(files / "first.png") as mask:
        soft = mask.point(lambda value: 255 * value).resize((16, 12)).resize(mask.size, Image.Resampling.BICUBIC)
    soft.save(tmp_path / "frames/00000-1.png")
    given = "--mask", tmp_path / "frames/00000-1.png", "--clean-masks", *tracking(files)[3:]
    code, output = mnemask("inspect", tmp_path / "frames", *given, "-o", tmp_path / "out")
    assert code == 0, output
    assert (tmp_path / "out/memory-000005.png").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--at-frame", 99], "frame 99 was to be inspected, but the video's last frame is 5"),
        (["--remove", "99:1"], "frame 99 but the video has 6 frames"),
        (["--at-frame", 2, "--at", "99=first.png"], "frame 99 but the video has 6 frames"),
    ],
)
def test_frames_beyond_the_end_are_refused_before_anything_is_tracked(
    files, tmp_path, monkeypatch, arguments, sentence
):
    monkeypatch.chdir(files)
    monkeypatch.setattr(mm.Tracker, "step", None)
    code, output = mnemask("inspect", "clip.mkv", *tracking(files)[1:], *arguments, "-o", tmp_path / "out")
    assert code == 2
    assert sentence in output
    assert not list((tmp_path / "out").glob("*"))
