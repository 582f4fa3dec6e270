"""Manifests as people and programs write them, and what is said of those that cannot be used."""

from pathlib import Path

import pytest
from PIL import Image
from refusals import refusal

from mnemask.errors import InputError
from mnemask.manifest.folder import read_folder
from mnemask.manifest.lines import Column, read_manifest

COLUMNS = [
    Column("video", is_path=True),
    Column("mask", is_path=True),
    Column("click", many=True),
    Column("object", many=True),
    Column("size"),
    Column("overlay", flag=True),
]


@pytest.fixture
def folder(tmp_path):
    for name in ("street.mp4", "zoo.mov", "first.png"):
        (tmp_path / name).write_bytes(b"12345")
    return tmp_path


def read(folder, text, name="clips.csv", **how):
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_manifest(folder / name, COLUMNS, **how)


def faults(found):
    return [(fault.problem.partition(": ")[0], str(fault)) for fault in found.faults]


CSV = 'video,mask,click,object,size,overlay,_by\nstreet.mp4,first.png,"1=3,4; 2=5,6",1=car,240,yes,AB\nzoo.mov,,,,,,\n'
SEMICOLONS = (
    "\ufeffvideo;mask;click;object;size;overlay;_by\r\n"
    'street.mp4;first.png;"1=3,4;2=5,6";1=car;240;true;AB\r\nzoo.mov\r\n'
)
JSONL = (
    '{"video": "street.mp4", "masks": "first.png", "clicks": {"1": [3, 4], "2": [[5.0, 6]]}, "objects": {"1": "car"}, '
    '"size": 240, "overlay": true, "_by": "AB"}\n\n# a comment\n{"video": "zoo.mov", "size": null}\n'
)


@pytest.mark.parametrize(("name", "text"), [("a.csv", CSV), ("b.csv", SEMICOLONS), ("c.jsonl", JSONL)])
def test_all_kinds_say_the_same(folder, name, text):
    found = read(folder, text, name)
    assert not found.faults, found.faults
    street, zoo = found.clips
    assert street.options == {
        "video": str(folder / "street.mp4"),
        "mask": str(folder / "first.png"),
        "click": ["1=3,4", "2=5,6"],
        "object": ["1=car"],
        "size": "240",
        "overlay": True,
    }
    assert (street.name, street.notes, street.size) == ("street", {"_by": "AB"}, 5)
    assert (zoo.name, zoo.options) == ("zoo", {"video": str(folder / "zoo.mov")})


def test_defaults_hold_where_a_line_says_nothing(folder):
    found = read(folder, "video,size\nstreet.mp4,100\nzoo.mov,\n", defaults={"size": "240", "overlay": True})
    assert [clip.options["size"] for clip in found.clips] == ["100", "240"]


def test_each_wrong_line_gets_a_sentence_with_its_number_and_the_right_ones_stay(folder):
    text = (
        "video,size,overlay,name\n"
        '"street.mp4,3\n",,,\n'  # 2 and 3, one line of the table
        "lost.mp4,,,\n"  # 4
        ",3,,\n"
        "street.mp4,,maybe,\n"
        "street.mp4,,,../up\n"
        "street.mp4,,,Report.json\n"
        "street.mp4,,,,too,many\n"  # 9
        "\n"
        "# a comment\n"
        "zoo.mov,,,\n"
    )
    found = read(folder, text)
    assert [clip.line for clip in found.clips] == [12]
    said = faults(found)
    assert [where for where, _ in said] == [f"clips.csv, line {number}" for number in (2, 4, 5, 6, 7, 8, 9)]
    for (_, sentence), fact in zip(
        said, ("street.mp4,3", "lost.mp4", "video", "'maybe'", "'../up'", "'Report.json'", "6 values"), strict=True
    ):
        assert fact in sentence
    assert all(fault.remedy for fault in found.faults)


def test_a_quote_that_is_not_closed_takes_no_clip_along(folder):
    text = 'video,mask,_note\nzoo.mov,,\nstreet.mp4,,"5 inch monitor\nzoo.mov,first.png,\n'
    found = read(folder, text)
    assert [clip.line for clip in found.clips] == [2]
    assert [where for where, _ in faults(found)] == ["clips.csv, line 3"]
    assert "quote" in faults(found)[0][1]
    assert len(read(folder, 'video,_note\nzoo.mov,5" monitor\nstreet.mp4,"5"" monitor"\n').clips) == 2


def test_comments_hold_any_quotes_and_blanks_behind_a_value_in_quotes_are_none_of_it(folder):
    text = 'video,mask,_note\n# der "schnelle, "laute" Clip\n"street.mp4" , first.png,"a ""b"" , c" \n# "\nmo.mov,,\n'
    found = read(folder, text)
    (clip,) = found.clips
    assert (clip.line, Path(clip.options["mask"]).name) == (3, "first.png")
    assert [where for where, _ in faults(found)] == ["clips.csv, line 5"]


def test_a_comment_may_be_in_quotes_or_indented(folder):
    found = read(folder, '"# of Monday, second camera",\nvideo,mask\n  # street.mp4,first.png\nstreet.mp4,first.png\n')
    assert [clip.line for clip in found.clips] == [4]
    assert not faults(found)
    found = read(folder, "  # day; night; dusk\nvideo,mask\nstreet.mp4,first.png\n")
    assert [clip.line for clip in found.clips] == [3]
    assert not faults(found)


def test_lines_that_are_no_json_are_told_apart(folder):
    found = read(folder, '{"video": "zoo.mov"}\n{"video": \n[1]\n{"size": 1, "size": 2}\n', "clips.jsonl")
    assert [clip.name for clip in found.clips] == ["zoo"]
    assert [where for where, _ in faults(found)] == [f"clips.jsonl, line {number}" for number in (2, 3, 4)]


def test_a_column_that_is_none_is_met_with_the_one_that_was_meant(folder):
    (fault,) = read(folder, "video,sise\nstreet.mp4,3\n").faults
    assert "'sise'" in fault.problem
    assert "'size'" in fault.remedy


@pytest.mark.parametrize("names", [("a", "a"), ("a", "A"), ("a", "a/b"), ("a/b", "a"), ("caf\u00e9", "cafe\u0301")])
def test_two_clips_have_two_folders(folder, names):
    found = read(folder, "video,name\n" + "".join(f"street.mp4,{name}\n" for name in names))
    assert [clip.name for clip in found.clips] == [names[0]]
    (fault,) = found.faults
    assert "line 3" in fault.problem
    assert "line 2" in fault.problem


def test_the_check_of_the_worker_is_part_of_it(folder):
    def check(options):
        if "size" in options:
            raise InputError("no room", "make some")

    found = read(folder, "video,size\nstreet.mp4,3\nzoo.mov,\n", check=check)
    assert [clip.name for clip in found.clips] == ["zoo"]
    assert "no room" in found.faults[0].problem


@pytest.mark.parametrize(
    ("name", "text", "fact"),
    [
        ("clips.xlsx", b"PK", "xlsx"),
        ("clips.csv", b"video\n\xff\xfe", "UTF-8"),
        ("clips.csv", "film,mask\na,b\n", "'film'"),
        ("clips.csv", "video,video\na,b\n", "two columns"),
        ("clips.csv", "video,mask\n", "no clip"),
        ("clips.csv", "", "no clip"),
    ],
)
def test_what_is_no_manifest_is_refused_whole(folder, name, text, fact):
    with refusal(InputError, fact):
        read(folder, text, name)


def test_a_manifest_that_is_not_there_is_refused(tmp_path):
    with refusal(InputError, "lost.csv"):
        read_manifest(tmp_path / "lost.csv", COLUMNS)


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4)).save(path)


def test_paths_of_a_manifest_at_an_address_are_relative_to_it(tmp_path):
    (tmp_path / "clips.csv").write_text("video,mask\nday/street.mp4,gs://b/street.png\n/data/dock.mp4,\n")
    found = read_manifest(tmp_path / "clips.csv", COLUMNS, base="s3://bucket/run")
    assert [dict(clip.options) for clip in found.clips] == [
        {"video": "s3://bucket/run/day/street.mp4", "mask": "gs://b/street.png"}
    ]
    assert "/data/dock.mp4" in str(found.faults[0]), "what is on the disk is looked for"


def test_a_folder_gives_each_video_the_mask_beside_it(tmp_path):
    for name in ("b10.mp4", "b9.mp4", "notes.txt"):
        (tmp_path / name).touch()
    picture(tmp_path / "b9.png")
    picture(tmp_path / "b10.masks/00000.png")
    picture(tmp_path / "frames7/00000.png")
    found = read_folder(tmp_path, COLUMNS)
    assert [(clip.name, Path(clip.options.get("mask", "")).name) for clip in found.clips] == [
        ("b9", "b9.png"),
        ("b10", "b10.masks"),
        ("frames7", ""),
    ]


def save_pictures(path, number=2):
    pages = [Image.new("RGB", (8, 8), (90 * page, 9, 9)) for page in range(number)]
    pages[0].save(path, save_all=True, append_images=pages[1:])


@pytest.mark.parametrize(
    "suffix", [".mp4", ".MKV", ".3gp", ".asf", ".dv", ".f4v", ".flv", ".m2v", ".mod", ".ogv", ".vob", ".y4m"]
)
def test_each_video_of_a_folder_is_a_clip_whatever_its_format(tmp_path, suffix):
    (tmp_path / f"street{suffix}").write_bytes(b"12345")
    picture(tmp_path / "street.png")
    found = read_folder(tmp_path, COLUMNS)
    assert [Path(clip.options["mask"]).name for clip in found.clips] == ["street.png"]
    assert not found.notes


@pytest.mark.parametrize("other", ["street.vob", "intro.vob", "driver.mod", "street.DV"])
def test_a_file_with_a_rare_suffix_is_no_clip_beside_a_video_of_its_name_or_without_a_mask(tmp_path, other):
    for name in ("street.mp4", other):
        (tmp_path / name).write_bytes(b"12345")
    picture(tmp_path / "street.png")
    assert [Path(clip.options["video"]).name for clip in read_folder(tmp_path, COLUMNS).clips] == ["street.mp4"]


@pytest.mark.parametrize("suffix", [".gif", ".tif", ".tiff", ".webp"])
@pytest.mark.parametrize("places", [("", ""), ("videos/", "masks/")])
def test_a_file_of_several_pictures_is_a_clip_if_it_has_a_mask(tmp_path, suffix, places):
    for place in places:
        (tmp_path / place).mkdir(exist_ok=True)
    save_pictures(tmp_path / f"{places[0]}street{suffix}")
    picture(tmp_path / f"{places[1]}street.png")
    save_pictures(tmp_path / f"{places[0]}film{suffix}")
    found = read_folder(tmp_path, COLUMNS)
    assert [(Path(clip.options["video"]).name, Path(clip.options["mask"]).name) for clip in found.clips] == [
        (f"street{suffix}", "street.png")
    ]
    assert not found.notes


def test_masks_of_several_pages_beside_a_video_are_no_clips(tmp_path):
    (tmp_path / "street.mp4").write_bytes(b"12345")
    save_pictures(tmp_path / "street.tif")
    picture(tmp_path / "street.png")
    assert [Path(clip.options["video"]).name for clip in read_folder(tmp_path, COLUMNS).clips] == ["street.mp4"]


def test_files_of_a_folder_that_have_masks_but_are_left_out_are_named(tmp_path):
    (tmp_path / "street.mp4").write_bytes(b"12345")
    for name in ("street.srt", "dock.xyz", "notes.txt"):
        (tmp_path / name).touch()
    save_pictures(tmp_path / "pier.tif", 1)
    for name in ("street", "dock", "pier"):
        picture(tmp_path / f"{name}.png")
    found = read_folder(tmp_path, COLUMNS)
    assert [clip.name for clip in found.clips] == ["street"]
    (note,) = found.notes
    assert note.startswith("dock.xyz, pier.tif: left out")
    (tmp_path / "street.mp4").unlink()
    with refusal(InputError, "holds no clip", "dock.xyz"):
        read_folder(tmp_path, COLUMNS)


@pytest.mark.parametrize("mask", ["cam.left.png", "cam.left.masks/0.png", "masks/cam.left.png", "masks/cam.left/0.png"])
def test_a_folder_of_frames_with_a_dot_in_its_name_has_its_mask(tmp_path, mask):
    for number in range(2):
        picture(tmp_path / ("videos" if mask.startswith("masks/") else "") / f"cam.left/{number}.png")
    picture(tmp_path / mask)
    (clip,) = read_folder(tmp_path, COLUMNS).clips
    assert clip.name == "cam.left"
    assert Path(clip.options["mask"]) in ((tmp_path / mask).resolve(), (tmp_path / mask).parent.resolve())


def test_of_a_dataset_only_the_first_mask_is_given_and_that_is_said(tmp_path):
    for name in ("00000", "00001"):
        picture(tmp_path / f"JPEGImages/480p/bear/{name}.jpg")
        picture(tmp_path / f"Annotations/480p/bear/{name}.png")
    found = read_folder(tmp_path, COLUMNS)
    (clip,) = found.clips
    assert (clip.name, Path(clip.options["mask"]).name) == ("bear", "00000.png")
    assert "00000.png" in found.notes[0]


def test_depth_beside_the_frames_does_not_make_the_truth_of_every_frame_prompts(tmp_path):
    for name in ("00000", "00001"):
        for place in (f"clips/bear/{name}.jpg", f"clips/bear/{name}.pgm", f"masks/bear/{name}.png"):
            picture(tmp_path / place)
    (clip,) = read_folder(tmp_path, COLUMNS).clips
    assert Path(clip.options["mask"]).name == "00000.png"


def test_of_a_dataset_the_first_frame_has_its_own_mask_and_no_earlier_one(tmp_path):
    for place, indices in (("clips/s", range(3, 6)), ("masks/s", range(6)), ("clips/t", (9, 10)), ("masks/t", (10, 9))):
        for index in indices:
            picture(tmp_path / place / f"{index}.png")
    for index in (0, 1):
        picture(tmp_path / f"clips/u/{index}.png")
        picture(tmp_path / f"masks/u/{index + 1}.png")
    found = read_folder(tmp_path, COLUMNS)
    assert [Path(clip.options["mask"]).name for clip in found.clips] == ["3.png", "9.png", "u"]


@pytest.mark.parametrize(
    ("video", "mask"),
    [("A.mp4", "A.PNG"), ("A.MP4", "A.Masks"), ("caf\u00e9.mp4", "cafe\u0301.png"), ("videos/B.mov", "masks/B.TIF")],
)
def test_a_mask_has_the_name_of_its_clip_however_its_suffix_and_accents_are_written(tmp_path, video, mask):
    (tmp_path / video).parent.mkdir(exist_ok=True)
    (tmp_path / video).write_bytes(b"12345")
    picture(tmp_path / (mask if Path(mask).suffix.lower() != ".masks" else f"{mask}/0.png"))
    (clip,) = read_folder(tmp_path, COLUMNS).clips
    assert Path(clip.options["mask"]).name == Path(mask).name


def test_a_clip_of_a_folder_without_a_mask_is_named_with_the_mask_that_is_expected(folder):
    def check(options):
        if "mask" not in options:
            raise InputError("there is nothing to track", "give a mask")

    picture(folder / "street.png")
    found = read_folder(folder, COLUMNS, check)
    assert [clip.name for clip in found.clips] == ["street"]
    (fault,) = found.faults
    assert all(fact in str(fault) for fact in ("zoo.mov", "zoo.png", "nothing to track"))
    assert "line" not in str(fault)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-8"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_manifest_from_a_spreadsheet_is_read_in_its_encodings_and_with_capitals_in_its_head(folder, encoding, end):
    text = end.join(("Video\tMask\tSize\t_Note", "street.mp4\tfirst.png\t480\tB\u00e4r", ""))
    (clip,) = read(folder, text.encode(encoding), "clips.txt").clips
    assert (clip.name, clip.options["size"], clip.notes) == ("street", "480", {"_Note": "B\u00e4r"})


def test_a_folder_without_clips_is_refused(tmp_path):
    with refusal(InputError, "no clip"):
        read_folder(tmp_path, COLUMNS)
