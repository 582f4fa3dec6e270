import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from clips import HELD_OUT, NUM_FRAMES, SIZE

SMALL = (96, 160)

# Pixels of each object in frame 20 at this size, as first drawn.
RECORDED = {
    "pair": [1368, 0],
    "pair-leaving": [1094, 1368],
    "pair-screened": [775, 607],
    "pair-doubled": [12, 582],
    "three-screened": [915, 525, 686],
    "three-doubled": [835, 459, 814],
    "four-screened": [628, 0, 316, 743],
    "four-crowded": [697, 0, 359, 775],
}


@pytest.fixture(scope="module")
def videos():
    return {clip: clip.open(size=SMALL) for clip in HELD_OUT}


def test_there_are_eight_clips_of_two_to_four_objects(videos):
    assert len({clip.name for clip in HELD_OUT}) == len(HELD_OUT) == 8
    assert {clip.num_objects for clip in HELD_OUT} == {2, 3, 4}
    assert {len(video) for video in videos.values()} == {NUM_FRAMES} == {40}


def test_clips_are_as_large_as_davis():
    video = HELD_OUT[0].open(1)
    assert video[0][0].size == SIZE == (480, 854)


def test_each_begins_with_all_objects_and_objects_get_hidden(videos):
    for clip, video in videos.items():
        first = video[0][2]
        assert sorted(first) == list(range(1, clip.num_objects + 1))
        assert all(truth.visible == 1 for truth in first.values())
        assert any(truth.occluded for index in range(3, 40, 3) for truth in video[index][2].values())


def test_the_set_is_always_the_same(videos):
    for clip, video in videos.items():
        areas = torch.bincount(video[20][1].flatten().long(), minlength=clip.num_objects + 1)[1:]
        # A few pixels at the rims may fall another way on another machine.
        assert torch.allclose(areas, torch.tensor(RECORDED[clip.name]), atol=5)


def test_fewer_frames_are_the_beginning_of_the_clip(videos):
    short = HELD_OUT[4].open(3, SMALL)
    assert torch.equal(short[2][0].image, videos[HELD_OUT[4]][2][0].image)
