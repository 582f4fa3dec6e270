import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refusal
from scored_sequence import score_sequence

from mnemask.errors import InputError, MaskError
from mnemask.evaluation.score import score_folder
from mnemask.evaluation.tables import cells
from mnemask.export import export_masks
from mnemask.io import MaskWriter
from mnemask.io.written import Written
from mnemask.types import Frame, Masks

DAVIS = Path(__file__).resolve().parents[2] / "../shared/data/davis2016-dev"


def clip(num_frames=6, shift=0):
    video = []
    for t in range(num_frames):
        labels = np.zeros((60, 80), np.uint8)
        labels[5:25, 5 + 3 * t + shift : 25 + 3 * t + shift] = 1
        labels[35:50, 30 + t : 55 + t] = 2
        video.append(labels)
    return video


def write(folder, video, first=0):
    folder.mkdir(parents=True, exist_ok=True)
    for index, labels in enumerate(video, first):
        image = Image.fromarray(labels)
        image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
        image.save(folder / f"{index:05d}.png")


@pytest.fixture
def folders(tmp_path):
    """Truth and predictions of "cars" and "dogs"; object 1 of the predicted dogs is 4 pixels off."""
    for name, shift in (("cars", 0), ("dogs", 4)):
        write(tmp_path / "truth" / name, clip())
        write(tmp_path / "predicted" / name, clip(shift=shift))
    return tmp_path / "truth", tmp_path / "predicted"


def test_folders_score_as_their_frames_in_memory_do(folders):
    report = score_folder(*folders)
    cars, dogs = report.by_sequence.values()
    assert [score.j_and_f for score in cars] == [1.0, 1.0]
    assert dogs == score_sequence(clip(), clip(shift=4), name="dogs").objects
    assert dogs[0].region.mean == pytest.approx(16 / 24)
    assert report.notes == ()
    assert report.protocol == "davis2017"


def test_one_sequence_may_be_given_by_its_own_folders(folders):
    truth, predicted = folders
    report = score_folder(truth / "dogs", predicted / "dogs")
    assert report.by_sequence.keys() == {"dogs"}
    assert report.objects == tuple(each for each in score_folder(*folders).objects if each.sequence == "dogs")


def test_all_labels_are_one_object_in_davis2016(folders):
    report = score_folder(*folders, protocol="davis2016")
    assert [(score.sequence, score.object_id) for score in report.objects] == [("cars", 1), ("dogs", 1)]


def test_sequences_without_a_partner_are_noted(folders, tmp_path):
    write(tmp_path / "truth" / "unseen", clip())
    write(tmp_path / "predicted" / "extra", clip())
    report = score_folder(*folders)
    assert list(report.by_sequence) == ["cars", "dogs"]
    first, second = report.notes
    assert "truth and so not scored: extra" in first
    assert "predicted and so not scored: unseen" in second


def test_predictions_of_frames_that_are_not_annotated_do_not_matter(folders):
    truth, predicted = folders
    for index in (1, 3):
        (truth / "cars" / f"{index:05d}.png").unlink()
    (predicted / "cars" / "._00000.png").write_text("left by another system")
    report = score_folder(truth, predicted)
    assert len(report.by_sequence["cars"][0].region_frames) == 2


def test_frames_follow_in_the_order_of_their_numbers(tmp_path):
    truths = clip(12)
    for folder in ("truth", "predicted"):
        write(tmp_path / folder, truths)
        for path in list((tmp_path / folder).iterdir()):
            path.rename(path.with_name(f"frame{int(path.stem)}.png"))
    Image.fromarray(np.zeros((60, 80), np.uint8)).save(tmp_path / "predicted" / "frame11.png")  # the last one
    assert score_folder(tmp_path / "truth", tmp_path / "predicted").j_and_f == 1


def test_a_missing_prediction_is_named(folders):
    (folders[1] / "dogs" / "00003.png").unlink()
    with refusal(InputError, r"00003\.png"):
        score_folder(*folders)


def test_predictions_of_another_size_are_named_with_both_sizes(folders):
    write(folders[1] / "dogs", [labels[::2, ::2] for labels in clip()])
    with refusal(MaskError, r"00000\.png", r"30x40", r"60x80"):
        score_folder(*folders)


def test_a_file_that_is_no_mask_is_named(folders):
    Image.new("RGB", (80, 60), (9, 99, 0)).save(folders[1] / "cars" / "00002.png")
    with refusal(MaskError, r"00002\.png", r"RGB"):
        score_folder(*folders)


def test_folders_without_a_common_sequence_are_refused(folders):
    truth, predicted = folders
    (predicted / "cars").rename(predicted / "car")
    shutil.rmtree(predicted / "dogs")
    with refusal(InputError, "sequence"):
        score_folder(truth, predicted)


def test_one_sequence_against_many_is_refused(folders):
    truth, predicted = folders
    with refusal(InputError, "sequence"):
        score_folder(truth, predicted / "dogs")


def test_folders_without_masks_are_refused_with_the_reason(tmp_path, folders):
    with refusal(InputError, "folder"):
        score_folder(folders[0], tmp_path / "absent")
    (tmp_path / "photos").mkdir()
    with refusal(InputError, r"\*\.png", r"SEQUENCE/\*\.png"):
        score_folder(folders[0], tmp_path / "photos")
    Image.new("L", (80, 60)).save(tmp_path / "photos" / "00000.jpg")
    with refusal(InputError, r"00000\.jpg", r"PNG"):
        score_folder(folders[0], tmp_path / "photos")
    (tmp_path / "photos/00000.jpg").rename(tmp_path / "photos/00000.bmp")
    with refusal(InputError, r"00000\.bmp", r"must be PNG"):
        score_folder(folders[0], tmp_path / "photos")


def test_masks_that_lie_too_deep_are_not_said_to_be_of_another_kind(tmp_path, folders):
    for name in ("frames/00000.jpg", "masks/00000.png"):
        path = tmp_path / "own/dogs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (80, 60)).save(path)
    with refusal(InputError, r"own/dogs/masks lie too deep", r"SEQUENCE/\*\.png"):
        score_folder(tmp_path / "own", folders[1])


@pytest.mark.parametrize("has_preview", [True, False])
def test_for_the_folder_of_a_run_that_of_its_masks_is_named(tmp_path, folders, has_preview):
    write(tmp_path / "run/masks", clip())
    written = Written(tmp_path / "run")
    written.write(tmp_path / "run/report.json", b"{}")
    if has_preview:
        written.write(tmp_path / "run/preview.png", (tmp_path / "run/masks/00000.png").read_bytes())
    for given in ((folders[0] / "cars", tmp_path / "run"), (tmp_path / "run", folders[1] / "cars")):
        with refusal(InputError, r"give .*run/masks, which a run wrote"):
            score_folder(*given)
    assert score_folder(folders[0] / "cars", tmp_path / "run/masks").j_and_f == 1


def test_the_table_has_a_header_a_row_for_each_and_the_overall_mean(folders):
    header, cars, dogs, overall = cells(score_folder(*folders).rows())
    assert header == ["name", "J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay"]
    assert cars == ["cars", "100.0", "100.0", "100.0", "0.0", "100.0", "100.0", "0.0"]
    assert dogs[:4] == ["dogs", dogs[1], "83.3", "100.0"]
    assert overall[0] == "all"
    assert overall[2] == "91.7"
    assert [row[0] for row in cells(score_folder(*folders).rows("object"))[1:-1]] == [
        "cars_1",
        "cars_2",
        "dogs_1",
        "dogs_2",
    ]


def test_a_decay_that_does_not_exist_is_a_dash():
    report = score_sequence(clip(5) * 60, clip(5) * 60, official_decay=True)
    assert cells(report.rows())[-1][4] == "-"


@pytest.mark.shared
def test_real_masks_three_pixels_off_keep_their_boundary_and_lose_region(tmp_path):
    if not DAVIS.is_dir():
        pytest.skip("DAVIS is not at hand")
    truth = DAVIS / "Annotations/480p/drift-chicane"
    for path in truth.iterdir():
        labels = np.asarray(Image.open(path))
        moved = cv2.warpAffine(labels, np.float32([[1, 0, 3], [0, 1, 3]]), labels.shape[::-1], flags=cv2.INTER_NEAREST)
        Image.fromarray(moved).save(tmp_path / path.name)
    report = score_folder(truth, tmp_path, protocol="davis2016")
    assert report.boundary.mean > 0.999
    assert 0.8 < report.region.mean < 0.85


def test_pictures_that_nobody_annotated_are_not_scored_as_empty(tmp_path, caplog):
    images = [{"id": t, "file_name": f"{t:05d}.png", "height": 60, "width": 80} for t in range(6)]
    shapes = [
        {
            "id": t,
            "image_id": t,
            "category_id": 1,
            "track_id": 1,
            "segmentation": [[x, 5, x + 20, 5, x + 20, 25, x, 25]],
        }
        for t, x in ((0, 5), (2, 11), (4, 17))
    ]
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({"images": images, "annotations": shapes, "categories": []}))
    write(tmp_path / "predicted", [np.where(labels == 1, labels, 0).astype(np.uint8) for labels in clip()])
    assert score_folder(truth, tmp_path / "predicted").region.mean == 1
    assert "3 of 6 pictures" in caplog.text


@pytest.mark.parametrize("soft", ["truth", "predicted"])
def test_soft_edges_are_refused_since_each_shade_would_be_an_object(tmp_path, soft):
    for part in ("truth", "predicted"):
        (tmp_path / part).mkdir()
        for index, labels in enumerate(clip()):
            white = np.where(labels == 1, 255, 0).astype(np.uint8)
            Image.fromarray(cv2.GaussianBlur(white, (0, 0), 1.5) if part == soft else white).save(
                tmp_path / part / f"{index}.png"
            )
    with refusal(MaskError, "blended", soft):
        score_folder(tmp_path / "truth", tmp_path / "predicted", "davis2016")


def test_palettes_made_for_one_file_alone_are_refused_on_either_side(folders):
    truth, predicted = folders
    for folder in (truth, predicted):
        path = folder / "dogs" / "00003.png"
        kept = path.read_bytes()
        exchanged = Image.fromarray(np.choose(clip()[3], [0, 2, 1]).astype(np.uint8))
        exchanged.putpalette([0, 0, 0, 0, 255, 0, 255, 0, 0])
        exchanged.save(path)
        with refusal(MaskError, "00003.png has #00ff00 as index 1 but .*00000.png has it as 2", "same palette"):
            score_folder(truth, predicted)
        score_folder(truth, predicted, "davis2016")
        path.write_bytes(kept)


def write_as(folder, mask_format, name, numbers):
    """Masks of a square that moves to the right, of the frames of these numbers."""
    with MaskWriter(folder, mask_format) as writer:
        for number in numbers:
            labels = torch.zeros(60, 80, dtype=torch.int32)
            labels[10:20, 2 * number : 2 * number + 10] = 1
            probs = torch.stack([(labels == each).float() for each in (0, 1)])
            frame = Frame(torch.zeros(3, 60, 80, dtype=torch.uint8), number)
            writer.write(Masks(labels, probs, (1,), number, name.format(number)), frame)


def cvat_track(path, numbers):
    """The same as a track of CVAT, which keeps the numbers of frames alone."""
    corners = "{0},10;{1},10;{1},20;{0},20"
    shapes = [f'<polygon frame="{t}" points="{corners.format(2 * t, 2 * t + 10)}"/>' for t in numbers]
    size = "<meta><original_size><width>80</width><height>60</height></original_size></meta>"
    track = f'<track id="0" label="cat">{"".join(shapes)}</track>'
    path.write_text(f"<annotations>{size}{track}</annotations>")
    return path


def test_a_label_video_is_never_paired_with_the_wrong_frames(tmp_path):
    write_as(tmp_path / "predicted", "ffv1", "{:05d}", range(21))
    write_as(tmp_path / "sparse", "png", "frame_{:04d}", range(0, 21, 5))
    with refusal(InputError, "frame_0000", "PNG"):
        score_folder(tmp_path / "sparse", tmp_path / "predicted")
    write_as(tmp_path / "all", "png", "frame_{:04d}", range(21))
    assert score_folder(tmp_path / "all", tmp_path / "predicted").j_and_f == 1
    write_as(tmp_path / "numbered", "png", "{:06d}", range(0, 21, 5))
    report = score_folder(tmp_path / "numbered", tmp_path / "predicted")
    assert (report.j_and_f, len(report.objects[0].region_frames)) == (1, 3)
    assert score_folder(cvat_track(tmp_path / "a.xml", range(3, 9)), tmp_path / "predicted").j_and_f == 1


def test_truth_that_keeps_numbers_is_paired_by_the_numbers_of_predictions(tmp_path):
    truth = cvat_track(tmp_path / "truth.xml", range(21))
    write_as(tmp_path / "later", "png", "{:05d}", range(5, 21))
    report = score_folder(cvat_track(tmp_path / "late.xml", range(5, 21)), tmp_path / "later")
    assert (report.j_and_f, len(report.objects[0].region_frames)) == (1, 14)
    with refusal(InputError, "lack 5 of 21"):
        score_folder(truth, tmp_path / "later")
    write_as(tmp_path / "far", "png", "{:05d}", range(30, 33))
    with refusal(InputError, "lack 21 of 21"):
        score_folder(truth, tmp_path / "far")


def test_truth_that_keeps_numbers_is_paired_by_place_where_predictions_have_names(tmp_path):
    write_as(tmp_path / "named", "png", "frame_{:04d}", range(21))
    assert score_folder(cvat_track(tmp_path / "a.xml", range(3, 9)), tmp_path / "named").j_and_f == 1
    write_as(tmp_path / "cut", "png", "frame_{:04d}", range(5, 21))
    with refusal(InputError, "lack 5 of 21"):
        score_folder(cvat_track(tmp_path / "b.xml", range(21)), tmp_path / "cut")


def write_late(folder, first=0):
    """The run of a square that appears in frame 3 of 10, and was removed in frame 6; names count from `first`."""
    with MaskWriter(folder / "masks") as masks, MaskWriter(folder, "table") as table:
        for number in range(10):
            labels = torch.zeros(60, 80, dtype=torch.int32)
            labels[10:20, 2 * number : 2 * number + 10] = 3 <= number < 6
            probs = torch.stack([(labels == each).float() for each in (0, 1)])
            frame = Frame(torch.zeros(3, 60, 80, dtype=torch.uint8), number)
            for writer in (masks, table):
                writer.write(Masks(labels, probs, (1,), number, f"{first + number:05d}"), frame)
    return folder / "masks"


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")
@pytest.mark.parametrize(("to", "file"), [("cvat-video", "annotations.xml"), ("mots", "gt/gt.txt")])
def test_frames_that_an_export_does_not_list_have_no_object(tmp_path, to, file):
    truth = write_late(tmp_path / "run")
    place = export_masks(tmp_path / "run", to, tmp_path / "out").folder / file
    report = score_folder(truth, place)
    assert (report.j_and_f, len(report.objects[0].region_frames)) == (1, 5)
    unlisted = 6 if to == "cvat-video" else 7  # CVAT says that the object is gone in the frame after its last
    assert report.notes == (
        f"{unlisted} of 10 annotated frames of masks are not listed in {place}, and so have no object there",
    )
    for index in (1, 2, 4, 9):
        (truth / f"{index:05d}.png").unlink()
    assert score_folder(truth, place).j_and_f == 1
    shutil.copy(truth / "00005.png", truth / "00007.png")
    assert score_folder(truth, place).region.mean < 1


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")
def test_frames_whose_names_do_not_count_from_0_are_paired_by_place_or_not_at_all(tmp_path):
    truth = write_late(tmp_path / "run", first=1)
    tracks = export_masks(tmp_path / "run", "cvat-video", tmp_path / "cvat").folder / "annotations.xml"
    assert score_folder(truth, tracks).j_and_f == 1
    (truth / "00010.png").unlink()
    text = export_masks(tmp_path / "run", "mots", tmp_path / "mots").folder / "gt/gt.txt"
    with refusal(InputError, "lack 6 of 9"):
        score_folder(truth, text)


def test_a_frame_that_cvat_interpolated_or_that_its_task_lacks_is_not_taken_to_be_empty(tmp_path):
    truth = write_late(tmp_path / "run")
    place = export_masks(tmp_path / "run", "cvat-video", tmp_path / "out").folder / "annotations.xml"
    content = place.read_text()
    place.write_text(content.replace('frame="4" keyframe="1"', 'frame="4" keyframe="0"'))
    with refusal(InputError, "lack 1 of 10", "00004.png"):
        score_folder(truth, place)
    place.write_text(content.replace("<size>10</size>", "<size>9</size>"))
    with refusal(InputError, "lack 6 of 10", "00000.png"):
        score_folder(truth, place)
    place.write_text(content.replace("<size>10</size>", "<size>9</size>").replace("_frame>9<", "_frame>8<"))
    with refusal(InputError, "lack 1 of 10", "00009.png"):
        score_folder(truth, place)


def test_cut_outs_are_refused_with_the_way_to_get_masks(tmp_path):
    write_as(tmp_path / "truth", "png", "{:05d}", range(5))
    write_as(tmp_path / "run/masks", "rgba", "{:05d}", range(5))
    with refusal(InputError, "masks holds cut-outs", "--format png", "export RUN --to coco"):
        score_folder(tmp_path / "truth", tmp_path / "run/masks")


@pytest.mark.parametrize("ids", [(85, 170, 255), (255, 256), (200, 255, 1000)])
@pytest.mark.parametrize("form", ["png", "ffv1", "rle", "parquet", "given"])
def test_an_object_with_the_number_of_void_is_scored_where_segment_would_track_it(tmp_path, ids, form):
    truth = []
    for t in range(5):
        labels = np.zeros((60, 80), np.uint8 if max(ids) < 256 else np.uint16)
        for place, object_id in enumerate(ids):
            labels[5 + 18 * place : 17 + 18 * place, 10 + 3 * t : 30 + 3 * t] = object_id
        truth.append(labels)
    folder = tmp_path / "truth"
    if form == "given":
        folder.mkdir()
        for index, labels in enumerate(truth):
            Image.fromarray(labels).save(folder / f"{index:05d}.png")
    else:
        with MaskWriter(folder, form) as writer:
            for index, labels in enumerate(truth):
                stack = torch.from_numpy(np.stack([labels == each for each in (0, *ids)]).astype(np.float32))
                masks = Masks(torch.from_numpy(labels.astype(np.int32)), stack, ids, index, f"{index:05d}")
                writer.write(masks, Frame(torch.zeros(3, 60, 80, dtype=torch.uint8), index))
    report = score_folder(folder, folder)
    assert [score.object_id for score in report.objects] == list(ids)
    assert report.j_and_f == 1


def test_255_beside_small_ids_is_void_with_a_warning_and_a_contour_of_it_without(tmp_path, caplog):
    for name, labels in ("solid", LABELS_WITH_AREA), ("contour", LABELS_WITH_CONTOUR):
        for folder, shown in ((name, labels), (f"{name} predicted", np.where(labels == 1, labels, 0))):
            (tmp_path / folder).mkdir()
            for index in range(4):
                Image.fromarray(shown).save(tmp_path / folder / f"{index:05d}.png")
        report = score_folder(tmp_path / name, tmp_path / f"{name} predicted")
        assert [score.object_id for score in report.objects] == [1]
        assert ("255 is void" in caplog.text) == (name == "solid")
        caplog.clear()


LABELS_WITH_AREA = np.zeros((60, 80), np.uint8)
LABELS_WITH_AREA[10:30, 10:30] = 1
LABELS_WITH_CONTOUR = LABELS_WITH_AREA.copy()
LABELS_WITH_AREA[40:55, 40:70] = 255
cv2.rectangle(LABELS_WITH_CONTOUR, (9, 9), (30, 30), 255, 1)
