"""What the report says of a damaged video, however often the run was cut off."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from drawn_clip import drawn_clip
from refusals import refusal

import mnemask as mm
from mnemask.errors import CheckpointError
from mnemask.memory.storage import load_bank, save_bank
from mnemask.pipeline import find_checkpoint

DAMAGED = (2, 7, 8)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A folder of frames, some of them cut short, one missing, and the masks of the first."""
    folder = tmp_path_factory.mktemp("frames")
    frames, masks = drawn_clip(12, 32, 48, num_objects=1)
    for index, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{index:05d}.png"), frame.permute(1, 2, 0).numpy()[..., ::-1])
    for index in DAMAGED:
        path = folder / f"{index:05d}.png"
        path.write_bytes(path.read_bytes()[:300])
    (folder / "00004.png").unlink()
    return folder, {0: {1: masks[0, 0]}}


def run(model, out, damaged, resume=None, on_frame=lambda progress, masks: None, on_corrupt="hold"):
    folder, prompts = damaged
    start, tracker = 0, mm.Tracker(model, short_side=None)
    if resume is not None:
        start, tracker = resume.last_frame, mm.Tracker.from_state(resume.state, model)
    with mm.VideoReader(folder, start=start, on_corrupt=on_corrupt) as video:
        mm.segment(
            video, tracker, out, lambda frame: prompts.get(frame.index), checkpoint_every=0.0, resume=resume,
            on_frame=on_frame,
        )  # fmt: skip
    return json.loads((out / "report.json").read_text())


def cut_off(model, out, damaged, at, **how):
    """Leaves what a run would if it were killed after this frame, and returns the report of the one that was not."""

    def copy(progress, masks):
        if masks.index == at:
            shutil.copytree(out.with_name("whole"), out)
            shutil.copyfile(out.with_name("whole") / ".mnemask-written", out / ".mnemask-written")  # it knows of all

    return run(model, out.with_name("whole"), damaged, on_frame=copy, **how)


@pytest.mark.parametrize("on_corrupt", ["hold", "skip"])
@pytest.mark.parametrize("at", [0, 3, 5, 9])
def test_a_resumed_run_tells_all_that_happened_once(tiny_model, tmp_path, damaged, at, on_corrupt):
    report = cut_off(tiny_model, tmp_path / "cut", damaged, at, on_corrupt=on_corrupt)
    assert report["video"] == {
        "corrupt": {"count": 3, "frames": [2, 6, 7]},  # the fifth file is missing: numbers count what is there
        "held" if on_corrupt == "hold" else "skipped": {"count": 3, "frames": [2, 6, 7]},
        "missing": {"count": 1, "frames": [4]},
    }
    checkpoint = find_checkpoint(tmp_path / "cut", torch.device("cpu"), {})
    resumed = run(tiny_model, tmp_path / "cut", damaged, checkpoint, on_corrupt=on_corrupt)
    assert resumed["resumed_at"] == [checkpoint.position]
    assert resumed["video"] == report["video"]
    masks = [
        {path.name: path.read_bytes() for path in (tmp_path / name / "masks").iterdir()} for name in ("whole", "cut")
    ]
    assert masks[0] == masks[1]


def test_a_resumed_run_of_a_folder_that_has_grown_reads_it_by_the_same_range_which_the_report_states(
    tiny_model, tmp_path
):
    folder = tmp_path / "frames"
    folder.mkdir()
    frames, masks = drawn_clip(6, 32, 48, num_objects=1)

    def save(index, scale=15):
        grey = frames[index].float().mean(dim=0).numpy()
        cv2.imwrite(str(folder / f"{index}.png"), (grey * scale).astype(np.uint16))

    def run(out, resume=None, stop=lambda: None):
        tracker = mm.Tracker(tiny_model, short_side=None)
        if resume is not None:
            tracker = mm.Tracker.from_state(resume.state, tiny_model)
        start = 0 if resume is None else resume.last_frame
        with mm.VideoReader(folder, start=start, follow=True, quiet_seconds=0.2) as video:
            mm.segment(
                video, tracker, out, lambda frame: {1: masks[0, 0]} if frame.index == 0 else None, checkpoint_every=0.0,
                resume=resume, stop=stop,
            )  # fmt: skip
        return json.loads((out / "report.json").read_text())["source"]

    for index in range(4):
        save(index)
    count = iter(range(10))
    source = run(tmp_path / "out", stop=lambda: "enough" if next(count) == 2 else None)
    assert source["about"] == ["more than 8 bits: 4095 is white (12 bits)"]
    save(4, scale=250)
    resumed = run(tmp_path / "out", find_checkpoint(tmp_path / "out", torch.device("cpu"), {}))
    assert (resumed["white"], resumed["about"]) == (4095, source["about"])
    assert "4.png holds values" in resumed["notes"][0]


@pytest.mark.parametrize(
    ("part", "garbled"),
    [
        ("video", {"exploded": {"count": 1, "frames": []}}),
        ("video", {"held": 3}),
        ("video", {"held": {"count": "many"}}),
        ("source", {"white": 4095}),
        ("source", {"black": 0, "white": 0}),
        ("source", {"black": 0, "white": "many"}),
    ],
)
def test_a_checkpoint_that_garbles_the_video_is_refused(tiny_model, tmp_path, damaged, part, garbled):
    cut_off(tiny_model, tmp_path / "cut", damaged, 5)
    for path in (tmp_path / "cut/checkpoint").glob("*.bank"):
        tokens, facts = load_bank(path, torch.device("cpu"))
        facts["run"]["progress"][part] = garbled
        save_bank(path, tokens, facts)
    with refusal(CheckpointError, "garbles"):
        find_checkpoint(tmp_path / "cut", torch.device("cpu"), {})


def test_a_checkpoint_that_lacks_the_description_of_the_source_resumes(tiny_model, tmp_path, damaged):
    report = cut_off(tiny_model, tmp_path / "cut", damaged, 5)
    for path in (tmp_path / "cut/checkpoint").glob("*.bank"):
        tokens, facts = load_bank(path, torch.device("cpu"))
        del facts["run"]["progress"]["source"]
        save_bank(path, tokens, facts)
    checkpoint = find_checkpoint(tmp_path / "cut", torch.device("cpu"), {})
    assert checkpoint.levels is None
    assert run(tiny_model, tmp_path / "cut", damaged, checkpoint)["source"] == report["source"]
