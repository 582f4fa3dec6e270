"""What is exported, read by the tools that it is for; `.ci/checks` runs this also where all of them are installed."""

import json

import numpy as np
import pytest
import torch
from drawn_run import NAMES, OBJECTS, SIZE, drawn

from mnemask.export import export_masks
from mnemask.types import Masks

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")


def test_label_studio_reads_its_brushes(tmp_path, run):
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    export_masks(run[0], "label-studio", tmp_path)
    for task, expected in zip(json.loads((tmp_path / "tasks.json").read_text()), drawn(), strict=True):
        for result in task["annotations"][0]["result"]:
            object_id = int(result["meta"]["text"][0].split()[0].split("=")[1])
            pixels = brush.decode_rle(result["value"]["rle"]).reshape(*SIZE, 4)[..., 3]
            assert np.array_equal(pixels > 0, expected == object_id)


# labelme leaves the pictures that it reads open.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_labelme_reads_its_files(tmp_path, run):
    label_file = pytest.importorskip("labelme._label_file", exc_type=ImportError)
    export_masks(run[0], "labelme", tmp_path, video=run[1])
    for name, expected in zip(NAMES, drawn(), strict=True):
        labels = np.zeros(SIZE, np.int32)
        for shape in label_file.LabelFile(str(tmp_path / f"{name}.json")).shapes:
            (left, top), (right, bottom) = shape["points"]
            labels[int(top) : int(bottom) + 1, int(left) : int(right) + 1][shape["mask"]] = shape["group_id"]
        assert np.array_equal(labels, expected)


def test_datumaro_reads_cvat_voc_and_mot(tmp_path, run):
    datumaro = pytest.importorskip("datumaro")
    for to in ("cvat", "cvat-masks", "mot"):
        export_masks(run[0], to, tmp_path / to, video=run[1])
    labels = {}
    for item in datumaro.Dataset.import_from(str(tmp_path / "cvat"), "cvat"):
        index = int(item.attributes["frame"])
        labels[index] = np.zeros(SIZE, np.int32)
        for mask in item.annotations:
            labels[index][np.asarray(mask.image) > 0] = int(mask.attributes["track_id"])
    assert all(np.array_equal(labels[index], expected) for index, expected in enumerate(drawn()))
    for item in datumaro.Dataset.import_from(str(tmp_path / "cvat-masks"), "voc_instance_segmentation"):
        expected = drawn()[int(item.id)]
        assert sum(np.asarray(mask.image).sum() for mask in item.annotations) == (expected > 0).sum()
    boxes = [box for item in datumaro.Dataset.import_from(str(tmp_path / "mot"), "mot_seq") for box in item.annotations]
    assert len(boxes) == 11


def test_supervision_reads_yolo(tmp_path, run):
    supervision = pytest.importorskip("supervision")
    export_masks(run[0], "yolo", tmp_path, video=run[1])
    data = supervision.DetectionDataset.from_yolo(
        str(tmp_path / "images"), str(tmp_path / "labels"), str(tmp_path / "data.yaml"), force_masks=True
    )
    assert data.classes == ["camel", "object"]
    for path, _, detections in data:
        expected = drawn()[int(path[-9:-4])]
        if expected.any():
            found = detections.mask.any(0)
            # It fills outlines with their edge, which is half a pixel more on each side.
            assert (found & (expected > 0)).sum() == (expected > 0).sum()
            assert (found != (expected > 0)).mean() < 0.1


def test_masks_of_a_frame_are_detections_of_supervision(run):
    pytest.importorskip("supervision")
    labels = torch.from_numpy(drawn()[0])
    probs = torch.stack([labels == each for each in (0, *OBJECTS)]).float()
    found = Masks(labels, 0.8 * probs + 0.05, tuple(OBJECTS)).to_supervision({1: "camel:Bobby", 2: "rider"})
    assert found.tracker_id.tolist() == [1, 2, 137]
    assert found.data["class_name"].tolist() == ["camel", "rider", "object"]
    assert found.class_id.tolist() == [0, 1, 2]
    assert np.array_equal(found.mask[2], drawn()[0] == 137)
    assert found.xyxy[2].tolist() == [33, 22, 52, 35]
    assert found.confidence == pytest.approx([0.85] * 3)
    nothing = torch.zeros(SIZE, dtype=torch.int32)
    assert len(Masks(nothing, torch.ones(1, *SIZE), ()).to_supervision()) == 0
