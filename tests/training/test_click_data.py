from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from refusals import refusal

from mnemask.errors import InputError
from mnemask.training.click_data import ClickPicture, ClickPictures, list_pictures


def write_picture(folder: Path, name: str, boxes: Sequence[tuple[int, int, int, int]], images: str = "images") -> None:
    """A picture with a rectangle for each object, values counting from 1."""
    image, mask = np.full((60, 80, 3), 60, np.uint8), np.zeros((60, 80), np.uint8)
    for value, (x, y, width, height) in enumerate(boxes, 1):
        image[y : y + height, x : x + width] = (200, 40 * value, 20)
        mask[y : y + height, x : x + width] = value
    for part, pixels in ((images, image), ("masks", mask)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / part / f"{name}.png"), pixels)


def test_pictures_of_both_kinds_are_found_and_drawn_with_their_objects(tmp_path: Path) -> None:
    write_picture(tmp_path / "static" / "things", "a", [(10, 10, 30, 20)])
    write_picture(tmp_path / "video_train" / "clips" / "dog", "00000", [(20, 10, 30, 30)], images="frames")
    pictures = ClickPictures(tmp_path)
    assert [(p.set_name, p.video) for p in pictures.pictures] == [("things", False), ("clips", True)]
    for seed in range(6):
        crop = pictures.draw(np.random.default_rng(seed), 64)
        assert crop.image.shape == (64, 64, 3)
        for truth in crop.truths:
            assert truth.shape == (64, 64)
            # The objects are brighter than what is around them, wherever the crop was taken.
            assert crop.image[truth == 1].mean() > crop.image[truth == 0].mean()


def test_the_same_seed_draws_the_same_crop(tmp_path: Path) -> None:
    write_picture(tmp_path / "static" / "things", "a", [(10, 10, 30, 20), (45, 30, 20, 20)])
    once, again = (ClickPictures(tmp_path).draw(np.random.default_rng(3), 48) for _ in range(2))
    assert np.array_equal(once.image, again.image)
    assert np.array_equal(once.truths[1], again.truths[1])


def test_which_photographs_are_held_out_depends_on_their_names_alone_and_they_are_never_drawn(tmp_path: Path) -> None:
    for number in range(100):
        write_picture(tmp_path / "static" / "things", f"{number:03d}", [(10, 10, 30, 20)])
    held_out = [picture.image.stem for picture in list_pictures(tmp_path) if picture.held_out]
    elsewhere = [ClickPicture(Path(f"{number:03d}.jpg"), Path(), "things") for number in range(100)]
    assert held_out == [picture.image.stem for picture in elsewhere if picture.held_out]
    assert 0 < len(held_out) < 15
    assert len(ClickPictures(tmp_path).pictures) == 100 - len(held_out)


def test_a_folder_of_which_all_pictures_are_held_out_is_refused(tmp_path: Path) -> None:
    names = (f"{number:03d}" for number in range(100))
    held_out = next(name for name in names if ClickPicture(Path(f"{name}.jpg"), Path(), "things").held_out)
    write_picture(tmp_path / "static" / "things", held_out, [(10, 10, 30, 20)])
    with refusal(InputError, "held out", "add others"):
        ClickPictures(tmp_path)


def test_videos_for_choosing_are_never_drawn(tmp_path: Path) -> None:
    for name in ("bus", "bear"):
        write_picture(tmp_path / "video_train" / "davis2016_train" / name, "00000", [(20, 10, 30, 30)], images="frames")
    assert [picture.image.parent.parent.name for picture in list_pictures(tmp_path)] == ["bear"]


@pytest.mark.parametrize("video", [False, True])
def test_255_is_void_in_a_video_and_beside_ids_and_else_an_object(video: bool) -> None:
    values = np.zeros((40, 40), np.uint8)
    values[20:30, 20:30] = 255
    picture = ClickPicture(Path("a.png"), Path(), "any", video=video)
    assert len(picture.objects(values)) == (0 if video else 1)
    values[5:15, 5:15] = 1
    (only,) = picture.objects(values)
    assert set(np.unique(only)) == {0, 1, 255}


@pytest.mark.parametrize("layout", ["empty", "no masks"])
def test_a_folder_without_pictures_or_masks_is_refused(tmp_path: Path, layout: str) -> None:
    if layout == "no masks":
        write_picture(tmp_path / "static" / "things", "a", [(10, 10, 30, 20)])
        (tmp_path / "static" / "things" / "masks" / "a.png").unlink()
    with pytest.raises(InputError):
        ClickPictures(tmp_path)


@pytest.mark.parametrize("size", [(40, 30), (60, 80), (160, 120)])
def test_a_mask_of_another_size_than_its_picture_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    write_picture(tmp_path / "static" / "things", "a", [(10, 10, 30, 20)])
    mask = tmp_path / "static/things/masks/a.png"
    cv2.imwrite(str(mask), cv2.resize(cv2.imread(str(mask), 0), size, interpolation=cv2.INTER_NEAREST))
    with refusal(InputError, f"{size[0]}x{size[1]}", "80x60"):
        ClickPictures(tmp_path).draw(np.random.default_rng(0), 48)


def test_objects_that_are_mostly_out_of_sight_are_found(tmp_path: Path) -> None:
    for number in range(10):
        boxes = [(20, 10, 30, 30)] if number == 4 else []
        write_picture(tmp_path / "video_train" / "clips" / "dog", f"{number:05d}", boxes, images="frames")
    pictures, rng = ClickPictures(tmp_path), np.random.default_rng(0)
    assert all((pictures.draw(rng, 48).truths[0] == 1).any() for _ in range(60))
