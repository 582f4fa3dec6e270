import json

import numpy as np
import pytest
from PIL import Image
from refusals import refusal

from mnemask.errors import MaskError
from mnemask.prompts.mask_folder import mask_files
from mnemask.prompts.mask_places import MaskPlaces, never_annotated


def picture(path, seed=0):
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)).save(path)


def label_map(path):
    Image.fromarray(np.pad(np.ones((10, 10), np.uint8), 5)).save(path)


def test_of_frames_and_masks_in_one_folder_the_masks_are_taken(tmp_path):
    for number in range(3):
        picture(tmp_path / f"{number:05d}_jpg.rf.0a1b.jpg", number)
        label_map(tmp_path / f"{number:05d}_jpg.rf.0a1b_mask.png")
    masks = [tmp_path / f"{number:05d}_jpg.rf.0a1b_mask.png" for number in range(3)]
    assert mask_files(tmp_path) == masks
    for names in (["00000", "00001", "00002"], [f"{number:05d}_jpg.rf.0a1b" for number in range(3)]):
        found = MaskPlaces.of(tmp_path, names, 3)
        assert [(at.frame, at.path) for at in found.places] == list(enumerate(masks))
        assert f"3 pictures in {tmp_path} beside their masks: left out" in found.notes


def test_masks_beside_others_that_may_be_masks_too_are_all_taken(tmp_path):
    for name in ("00000.png", "00001.png", "00001_mask.png"):
        label_map(tmp_path / name)
    with refusal(MaskError, "both of frame 1"):
        MaskPlaces.of(tmp_path, ["00000", "00001"], 2)


def coco_of(path, names):
    images = [{"id": number, "file_name": name, "height": 20, "width": 30} for number, name in enumerate(names)]
    shape = {"id": 1, "image_id": 0, "category_id": 1, "segmentation": [[5, 5, 25, 5, 25, 15]]}
    path.write_text(json.dumps({"images": images, "annotations": [shape], "categories": [{"id": 1, "name": "dog"}]}))


def test_of_frames_beside_an_annotation_file_that_file_is_asked_for(tmp_path):
    names = ["00000_jpg.rf.0a1b.jpg", "00001_jpg.rf.2c3d.jpg"]
    for name in names:
        picture(tmp_path / name)
    annotations = tmp_path / "_annotations.coco.json"
    annotations.write_text('{"note": "no annotations"}')
    assert len(mask_files(tmp_path)) == 2
    coco_of(annotations, names)
    with refusal(MaskError, "are frames, and _annotations.coco.json", f"give {annotations}"):
        MaskPlaces.of(tmp_path, ["00000", "00001"], 2)
    assert [at.frame for at in MaskPlaces.of(annotations, ["00000", "00001"], 2).places] == [0]


def test_label_maps_beside_an_annotation_file_are_masks(tmp_path):
    names = ["00000.png", "00001.png"]
    for name in names:
        label_map(tmp_path / name)
    coco_of(tmp_path / "export.json", names)
    assert len(MaskPlaces.of(tmp_path, ["00000", "00001"], 2).places) == 2


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ([1, 0, 0], True),
        ([1, 0, 0, 0, 1, 0, 0, 0], True),
        ([1, 0, 0, 1], True),
        ([1, 0], False),  # they are gone
        ([0, 0, 1, 0], False),
        ([1, 0, 1, 0, 0], False),
        ([1, 1, 0, 0], False),
        ([1, 0, 1, 0], False),
        ([0, 0], False),
    ],
)
def test_frames_that_nobody_came_to_are_told_from_those_without_objects(marked, expected):
    assert never_annotated([bool(each) for each in marked]) is expected
