"""Folders of YOLO's labels: how lines are written, where pictures and the names of classes are."""

import json

import numpy as np
import pytest
from drawn_annotations import FRACTIONS, H, W, yolo
from PIL import ExifTags, Image
from refusals import refusal

from mnemask.errors import MaskError
from mnemask.io.label_files import annotated_frames, label_paths, map_name, objects_of, read_labels
from mnemask.prompts import PromptPlan


def classes(folder):
    (path,) = annotated_frames(folder)
    return [info.category for info in objects_of(path.parent).values()]


@pytest.mark.parametrize("first", ["1e-05 0.1", "-0.001 0.1", "0 0.1", ".1 .1"])
def test_yolo_is_known_however_its_numbers_are_written(tmp_path, first):
    place = yolo(tmp_path / "a", **{"00000": f"0 {first} 0.4 0.1 0.4 0.9 0.1 0.9\n"})
    assert read_labels(annotated_frames(place)[0]).sum() > 0.2 * H * W


@pytest.mark.parametrize("line", ["0 0,1 0,1 0,4 0,1 0,4 0,9", "0.0 0.1 0.1 0.4 0.1 0.4 0.9"])
@pytest.mark.parametrize("before", ["", FRACTIONS])
def test_numbers_that_yolo_does_not_write_so_are_named_with_their_line(tmp_path, line, before):
    yolo(tmp_path / "images", **{"00000": ""})
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/00000.txt").write_text(f"{before}{line}\n")
    (tmp_path / "images/00000.txt").unlink()
    with refusal(MaskError, f"line {2 if before else 1} of .*00000.txt", line[:9], "with decimal points"):
        PromptPlan(tmp_path, [], [], False)


def test_a_confidence_behind_an_outline_is_no_corner(tmp_path):
    place = yolo(tmp_path / "a", **{"00000": FRACTIONS, "00001": FRACTIONS.replace("\n", " 0.83\n")})
    exact, doubted = map(read_labels, annotated_frames(place))
    assert np.array_equal(exact, doubted)


def test_key_points_are_no_outline(tmp_path):
    pose = " ".join(["0 0.5 0.5 0.9 0.9", *("0.2 0.3 2" for _ in range(17))])
    with refusal(MaskError, "keypoints"):
        annotated_frames(yolo(tmp_path / "a", **{"00000": f"{pose}\n"}))


@pytest.mark.parametrize(
    "names",
    [
        "names: [dog, 'big cat']",
        "names:\n  0: dog\n  1: big cat",
        "names:\n- dog\n- big cat\nnc: 2",
        "names:\n  - \"dog\"\n  - 'big cat'",
        "names: {0: dog, 1: 'big cat'}",
        "names: {\n  0: dog,\n  '1': \"big cat\",\n}",
        "names:  # of classes\n  0: dog  # small\n\n  1: big cat",
        "kpt_names:\n  0:\n    - nose\nnames:\n  0: dog\n  1: big cat\nflip: {0: nothing}",
    ],
)
def test_yolo_has_the_names_of_its_classes_however_they_are_listed(tmp_path, names):
    place = yolo(tmp_path / "labels", **{"00000": f"{FRACTIONS}1 0.6 0.1 0.9 0.1 0.9 0.9\n"})
    (tmp_path / "data.yaml").write_text(f"path: .\n{names}\n")
    assert classes(place) == ["dog", "big cat"]


def test_names_in_a_list_of_yolo_may_have_commas_and_apostrophes(tmp_path):
    place = yolo(tmp_path / "labels", **{"00000": f"{FRACTIONS}1 0.6 0.1 0.9 0.1 0.9 0.9\n"})
    (tmp_path / "data.yaml").write_text('names: ["cat, big", driver\'s hat]\n')
    assert classes(place) == ["cat, big", "driver's hat"]


def test_yolo_in_pixels_is_refused(tmp_path):
    with refusal(MaskError, "line 1", "fractions"):
        annotated_frames(yolo(tmp_path / "a", **{"00000": "0 10 10 40 10 40 30\n"}))


@pytest.mark.parametrize("layout", ["label studio", "flat"])
def test_a_list_of_classes_is_no_label_and_other_files_do_not_hide_labels(tmp_path, layout):
    place = yolo(tmp_path / "a", **{"00000": FRACTIONS})
    (place / "classes.txt").write_text("camel\n")
    if layout == "label studio":
        for folder, file in (("labels", "00000.txt"), ("images", "00000.jpg")):
            (place / folder).mkdir()
            (place / file).rename(place / folder / file)
        (place / "notes.json").write_text(json.dumps({"categories": [{"id": 0, "name": "camel"}], "info": {}}))
    assert classes(place) == ["camel"]
    plan = PromptPlan(place, (), (), False, names=["00000"])
    assert [info.category for info in plan.objects.values()] == ["camel"]


def test_classes_without_names_are_said(tmp_path, caplog):
    assert classes(yolo(tmp_path / "a", **{"00000": FRACTIONS})) == ["class 0"]
    assert "data.yaml" in caplog.text


@pytest.mark.parametrize(("names", "name"), [(r'["a\x20b"]', "a b"), (r'["a\\x20"]', r"a\x20")])
def test_names_in_quotes_may_have_escapes(tmp_path, names, name):
    (tmp_path / "data.yaml").write_text(f"names: {names}\n")
    assert classes(yolo(tmp_path / "a", **{"00000": FRACTIONS})) == [name]


@pytest.mark.parametrize("content", [b'names: ["a\\q"]\n', b"names: [caf\xe9]\n"])
def test_the_file_of_names_that_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "data.yaml").write_bytes(content)
    with refusal(MaskError, r"data\.yaml"):
        classes(yolo(tmp_path / "a", **{"00000": FRACTIONS}))


def test_a_folder_of_labelme_may_hold_other_files(tmp_path, caplog):
    shape = {"label": "dog", "points": [[5, 5], [25, 5], [25, 35]]}
    content = {"shapes": [shape], "imageHeight": H, "imageWidth": W, "imagePath": "00000.jpg"}
    (tmp_path / "00000.json").write_text(json.dumps(content))
    (tmp_path / "notes.json").write_text("{}")
    assert classes(tmp_path) == ["dog"]
    assert "notes.json" in caplog.text


def test_labels_that_were_rewritten_in_place_are_read_again(tmp_path):
    place = yolo(tmp_path / "a", **{"00000": FRACTIONS})
    before = read_labels(annotated_frames(place)[0])
    (place / "00000.txt").write_text("0 0.5 0.1 0.9 0.1 0.9 0.9 0.5 0.9\n")
    after = read_labels(annotated_frames(place)[0])
    assert before[20, 12]
    assert not after[20, 12]
    assert after[20, 42]


def test_a_picture_that_is_stored_turned_has_its_upright_size(tmp_path):
    place = yolo(tmp_path / "a", **{"00000": FRACTIONS})
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (W, H)).save(place / "00000.jpg", exif=exif)
    assert read_labels(annotated_frames(place)[0]).shape == (W, H)


def test_names_with_brackets_and_labels_with_a_mark_are_read(tmp_path):
    place = yolo(tmp_path / "a", **{"frame[1]": f"\ufeff{FRACTIONS}", "frame": f"\ufeff{FRACTIONS}"})
    Image.new("RGB", (H, W)).save(place / "frame.5.jpg")
    found = {map_name(path): read_labels(path) for path in annotated_frames(place)}
    assert found.keys() == {"frame[1]", "frame"}
    assert np.array_equal(found["frame"], found["frame[1]"])


def mask(path):
    labels = np.zeros((H, W), np.uint8)
    labels[10:20, 10:30] = 2
    Image.fromarray(labels).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("poses.txt", "1 0 0 0 0 1 0 0 0 0 1 0\n", False),
        ("00000.txt", "0 0.5 0.5 0.2 0.2\n", True),
        ("00000.txt", FRACTIONS, True),
    ],
)
def test_masks_beside_texts_of_numbers_are_read_as_masks(tmp_path, name, text, said, caplog):
    path = mask(tmp_path / "00000.png")
    (tmp_path / name).write_text(text)
    assert annotated_frames(tmp_path) == []
    assert label_paths(tmp_path) == [path]
    assert (name in caplog.text) == said


def test_boxes_beside_pictures_are_still_said_to_be_boxes(tmp_path):
    with refusal(MaskError, "boxes"):
        annotated_frames(yolo(tmp_path / "a", **{"00000": "0 0.5 0.5 0.2 0.2\n"}))


def test_pictures_of_a_split_are_where_yolo_has_them(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    pictures, labels = tmp_path / "images/train", yolo(tmp_path / "labels/train", **{"00000": FRACTIONS})
    (tmp_path / "data.yaml").write_text("names: [dog]\n")
    pictures.mkdir()
    (labels / "00000.jpg").rename(pictures / "00000.jpg")
    assert classes(labels) == ["dog"]
    (labels / "00001.txt").write_text(FRACTIONS)
    with refusal(MaskError, "00001.txt", f"into {pictures}$"):
        annotated_frames(labels)


def test_files_that_macos_leaves_beside_others_are_no_labels(tmp_path):
    hidden = b"\0\5\x16\7\0\2\0\0Mac OS X        \0\2\xb0\xff"
    place = yolo(tmp_path / "a", **{"00000": FRACTIONS})
    for name in ("._00000.txt", "._00000.jpg", "._notes.json"):
        (place / name).write_bytes(hidden)
    assert [map_name(path) for path in annotated_frames(place)] == ["00000"]
    shape = {"label": "dog", "points": [[5, 5], [25, 5], [25, 35]]}
    content = {"shapes": [shape], "imageHeight": H, "imageWidth": W, "imagePath": "00000.jpg"}
    (tmp_path / "00000.json").write_text(json.dumps(content))
    (tmp_path / "._00000.json").write_bytes(hidden)
    assert classes(tmp_path) == ["dog"]


@pytest.mark.parametrize("name", ["00001.txt", "00001.json"])
def test_a_damaged_file_of_a_folder_is_named(tmp_path, name):
    place = yolo(tmp_path / "a", **{"00000": FRACTIONS, "00001": FRACTIONS})
    if name.endswith("json"):
        content = {"shapes": [], "imageHeight": H, "imageWidth": W}
        (place / "00000.json").write_text(json.dumps(content))
    (place / name).write_bytes(b"0 \xff\xfe{")
    with refusal(MaskError, name):
        annotated_frames(place)


def test_lines_of_a_tracker_end_with_confidences_and_ids(tmp_path, caplog):
    outline = FRACTIONS.strip()
    plain = yolo(tmp_path / "plain", a=outline)
    for name, ends in (("both", " 0.87"), ("id", "")):
        texts = {f"f{at}": f"{outline}{ends} 7\n0 0.5 0.5 0.2 0.3{ends} 2\n" for at in range(3)}
        folder = yolo(tmp_path / name, **texts)
        assert set(objects_of(folder)) == {7}
        for path in annotated_frames(folder):
            assert set(read_labels(path).flat) == {0, 7}
            assert np.array_equal(read_labels(path) > 0, read_labels(*annotated_frames(plain)) > 0)
    assert "3 boxes" in caplog.text
    alone = yolo(tmp_path / "alone", **{f"f{at}": f"{outline} 0.9 1\n" for at in range(3)})
    assert set(objects_of(alone)) == {1}


def test_a_last_corner_at_the_lower_edge_is_no_id(tmp_path):
    folder = yolo(tmp_path / "labels", a="0 0.1 0.1 0.4 0.1 0.4 1\n", b="0 0.1 0.1 0.4 0.1 0.4 0.9\n")
    assert [int((read_labels(path) > 0).any(1).sum()) for path in annotated_frames(folder)] == [35, 31]


def test_a_tracker_that_was_not_sure_in_a_frame_is_refused(tmp_path):
    outline = FRACTIONS.strip()
    with refusal(MaskError, "some masks but not of others"):
        annotated_frames(yolo(tmp_path / "labels", a=f"{outline} 0.9 3", b=f"{outline} 0.4"))


def test_the_file_of_a_line_that_is_no_number_is_named(tmp_path):
    folder = yolo(tmp_path / "labels", a=FRACTIONS, b="0 0.1 0.1 0.4 abc 0.4 0.9")
    with refusal(MaskError, r"b\.txt"):
        annotated_frames(folder)
