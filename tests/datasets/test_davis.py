from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refusals import refusal

from mnemask.datasets.published import DavisSequences
from mnemask.errors import InputError

DAVIS = Path(__file__).resolve().parents[2] / "../shared/data/davis2016-dev"

LABELS = np.kron(np.array([[0, 1], [2, 255]]), np.ones((5, 8), int)).astype(np.uint8)


def save(path, labels, palette=True):
    image = Image.fromarray(labels)
    if palette:
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, *[9] * 759])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


@pytest.fixture
def root(tmp_path):
    """DAVIS with the sequences "bear" (3 frames) and "dogs" (4 frames)."""
    for name, num_frames in (("bear", 3), ("dogs", 4)):
        for index in range(num_frames):
            save(tmp_path / f"Annotations/480p/{name}/{index:05d}.png", LABELS)
            frame = tmp_path / f"JPEGImages/480p/{name}/{index:05d}.jpg"
            frame.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 10)).save(frame)
    for year in ("2016", "2017"):
        (tmp_path / "ImageSets" / year).mkdir(parents=True)
        (tmp_path / "ImageSets" / year / "val.txt").write_text("dogs\nbear\n")
    return tmp_path


def test_sequences_come_in_the_order_of_the_list_with_their_files_in_order(root):
    sequences = DavisSequences(root)
    assert sequences.names == ("dogs", "bear")
    assert len(sequences) == 2
    dogs, bear = sequences
    assert dogs == sequences["dogs"]
    assert [path.name for path in dogs.frames] == [f"{index:05d}.jpg" for index in range(4)]
    assert {index: path.name for index, path in bear.masks.items()} == {i: f"{i:05d}.png" for i in range(3)}


def test_masks_have_the_ids_and_void_of_2017_and_one_object_in_2016(root):
    np.testing.assert_array_equal(DavisSequences(root, year=2017)["bear"].read_labels(0), LABELS)
    np.testing.assert_array_equal(DavisSequences(root, year=2016)["bear"].read_labels(2), LABELS > 0)


def test_a_list_of_files_names_each_sequence_once(root):
    (root / "ImageSets/2016/val.txt").unlink()
    lines = [f"/JPEGImages/480p/bear/{i:05d}.jpg /Annotations/480p/bear/{i:05d}.png" for i in range(3)]
    (root / "ImageSets/480p").mkdir()
    (root / "ImageSets/480p/val.txt").write_text("\n".join(lines))
    assert DavisSequences(root, year=2016).names == ("bear",)


def test_test_subsets_need_only_the_first_mask(root):
    (root / "ImageSets/2017/test-dev.txt").write_text("dogs")
    for path in sorted((root / "Annotations/480p/dogs").iterdir())[1:]:
        path.unlink()
    (sequence,) = DavisSequences(root, subset="test-dev")
    assert len(sequence.frames) == 4
    assert list(sequence.masks) == [0]
    (root / "Annotations/480p/dogs/00000.png").rename(root / "Annotations/480p/dogs/00002.png")
    with refusal(InputError, r"00000"):
        DavisSequences(root, subset="test-dev")


def test_a_folder_that_is_not_davis_is_told_what_was_expected_where(tmp_path):
    with refusal(InputError, r"JPEGImages.480p", r"davischallenge\.org"):
        DavisSequences(tmp_path)


def test_a_missing_list_names_both_places(root):
    with refusal(InputError, r"2017.trian\.txt", r"480p.trian\.txt", r"davischallenge\.org"):
        DavisSequences(root, subset="trian")
    (root / "ImageSets/2017/val.txt").write_text("\n")
    with refusal(InputError, r"val\.txt"):
        DavisSequences(root)


def test_half_a_download_names_the_first_file_that_lacks_its_partner(root):
    (root / "Annotations/480p/dogs/00002.png").unlink()
    with refusal(InputError, r"dogs.00002\.png"):
        DavisSequences(root)
    for path in (root / "JPEGImages/480p/dogs").iterdir():
        path.unlink()
    with refusal(InputError, r"\.jpg", r"JPEGImages.480p.dogs"):
        DavisSequences(root)


def test_an_unknown_sequence_or_year_is_refused(root):
    with refusal(InputError, "dogs"):
        DavisSequences(root)["cat"]
    with refusal(InputError, r"DAVIS", r"2018", r"2016", r"2017"):
        DavisSequences(root, year=2018)


@pytest.mark.shared
def test_the_real_davis_2016_opens():
    if not DAVIS.is_dir():
        pytest.skip("DAVIS is not at hand")
    sequences = DavisSequences(DAVIS, year=2016)
    assert "bmx-trees" in sequences.names
    for sequence in sequences:
        mask = sequence.read_labels(0)
        assert mask.shape == (480, 854)
        assert set(np.unique(mask)) == {0, 1}


def test_a_folder_of_2016_that_is_opened_as_2017_is_named_before_the_first_frame(root):
    for path in root.glob("Annotations/480p/*/*.png"):
        save(path, np.where(LABELS == 1, 255, 0).astype(np.uint8), palette=False)
    with refusal(InputError, r"DAVIS", r"2016", r"--dataset", r"davis2016"):
        DavisSequences(root, year=2017)
    assert len(DavisSequences(root, year=2016)) == 2


@pytest.mark.parametrize(("there", "asked"), [(2016, 2017), (2017, 2016)])
def test_a_folder_with_the_list_of_the_other_year_only_is_named(root, there, asked):
    (root / f"ImageSets/{asked}/val.txt").unlink()
    with refusal(InputError, r"DAVIS", rf"{there}", r"--dataset", rf"davis{there}"):
        DavisSequences(root, year=asked)


def test_several_objects_that_are_followed_as_one_are_said(root, caplog):
    DavisSequences(root, year=2017)
    assert not caplog.text
    DavisSequences(root, year=2016)
    assert "2 of 2 sequences" in caplog.text
