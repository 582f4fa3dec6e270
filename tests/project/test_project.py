import copy
import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from drawn_clip import write_video
from project_clip import NUM_FRAMES, SIZE, all_labels, drawn, overlap, write_images
from refusals import refusal

import mnemask as mm
from mnemask.errors import FrameError, InputError, MaskError, ObjectIdError, OutputError
from mnemask.export import export_masks
from mnemask.io import atomic, random_access
from mnemask.io.edges import Cutout
from mnemask.project import (
    export_project,
    journal,
    picture_memory,
    picture_reason,
    replay,
    set_corrections,
    snapshots,
    tracking,
)

CAT = 1


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Folder of images, frames, masks."""
    frames, masks = drawn()
    return write_images(tmp_path_factory.mktemp("clip") / "animals", frames), frames, masks


@pytest.fixture(scope="module")
def compact():
    return mm.load_model("compact")


@pytest.fixture
def project(tmp_path, clip, compact):
    with mm.Project.create(tmp_path / "project", clip[0], compact, size=min(SIZE)) as made:
        yield made


def track_first(project, masks, frame=0):
    """Marks the first animal in a frame, tracks it to the end and returns its id."""
    number = project.add_object("cat")
    project.set_key(frame, number, masks[frame, 0])
    project.track(frame)
    return number


@pytest.fixture(scope="module")
def template(tmp_path_factory, clip, compact):
    folder = tmp_path_factory.mktemp("template") / "project"
    with mm.Project.create(folder, clip[0], compact, size=min(SIZE)) as made:
        assert track_first(made, clip[2]) == CAT
    return folder


@pytest.fixture
def tracked(tmp_path, template, compact):
    """A project in which CAT was marked in frame 0 and tracked to the end."""
    shutil.copytree(template, tmp_path / "tracked")
    with mm.Project(tmp_path / "tracked", compact) as opened:
        yield opened


def test_tracking_gives_the_masks_of_a_tracker_and_a_correction_those_of_one_that_knows_the_keys_alone(
    tracked, clip, compact
):
    _, frames, masks = clip
    tracker = mm.Tracker(compact, budget=mm.Budget(frames=2.0), short_side=min(SIZE))
    for index, image in enumerate(frames):
        answer = tracker.step(mm.Frame(image, index), {CAT: masks[0, 0]} if index == 0 else None)
        assert torch.equal(answer.labels, tracked.labels(index)), index
    tracked.set_key(13, CAT, masks[13, 0])
    tracked.track(13)
    # Each further key frame brings its room with it; no correction takes the place of another.
    tracker = mm.Tracker(compact, budget=mm.Budget(frames=3.0), keep_corrections=True, short_side=min(SIZE))
    for index in (0, *range(13, NUM_FRAMES)):
        given = {CAT: masks[index, 0]} if index in (0, 13) else None
        answer = tracker.step(mm.Frame(frames[index], index), given)
        assert index == 0 or torch.equal(answer.labels, tracked.labels(index)), index


def test_a_pass_that_was_paused_goes_on_as_if_it_never_had_been(tmp_path, clip, compact, tracked):
    _, _, masks = clip
    with mm.Project.create(tmp_path / "paused", clip[0], compact, size=min(SIZE)) as paused:
        number = paused.add_object("cat")
        paused.set_key(0, number, masks[0, 0])
        first = paused.track(0, stop=lambda: paused.is_tracked(7))
        assert (first.reached, first.complete) == (7, False)
        rest = paused.track(7)
        assert (rest.frames, rest.complete) == (NUM_FRAMES - 8, True)
        assert torch.equal(all_labels(paused), all_labels(tracked))


def test_a_pass_far_ahead_of_what_is_tracked_begins_with_the_marks_alone(project, clip, compact, monkeypatch):
    monkeypatch.setattr(tracking, "NEAR", 4)
    _, frames, masks = clip
    cat = project.add_object("cat")
    project.set_key(0, cat, masks[0, 0])
    project.track(0, to=3)
    seen = []
    project.track(20, on_frame=lambda report, frame: seen.append(frame.index))
    assert seen == [0, *range(20, NUM_FRAMES)]
    tracker = mm.Tracker(compact, budget=mm.Budget(frames=2.0), keep_corrections=True, short_side=min(SIZE))
    tracker.step(mm.Frame(frames[0], 0), {cat: masks[0, 0]})
    assert torch.equal(project.labels(20), tracker.step(mm.Frame(frames[20], 20)).labels)
    seen.clear()
    project.track(6, to=7, on_frame=lambda report, frame: seen.append((frame.index, report.reached)))
    assert seen == [(4, None), (5, None), (6, 6), (7, 7)]
    assert np.flatnonzero(project.known()).tolist() == [0, 1, 2, 3, 6, 7, *range(20, NUM_FRAMES)]


def test_the_way_from_an_earlier_state_can_be_stopped_and_leaves_all_as_it_was(tracked, clip):
    before = all_labels(tracked)
    for path in (tracked.folder / "states").iterdir():
        if not path.stem.endswith("00"):
            path.unlink()
    dog = tracked.add_object("dog")
    tracked.set_key(15, dog, clip[2][15, 1])
    seen = []
    report = tracked.track(15, stop=lambda: len(seen) == 3, on_frame=lambda report, frame: seen.append(frame.index))
    assert seen == [1, 2, 3]
    assert (report.reached, report.complete, report.frames) == (None, False, 0)
    tracked.clear_key(15, dog)
    assert torch.equal(all_labels(tracked), before)
    with refusal(InputError, "stopped"):
        tracked.tracker_before(15, stop=lambda: True)


def test_one_damaged_frame_ends_neither_tracking_nor_an_export(tmp_path, clip, compact, caplog):
    folder = shutil.copytree(clip[0], tmp_path / "damaged")
    (folder / "00009.png").write_bytes((folder / "00009.png").read_bytes()[:200])
    with mm.Project.create(tmp_path / "project", folder, compact, size=min(SIZE)) as project:
        cat = track_first(project, clip[2])
        assert project.known().all()
        assert "frame 8 takes its place" in caplog.text
        assert overlap(project.labels(9) == cat, project.labels(8) == cat) > 0.9
        for mask_format in ("png", "ffv1", "green"):
            export_project(project, tmp_path / mask_format, mask_format=mask_format)
        export_masks(project, "table", tmp_path / "table")
        export_masks(project, "coco", tmp_path / "coco", video=folder)
        project.track(NUM_FRAMES - 1, "backward")
        project.set_key(9, cat, clip[2][9, 0])
        assert project.track(9).complete


def test_a_folder_that_disappears_during_a_pass_ends_it_and_changes_no_later_mask(tmp_path, clip, compact):
    folder = write_images(tmp_path / "clip", clip[1])
    with mm.Project.create(tmp_path / "project", folder, compact, size=min(SIZE)) as project:
        cat = track_first(project, clip[2])
        before = all_labels(project)
        project.set_key(0, cat, clip[2][0, 1])
        project.frames.forget()

        def move(report, frame):
            if report.reached == 5:
                folder.rename(tmp_path / "away")

        with refusal(FrameError, "no longer there", "put it back"):
            project.track(0, on_frame=move)
        reached = project.actions[-1]["reached"]
        assert 5 <= reached < NUM_FRAMES - 1
        assert torch.equal(all_labels(project)[reached + 1 :], before[reached + 1 :])
        (tmp_path / "away").rename(folder)
        assert all(torch.equal(project.frames.held(index).image, image) for index, image in enumerate(clip[1]))
        project.track(reached)
        assert overlap(project.labels(NUM_FRAMES - 1) == cat, clip[2][-1, 1]) > 0.5


def test_exports_of_a_damaged_video_pair_masks_with_the_pictures_that_they_were_made_on(tmp_path, clip):
    path, count = tmp_path / "v.mp4", 12
    options = {"g": "12", "bf": "3", "b_strategy": "0", "sc_threshold": "0"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options=options)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for index in range(count):
            blocks = np.random.default_rng(index).integers(0, 256, (SIZE[0] // 8, SIZE[1] // 8), np.uint8)
            picture = np.repeat(np.kron(blocks, np.ones((8, 8), np.uint8))[..., None], 3, axis=2)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    lost = next(packet for packet, after in pairwise(packets[1:]) if packet.pts > after.pts)  # stored before others
    data = bytearray(path.read_bytes())
    data[lost.pos : lost.pos + lost.size] = bytes([255]) * lost.size
    path.write_bytes(data)
    with mm.Project.create(tmp_path / "project", path) as project:
        pictures = [project.frames.held(index).image[0].float() for index in range(count)]
        cat = project.add_object("cat")
        for index in range(count):
            project.set_key(index, cat, torch.ones(SIZE, dtype=torch.bool))
        with refusal(InputError, "own frame times", "--fps"):
            export_project(project, tmp_path / "green", mask_format="green", frames_per_second=24)
        assert not (tmp_path / "green/masks").exists()
        export_project(project, tmp_path / "green", mask_format="green")
        export_masks(project, "yolo", tmp_path / "yolo", video=path)
    with mm.VideoReader(tmp_path / "green/masks/green.mp4") as video:
        shown = [frame.image[0].float() for frame in video]
    files = sorted((tmp_path / "yolo/images").glob("*.jpg"))
    assert len(shown) == len(files) == count
    for index in range(count):
        for found in (shown[index], torch.from_numpy(cv2.imread(str(files[index]))[..., 0]).float()):
            away = [float((found - each).abs().mean()) for each in pictures]
            assert away[index] == min(away) < 10, (index, away)


def test_a_prompt_in_the_middle_tracks_both_ways(project, clip):
    masks = clip[2]
    cat = track_first(project, masks, 12)
    assert not any(project.is_tracked(index) for index in range(12))
    project.track(12, "backward")
    assert all(overlap(project.labels(index) == cat, masks[index, 0]) > 0.7 for index in range(NUM_FRAMES))


def test_a_pass_backwards_leaves_what_was_tracked_from_earlier_keys(tracked, clip):
    masks = clip[2]
    before = all_labels(tracked) == CAT
    dog = tracked.add_object("dog")
    tracked.set_key(20, dog, masks[20, 1])
    tracked.track(20, "backward")
    after = all_labels(tracked)
    assert overlap(after[3] == dog, masks[3, 1]) > 0.7
    assert torch.equal((after == CAT)[:20], before[:20] & (after[:20] != dog))


def test_only_frames_that_a_key_can_change_are_computed_again(tracked, clip):
    masks = clip[2]
    before, seen = all_labels(tracked), []
    tracked.set_key(15, CAT, masks[15, 1])
    tracked.track(15, on_frame=lambda report, frame: seen.append((frame.index, report.reached)))
    assert seen == [(0, None), *((index, index) for index in range(15, NUM_FRAMES))]
    assert torch.equal(all_labels(tracked)[:15], before[:15])


def test_a_correction_is_remembered_when_earlier_frames_are_tracked_again(tracked, clip):
    masks = clip[2]
    tracked.set_key(10, CAT, masks[10, 0])
    tracked.set_key(20, CAT, masks[20, 0])
    memory = tracked.tracker_before(5).memory.provenance()
    assert {0, 10, 20} <= set(memory.frame[memory.pinned].tolist())


def test_accepted_frames_never_change(tracked, clip):
    masks = clip[2]
    before = all_labels(tracked)
    tracked.accept(4, 9)
    tracked.accept(NUM_FRAMES - 2, NUM_FRAMES - 1)
    tracked.set_key(0, CAT, masks[0, 1])  # another animal: everything changes
    report = tracked.track(0)
    assert report.last == NUM_FRAMES - 3
    after = all_labels(tracked)
    assert torch.equal(after[4:10], before[4:10])
    assert torch.equal(after[-2:], before[-2:])
    assert not torch.equal(after[10], before[10])
    with pytest.raises(mm.InputError):
        tracked.set_key(5, CAT, masks[5, 0])
    tracked.unaccept(5, 5)
    tracked.set_key(5, CAT, masks[5, 0])
    assert tracked.state.accepted == ((4, 4), (6, 9), (NUM_FRAMES - 2, NUM_FRAMES - 1))


def test_a_key_does_not_change_in_a_frame_that_another_page_accepts_meanwhile(tracked, clip, monkeypatch):
    def accepting(before):
        def call(*asked):
            answer = before(*asked)
            monkeypatch.undo()
            page = threading.Thread(target=tracked.accept, args=[0, 5])
            page.start()
            page.join(0.5)  # or it waits until the key is cleared
            return answer

        return call

    before = tracked.state.keys
    monkeypatch.setattr(tracked._masks, "add", accepting(tracked._masks.add))
    with refusal(InputError, "frame 0 was accepted"):
        tracked.set_key(0, CAT, clip[2][0, 1])
    assert tracked.state.keys == before
    tracked.unaccept(0, 5)
    monkeypatch.setattr(tracked, "check_changeable", accepting(tracked.check_changeable))
    tracked.clear_key(0, CAT)
    while not tracked.state.accepted:
        time.sleep(0.01)
    assert [line["do"] for line in tracked.actions[-2:]] == ["clear_key", "accept"]


def test_a_key_that_an_earlier_version_set_in_an_accepted_frame_is_repeated(tmp_path, tracked, clip, compact):
    tracked.set_key(3, CAT, clip[2][3, 0])
    key = tracked.actions[-1]
    tracked.accept(0, 5)
    tracked._history.log(key)
    tracked.close()
    with (
        mm.Project(tracked.folder, compact) as opened,
        replay(tracked.folder, tmp_path / "again", model=compact) as again,
    ):
        assert again.state == opened.state
        assert torch.equal(all_labels(again), all_labels(opened))


def test_an_empty_key_says_that_the_object_is_gone_until_it_is_marked_again(project, clip):
    masks = clip[2]
    cat = project.add_object("cat")
    project.set_key(0, cat, masks[0, 0])
    project.set_key(6, cat, torch.zeros(SIZE, dtype=torch.bool))
    project.set_key(14, cat, masks[14, 0])
    project.track(0)
    expected = [True] * 6 + [False] * 8 + [True] * (NUM_FRAMES - 14)
    assert [bool((project.labels(index) == cat).any()) for index in range(NUM_FRAMES)] == expected
    project.track(9)  # from within, where what comes later is known already
    assert [bool((project.labels(index) == cat).any()) for index in range(NUM_FRAMES)] == expected
    shutil.rmtree(project.folder / "states")
    (project.folder / "states").mkdir()
    project.track(9)
    assert [bool((project.labels(index) == cat).any()) for index in range(NUM_FRAMES)] == expected


def test_where_marks_of_a_frame_overlap_the_one_set_last_is_shown_and_taught(project, monkeypatch):
    large, small = torch.zeros(2, *SIZE, dtype=torch.bool)
    large[10:50, 10:60], small[20:30, 20:30] = True, True
    given, step = {}, mm.Tracker.step

    def noted(tracker, frame, prompts=None):
        given[frame.index] = prompts
        return step(tracker, frame, prompts)

    monkeypatch.setattr(mm.Tracker, "step", noted)
    cat, dog = project.add_object("cat"), project.add_object("dog")
    project.set_key(0, cat, large)
    project.set_key(0, dog, small)
    project.track(0, to=1)
    assert torch.equal(given[0][cat], large & ~small)
    assert torch.equal(given[0][dog], small)
    project.set_key(0, cat, large)  # the same mask, on top now
    project.track(0, to=1)
    assert torch.equal(project.labels(0) == cat, large)
    assert list(given[0]) == [cat]
    assert torch.equal(given[0][cat], large)
    project.undo()
    assert torch.equal(project.labels(0) == dog, small)


def test_undo_and_redo_bring_back_what_was_said(project, clip):
    masks = clip[2]
    cat = project.add_object("cat", category="animal")
    project.set_key(0, cat, masks[0, 0])
    project.set_key(0, cat, masks[0, 1])
    assert torch.equal(project.labels(0) == cat, masks[0, 1])
    assert project.undo()
    assert torch.equal(project.labels(0) == cat, masks[0, 0])
    assert project.redo()
    assert not project.redo()
    for _ in range(3):
        assert project.undo()
    assert not project.undo()
    assert not project.state.objects


def test_undo_and_redo_return_what_they_turned(project, clip):
    cat = project.add_object("cat")
    project.set_key(4, cat, clip[2][4, 0])
    project.change_settings(frames=3)
    assert (project.undo() or {})["frame"] == 4
    assert (project.undo() or {})["id"] == cat
    assert (project.redo() or {})["do"] == "add_object"


def test_objects_beyond_the_palette_have_colours_of_their_own(project):
    for _ in range(40):
        project.add_object()
    colors = [
        np.array([int(each.color[at : at + 2], 16) for at in (1, 3, 5)]) for each in project.state.objects.values()
    ]
    apart = [np.abs(one - other).max() for place, one in enumerate(colors) for other in colors[:place]]
    assert min(apart) > 12


def test_a_new_object_has_no_masks_of_a_removed_one_and_undo_brings_those_back(tracked):
    before = tracked.labels(5)
    tracked.remove_object(CAT)
    new = tracked.add_object()
    assert not (tracked.labels(5) == new).any()
    assert not tracked.confidence(new)["doubt"].any()
    tracked.undo()
    tracked.undo()
    assert torch.equal(tracked.labels(5), before)


def test_undo_brings_back_the_masks_of_an_object_though_another_was_tracked_since(tracked, clip):
    before = all_labels(tracked) == CAT
    tracked.remove_object(CAT)
    dog = tracked.add_object("dog")
    tracked.set_key(0, dog, clip[2][0, 1])
    tracked.track(0)
    assert not (tracked.labels(9) == CAT).any()
    for _ in range(3):
        tracked.undo()
    after = all_labels(tracked) == CAT
    assert all(overlap(after[frame], before[frame]) > 0.7 for frame in range(NUM_FRAMES))


def test_what_was_accepted_is_named_where_nothing_is_left_to_track_and_goes_with_the_last_object(tracked):
    tracked.accept(0, NUM_FRAMES - 1)
    with refusal(InputError, "accepted", "unaccept"):
        tracked.track(3)
    tracked.remove_object(CAT)
    assert tracked.state.accepted == ()
    tracked.undo()
    assert tracked.state.accepted == ((0, NUM_FRAMES - 1),)


def test_a_project_whose_folder_was_moved_away_changes_nothing_there_or_here(tmp_path, tracked, clip):
    actions = len(tracked.actions)
    tracked.folder.rename(tmp_path / "moved")
    for action in (
        lambda: tracked.set_key(2, CAT, clip[2][2, 0]),
        lambda: tracked.add_object("dog"),
        lambda: tracked.track(0),
        lambda: export_project(tracked, tracked.folder / "exports/png"),
    ):
        with refusal(OutputError, "tracked", "put it back"):
            action()
    tracked.close()
    assert not tracked.folder.exists()
    with mm.Project(tmp_path / "moved") as again:
        assert len(again.actions) == actions


def test_numbers_of_numpy_are_frames_and_other_directions_are_refused(project, clip, as_users_call_it):
    number = project.add_object("cat")
    project.set_key(np.int64(2), number, clip[2][2, 0])
    for direction in ("sideways", "Forward"):
        with refusal(InputError, direction):
            project.track(2, direction)
    assert not project.known().any()


def test_a_project_that_is_opened_again_is_as_it_was(tmp_path, tracked, compact):
    tracked.update_object(CAT, name="tom", color="#00ff00")
    tracked.accept(0, 3)
    tracked.undo()
    with refusal(OutputError, "in use"):
        mm.Project(tracked.folder, compact)
    with mm.Project(shutil.copytree(tracked.folder, tmp_path / "copy"), compact) as again:
        assert again.state == tracked.state
        assert torch.equal(all_labels(again), all_labels(tracked))
        assert again.confidence(CAT)["area"].tolist() == tracked.confidence(CAT)["area"].tolist()
        assert again.can() == (True, True)


def test_replaying_a_session_gives_the_same_masks(tmp_path, project, clip, compact):
    masks = clip[2]
    cat = track_first(project, masks, 4)
    project.set_key(12, cat, masks[12, 1])
    project.undo()
    project.track(4, "backward", stop=lambda: project.is_tracked(2))
    dog = project.add_object("dog")
    project.set_key(9, dog, masks[9, 1])
    project.track(9, to=15)
    project.accept(9, 11)
    project.set_key(8, cat, masks[8, 1])
    project.track(8)
    with replay(project.folder, tmp_path / "again", model=compact) as again:
        assert torch.equal(all_labels(again), all_labels(project))
        assert again.state == project.state


def test_a_replay_writes_the_frames_that_a_pass_wrote_whatever_was_accepted_while_it_ran(
    tmp_path, tracked, clip, compact
):
    tracked.set_key(0, CAT, clip[2][0, 1])
    tracked.accept(14, 15)

    def change(report, frame):
        if report.reached == 3:
            tracked.accept(10, 11)  # ahead of it
            tracked.accept(1, 2)  # behind it
            tracked.unaccept(15, 15)

    tracked.track(0, on_frame=change)
    assert tracked.actions[-1]["kept"] == [[10, 11], [14, 14]]
    tracked.unaccept(0, NUM_FRAMES - 1)
    tracked.track(12, "backward", to=8)
    with replay(tracked.folder, tmp_path / "again", model=compact) as again:
        assert torch.equal(all_labels(again), all_labels(tracked))
        ends = [[line for line in each.actions if line["do"] == "tracked"] for each in (again, tracked)]
        assert [line["kept"] for line in ends[0]] == [line["kept"] for line in ends[1]]


def test_a_pass_whose_end_a_full_disk_refused_is_ended_before_the_next_one(
    tmp_path, project, clip, compact, monkeypatch
):
    log = project._history.log

    def full(line):
        if line["do"] == "tracked":
            raise OutputError("the disk is full", "make room")
        log(line)

    project.set_key(0, project.add_object(), clip[2][0, 0])
    with monkeypatch.context() as patched:
        patched.setattr(project._history, "log", full)
        with refusal(OutputError, "the disk is full"):
            project.track(0, stop=lambda: project.is_tracked(6))
        with refusal(OutputError, "the disk is full"):
            project.track(8, to=9)
    project.track(8, to=9)
    passes = [line["pass"] for line in project.actions if line["do"] in ("track", "tracked")]
    assert passes == [1, 1, 2, 2]
    with replay(project.folder, tmp_path / "again", model=compact) as again:
        assert torch.equal(all_labels(again), all_labels(project))


def test_a_replay_with_a_given_network_needs_no_weights(tmp_path, clip, compact):
    with mm.Project.create(tmp_path / "project", clip[0], compact, model="gone.safetensors", size=min(SIZE)) as project:
        folder = project.folder
    with replay(folder, tmp_path / "again", model=compact) as again:
        assert again.state.settings["model"] == "gone.safetensors"


def test_a_replay_computes_each_pass_with_the_network_of_its_time(tmp_path, project, clip, compact, monkeypatch):
    masks, loaded = clip[2], []
    monkeypatch.setattr("mnemask.project.project.load_model", lambda name: loaded.append(name) or compact)
    cat = track_first(project, masks)
    other = tmp_path / "other.safetensors"
    other.touch()
    project.change_settings(model=str(other))
    project.set_key(20, cat, masks[20, 0])
    project.track(20)
    assert loaded == [str(other)]
    with replay(project.folder, tmp_path / "again") as again:
        assert loaded == [str(other), "compact", str(other)]
        assert again.state == project.state


def test_an_object_that_is_gone_at_a_later_key_is_followed_until_then(project, clip):
    masks = clip[2]
    cat, dog = project.add_object("cat"), project.add_object("dog")
    project.set_key(0, cat, masks[0, 0])
    project.set_key(20, dog, masks[20, 1])
    project.set_key(20, cat, torch.zeros(SIZE, dtype=torch.bool))
    project.track(18)  # the key at 20 is the nearest, and taught last
    assert all(overlap(project.labels(index) == cat, masks[index, 0]) > 0.7 for index in (18, 19))
    assert not any((project.labels(index) == cat).any() for index in range(20, NUM_FRAMES))


def test_a_line_that_was_being_written_when_the_process_was_killed_is_dropped(tracked, clip, compact):
    tracked.close()
    with (tracked.folder / "actions.jsonl").open("ab") as file:
        file.write(b'{"do":"remove_obj')
    with mm.Project(tracked.folder, compact) as again:
        assert list(again.state.objects) == [CAT]
        again.add_object("dog")
    with mm.Project(tracked.folder, compact) as again:
        assert len(again.state.objects) == 2


KILLED = """
import sys, torch
import mnemask as mm
tracked = mm.Project(sys.argv[1])
tracked.track(0, on_frame=lambda report, frame: print(frame.index, flush=True))
"""


def test_a_pass_that_is_killed_loses_no_whole_frame_and_goes_on_to_the_same_masks(tmp_path, tracked, clip, compact):
    masks = clip[2]
    with mm.Project.create(tmp_path / "killed", clip[0], compact, size=min(SIZE)) as killed:
        killed.add_object("cat", object_id=CAT)
        killed.set_key(0, CAT, masks[0, 0])
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    line = [sys.executable, "-c", KILLED, str(tmp_path / "killed")]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment)
    for text in process.stdout:
        if int(text) == 11:
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.close()
    process.wait()
    with mm.Project(tmp_path / "killed", compact) as again:
        reached = again.actions[-1]["reached"]
        assert 11 <= reached < NUM_FRAMES
        assert all(again.is_tracked(index) for index in range(reached + 1))
        if reached < NUM_FRAMES - 1:
            again.track(reached + 1)
        assert torch.equal(all_labels(again), all_labels(tracked))


@pytest.mark.parametrize("mask_format", ["png", "ffv1", "rgba", "matte"])
def test_an_export_holds_the_masks_that_are_shown(tmp_path, project, clip, mask_format):
    cat = track_first(project, clip[2], 3)
    written = export_project(project, tmp_path / "out", mask_format=mask_format, overlay=True)
    assert all(path.exists() for path in written)
    if mask_format == "png":
        files = sorted((tmp_path / "out/masks").glob("*.png"))
        assert [path.stem for path in files] == [f"{index:05d}" for index in range(NUM_FRAMES)]
        assert torch.equal(mm.read_mask(files[10])[cat], project.labels(10) == cat)
    if mask_format == "matte":
        with mm.VideoReader(tmp_path / "out/masks/matte.mp4") as video:
            matte = list(video)[10].image[0].numpy()
        assert ((matte > 60) & (matte < 190)).any()  # a soft edge
        assert matte[project.labels(10).numpy() == cat].mean() > 230
    with pytest.raises(OutputError):
        export_project(project, tmp_path / "out", mask_format=mask_format)
    with refusal(OutputError, "own folder"):
        export_project(project, project.folder, mask_format=mask_format, overwrite=True)
    with pytest.raises(ObjectIdError):
        export_project(project, tmp_path / "out", mask_format=mask_format, overwrite=True, cutout=Cutout((99,)))
    assert all(path.exists() for path in written)


def test_an_export_for_editors_does_not_list_the_frames_of_the_video_again(tmp_path, clip, compact, monkeypatch):
    _, frames, masks = clip
    write_video(tmp_path / "clip.mp4", frames)
    with mm.Project.create(tmp_path / "project", tmp_path / "clip.mp4", compact, size=min(SIZE)) as project:
        project.set_key(0, project.add_object(), masks[0, 0])
        for listing in ("list_packets", "list_frames"):
            monkeypatch.delattr(random_access, listing)
        export_project(project, tmp_path / "out", mask_format="webm")
        assert project.frames[3].ycbcr is None
        with project.frames.with_originals() as originals:
            assert originals[3].ycbcr is not None
            assert torch.equal(originals[3].image, project.frames[3].image)
    assert (tmp_path / "out/masks/cutout.webm").exists()


def test_the_table_of_a_project_says_how_certain_each_mask_was(tmp_path, tracked, monkeypatch):
    tracked.set_key(8, CAT, torch.zeros(SIZE, dtype=torch.bool))
    tracked.track(8)
    assert tracked.labels(7).any()
    assert not tracked.labels(9).any()
    certainty = np.linspace(0.5, 0.9, NUM_FRAMES)
    monkeypatch.setattr(mm.Project, "confidence", lambda project, object_id: {"certainty": certainty})
    export_masks(tracked, "table", tmp_path / "table")
    with (tmp_path / "table/table.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    certainty[[0, 8]] = 1  # marks
    assert [float(row["certainty"]) for row in rows] == pytest.approx(certainty.tolist(), abs=0.005)


def test_the_table_of_a_project_has_no_row_where_nobody_looked_for_an_object(tmp_path, tracked, clip):
    dog = tracked.add_object("dog")
    tracked.set_key(3, dog, clip[2][3, 1])
    tracked.set_key(6, dog, torch.zeros(SIZE, dtype=torch.bool))
    assert not tracked.looked_for(dog).any()
    tracked.track(6, to=9)
    assert np.flatnonzero(tracked.looked_for(dog)).tolist() == [6, 7, 8, 9], "it was not found"
    tracked.add_object("nobody")
    export_masks(tracked, "table", tmp_path / "table")
    with (tmp_path / "table/table.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["frame"]) for row in rows if row["object"] == str(CAT)] == list(range(NUM_FRAMES))
    told = [(int(row["frame"]), row["area"] != "0", row["doubt"]) for row in rows if row["object"] == str(dog)]
    assert told == [(3, True, "0.000"), *((frame, False, "0.000") for frame in (6, 7, 8, 9))]
    assert {row["object"] for row in rows} == {str(CAT), str(dog)}


def test_a_new_object_has_not_the_number_of_one_that_was_looked_for_in_vain(tracked):
    dog = tracked.add_object("dog")
    tracked.set_key(3, dog, torch.zeros(SIZE, dtype=torch.bool))
    tracked.track(3)
    tracked.remove_object(dog)
    assert not tracked.looked_for(tracked.add_object("bird")).any()


def test_doubt_rises_where_the_mask_leaps(tracked, clip):
    masks = clip[2]
    assert tracked.confidence(CAT)["doubt"].max() < 0.5
    tracked.set_key(10, CAT, masks[10, 0] & (torch.arange(SIZE[1]) > 1000))
    tracked.track(10)
    assert tracked.confidence(CAT)["area"][11] == 0
    assert tracked.known().all()


@pytest.mark.parametrize(
    "action",
    [
        lambda project: project.set_key(0, 5, torch.zeros(SIZE, dtype=torch.bool)),
        lambda project: project.set_key(NUM_FRAMES, 1, torch.zeros(SIZE, dtype=torch.bool)),
        lambda project: project.set_key(0, 1, torch.zeros(3, 3, dtype=torch.bool)),
        lambda project: project.add_object("x" * 200),
        lambda project: project.add_object(color="red"),
        lambda project: project.add_object(object_id=70_000),
        lambda project: project.update_object(3, name="x"),
        lambda project: project.accept(5, 2),
        lambda project: project.change_settings(policy="none"),
        lambda project: project.change_settings(colour=1),
        lambda project: project.change_settings(model="nope.safetensors"),
        lambda project: project.change_settings(model=Path("nope.safetensors")),
        lambda project: project.change_settings(frames=True),
        lambda project: project.change_settings(write_every=True),
        lambda project: project.track(0),
        lambda project: project.labels(NUM_FRAMES) if project.frames[NUM_FRAMES] else None,
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(project, action, as_users_call_it):
    before, lines = project.state, len(project.actions)
    with pytest.raises(mm.MnemaskError):
        action(project)
    assert project.state == before
    assert len(project.actions) == lines


def test_clearing_a_key_that_is_not_there_is_no_action(tracked):
    lines = len(tracked.actions)
    tracked.clear_key(5, CAT)
    assert len(tracked.actions) == lines


def test_a_project_is_not_made_over_another_nor_opened_where_there_is_none(tmp_path, project, clip, compact):
    with pytest.raises(OutputError):
        mm.Project.create(project.folder, clip[0], compact)
    with pytest.raises(mm.InputError):
        mm.Project(tmp_path / "nothing")
    about = json.loads((project.folder / "project.json").read_text())
    (project.folder / "project.json").write_text(json.dumps({**about, "num_frames": 3}))
    with pytest.raises(mm.InputError):
        mm.Project(project.folder, compact)


def test_a_project_takes_no_place_of_files_of_others(tmp_path, clip, compact):
    for name in ("masks/0000003.png", "keys/mine.txt", "states", "actions.jsonl", "confidence.jsonl"):
        mine = tmp_path / name.replace("/", "-") / name
        mine.parent.mkdir(parents=True)
        mine.write_text("made by hand")
        with refusal(OutputError, "in the way"):
            mm.Project.create(tmp_path / name.replace("/", "-"), clip[0], compact)
        assert [path for path in (tmp_path / name.replace("/", "-")).rglob("*") if path.is_file()] == [mine]
        assert mine.read_text() == "made by hand"


@pytest.mark.parametrize("left", ["", '{"do":"set', '{"do":"settings","settings":{"size":64}}\n'])
def test_what_was_being_made_when_its_process_was_killed_is_made_anew(tmp_path, clip, compact, left):
    (tmp_path / "actions.jsonl").write_text(left)
    with mm.Project.create(tmp_path, clip[0], compact, size=min(SIZE)) as made:
        assert made.state.settings["size"] == min(SIZE)


def test_another_video_of_the_same_size_and_length_is_not_taken_for_the_projects_own(tmp_path, clip, compact):
    source = write_images(tmp_path / "clip", clip[1])
    with mm.Project.create(tmp_path / "project", source, compact) as made:
        about = json.loads((made.folder / "project.json").read_text())
    write_images(source, [frame.flip(2) // 2 for frame in clip[1]])
    with refusal(InputError, "not the video"):
        mm.Project(tmp_path / "project", compact)
    write_images(source, clip[1])
    (source / "00000_mask.png").write_bytes((source / sorted(p.name for p in source.iterdir())[0]).read_bytes())
    mm.Project(tmp_path / "project", compact).close()  # a mask beside the frames is none of them
    (source / "00000_mask.png").unlink()
    write_images(source, [frame.flip(2) // 2 for frame in clip[1]])
    del about["digest"]  # as projects of earlier versions
    (tmp_path / "project/project.json").write_text(json.dumps(about))
    with mm.Project(tmp_path / "project", compact) as again:
        assert again.num_frames == NUM_FRAMES


def test_pictures_of_several_sizes_are_no_video_and_in_a_project_made_of_them_count_as_damaged(
    tmp_path, clip, compact, monkeypatch, caplog
):
    source = write_images(tmp_path / "clip", clip[1])
    cv2.imwrite(str(source / "00005.png"), np.zeros((SIZE[0], SIZE[1] + 8, 3), np.uint8))
    with refusal(FrameError, "00005.png of 'clip' is 104x64 pixels, 00000.png is 96x64", "scale or remove it"):
        mm.Project.create(tmp_path / "project", source, compact)
    assert not (tmp_path / "project").exists()
    monkeypatch.setattr("mnemask.project.project.refuse_other_sizes", lambda paths, name: None)  # earlier versions
    with mm.Project.create(tmp_path / "project", source, compact, size=min(SIZE)) as made:
        for _ in range(2):
            with refusal(FrameError, r"frame 5 \(00005\) of .clip. is 104x64 pixels, the video is 96x64", "scale"):
                made.frames[5]
        track_first(made, clip[2])
        assert made.is_tracked(5)
        assert "the picture of frame 4 takes its place" in caplog.text


def test_pictures_show_what_is_remembered_and_why(tracked, clip):
    assert picture_memory(tracked, 8).shape[1:] == (1280, 3)
    assert picture_reason(tracked, 8, 20, 30).shape[2] == 3


def test_nothing_is_in_memory_before_the_first_frame_though_it_was_tracked(tracked):
    with refusal(InputError, "memory before frame 0"):
        picture_memory(tracked, 0)


def test_the_states_that_are_kept_stay_few(tracked, clip):
    begin = time.time()
    for frame in range(NUM_FRAMES - 1, 0, -3):
        tracked.set_key(frame, CAT, clip[2][frame, 0])
        tracked.track(frame, to=min(frame + 1, NUM_FRAMES - 1))
    states = list((tracked.folder / "states").iterdir())
    assert 1 <= len(states) <= 64
    assert all(path.stat().st_mtime >= begin - 1 for path in states)


def test_states_take_no_more_of_the_disk_than_they_may_and_the_newest_stays(tracked, monkeypatch):
    monkeypatch.setattr(snapshots, "MOST_BYTES", 1)
    tracked.track(0, to=12)
    assert [path.name for path in (tracked.folder / "states").iterdir()] == ["forward-0000012.bank"]


def test_the_confidence_in_some_frames_is_that_in_all_frames_there(tracked, clip):
    tracked.set_key(9, CAT, clip[2][9, 0])
    whole = tracked.confidence(CAT)
    for first, last in ((0, 0), (5, 11), (9, 9), (10, NUM_FRAMES - 1)):
        part = tracked.confidence(CAT, first, last)
        assert all((part[name] == whole[name][first : last + 1]).all() for name in whole)


def test_a_project_goes_on_with_other_weights_of_the_same_name(tracked, compact):
    other = copy.deepcopy(compact)
    for parameter in other.parameters():
        parameter.mul_(1.001)
    tracked.close()
    with mm.Project(tracked.folder, other) as again:
        assert again.track(3).complete


def test_a_mark_is_synced_and_one_whose_file_was_emptied_is_mended_by_marking_again(
    project, clip, compact, monkeypatch
):
    synced, mask = [], clip[2][0, 0]
    monkeypatch.setattr(atomic, "make_durable", lambda *paths: synced.extend(paths))
    cat = project.add_object("cat")
    project.set_key(0, cat, mask)
    file = project.folder / project.state.keys[0, cat].mask
    assert file in synced
    project.close()
    file.write_bytes(b"")
    with mm.Project(project.folder, compact) as again:
        with refusal(InputError, "damaged", "mark the object again"):
            again.labels(0)
        again.set_key(0, cat, mask)
        assert torch.equal(again.labels(0) == cat, mask)


@pytest.mark.parametrize("block", [1, 7, 2**16])
@pytest.mark.parametrize("left", [b"", b'{"a', b'{"a":"' + b"x" * 50])
def test_a_journal_goes_on_after_its_last_whole_line(tmp_path, monkeypatch, block, left):
    monkeypatch.setattr(journal, "_BLOCK", block)
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"a":1}\n{"b":"' + b"y" * 20 + b'"}\n' + left)
    with closing(journal.Journal(path)) as lines:
        lines.add({"c": 3})
    assert [list(line) for line in journal.read_journal(path)] == [["a"], ["b"], ["c"]]


@contextmanager
def full_disk(most):
    """Within it no file may grow beyond so many bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_a_full_disk_refused_is_not_written_later(tracked, compact):
    size = (tracked.folder / "actions.jsonl").stat().st_size
    with full_disk(size + 5):
        for _ in range(2):
            with refusal(OutputError, "actions"):
                tracked.add_object("dog")
    assert tracked.add_object("dog") == 2
    tracked.close()
    with mm.Project(tracked.folder, compact) as again:
        assert again.state == tracked.state
        assert [line["id"] for line in again.actions if line["do"] == "add_object"] == [CAT, 2]


@pytest.mark.parametrize("most", [0, 30, 180])
def test_a_project_that_a_full_disk_refuses_leaves_no_folder(tmp_path, clip, compact, most):
    with full_disk(most), refusal(OutputError, "room"):
        mm.Project.create(tmp_path / "full", clip[0], compact)
    assert not (tmp_path / "full").exists()


@pytest.mark.parametrize("file", ["actions.jsonl", "confidence.jsonl", "project.json"])
@pytest.mark.parametrize(
    "content", ["{}\n", "[]\n", '{"do":"undo"}\n', '{"f":0,"p":1,"o":{"1":[2]}}\n', "\0\0\n", "null\n"]
)
def test_a_project_whose_files_were_garbled_is_refused_in_a_sentence(tmp_path, template, compact, file, content):
    shutil.copytree(template, tmp_path / "garbled")
    (tmp_path / "garbled" / file).write_text(content + "\n")
    with pytest.raises(mm.InputError):
        mm.Project(tmp_path / "garbled", compact)


def test_a_key_may_be_an_array_and_what_is_no_mask_or_change_is_refused(project, clip, as_users_call_it):
    number, mask = project.add_object("cat"), clip[2][0, 0]
    project.set_key(0, number, mask.numpy())
    assert torch.equal(project.labels(0) == number, mask)
    for wrong in (mask.numpy().astype(np.uint8), mask[:3], None):
        with refusal(MaskError, f"object {number}"):
            project.set_key(1, number, wrong)
    with refusal(InputError, "'size'"):
        project.update_object(number, size="large")


def test_pictures_that_nobody_annotated_change_nothing_in_a_project(tmp_path, tracked, caplog):
    height, width = SIZE
    images = [{"id": i, "file_name": f"{i:05d}.png", "height": height, "width": width} for i in range(NUM_FRAMES)]
    shape = {"id": 1, "image_id": 5, "category_id": 1, "segmentation": [[2, 2, 40, 2, 40, 40]], "track_id": CAT}
    place = tmp_path / "annotations.json"
    place.write_text(json.dumps({"images": images, "annotations": [shape], "categories": [{"id": 1, "name": "cat"}]}))
    before = all_labels(tracked)
    assert set_corrections(tracked, place) == [5]
    after = all_labels(tracked)
    assert [t for t in range(NUM_FRAMES) if not torch.equal(before[t], after[t])] == [5]
    assert f"{NUM_FRAMES - 1} of {NUM_FRAMES} masks" in caplog.text


def test_a_video_that_is_given_as_a_project_is_none_and_not_a_damaged_one(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"a video")
    with refusal(InputError, "clip.mp4' contains no project", "mnemask studio"):
        mm.Project(tmp_path / "clip.mp4")
