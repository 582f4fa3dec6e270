import json
import pickle
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from refusals import refusal

from mnemask.datasets import annotated
from mnemask.datasets.published import open_youtube_vos
from mnemask.datasets.video_sets import VIDEO_SETS, open_bl30k, open_video_folders
from mnemask.errors import InputError, MaskError
from mnemask.io.frame_files import frames_among

DAVIS = Path(__file__).resolve().parents[2] / "../shared/data/davis2016-dev"
LABELS = np.array([[0, 1, 1], [2, 2, 255]], np.uint8)


def draw(frames, masks, stems, masked=None, suffix=".jpg"):
    for folder, names, ending in ((frames, stems, suffix), (masks, stems if masked is None else masked, ".png")):
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            Image.fromarray(LABELS).save(folder / f"{name}{ending}")


def draw_davis(root):
    for name in ("bear", "dogs", "only-2017"):
        draw(root / "JPEGImages/480p" / name, root / "Annotations/480p" / name, ["00000", "00001", "00002"])
    for year, subset, names in ((2016, "train", "bear"), (2016, "val", "dogs"), (2017, "train", "bear\nonly-2017")):
        (root / f"ImageSets/{year}").mkdir(parents=True, exist_ok=True)
        (root / f"ImageSets/{year}/{subset}.txt").write_text(names)
    (root / "ImageSets/2017/val.txt").write_text("dogs")


STEMS = [f"{number:05d}" for number in range(0, 30, 5)]
VIDEOS = {
    "train": {"003234408d": {"1": STEMS, "2": STEMS[2:]}, "0043f083b5": {"1": STEMS[:4]}},
    "valid": {"00f88c4f0a": {"1": STEMS, "3": STEMS[3:]}},
}


def draw_youtube_vos(root):
    for subset, videos in VIDEOS.items():
        for name, objects in videos.items():
            shown = sorted(set().union(*objects.values()))
            masked = shown if subset == "train" else sorted({stems[0] for stems in objects.values()})
            draw(root / subset / "JPEGImages" / name, root / subset / "Annotations" / name, shown, masked)
        write_meta(root / subset / "meta.json", videos)


def write_meta(path, videos):
    meta = {
        name: {"objects": {key: {"category": "frog", "frames": stems} for key, stems in objects.items()}}
        for name, objects in videos.items()
    }
    path.write_text(json.dumps({"videos": meta}))


def draw_bl30k(root):
    for name in ("0001", "0002"):
        draw(root / "BL30K/JPEGImages" / name, root / "BL30K/Annotations" / name, [f"{i:05d}" for i in range(4)])


DRAW = {"DAVIS": draw_davis, "YouTube": draw_youtube_vos, "BL30K": draw_bl30k}
NAMES = {
    "DAVIS-2016-train": ["bear"],
    "DAVIS-2016-val": ["dogs"],
    "DAVIS-2017-train": ["bear", "only-2017"],
    "DAVIS-2017-val": ["dogs"],
    "YouTube-VOS-train": ["003234408d", "0043f083b5"],
    "YouTube-VOS-valid": ["00f88c4f0a"],
    "BL30K": ["0001", "0002"],
}


@pytest.mark.parametrize("name", VIDEO_SETS)
def test_a_whole_set_opens_with_all_its_videos(tmp_path, name):
    DRAW[name.split("-")[0]](tmp_path)
    videos = VIDEO_SETS[name].open(tmp_path)
    assert [video.name for video in videos] == NAMES[name]
    single_object = name.startswith("DAVIS-2016")
    for video in videos:
        assert video.single_object == single_object
        assert all(video.masks[index].stem == video.frames[index].stem for index in video.masks)
        assert all(path.is_file() for path in [*video.frames, *video.masks.values()])
        labels = video.read_labels(video.first_annotated)
        np.testing.assert_array_equal(labels, LABELS > 0 if single_object else LABELS)


@pytest.mark.parametrize("name", VIDEO_SETS)
def test_a_missing_set_is_told_where_it_was_looked_for_and_is_published(tmp_path, name):
    with refusal(InputError, rf"{re.escape(str(tmp_path))}", rf"{re.escape(VIDEO_SETS[name].published)}"):
        VIDEO_SETS[name].open(tmp_path)


@pytest.mark.parametrize("name", VIDEO_SETS)
def test_half_a_download_names_the_first_missing_file_and_counts(tmp_path, name):
    DRAW[name.split("-")[0]](tmp_path)
    video = VIDEO_SETS[name].open(tmp_path)[0]
    mask = video.masks[video.first_annotated]
    mask.unlink()
    with refusal(InputError, rf"{video.name}", rf"{re.escape(str(mask))}"):
        VIDEO_SETS[name].open(tmp_path)
    for frame in video.frames:
        frame.unlink()
    with refusal(InputError, rf"{video.name}", r"\.jpg", rf"{re.escape(VIDEO_SETS[name].published)}"):
        VIDEO_SETS[name].open(tmp_path)


def test_youtube_vos_has_masks_in_validation_only_where_an_object_appears(tmp_path):
    draw_youtube_vos(tmp_path)
    (video,) = open_youtube_vos(tmp_path, "valid")
    assert len(video.frames) == 6
    assert list(video.masks) == [0, 3]
    late = tmp_path / "valid/Annotations/00f88c4f0a/00015.png"
    late.unlink()
    with refusal(InputError, rf"{re.escape(str(late))}"):
        open_youtube_vos(tmp_path, "valid")


def test_every_frame_between_two_masked_ones_of_youtube_vos_can_be_had(tmp_path):
    draw_youtube_vos(tmp_path)
    for name in VIDEOS["train"]:
        draw(tmp_path / "train_all_frames/JPEGImages" / name, tmp_path / "unused", [f"{i:05d}" for i in range(26)])
    first, _ = open_youtube_vos(str(tmp_path), all_frames=True)
    assert len(first.frames) == 26
    assert list(first.masks) == [0, 5, 10, 15, 20, 25]
    assert first.frames[25].parts[-4:] == ("train_all_frames", "JPEGImages", "003234408d", "00025.jpg")


def test_a_frame_or_a_video_that_meta_json_promises_must_be_there(tmp_path):
    draw_youtube_vos(tmp_path)
    frame, mask = (tmp_path / f"train/{kind}/0043f083b5/00010" for kind in ("JPEGImages", "Annotations"))
    frame.with_suffix(".jpg").unlink()
    mask.with_suffix(".png").unlink()
    with refusal(InputError, r"0043f083b5", r"00010\.jpg"):
        open_youtube_vos(tmp_path)
    shutil.rmtree(mask.parent)
    with refusal(InputError, r"Annotations.0043f083b5"):
        open_youtube_vos(tmp_path)


def test_a_meta_json_of_something_else_is_refused(tmp_path):
    draw_youtube_vos(tmp_path)
    meta = tmp_path / "train/meta.json"
    for text, reason in (("{", "JSONDecodeError"), ("[]", "TypeError"), ('{"videos": {"a": {}}}', "KeyError")):
        meta.write_text(text)
        with refusal(InputError, r"meta\.json", r"YouTube-VOS", rf"\({reason}"):
            open_youtube_vos(tmp_path)
    write_meta(meta, {})
    with refusal(InputError, r"meta\.json"):
        open_youtube_vos(tmp_path)
    meta.unlink()
    with refusal(InputError, r"meta\.json"):
        open_youtube_vos(tmp_path)


def test_bl30k_may_be_given_by_its_own_folder_and_lacks_no_video_on_either_side(tmp_path):
    draw_bl30k(tmp_path)
    assert open_bl30k(tmp_path / "BL30K") == open_bl30k(tmp_path)
    shutil.rmtree(tmp_path / "BL30K/Annotations/0002")
    with refusal(InputError, r"BL30K", r"Annotations.0002", r"MiVOS"):
        open_bl30k(tmp_path)


def test_videos_that_are_numbered_alike_share_what_is_known_of_their_names(tmp_path):
    draw_bl30k(tmp_path)
    first, second = pickle.loads(pickle.dumps(open_bl30k(tmp_path)))
    assert first.frames.names is second.frames.names
    assert first.masks.names is second.masks.names
    assert [path.name for path in first.frames[1:3]] == ["00001.jpg", "00002.jpg"]
    assert first.frames[-1] == tmp_path / "BL30K/JPEGImages/0001/00003.jpg"


def test_frames_of_ones_own_follow_in_natural_order_and_masks_may_be_sparse(tmp_path):
    for name in ("clip2", "clip10"):
        draw(tmp_path / name / "frames", tmp_path / name / "masks", ["f8", "f9", "f10", "f11"], ["f9", "f11"], ".webp")
    (tmp_path / "notes").mkdir()
    (tmp_path / "README.md").touch()
    videos = open_video_folders(tmp_path, single_object=True)
    assert [video.name for video in videos] == ["clip2", "clip10"]
    assert [path.name for path in videos[0].frames] == ["f8.webp", "f9.webp", "f10.webp", "f11.webp"]
    assert {index: path.name for index, path in videos[0].masks.items()} == {1: "f9.png", 3: "f11.png"}
    assert videos[0].single_object
    (alone,) = open_video_folders(str(tmp_path / "clip10"))
    assert alone.frames == videos[1].frames
    assert not alone.single_object


def test_folders_that_hold_no_video_are_told_what_was_expected(tmp_path):
    with refusal(InputError, r"NAME.frames"):
        open_video_folders(tmp_path)
    draw(tmp_path / "clip/frames", tmp_path / "clip/masks", ["1", "2"], [])
    with refusal(InputError, r"\.png"):
        open_video_folders(tmp_path)
    draw(tmp_path / "clip/frames", tmp_path / "clip/masks", ["1", "2"], ["2", "3"])
    with refusal(InputError, r"3\.png", "from 1 to 2"):
        open_video_folders(tmp_path)
    draw(tmp_path / "clip/frames", tmp_path / "clip/masks", ["1", "3"], ["2"], ".png")
    with refusal(InputError, "frames"):
        open_video_folders(tmp_path)


def test_frames_in_one_file_are_refused_as_that_and_not_as_missing(tmp_path):
    draw(tmp_path / "clip/frames", tmp_path / "clip/masks", [], ["0", "1", "2"])
    first, *others = (Image.fromarray(LABELS + page) for page in range(3))
    first.save(tmp_path / "clip/frames/stack.tif", save_all=True, append_images=others)
    with refusal(InputError, "3 pictures of one file", r"stack\.tif", "separate files"):
        open_video_folders(tmp_path)


@pytest.mark.shared
def test_the_real_davis_and_real_clips_open(shared_data):
    videos = VIDEO_SETS["DAVIS-2016-val"].open(shared_data / "davis2016-dev")
    assert len(videos) == 8
    for video in videos:
        assert list(video.masks) == list(range(len(video.frames)))
        assert set(np.unique(video.read_labels(len(video.frames) // 2))) == {0, 1}
    assert len(open_video_folders(shared_data / "video")) == 28


def test_soft_edges_are_refused_and_folders_that_are_left_out_are_named(tmp_path, caplog):
    disc = np.zeros((60, 80), np.uint8)
    cv2.circle(disc, (40, 30), 18, 255, -1)
    for name, mask in (("hard", disc), ("soft", cv2.GaussianBlur(disc, (0, 0), 1.5))):
        for part in ("frames", "masks"):
            (tmp_path / name / part).mkdir(parents=True)
            Image.fromarray(mask).save(tmp_path / name / part / "0.png")
    with refusal(MaskError, "soft", "blended"):
        open_video_folders(tmp_path)
    (tmp_path / "soft/frames").rename(tmp_path / "soft/images")
    (tmp_path / "soft/masks").rename(tmp_path / "soft/annotations")
    (video,) = open_video_folders(tmp_path)
    assert video.single_object
    assert "1 folders" in caplog.text
    assert "soft" in caplog.text


def test_masks_among_frames_of_ones_own_are_left_out_and_that_is_said(tmp_path, caplog):
    stems = [f"{number:05d}" for number in range(4)]
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    for name, mask in (("named", "{}_mask.png"), ("twins", "{}.png")):
        draw(tmp_path / name / "frames", tmp_path / name / "masks", [], stems)
        for stem in stems:
            Image.fromarray(noise).save(tmp_path / name / "frames" / f"{stem}.jpg")
            Image.fromarray(LABELS).save(tmp_path / name / "frames" / mask.format(stem))
    videos = open_video_folders(tmp_path)
    for video, mask in zip(videos, ("00000_mask.png", "00000.png"), strict=True):
        assert [path.name for path in video.frames] == [f"{stem}.jpg" for stem in stems]
        assert list(video.masks) == [0, 1, 2, 3]
        assert caplog.text.count(f"{video.name}: 4 files like {mask} are masks of the frames beside them") == 1


def test_masks_of_ones_own_may_have_the_names_that_tools_give_them(tmp_path, caplog):
    stems = ["f8", "f9", "f10"]
    for place, form in enumerate(("{}_mask", "{}.jpg", "{}")):
        masked = [form.format(stem) for stem in stems[1:]]
        draw(tmp_path / f"clip{place}/frames", tmp_path / f"clip{place}/masks", stems, masked)
    draw(tmp_path / "clip2/frames", tmp_path / "clip2/masks", [], ["f8_mask"])
    affixed, doubled, some = open_video_folders(tmp_path)
    assert {index: path.name for index, path in affixed.masks.items()} == {1: "f9_mask.png", 2: "f10_mask.png"}
    assert {index: path.name for index, path in doubled.masks.items()} == {1: "f9.jpg.png", 2: "f10.jpg.png"}
    assert {index: path.name for index, path in some.masks.items()} == {0: "f8_mask.png", 1: "f9.png", 2: "f10.png"}
    assert not caplog.text
    draw(tmp_path / "clip2/frames", tmp_path / "clip2/masks", [], ["f9_mask"])
    with refusal(MaskError, "f9.png", "f9_mask.png", "both of frame 1"):
        open_video_folders(tmp_path)
    (tmp_path / "clip2/masks/f9.png").unlink()
    draw(tmp_path / "numbered/frames", tmp_path / "numbered/masks", stems, ["truth 9", "truth 10"])
    assert list(open_video_folders(tmp_path)[-1].masks) == [1, 2]
    assert "numbered: masks are matched to frames by their numbers" in caplog.text


def test_frames_with_the_same_names_are_put_in_order_once_for_all_videos(tmp_path, monkeypatch):
    compared = []

    def counted(images):
        compared.append(len(images))
        return frames_among(images)

    monkeypatch.setattr(annotated, "frames_among", counted)
    stems = [f"same in all {number}" for number in (8, 9, 10)]
    for name in "abc":
        draw(tmp_path / name / "frames", tmp_path / name / "masks", stems, stems[:2])
    videos = open_video_folders(tmp_path)
    assert compared == [len(stems)]
    for video in videos:
        assert list(video.frames) == [tmp_path / video.name / "frames" / f"{stem}.jpg" for stem in stems]


def test_two_series_of_frames_of_ones_own_are_said(tmp_path, caplog):
    draw(tmp_path / "frames", tmp_path / "masks", [f"{number:05d}_{side}" for number in range(4) for side in "LR"])
    (video,) = open_video_folders(tmp_path)
    assert len(video.frames) == 8
    assert "two series with the same numbers" in caplog.text


def test_frames_whose_order_is_a_guess_are_said(tmp_path, caplog):
    draw(tmp_path / "frames", tmp_path / "masks", ["shot-1", "shot-2", "shot-3", "shot4"])
    open_video_folders(tmp_path)
    assert "may be a sign" in caplog.text


def test_jpeg_masks_are_named_as_such(tmp_path):
    for folder, suffix in ("frames", "png"), ("masks", "jpg"):
        (tmp_path / f"a/{folder}").mkdir(parents=True)
        Image.new("L", (9, 9)).save(tmp_path / f"a/{folder}/0.{suffix}")
    with refusal(InputError, "not PNG", "0.jpg", "again as PNG"):
        open_video_folders(tmp_path)
