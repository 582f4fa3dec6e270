"""Masks that come back from an annotation tool into a project: what they change, and what is said about the rest."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from project_clip import all_labels, drawn, write_images

import mnemask as mm
from mnemask.export import export_masks
from mnemask.io.label_files import annotated_frames, read_labels
from mnemask.io.random_access import FrameAccess
from mnemask.project import replay, set_corrections
from mnemask.project.corrections import correct, read_marks

NUM_FRAMES, SIZE = 8, (64, 96)
CAT, DOG = 1, 2


@pytest.fixture(scope="module")
def compact():
    return mm.load_model("compact")


@pytest.fixture(scope="module")
def template(tmp_path_factory, compact):
    folder = tmp_path_factory.mktemp("template")
    frames, masks = drawn(NUM_FRAMES, SIZE)
    write_images(folder / "animals", frames)
    with mm.Project.create(folder / "project", folder / "animals", compact, size=min(SIZE)) as made:
        for object_id, category, name in ((CAT, "cat", ""), (DOG, "", "")):
            made.add_object(name, object_id=object_id, category=category)
            made.set_key(0, object_id, masks[0, object_id - 1])
        made.track(0)
    return folder / "project"


@pytest.fixture
def tracked(tmp_path, template, compact):
    """A project in which CAT and DOG were marked in frame 0 and tracked to the end."""
    shutil.copytree(template, tmp_path / "tracked")
    with mm.Project(tmp_path / "tracked", compact) as opened:
        yield opened


def follow(project, place, on_frame=lambda frame: None):
    """Corrects a project as the command does; returns the masks of the file."""
    correct(project, lambda one: set_corrections(one, place), on_frame, given=place.read_text())
    return torch.stack([torch.from_numpy(read_labels(path).astype(np.int32)) for path in annotated_frames(place)])


def exported(project, folder, change):
    """Exports to COCO, and returns the file after a change of its content, as another tool saves it."""
    path = export_masks(project, "coco", folder).folder / "annotations.json"
    content = json.loads(path.read_text())
    content["info"] = {}
    change(content)
    path.write_text(json.dumps(content))
    return path


def at(frame, object_id):
    """Returns a function that finds an annotation of an exported file."""
    return lambda each: (each["image_id"], each["track_id"]) == (frame, object_id)


def box(left):
    return [[left, 20, left + 30, 20, left + 30, 50, left, 50]]


def test_a_corrected_frame_is_that_of_the_file_bit_by_bit_and_its_other_objects_stay_before(tmp_path, tracked):
    before = all_labels(tracked)

    def correct_dog(content):
        annotation = next(filter(at(5, DOG), content["annotations"]))
        annotation["segmentation"] = box(1)
        content["annotations"] = [annotation, *(each for each in content["annotations"] if each is not annotation)]

    file = follow(tracked, exported(tracked, tmp_path / "coco", correct_dog))
    after = all_labels(tracked)
    assert not torch.equal(before[5], file[5])
    assert torch.equal(after[5], file[5])
    assert torch.equal(after[:5] == CAT, before[:5] == CAT)
    assert set(tracked.state.keys) == {(0, CAT), (0, DOG), (5, CAT), (5, DOG)}
    with replay(tracked.folder, tmp_path / "again", model=tracked.model) as again:
        assert torch.equal(all_labels(again), after)


def test_a_mark_named_after_another_frame_than_its_own_is_doubted(tmp_path, caplog):
    (tmp_path / "frames").mkdir()
    for number in range(1, 5):
        Image.fromarray(np.zeros((32, 48, 3), np.uint8)).save(tmp_path / f"frames/{number:04d}.png")
    mark = tmp_path / "0003.png"
    Image.fromarray(np.eye(32, 48, dtype=np.uint8)).save(mark)
    with FrameAccess(tmp_path / "frames") as frames:
        read_marks([f"2={mark}"], frames, None)
        assert not caplog.records
        read_marks([f"3={mark}"], frames, None)
    assert (
        f"named after frame 2 (0003), but is given to frame 3: if it shows frame 2, give --at 2={mark}" in caplog.text
    )


def test_a_mark_that_a_file_shows_unchanged_remains_what_it_was(tmp_path, tracked):
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[40:60, 60:90] = True
    tracked.set_key(5, CAT, mask, {"clicks": [[70, 50, 1]]})

    def move_dog(content):
        next(filter(at(5, DOG), content["annotations"]))["segmentation"] = box(1)

    file = follow(tracked, exported(tracked, tmp_path / "coco", move_dog))
    assert torch.equal(tracked.labels(5), file[5])
    assert tracked.state.keys[5, CAT].how == {"clicks": [[70, 50, 1]]}


def test_an_object_that_a_file_shows_nowhere_is_named_and_stays(tmp_path, tracked, caplog):
    before = all_labels(tracked)

    def delete_cat(content):
        content["annotations"] = [each for each in content["annotations"] if each["track_id"] != CAT]

    place = exported(tracked, tmp_path / "coco", delete_cat)
    assert set_corrections(tracked, place) == []
    assert f"{place} does not show object 1 (cat) of the project" in caplog.text
    assert torch.equal(all_labels(tracked), before)
    caplog.clear()
    (tmp_path / "masks").mkdir()
    tracked.remove_object(DOG)
    cv2.imwrite(str(tmp_path / "masks/00005.png"), np.where(before[5] == CAT, CAT, 0).astype(np.uint8))
    set_corrections(tracked, tmp_path / "masks")
    assert not caplog.text


@pytest.mark.parametrize("named", [(), (CAT,)])
def test_what_a_file_calls_objects_is_taken_where_the_project_says_nothing_and_else_said(
    tmp_path, tracked, caplog, named
):
    def call(content):
        content["categories"] = [{"id": 1, "name": "big lion"}, {"id": 2, "name": "hound"}]
        for each in content["annotations"]:
            each["category_id"] = each["track_id"]
            each["attributes"]["name"] = "Tom" if each["track_id"] == CAT else "Rex"

    place = exported(tracked, tmp_path / "coco", call)
    assert set_corrections(tracked, place, named) == []
    assert {i: str(each.info) for i, each in tracked.state.objects.items()} == {CAT: "cat:Tom", DOG: "hound:Rex"}
    assert ("calls object 1 'big lion:Tom', the project 'cat'" in caplog.text) == (not named)
    assert ("--object '1=big lion:Tom' changes it" in caplog.text) == (not named)
    assert "object 2" not in caplog.text
    caplog.clear()
    lines = len(tracked.actions)
    set_corrections(tracked, place, [CAT])
    assert not caplog.text
    assert len(tracked.actions) == lines


def move_dog_twice(content):
    for frame, left in (2, 1), (5, 60):
        next(filter(at(frame, DOG), content["annotations"]))["segmentation"] = box(left)


@pytest.mark.parametrize("frames", [1, 4, 7])
def test_an_import_that_was_stopped_is_finished_by_the_next_one(tmp_path, tracked, frames):
    place = exported(tracked, tmp_path / "coco", move_dog_twice)
    shutil.copytree(tracked.folder, tmp_path / "whole")
    with mm.Project(tmp_path / "whole", tracked.model) as whole:
        file = follow(whole, place)
        expected, keys = all_labels(whole), whole.state.keys
    assert not torch.equal(expected[3], file[3]), "a repeated comparison would correct this frame"
    left = iter(range(frames))

    def stop(frame):
        if next(left, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(tracked, place, stop)
    follow(tracked, place)
    assert tracked.state.keys.keys() == keys.keys() == {(f, i) for f in (0, 2, 5) for i in (CAT, DOG)}
    assert torch.equal(all_labels(tracked), expected)


def test_an_import_that_an_earlier_version_left_unfinished_is_finished(tmp_path, tracked):
    place = exported(tracked, tmp_path / "coco", move_dog_twice)
    shutil.copytree(tracked.folder, tmp_path / "whole")
    with mm.Project(tmp_path / "whole", tracked.model) as whole:
        follow(whole, place)
        expected = all_labels(whole)
    (tracked.folder / "unfollowed.json").write_text(json.dumps({"actions": len(tracked.actions)}))
    set_corrections(tracked, place)
    correct(tracked, lambda one: [], on_frame=lambda frame: None)
    assert torch.equal(all_labels(tracked), expected)
    lines = len(tracked.actions)
    correct(tracked, lambda one: [], on_frame=lambda frame: None)
    assert len(tracked.actions) == lines


def test_masks_that_were_imported_are_not_imported_again_until_a_key_changes(tmp_path, tracked, caplog):
    caplog.set_level("INFO")
    place = exported(tracked, tmp_path / "coco", move_dog_twice)
    file = follow(tracked, place)
    tracked.update_object(DOG, category="dog")
    tracked.track(0)
    lines = len(tracked.actions)
    assert "imported before" not in caplog.text
    follow(tracked, place)
    assert len(tracked.actions) == lines
    assert "these masks were imported before" in caplog.text
    tracked.set_key(5, DOG, torch.from_numpy(np.eye(*SIZE, dtype=bool)))
    follow(tracked, place)
    assert torch.equal(tracked.labels(5), file[5])
    with pytest.raises(mm.MnemaskError):
        correct(tracked, lambda one: set_corrections(one, tmp_path), on_frame=lambda frame: None, given="nothing")
    lines = len(tracked.actions)
    follow(tracked, place)
    assert len(tracked.actions) == lines
