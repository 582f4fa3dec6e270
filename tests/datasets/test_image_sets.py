import logging
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from refusals import refusal

from mnemask.datasets.image_sets import IMAGE_SETS, open_image_folder
from mnemask.errors import InputError

# Folder of the images, of the masks, endings of both, and the name of a picture in the folder.
OFFICIAL = {
    "DUTS-TR": ("DUTS-TR/DUTS-TR-Image", "DUTS-TR/DUTS-TR-Mask", ".jpg", ".png"),
    "DUTS-TE": ("DUTS-TE/DUTS-TE-Image", "DUTS-TE/DUTS-TE-Mask", ".jpg", ".png"),
    "ECSSD": ("ECSSD/images", "ECSSD/ground_truth_mask", ".jpg", ".png"),
    "HRSOD": ("HRSOD_train", "HRSOD_train_mask", ".jpg", ".png"),
    "BIG": ("BIG/val", "BIG/val", "_im.jpg", "_gt.png"),
    "FSS-1000": ("fewshot_data/abacus", "fewshot_data/abacus", ".jpg", ".png"),
}
OTHER = [
    ("ECSSD", ("ECSSD/img", "ECSSD/ground_truth_mask", ".jpg", ".png")),
    ("HRSOD", ("HRSOD_train/HRSOD_train", "HRSOD_train_mask/HRSOD_train_mask", ".jpg", ".png")),
    ("HRSOD", ("HRSOD_train/HRSOD_train", "HRSOD_train/HRSOD_train_mask", ".jpg", ".png")),
    ("HRSOD", ("HRSOD_release/HRSOD_train", "HRSOD_release/HRSOD_train_mask", ".jpg", ".png")),
    ("BIG", ("BIG_small", "BIG_small", "_im.jpg", "_gt.png")),
    ("FSS-1000", ("fewshot_data/fewshot_data/abacus", "fewshot_data/fewshot_data/abacus", ".jpg", ".png")),
]
BESIDE = {
    "DUTS-TR": "DUTS-TR",
    "DUTS-TE": "DUTS-TE",
    "ECSSD": "ecssd",
    "HRSOD": "HRSOD_small",
    "BIG": "BIG_small",
    "FSS-1000": "fss/abacus",
}
LAYOUTS = [*OFFICIAL.items(), *OTHER, *((name, (place, place, ".jpg", ".png")) for name, place in BESIDE.items())]


def draw(root, images, masks, image_ending=".jpg", mask_ending=".png", names=("9", "10", "frog_7")):
    """Pictures with masks that are white in one column, the third."""
    for name in names:
        for folder, ending in ((images, image_ending), (masks, mask_ending)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            picture = np.zeros((4, 6), np.uint8)
            picture[:, 2] = 255
            Image.fromarray(picture).save(root / folder / f"{name}{ending}")


@pytest.mark.parametrize(("name", "layout"), LAYOUTS)
def test_a_set_opens_in_each_of_its_layouts(tmp_path, name, layout):
    images, masks, image_ending, mask_ending = layout
    draw(tmp_path, *layout)
    (tmp_path / images / "Thumbs.db").touch()
    (tmp_path / images / f"._9{image_ending}").touch()
    found = IMAGE_SETS[name].open(tmp_path)
    assert [image.name.split("/")[-1] for image in found] == ["9", "10", "frog_7"]
    assert [image.image for image in found] == [
        tmp_path / images / f"{stem}{image_ending}" for stem in ("9", "10", "frog_7")
    ]
    assert found[0].mask == tmp_path / masks / f"9{mask_ending}"
    assert found[0].read_mask().nonzero()[1].tolist() == [2] * 4


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_sets_own_folder_may_be_given(tmp_path, name):
    draw(tmp_path, *OFFICIAL[name])
    own = tmp_path / OFFICIAL[name][0].split("/")[0]
    assert IMAGE_SETS[name].open(own) == IMAGE_SETS[name].open(str(tmp_path))


@pytest.mark.parametrize("name", OFFICIAL)
def test_a_missing_set_is_told_what_was_expected_and_where_it_is_published(tmp_path, name):
    expected, published = re.escape(IMAGE_SETS[name].expected), re.escape(IMAGE_SETS[name].published)
    with refusal(InputError, rf"{name}", rf"{re.escape(str(tmp_path))}", rf"{expected}", rf"{published}"):
        IMAGE_SETS[name].open(tmp_path)


@pytest.mark.parametrize(("name", "layout"), LAYOUTS)
def test_half_a_download_names_the_first_missing_file_and_counts(tmp_path, name, layout):
    images, masks, image_ending, mask_ending = layout
    draw(tmp_path, *layout)
    (tmp_path / masks / f"10{mask_ending}").unlink()
    (tmp_path / masks / f"frog_7{mask_ending}").unlink()
    first = re.escape(str(tmp_path / masks / f"10{mask_ending}"))
    with refusal(InputError, rf"{name}", rf"{first}", r"//"):
        IMAGE_SETS[name].open(tmp_path)
    draw(tmp_path, *layout)
    (tmp_path / images / f"9{image_ending}").unlink()
    with refusal(InputError, rf"{re.escape(str(tmp_path / images))}.9{image_ending}"):
        IMAGE_SETS[name].open(tmp_path)


def test_masks_that_were_never_unpacked_are_all_missing(tmp_path):
    draw(tmp_path, *OFFICIAL["DUTS-TR"])
    shutil.rmtree(tmp_path / "DUTS-TR/DUTS-TR-Mask")
    with refusal(InputError, r"DUTS-TR.DUTS-TR-Mask.9\.png"):
        IMAGE_SETS["DUTS-TR"].open(tmp_path)


def test_all_sets_open_in_the_one_folder_of_stcns_authors_and_none_takes_anothers_files(tmp_path):
    for name, place in BESIDE.items():
        draw(tmp_path / "static", place, place, names=(name,))
    for name in BESIDE:
        (image,) = IMAGE_SETS[name].open(tmp_path / "static")
        assert image.image.stem == name
    shutil.rmtree(tmp_path / "static/fss")
    with refusal(InputError, r"FSS-1000"):
        IMAGE_SETS["FSS-1000"].open(tmp_path / "static")


def test_classes_and_splits_keep_pictures_of_one_number_apart(tmp_path):
    for images in ("fss/abacus", "fss/acorn"):
        draw(tmp_path, images, images, names=("1", "2"))
    assert [image.name for image in IMAGE_SETS["FSS-1000"].open(tmp_path)] == [
        "abacus/1",
        "abacus/2",
        "acorn/1",
        "acorn/2",
    ]


def test_fewer_images_than_were_published_are_logged(tmp_path, caplog):
    draw(tmp_path, *OFFICIAL["ECSSD"])
    with caplog.at_level(logging.WARNING):
        IMAGE_SETS["ECSSD"].open(tmp_path)
    assert caplog.messages == [f"ECSSD in {tmp_path} has 3 of the 1000 images published"]


def test_endings_may_be_in_capitals(tmp_path):
    draw(tmp_path, "fss/abacus", "fss/abacus", ".JPG", ".PNG")
    assert len(IMAGE_SETS["FSS-1000"].open(tmp_path)) == 3


def test_any_two_folders_of_images_and_masks_open(tmp_path):
    draw(tmp_path, "images", "masks")
    (tmp_path / "images/9.jpg").rename(tmp_path / "images/9.webp")
    found = open_image_folder(tmp_path)
    assert [(image.name, image.image.name, image.mask.name) for image in found] == [
        ("9", "9.webp", "9.png"),
        ("10", "10.jpg", "10.png"),
        ("frog_7", "frog_7.jpg", "frog_7.png"),
    ]


def test_two_folders_that_do_not_belong_together_are_refused(tmp_path):
    with refusal(InputError, r"NAME\.jpg"):
        open_image_folder(tmp_path)
    draw(tmp_path, "images", "masks")
    (tmp_path / "masks/10.png").unlink()
    with refusal(InputError, r"masks.10\.png"):
        open_image_folder(tmp_path)
    (tmp_path / "images/10.jpg").rename(tmp_path / "images/9.png")
    with refusal(InputError, r"9\.jpg", r"9\.png"):
        open_image_folder(tmp_path)
