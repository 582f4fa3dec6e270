import pytest
from refusals import refusal

from mnemask.errors import MaskError
from mnemask.io.written import Written
from mnemask.prompts.mask_folder import folders_of_objects, list_masks, mask_files


def test_only_images_count_and_a_folder_without_any_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / ".hidden.png").write_text("")
    with refusal(MaskError, "holds"):
        list_masks(tmp_path)
    (tmp_path / "b.PNG").write_text("")
    (tmp_path / "a.png").write_text("")
    assert [path.name for path in list_masks(tmp_path)] == ["a.png", "b.PNG"]


@pytest.mark.parametrize("place", ["run", "run/masks"])
def test_of_a_label_video_single_maps_are_offered_and_images(tmp_path, place):
    (tmp_path / "run/masks").mkdir(parents=True)
    (tmp_path / "run/masks/masks.mkv").write_bytes(b"")
    with refusal(MaskError, "run/masks/masks.mkv give single maps, such as --at 12=.*/masks.mkv/00012, .* export RUN"):
        list_masks(tmp_path / place)


def test_a_folder_without_an_id_beside_folders_of_objects_is_refused(tmp_path):
    for name in ("1", "2", ".cache"):
        (tmp_path / name).mkdir()
    assert list(folders_of_objects(tmp_path)) == [1, 2]
    (tmp_path / "cat").mkdir()
    with refusal(MaskError, "'cat'"):
        folders_of_objects(tmp_path)


def test_a_folder_of_an_object_that_is_named_by_0_is_refused(tmp_path):
    for name in ("000", "001"):
        (tmp_path / name).mkdir()
    with refusal(MaskError, r"000 is named by id 0, which is the background"):
        folders_of_objects(tmp_path)


def test_what_a_run_left_in_a_folder_of_masks_is_no_mask(tmp_path):
    for name in (
        "1/00003.png",
        "1/.hidden.png",
        "2/00003.png",
        ".hidden.png",
        "masks/00003.png",
        "out/masks/00003.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    written = Written(tmp_path)
    for name in ("preview.png", "masks/00004.png"):
        written.write(tmp_path / name, "")
    Written(tmp_path / "out").claim(tmp_path / "out/checkpoint")
    assert mask_files(tmp_path) == [tmp_path / "1/00003.png", tmp_path / "2/00003.png"]
    with refusal(MaskError, "holds no mask", "give .*masks, which a run wrote"):
        list_masks(tmp_path)
    (tmp_path / "1/preview.png").write_text("")
    assert tmp_path / "1/preview.png" in mask_files(tmp_path), "nobody but the user wrote it"


def test_of_annotations_the_files_of_the_tool_are_read(tmp_path):
    labelme = '{"shapes": [], "imagePath": "00003.jpg", "imageHeight": 4, "imageWidth": 6}'
    (tmp_path / "00003.json").write_text(labelme)
    (tmp_path / "00003.jpg").write_bytes(b"")
    assert mask_files(tmp_path) == [tmp_path / "00003.json"]


def test_what_is_neither_a_folder_nor_a_file_of_an_annotation_tool_is_refused(tmp_path):
    (tmp_path / "00000.png").write_bytes(b"an image")
    for name, what in (("00000.png", "annotation tool"), ("none", "does not exist")):
        with refusal(MaskError, what, "--at FRAME=FILE"):
            list_masks(tmp_path / name)
