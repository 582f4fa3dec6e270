"""Files of CVAT: which object a shape is, what lies in front, and what cannot be told apart."""

import pytest
import torch
from drawn_annotations import LEFT, RIGHT, H, W, cvat, polygon
from refusals import refusal

import mnemask as mm
from mnemask.errors import MaskError
from mnemask.io.label_files import annotated_frames, map_name, objects_of, read_labels
from mnemask.prompts import PromptPlan

MIDDLE = [26, 5, 34, 5, 34, 35, 26, 35]


def image(number, name, *shapes, **more):
    said = "".join(f' {key}="{value}"' for key, value in more.items())
    return f'<image id="{number}" name="{name}" width="{W}" height="{H}"{said}>{"".join(shapes)}</image>'


def track(number, *shapes, label="dog", **more):
    said = "".join(f' {key}="{value}"' for key, value in more.items())
    return f'<track id="{number}" label="{label}"{said}>{"".join(shapes)}</track>'


def stating(track_id, corners, **more):
    said = f'<attribute name="track_id">{track_id}</attribute></polygon>'
    return polygon("dog", corners, **more).replace("</polygon>", said)


@pytest.mark.parametrize("z", [(0, 1), (1, 0)])
def test_the_shape_in_front_is_seen_and_one_that_is_not_is_named(tmp_path, caplog, z):
    large = [0, 0, 30, 0, 30, 40, 0, 40]
    shapes = polygon("dog", LEFT, z_order=z[0]) + polygon("cat", large, z_order=z[1])
    place = cvat(tmp_path / "a.xml", f'<image id="0" name="a.jpg" width="{W}" height="{H}">{shapes}</image>')
    labels = read_labels(annotated_frames(place)[0])
    seen = 0 if z[1] else 20 * 30
    assert (labels == 1).sum() == seen
    assert (labels == 2).sum() == 30 * 40 - seen
    assert ("object 1 (dog)" in caplog.text and "cover it" in caplog.text) == bool(z[1])


def test_images_of_several_tasks_are_refused(tmp_path):
    shape = polygon("dog", LEFT)
    with refusal(MaskError, "a_0.jpg and b_0.jpg", "each task separately"):
        annotated_frames(cvat(tmp_path / "a.xml", image(0, "a_0.jpg", shape), image(0, "b_0.jpg", shape, task_id=2)))


def test_tracks_of_several_tasks_are_refused(tmp_path):
    one, other = (track(0, polygon("dog", LEFT, frame=0), task_id=task) for task in (1, 2))
    assert annotated_frames(cvat(tmp_path / "a.xml", tracks=one))
    with refusal(MaskError, "several tasks", "each task separately"):
        annotated_frames(cvat(tmp_path / "b.xml", tracks=one + other))


@pytest.mark.parametrize(("stated", "ids"), [((1, 2, ""), [1, 2, 3]), ((1, 3, ""), None), (("", "", ""), [1, 2, 3])])
def test_a_new_track_never_takes_over_an_object(tmp_path, stated, ids):
    drawn = zip(stated, (LEFT, RIGHT, MIDDLE), strict=True)
    tracks = [track(number, stating(said, corners, frame=0)) for number, (said, corners) in enumerate(drawn)]
    path = cvat(tmp_path / "a.xml", tracks="".join(tracks))
    if ids:
        assert sorted(objects_of(annotated_frames(path)[0].parent)) == ids
    else:
        with refusal(MaskError, "not of others"):
            annotated_frames(path)


def test_a_shape_without_an_id_is_the_object_of_the_others_in_its_track(tmp_path):
    shapes = stating(7, LEFT, frame=0), polygon("dog", RIGHT, frame=1)
    path = cvat(tmp_path / "a.xml", tracks=track(0, *shapes) + track(6, stating(1, MIDDLE, frame=0)))
    first, second = map(read_labels, annotated_frames(path))
    assert (first.max(), second.max()) == (7, 7)


def test_a_group_is_no_object_that_others_state(tmp_path):
    same = stating(1, LEFT, group_id=1), polygon("dog", RIGHT, group_id=1)
    path = cvat(tmp_path / "a.xml", image(0, "a.jpg", *same))
    assert read_labels(annotated_frames(path)[0])[20, 45] == 1
    other = stating(1, LEFT), polygon("dog", RIGHT, group_id=1)
    with refusal(MaskError, "not of others"):
        annotated_frames(cvat(tmp_path / "b.xml", image(0, "a.jpg", *other)))


def test_names_of_another_system_are_those_of_its_files(tmp_path):
    path = cvat(tmp_path / "a.xml", image(0, "data\\shot_a.jpg", polygon("dog", LEFT)))
    assert [map_name(frame) for frame in annotated_frames(path)] == ["shot_a"]


def test_dots_in_names_are_no_suffixes(tmp_path):
    shapes = polygon("dog", LEFT)
    place = cvat(tmp_path / "a.xml", image(0, "clip/t0.1", shapes), image(1, "clip/t0.2", shapes))
    assert [map_name(path) for path in annotated_frames(place)] == ["t0.1", "t0.2"]


def test_the_file_of_an_impossible_id_is_named(tmp_path):
    place = cvat(tmp_path / "a.xml", image(0, "a.jpg", stating(0, LEFT)))
    with refusal(MaskError, r"a\.xml.* id 0 "):
        annotated_frames(place)


@pytest.mark.parametrize("other", [(0, 2), (0,)])
def test_the_track_that_is_outside_is_gone_and_no_other(tmp_path, other):
    left = polygon("dog", LEFT, frame=0) + polygon("dog", LEFT, frame=2, outside=1)
    right = "".join(polygon("cat", RIGHT, frame=frame) for frame in other)
    path = cvat(tmp_path / "a.xml", tracks=track(0, left) + track(1, right, label="cat"))
    plan = PromptPlan(path, [], [], False, num_frames=4)
    frames = [mm.Frame(torch.zeros(3, H, W, dtype=torch.uint8), index) for index in range(4)]
    given = [plan(frame) for frame in frames]
    assert list(given[0]) == [1, 2]
    assert given[2][1] is None
    assert list(given[2]) == [1, *([2] if 2 in other else [])]
    assert given[1] is given[3] is None


def test_a_tag_of_a_picture_is_not_counted_among_shapes(tmp_path, caplog):
    path = cvat(tmp_path / "a.xml", image(0, "a.jpg", '<tag label="night"/>', polygon("dog", LEFT)))
    assert read_labels(annotated_frames(path)[0]).any()
    assert "tag" not in caplog.text


def frames_given(path, num_frames=6):
    """The ids that a file gives at each frame, None for those that it says are gone."""
    plan = PromptPlan(path, [], [], False, num_frames=num_frames)
    given = [plan(mm.Frame(torch.zeros(3, H, W, dtype=torch.uint8), index)) for index in range(num_frames)]
    return {
        index: {object_id: mask is not None for object_id, mask in each.items()}
        for index, each in enumerate(given)
        if each
    }


def lone(number, corners, frame, label="dog", **more):
    """A shape that is in no track, as CVAT writes it for a video: its copy in the next frame is outside."""
    keys = {"keyframe": 1, "outside": 0, "occluded": 0}
    end = polygon(label, corners, frame=frame + 1, **keys | {"outside": 1})
    return track(number, polygon(label, corners, frame=frame, **keys), end, label=label, **more)


def test_the_object_of_a_shape_outside_tracks_is_not_gone_in_the_next_frame(tmp_path):
    path = cvat(tmp_path / "a.xml", tracks=lone(0, LEFT, 0))
    assert frames_given(path) == {0: {1: True}}
    path = cvat(tmp_path / "b.xml", tracks=track(0, stating(3, LEFT, frame=0), stating(3, LEFT, frame=1, outside=1)))
    assert frames_given(path) == {0: {3: True}, 1: {3: False}}
    moved = polygon("dog", LEFT, frame=0), polygon("dog", RIGHT, frame=1, outside=1)
    assert frames_given(cvat(tmp_path / "c.xml", tracks=track(0, *moved))) == {0: {1: True}, 1: {1: False}}


def test_shapes_outside_tracks_are_one_object_per_class(tmp_path):
    shapes = lone(0, LEFT, 0) + lone(1, RIGHT, 0, "cat") + lone(2, MIDDLE, 3)
    shapes += track(3, polygon("dog", LEFT, frame=5, keyframe=1))  # in the last frame, none follows
    assert frames_given(cvat(tmp_path / "a.xml", tracks=shapes)) == {
        0: {1: True, 2: True},
        3: {1: True},
        5: {1: True},
    }
    two = cvat(tmp_path / "b.xml", tracks=lone(0, LEFT, 0) + lone(1, RIGHT, 0))
    assert frames_given(two) == {0: {1: True, 2: True}}
    grouped = lone(0, LEFT, 0, group_id=4) + lone(1, RIGHT, 0, group_id=2) + lone(2, MIDDLE, 3, group_id=4)
    assert frames_given(cvat(tmp_path / "c.xml", tracks=grouped)) == {0: {2: True, 4: True}, 3: {4: True}}
    with refusal(MaskError, "several masks of one class", "track_id"):
        annotated_frames(cvat(tmp_path / "d.xml", tracks=lone(0, LEFT, 0) + lone(1, RIGHT, 0) + lone(2, MIDDLE, 3)))


def test_shapes_between_key_frames_are_tracked_and_not_given(tmp_path, caplog):
    left = [polygon("dog", LEFT, frame=frame, keyframe=int(frame in (0, 4))) for frame in range(6)]
    path = cvat(tmp_path / "a.xml", tracks=track(0, *left))
    assert frames_given(path) == {0: {1: True}, 4: {1: True}}
    assert "4 frames, all shapes are interpolated" in caplog.text
    right = [polygon("cat", RIGHT, frame=frame, keyframe=int(frame in (0, 2))) for frame in range(6)]
    both = cvat(tmp_path / "b.xml", tracks=track(0, *left) + track(1, *right, label="cat"))
    assert frames_given(both) == {0: {1: True, 2: True}, 2: {2: True}, 4: {1: True}}
    assert [set(read_labels(frame).flat) for frame in annotated_frames(both)] == [{0, 1, 2}] * 3
    none = cvat(tmp_path / "c.xml", tracks=track(0, *(shape.replace('keyframe="1"', 'keyframe="0"') for shape in left)))
    assert list(frames_given(none)) == [0, 1, 2, 3, 4, 5]
