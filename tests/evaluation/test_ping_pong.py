import pickle
from pathlib import Path

from refusals import refusal

from mnemask.datasets.annotated import AnnotatedVideo
from mnemask.errors import InputError
from mnemask.evaluation.benchmark import ping_pong


def video(num_frames=4, masked=(0, 1, 2, 3)):
    frames = tuple(Path(f"{index}.jpg") for index in range(num_frames))
    return AnnotatedVideo("clip", frames, {index: Path(f"{index}.png") for index in masked}, True)


def test_frames_run_to_the_end_and_back_and_none_is_shown_twice_in_a_row():
    long = ping_pong(video(), 2)
    assert "".join(path.stem for path in long.frames) == "0123210123210"
    assert len(long.frames) == 13
    assert [path.stem for path in long.frames[2:5]] == ["2", "3", "2"]
    assert long.frames[-1] == Path("0.jpg")
    assert (long.name, long.single_object) == ("clip", True)


def test_each_mask_belongs_to_its_frame_in_both_directions():
    long = ping_pong(video(masked=(1, 3)), 2)
    assert {index: path.stem for index, path in long.masks.items()} == {
        1: "1", 3: "3", 5: "1", 7: "1", 9: "3", 11: "1",
    }  # fmt: skip
    assert len(long.masks) == 6
    assert long.first_annotated == 1
    assert 2 not in long.masks
    assert 13 not in long.masks
    assert -1 not in long.masks


def test_a_long_one_makes_no_list_and_travels_to_other_processes():
    long = ping_pong(video(), 10**9)
    assert len(long.frames) == 6 * 10**9 + 1
    assert long.frames[6 * 10**9 - 1] == Path("1.jpg")
    copy = pickle.loads(pickle.dumps(long))
    assert copy.masks[6 * 10**9] == Path("0.png")


def test_a_way_back_takes_two_frames_and_one_time():
    with refusal(InputError, "times"):
        ping_pong(video(), 0)
    with refusal(InputError, "back"):
        ping_pong(video(1, (0,)), 3)
