import pickle
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from drawn_data import draw_photographs
from refusals import refusal

import mnemask as mm
from mnemask.datasets.composite.photographs import StaticImages
from mnemask.datasets.synthetic.video import MovingCutOut, SyntheticVideo
from mnemask.errors import InputError

SMALL = (96, 160)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    draw_photographs(root)
    return StaticImages(root / "static")


@pytest.fixture(params=["drawn", "photographed"])
def source(request, photographs):
    """What SyntheticVideo takes its scene and objects from."""
    return None if request.param == "drawn" else photographs


def same(a, b):
    return torch.equal(a[0].image, b[0].image) and torch.equal(a[1], b[1]) and a[2] == b[2]


def alone(video, thing, index, size=None):
    """Where one thing is if nothing else is there, and how many pixels it says it has."""
    owners = np.zeros(size or video.size, np.uint8)
    whole = thing.paint(index * video.pace, np.zeros((*owners.shape, 3), np.uint8), owners, 1)
    return owners > 0, whole


def test_a_frame_comes_with_labels_and_the_truth_about_each_object(source):
    video = SyntheticVideo(5, (96, 161), 3, photographs=source)
    frame, labels, truth = video[4]
    assert frame.image.shape == (3, 96, 161)
    assert frame.image.is_contiguous()
    assert (frame.index, frame.name, frame.seconds) == (4, "00004", 0.16)
    assert (labels.dtype, labels.shape) == (torch.uint8, (96, 161))
    assert sorted(truth) == [1, 2, 3]


def test_a_frame_follows_from_seed_and_number_alone(source):
    once = SyntheticVideo(10_000, SMALL, seed=3, photographs=source)
    again = SyntheticVideo(10_000, SMALL, seed=3, photographs=source)
    at_last = once[9_999]
    in_order = [moment for _, moment in zip(range(6), again, strict=False)]
    for index in (5, 0, 3, 5):
        assert same(once[index], in_order[index])
    assert same(again[9_999], at_last)
    assert not same(once[0], SyntheticVideo(1, SMALL, seed=4, photographs=source)[0])
    assert not same(once[0], once[1])


def test_pace_skips_frames_of_the_same_scene():
    slow, fast = SyntheticVideo(50, SMALL), SyntheticVideo(10, SMALL, pace=5)
    assert torch.equal(slow[45][0].image, fast[9][0].image)
    assert slow[45][2] == fast[9][2]


def test_labels_are_what_was_painted_last(source):
    video = SyntheticVideo(2_000, SMALL, 3, seed=1, photographs=source, lookalikes=True, num_occluders=2)
    for index in range(0, 2_000, 130):
        expected = np.zeros(SMALL, np.uint8)
        for thing, object_id in video.cast:
            expected[alone(video, thing, index)[0]] = object_id
        assert np.array_equal(video[index][1].numpy(), expected)


def test_a_thing_covers_what_is_behind_it_exactly_where_its_mask_is(source):
    video = SyntheticVideo(400, SMALL, 2, seed=2, photographs=source)
    for index in (0, 133, 399):
        for thing, _ in video.cast:
            mask, _ = alone(video, thing, index)
            black, white = np.zeros((*SMALL, 3), np.uint8), np.full((*SMALL, 3), 255, np.uint8)
            for picture in (black, white):
                thing.paint(index, picture, np.zeros(SMALL, np.uint8), 1)
            let_through = (white.astype(int) - black).max(axis=2)
            assert let_through[mask].max(initial=0) <= 129
            assert let_through[~mask].min() >= 50  # half, under a shadow


def test_an_object_is_occluded_exactly_where_something_before_it_covers_it(source):
    video = SyntheticVideo(2_000, SMALL, 3, seed=5, photographs=source, num_occluders=2)
    found = set()
    for index in range(0, 2_000, 70):
        truth = video[index][2]
        masks = [alone(video, thing, index)[0] for thing, _ in video.cast]
        for number, (thing, object_id) in enumerate(video.cast):
            if object_id:
                hidden = masks[number] & np.any(masks[number + 1 :], axis=0)
                assert truth[object_id].occluded == hidden.any()
                assert truth[object_id].in_frame == masks[number].any()
                if masks[number].any():
                    seen = masks[number].sum() - hidden.sum()
                    assert truth[object_id].visible == seen / alone(video, thing, index)[1]
                assert 0 <= truth[object_id].visible <= 1
                found.add((truth[object_id].occluded, truth[object_id].visible < 1))
    assert found == {(False, False), (False, True), (True, True)}


def test_the_whole_of_an_object_includes_what_lies_beyond_the_border(source):
    video = SyntheticVideo(3_000, SMALL, 2, seed=1, photographs=source)
    thing, _ = video.cast[1]
    body = thing.body
    moved = replace(body, x=replace(body.x, mean=body.x.mean + 200), y=replace(body.y, mean=body.y.mean + 200))
    cut = 0
    for index in range(0, 3_000, 100):
        mask, whole = alone(video, thing, index)
        if mask.any():
            shown = alone(video, replace(thing, body=moved), index, (500, 600))[0].sum()
            assert abs(int(shown) - whole) <= 2  # a place 200 pixels on rounds another way
            cut += mask.sum() < whole
    assert cut


def test_in_frame_0_every_object_is_whole(source):
    for seed in range(2):
        for settings in ({}, {"lookalikes": True, "num_occluders": 3}):
            video = SyntheticVideo(1, SMALL, 3, seed, photographs=source, **settings)
            assert all((t.visible, t.occluded, t.in_frame) == (1, False, True) for t in video[0][2].values())


def test_objects_are_hidden_and_shown_again_and_leave_and_return():
    video = SyntheticVideo(3_000, SMALL, 3, seed=0)
    truths = [video[index][2] for index in range(0, 3_000, 40)]
    hidden = [min(t[k].visible for t in truths if t[k].occluded) for k in (1, 2, 3)]
    assert min(hidden) < 0.2
    gone = [index for index, truth in enumerate(truths) if not truth[2].in_frame]
    assert gone
    assert any(truth[2].visible == 1 for truth in truths[gone[0] :])


def test_motion_is_smooth_and_bounded_however_late(source):
    video = SyntheticVideo(2_000_100, (120, 200), 1, photographs=source, num_occluders=0)
    body = video.cast[0][0].body
    for start in (0, 1_000, 2_000_000):
        labels = [video[index][1].bool() for index in range(start, start + 4)]
        for before, after in pairwise(labels):
            assert before.any()
            assert (before ^ after).sum() < 0.3 * before.sum()
        assert 0 <= body.x(start) <= 200
        assert 0 <= body.y(start) <= 120


def test_objects_change_their_shape_and_brightness(source):
    video = SyntheticVideo(400, SMALL, 1, photographs=source, num_occluders=0)
    thing = video.cast[0][0]
    lights = [thing.light(index) for index in range(0, 400, 10)]
    areas = [alone(video, thing, index)[1] for index in range(0, 400, 40)]
    assert max(lights) - min(lights) > 0.1
    assert max(areas) > 1.05 * min(areas)
    dark, bright = (lights.index(choose(lights)) * 10 for choose in (min, max))
    means = []
    for index in (dark, bright):
        picture = np.zeros((*SMALL, 3), np.uint8)
        thing.paint(index, picture, np.zeros(SMALL, np.uint8), 1)
        means.append(picture[picture.any(axis=2)].mean())
    assert means[1] > 1.05 * means[0]


def test_a_double_looks_like_its_object_and_is_not_asked_for(source):
    video = SyntheticVideo(1, SMALL, 2, photographs=source, lookalikes=True, num_occluders=0)
    assert [object_id for _, object_id in video.cast] == [0, 1, 0, 2]
    assert sorted(video[0][2]) == [1, 2]
    means = []
    for thing, _ in video.cast:
        look = thing.pixels if isinstance(thing, MovingCutOut) else thing.body.coat
        means.append(look.reshape(-1, look.shape[2])[:, :3].mean(axis=0))
    assert np.abs(means[0] - means[1]).max() < 8
    assert np.abs(means[2] - means[3]).max() < 8


def test_a_longer_video_takes_no_more_memory_and_neither_does_a_watched_one(source):
    short, long = (SyntheticVideo(n, SMALL, photographs=source) for n in (10, 60_000))
    size = len(pickle.dumps(long))
    for index in range(0, 60_000, 3_000):
        long[index]
    assert size == len(pickle.dumps(long))
    assert size - len(pickle.dumps(short)) < 16


def test_a_tracker_follows_it(tiny_model):
    tracker = mm.Tracker(tiny_model)
    for frame, labels, truth in SyntheticVideo(3, SMALL):
        masks = tracker.step(frame, {k: labels == k for k in truth} if frame.index == 0 else None)
    assert masks.object_ids == (1, 2)
    assert masks.labels.shape == SMALL


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_frames": 0}, "0 frames cannot be drawn; give at least 1"),
        ({"num_frames": 5, "size": (40, 200)}, "200x40 pixels is too small"),
        ({"num_frames": 5, "size": (9000, 9000)}, "9000x9000 pixels is too large"),
        ({"num_frames": 5, "num_objects": 7}, "7 objects cannot be drawn; give 1 to 6"),
        ({"num_frames": 5, "num_occluders": -1}, "-1 occluders cannot be drawn; give 0 to 4"),
        ({"num_frames": 5, "seed": -1}, "give 0 or more"),
        ({"num_frames": 5, "pace": 0}, "give a pace of at least 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, message):
    with refusal(InputError, message):
        SyntheticVideo(**arguments)


def test_there_is_no_frame_beyond_the_last():
    video = SyntheticVideo(2, SMALL)
    assert len(video) == len(list(video)) == 2
    for index in (-1, 2):
        with pytest.raises(IndexError):
            video[index]
