import cv2
import numpy as np
import pytest
import torch
from refusals import refusal

from mnemask.datasets.synthetic.drawn import DrawnVideo
from mnemask.errors import InputError

SMALL = (96, 160)


def same(a, b):
    return torch.equal(a[0].image, b[0].image) and torch.equal(a[1], b[1])


def touching(labels):
    """Whether two objects are neighbours."""
    x = labels.numpy().astype(int)
    pairs = [(x[1:], x[:-1]), (x[:, 1:], x[:, :-1])]
    return any(((a != b) & (a > 0) & (b > 0)).any() for a, b in pairs)


def test_frames_and_masks_have_the_size_and_kind_that_the_tracker_takes():
    frame, labels = DrawnVideo(5, (96, 161), 3)[4]
    assert frame.image.shape == (3, 96, 161)
    assert frame.image.is_contiguous()
    assert (frame.index, frame.name, frame.seconds) == (4, "00004", 0.16)
    assert labels.dtype == torch.uint8
    assert labels.shape == (96, 161)


def test_a_frame_follows_from_seed_and_number_alone():
    once, again = DrawnVideo(10_000, SMALL, seed=3), DrawnVideo(10_000, SMALL, seed=3)
    at_last = once[9_999]
    for index in (5, 9_999, 0, 5):
        assert same(once[index], again[index])
    assert same(again[9_999], at_last)
    assert same(DrawnVideo(20, SMALL, seed=3)[5], once[5])


def test_iterating_gives_every_frame_in_order():
    video = DrawnVideo(4, SMALL)
    frames = list(video)
    assert len(video) == len(frames) == 4
    assert all(same(frame, video[index]) for index, frame in enumerate(frames))
    assert all(same(a, b) for a, b in zip(video, frames, strict=True))
    for index in (-1, 4):
        with pytest.raises(IndexError):
            video[index]


def test_seeds_frames_and_numbers_of_objects_give_other_pictures():
    video = DrawnVideo(9, SMALL)
    assert not same(video[0], DrawnVideo(9, SMALL, seed=1)[0])
    assert not same(video[0], video[1])


@pytest.mark.parametrize("num", [1, 2, 5, 8])
@pytest.mark.parametrize("size", [SMALL, (160, 96), (48, 48)])
def test_in_frame_0_all_objects_are_whole_and_apart(num, size):
    for seed in range(2):
        labels = DrawnVideo(1, size, num, seed)[0][1]
        assert labels.unique().tolist() == list(range(num + 1))
        assert not touching(labels)
        assert not labels[[0, -1]].any()
        assert not labels[:, [0, -1]].any()
        for object_id in range(1, num + 1):
            pieces, _ = cv2.connectedComponents((labels == object_id).byte().numpy())
            assert pieces == 2


def test_objects_cover_a_twentieth_to_a_fifth_of_the_height_squared():
    for seed in range(3):
        labels = DrawnVideo(1, (144, 256), 4, seed)[0][1]
        shares = torch.bincount(labels.flatten().long())[1:] / 144**2
        assert shares.min() > 0.05
        assert shares.max() < 0.2


def test_objects_soon_hide_each_other_and_come_out_again():
    met = 0
    for seed in range(6):
        video = DrawnVideo(72, SMALL, seed=seed)
        met += any(touching(video[index][1]) for index in range(0, 72, 8))
    assert met >= 4


def test_objects_leave_and_return():
    video = DrawnVideo(2_000, SMALL, 2)
    seen = [2 in video.visible(index) for index in range(0, 2_000, 40)]
    assert seen[0]
    assert not all(seen)
    assert any(seen[seen.index(False) :])


def test_a_way_never_repeats():
    video = DrawnVideo(40_000, SMALL, 1)
    first = video[0][1]
    others = [video[index][1] for index in range(200, 40_000, 997)]
    assert not any(torch.equal(first, other) for other in others)


def test_without_occlusion_nothing_hides_or_leaves():
    for num in (1, 8):
        video = DrawnVideo(3_000, SMALL, num, seed=2, occlusion=False)
        for index in range(0, 3_000, 250):
            labels = video[index][1]
            assert video.visible(index) == tuple(range(1, num + 1))
            assert not touching(labels)
            assert not labels[[0, -1]].any()


def test_visible_says_what_the_masks_say():
    video = DrawnVideo(900, SMALL, 5, seed=4)
    for index in range(0, 900, 50):
        assert video.visible(index) == tuple(i for i in video[index][1].unique().tolist() if i)


def test_the_mask_is_the_outline_to_the_pixel():
    video = DrawnVideo(300, (120, 200), 1, seed=1)
    body = video._bodies[0]
    for index in (0, 40, 200):
        pose = body.pose(index)
        outline = (body.outline(index)[0] @ pose[:, :2].T + pose[:, 2]).astype(np.float32)
        labels = video[index][1].numpy()
        for y, x in np.random.default_rng(0).integers((120, 200), size=(400, 2)):
            depth = cv2.pointPolygonTest(outline, (float(x), float(y)), True)
            if abs(depth) > 0.75:
                assert (depth > 0) == bool(labels[y, x])


def test_objects_look_unlike_the_ground():
    for seed in range(4):
        frame, labels = DrawnVideo(1, SMALL, 4, seed)[0]
        image = cv2.cvtColor(frame.image.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2LAB).astype(float)
        means = [image[labels.numpy() == i].mean(axis=0) for i in range(5)]
        gaps = [np.linalg.norm(means[i] - means[j]) for i in range(5) for j in range(i)]
        assert min(gaps) > 12


def test_lookalikes_wear_the_same_coat():
    frame, labels = DrawnVideo(1, SMALL, 4, lookalikes=True)[0]
    mean = [frame.image[:, labels == i].float().mean(dim=1) for i in range(1, 5)]
    pairs = (mean[0] - mean[1]).norm() + (mean[2] - mean[3]).norm()
    assert pairs < (mean[0] - mean[2]).norm()
    assert pairs < (mean[1] - mean[3]).norm()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_frames": 0}, "at least 1"),
        ({"num_frames": 5, "size": (40, 200)}, "200x40 pixels is too small"),
        ({"num_frames": 5, "num_objects": 0}, "give 1 to 8"),
        ({"num_frames": 5, "num_objects": 9}, "give 1 to 8"),
        ({"num_frames": 5, "seed": -1}, "give 0 or more"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, message):
    with refusal(InputError, message):
        DrawnVideo(**arguments)
