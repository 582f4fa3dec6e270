"""Videos of all kinds through `segment`: what is read, what is refused, and what the report says of it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import mnemask
from drawn_clip import drawn_clip
from PIL import Image
from typer.testing import CliRunner

from mnemask.cli import app
from mnemask.model.checkpoints import save_model


@pytest.fixture(scope="session")
def clip(tmp_path_factory, tiny_model):
    """Frames as arrays, the first labels, and a folder with a checkpoint and the first mask."""
    folder = tmp_path_factory.mktemp("inputs")
    frames, masks = drawn_clip(8, num_objects=2, seed=2)
    labels = [(each[0] + 2 * each[1]).byte().numpy() for each in masks]
    save_model(tiny_model, folder / "tiny.safetensors", dtype=torch.float32)
    Image.fromarray(labels[0]).save(folder / "first.png")
    return [frame.permute(1, 2, 0).numpy() for frame in frames], labels, folder


def segment(clip, video, out, *arguments):
    _, _, folder = clip
    return mnemask("segment", video, "-o", out, "--model", folder / "tiny.safetensors", "--size", "64", *arguments)


def frames_in(folder, pictures):
    folder.mkdir()
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{index:05d}.png")
    return folder


def masks_in(out):
    return {path.stem: np.asarray(Image.open(path)) for path in sorted((out / "masks").glob("*.png"))}


def test_a_part_has_the_masks_that_a_run_begun_there_has(clip, tmp_path):
    frames, labels, _ = clip
    video = frames_in(tmp_path / "frames", frames)
    Image.fromarray(labels[3]).save(tmp_path / "third.png")
    mask = ("--mask", tmp_path / "third.png")
    assert segment(clip, video, tmp_path / "part", *mask, "--start", "3", "--stop", "7")[0] == 0
    alone = frames_in(tmp_path / "alone", frames[3:7])
    assert segment(clip, alone, tmp_path / "whole", *mask)[0] == 0
    part, whole = masks_in(tmp_path / "part"), masks_in(tmp_path / "whole")
    assert list(part) == ["00003", "00004", "00005", "00006"]
    assert all(np.array_equal(one, other) for one, other in zip(part.values(), whole.values(), strict=True))


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (("--start", "8"), "has 8 frames"),
        (("--stop", "9"), "has 8 frames"),
        (("--start", "1s"), "no times"),
        (("--start", "4", "--stop", "2"), "not a range"),
        (("--start", "soon"), "not a position"),
        (("--start", "2", "--at", "1=first.png"), "frame 1"),
        (("--stop", "4", "--at", "5=first.png"), "frame 5"),
    ],
)
def test_a_part_that_there_is_not_is_refused_before_the_first_frame(clip, tmp_path, part, said):
    frames, _, folder = clip
    video = frames_in(tmp_path / "frames", frames)
    part = [text.replace("first.png", str(folder / "first.png")) for text in part]
    code, output = segment(clip, video, tmp_path / "out", "--mask", folder / "first.png", *part)
    assert code == 2
    assert said in output
    assert not list(tmp_path.glob("out/masks/*"))


def test_a_run_that_began_later_is_resumed_with_its_masks(clip, tmp_path):
    frames, _, folder = clip
    video = frames_in(tmp_path / "frames", frames)
    how = ("--mask", folder / "first.png", "--start", "2", "--checkpoint-every", "0")
    assert segment(clip, video, tmp_path / "whole", *how)[0] == 0
    whole = (video / "00005.png").read_bytes()
    (video / "00005.png").write_bytes(whole[:200] + b"\xff" * (len(whole) - 200))
    assert segment(clip, video, tmp_path / "cut", *how)[0] == 2
    (video / "00005.png").write_bytes(whole)
    assert segment(clip, video, tmp_path / "cut", *how, "--resume")[0] == 0
    expected, cut = masks_in(tmp_path / "whole"), masks_in(tmp_path / "cut")
    assert list(cut) == list(expected) == [f"{index:05d}" for index in range(2, 8)]
    assert all(np.array_equal(expected[name], cut[name]) for name in cut)


def test_a_run_in_or_around_its_folder_of_masks_is_resumed_and_done_again(clip, tmp_path):
    frames, labels, _ = clip
    video = frames_in(tmp_path / "frames", frames)
    (tmp_path / "masks").mkdir()
    for index in (0, 3):
        Image.fromarray(labels[index]).save(tmp_path / f"masks/{index:05d}.png")
    for out in (tmp_path / "masks/out", tmp_path / "masks"):
        assert segment(clip, video, out, "--mask", tmp_path / "masks")[0] == 0
        code, said = segment(clip, video, out, "--mask", tmp_path / "masks", "--resume")
        assert (code, "is complete" in said) == (0, True), said
        code, said = segment(clip, video, out, "--mask", tmp_path / "masks", "--overwrite")
        assert code == 0, said


def test_twelve_bits_have_the_masks_of_eight_and_the_report_says_the_range(clip, tmp_path):
    frames, _, folder = clip
    grey = [np.asarray(Image.fromarray(frame).convert("L")) for frame in frames]
    eight, twelve = frames_in(tmp_path / "8", grey), tmp_path / "12"
    twelve.mkdir()
    for index, picture in enumerate(grey):
        wide = np.round(picture * (4095 / 255)).astype(np.uint16)
        Image.fromarray(wide).save(twelve / f"{index:05d}.png")
    for video in (eight, twelve):
        assert segment(clip, video, tmp_path / f"out{video.name}", "--mask", folder / "first.png")[0] == 0
    one, other = masks_in(tmp_path / "out8"), masks_in(tmp_path / "out12")
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert json.loads((tmp_path / "out12/report.json").read_text())["source"]["white"] == 4095


def test_a_stack_has_the_masks_of_its_pages(clip, tmp_path):
    frames, _, folder = clip
    pages = [Image.fromarray(frame) for frame in frames]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    for video in (frames_in(tmp_path / "frames", frames), tmp_path / "stack.tif"):
        assert segment(clip, video, tmp_path / f"out{video.stem}", "--mask", folder / "first.png")[0] == 0
    one, other = masks_in(tmp_path / "outframes"), masks_in(tmp_path / "outstack")
    assert list(one) == list(other)
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_masks_among_the_frames_are_no_frames(clip, tmp_path):
    frames, labels, _ = clip
    video = frames_in(tmp_path / "frames", frames)
    for index in (0, 4):
        Image.fromarray(labels[index]).save(video / f"{index:05d}_mask.png")
    code, _ = segment(clip, video, tmp_path / "out", "--mask", video / "00000_mask.png")
    assert code == 0
    assert len(masks_in(tmp_path / "out")) == 8
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["frames"] == 8
    assert "00000_mask.png" in report["source"]["notes"][0]


def test_frames_and_mask_with_the_same_orientation_tag_are_turned_alike(clip, tmp_path):
    frames, labels, folder = clip
    tag = Image.Exif()
    tag[0x112] = 6
    video = tmp_path / "turned"
    video.mkdir()
    for index, picture in enumerate(frames):
        Image.fromarray(np.rot90(picture).copy()).save(video / f"{index:05d}.png", exif=tag)
    Image.fromarray(np.rot90(labels[0]).copy()).save(tmp_path / "turned.png", exif=tag)
    assert segment(clip, video, tmp_path / "one", "--mask", tmp_path / "turned.png")[0] == 0
    upright = frames_in(tmp_path / "frames", frames)
    assert segment(clip, upright, tmp_path / "other", "--mask", folder / "first.png")[0] == 0
    one, other = masks_in(tmp_path / "one"), masks_in(tmp_path / "other")
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_brackets_in_the_name_of_a_video_are_no_pattern(clip, tmp_path):
    pictures, _, folder = clip
    pages = [Image.fromarray(picture) for picture in pictures[:2]]
    video = tmp_path / "a [1]?.tif"
    pages[0].save(video, save_all=True, append_images=pages[1:])
    code, output = segment(clip, video, tmp_path / "out", "--mask", folder / "first.png")
    assert code == 0, output
    assert len(list((tmp_path / "out/masks").iterdir())) == 2


def test_a_name_that_no_folder_can_have_is_one_sentence(clip, tmp_path):
    _, _, folder = clip
    code, output = segment(clip, folder / "first.png", tmp_path / ("x" * 300), "--mask", folder / "first.png")
    assert code == 2
    assert "cannot create the folder" in output


def test_a_file_without_rights_is_a_sentence(clip, tmp_path, monkeypatch):
    video = tmp_path / "locked.mp4"
    video.write_bytes(b"")
    plain = Path.open

    def opened(path, *how, **also):
        if path == video:
            raise PermissionError(13, "Permission denied", str(path))  # the system's own, which root does not see
        return plain(path, *how, **also)

    monkeypatch.setattr(Path, "open", opened)
    code, said = segment(clip, video, tmp_path / "out", "--mask", clip[2] / "first.png")
    assert code == 2
    assert "Permission denied" in said
    assert "change its permissions" in said


def damage(video, *frames):
    for index in frames:
        path = video / f"{index:05d}.png"
        path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize("on_corrupt", ["skip", "hold"])
@pytest.mark.parametrize("how", ["mask", "box"])
def test_the_first_masks_are_of_the_first_frame_that_comes(clip, tmp_path, caplog, on_corrupt, how):
    frames, labels, _ = clip
    video = frames_in(tmp_path / "frames", frames)
    damage(video, 0)
    Image.fromarray(labels[1]).save(tmp_path / "second.png")
    first = ("--mask", tmp_path / "second.png") if how == "mask" else ("--box", "20,10,30,30")
    code, said = segment(clip, video, tmp_path / "out", *first, "--on-corrupt", on_corrupt)
    assert code == 0, said
    assert "applied to frame 1" in caplog.text
    masks = masks_in(tmp_path / "out")
    assert list(masks) == [f"{index:05d}" for index in range(1, 8)]
    assert masks["00001"].any()
    assert (tmp_path / "out/preview.png").is_file()
    resumed = segment(clip, video, tmp_path / "out", *first, "--on-corrupt", on_corrupt, "--resume")
    assert resumed[0] == 0
    assert "is complete" in resumed[1]


def test_masks_of_the_first_frame_are_still_given_with_others_of_it(clip, tmp_path):
    frames, labels, _ = clip
    video = frames_in(tmp_path / "frames", frames)
    for object_id in (1, 2):
        Image.fromarray((labels[0] == object_id).astype(np.uint8) * 255).save(tmp_path / f"{object_id}.png")
    given = ("--mask", tmp_path / "1.png", "--at", f"0:2={tmp_path / '2.png'}", "--on-corrupt", "skip")
    assert segment(clip, video, tmp_path / "out", *given)[0] == 0
    assert set(np.unique(masks_in(tmp_path / "out")["00000"])) == {0, 1, 2}


@pytest.mark.parametrize(("given", "at"), [("--at", 3), ("--at", 0), ("--remove", 3), ("--at", 7), ("--mask", 0)])
def test_what_is_given_for_a_frame_that_is_damaged_ends_the_run_there(clip, tmp_path, given, at):
    frames, labels, folder = clip
    video, masks = frames_in(tmp_path / "frames", frames), tmp_path / "masks"
    damage(video, at)
    masks.mkdir()
    Image.fromarray(labels[at]).save(masks / f"{at:05d}.png")
    value = {"--at": f"{at}={masks / f'{at:05d}.png'}", "--remove": f"{at}:1", "--mask": masks}[given]
    arguments = [*(["--mask", folder / "first.png"] if at else []), given, value]
    code, said = segment(clip, video, tmp_path / "out", *arguments, "--on-corrupt", "skip")
    assert code == 2
    assert f"frame {at}, which is damaged" in said
    assert ("--on-corrupt hold" in said) == (at > 0)
    assert len(masks_in(tmp_path / "out")) == at
    if at:
        assert segment(clip, video, tmp_path / "held", *arguments, "--on-corrupt", "hold")[0] == 0


def test_a_mask_among_the_frames_is_none_of_them_for_all_commands(clip, tmp_path):
    frames, labels, _ = clip
    video = frames_in(tmp_path / "frames", frames)
    Image.fromarray((labels[0] == 1).astype(np.uint8) * 255).save(video / "00000_obj.jpg", quality=60)
    out = tmp_path / "out"
    assert segment(clip, video, out, "--mask", video / "00000_obj.jpg")[0] == 0
    assert list(masks_in(out)) == [f"{index:05d}" for index in range(8)]
    for command in (
        ["render", video, out, "--as", "matte"],
        ["export", out, "--to", "davis", "-o", tmp_path / "davis", "--video", video],
    ):
        result = CliRunner().invoke(app, [str(argument) for argument in command])
        assert result.exit_code == 0, result.output
    copied = {path.stem: path.read_bytes() for path in (tmp_path / "davis").rglob("JPEGImages/**/*.png")}
    assert copied == {path.stem: path.read_bytes() for path in video.glob("*.png")}


@pytest.mark.parametrize("on_corrupt", ["skip", "hold"])
def test_pictures_of_a_damaged_video_are_exported_as_its_run_read_them(clip, tmp_path, on_corrupt):
    frames, _, folder = clip
    video, out = frames_in(tmp_path / "frames", frames), tmp_path / "out"
    damage(video, 3)
    assert segment(clip, video, out, "--mask", folder / "first.png", "--on-corrupt", on_corrupt)[0] == 0
    command = ["export", out, "--to", "davis", "-o", tmp_path / "davis", "--video", video]
    result = CliRunner().invoke(app, [str(argument) for argument in command])
    assert result.exit_code == 0, result.output
    pictures = {path.name: path for path in (tmp_path / "davis").rglob("JPEGImages/**/*.*")}
    shown = [f"{index:05d}.png" for index in range(8) if index != 3]
    assert sorted(pictures) == sorted([*shown, *["00003.jpg"] * (on_corrupt == "hold")])
    if on_corrupt == "hold":
        held = np.asarray(Image.open(pictures["00003.jpg"])).astype(int)
        assert np.abs(held - frames[2]).mean() < np.abs(held - frames[3]).mean()


@pytest.mark.parametrize(
    "command",
    [
        ["segment", "LONG", "--mask", "MASK", "-o", "out"],
        ["segment", "FRAMES", "--mask", "LONG", "-o", "out"],
        ["segment", "FRAMES", "--mask", "LOOP", "-o", "out"],
        ["doctor", "LONG"],
        ["render", "LONG", "out", "--as", "matte"],
        ["export", "LONG", "--to", "coco"],
        ["inspect", "LONG", "--box", "1,1,2,2", "-o", "out"],
    ],
)
def test_a_name_that_no_file_can_have_is_a_sentence(clip, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    frames_in(tmp_path / "frames", clip[0])
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    places = {"LONG": "a" * 300, "MASK": clip[2] / "first.png", "FRAMES": "frames", "LOOP": "loop.png"}
    result = CliRunner().invoke(app, [str(places.get(each, each)) for each in command])
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2, result.output
    assert ("loop" if "LOOP" in command else "a" * 40) in re.sub(r"\s+", "", result.output)


def test_a_complete_run_tells_a_program_its_report_again(clip, tmp_path):
    frames, _, folder = clip
    video, out = frames_in(tmp_path / "frames", frames), tmp_path / "out"
    assert segment(clip, video, out, "--mask", folder / "first.png")[0] == 0
    command = ["segment", video, "-o", out, "--model", folder / "tiny.safetensors", "--size", "64", "--resume"]
    command += ["--mask", folder / "first.png", "--json"]
    result = CliRunner().invoke(app, [str(argument) for argument in command])
    told = json.loads(result.stdout.splitlines()[-1])
    report = json.loads((out / "report.json").read_text())
    assert told == {"type": "result", "command": "segment", "out": str(out), **report}
