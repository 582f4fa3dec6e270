"""The table of where each object is, and what the report says of it."""

import csv
import json
import shutil

import pytest
import torch
from drawn_clip import drawn_clip

import mnemask as mm
from mnemask.io import MaskWriter
from mnemask.io.table import COLUMNS, ObjectTable
from mnemask.pipeline import find_checkpoint
from mnemask.types import Frame, Masks


def moment(index, boxes, probability=1.0):
    """Masks of rectangles (left, top, width, height) by id."""
    labels = torch.zeros(40, 60, dtype=torch.int32)
    for object_id, (left, top, width, height) in boxes.items():
        labels[top : top + height, left : left + width] = object_id
    hard = torch.stack([labels == each for each in (0, *boxes)]).float()
    return Masks(labels, probability * hard + (1 - probability) / len(hard), tuple(boxes), index)


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_row_says_where_an_object_is_and_how_it_changed(tmp_path):
    with MaskWriter(tmp_path, "table", objects={300: "घोड़ा, brown:Bobby"}) as writer:
        writer.write(moment(0, {300: (10, 10, 8, 4)}), Frame(torch.zeros(3, 40, 60, dtype=torch.uint8), 0, 1.5))
        writer.write(moment(1, {300: (13, 14, 8, 4)}))
        writer.write(moment(2, {300: (0, 0, 0, 0)}))
    rows = rows_of(tmp_path / "table.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    assert tuple(rows[0]) == COLUMNS
    assert [row["seconds"] for row in rows] == ["1.500000", "", ""]
    assert (rows[0]["class"], rows[0]["instance"]) == ("घोड़ा, brown", "Bobby")
    where = ("object", "area", "centre_x", "centre_y", "left", "top", "width", "height")
    assert [float(rows[1][name]) for name in where] == [300, 32, 16.5, 15.5, 13, 14, 8, 4]
    assert [float(rows[1][name]) for name in ("moved", "growth", "iou", "certainty")] == [5, 1, 0, 1]
    assert [rows[2][name] for name in ("area", "centre_x", "left", "moved")] == ["0", "", "", ""]


def test_the_frames_in_which_an_object_is_lost_or_doubtful_are_told_as_stretches(tmp_path):
    usual, gone = (10, 10, 20, 20), (0, 0, 0, 0)
    with MaskWriter(tmp_path, "table") as writer:
        for index in range(30):
            box = gone if index in (0, 1, *range(20, 25), 29) else usual
            writer.write(moment(index, {1: box}, 0.6 if index in (8, 9, 12) else 1.0))
        table = writer.format
        assert isinstance(table, ObjectTable)
    look = table.looks()[1]
    assert (look["frames"], look["seen"]) == (30, 22)
    assert look["lost"] == [[20, 24], [29, 29]]  # before it was first seen it was not lost
    assert [8, 12] in look["doubtful"]
    assert "lost from 20 to 24, at 29" in look["look"]


@pytest.mark.parametrize("at", [0, 5])
def test_the_table_of_a_resumed_run_is_that_of_one_that_was_not_cut_off(tiny_model, tmp_path, at):
    frames, masks = drawn_clip(9, 32, 48, num_objects=2)
    frames = [Frame(frame, index) for index, frame in enumerate(frames)]
    prompts = {0: {1: masks[0, 0], 2: masks[0, 1]}}
    whole, cut = tmp_path / "whole", tmp_path / "cut"

    def run(out, frames, tracker, resume=None, on_frame=lambda progress, masks: None):
        mm.segment(
            frames, tracker, out, lambda frame: prompts.get(frame.index), checkpoint_every=0.0, resume=resume,
            on_frame=on_frame, objects={1: "disc"},
        )  # fmt: skip
        return json.loads((out / "report.json").read_text())

    def copy(progress, masks):
        if masks.index == at:
            shutil.copytree(whole, cut)  # what a kill would leave

    report = run(whole, frames, mm.Tracker(tiny_model, short_side=None), on_frame=copy)
    left = rows_of(cut / "checkpoint/table.partial.csv")
    assert all(None not in row.values() for row in left)  # whole lines
    checkpoint = find_checkpoint(cut, tiny_model.device, {})
    again = run(cut, frames[checkpoint.last_frame :], mm.Tracker.from_state(checkpoint.state, tiny_model), checkpoint)
    assert (cut / "table.csv").read_bytes() == (whole / "table.csv").read_bytes()
    assert again["objects"] == report["objects"]
    assert [(each["category"], each["frames"]) for each in report["objects"]] == [("disc", 9), ("", 9)]


def test_a_table_of_the_users_is_never_replaced(tiny_model, tmp_path):
    frames, masks = drawn_clip(2, 32, 48, num_objects=1)
    (tmp_path / "table.csv").write_text("mine")
    with pytest.raises(mm.MnemaskError, match=r"table\.csv"):
        mm.segment([Frame(frames[0], 0)], mm.Tracker(tiny_model), tmp_path, lambda frame: {1: masks[0, 0]})
    assert (tmp_path / "table.csv").read_text() == "mine"
