"""Masks go out to each tool and come back as they were, from a run in any of its formats."""

import configparser
import csv
import json
import os
import re
import resource
import shutil
import xml.etree.ElementTree as ET
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_clip import drawn_clip
from drawn_run import NAMES, OBJECTS, SIZE, drawn, picture, write_run, write_video
from PIL import ExifTags, Image
from refusals import refusal
from typer.testing import CliRunner

from mnemask.cli import app
from mnemask.errors import FrameError, InputError, MaskError, OutputError
from mnemask.export import EXPORT_FORMATS, export_masks
from mnemask.export.source import open_finished
from mnemask.io import MaskWriter, VideoReader
from mnemask.io.images import orientation_of
from mnemask.io.label_files import annotated_frames, label_paths, labels_by_name, map_name, objects_of, read_labels
from mnemask.io.written import Written
from mnemask.pipeline import segment
from mnemask.project import Project
from mnemask.prompts import PromptPlan
from mnemask.tracker import Tracker
from mnemask.types import Masks

IMAGE = '<image id="0" name="a.jpg" width="9" height="9"'
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")


@pytest.mark.parametrize("format", ["png", "ffv1", "rgba", "rle", "parquet"])
def test_a_run_is_exported_from_whatever_format_it_wrote(tmp_path, format):
    if format == "parquet":
        pytest.importorskip("pyarrow")
    frames = write_run(tmp_path / "run", format)
    export_masks(tmp_path / "run", "npz", tmp_path / "out")
    with np.load(tmp_path / "out/masks.npz") as arrays:
        assert np.array_equal(arrays["labels"], np.stack(frames))
        assert arrays["frames"].tolist() == list(range(5))
        assert arrays["object_ids"].tolist() == list(OBJECTS)
        assert arrays["classes"].tolist() == ["camel", "camel", ""]
        assert ("probabilities" in arrays) == (format == "rgba")
        if format == "rgba":
            assert arrays["probabilities"][0, 0].max() == round(0.925 * 255)


def write_with_pauses(out, format, **report):
    """Writes a run over frames 2 to 9 without the damaged frame 6, in which an object is tracked in 4, 5 and 8."""
    written = Written(out)
    with (
        MaskWriter(out / "masks", format, written=written) as masks,
        MaskWriter(out, "table", written=written) as table,
    ):
        for index in (2, 3, 4, 5, 7, 8, 9):
            mask = torch.zeros(SIZE)
            mask[4 + index : 20, 5:21] = 1
            ids = (1,) if index in (4, 5, 8) else ()
            labels = mask.int() if ids else torch.zeros(SIZE, dtype=torch.int32)
            probs = torch.stack([1 - mask, mask][: len(ids) + 1])
            for writer in (masks, table):
                writer.write(Masks(labels, probs, ids, index, f"{index:05d}"), picture(index, f"{index:05d}"))
    about = {
        "complete": True,
        "frames": 7,
        "video": {"skipped": {"count": 1, "frames": [6]}},
        "settings": {"video": "street.mp4, sha256 00", "start": "2"},
    }
    (out / "report.json").write_text(json.dumps(about | report))
    return out


@pytest.mark.parametrize("format", ["ffv1", "rgba", "rle", "parquet"])
def test_frames_without_an_object_are_exported_from_every_format(tmp_path, format):
    if format == "parquet":
        pytest.importorskip("pyarrow")
    for each in ("png", format):
        run = write_with_pauses(tmp_path / each, each)
        export_masks(run, "npz", tmp_path / "npz" / each)
        export_masks(run, "cvat-video", tmp_path / "cvat" / each)
    expected, found = (np.load(tmp_path / "npz" / each / "masks.npz") for each in ("png", format))
    assert found["frames"].tolist() == expected["frames"].tolist() == [2, 3, 4, 5, 7, 8, 9]
    assert found["names"].tolist() == expected["names"].tolist()
    assert np.array_equal(found["labels"], expected["labels"])
    texts = [(tmp_path / "cvat" / each / "annotations.xml").read_text() for each in ("png", format)]
    assert texts[0] == texts[1]
    assert [int(at) for at in re.findall(r'frame="(\d+)" keyframe="1" outside="1"', texts[1])] == [7, 9]


def test_cut_outs_that_are_gone_are_no_frames_without_an_object(tmp_path, caplog):
    run = write_with_pauses(tmp_path / "run", "rgba")
    (run / "masks/1/00005.png").unlink()
    export_masks(run, "npz", tmp_path / "out")
    with np.load(tmp_path / "out/masks.npz") as arrays:
        assert arrays["frames"].tolist() == [2, 3, 4, 7, 8, 9]
    assert "1 of the 3 frames" in caplog.text
    assert "00005" in caplog.text


@pytest.mark.parametrize("settings", [{"video": "frames", "start": "2"}, {"video": "street.mp4", "start": "1s"}])
def test_frames_that_cut_outs_do_not_name_are_left_out_with_a_warning(tmp_path, caplog, settings):
    run = write_with_pauses(tmp_path / "run", "rgba", settings=settings)
    done = export_masks(run, "cvat-video", tmp_path / "out")
    assert done.frames == 3
    assert "4 of the 7 frames" in caplog.text
    text = (tmp_path / "out/annotations.xml").read_text()
    assert [int(at) for at in re.findall(r'frame="(\d+)" keyframe="1" outside="1"', text)] == [6, 9]


def test_a_folder_whose_last_frame_has_an_object_gets_no_frame_after_it(tmp_path):
    run = write_with_pauses(tmp_path / "run", "rgba", frames=6, settings={"video": "frames", "start": "2"})
    export_masks(run, "cvat-video", tmp_path / "out")
    assert 'frame="9"' not in (tmp_path / "out/annotations.xml").read_text()


# Those that hold every pixel and say which object is which, and so come back as they went out.
@pytest.mark.parametrize(
    ("to", "place"),
    [
        ("coco", "annotations.json"),
        ("coco-polygons", "annotations.json"),
        ("cvat", "annotations.xml"),
        ("cvat-video", "annotations.xml"),
        ("label-studio", "tasks.json"),
        ("labelme", "."),
        ("mots", "gt/gt.txt"),
    ],
)
def test_what_goes_out_comes_back_as_prompts_with_its_classes(tmp_path, run, to, place):
    done = export_masks(run[0], to, tmp_path)
    assert done.frames == 5
    paths = annotated_frames(tmp_path / place)
    found = labels_by_name(paths, NAMES)
    for name, expected in zip(NAMES, drawn(), strict=True):
        if name in found or expected.any():
            assert np.array_equal(read_labels(found[name]), expected), name
    infos = {i: str(info) for i, info in objects_of(paths[0].parent).items()}
    expected = {1: "camel", 2: "camel", 137: ""} if to == "mots" else OBJECTS
    assert infos == expected
    plan = PromptPlan(tmp_path / place, (), (), False, names=NAMES, num_frames=5)
    assert {frame: sorted(ids) for frame, ids in plan.to_come.items() if ids} == {
        0: [1, 2, 137],
        1: [1, 2],
        2: [1, 2, 137],
        4: [1, 2, 137],
    }
    assert {i: str(info) for i, info in plan.objects.items()} == expected


@pytest.mark.skipif(os.name == "nt", reason="there, no name contains a backslash")
@pytest.mark.parametrize(
    ("to", "place"),
    [("coco", "annotations.json"), ("cvat", "annotations.xml"), ("label-studio", "tasks.json"), ("labelme", ".")],
)
def test_a_backslash_in_the_names_of_frames_comes_back(tmp_path, to, place):
    names = [f"a\\{index:02d}" for index in range(5)]
    write_run(tmp_path / "run", "rle", name="a\\{:02d}")
    export_masks(tmp_path / "run", to, tmp_path / "out")
    for paths in label_paths(tmp_path / "run/masks"), annotated_frames(tmp_path / "out" / place):
        found = labels_by_name(paths, names)
        for name, expected in zip(names, drawn(), strict=True):
            assert np.array_equal(read_labels(found[name]), expected)


def test_yolo_comes_back_as_the_only_frame(tmp_path, run):
    export_masks(run[0], "yolo", tmp_path, video=run[1])
    with refusal(MaskError, "camel|class"):
        annotated_frames(tmp_path)
    for name in NAMES[1:]:
        (tmp_path / f"labels/{name}.txt").write_text("")
    found = {map_name(path): path for path in annotated_frames(tmp_path)}
    assert np.array_equal(read_labels(found["00000"]) > 0, drawn()[0] > 0)
    assert len(np.unique(read_labels(found["00000"]))) == 4


def test_a_label_video_of_named_frames_is_exported_by_their_names_and_numbers(tmp_path):
    named = {index: f"frame_{index:04d}.png" for index in (0, 1, 3, 4)}
    write_run(tmp_path / "run", "ffv1", list(named), "frame_{:04d}")
    export_masks(tmp_path / "run", "labelme", tmp_path / "labelme")
    assert {path.stem for path in (tmp_path / "labelme").glob("*.json")} == {Path(each).stem for each in named.values()}
    (tmp_path / "frames").mkdir()
    for path in write_video(tmp_path / "jpeg").iterdir():
        Image.open(path).save(tmp_path / "frames" / f"frame_{int(path.stem):04d}.png")
    (tmp_path / "frames/frame_0002.png").write_bytes((tmp_path / "frames/frame_0002.png").read_bytes()[:300])
    export_masks(tmp_path / "run", "coco", tmp_path / "out", video=tmp_path / "frames")
    content = json.loads((tmp_path / "out/annotations.json").read_text())
    assert {each["id"]: each["file_name"] for each in content["images"]} == named
    found = labels_by_name(annotated_frames(tmp_path / "out/annotations.json"), [f"frame_{t:04d}" for t in range(5)])
    for index in (0, 1, 4):
        assert np.array_equal(read_labels(found[f"frame_{index:04d}"]), drawn()[index])


@pytest.mark.parametrize("format", ["png", "ffv1"])
@pytest.mark.parametrize("counted_from", [0, 1])
def test_frames_without_a_row_in_the_table_keep_their_numbers_around_one_that_was_left_out(
    tmp_path, format, counted_from
):
    frames = [0, 1, 3, 4]
    out = tmp_path / "run"
    with MaskWriter(out / "masks", format) as masks, MaskWriter(out, "table") as table:
        for index in frames:
            tracked = (1,) if index < 3 else ()
            labels = torch.full(SIZE, len(tracked), dtype=torch.int32)
            probs = torch.stack([(labels == each).float() for each in (0, *tracked)])
            name = f"{index + counted_from:05d}"
            for writer in (masks, table):
                writer.write(Masks(labels, probs, tracked, index, name), picture(index, name))
    assert (out / "table.csv").read_text().count("\n") == 3
    with ExitStack() as stack:
        assert [frame.index for frame in open_finished(out, stack)] == frames


@pytest.mark.parametrize(
    ("names", "numbers", "said"),
    [
        ("00000 00001 00003 00004", [0, 1, 3, 4], "keep the numbers"),
        ("00000 00500 00900", [0, 1, 2], "in their order"),
        ("frame_0000 frame_0001 frame_0003", [0, 1, 2], "in their order"),
        ("00001 00002 00003", [1, 2, 3], ""),
        ("frame_0001 frame_0002", [0, 1], ""),
        ("first second", [0, 1], ""),
    ],
)
def test_gaps_in_a_folder_of_masks_alone_move_no_frame_without_a_word(tmp_path, caplog, names, numbers, said):
    for name in names.split():
        Image.fromarray(drawn()[0].astype(np.uint8)).save(tmp_path / f"{name}.png")
    with ExitStack() as stack:
        assert [frame.index for frame in open_finished(tmp_path, stack)] == numbers
    assert ("numbers" in caplog.text) == bool(said)
    assert said in caplog.text


def test_yolo_is_found_from_wherever_it_is_started(tmp_path, run):
    export_masks(run[0], "yolo", tmp_path)
    assert "path:" not in (tmp_path / "data.yaml").read_text()


@pytest.mark.parametrize("to", ["davis", "youtube-vos"])
def test_benchmarks_have_no_object_255_which_is_void_there(tmp_path, to, caplog):
    for name, ids in (("white", [255]), ("ids", [85, 255])):
        labels = np.zeros(SIZE, np.int32)
        labels[5:9, 5:9], labels[20:24, 20:24] = ids[-1], ids[0]
        with MaskWriter(tmp_path / name / "masks", "png", objects={255: "camel"}) as writer:
            probs = torch.stack([torch.from_numpy(labels == each).float() for each in (0, *ids)])
            writer.write(Masks(torch.from_numpy(labels), probs, tuple(ids), 0), None)
    objects = [{"id": 255, "category": "camel", "name": ""}]
    (tmp_path / "white/report.json").write_text(json.dumps({"objects": objects}))
    export_masks(tmp_path / "white", to, tmp_path / "out")
    assert np.unique(read_labels(next((tmp_path / "out").rglob("*.png")))).tolist() == [0, 1]
    assert "object 255 of white is object 1 in the export" in caplog.text
    if to == "youtube-vos":
        (about,) = json.loads((tmp_path / "out/meta.json").read_text())["videos"]["white"]["objects"].items()
        assert about == ("1", {"category": "camel", "frames": ["00000"]})
    with refusal(InputError, "object 255 of ids", "void"):
        export_masks(tmp_path / "ids", to, tmp_path / "out2")


@pytest.mark.parametrize("to", ["davis", "youtube-vos"])
def test_folders_of_benchmarks_hold_frames_masks_and_lists(tmp_path, run, to):
    export_masks(run[0], to, tmp_path, video=run[1])
    resolution = "480p/" if to == "davis" else ""
    for name, expected in zip(NAMES, drawn(), strict=True):
        assert np.array_equal(read_labels(tmp_path / f"Annotations/{resolution}camels/{name}.png"), expected)
        assert (tmp_path / f"JPEGImages/{resolution}camels/{name}.jpg").read_bytes() == (
            run[1] / f"{name}.jpg"
        ).read_bytes()
    if to == "davis":
        assert (tmp_path / "ImageSets/2017/val.txt").read_text() == "camels\n"
    else:
        objects = json.loads((tmp_path / "meta.json").read_text())["videos"]["camels"]["objects"]
        assert objects["137"] == {"category": "object", "frames": ["00000", "00002", "00004"]}
        assert objects["1"]["category"] == "camel"


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("my street.mp4, sha256 0123456789abcdef", "my street"),
        ("recording.ts", "recording"),
        ("frames, sha256 0123456789abcdef", "out"),
        ("address, sha256 0123456789abcdef", "out"),
        ("camera:0", "out"),
    ],
)
def test_a_video_is_called_after_its_file_or_else_after_the_folder_of_the_run(tmp_path, told, name):
    write_run(tmp_path / "out")
    report = tmp_path / "out/report.json"
    report.write_text(json.dumps({**json.loads(report.read_text()), "settings": {"video": told}}))
    export_masks(tmp_path / "out", "davis", tmp_path / "davis")
    assert (tmp_path / "davis/ImageSets/2017/val.txt").read_text() == f"{name}\n"
    assert (tmp_path / "davis/Annotations/480p" / name / "00000.png").is_file()


def test_mot_has_the_box_of_each_object_in_each_frame(tmp_path, run):
    export_masks(run[0], "mot", tmp_path)
    with (tmp_path / "gt/gt.txt").open(newline="") as file:
        rows = [[int(cell) for cell in row] for row in csv.reader(file)]
    assert rows[0] == [1, 1, 5, 4, 16, 16, 1, 1, 1]
    assert rows[2] == [1, 137, 33, 22, 20, 14, 1, 2, 1]
    assert {row[0] for row in rows} == {1, 2, 3, 5}
    about = configparser.ConfigParser()
    about.read(tmp_path / "seqinfo.ini")
    assert {name: about["Sequence"][name] for name in ("imwidth", "seqlength", "framerate")} == {
        "imwidth": "53", "seqlength": "5", "framerate": "10",
    }  # fmt: skip


def test_a_track_of_cvat_ends_where_its_object_leaves_and_begins_again(tmp_path, run):
    export_masks(run[0], "cvat-video", tmp_path)
    track = ET.parse(tmp_path / "annotations.xml").find("track[@id='137']")
    assert [(each.get("frame"), each.get("outside")) for each in track] == [
        ("0", "0"),
        ("1", "1"),
        ("2", "0"),
        ("3", "1"),
        ("4", "0"),
    ]


def test_tracks_of_cvat_end_where_a_run_was_cut_off_and_not_where_it_is_complete(tmp_path):
    write_run(tmp_path / "run", indices=range(3))
    export_masks(tmp_path / "run", "cvat-video", tmp_path / "whole")
    (tmp_path / "run/checkpoint").mkdir()
    export_masks(tmp_path / "run", "cvat-video", tmp_path / "cut")
    whole, cut = (ET.parse(tmp_path / each / "annotations.xml") for each in ("whole", "cut"))
    for object_id in OBJECTS:
        ours, theirs = (list(each.find(f"track[@id='{object_id}']")) for each in (cut, whole))
        assert (theirs[-1].get("frame"), theirs[-1].get("outside")) == ("2", "0")
        assert [each.attrib for each in ours[:-1]] == [each.attrib for each in theirs]
        assert (ours[-1].get("frame"), ours[-1].get("outside")) == ("3", "1")
        assert ours[-1].get("points") == theirs[-1].get("points")


@pytest.mark.parametrize("stop", [4, 8, None])
def test_tracks_of_cvat_end_where_a_run_stopped_before_the_end_of_its_video(tmp_path, tiny_model, stop):
    frames, out = moving_discs(tmp_path / "frames"), tmp_path / "run"
    shown = run_to(tiny_model, frames, out, stop=stop)
    last = max(shown)
    assert shown[last]
    for name, video in (("tracks", None), ("with_pictures", frames)):
        export_masks(out, "cvat-video", tmp_path / name, video=video)
        written = ET.parse(tmp_path / name / "annotations.xml")
        ends = {int(track.get("id")) for track in written.iter("track") if track[-1].get("frame") == str(last + 1)}
        assert ends == (shown[last] if stop == 4 and video is None else set())
        for track in written.iter("track"):
            assert [each.get("frame") for each in track if each.get("outside") == "0"] == [
                str(index) for index, ids in shown.items() if int(track.get("id")) in ids
            ]


def test_where_a_run_stopped_is_no_end_of_its_objects_when_the_file_comes_back(tmp_path, tiny_model):
    frames, out = moving_discs(tmp_path / "frames"), tmp_path / "run"
    shown = run_to(tiny_model, frames, out, start=2, stop=4)
    place = export_masks(out, "cvat-video", tmp_path / "tracks").folder / "annotations.xml"
    assert '<polygon frame="4"' in place.read_text()
    assert [map_name(path) for path in annotated_frames(place)] == [f"@{index}" for index in shown]
    place.write_text(re.sub("<stop_frame>3<", "<stop_frame>7<", place.read_text()))
    assert [map_name(path) for path in annotated_frames(place)] == ["@2", "@3", "@4"]


def test_the_report_of_an_older_run_does_not_say_whether_its_video_goes_on(tmp_path):
    write_run(tmp_path / "run")
    tell(tmp_path / "run", settings={"start": "0", "stop": "5"})
    export_masks(tmp_path / "run", "cvat-video", tmp_path / "tracks")
    track = ET.parse(tmp_path / "tracks/annotations.xml").find("track[@id='1']")
    assert (track[-1].get("frame"), track[-1].get("outside")) == ("4", "0")


def test_tracks_of_cvat_that_do_not_fit_the_pictures_beside_them_are_said(tmp_path, tiny_model, caplog):
    frames, out = moving_discs(tmp_path / "frames"), tmp_path / "run"
    shown = run_to(tiny_model, frames, out, start=3, stop=6)
    export_masks(out, "cvat-video", tmp_path / "tracks")
    assert not caplog.text
    export_masks(out, "cvat-video", tmp_path / "with_pictures", video=frames)
    assert "from 3 to 5" in caplog.text
    tracks = [(tmp_path / each / "annotations.xml").read_text() for each in ("tracks", "with_pictures")]
    assert tracks[0] == tracks[1]
    numbers = {int(each.get("frame")) for each in ET.fromstring(tracks[0]).iter("polygon")}
    assert numbers == {*shown, 6}


def moving_discs(folder):
    """Writes a clip of two discs as a folder of 8 pictures."""
    folder.mkdir()
    for index, frame in enumerate(drawn_clip(8, 32, 48, num_objects=2)[0]):
        Image.fromarray(frame.permute(1, 2, 0).numpy()).save(folder / f"{index:05d}.png")
    return folder


def run_to(model, video, out, **part):
    """Tracks two boxes, and returns the ids shown in each frame."""
    boxes = torch.zeros(2, 32, 48, dtype=torch.bool)
    boxes[0, 4:20, 4:20] = boxes[1, 10:28, 24:44] = True
    with VideoReader(video, **part) as reader:
        first = {1: boxes[0], 2: boxes[1]}
        segment(reader, Tracker(model), out, lambda frame: first if frame.index == part.get("start", 0) else None)
    return {int(p.stem): {*np.unique(read_labels(p)).tolist()} - {0} for p in sorted((out / "masks").iterdir())}


def test_a_tolerance_takes_corners_away_and_few_pixels(tmp_path, run):
    export_masks(run[0], "coco-polygons", tmp_path, tolerance=1.5)
    exact = export_masks(run[0], "coco-polygons", tmp_path / "exact")
    assert (tmp_path / "annotations.json").stat().st_size <= exact.files[0].stat().st_size
    found = read_labels(annotated_frames(tmp_path / "annotations.json")[0])
    assert (found != drawn()[0]).mean() < 0.03


@pytest.mark.parametrize("to", ["coco-polygons", "yolo", "cvat-video"])
def test_what_is_smaller_than_the_tolerance_is_there_all_the_same(tmp_path, run, to):
    rough = export_masks(run[0], to, tmp_path / "rough", tolerance=500.0, video=run[1])
    exact = export_masks(run[0], to, tmp_path / "exact", video=run[1])
    shapes = [path for path in exact.files if path.suffix in (".json", ".xml", ".txt")]
    for path in shapes:
        other = rough.folder / path.relative_to(exact.folder)
        count = {"coco-polygons": '"id"', "yolo": "\n", "cvat-video": "<polygon"}[to]
        assert other.read_text().count(count) == path.read_text().count(count)


@pytest.mark.parametrize("format", ["png", "ffv1", "rle"])
def test_no_mask_is_missed_where_none_is_gone(tmp_path, caplog, format):
    write_run(tmp_path / "run", format)
    table = tmp_path / "run/table.csv"
    if format == "ffv1":  # whose maps have numbers alone
        table.write_text(table.read_text().replace(",0000", ",street_"))
    export_masks(tmp_path / "run", "npz", tmp_path / "out")
    assert not caplog.messages


def test_a_mask_that_is_gone_since_the_run_is_missed(tmp_path, caplog):
    write_run(tmp_path / "run")
    (tmp_path / "run/masks/00002.png").unlink()
    assert export_masks(tmp_path / "run", "coco", tmp_path / "out").frames == 4
    assert "1 of the 5 frames" in caplog.text
    assert "00002" in caplog.text


def test_zarr_and_parquet_hold_what_arrays_and_the_table_hold(tmp_path, run):
    zarr, parquet = pytest.importorskip("zarr"), pytest.importorskip("pyarrow.parquet")
    export_masks(run[0], "zarr", tmp_path / "arrays")
    group = zarr.open_group(str(tmp_path / "arrays/masks.zarr"), mode="r")
    assert np.array_equal(group["labels"][:], np.stack(drawn()))
    assert group.attrs["object_ids"] == list(OBJECTS)
    export_masks(run[0], "table", tmp_path / "table")
    table = parquet.read_table(tmp_path / "table/table.parquet").to_pydict()
    assert table["frame"] == [index for index in range(5) for _ in OBJECTS]
    assert table["area"][:3] == [226, 144, 51]


def test_parquet_has_the_same_types_whatever_the_table_has_at_its_beginning(tmp_path, run):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_run(tmp_path / "run")
    seen = [row for row in (tmp_path / "run/table.csv").read_text().splitlines(True) if ",137," in row]
    header = (tmp_path / "run/table.csv").read_text().splitlines(True)[0]
    hidden = f"0,00000,,137,,,1.0000,0{',' * 6},0,0.0000,,,,0.000\n"
    count = 2**20 // len(hidden) + 100
    (tmp_path / "run/table.csv").write_text("".join([header, *[hidden] * count, *seen]))
    export_masks(tmp_path / "run", "table", tmp_path / "late")
    export_masks(run[0], "table", tmp_path / "timed")
    late, timed = (parquet.read_table(tmp_path / each / "table.parquet") for each in ("late", "timed"))
    assert late.schema == timed.schema
    assert late["area"].to_pylist()[: count + 1] == [0] * count + [51]
    assert late["seconds"].null_count == count
    assert timed["seconds"].null_count == 0
    assert timed.schema.field("frame").type == "int64"
    assert timed.schema.field("certainty").type == "double"
    assert timed.schema.field("class").type == "string"


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """The folder of a batch of two clips in which the same id means another thing, and a third that failed."""
    folder = tmp_path_factory.mktemp("batch")
    for name in ("camels", "day1/street"):
        write_run(folder / name)
    cars = [{"id": object_id, "category": "car", "name": ""} for object_id in OBJECTS]
    (folder / "day1/street/report.json").write_text(json.dumps({"objects": cars}))
    video = str(write_video(folder / "frames"))
    states = {"camels": "done", "day1/street": "complete", "broken": "failed"}
    clips = [{"name": name, "video": video, "state": state} for name, state in states.items()]
    (folder / "report.json").write_text(json.dumps({"manifest": "clips.csv", "clips": clips}))
    return folder


@pytest.mark.parametrize("to", sorted(EXPORT_FORMATS))
def test_all_clips_of_a_batch_are_exported_at_once(tmp_path, batch, to, caplog):
    done = export_masks(batch, to, tmp_path, pictures=True)
    assert done.frames == 10 or to == "table"
    assert "broken (failed)" in caplog.text
    names = {str(path.relative_to(tmp_path)) for path in done.files}
    assert [name for name in names if "camels" in name or to in ("coco", "coco-polygons")]
    assert len({path.name for path in done.files if path.suffix == ".jpg"}) in (0, 5, 10)
    for place in {"cvat-video": "annotations.xml", "mots": "gt/gt.txt"}.get(to, "").split():
        for clip in ("camels", "day1-street"):
            found = labels_by_name(annotated_frames(tmp_path / clip / place), NAMES)
            assert np.array_equal(read_labels(found["00004"]), drawn()[4])


def test_complete_clips_of_an_earlier_manifest_in_the_same_folder_are_named(tmp_path, caplog):
    for name, complete in (("day1/a", True), ("day1/b", False), ("day2/c", True)):
        write_run(tmp_path / "out" / name)
        (tmp_path / "out" / name / "report.json").write_text(json.dumps({"complete": complete}))
    clip = {"name": "day2/c", "video": "c.mp4", "state": "done"}
    batch = {"manifest": "day2.csv", "clips": [clip, {**clip, "name": "day1/b", "state": "failed"}]}
    (tmp_path / "out/report.json").write_text(json.dumps(batch))
    assert export_masks(tmp_path / "out", "coco", tmp_path / "coco").frames == 5
    which = "out is not in the last manifest, day2.csv, and left out: day1/a; export"
    assert which in caplog.text
    caplog.clear()
    batch["clips"].append({**clip, "name": "day1/a", "state": "complete"})
    (tmp_path / "out/report.json").write_text(json.dumps(batch))
    assert export_masks(tmp_path / "out", "coco", tmp_path / "both").frames == 10
    assert "not in the last manifest" not in caplog.text


def test_pictures_with_an_orientation_tag_are_written_upright_as_the_masks_are(tmp_path, run):
    (tmp_path / "frames").mkdir()
    for path in run[1].iterdir():
        tag = Image.Exif()
        tag[ExifTags.Base.Orientation] = 3  # stored upside down
        turned = Image.open(path).transpose(Image.Transpose.ROTATE_180)
        turned.save(tmp_path / "frames" / path.name, exif=tag, quality=95)
    export_masks(run[0], "davis", tmp_path / "out", video=tmp_path / "frames")
    written, drawn_one = Image.open(next((tmp_path / "out").rglob("00002.jpg"))), Image.open(run[1] / "00002.jpg")
    assert orientation_of(written) == 1
    assert np.corrcoef(np.asarray(written).ravel(), np.asarray(drawn_one).ravel())[0, 1] > 0.5
    export_masks(run[0], "davis", tmp_path / "plain", video=run[1])
    assert next((tmp_path / "plain").rglob("00002.jpg")).read_bytes() == (run[1] / "00002.jpg").read_bytes()


@pytest.mark.parametrize(("called", "more"), [("shot_{:03d}", "shot_000_first"), ("{:05d}", "00002_mask_of")])
def test_masks_are_not_exported_with_the_picture_of_another_frame(tmp_path, called, more):
    frames, out = tmp_path / "frames", tmp_path / "run"
    frames.mkdir()
    for index in range(5):
        pixels = picture(index).image.permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(frames / f"{called.format(index + 3)}.png")
    with VideoReader(frames) as video, MaskWriter(out / "masks", "png") as masks, MaskWriter(out, "table") as table:
        for frame, labels in zip(video, drawn(), strict=True):
            hard = torch.stack([torch.from_numpy(labels == each) for each in (0, *OBJECTS)]).float()
            for writer in (masks, table):
                writer.write(Masks(torch.from_numpy(labels), hard, tuple(OBJECTS), frame.index, frame.name), frame)
    export_masks(out, "davis", tmp_path / "davis", video=frames)
    assert len(list((tmp_path / "davis").rglob("*.png"))) == 10
    shutil.copyfile(frames / f"{called.format(4)}.png", frames / f"{more}.png")  # before all others
    with refusal(InputError, called.format(3), "remove"):
        export_masks(out, "davis", tmp_path / "shifted", video=frames)


def test_pictures_that_are_counted_from_1_are_those_of_a_video_that_is_counted_from_0(tmp_path, run):
    (tmp_path / "frames").mkdir()
    for index, path in enumerate(sorted(run[1].iterdir()), 1):
        shutil.copyfile(path, tmp_path / f"frames/{index:05d}.jpg")
    shutil.copytree(run[0], tmp_path / "run")
    with refusal(InputError, "00001"):
        export_masks(tmp_path / "run", "davis", tmp_path / "out", video=tmp_path / "frames")
    tell(tmp_path / "run", settings={"video": "camels.mp4, sha256 00"})
    export_masks(tmp_path / "run", "davis", tmp_path / "out", video=tmp_path / "frames")
    assert len(list((tmp_path / "out").rglob("*.jpg"))) == 5


def tell(out, **more):
    """Adds to what the report of a run says."""
    path = out / "report.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))


@pytest.mark.parametrize("place", ["table.partial.csv", "checkpoint/table.partial.csv"])
def test_a_run_that_was_cut_off_is_exported_with_the_numbers_of_its_frames(tmp_path, run, place):
    (tmp_path / "frames").mkdir()
    write_run(tmp_path / "run")
    for index in reversed(range(5)):
        shutil.copyfile(run[1] / f"{NAMES[index]}.jpg", tmp_path / f"frames/{index + 1:05d}.jpg")
        (tmp_path / f"run/masks/{NAMES[index]}.png").rename(tmp_path / f"run/masks/{index + 1:05d}.png")
    head, *lines = (tmp_path / "run/table.csv").read_text().splitlines(keepends=True)
    parts = [line.split(",", 2) for line in lines]
    lines = [f"{number},{int(name) + 1:05d},{rest}" for number, name, rest in parts]
    (tmp_path / "run/table.csv").unlink()
    (tmp_path / "run/report.json").unlink()
    with refusal(InputError, "00001"):  # nothing says that it is of the first frame
        export_masks(tmp_path / "run", "mot", tmp_path / "doubt", video=tmp_path / "frames")
    path = tmp_path / "run" / place
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join([head, *lines[:7], lines[7][:9]]))
    for video in (None, tmp_path / "frames"):
        export_masks(tmp_path / "run", "mot", tmp_path / "out", video=video, overwrite=True)
        with (tmp_path / "out/gt/gt.txt").open(newline="") as file:
            assert {int(row[0]) for row in csv.reader(file)} == {1, 2, 3, 5}
    assert (tmp_path / "out/img1/000005.jpg").read_bytes() == (tmp_path / "frames/00005.jpg").read_bytes()


@pytest.mark.parametrize("to", ["mot", "mots"])
def test_pictures_of_mot_are_counted_from_1_and_have_one_suffix(tmp_path, run, to):
    frames = shutil.copytree(run[1], tmp_path / "frames")
    with Image.open(frames / "00002.jpg") as image:
        image.save(frames / "00002.png")
    (frames / "00002.jpg").unlink()
    export_masks(run[0], to, tmp_path / "out", video=frames)
    assert sorted(path.name for path in (tmp_path / "out/img1").iterdir()) == [f"{i:06d}.jpg" for i in range(1, 6)]
    with Image.open(tmp_path / "out/img1/000003.jpg") as image:
        assert image.format == "JPEG"
    if to == "mot":
        assert "imExt=.jpg" in (tmp_path / "out/seqinfo.ini").read_text()


def test_pictures_that_are_not_exported_have_the_suffix_that_they_have(tmp_path, run):
    shutil.copytree(run[0], tmp_path / "run")
    frames = tmp_path / "frames"
    frames.mkdir()
    Image.new("RGB", SIZE[::-1]).save(frames / "00000.PNG")
    with VideoReader(frames) as video:
        tell(tmp_path / "run", source=video.facts.to_dict())
    export_masks(tmp_path / "run", "coco", tmp_path / "out")
    images = json.loads((tmp_path / "out/annotations.json").read_text())["images"]
    assert [each["file_name"] for each in images] == [f"{name}.PNG" for name in NAMES]
    Image.new("RGB", SIZE[::-1]).save(frames / "00001.jpg")
    with VideoReader(frames) as video:
        assert "suffix" not in video.facts.to_dict()


def test_a_class_has_any_sign_in_yolo(tmp_path):
    write_run(tmp_path / "run")
    tell(tmp_path / "run", objects=[{"id": i, "category": "🐪", "name": ""} for i in OBJECTS])
    export_masks(tmp_path / "run", "yolo", tmp_path / "out")
    assert '0: "🐪"\n' in (tmp_path / "out/data.yaml").read_text(encoding="utf-8")


def test_an_export_is_replaced_once_its_places_are_free_and_named_when_it_is_there(tmp_path, run, monkeypatch):
    export_masks(run[0], "coco", tmp_path / "out")
    (tmp_path / "out/images").write_text("mine")
    with refusal(OutputError, "images"):
        export_masks(run[0], "coco", tmp_path / "out", video=run[1], overwrite=True)
    assert (tmp_path / "out/annotations.json").exists()
    (tmp_path / "out/images").unlink()
    order = []
    publish = Written.publish
    monkeypatch.setattr(
        Written, "publish", lambda self, partial, target: (order.append(target.name), publish(self, partial, target))
    )
    exported = export_masks(run[0], "coco", tmp_path / "out", video=run[1], overwrite=True)
    assert order == [*(f"{name}.jpg" for name in NAMES), "annotations.json"]
    assert list(exported.files) == sorted(exported.files)


def test_frames_of_several_clips_have_ids_names_and_classes_of_their_own(tmp_path, batch):
    export_masks(batch, "coco", tmp_path / "coco")
    content = json.loads((tmp_path / "coco/annotations.json").read_text())
    assert [(each["id"], each["name"]) for each in content["videos"]] == [(1, "camels"), (2, "day1-street")]
    assert [each["name"] for each in content["categories"]] == ["camel", "car", "object"]
    assert [each["id"] for each in content["images"]] == list(range(10))
    seventh = content["images"][7]
    assert (seventh["file_name"], seventh["video_id"], seventh["frame_index"]) == ("day1-street/00002.jpg", 2, 2)
    of_first = {(each["image_id"] // 5, each["category_id"]) for each in content["annotations"] if each["track_id"] < 3}
    assert of_first == {(0, 1), (1, 2)}
    export_masks(batch, "youtube-vos", tmp_path / "vos")
    videos = json.loads((tmp_path / "vos/meta.json").read_text())["videos"]
    assert [videos[name]["objects"]["1"]["category"] for name in ("camels", "day1-street")] == ["camel", "car"]
    with refusal(InputError, "several videos"):
        export_masks(batch, "yolo", tmp_path / "yolo", video="street.mp4")


def test_an_export_replaces_only_itself_and_only_if_asked(tmp_path, run):
    for _ in range(2):
        export_masks(run[0], "mots", tmp_path / "in/mots", overwrite=True)
    export_masks(run[0], "coco", tmp_path)
    with refusal(OutputError, "already"):
        export_masks(run[0], "coco", tmp_path)
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / ".mnemask-export-killed").mkdir()
    export_masks(run[0], "cvat", tmp_path, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mnemask-written", "annotations.xml", "in", "mine.txt"]
    (tmp_path / "annotations.xml").write_text("corrected by hand")
    with refusal(OutputError, "annotations.xml"):
        export_masks(run[0], "cvat", tmp_path, overwrite=True)
    assert (tmp_path / "annotations.xml").read_text() == "corrected by hand"


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(tmp_path, run):
    (tmp_path / "empty").mkdir()
    with refusal(InputError, "no masks"):
        export_masks(tmp_path / "empty", "coco", tmp_path / "out")
    with refusal(InputError, "frame 0|frame 1"):
        export_masks(run[0], "davis", tmp_path / "out", video=_small_video(tmp_path))
    write_run(tmp_path / "large")
    (tmp_path / "large/report.json").write_text('{"objects": [{"id": 300, "category": "", "name": ""}]}')
    with refusal(InputError, "300"):
        export_masks(tmp_path / "large", "davis", tmp_path / "out")
    write_run(tmp_path / "cut", "rgba")
    last = max((tmp_path / "cut/masks").rglob("*.png"))
    with refusal(InputError, "cannot read", last.name):
        export_masks(tmp_path / "cut", "coco", tmp_path / "out", on_frame=lambda index: last.unlink(missing_ok=True))
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("to", sorted(set(EXPORT_FORMATS) - {"mot", "table"}))  # which are too small
def test_what_the_disk_refuses_is_said_and_nothing_is_left(tmp_path, run, to):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, limit[1]))
    try:
        with refusal(OutputError, str(tmp_path), "make room"):
            export_masks(run[0], to, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def _small_video(folder):
    from PIL import Image

    (folder / "video").mkdir()
    Image.new("RGB", (20, 10)).save(folder / "video/00000.png")
    return folder / "video"


def test_the_command_says_what_it_wrote_and_what_it_needs(tmp_path, run):
    def mnemask(*line):
        return CliRunner().invoke(app, ["export", *map(str, line)])

    assert mnemask(run[0], "--to", "mot", "-o", tmp_path / "mot").exit_code == 0
    assert (tmp_path / "mot/gt/gt.txt").exists()
    assert mnemask(run[0]).exit_code == 2
    assert mnemask(run[0], "--to", "mot", "--onnx", tmp_path / "onnx").exit_code == 2
    assert mnemask(tmp_path / "none", "--to", "mot").exit_code == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", "[1]"),
        ("a.json", '{"shapes": [{"label": "a", "points": [[0, 0]], "shape_type": "mask", "mask": "x"}]}'),
        ("a.json", '[{"data": {"image": "a.jpg"}, "annotations": [{"result": [{"value": {}}]}]}]'),
        ("a.xml", "<annotations"),
        ("a.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotations/>'),
        ("a.xml", f'<annotations>{IMAGE}><mask rle="99" left="0" top="0" width="2" height="2"/></image></annotations>'),
        ("a.xml", f'<annotations>{IMAGE.replace("9", "9999999")}/></annotations>'),
        ("a.txt", "1 2 3"),
        ("a.txt", "1 2 1 9 9 abc"),
    ],
)  # fmt: skip
def test_a_damaged_or_unknown_annotation_file_is_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with refusal((MaskError, FrameError), name):
        label_paths(tmp_path / name)


def test_objects_that_a_file_does_not_tell_apart_are_refused(tmp_path):
    square = {"label": "a", "points": [[0, 0], [0, 4], [4, 4]], "shape_type": "polygon"}
    for name in "01":
        content = {"shapes": [square, square], "imagePath": f"{name}.jpg", "imageHeight": 9, "imageWidth": 9}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    with refusal(MaskError, "which object is which"):
        annotated_frames(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.xml", f'<annotations>{IMAGE}><box label="a" xtl="1" ytl="1" xbr="4" ybr="4"/></image></annotations>'),
        ("a.txt", "1,1,5,4,16,16,1,1,1"),
        (
            "a.json",
            '{"images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}], "categories": [], "annotations": '
            '[{"image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3], "segmentation": []}]}',
        ),
    ],
)
def test_boxes_are_no_masks(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with refusal(MaskError, "boxes"):
        annotated_frames(tmp_path / name)


def test_pycocotools_reads_classes_and_masks(tmp_path, run):
    from pycocotools.coco import COCO

    for to in ("coco", "coco-polygons"):
        export_masks(run[0], to, tmp_path / to)
        coco = COCO(tmp_path / to / "annotations.json")
        assert [coco.cats[each]["name"] for each in sorted(coco.cats)] == ["camel", "object"]
        for index, expected in enumerate(drawn()):
            labels = np.zeros(SIZE, np.int32)
            for annotation in coco.imgToAnns[index]:
                labels[coco.annToMask(annotation) > 0] = annotation["track_id"]
            assert np.array_equal(labels, expected)


def test_mots_has_run_lengths_that_pycocotools_reads(tmp_path, run):
    from pycocotools import mask

    export_masks(run[0], "mots", tmp_path)
    rows = [line.split(" ") for line in (tmp_path / "gt/gt.txt").read_text().splitlines()]
    frame, number, kind, height, width, counts = rows[-1]
    decoded = mask.decode({"size": [int(height), int(width)], "counts": counts.encode()})
    assert (int(frame), int(number), int(kind)) == (5, 137, 2)
    assert np.array_equal(decoded > 0, drawn()[4] == 137)


@pytest.mark.parametrize("place", [".", "masks", "masks/coco"])
def test_an_export_does_not_take_the_place_of_the_masks(tmp_path, place):
    write_run(tmp_path / "run")
    Written(tmp_path / "run").claim(tmp_path / "run/masks/00000.png")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    with refusal(OutputError, "holds|contains"):
        export_masks(tmp_path / "run", "npz", tmp_path / "run" / place, overwrite=True)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before


def test_no_export_takes_the_place_of_another_run(tmp_path):
    write_run(tmp_path / "run")
    write_run(tmp_path / "other")
    Written(tmp_path / "other").claim(tmp_path / "other/masks/00000.png")
    with refusal(OutputError, "holds a run"):
        export_masks(tmp_path / "run", "npz", tmp_path / "other", overwrite=True)


def test_frames_of_a_long_project_have_the_names_that_a_run_gives_them(tmp_path, run, monkeypatch):
    with Project.create(tmp_path / "project", run[1]) as project:
        monkeypatch.setattr(project.frames, "files", None)  # as of a video file
        monkeypatch.setattr(Project, "num_frames", 100_001)
        frame = next(iter(open_finished(project, ExitStack())))
    assert (frame.name, frame.file_name) == ("000000", "000000.jpg")


def test_that_a_run_is_not_complete_is_said(tmp_path, caplog):
    write_run(tmp_path / "run")
    export_masks(tmp_path / "run", "npz", tmp_path / "whole")
    assert not caplog.messages
    (tmp_path / "run/checkpoint").mkdir()
    export_masks(tmp_path / "run", "npz", tmp_path / "half")
    assert "not complete" in caplog.text
