"""Files of annotation tools as people have them: partly labelled, damaged, with shapes behind each other."""

import base64
import io
import json
import struct
import zlib

import numpy as np
import pytest
from drawn_annotations import FRACTIONS, LEFT, RIGHT, H, W, annotation, coco, cvat, polygon, yolo
from PIL import Image
from pycocotools import mask as rle
from refusals import refusal

from mnemask.errors import MaskError
from mnemask.io.label_files import (
    annotated_frames,
    file_names_of,
    interpolated_in,
    is_annotated,
    map_name,
    objects_of,
    read_labels,
)
from mnemask.io.shapes import mask_from_run_lengths, runs_of_text
from mnemask.types import ObjectInfo


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


@pytest.mark.parametrize(
    ("part", "key", "value", "said"),
    [
        ("images", "height", None, "images whose 'height' is None"),
        ("images", "width", "wide", "images whose 'width' is 'wide'"),
        ("categories", "id", "c", "categories whose 'id' is 'c'"),
    ],
)
def test_a_number_that_coco_lacks_is_named_and_one_that_is_text_is_read(tmp_path, part, key, value, said):
    path = coco(tmp_path / "a.json", [annotation(1, LEFT)])
    content = json.loads(path.read_text())
    content[part][0][key] = str(content[part][0][key])
    path.write_text(json.dumps(content))
    assert [map_name(frame) for frame in annotated_frames(path)] == ["00000"]
    content[part][0][key] = value
    path.write_text(json.dumps(content))
    with refusal(MaskError, said):
        annotated_frames(path)


def test_a_list_of_masks_alone_and_a_json_in_utf_16_are_said_to_be_that(tmp_path):
    path = tmp_path / "masks.json"
    path.write_text(json.dumps([{"segmentation": {"size": [H, W], "counts": "abc"}, "area": 3}]))
    with refusal(MaskError, "list of masks that states neither their picture"):
        annotated_frames(path)
    path.write_text(coco(tmp_path / "a.json", [annotation(1, LEFT)]).read_text(), encoding="utf-16")
    with refusal(MaskError, "not encoded in UTF-8", "save it as UTF-8"):
        annotated_frames(path)


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


@pytest.mark.parametrize("fault", ["chunk", "size"])
def test_a_damaged_or_huge_mask_within_labelme_is_one_sentence(tmp_path, fault):
    data = io.BytesIO()
    Image.new("L", (10, 10), 255).save(data, "PNG")
    whole = data.getvalue()
    at = whole.index(b"IDAT") - 4
    if fault == "chunk":
        spoiled = whole[:at] + b"\0\0\0\5" + whole[at + 4 :]
    else:
        header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
        spoiled = whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:]
    shape = {
        "shape_type": "mask",
        "label": "dog",
        "points": [[5, 5], [14, 14]],
        "mask": base64.b64encode(spoiled).decode(),
    }
    content = {"imageHeight": H, "imageWidth": W, "imagePath": "a.jpg", "shapes": [shape]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with refusal(MaskError, "a.json"):
        annotated_frames(tmp_path / "a.json")


def test_a_task_that_was_submitted_without_regions_says_that_there_is_nothing(tmp_path):
    shape = {"original_width": W, "original_height": H, "value": {"points": [[10, 10], [40, 10], [40, 90]]}}
    tasks = [{"data": {"image": f"/data/{i:05d}.jpg"}} for i in range(3)]
    tasks[0]["annotations"], tasks[1]["annotations"] = [{"result": [shape]}], [{"result": []}]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    paths = annotated_frames(tmp_path / "tasks.json")
    assert [is_annotated(path) for path in paths] == [True, True, False]
    assert [bool(read_labels(path).any()) for path in paths] == [True, False, False]


@pytest.mark.parametrize("tool", ["COCO", "CVAT"])
def test_pictures_of_several_folders_are_not_taken_for_one_video(tmp_path, tool):
    def file(name, *places):
        if tool == "COCO":
            path = coco(tmp_path / f"{name}.json", [annotation(1, LEFT), annotation(2, RIGHT, 2)], len(places))
            content = json.loads(path.read_text())
            for image, place in zip(content["images"], places, strict=True):
                image["file_name"] = place
            path.write_text(json.dumps(content))
            return path
        shapes = polygon("dog", LEFT), polygon("cat", RIGHT), ""
        images = [
            f'<image id="{i}" name="{place}" width="{W}" height="{H}">{shapes[i]}</image>'
            for i, place in enumerate(places)
        ]
        return cvat(tmp_path / f"{name}.xml", *images)

    with refusal(MaskError, "'a/'", "'b/'", "each video separately"):
        annotated_frames(file("two", "a/00000.png", "b/00001.png"))
    # Of a picture that nobody annotated the folder does not matter.
    paths = annotated_frames(file("one", "c/a/00000.png", "c/a/00001.png", "c/b/00002.png"))
    assert [map_name(path) for path in paths] == ["00000", "00001", "00002"]


def test_a_region_of_a_crowd_is_no_object_beside_others(tmp_path, caplog):
    whole = {"segmentation": {"size": [H, W], "counts": [0, H * W]}, "iscrowd": 1}
    both = [annotation(1, LEFT, iscrowd=0), {**annotation(2, RIGHT), **whole, "category_id": 1}]
    (path,) = annotated_frames(coco(tmp_path / "a.json", both))
    assert (read_labels(path)[20, [15, 30, 45]] == [1, 0, 0]).all()
    assert "1 crowd regions" in caplog.text
    (alone,) = annotated_frames(coco(tmp_path / "b.json", both[1:]))  # so some tools mark all run lengths
    assert read_labels(alone).all()
    brushed = {**both[1], "category_id": 2}  # beside an outline of another class
    (path,) = annotated_frames(coco(tmp_path / "d.json", [brushed, both[0]]))
    assert sorted(np.unique(read_labels(path))) == [1, 2]
    tracked = [{**each, "track_id": number} for number, each in enumerate(both, 1)]
    (path,) = annotated_frames(coco(tmp_path / "c.json", tracked[::-1]))
    assert sorted(np.unique(read_labels(path))) == [1, 2]


def label_studio(path, *tasks):
    """A file of tasks, each of data and of the corners of each annotation."""

    def result(corners):
        value = {"points": [[100 * x / W, 100 * y / H] for x, y in zip(corners[::2], corners[1::2], strict=True)]}
        return {"original_width": W, "original_height": H, "value": value}

    told = [
        {"data": data, "annotations": [{"result": [result(corners)], **more} for corners, more in answers]}
        for data, *answers in tasks
    ]
    path.write_text(json.dumps(told))
    return path


@pytest.mark.parametrize(
    "address",
    [
        "https://a.b/{}.png?sig=abc",
        "s3://a/{}.JPG?X-Amz=1/2.png",
        "/data/local-files/?d=a/{}.png",
        "/data/upload/1/{}.png",
        "C:\\a\\{}.png",
    ],
)
def test_a_task_is_of_the_picture_that_its_address_names(tmp_path, caplog, address):
    tasks = [({"thumb": "/t.png", "image": address.format(name)}, (LEFT, {})) for name in ("00000", "00004")]
    paths = annotated_frames(label_studio(tmp_path / "tasks.json", *tasks))
    assert [map_name(path) for path in paths] == ["00000", "00004"]
    assert not caplog.text


def test_tasks_without_names_are_taken_in_their_order_and_that_is_said(tmp_path, caplog):
    tasks = [({"image": "data:image/png;base64,AA"}, (LEFT, {})) for _ in range(2)]
    assert [map_name(path) for path in annotated_frames(label_studio(tmp_path / "tasks.json", *tasks))] == ["@0", "@1"]
    assert "2 of its 2 tasks" in caplog.text


def test_of_several_annotations_the_ground_truth_counts_or_else_the_first_and_that_is_said(tmp_path, caplog):
    image = {"image": "/00000.png"}
    first = label_studio(tmp_path / "a.json", (image, (LEFT, {}), (RIGHT, {}), (RIGHT, {"was_cancelled": True})))
    assert read_labels(annotated_frames(first)[0])[20, 15] == 1
    assert "in 1 of 1 tasks" in caplog.text
    caplog.clear()
    truth = label_studio(tmp_path / "b.json", (image, (LEFT, {}), (RIGHT, {"ground_truth": True})))
    assert read_labels(annotated_frames(truth)[0])[20, 45] == 1
    assert read_labels(annotated_frames(truth)[0])[20, 15] == 0
    assert not caplog.text


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


@pytest.mark.parametrize("tool", ["coco", "coco attribute", "labelme"])
@pytest.mark.parametrize(
    ("written", "ids"), [(("1", "12"), {1, 12}), ((1.0, 12.0), {1, 12}), (("0", 1.0), {1, 2}), ((0.0, "1"), {1, 2})]
)
def test_an_id_may_be_written_as_text_or_with_a_decimal_point(tmp_path, tool, written, ids):
    assert set(objects_of(_two_objects(tmp_path, tool, *written))) == ids


@pytest.mark.parametrize("tool", ["coco", "labelme"])
@pytest.mark.parametrize("written", ["car-1", "-1", "1.5", "", "²", "9" * 5000, 1.5, float("inf"), True])
def test_an_id_that_is_no_whole_number_is_refused(tmp_path, tool, written):
    with refusal(MaskError, "not a whole number"):
        annotated_frames(_two_objects(tmp_path, tool, 1, written))


def _two_objects(folder, tool, *ids):
    """Writes two objects with these ids, and returns the file."""
    place = folder / "a.json"
    if tool == "labelme":
        corners = [[5, 5], [25, 5], [25, 35]]
        shapes = [{"label": "dog", "points": corners, "group_id": each} for each in ids]
        place.write_text(json.dumps({"imageHeight": H, "imageWidth": W, "shapes": shapes}))
        return place
    more = [{"track_id": each} if tool == "coco" else {"attributes": {"track_id": each}} for each in ids]
    return coco(place, [annotation(1, LEFT, **more[0]), annotation(2, RIGHT, **more[1])])


def test_compressed_run_lengths_are_read_as_pycocotools_reads_them():
    rng = np.random.default_rng(0)
    for _ in range(50):
        height, width = rng.integers(1, 60, 2).tolist()
        mask = rng.random((height, width)) < rng.random()
        counts = rle.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
        assert np.array_equal(mask_from_run_lengths(runs_of_text(counts), width, height).T, mask)


@pytest.mark.parametrize("cut_off", range(1, 9))
def test_compressed_run_lengths_that_are_cut_off_are_refused(tmp_path, cut_off):
    mask = np.zeros((H, W), bool)
    mask[5:35, 5:25], mask[8:12, 9:15] = True, False
    counts = rle.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()

    def written(text):
        return coco(tmp_path / "a.json", [annotation(1, LEFT) | {"segmentation": {"size": [H, W], "counts": text}}])

    assert np.array_equal(read_labels(annotated_frames(written(counts))[0]), mask)
    with refusal(MaskError, "a.json"):
        annotated_frames(written(counts[:-cut_off]))


@pytest.mark.parametrize(
    "counts", ["", "0", "oooooooooooo0", "~~", "\u00e9", 5, [2**62, 2**62, 2**62, 2**62 + H * W], [10**30]]
)
def test_run_lengths_of_another_picture_or_of_none_are_refused(tmp_path, counts):
    wrong = annotation(1, LEFT) | {"segmentation": {"size": [H, W], "counts": counts}}
    with refusal(MaskError, "a.json"):
        annotated_frames(coco(tmp_path / "a.json", [wrong]))


def test_two_images_of_one_id_are_refused_and_one_that_is_listed_twice_is_not(tmp_path):
    path = coco(tmp_path / "a.json", [annotation(1, LEFT)], pictures=2)
    content = json.loads(path.read_text())
    content["images"][1] = content["images"][0]
    path.write_text(json.dumps(content))
    assert [map_name(frame) for frame in annotated_frames(path)] == ["00000"]
    content["images"][1] = content["images"][0] | {"file_name": "other.jpg"}
    path.write_text(json.dumps(content))
    with refusal(MaskError, "two images with the same id", "each task separately"):
        annotated_frames(path)


def test_an_object_of_two_classes_is_refused_and_one_that_lacks_its_class_somewhere_is_not(tmp_path):
    def written(*labels):
        corners = [[[5, 5], [25, 5], [25, 35]], [[35, 5], [55, 5], [55, 35]]]
        shapes = [{"label": label, "points": at, "group_id": 1} for label, at in zip(labels, corners, strict=True)]
        content = {"imageHeight": H, "imageWidth": W, "imagePath": "a.jpg", "shapes": shapes}
        (tmp_path / "a.json").write_text(json.dumps(content))
        return annotated_frames(tmp_path / "a.json")

    assert np.unique(read_labels(written("object", "car")[0])).tolist() == [0, 1]
    with refusal(MaskError, "object 1 'car' and 'person'", "different ids"):
        written("car", "person")


def test_what_an_object_is_called_in_one_frame_is_kept_where_others_do_not_say(tmp_path):
    for index, (label, name) in enumerate((("car", "Herbie"), ("car", ""), ("object", ""))):
        shape = {"label": label, "points": [[5, 5], [25, 5], [25, 35]], "group_id": 1, "description": name}
        content = {"imageHeight": H, "imageWidth": W, "imagePath": f"{index:05d}.jpg", "shapes": [shape]}
        (tmp_path / f"{index:05d}.json").write_text(json.dumps(content))
    assert objects_of(tmp_path) == {1: ObjectInfo("car", "Herbie")}


def test_regions_that_mots_ignores_are_no_object_and_frames_that_begin_late_are_said(tmp_path, caplog):
    masks = np.zeros((2, H, W), np.uint8)
    masks[0, 5:20, 5:20], masks[1, 25:35, 30:50] = 1, 1
    one, other = (rle.encode(np.asfortranarray(mask))["counts"].decode() for mask in masks)
    rows = "".join(f"{frame} 2001 2 {H} {W} {one}\n{frame} 10000 10 {H} {W} {other}\n" for frame in (3, 4))
    (tmp_path / "gt.txt").write_text(rows)
    paths = annotated_frames(tmp_path / "gt.txt")
    assert [map_name(path) for path in paths] == ["@2", "@3"]
    assert set(objects_of(tmp_path / "gt.txt")) == {2001}
    assert np.unique(read_labels(paths[0])).tolist() == [0, 2001]
    assert "2 regions to ignore" in caplog.text
    assert "frame 3; assuming that it counts frames from 1" in caplog.text


@pytest.mark.parametrize(
    ("file_name", "name"),
    [("clip/00000", "00000"), ("data\\shot_a.jpg", "shot_a"), ("a/b/t0.5", "t0.5"), ("a/b/t0.5.png", "t0.5")],
)
def test_a_picture_has_the_last_part_of_its_path_with_or_without_a_suffix(tmp_path, file_name, name):
    path = coco(tmp_path / "a.json", [annotation(1, LEFT)])
    path.write_text(path.read_text().replace("00000.jpg", file_name.replace("\\", "\\\\")))
    (frame,) = annotated_frames(path)
    assert map_name(frame) == name
    assert file_names_of(path) == {name: file_name.replace("\\", "/").rpartition("/")[2]}
    assert read_labels(frame).any()


def test_a_relation_of_two_regions_is_no_shape(tmp_path):
    shape = {"original_width": W, "original_height": H, "value": {"points": [[10, 10], [40, 10], [40, 90]]}}
    relation = {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"}
    task = {"data": {"image": "00000.jpg"}, "annotations": [{"result": [shape, relation]}]}
    (tmp_path / "tasks.json").write_text(json.dumps([task]))
    assert read_labels(annotated_frames(tmp_path / "tasks.json")[0]).any()


def test_outlines_of_too_few_corners_are_left_out(tmp_path, caplog):
    some = annotation(1, LEFT) | {"segmentation": [LEFT, [], [3, 4, 5, 6]]}
    none = annotation(2, []) | {"segmentation": [[], [3, 4, 5, 6]]}
    (path,) = annotated_frames(coco(tmp_path / "a.json", [some, none]))
    assert np.unique(read_labels(path)).tolist() == [0, 1]
    assert "1 outlines with fewer than 3 corners" in caplog.text


@pytest.mark.parametrize("tool", ["labelme", "label-studio"])
def test_a_picture_of_boxes_alone_is_not_empty(tmp_path, tool):
    box = {"label": "dog", "points": [[5, 5], [25, 35]], "shape_type": "rectangle"}
    outline = {"label": "dog", "points": [[5, 5], [25, 5], [25, 35]]}
    if tool == "labelme":
        for stem, shapes in (("00000", [outline]), ("00004", [box]), ("00008", [])):
            content = {"imageHeight": H, "imageWidth": W, "imagePath": f"{stem}.jpg", "shapes": shapes}
            (tmp_path / f"{stem}.json").write_text(json.dumps(content))
        place = tmp_path
    else:
        tasks = [({"image": f"/{stem}.png"}, (LEFT, {})) for stem in ("00000", "00004", "00008")]
        place = label_studio(tmp_path / "tasks.json", *tasks)
        told = json.loads(place.read_text())
        value = {"x": 10, "y": 10, "width": 40, "height": 80, "rectanglelabels": ["dog"]}
        told[1]["annotations"][0]["result"] = [{"type": "rectanglelabels", "value": value}]
        told[2]["annotations"][0]["result"] = [{"type": "choices", "value": {"choices": ["empty"]}}]
        place.write_text(json.dumps(told))
    assert [map_name(path) for path in annotated_frames(place) if is_annotated(path)] == ["00000", "00008"]


def test_shapes_of_coco_between_key_frames_are_no_annotations(tmp_path, caplog):
    tracked = [
        annotation(1, corners, image, attributes={"track_id": 5 + (corners is RIGHT), "keyframe": image in keys})
        for corners, keys in ((LEFT, (1, 3)), (RIGHT, (1,)))
        for image in (1, 2, 3)
    ]
    for number, each in enumerate(tracked, 1):
        each.update(id=number, category_id=1)
    place = coco(tmp_path / "a.json", tracked, pictures=3)
    shown = [path for path in annotated_frames(place) if is_annotated(path)]
    assert [map_name(path) for path in shown] == ["00000", "00002"]
    assert [interpolated_in(path) for path in shown] == [set(), {6}]
    assert "in 1 frame, all shapes are interpolated" in caplog.text
