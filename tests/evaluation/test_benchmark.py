import os

import numpy as np
import pytest
from drawn_benchmark import draw_davis, draw_video, draw_youtube_vos, picture_and_labels, write_png
from PIL import Image
from refusals import refusal

from mnemask.errors import InputError
from mnemask.evaluation.benchmark import Benchmark, frame_names
from mnemask.evaluation.runner import follow
from mnemask.tracker import Tracker
from mnemask.training.launch import Validation


def test_davis_gives_the_first_mask_and_asks_for_every_frame(tmp_path):
    sequences = Benchmark(draw_davis(tmp_path), "davis2016").open()
    assert [sequence.name for sequence in sequences] == ["bear", "dog"]
    bear = sequences[0]
    assert list(bear.given.masks) == [0]
    assert sorted(bear.asked) == list(range(5))
    assert len(bear.truth.masks) == 5
    assert bear.truth.single_object
    assert not bear.late_objects


def test_a_mask_after_the_first_one_is_out_of_the_trackers_reach(tmp_path):
    given = Benchmark(draw_davis(tmp_path), "davis2016").open(["dog"])[0].given
    with refusal(InputError, "frame"):
        given.read_labels(1)
    assert [path.stem for path in given.masks.values()] == ["00000"]


@pytest.mark.parametrize("spoil", ["absent", "garbage"])
def test_tracking_needs_no_later_mask(tiny_model, tmp_path, spoil):
    given = Benchmark(draw_davis(tmp_path), "davis2016").open(["dog"])[0].given
    later = [path for path in (tmp_path / "Annotations/480p/dog").iterdir() if path.stem != "00000"]
    assert len(later) == 4
    for path in later:
        path.unlink() if spoil == "absent" else path.write_bytes(b"never read")
    assert [masks.index for masks, _ in follow(Tracker(tiny_model, short_side=48), given)] == list(range(5))


def test_youtube_vos_gives_each_object_where_it_appears_and_asks_for_what_meta_names(tmp_path):
    (apes,) = Benchmark(draw_youtube_vos(tmp_path), "youtube-vos").open()
    assert (apes.name, apes.truth, list(apes.given.masks)) == ("apes", None, [0, 2])
    assert sorted(apes.asked) == list(range(5))
    (frogs,) = Benchmark(tmp_path, "youtube-vos", subset="train").open()
    assert list(frogs.given.masks) == [0, 2]
    assert len(frogs.truth.masks) == 5
    assert frogs.late_objects
    assert frogs.groups == {1: "seen", 2: "seen"}


def test_of_all_frames_of_youtube_vos_those_that_meta_names_are_asked_for(tmp_path):
    draw_youtube_vos(tmp_path)
    draw_video(tmp_path / "valid_all_frames/JPEGImages/apes", tmp_path / "unused", 21)
    (apes,) = Benchmark(tmp_path, "youtube-vos", all_frames=True).open()
    assert len(apes.given.frames) == 21
    assert sorted(apes.asked) == [0, 5, 10, 15, 20]
    assert list(apes.given.masks) == [0, 10]


def test_an_object_that_comes_late_is_prompted_then_and_the_others_are_not_corrected(tiny_model, tmp_path):
    draw_youtube_vos(tmp_path)
    (frogs,) = Benchmark(tmp_path, "youtube-vos", subset="train").open()
    answers = [masks for masks, _ in follow(Tracker(tiny_model, short_side=48), frogs.given)]
    assert [masks.object_ids for masks in answers] == [(1,), (1,), (1, 2), (1, 2), (1, 2)]
    # Object 1 of the mask that brings object 2 is poisoned: nobody may have looked at it.
    labels = np.array(Image.open(tmp_path / "train/Annotations/frogs/00010.png"))
    write_png(tmp_path / "train/Annotations/frogs/00010.png", np.where(labels == 1, 0, labels))
    again = [masks for masks, _ in follow(Tracker(tiny_model, short_side=48), frogs.given)]
    assert all((one.labels == other.labels).all() for one, other in zip(answers, again, strict=True))


def test_long_videos_ask_for_the_frames_that_have_masks(tmp_path):
    draw_video(tmp_path / "JPEGImages/rat", tmp_path / "Annotations/rat", 9, masked=(0, 4, 7))
    (rat,) = Benchmark(tmp_path, "long-video").open()
    assert sorted(rat.asked) == [0, 4, 7]
    assert list(rat.given.masks) == [0]


def test_a_folder_gives_the_first_mask_that_shows_an_object(tmp_path):
    draw_video(tmp_path / "frames", tmp_path / "masks", 6, masked=(1, 2, 3, 4))
    write_png(tmp_path / "masks/00001.png", picture_and_labels(1)[1] * 0)
    (clip,) = Benchmark(tmp_path, "folder").open()
    assert list(clip.given.masks) == [2]
    for path in (tmp_path / "masks").iterdir():
        write_png(path, picture_and_labels(1)[1] * 255)
    (white,) = Benchmark(tmp_path, "folder").open()
    assert (list(white.given.masks), white.given.single_object) == ([1], True)
    write_png(tmp_path / "masks/00001.png", picture_and_labels(1)[1] * 2)
    assert not Benchmark(tmp_path, "folder").open()[0].given.single_object
    assert Benchmark(tmp_path, "folder", single_object=True).open()[0].given.single_object
    for path in (tmp_path / "masks").iterdir():
        write_png(path, picture_and_labels(1)[1] * 0)
    with refusal(InputError, "object"):
        Benchmark(tmp_path, "folder").open()


def test_masks_of_one_object_and_masks_with_ids_are_not_averaged(tmp_path):
    for name, factor in (("white", 255), ("ids", 1)):
        draw_video(tmp_path / name / "frames", tmp_path / name / "masks", 4, masked=(0, 1, 2, 3))
        for path in (tmp_path / name / "masks").iterdir():
            write_png(path, picture_and_labels(1)[1] * factor)
    with refusal(InputError, "'white' has black-and-white masks of one object", "'ids'", "--single-object"):
        Benchmark(tmp_path, "folder").open()
    assert len(Benchmark(tmp_path, "folder", single_object=True).open()) == 2
    with refusal(InputError, "'white'", "'ids'"):
        Validation(tmp_path)


def test_a_video_played_to_and_fro_gives_one_mask_and_its_frames_are_called_by_number(tmp_path):
    (dog,) = Benchmark(draw_davis(tmp_path), "davis2016", ping_pong=3).open(["dog"])
    assert len(dog.given.frames) == 25
    assert list(dog.given.masks) == [0]
    assert sorted(dog.asked) == list(range(25))
    assert frame_names(dog.given)[23] == "000023"


def test_objects_of_a_video_played_to_and_fro_are_given_where_they_first_appear(tmp_path):
    draw_youtube_vos(tmp_path)
    once, often = (Benchmark(tmp_path, "youtube-vos", "train", ping_pong=times).open()[0] for times in (None, 2))
    assert len(often.given.frames) > len(once.given.frames)
    assert list(often.given.masks) == list(once.given.masks) == [0, 2]


def test_secret_masks_of_davis_are_no_truth(tmp_path):
    (dog,) = Benchmark(draw_davis(tmp_path, ["dog"], 2017, "test-dev", masked=[0]), "davis2017", "test-dev").open()
    assert dog.truth is None


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"dataset": "davis2018"}, "no data set 'davis2018'; choose one of davis2016"),
        ({"dataset": "folder", "subset": "val"}, "folder has no subsets"),
        ({"dataset": "davis2016", "all_frames": True}, "all frames of davis2016 are tracked anyway"),
        ({"dataset": "davis2017", "single_object": True}, "davis2017 defines its objects"),
        ({"dataset": "youtube-vos", "ping_pong": 2}, "secret"),
        ({"dataset": "davis2016", "ping_pong": 0}, "0 times"),
        ({"dataset": "davis2016", "subset": "train"}, "no list of the sequences in 'train'"),
        ({"dataset": "youtube-vos"}, "meta.json"),
    ],
)
def test_what_a_data_set_does_not_have_is_named(tmp_path, wrong, named):
    draw_davis(tmp_path)
    with refusal(InputError, named):
        Benchmark(tmp_path, **wrong).open()


def test_unknown_sequences_and_videos_with_too_few_masks_are_named(tmp_path):
    with refusal(InputError, "sequence"):
        Benchmark(draw_davis(tmp_path / "davis"), "davis2016").open(["dog", "cow"])
    draw_video(tmp_path / "own/frames", tmp_path / "own/masks", 6, masked=(0, 3))
    with refusal(InputError, "frames"):
        Benchmark(tmp_path / "own", "folder").open()


def test_an_object_that_its_first_mask_lacks_is_given_where_it_is_shown_and_that_is_said(tmp_path, caplog):
    draw_youtube_vos(tmp_path)
    folder = tmp_path / "train/Annotations/frogs"
    write_png(folder / "00010.png", picture_and_labels(2)[1])  # without object 2
    (frogs,) = Benchmark(tmp_path, "youtube-vos", subset="train").open()
    assert sorted(frogs.given.masks) == [0, 3]
    assert "object 2 of frogs" in caplog.text
    for path in folder.iterdir():
        write_png(path, picture_and_labels(0)[1])
    (frogs,) = Benchmark(tmp_path, "youtube-vos", subset="train").open()
    assert sorted(frogs.given.masks) == [0]
    assert "left out" in caplog.text


def test_soft_edges_of_any_mask_and_ids_behind_a_void_patch_are_seen(tmp_path):
    draw_video(tmp_path / "own/frames", tmp_path / "own/masks", 6)
    labels = picture_and_labels(4)[1] * 100
    soft = (
        Image.fromarray(labels).resize((32, 24), Image.Resampling.BILINEAR).resize((64, 48), Image.Resampling.BILINEAR)
    )
    soft.save(tmp_path / "own/masks/00004.png")
    with refusal(InputError, "00004.png", "blended"):
        Benchmark(tmp_path / "own", "folder").open()
    draw_video(tmp_path / "void/frames", tmp_path / "void/masks", 6)
    void = np.zeros((48, 64), np.uint8)
    void[:9, :9] = 255
    write_png(tmp_path / "void/masks/00000.png", void)
    (video,) = Benchmark(tmp_path / "void", "folder").open()
    assert not video.truth.single_object


def test_links_to_folders_of_one_name_are_two_videos(tmp_path):
    for street in ("main", "park"):
        draw_video(tmp_path / street / "v1/frames", tmp_path / street / "v1/masks", 4)
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / street).symlink_to(tmp_path / street / "v1")
    assert [video.name for video in Benchmark(tmp_path / "set", "folder").open()] == ["main", "park"]


def test_lists_of_davis_are_read_as_people_save_them(tmp_path):
    draw_davis(tmp_path, names=("my camel", "my"))
    listing = tmp_path / "ImageSets/2016/val.txt"
    listing.write_text("# chosen\r\nmy camel\r\n", encoding="utf-8-sig")
    assert [video.name for video in Benchmark(tmp_path, "davis2016").open()] == ["my camel"]
    listing.write_text("my camel", encoding="utf-16")
    with refusal(InputError, "UTF-8"):
        Benchmark(tmp_path, "davis2016").open()


def test_a_video_whose_name_is_not_utf_8_is_refused_before_it_is_tracked(tmp_path):
    draw_video(tmp_path / "video/frames", tmp_path / "video/masks")
    try:
        (tmp_path / "video").rename(tmp_path / os.fsdecode(b"caf\xe9"))
    except OSError:
        pytest.skip("this file system has only names in UTF-8")
    with refusal(InputError, r"'caf\\udce9'", "another name"):
        Benchmark(tmp_path, "folder").open()
