"""Folders of YOLO's labels: how lines are written, where pictures and the names of classes are."""

import json

import numpy as np
import pytest
from drawn_annotations import FRACTIONS, H, W, yolo
from PIL import ExifTags, Image
from refusals import refusal

from mnemask.errors import MaskError
from mnemask.io.label_files import annotated_frames, map_name, objects_of, read_labels
from mnemask.prompts import PromptPlan


def classes(folder):
    (path,) = annotated_frames(folder)
    return [info.category for info in objects_of(path.parent).values()]


@pytest.mark.parametrize("first", ["1e-05 0.1", "-0.001 0.1", "0 0.1", ".1 .1"])
def test_yolo_is_known_however_its_numbers_are_written(tmp_path, first):
    place = yolo(tmp_path / "a", **{"00000": f"0 {first} 0.4 0.1 0.4 0.9 0.1 0.9\n"})
    assert read_labels(annotated_frames(place)[0]).sum() > 0.2 * H * W


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


def test_a_folder_of_labelme_may_hold_other_files(tmp_path, caplog):
    shape = {"label": "dog", "points": [[5, 5], [25, 5], [25, 35]]}
    content = {"shapes": [shape], "imageHeight": H, "imageWidth": W, "imagePath": "00000.jpg"}
    (tmp_path / "00000.json").write_text(json.dumps(content))
    (tmp_path / "notes.json").write_text("{}")
    assert classes(tmp_path) == ["dog"]
    assert "notes.json" in caplog.text


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
