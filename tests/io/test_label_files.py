"""What is written as masks is read as masks, whatever file it is in."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refusal

from mnemask.datasets.video_sets import open_video_folders
from mnemask.errors import MaskError
from mnemask.evaluation.score import score_folder
from mnemask.io import MaskWriter, davis_palette
from mnemask.io.label_files import holds_labels, label_paths, labels_by_name, read_labels
from mnemask.prompts import read_mask
from mnemask.types import Frame, Masks


def maps(ids, num_frames=4):
    drawn = []
    for t in range(num_frames):
        labels = np.zeros((40, 50), np.int32)
        labels[5:20, 5 + t : 20 + t], labels[25:35, 10:30] = ids
        drawn.append(labels)
    return drawn


def write(out, drawn, mask_format, names=None, ids=None, start=0, seconds=()):
    with MaskWriter(out, mask_format) as writer:
        for t, labels in enumerate(drawn, start):
            tensor = torch.from_numpy(labels)
            ids = ids or tuple(int(i) for i in np.unique(labels) if i)
            probs = torch.stack([(tensor == i).float() for i in (0, *ids)])
            masks = Masks(tensor, probs, ids, index=t, name=names[t] if names else f"{t:05d}")
            shown_at = seconds[t - start] if seconds else None
            writer.write(masks, Frame(torch.zeros(3, 40, 50, dtype=torch.uint8), t, shown_at))


@pytest.mark.parametrize("mask_format", ["png", "ffv1", "rle"])
@pytest.mark.parametrize("ids", [(1, 2), (255, 256), (1001, 2003), (1, 65535)])
def test_what_the_writer_writes_is_read_back_id_for_id(tmp_path, mask_format, ids):
    drawn = maps(ids)
    write(tmp_path / "masks", drawn, mask_format)
    paths = label_paths(tmp_path / "masks")
    assert [path.stem for path in paths] == ["00000", "00001", "00002", "00003"]
    for path, labels in zip(paths, drawn, strict=True):
        assert np.array_equal(read_labels(path), labels)


@pytest.mark.parametrize("mask_format", ["png", "ffv1", "rle"])
def test_every_format_is_scored_alike(tmp_path, mask_format):
    truth = maps((1001, 2003), 6)
    moved = [np.roll(labels, 2, axis=1) for labels in truth]
    write(tmp_path / "truth" / "s", truth, "png")
    write(tmp_path / "as_png" / "s", moved, "png")
    write(tmp_path / "pred" / "s", moved, mask_format)
    expected = score_folder(tmp_path / "truth", tmp_path / "as_png").to_dict()
    assert score_folder(tmp_path / "truth", tmp_path / "pred").to_dict() == expected
    assert score_folder(tmp_path / "pred", tmp_path / "as_png").to_dict()["objects"]


def test_folders_named_as_files_and_a_mask_that_is_not_there(tmp_path):
    for name in ("back.json", "notes.txt", "labels/old.txt"):
        (tmp_path / name).mkdir(parents=True)
    assert label_paths(tmp_path) == []
    assert not holds_labels(tmp_path / "nope.png")
    (tmp_path / "coco.json").write_text('{"shapes": "in the eye of the beholder"}')
    assert not holds_labels(tmp_path / "nope.png")


def test_a_label_video_is_paired_by_order_or_by_number(tmp_path):
    drawn = maps((1, 2))
    write(tmp_path, drawn, "ffv1")
    paths = label_paths(tmp_path / "masks.mkv")
    by_order = labels_by_name(paths, [f"frame ({t})" for t in range(1, 5)])
    assert np.array_equal(read_labels(by_order["frame (4)"]), drawn[3])
    by_number = labels_by_name(paths, ["00003", "00001"])
    assert np.array_equal(read_labels(by_number["00003"]), drawn[3])


def test_a_label_video_of_files_that_count_from_1_goes_by_the_numbers_of_frames(tmp_path):
    write(tmp_path, maps((1, 2)), "ffv1")
    paths = label_paths(tmp_path)
    names = ["00001", "00002", "00003", "00004"]
    assert list(labels_by_name(paths, names, range(4)).values()) == paths
    assert list(labels_by_name(paths, names).values()) == paths
    assert labels_by_name(paths, names[2:], [2, 3]) == {"00003": paths[2], "00004": paths[3]}
    assert labels_by_name(paths[:2], names, range(4)) == {"00001": paths[0], "00002": paths[1]}


def test_maps_with_numbers_belong_to_some_frames_by_the_numbers_in_their_names(tmp_path):
    write(tmp_path, maps((1, 2), 7), "ffv1")
    paths = label_paths(tmp_path)
    found = labels_by_name(paths, ["000000", "000005", "@6"])
    assert {name: path.name for name, path in found.items()} == {"000000": "00000", "000005": "00005", "@6": "00006"}
    assert labels_by_name(paths, ["f00010", "f00100"]) == {}
    names = [f"frame_{t:04d}" for t in range(7)]
    assert list(labels_by_name(paths, names).values()) == paths
    with refusal(MaskError, "'frame_0000' has none", "PNG"):
        labels_by_name(paths, names[::5])


def test_masks_have_the_names_of_their_frames_however_accents_are_written(tmp_path):
    write(tmp_path / "s" / "masks", maps((1, 2)), "png", names=[f"cafe\u0301{t}" for t in range(4)])
    names = [f"caf\u00e9{t}" for t in range(4)]
    assert list(labels_by_name(label_paths(tmp_path / "s" / "masks"), names)) == names
    (tmp_path / "s" / "frames").mkdir()
    for name in names:
        Image.new("RGB", (50, 40)).save(tmp_path / "s" / "frames" / f"{name}.png")
    (video,) = open_video_folders(tmp_path)
    assert sorted(video.masks) == [0, 1, 2, 3]


def test_a_label_video_that_begins_later_keeps_its_numbers(tmp_path):
    write(tmp_path, maps((1, 2)), "ffv1", start=7, names={t: str(t) for t in range(12)})
    assert [path.name for path in label_paths(tmp_path)] == ["00007", "00008", "00009", "00010"]


@pytest.mark.parametrize(
    "seconds", [(1.48, 1.52, 1.56, 1.6), (0.0, 0.04, 0.12, 0.16), (0.0, 0.01, 0.05, 0.3)], ids=["late", "gap", "uneven"]
)
def test_a_label_video_is_numbered_by_its_frames_and_not_by_the_clock(tmp_path, seconds):
    write(tmp_path, maps((1, 2)), "ffv1", seconds=seconds)
    assert [path.name for path in label_paths(tmp_path)] == ["00000", "00001", "00002", "00003"]


def test_a_label_video_keeps_the_numbers_of_frames_around_one_that_was_left_out(tmp_path):
    with MaskWriter(tmp_path, "ffv1") as writer:
        for t, labels in zip((3, 4, 6, 7), maps((1, 2)), strict=True):
            labels = torch.from_numpy(labels)
            probs = torch.stack([(labels == i).float() for i in range(3)])
            writer.write(Masks(labels, probs, (1, 2), t, f"{t:05d}"), Frame(torch.zeros(3, 40, 50).byte(), t))
    assert [path.name for path in label_paths(tmp_path)] == ["00003", "00004", "00006", "00007"]


def test_an_older_label_video_is_counted_from_its_first_time_and_that_is_said(tmp_path, caplog):
    with av.open(str(tmp_path / "masks.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 50, 40, "gray"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 25)
        for place, labels in zip((7, 8, 10, 11), maps((1, 2)), strict=True):
            frame = av.VideoFrame.from_ndarray(labels.astype(np.uint8), "gray")
            frame.pts, frame.time_base = place, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with caplog.at_level("WARNING"):
        assert [path.name for path in label_paths(tmp_path)] == ["00007", "00008", "00009", "00010"]
    assert "frame 7" in caplog.text


@pytest.mark.parametrize("mask_format", ["png", "ffv1", "rle"])
def test_a_folder_of_ones_own_has_masks_of_any_format(tmp_path, mask_format):
    drawn = maps((1001, 2003))
    names = [f"view {t}" for t in range(1, 5)]
    (tmp_path / "s" / "frames").mkdir(parents=True)
    for name in names:
        Image.new("RGB", (50, 40)).save(tmp_path / "s" / "frames" / f"{name}.webp")
    write(tmp_path / "s" / "masks", drawn, mask_format, names=names)
    (video,) = open_video_folders(tmp_path)
    assert sorted(video.masks) == [0, 1, 2, 3]
    assert np.array_equal(video.read_labels(3), drawn[3])


@pytest.mark.parametrize("name", ["masks.mkv", "masks.mkv/00000"])
def test_a_label_video_is_a_prompt(tmp_path, name):
    drawn = maps((1001, 2003))
    write(tmp_path, drawn, "ffv1")
    read = read_mask(tmp_path / name, (40, 50))
    assert {i: mask.sum().item() for i, mask in read.items()} == {1001: 225, 2003: 200}


@pytest.mark.parametrize(
    ("name", "content"),
    [("masks.mkv", b"nothing"), ("masks.json", b"{}"), ("masks.json", b"[1, 2]"), ("masks.json", b"\xff")],
)
def test_what_is_no_label_file_is_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with refusal(MaskError, name):
        label_paths(tmp_path)


def test_a_coloured_video_is_no_label_video(video_file, clip, tmp_path):
    with refusal(MaskError, "label"):
        label_paths(video_file("masks.mkv", clip[:2]))


def test_a_palette_that_was_made_for_one_file_says_no_ids(tmp_path):
    (labels,) = maps((1, 2), 1)
    image = Image.fromarray(np.choose(labels, [2, 0, 1]).astype(np.uint8))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 0])
    image.save(tmp_path / "0.png")
    with refusal(MaskError, "palette"):
        read_labels(tmp_path / "0.png")


@pytest.mark.parametrize("suffix", [".tga", ".pcx"])
def test_a_mask_is_read_by_the_decoders_of_pictures_alone_whatever_it_is_called(tmp_path, suffix):
    (labels,) = maps((1, 2), 1)
    Image.fromarray(labels.astype(np.uint8)).save(tmp_path / f"m{suffix}")
    (tmp_path / f"m{suffix}").rename(tmp_path / "m.png")
    with refusal(MaskError, "m.png"):
        read_labels(tmp_path / "m.png")


def test_a_mask_that_claims_more_pixels_than_a_frame_has_is_not_decoded(tmp_path):
    Image.new("1", (20_000, 10)).save(tmp_path / "m.png")
    with refusal(MaskError, "m.png", "20000x10"):
        read_labels(tmp_path / "m.png")


def test_names_with_dots_are_paired_whatever_file_they_are_in(tmp_path):
    names = ["t0.5", "t0.75", "t1.0", "t1.25"]
    for mask_format in ("png", "ffv1", "rle"):
        write(tmp_path / mask_format, maps((1, 2)), mask_format, names)
    for truth in ("png", "rle"):
        for prediction in ("png", "ffv1", "rle"):
            report = score_folder(tmp_path / truth, tmp_path / prediction)
            assert [each.region.mean for each in report.objects] == [1.0, 1.0]


def test_colours_of_the_davis_palette_are_its_ids_and_others_say_what_to_do(tmp_path):
    (labels,) = maps((1, 3), 1)
    Image.fromarray(davis_palette()[labels]).save(tmp_path / "m.png")
    assert np.array_equal(read_labels(tmp_path / "m.png"), labels)
    Image.fromarray(davis_palette()[labels] + 1).save(tmp_path / "m.png")
    with refusal(MaskError, "RGB", "#800000"):
        read_labels(tmp_path / "m.png")
