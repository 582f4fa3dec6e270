import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mnemask.doctor import diagnose, diagnose_all
from mnemask.io import davis_palette


def drawn():
    labels = np.zeros((120, 200), np.uint8)
    cv2.circle(labels, (60, 60), 40, 1, -1)
    cv2.rectangle(labels, (130, 20), (180, 90), 2, -1)
    return labels


def save(path, array, palette=True):
    image = Image.fromarray(array)
    if palette and array.ndim == 2:
        image.putpalette(davis_palette().tobytes())
    image.save(path)
    return path


def said(findings, severity):
    return [finding.what for finding in findings if finding.severity == severity]


def test_a_good_mask_is_described_and_nothing_else(tmp_path):
    findings = diagnose(save(tmp_path / "m.png", drawn()))
    assert {finding.severity for finding in findings} == {"ok"}
    assert "PNG of 200x120 pixels" in findings[0].what
    assert findings[2].what == "object 2: 3621 pixels (15 %), box 130,20,51,71"


@pytest.mark.parametrize(("rows", "percent"), [(400, "100"), (398, "100"), (396, "99"), (39, "9.8"), (1, "0.25")])
def test_the_share_of_an_object_is_a_plain_number(tmp_path, rows, percent):
    labels = np.zeros((400, 30), np.uint8)
    labels[:rows] = 1
    assert f"({percent} %)" in said(diagnose(save(tmp_path / "m.png", labels)), "ok")[1]


def test_blended_ids_are_a_problem_and_soft_black_and_white_a_warning(tmp_path):
    findings = diagnose(save(tmp_path / "m.png", cv2.resize(drawn() * 3, (333, 200)), palette=False))
    assert "blends of ids" in said(findings, "problem")[0]
    soft = cv2.GaussianBlur(np.where(drawn() == 1, 255, 0).astype(np.uint8), (0, 0), 1.5)
    findings = diagnose(save(tmp_path / "m.png", soft, palette=False))
    assert not said(findings, "problem")
    assert "nearest plain area" in said(findings, "warning")[0]


def test_a_contour_of_void_is_counted_and_a_solid_area_of_255_is_asked_about(tmp_path):
    labels = drawn()
    solid = np.where(labels == 2, 255, labels)
    labels[(cv2.dilate(labels, np.ones((5, 5))) > 0) & (labels == 0)] = 255
    count = (labels == 255).sum()
    assert f"{count:,} pixels are void: part of no object" in said(diagnose(save(tmp_path / "m.png", labels)), "ok")
    (finding,) = diagnose(save(tmp_path / "solid.png", solid))
    assert finding.severity == "problem"
    assert "--void 255" in finding.remedy


def folder_of(path, *pictures):
    path.mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(path / f"{number:05d}.png")
    return path


def test_a_folder_of_masks_is_described_as_a_run_would_read_it(tmp_path):
    paint = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)
    masks = folder_of(tmp_path / "m", paint[drawn()], paint[[0, 2, 1]][drawn()], paint[0 * drawn()])
    findings = diagnose(masks)
    assert {finding.severity for finding in findings} == {"ok"}
    assert [finding.what for finding in findings[1:]] == [
        "#ff0000 is object 1",
        "#0000ff is object 2",
        "object 1 is marked in 2 of 3 masks",
        "object 2 is marked in 2 of 3 masks",
        "1 mask is empty, first 00002.png: all objects are absent there",
    ]


def test_what_a_run_would_refuse_of_a_folder_of_masks_is_a_problem(tmp_path):
    soft = cv2.resize(drawn() * 3, (100, 60), interpolation=cv2.INTER_AREA)
    one, other = drawn(), drawn()[:60]
    problems = said(diagnose(folder_of(tmp_path / "m", one, one, soft, other, one)), "problem")
    assert len(problems) == 2
    assert "00002.png has" in problems[0]
    assert "00003.png is 200x60" in problems[1]


def test_a_folder_of_frames_is_no_folder_of_masks(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (120, 200, 3), np.uint8)
    findings = diagnose(folder_of(tmp_path / "m", 0 * noise, noise, noise))
    assert "3 images" in findings[0].what


def test_specks_and_tiny_objects_are_warned_of(tmp_path):
    labels = drawn()
    labels[2:4, 2:4] = 1
    labels[110:118, 100:110] = 3
    assert said(diagnose(save(tmp_path / "m.png", labels)), "warning") == [
        "object 1 has 1 speck of at most 4 pixels apart from it",
        "object 3 has only 80 pixels, less than one cell (16x16) of the network",
    ]


def test_a_swapped_mask_is_warned_of(tmp_path):
    swapped = np.where(drawn() == 1, 0, 255).astype(np.uint8)
    assert "like a background" in said(diagnose(save(tmp_path / "m.png", swapped)), "warning")[0]


def test_many_ids_and_grey_levels_as_ids_are_warned_of(tmp_path):
    many = (np.arange(40).reshape(5, 8).repeat(24, 0).repeat(25, 1)).astype(np.uint8)
    assert "39 objects are marked" in said(diagnose(save(tmp_path / "m.png", many)), "warning")[-1]
    grey = np.array([0, 38, 75], np.uint8)[drawn()]
    assert "ids are 38, 75" in said(diagnose(save(tmp_path / "m.png", grey, palette=False)), "warning")[0]


def test_what_cannot_be_read_is_a_problem_with_a_way_out(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (120, 200, 3), np.uint8)
    (tmp_path / "text.png").write_text("hello")
    for path, what in (
        (save(tmp_path / "photo.png", noise), "photograph"),
        (save(tmp_path / "empty.png", 0 * drawn()), "no object is marked"),
        (tmp_path / "text.png", "is not an image"),
        (tmp_path / "gone.png", "there is no"),
    ):
        (finding,) = [finding for finding in diagnose(path) if finding.severity == "problem"]
        assert what in finding.what
        assert finding.remedy


@pytest.mark.shared
def test_real_masks_have_no_problem(shared_data):
    for folder in shared_data.glob("davis2016-dev/Annotations/480p/*"):
        assert not said(diagnose(min(folder.iterdir())), "problem")


def test_a_mask_is_compared_with_the_video_that_is_given_with_it(tmp_path):
    (tmp_path / "frames").mkdir()
    for index in range(3):
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (120, 200, 3), np.uint8)).save(
            tmp_path / "frames" / f"{index:05d}.png"
        )
    fits, narrow = save(tmp_path / "fits.png", drawn()), save(tmp_path / "narrow.png", drawn()[:, :199])
    folder = tmp_path / "masks"
    folder.mkdir()
    save(folder / "00007.png", drawn())
    found = dict(diagnose_all([tmp_path / "frames", fits, narrow, folder]))
    together = {Path(about.split(" with ")[1]).name: findings for about, findings in found.items() if " with " in about}
    assert {name: findings[0].severity for name, findings in together.items()} == {
        "fits.png": "ok",
        "narrow.png": "problem",
        "masks": "problem",
    }
    assert "199x120" in together["narrow.png"][0].what


def test_a_mask_named_after_another_frame_than_the_first_is_doubted(tmp_path):
    rng = np.random.default_rng(0)
    frames = folder_of(tmp_path / "frames", *(rng.integers(0, 256, (120, 200, 3), np.uint8) for _ in range(4)))
    mask = save(tmp_path / "00003.png", drawn())
    (finding,) = dict(diagnose_all([frames, mask]))[f"{frames} with {mask}"]
    assert (finding.severity, finding.remedy) == ("warning", f"if it shows frame 3, give --at 3={mask} instead")
    assert "is named after frame 3 (00003), but is given to frame 0" in finding.what


def test_a_mask_of_several_pages_is_compared_with_a_video_of_several_pages(tmp_path):
    def save_pages(name, pages):
        first, *others = map(Image.fromarray, pages)
        first.save(tmp_path / name, save_all=True, append_images=others)
        return tmp_path / name

    rng = np.random.default_rng(0)
    video = save_pages("clip.tif", [rng.integers(0, 256, (120, 200, 3), np.uint8) for _ in range(3)])
    fits, narrow = save_pages("fits.tif", [drawn()] * 3), save_pages("narrow.tiff", [drawn()[:, :199]] * 3)
    found = dict(diagnose_all([video, fits, narrow]))
    assert any("first of its 3 pictures" in finding.what for finding in found[str(fits)])
    assert [finding.severity for finding in found[f"{video} with {fits}"]] == ["ok"]
    assert "199x120" in said(found[f"{video} with {narrow}"], "problem")[0]


def test_a_file_of_an_annotation_tool_is_a_file_of_masks(tmp_path):
    images = [{"id": i, "file_name": f"{i:05d}.png", "height": 9, "width": 9} for i in range(3)]
    shape = {"id": 1, "image_id": 0, "category_id": 1, "segmentation": [[1, 1, 5, 1, 5, 5]]}
    place = tmp_path / "annotations.json"
    place.write_text(json.dumps({"images": images, "annotations": [shape], "categories": []}))
    findings = diagnose(place)
    assert "1 mask," in findings[0].what
    assert "2 more listed pictures" in said(findings, "warning")[0]
    place.write_text("{}")
    assert "no 'images'" in said(diagnose(place), "problem")[0]


def test_ids_that_no_grey_level_has_are_not_taken_for_colours_in_grey(tmp_path):
    for name, scale in ("greys", 100), ("ids", 1001):
        Image.fromarray(np.minimum(drawn(), 2).astype(np.uint16) * scale).save(tmp_path / f"{name}.png")
    assert "converted to grey" in said(diagnose(tmp_path / "greys.png"), "warning")[0]
    assert not said(diagnose(tmp_path / "ids.png"), "warning")
