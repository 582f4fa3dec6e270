"""What is said of the objects on the command line, from end to end."""

import json
import logging

import cv2
import numpy as np
import pytest
import torch
from command_line import mnemask
from drawn_clip import drawn_clip
from PIL import Image

import mnemask as mm
from mnemask.model.checkpoints import save_model

NUM_FRAMES = 8


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny_model):
    """A folder with a clip, masks of it in several forms, and a checkpoint of the tiny model."""
    folder = tmp_path_factory.mktemp("prompts")
    frames, masks = drawn_clip(NUM_FRAMES, num_objects=2, seed=2)
    labels = [(masks[t, 0] + 2 * masks[t, 1]).byte().numpy() for t in range(NUM_FRAMES)]
    for name in ("frames", "masks", "strange"):
        (folder / name).mkdir()
    for index, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"frames/{index:05d}.png"), frame.permute(1, 2, 0).numpy()[..., ::-1])
    for index, drawn in ((0, labels[0]), (3, labels[3]), (5, 0 * labels[5])):
        Image.fromarray(drawn).save(folder / f"masks/{index:05d}_mask.png")
    Image.fromarray(labels[0]).save(folder / "strange/cover.png")
    (folder / "earlier/masks").mkdir(parents=True)
    Image.fromarray(labels[0]).save(folder / "earlier/preview.png")
    paint = np.array([(0, 0, 0), (0, 0, 255), (255, 0, 0)], np.uint8)
    Image.fromarray(paint[labels[0]]).save(folder / "first.png")
    Image.fromarray(paint[labels[4]]).save(folder / "later.png")
    upside_down = Image.fromarray(paint[labels[4]]).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    upside_down.save(folder / "flipped.png")
    save_model(tiny_model, folder / "tiny.safetensors", dtype=torch.float32)
    return folder


def segment(files, out, *arguments):
    """Returns the exit code and the output with its line breaks taken out."""
    common = "--model", files / "tiny.safetensors", "--size", 64, "-o", out
    return mnemask("segment", files / "frames", *arguments, *common)


def ids(out, index):
    return set(np.unique(Image.open(out / f"masks/{index:05d}.png")).tolist()) - {0}


def test_colours_are_the_same_objects_in_a_later_file_and_the_report_says_which(files, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "mnemask"):
        code, output = segment(files, tmp_path, "--mask", files / "first.png", "--at", f"4={files / 'flipped.png'}")
    assert code == 0, output
    colours = json.loads((tmp_path / "report.json").read_text())["settings"]["colours"]
    assert set(colours) == {"#0000ff", "#ff0000"}
    given = np.array(Image.open(files / "flipped.png"))
    written = np.array(Image.open(tmp_path / "masks/00004.png"))
    for colour, object_id in colours.items():
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert set(written[(given == rgb).all(axis=2)].tolist()) == {object_id}
        assert f"{colour} is object {object_id}" in caplog.text


def test_what_is_selected_is_drawn_before_the_masks_are_computed_and_said_of_a_box(files, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "mnemask"):
        code, output = segment(files, tmp_path, "--mask", files / "first.png", "--box", "10,8,40,30")
    assert code == 0, output
    assert "box 10,8 to 50,38 (40x30) of object 3" in caplog.text
    with Image.open(tmp_path / "preview.png") as preview:
        assert preview.width * 64 == preview.height * 96
    first = tmp_path / "preview.png"
    assert first.stat().st_mtime_ns <= (tmp_path / "masks/00000.png").stat().st_mtime_ns


def test_a_folder_of_masks_corrects_and_ends_and_an_object_is_removed(files, tmp_path):
    code, output = segment(files, tmp_path, "--mask", files / "masks", "--remove", "2:1", "--frames", 4)
    assert code == 0, output
    assert [ids(tmp_path, index) for index in (0, 3)] == [{1, 2}, {1, 2}]
    assert 1 not in ids(tmp_path, 2)
    assert [ids(tmp_path, index) for index in (5, 6, 7)] == [set(), set(), set()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mask", "masks", "--remove", "6:1"], "object 1 is to be removed at frame 6 but is not tracked there"),
        (["--mask", "strange"], "1 of 1 masks in strange match no frame: cover.png"),
        (["--mask", "earlier"], "give earlier/masks, which a run wrote"),
        (["--mask", "frames"], "looks like a photograph"),
        (["--mask", "first.png", "--remove", "99:1"], "frame 99 but the video has 8 frames"),
        (["--mask", "first.png", "--at", "99=later.png"], "frame 99 but the video has 8 frames"),
        (["--mask", "first.png", "--at", "7=gone.png"], "gone.png does not exist"),
        (["--mask", "first.png", "--void", "white"], "void 'white'"),
        (["--mask", "first.png", "--void", "000000255999"], "void '000000255999'"),
        (["--box", "40,20,70,50"], "--box-format xyxy"),
        (["--box", "70,20,40,50", "--box-format", "xyxy"], "give x2 > x1"),
        (["--box", "-60,20,70,30"], "outside the image of 96x64 pixels"),
    ],
)
def test_what_is_wrong_with_any_prompt_is_said_before_anything_is_written(
    files, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(files)
    code, output = segment(files, tmp_path / "out", *arguments)
    assert code == 2, output
    assert message in output
    assert not list((tmp_path / "out").rglob("*.png"))


def test_a_run_that_goes_on_keeps_colours_removals_and_later_masks(files, tmp_path, monkeypatch):
    arguments = ["--mask", files / "first.png", "--at", f"4={files / 'later.png'}", "--remove", "6:1", "--frames", 4]
    assert segment(files, tmp_path / "whole", *arguments)[0] == 0
    step = mm.Tracker.step

    def breaks(tracker, frame, prompts=None):
        if tracker.steps == 3:
            raise mm.InputError("the test stops it here")
        return step(tracker, frame, prompts)

    with monkeypatch.context() as broken:
        broken.setattr(mm.Tracker, "step", breaks)
        assert segment(files, tmp_path / "cut", *arguments, "--checkpoint-every", 0)[0] == 2
    code, output = segment(files, tmp_path / "cut", *arguments, "--resume")
    assert code == 0, output
    assert "resuming at frame 3" in output
    for index in range(NUM_FRAMES):
        whole, cut = (tmp_path / name / f"masks/{index:05d}.png" for name in ("whole", "cut"))
        assert whole.read_bytes() == cut.read_bytes()


def test_a_run_goes_on_only_with_the_same_masks_in_the_folder(files, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    for path in (files / "masks").iterdir():
        (masks / path.name).write_bytes(path.read_bytes())
    assert segment(files, tmp_path / "out", "--mask", masks, "--frames", 4)[0] == 0
    assert segment(files, tmp_path / "out", "--mask", masks, "--frames", 4, "--resume") == (
        0,
        f"{tmp_path / 'out'} is complete ",
    )
    (masks / "00003_mask.png").unlink()
    code, output = segment(files, tmp_path / "out", "--mask", masks, "--frames", 4, "--resume")
    assert code == 2
    assert "started with mask" in output


def test_classes_of_objects_go_to_the_report_and_the_coco_file_also_of_a_resumed_run(files, tmp_path):
    asked = ("--mask", files / "first.png", "--object", "1=camel:Bobby", "--format", "rle", "--resume")
    assert segment(files, tmp_path, *asked)[0] == 0
    objects = json.loads((tmp_path / "report.json").read_text())["objects"]
    assert [(each["id"], each["category"], each["name"]) for each in objects] == [(1, "camel", "Bobby"), (2, "", "")]
    content = json.loads((tmp_path / "masks/masks.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert {each["track_id"]: names[each["category_id"]] for each in content["annotations"]} == {
        1: "camel",
        2: "object",
    }
    assert segment(files, tmp_path, *asked)[0] == 0
    code, output = segment(files, tmp_path, *asked[:3], "1=dog", *asked[4:])
    assert code == 2
    assert "dog" in output


@pytest.mark.parametrize("named", [("1=",), ("camel",), ("1=a", "1=b"), ("0=a",), ("9=camel",), ("1=" + 81 * "a",)])
def test_a_class_that_cannot_be_is_refused_before_the_first_frame(files, tmp_path, named):
    options = [part for each in named for part in ("--object", each)]
    code, _ = segment(files, tmp_path, "--mask", files / "first.png", *options)
    assert code == 2
    assert not (tmp_path / "masks").exists()


@pytest.mark.parametrize("given", [["frames", "--mask", ""], ["frames", "--mask="], ["", "--mask", "first.png"]])
def test_an_empty_path_is_not_the_current_folder(files, tmp_path, monkeypatch, given):
    monkeypatch.chdir(files)
    code, said = mnemask("segment", *given, "-o", tmp_path / "out", columns=200)
    assert code == 2
    assert "it is empty" in said
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_to_the_current_folder_because_a_variable_is_not_set(files, monkeypatch):
    monkeypatch.chdir(files)
    code, said = mnemask("segment", "frames", "--mask", "first.png", "-o", "", columns=200)
    assert (code, "it is empty" in said) == (2, True)
    assert not (files / "report.json").exists()


def test_a_pattern_that_the_shell_replaced_is_to_be_put_in_quotes(files, tmp_path):
    frames = sorted((files / "frames").iterdir())
    code, said = mnemask("segment", *frames, "--mask", files / "first.png", "-o", tmp_path / "out", columns=1000)
    assert code == 2
    assert "put it in quotes" in said
    assert str(frames[-2]) not in said
    code, said = mnemask("segment", frames[0], 300 * "a", "-o", tmp_path / "out", columns=1000)
    assert code == 2
    assert "unexpected extra argument" in said


def test_another_option_without_a_value_does_not_make_the_current_folder_an_empty_path(files, tmp_path, monkeypatch):
    monkeypatch.chdir(files / "frames")
    given = "--mask", files / "first.png", "--stop", "", "-o", tmp_path / "out"
    code, said = mnemask("segment", ".", *given, columns=200)
    assert (code, "it is empty" in said) == (2, False), said
    assert "''" in said


def test_of_two_masks_the_first_is_not_dropped(files, tmp_path):
    given = ["--mask", files / "first.png", "--mask", files / "other.png"]
    code, said = mnemask("segment", files / "frames", *given, "-o", tmp_path / "out", columns=1000)
    assert code == 2
    assert "first.png" in said
    assert "--at FRAME:ID=MASK" in said
    assert not (tmp_path / "out").exists()


def test_two_masks_of_the_first_frame_read_are_given_by_its_number(files, tmp_path):
    labels = np.asarray(Image.open(files / "masks/00003_mask.png"))
    for object_id in (1, 2):
        Image.fromarray((labels == object_id).astype(np.uint8) * 255).save(tmp_path / f"{object_id}.png")
    second = ["--start", 3, "--at", f"3:2={tmp_path / '2.png'}"]
    code, said = segment(files, tmp_path / "refused", "--mask", tmp_path / "1.png", *second)
    assert (code, "--at 3:ID=MASK" in said) == (2, True)
    code, said = segment(files, tmp_path / "out", "--at", f"3:1={tmp_path / '1.png'}", *second)
    assert (code, ids(tmp_path / "out", 3)) == (0, {1, 2}), said
