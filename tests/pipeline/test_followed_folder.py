"""A followed folder that loses pictures, or gets them late, while nobody reads it: a resumed run counts as before."""

import csv
import json
import shutil

import cv2
import pytest
import torch
from drawn_clip import drawn_clip
from refusals import refusal

import mnemask as mm
from mnemask.errors import FrameError
from mnemask.memory.storage import load_bank, save_bank
from mnemask.pipeline import find_checkpoint

FRAMES, MASKS = drawn_clip(12, 32, 48, num_objects=2)
PROMPTS = {0: {1: MASKS[0, 0]}, 8: {2: MASKS[8, 1]}}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "frames").mkdir()
    return tmp_path / "frames"


def add(folder, *numbers):
    for number in numbers:
        cv2.imwrite(str(folder / f"{number:05d}.png"), FRAMES[number].permute(1, 2, 0).numpy()[..., ::-1])


def remove(folder, *numbers):
    for number in numbers:
        (folder / f"{number:05d}.png").unlink()


def run(
    model, folder, out, *, resume=False, start=0, stop_at=None, prompts=PROMPTS, on_corrupt="stop",
    checkpoint_every=0.0, on_frame=lambda progress, frame_masks: None,
):  # fmt: skip
    """Tracks through the folder, before frame `stop_at` if given, and returns the report."""
    tracker, checkpoint = mm.Tracker(model, short_side=None), None
    if resume:
        checkpoint = find_checkpoint(out, torch.device("cpu"), {})
        start, tracker = checkpoint.last_frame, mm.Tracker.from_state(checkpoint.state, model)
    seen = iter(range(1 + start, 100))
    with mm.VideoReader(folder, start=start, follow=True, quiet_seconds=0.2, on_corrupt=on_corrupt) as video:
        mm.segment(
            video, tracker, out, lambda frame: prompts.get(frame.index), checkpoint_every=checkpoint_every,
            resume=checkpoint, stop=lambda: "enough" if next(seen) - 1 == stop_at else None, on_frame=on_frame,
        )  # fmt: skip
    return json.loads((out / "report.json").read_text())


def rows(out):
    with (out / "table.csv").open(newline="") as file:
        return [dict(row) for row in csv.DictReader(file)]


def masks(out):
    return {path.name: path.read_bytes() for path in (out / "masks").iterdir()}


@pytest.fixture
def whole(tiny_model, tmp_path):
    """What a run wrote that was not interrupted, of a folder that lost nothing."""
    (tmp_path / "all").mkdir()
    add(tmp_path / "all", *range(12))
    run(tiny_model, tmp_path / "all", tmp_path / "whole")
    return rows(tmp_path / "whole"), masks(tmp_path / "whole")


@pytest.mark.parametrize("removed", [range(3), range(1, 3), range(6)])
def test_a_resumed_run_tracks_every_picture_once_if_those_that_are_done_were_removed(
    tiny_model, tmp_path, folder, whole, removed
):
    add(folder, *range(6))
    run(tiny_model, folder, tmp_path / "out", stop_at=6, prompts={0: PROMPTS[0]})
    remove(folder, *removed)
    add(folder, *range(6, 12))
    report = run(tiny_model, folder, tmp_path / "out", resume=True)
    assert (report["frames"], report["complete"]) == (12, True)
    assert (rows(tmp_path / "out"), masks(tmp_path / "out")) == whole


def test_a_resumed_run_leaves_out_a_picture_that_came_late_and_tracks_none_twice(tiny_model, tmp_path, folder):
    add(folder, *range(3), *range(4, 7))
    run(tiny_model, folder, tmp_path / "out", stop_at=6, prompts={0: PROMPTS[0]})
    before = masks(tmp_path / "out")
    add(folder, 3, *range(7, 10))
    run(tiny_model, folder, tmp_path / "out", resume=True, prompts={})
    names = [f"{number:05d}" for number in (0, 1, 2, *range(4, 10))]
    assert [(int(row["frame"]), row["name"]) for row in rows(tmp_path / "out")] == list(enumerate(names))
    assert {name: masks(tmp_path / "out")[name] for name in before} == before


def test_a_run_whose_pictures_were_all_removed_once_done_has_only_to_be_ended(tiny_model, tmp_path, folder):
    add(folder, *range(4))
    run(tiny_model, folder, tmp_path / "out", stop_at=4, prompts={0: PROMPTS[0]})
    remove(folder, *range(4))
    report = run(tiny_model, folder, tmp_path / "out", resume=True, prompts={})
    assert (report["frames"], report["complete"]) == (4, True)


def test_a_run_without_a_frame_is_not_resumed_with_another_picture_than_its_first(tiny_model, tmp_path, folder):
    killed = tmp_path / "killed"

    def copy(progress, frame_masks):
        if frame_masks.index == 0:
            shutil.copytree(tmp_path / "out", killed, ignore=shutil.ignore_patterns("masks"))

    add(folder, *range(4))
    run(tiny_model, folder, tmp_path / "out", prompts={0: PROMPTS[0]}, checkpoint_every=3600.0, on_frame=copy)
    remove(folder, 0)
    with refusal(FrameError, "'00000'", "put it back"):
        run(tiny_model, folder, killed, resume=True, prompts={0: PROMPTS[0]})
    add(folder, 0)
    run(tiny_model, folder, killed, resume=True, prompts={0: PROMPTS[0]})
    assert rows(killed) == rows(tmp_path / "out")


def test_a_run_that_started_later_is_resumed_after_pictures_were_removed(tiny_model, tmp_path, folder):
    prompts = {2: {1: MASKS[2, 0]}}
    add(folder, *range(6))
    run(tiny_model, folder, tmp_path / "out", start=2, stop_at=5, prompts=prompts)
    remove(folder, *range(4))
    add(folder, *range(6, 9))
    run(tiny_model, folder, tmp_path / "out", resume=True, prompts={})
    assert [(row["frame"], int(row["name"])) for row in rows(tmp_path / "out")] == [(str(n), n) for n in range(2, 9)]


@pytest.mark.parametrize("removed", [(), (0, 1)])
def test_a_resumed_run_holds_the_picture_before_damaged_ones(tiny_model, tmp_path, folder, removed):
    add(folder, *range(8))
    for number in (4, 5):
        path = folder / f"{number:05d}.png"
        path.write_bytes(path.read_bytes()[:300])
    run(tiny_model, folder, tmp_path / "whole", on_corrupt="hold", prompts={0: PROMPTS[0]})
    run(tiny_model, folder, tmp_path / "out", on_corrupt="hold", stop_at=5, prompts={0: PROMPTS[0]})
    remove(folder, *removed)
    report = run(tiny_model, folder, tmp_path / "out", on_corrupt="hold", resume=True, prompts={})
    assert report["video"]["held"] == {"count": 2, "frames": [4, 5]}
    assert (rows(tmp_path / "out"), masks(tmp_path / "out")) == (rows(tmp_path / "whole"), masks(tmp_path / "whole"))


def test_a_checkpoint_that_lacks_the_name_of_the_last_picture_resumes(tiny_model, tmp_path, folder):
    add(folder, *range(6))
    run(tiny_model, folder, tmp_path / "out", stop_at=4, prompts={0: PROMPTS[0]})
    for path in (tmp_path / "out/checkpoint").glob("*.bank"):
        tokens, facts = load_bank(path, torch.device("cpu"))
        del facts["run"]["progress"]["last_name"]
        save_bank(path, tokens, facts)
    assert run(tiny_model, folder, tmp_path / "out", resume=True, prompts={})["frames"] == 6
