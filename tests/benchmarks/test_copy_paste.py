import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from drawn_data import write
from refusals import refusal

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from copy_paste import (
    DAVIS_PAIRS,
    GUEST,
    HOST,
    SELECTION_PAIRS,
    CopyPasteVideo,
    ObjectTrack,
    copy_paste_videos,
    guest_path,
    ping_pong_index,
    turning_frame,
)

from mnemask.datasets.annotated import AnnotatedVideo
from mnemask.datasets.published import DavisSequences
from mnemask.datasets.real_video import SELECTION
from mnemask.errors import FrameError, InputError, MaskError

SIZE = (120, 200)


def draw(root, name, colour, num_frames=24, size=SIZE, step=(1, 0), single_object=True):
    """A disc that moves and trembles over a grey ground."""
    frames, masks = [], {}
    for index in range(num_frames):
        y, x = np.mgrid[: size[0], : size[1]]
        left, top = 80 + step[0] * index, 60 + step[1] * index + 3 * (index % 2)
        mask = ((x - left) ** 2 + (y - top) ** 2 < 18**2).astype(np.uint8) * 255
        frame = np.full((*size, 3), 120, np.uint8)
        frame[mask > 0] = colour[::-1]
        frames.append(root / name / f"{index:05d}.png")
        masks[index] = root / name / "masks" / f"{index:05d}.png"
        write(frames[-1], frame)
        write(masks[index], mask)
    return AnnotatedVideo(name, frames, masks, single_object)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    return draw(root, "red", (220, 40, 40)), draw(root, "blue", (40, 40, 220), 15, step=(-2, 1))


@pytest.fixture(scope="module")
def pasted(videos):
    return CopyPasteVideo(*videos)


def picture(frame):
    return frame.image.permute(1, 2, 0).numpy().astype(int)


def test_it_is_as_long_as_the_longer_video_and_as_large_as_the_host(pasted):
    frame, labels, truth = pasted[23]
    assert len(pasted) == 24
    assert pasted.name == "red+blue"
    assert frame.image.shape == (3, *SIZE)
    assert (labels.dtype, labels.shape) == (torch.uint8, SIZE)
    assert sorted(truth) == [HOST, GUEST]
    for index in (-1, 24):
        with pytest.raises(IndexError):
            pasted[index]


def test_the_same_seed_gives_the_same_video_in_any_order(pasted, videos):
    again = CopyPasteVideo(*videos)
    for (frame, labels, truth), index in zip(reversed([again[i] for i in range(24)]), reversed(range(24)), strict=True):
        assert torch.equal(frame.image, pasted[index][0].image)
        assert torch.equal(labels, pasted[index][1])
        assert truth == pasted[index][2]
    assert not torch.equal(CopyPasteVideo(*videos, seed=1)[0][1], pasted[0][1])


def test_the_labels_are_what_the_picture_shows(pasted):
    for frame, labels, _ in pasted:
        shown, ids = picture(frame), labels.numpy()
        # A pixel or two beside an outline, colours mix.
        inner = {k: cv2.erode((ids == k).astype(np.uint8), np.ones((7, 7))) > 0 for k in (0, HOST, GUEST)}
        assert (np.abs(shown[inner[HOST]] - (220, 40, 40)) < 3).all()
        assert (np.abs(shown[inner[GUEST]] - (40, 40, 220)) < 3).all()
        assert (np.abs(shown[inner[0]] - 120) < 3).all()


def test_both_objects_are_apart_at_first_then_each_hides_the_other(pasted):
    truths = [truth for _, _, truth in pasted]
    turn = turning_frame(len(pasted))
    for index in (0, turn):
        assert (truths[index][HOST].visible, truths[index][GUEST].occluded) == (1, False)
    assert truths[0][GUEST].visible == 1
    assert min(truth[HOST].visible for truth in truths[:turn]) < 0.5
    assert min(truth[GUEST].visible for truth in truths[turn:]) < 0.5
    assert not any(truth[GUEST].occluded for truth in truths[:turn])
    assert not any(truth[HOST].occluded for truth in truths[turn:])


def test_visibility_is_what_the_labels_show(pasted, videos):
    for frame, labels, truth in pasted:
        host = videos[0].read_labels(frame.index) > 0
        shown = labels.numpy()
        assert truth[HOST].visible == (shown == HOST).sum() / host.sum()
        assert truth[HOST].occluded == bool((host & (shown == GUEST)).any())
        assert set(np.unique(shown[host])) <= {HOST, GUEST}
        assert not (shown[~host] == HOST).any()
        assert 0 <= truth[GUEST].visible <= 1
        assert truth[GUEST].in_frame


def test_the_guest_keeps_its_own_quick_motion(pasted, videos):
    heights = [np.nonzero(pasted[index][1].numpy() == GUEST)[0].mean() for index in range(3)]
    own = [np.nonzero(videos[1].read_labels(index))[0].mean() for index in range(3)]
    scale = pasted._to_host[0, 0, 0]
    assert heights[1] - heights[0] == pytest.approx(scale * (own[1] - own[0]), abs=1.0)
    assert heights[2] - heights[1] == pytest.approx(scale * (own[2] - own[1]), abs=1.0)


def test_a_soft_edge_mixes_guest_and_ground(pasted):
    frame, labels, _ = pasted[0]
    edge = cv2.morphologyEx((labels.numpy() == GUEST).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0
    red = picture(frame)[..., 0][edge]
    assert ((red > 50) & (red < 110)).mean() > 0.5


def test_a_video_runs_to_and_fro():
    assert [ping_pong_index(index, 4) for index in range(10)] == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3]
    assert [ping_pong_index(index, 1) for index in range(3)] == [0, 0, 0]


def test_a_guest_that_is_gone_for_a_while_leaves_no_pixel(tmp_path):
    host, guest = draw(tmp_path, "host", (220, 40, 40), 9), draw(tmp_path, "guest", (40, 40, 220), 9)
    write(guest.masks[4], np.zeros(SIZE, np.uint8))
    _, labels, truth = CopyPasteVideo(host, guest)[4]
    assert labels.unique().tolist() == [0, HOST]
    assert (truth[GUEST].visible, truth[GUEST].occluded, truth[GUEST].in_frame) == (0, False, False)


def test_a_guest_of_any_size_is_cut_to_size(tmp_path):
    rng = np.random.default_rng(0)
    small = ObjectTrack(np.full((9, 2), 50.0), np.full((9, 2), 10.0), np.full(9, 80.0))
    large = ObjectTrack(np.full((9, 2), 90.0), np.full((9, 2), 100.0), np.full(9, 8000.0))
    assert guest_path(rng, large, small, SIZE)[0, 0, 0] == pytest.approx(1.6)
    wide = ObjectTrack(large.centre, np.array([[300.0, 2.0]] * 9), large.area)
    assert guest_path(rng, large, wide, SIZE)[0, 0, 0] <= 100 / 300


def test_videos_that_cannot_be_pasted_are_refused(videos, tmp_path):
    red, blue = videos
    with refusal(InputError, "negative"):
        CopyPasteVideo(red, blue, -1)
    few = AnnotatedVideo("few", red.frames, {0: red.masks[0]}, True)
    with refusal(InputError, r"24"):
        CopyPasteVideo(few, blue)
    with refusal(InputError, "several"):
        CopyPasteVideo(red, AnnotatedVideo("two", blue.frames, blue.masks, False))
    late = draw(tmp_path, "late", (1, 2, 3), 3)
    write(late.masks[0], np.zeros(SIZE, np.uint8))
    with refusal(MaskError, "object"):
        CopyPasteVideo(red, late)
    odd = draw(tmp_path, "odd", (1, 2, 3), 3)
    write(odd.frames[1], np.zeros((90, 90, 3), np.uint8))
    with refusal(FrameError, "frames"):
        CopyPasteVideo(red, odd)[1]


@pytest.mark.shared
def test_all_pairs_of_davis_cross(shared_data):
    sequences = DavisSequences(shared_data / "davis2016-dev", 2016)
    host, guest, seed = DAVIS_PAIRS[0]
    video = CopyPasteVideo(sequences[host], sequences[guest], seed)
    truths = [video[index][2] for index in range(0, len(video), 6)]
    assert truths[0][HOST].visible == 1
    assert min(truth[HOST].visible for truth in truths) < 0.95
    assert min(truth[GUEST].visible for truth in truths if truth[GUEST].occluded) < 0.5
    assert len({(a, b) for a, b, _ in DAVIS_PAIRS}) == len(DAVIS_PAIRS)
    assert {name for pair in DAVIS_PAIRS for name in pair[:2]} <= set(sequences.names)


def test_pairs_to_choose_by_are_of_sequences_that_are_not_trained_on():
    assert {name for pair in SELECTION_PAIRS for name in pair[:2]} == set(SELECTION)
    assert not {name for pair in SELECTION_PAIRS for name in pair[:2]} & {n for pair in DAVIS_PAIRS for n in pair[:2]}


@pytest.mark.shared
def test_pairs_of_which_one_is_missing_are_left_out(shared_data):
    sequences = DavisSequences(shared_data / "davis2016-dev", 2016)
    sequences._sequences = {name: sequences[name] for name in ("camel", "dog")}
    assert [video.name for video in copy_paste_videos(sequences)] == ["camel+dog", "dog+camel"]
    sequences._sequences.popitem()
    with refusal(InputError, "sequences"):
        copy_paste_videos(sequences)
