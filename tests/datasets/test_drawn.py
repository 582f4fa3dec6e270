import numpy as np
import pytest
import torch

from mnemask.datasets.drawn import DrawnVideo
from mnemask.errors import InputError

SIZE = (96, 160)


def whole(stamp, size):
    """A stamp's opacity on a frame, written the slow way."""
    alpha = np.zeros(size, np.float32)
    for row, column in np.argwhere(stamp.alpha > 0):
        y, x = stamp.top + row, stamp.left + column
        if 0 <= y < size[0] and 0 <= x < size[1]:
            alpha[y, x] = stamp.alpha[row, column]
    return alpha


def test_two_videos_of_the_same_arguments_agree_in_any_order():
    video, same = (DrawnVideo(60, SIZE, num_objects=3, seed=4) for _ in range(2))
    in_order = [video[index] for index in range(0, 60, 7)]
    for index in (56, 0, 21, 49, 7):
        frame, labels = same[index]
        assert torch.equal(frame.image, in_order[index // 7][0].image)
        assert torch.equal(labels, in_order[index // 7][1])


def test_another_seed_gives_another_clip():
    one, other = (DrawnVideo(1, SIZE, seed=seed)[0][0].image for seed in (0, 1))
    assert (one != other).float().mean() > 0.9


def test_frames_carry_their_place_and_time():
    video = DrawnVideo(30, SIZE, num_objects=3)
    frame, labels = video[25]
    assert (frame.index, frame.seconds, frame.size, len(video)) == (25, 1.0, SIZE, 30)
    assert labels.dtype == torch.uint8
    assert labels.shape == SIZE
    assert set(labels.unique().tolist()) <= {0, 1, 2, 3}


def test_iterating_gives_each_frame_once_and_more_than_once():
    video = DrawnVideo(3, SIZE)
    for _ in range(2):
        assert [frame.index for frame, _ in video] == [0, 1, 2]


@pytest.mark.parametrize(("seed", "index"), [(0, 0), (1, 40), (2, 77_777)])
def test_labels_are_the_topmost_object_that_is_more_than_half_opaque(seed, index):
    video = DrawnVideo(100_000, SIZE, num_objects=4, seed=seed)
    expected = np.zeros(SIZE, np.uint8)
    for label, body in enumerate(video._bodies, 1):
        expected[whole(body.stamp(index), SIZE) > 0.5] = label
    assert np.array_equal(video[index][1].numpy(), expected)


def test_labels_are_where_the_picture_differs_from_one_without_the_objects():
    video = DrawnVideo(50, SIZE, num_objects=2, seed=3, occlusion=False)
    frame, labels = video[20]
    bare = torch.from_numpy(video._camera.view(20, SIZE)).permute(2, 0, 1)
    change = (frame.image.int() - bare.int()).abs().sum(0)
    # Noise alone changes a sum of three colours by about 5; a shadow reaches a little beyond the object.
    assert (change[labels > 0] > 25).float().mean() > 0.9
    assert (change[labels == 0] > 25).float().mean() < 0.12


@pytest.mark.parametrize("num_objects", range(1, 9))
def test_every_object_is_wholly_visible_in_frame_0(num_objects):
    for seed in range(4):
        video = DrawnVideo(1, SIZE, num_objects=num_objects, seed=seed)
        assert video.visible(0) == dict.fromkeys(range(1, num_objects + 1), 1.0)
        areas = np.bincount(video[0][1].numpy().ravel(), minlength=num_objects + 1)[1:] / (SIZE[0] * SIZE[1])
        assert areas.min() >= (0.015 if num_objects <= 4 else 0.005)


def test_no_object_touches_another_or_the_border_in_frame_0():
    for seed in range(6):
        _, labels = DrawnVideo(1, SIZE, num_objects=5, seed=seed)[0]
        rim = torch.cat((labels[0], labels[-1], labels[:, 0], labels[:, -1]))
        assert not rim.any()
        for one, other in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
            assert not ((one != other) & (one > 0) & (other > 0)).any()


def test_objects_hide_each_other_leave_and_come_back():
    video = DrawnVideo(6000, SIZE, num_objects=3, seed=1)
    seen = np.array([list(video.visible(index).values()) for index in range(0, 6000, 15)])
    assert (seen < 0.2).any(0).sum() >= 2
    assert (seen > 0.99).any(0).all()
    lost = int(np.argmax((seen < 0.2).any(1)))
    assert (seen[lost:] > 0.9).any(0).all()
    assert seen.mean() > 0.75


def test_without_occlusion_every_object_stays_wholly_visible():
    for num_objects in (1, 3, 8):
        video = DrawnVideo(10_000, SIZE, num_objects=num_objects, seed=2, occlusion=False)
        for index in range(0, 10_000, 499):
            assert set(video.visible(index).values()) == {1.0}


def test_objects_move_and_change_their_shape():
    video = DrawnVideo(100, SIZE, num_objects=1, seed=5)
    areas, centres = [], []
    for index in range(20):
        ys, xs = torch.nonzero(video[index][1] == 1, as_tuple=True)
        areas.append(len(ys))
        centres.append((ys.float().mean(), xs.float().mean()))
    steps = np.hypot(*np.diff(np.array(centres), axis=0).T)
    assert len(set(areas)) > 10
    # 15 pixels at 480 lines are 3 at 96.
    assert 0.2 < steps.max() < 3.5


def test_the_background_moves():
    video = DrawnVideo(50, SIZE, num_objects=1)
    (one, before), (two, after) = video[0], video[40]
    ground = (before == 0) & (after == 0)
    assert (one.image.int() - two.image.int()).abs().float().mean(0)[ground].mean() > 6


def test_no_frame_repeats():
    video = DrawnVideo(2**40, SIZE)
    pictures = {video[index][0].image.numpy().tobytes() for index in [*range(0, 3000, 60), 99_999, 2**40 - 1]}
    assert len(pictures) == 52


def test_noise_differs_from_frame_to_frame():
    video = DrawnVideo(2, SIZE)
    noise = [
        video[index][0].image.int() - torch.from_numpy(video._camera.view(index, SIZE)).movedim(-1, 0).int()
        for index in (0, 1)
    ]
    corner = [one[:, :6, :6].float() for one in noise]
    assert not torch.equal(*corner)
    assert max(one.std() for one in corner) < 5


def test_a_clip_of_any_length_holds_the_same_textures():
    short, long = DrawnVideo(1, SIZE), DrawnVideo(10**9, SIZE)
    assert torch.equal(short[0][0].image, long[0][0].image)


@pytest.mark.parametrize("size", [(32, 32), (33, 97), (160, 96), (40, 400)])
@pytest.mark.parametrize("num_objects", [1, 8])
def test_every_size_can_be_drawn(size, num_objects):
    video = DrawnVideo(500, size, num_objects=num_objects)
    for index in (0, 250, 499):
        frame, labels = video[index]
        assert frame.size == size
        assert labels.shape == size


@pytest.mark.parametrize("index", [-1, 5, 10**6])
def test_a_frame_that_the_clip_does_not_have_is_an_index_error(index):
    video = DrawnVideo(5, SIZE)
    with pytest.raises(IndexError, match=f"frame {index} of a clip of 5 frames"):
        video[index]
    with pytest.raises(IndexError):
        video.visible(index)


@pytest.mark.usefixtures("as_users_call_it")
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_frames": 0}, "num_frames is 0; expected a whole number from 1"),
        ({"num_frames": 2.5}, "num_frames is 2.5"),
        ({"num_objects": 9}, "num_objects is 9; expected a whole number from 1 to 8"),
        ({"num_objects": True}, "num_objects is True"),
        ({"seed": -1}, "seed is -1; expected a whole number from 0"),
        ({"size": (480,)}, r"size is \(480,\); expected height and width"),
        ({"size": (16, 854)}, "the height in size is 16; expected a whole number from 32 to 4096"),
        ({"size": (480, 5000)}, "the width in size is 5000"),
    ],
)
def test_wrong_arguments_are_told_in_one_sentence(wrong, message):
    with pytest.raises(InputError, match=message):
        DrawnVideo(**{"num_frames": 10, "size": SIZE, **wrong})
