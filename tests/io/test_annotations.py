"""Files of annotation tools as people have them: partly labelled, damaged, with shapes behind each other."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from refusals import refusal

from mnemask.errors import MaskError
from mnemask.io.label_files import annotated_frames, is_annotated, map_name, objects_of, read_labels

H, W = 40, 60
LEFT, RIGHT = [5, 5, 25, 5, 25, 35, 5, 35], [35, 5, 55, 5, 55, 35, 35, 35]


def annotation(number, corners, image=1, **more):
    return {"id": number, "image_id": image, "category_id": number, "segmentation": [corners], **more}


def coco(path, annotations, pictures=1, **more):
    images = [{"id": i + 1, "file_name": f"{i:05d}.jpg", "height": H, "width": W} for i in range(pictures)]
    categories = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories, **more}))
    return path


def cvat(path, *images, tracks=""):
    path.write_text(
        f"<annotations><meta><original_size><width>{W}</width><height>{H}</height></original_size></meta>"
        f"{''.join(images)}{tracks}</annotations>"
    )
    return path


def polygon(label, corners, **more):
    points = ";".join(f"{x},{y}" for x, y in zip(corners[::2], corners[1::2], strict=True))
    said = "".join(f' {name}="{value}"' for name, value in more.items())
    return f'<polygon label="{label}" points="{points}"{said}></polygon>'


def yolo(folder, **labels):
    folder.mkdir()
    for stem, text in labels.items():
        (folder / f"{stem}.txt").write_text(text)
        Image.new("RGB", (W, H)).save(folder / f"{stem}.jpg")
    return folder


FRACTIONS = "0 0.1 0.1 0.4 0.1 0.4 0.9 0.1 0.9\n"


@pytest.mark.parametrize("tool", ["coco", "cvat", "yolo", "label-studio"])
def test_pictures_that_nobody_came_to_are_told_from_empty_ones(tmp_path, tool):
    if tool == "coco":
        place = coco(tmp_path / "a.json", [annotation(1, LEFT)], pictures=3)
    elif tool == "cvat":
        head = f'width="{W}" height="{H}"'
        first = f'<image id="0" name="00000.jpg" {head}>{polygon("dog", LEFT)}</image>'
        place = cvat(tmp_path / "a.xml", first, f'<image id="1" name="00001.jpg" {head}/>')
    elif tool == "yolo":
        place = yolo(tmp_path / "a", **{"00000": FRACTIONS, "00001": ""})
    else:
        points = [[10, 10], [40, 10], [40, 90]]
        shape = {"original_width": W, "original_height": H, "value": {"points": points, "polygonlabels": ["dog"]}}
        tasks = [{"data": {"image": f"/data/{i:05d}.jpg"}} for i in range(2)]
        tasks[0]["annotations"] = [{"result": [shape]}]
        place = tmp_path / "tasks.json"
        place.write_text(json.dumps(tasks))
    paths = annotated_frames(place)
    assert len(paths) > 1
    assert [map_name(path) for path in paths if is_annotated(path)] == ["00000"]
    assert read_labels(paths[0]).any()


def test_a_file_that_says_so_has_empty_pictures(tmp_path):
    ours = coco(tmp_path / "a.json", [annotation(1, LEFT)], pictures=2, info={"contributor": "mnemask"})
    assert all(map(is_annotated, annotated_frames(ours)))
    gone = '<track id="0" label="dog">{}<polygon frame="4" outside="1" points="1,1;5,1;5,5"/></track>'
    track = cvat(tmp_path / "a.xml", tracks=gone.format(polygon("dog", LEFT, frame=0, outside=0)))
    assert [is_annotated(path) for path in annotated_frames(track)] == [True, True]


@pytest.mark.parametrize("z", [(0, 1), (1, 0)])
def test_the_shape_in_front_is_seen_and_one_that_is_not_is_named(tmp_path, caplog, z):
    large = [0, 0, 30, 0, 30, 40, 0, 40]
    shapes = polygon("dog", LEFT, z_order=z[0]) + polygon("cat", large, z_order=z[1])
    place = cvat(tmp_path / "a.xml", f'<image id="0" name="a.jpg" width="{W}" height="{H}">{shapes}</image>')
    labels = read_labels(annotated_frames(place)[0])
    seen = 0 if z[1] else 20 * 30
    assert (labels == 1).sum() == seen
    assert (labels == 2).sum() == 30 * 40 - seen
    assert ("object 1 (dog)" in caplog.text and "cover it" in caplog.text) == bool(z[1])


def test_an_object_outside_of_the_picture_is_named_and_refused_where_there_is_no_other(tmp_path, caplog):
    beyond = [500, 500, 520, 500, 520, 520]
    annotated_frames(coco(tmp_path / "a.json", [annotation(1, LEFT), annotation(2, beyond)]))
    assert "object 2 (cat)" in caplog.text
    assert "no pixel" in caplog.text
    with refusal(MaskError, r"object 1 \(cat\)", "no pixel"):
        annotated_frames(coco(tmp_path / "b.json", [annotation(2, beyond)]))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"image_id": 77}, "image 77"),
        ({"category_id": None}, "category_id"),
        ({"segmentation": [[1, 1, float("nan"), 5, 5, 9]]}, "a corner at"),
    ],
)
def test_a_damaged_annotation_is_named(tmp_path, fault, said):
    wrong = {**annotation(1, LEFT), **fault}
    wrong = {name: value for name, value in wrong.items() if value is not None}
    with refusal(MaskError, said):
        annotated_frames(coco(tmp_path / "a.json", [wrong]))


def test_a_json_of_something_else_is_said_to_be_that(tmp_path):
    (tmp_path / "report.json").write_text("{}")
    with refusal(MaskError, "no 'images'"):
        annotated_frames(tmp_path / "report.json")


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


def test_a_mask_within_labelme_is_of_a_picture_format(tmp_path):
    def embedded(kind):
        data = io.BytesIO()
        Image.new("L", (10, 10), 255).save(data, kind)
        shape = {"shape_type": "mask", "label": "dog", "points": [[5, 5], [14, 14]]}
        shape["mask"] = base64.b64encode(data.getvalue()).decode()
        content = {"imageHeight": H, "imageWidth": W, "imagePath": "a.jpg", "shapes": [shape]}
        (tmp_path / f"{kind}.json").write_text(json.dumps(content))
        return tmp_path / f"{kind}.json"

    assert read_labels(annotated_frames(embedded("PNG"))[0]).sum() == 100
    with refusal(MaskError, "PCX.json"):
        annotated_frames(embedded("PCX"))


def test_a_task_that_was_submitted_without_regions_says_that_there_is_nothing(tmp_path):
    shape = {"original_width": W, "original_height": H, "value": {"points": [[10, 10], [40, 10], [40, 90]]}}
    tasks = [{"data": {"image": f"/data/{i:05d}.jpg"}} for i in range(3)]
    tasks[0]["annotations"], tasks[1]["annotations"] = [{"result": [shape]}], [{"result": []}]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    paths = annotated_frames(tmp_path / "tasks.json")
    assert [is_annotated(path) for path in paths] == [True, True, False]
    assert [bool(read_labels(path).any()) for path in paths] == [True, False, False]


@pytest.mark.parametrize(
    "names",
    [
        "names: [dog, 'big cat']",
        "names:\n  0: dog\n  1: big cat",
        "names:\n- dog\n- big cat\nnc: 2",
        "names:\n  - \"dog\"\n  - 'big cat'",
    ],
)
def test_yolo_has_the_names_of_its_classes_however_they_are_listed(tmp_path, names):
    place = yolo(tmp_path / "labels", **{"00000": f"{FRACTIONS}1 0.6 0.1 0.9 0.1 0.9 0.9\n"})
    (tmp_path / "data.yaml").write_text(f"path: .\n{names}\n")
    (path,) = annotated_frames(place)
    assert [info.category for info in objects_of(path.parent).values()] == ["dog", "big cat"]


def test_yolo_in_pixels_is_refused(tmp_path):
    with refusal(MaskError, "line 1", "fractions"):
        annotated_frames(yolo(tmp_path / "a", **{"00000": "0 10 10 40 10 40 30\n"}))


def test_tracks_and_groups_that_count_from_0_become_ids_from_1(tmp_path):
    tracks = [annotation(1, LEFT, attributes={"track_id": 0}), annotation(2, RIGHT, attributes={"track_id": 1})]
    path = coco(tmp_path / "c.json", tracks)
    path.write_text(path.read_text(), encoding="utf-8-sig")  # as some editors save it
    assert sorted(np.unique(read_labels(annotated_frames(path)[0]))) == [0, 1, 2]
    corners = [[5, 5], [25, 5], [25, 35]]
    shapes = [{"label": "dog", "points": corners, "group_id": group} for group in (0, 1)]
    folder = tmp_path / "labelme"
    folder.mkdir()
    for stem, shape in zip(("a", "b"), shapes, strict=True):
        content = {"imageHeight": H, "imageWidth": W, "imagePath": f"{stem}.jpg", "shapes": [shape]}
        (folder / f"{stem}.json").write_text(json.dumps(content))
    assert [int(read_labels(path).max()) for path in annotated_frames(folder)] == [1, 2]
