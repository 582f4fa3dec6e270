"""What is at a place that a run writes to: nothing, an earlier run's, or somebody else's, which is never touched."""

import contextlib
import json
import os
import sys

import av
import numpy as np
import pytest
import torch
from drawn_clip import drawn_clip
from refusals import refusal

import mnemask as mm
from mnemask.cli.inputs import of_files, of_masks
from mnemask.errors import InputError, MissingExtraError, OutputError
from mnemask.export import export_masks
from mnemask.io import MASK_FORMATS
from mnemask.io.stream import frames_before
from mnemask.io.written import INDEX, Written
from mnemask.memory.trace import TraceFile
from mnemask.pipeline import VideoOutputs
from mnemask.pipeline.estimates import refuse_without_room
from mnemask.pipeline.expected import Expected
from mnemask.prompts.mask_folder import mask_files
from mnemask.types import frame_name

NUM_FRAMES = 5
# Every kind of output, and how to have it.
KINDS = {
    "report.json": {},
    "table.csv": {},
    "table.partial.csv": {},
    "preview.png": {"preview": lambda frame, given: b"a picture"},
    "overlay.mp4": {"videos": VideoOutputs(("overlay",))},
    "overlay.partial.mp4": {"videos": VideoOutputs(("overlay",))},
    "overlay.partial.0.nut": {"videos": VideoOutputs(("overlay",)), "checkpoint_every": None},
    "masks/00000.png": {},
    "masks/00004.png": {},
    "masks/1/00003.png": {"mask_format": "rgba"},
    "masks/masks.mkv": {"mask_format": "ffv1"},
    "masks/masks.partial.mkv": {"mask_format": "ffv1"},
    "masks/masks.json": {"mask_format": "rle"},
    "masks/masks.partial.json": {"mask_format": "rle"},
    "masks/masks.partial.images": {"mask_format": "rle", "checkpoint_every": None},
    "checkpoint/mine.txt": {},
    "checkpoint": {},
    "masks": {},
}
MINE = b"made by hand"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A folder of frames and the first mask."""
    folder = tmp_path_factory.mktemp("clip") / "frames"
    folder.mkdir()
    frames, masks = drawn_clip(NUM_FRAMES, 32, 48)
    for index, frame in enumerate(frames):
        write_image(folder / f"{index:05d}.png", frame)
    return folder, {1: masks[0, 0]}


def write_image(path, frame):
    from PIL import Image

    Image.fromarray(frame.permute(1, 2, 0).numpy()).save(path)


def run(tiny_model, out, clip, **options):
    folder, first = clip
    tracker = mm.Tracker(tiny_model, short_side=None)
    with mm.VideoReader(folder) as video:
        prompts = options.pop("prompts", lambda frame: first if frame.index == 0 else None)
        return mm.segment(options.pop("frames", video), tracker, out, prompts, **options)


def files(out):
    told = (INDEX, "report.json")
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*")
            if path.is_file() and path.name not in told}  # fmt: skip


@pytest.mark.parametrize("how", [{}, {"overwrite": True}])
@pytest.mark.parametrize("place", KINDS)
def test_somebody_elses_file_is_never_replaced(tiny_model, tmp_path, clip, place, how):
    path = tmp_path / "out" / place
    path.parent.mkdir(parents=True)
    path.write_bytes(MINE)
    with refusal(OutputError, "the"):
        run(tiny_model, tmp_path / "out", clip, **KINDS[place], **how)
    assert files(tmp_path / "out") | {"report.json": MINE} == {place: MINE, "report.json": MINE}


@pytest.mark.parametrize("place", [place for place in KINDS if "partial" not in place and "checkpoint" not in place])
def test_what_a_run_wrote_is_replaced_and_removed_when_that_is_asked(tiny_model, tmp_path, clip, place):
    run(tiny_model, tmp_path, clip, **KINDS[place])
    assert (tmp_path / place).exists()
    before = files(tmp_path)
    with refusal(OutputError, "already"):
        run(tiny_model, tmp_path, clip, **KINDS[place])
    assert files(tmp_path) == before
    run(tiny_model, tmp_path, clip, mask_format="png", overwrite=True)
    assert files(tmp_path).keys() == {"table.csv", *(f"masks/{index:05d}.png" for index in range(NUM_FRAMES))}


@pytest.mark.parametrize("how", [{}, {"overwrite": True}])
def test_any_hour_of_parquet_has_a_place_of_its_own_and_what_is_called_otherwise_stays(tiny_model, tmp_path, clip, how):
    pytest.importorskip("pyarrow")
    run(tiny_model, tmp_path / "out", clip)
    mine = tmp_path / "out/masks/masks-00007.parquet"
    mine.write_bytes(MINE)
    before = files(tmp_path / "out")
    with refusal(OutputError):
        run(tiny_model, tmp_path / "out", clip, mask_format="parquet", **how)
    assert files(tmp_path / "out") == before
    mine = mine.rename(mine.with_name("masks-summary.parquet"))
    run(tiny_model, tmp_path / "out", clip, mask_format="parquet", overwrite=True)
    assert (tmp_path / "out/masks/masks-00000.parquet").exists()
    assert mine.read_bytes() == MINE


@pytest.mark.parametrize(("kind", "how"), [("rle", {}), ("parquet", {}), ("webm", {"encoder": "nosuch"})])
def test_what_is_not_installed_does_not_cost_the_former_run(tiny_model, tmp_path, clip, monkeypatch, kind, how):
    run(tiny_model, tmp_path, clip)
    before = files(tmp_path)
    for package in ("pycocotools", "pyarrow"):
        monkeypatch.setitem(sys.modules, package, None)
    for name, value in how.items():
        monkeypatch.setattr(MASK_FORMATS[kind], name, value)
    more = {"videos": VideoOutputs((kind,))} if how else {"mask_format": kind}
    with refusal((OutputError, MissingExtraError)):
        run(tiny_model, tmp_path, clip, overwrite=True, **more)
    assert files(tmp_path) == before


@pytest.mark.parametrize("place", [place for place in KINDS if "partial" not in place and "." in place][:-1])
@pytest.mark.parametrize("change", [lambda path: path.write_bytes(MINE), lambda path: path.write_bytes(b"")])
def test_what_was_changed_by_hand_since_is_somebody_elses(tiny_model, tmp_path, clip, place, change):
    run(tiny_model, tmp_path, clip, **KINDS[place])
    change(tmp_path / place)
    before = files(tmp_path)
    with refusal(OutputError, "the"):
        run(tiny_model, tmp_path, clip, **KINDS[place], overwrite=True)
    assert files(tmp_path) == before


def test_a_run_does_not_take_the_place_of_a_batch(tiny_model, tmp_path, clip):
    Written(tmp_path).write(tmp_path / "report.html", "of many clips")
    with refusal(OutputError, "batch"):
        run(tiny_model, tmp_path, clip, overwrite=True)
    assert (tmp_path / "report.html").exists()


def test_overwriting_leaves_what_no_run_wrote(tiny_model, tmp_path, clip):
    run(tiny_model, tmp_path, clip, videos=VideoOutputs(("overlay",)))
    (tmp_path / "masks/notes.txt").write_bytes(MINE)
    (tmp_path / "overlay.partial.mov").write_bytes(MINE)
    (tmp_path / "mine").mkdir()
    run(tiny_model, tmp_path, clip, overwrite=True, mask_format="rle")
    assert files(tmp_path).keys() == {"masks/notes.txt", "overlay.partial.mov", "masks/masks.json", "table.csv"}
    assert (tmp_path / "mine").is_dir()


def test_a_copied_folder_is_still_known_and_a_copied_mask_is_not(tiny_model, tmp_path, clip):
    import shutil

    run(tiny_model, tmp_path / "one", clip)
    shutil.copytree(tmp_path / "one", tmp_path / "two", copy_function=shutil.copyfile)  # other times of change
    run(tiny_model, tmp_path / "two", clip, overwrite=True)
    (tmp_path / "three/masks").mkdir(parents=True)
    shutil.copy(tmp_path / "one/masks/00000.png", tmp_path / "three/masks/00000.png")
    with refusal(OutputError, "the"):
        run(tiny_model, tmp_path / "three", clip, overwrite=True)


def test_a_first_mask_that_is_wrong_does_not_cost_the_former_run(tiny_model, tmp_path, clip):
    run(tiny_model, tmp_path, clip)
    before = files(tmp_path)
    with pytest.raises(InputError):
        run(tiny_model, tmp_path, (clip[0], {1: torch.zeros(32, 48, dtype=torch.bool)}), overwrite=True)
    assert files(tmp_path) == before
    assert json.loads((tmp_path / "report.json").read_text())["complete"]


def test_a_file_that_comes_while_the_run_is_under_way_is_kept(tiny_model, tmp_path, clip):
    def intrude(progress, masks):
        if masks.index == 1:
            (tmp_path / "masks/00004.png").write_bytes(MINE)

    with refusal(OutputError, "the"):
        run(tiny_model, tmp_path, clip, on_frame=intrude)
    assert (tmp_path / "masks/00004.png").read_bytes() == MINE
    assert {"masks/00000.png", "masks/00003.png"} <= files(tmp_path).keys()


def test_a_stream_of_unknown_length_sees_its_masks_in_the_way_too(tiny_model, tmp_path, clip):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/00003.png").write_bytes(MINE)
    with mm.VideoReader(clip[0]) as video:
        frames = list(video)
    with refusal(OutputError, "the"):
        run(tiny_model, tmp_path, clip, frames=iter(frames))
    assert files(tmp_path) == {"masks/00003.png": MINE}


def test_an_input_is_never_an_output(tiny_model, tmp_path, clip):
    run(tiny_model, tmp_path / "out", clip)
    before = files(tmp_path)
    mask = tmp_path / "out/masks/00000.png"
    with refusal(OutputError, "read"):
        run(tiny_model, tmp_path / "out", clip, overwrite=True, inputs=[mask])
    with refusal(OutputError, "read"):  # as a folder of masks
        run(tiny_model, tmp_path / "out", clip, overwrite=True, inputs=[tmp_path / "out/masks"])
    bank = tmp_path / "out/checkpoint/000000000004.bank"
    bank.parent.mkdir()
    Written(tmp_path / "out").claim(bank.parent)
    bank.write_bytes(MINE)
    with refusal(OutputError, "read"):
        run(tiny_model, tmp_path / "out", clip, overwrite=True, inputs=[bank])
    assert bank.read_bytes() == MINE
    bank.unlink()
    before = files(tmp_path)
    os.link(mask, tmp_path / "same.png")
    with refusal(OutputError, "read"):
        run(tiny_model, tmp_path / "out", clip, overwrite=True, inputs=[tmp_path / "same.png"])
    (tmp_path / "same.png").unlink()
    with refusal(OutputError, "read"):
        run(tiny_model, tmp_path / "out", (tmp_path / "out/masks", clip[1]), overwrite=True, mask_format="rle")
    assert files(tmp_path) == before


def test_a_map_inside_a_file_of_the_earlier_run_is_not_removed(tiny_model, tmp_path, clip):
    out = tmp_path / "out"
    run(tiny_model, out, clip, mask_format="ffv1")
    before = files(tmp_path)
    with refusal(OutputError, r"masks\.mkv", "read"):
        run(tiny_model, out, clip, overwrite=True, inputs=[out / "masks/masks.mkv/00002"])
    assert files(tmp_path) == before
    (named,) = of_files(out / "masks/masks.mkv/00002")
    assert named == f"00002 of {of_files(out / 'masks/masks.mkv')[0]}"


def test_masks_are_not_written_among_the_frames(tiny_model, tmp_path, clip):
    (tmp_path / "masks").symlink_to(clip[0])
    with refusal(OutputError, "frames"):
        run(tiny_model, tmp_path, clip)
    (tmp_path / "out/masks").mkdir(parents=True)
    (tmp_path / "out/masks/1").symlink_to(clip[0])
    with refusal(OutputError, "frames"):
        run(tiny_model, tmp_path / "out", (tmp_path / "out/masks/1", clip[1]), mask_format="rgba")
    assert len(files(tmp_path / "out/masks/1")) == NUM_FRAMES


def test_names_have_as_many_digits_as_the_whole_video_needs_though_a_run_ends_early(tmp_path):
    expected = Expected(3, total=200_000)
    assert expected.names(1) == [frame_name(1, 200_000), frame_name(2, 200_000)]
    with av.open(str(tmp_path / "long.mp4"), "w") as video:
        stream = video.add_stream("libx264", rate=25)
        stream.height = stream.width = 16
        for _ in range(4):
            video.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
        video.mux(stream.encode(None))
    with mm.VideoReader(tmp_path / "long.mp4", stop=2) as video:
        assert (Expected.of(video).num_frames, Expected.of(video).total) == (2, 4)


@pytest.mark.parametrize("place", ["out/report.json", "out/masks/x.jsonl", "out/checkpoint/x", "first.png", "no/x"])
def test_a_trace_has_a_place_of_its_own(tiny_model, tmp_path, clip, place):
    (tmp_path / "first.png").write_bytes(MINE)
    (tmp_path / "out/masks").mkdir(parents=True)
    tracker = mm.Tracker(tiny_model, short_side=None)
    with contextlib.suppress(OutputError):
        tracker.memory.trace = TraceFile(tmp_path / place, overwrite=True)
        with mm.VideoReader(clip[0]) as video, refusal(OutputError, "trace"):
            mm.segment(video, tracker, tmp_path / "out", lambda frame: clip[1], inputs=[tmp_path / "first.png"])
    assert files(tmp_path) == {"first.png": MINE}


def test_a_trace_replaces_a_trace_and_nothing_else(tmp_path):
    (tmp_path / "first.png").write_bytes(MINE)
    with refusal(OutputError, "trace"):
        TraceFile(tmp_path / "first.png", overwrite=True)


def test_a_trace_in_the_runs_folder_is_its_own_until_it_is_changed(tiny_model, tmp_path, clip):
    def traced(**options):
        tracker = mm.Tracker(tiny_model, short_side=None)
        with (
            TraceFile(tmp_path / "out/t.jsonl", overwrite=True) as tracker.memory.trace,
            mm.VideoReader(clip[0]) as video,
        ):
            mm.segment(video, tracker, tmp_path / "out", lambda frame: clip[1] if frame.index == 0 else None, **options)

    (tmp_path / "out").mkdir()
    traced()
    lines = (tmp_path / "out/t.jsonl").read_text()
    traced(overwrite=True)
    assert (tmp_path / "out/t.jsonl").read_text() == lines
    run(tiny_model, tmp_path / "out", clip, overwrite=True)
    assert not (tmp_path / "out/t.jsonl").exists()
    traced(overwrite=True)
    (tmp_path / "out/t.jsonl").write_bytes(MINE)
    run(tiny_model, tmp_path / "out", clip, overwrite=True)
    assert (tmp_path / "out/t.jsonl").read_bytes() == MINE


def test_masks_are_not_written_among_those_that_are_given(tiny_model, tmp_path, clip):
    given = tmp_path / "out/masks"
    (given / "1").mkdir(parents=True)
    for folder, mask_format in ((given, "ffv1"), (given, "rgba"), (given / "1", "rgba")):
        with refusal(OutputError, "read by this run"):
            run(tiny_model, tmp_path / "out", clip, inputs=[folder], mask_format=mask_format)
    run(tiny_model, tmp_path / "out", clip, inputs=[given / "1"])


def test_masks_for_a_frame_beyond_the_end_are_refused_before_the_first(tiny_model, tmp_path, clip):
    class Prompts:
        def __init__(self):
            self.to_come = {NUM_FRAMES: [2]}

        def __call__(self, frame):
            return clip[1] if frame.index == 0 else None

    with refusal(InputError, rf"{NUM_FRAMES}"):
        run(tiny_model, tmp_path / "out", clip, prompts=Prompts())
    assert not (tmp_path / "out").exists()


class LaterPrompts:
    """The first mask, and an object that is to come in another frame."""

    def __init__(self, clip, later):
        self.first, self.to_come = clip[1], {later: [2]}

    def __call__(self, frame):
        self.to_come.pop(frame.index, None)
        return self.first if frame.index == 0 else None


def encoded(clip, path):
    with mm.VideoReader(clip[0]) as video:
        pictures = [frame.image.permute(1, 2, 0).numpy() for frame in video]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".mp4"])
def test_masks_just_beyond_the_end_of_a_video_are_refused_before_the_first_frame(tiny_model, tmp_path, clip, suffix):
    path = encoded(clip, tmp_path / f"v{suffix}")
    for last in (NUM_FRAMES, NUM_FRAMES - 1):
        expected = refusal(InputError, f"{NUM_FRAMES}") if last == NUM_FRAMES else contextlib.nullcontext()
        with expected, mm.VideoReader(path) as video:
            mm.segment(video, mm.Tracker(tiny_model, short_side=None), tmp_path / "out", LaterPrompts(clip, last))
        assert (tmp_path / "out").exists() == (last < NUM_FRAMES)


@pytest.mark.parametrize("later", [2, 3, 4])
def test_masks_just_beyond_a_stop_that_is_a_time_are_refused_before_an_earlier_run_is_removed(
    tiny_model, tmp_path, clip, later
):
    path, out = encoded(clip, tmp_path / "v.mp4"), tmp_path / "out"
    run(tiny_model, out, clip)
    before = files(out)
    with refusal(InputError, f"frame {later}", "--stop 0.08s"), mm.VideoReader(path, stop="0.08s") as video:
        run(tiny_model, out, clip, frames=video, prompts=LaterPrompts(clip, later), overwrite=True)
    assert files(out) == before


@pytest.mark.parametrize(("later", "stop"), [(3, "0.08s"), (4, 4)])
def test_masks_beyond_a_stop_that_the_packets_do_not_tell_are_refused_with_the_stop(
    tiny_model, tmp_path, clip, monkeypatch, later, stop
):
    monkeypatch.setattr("mnemask.pipeline.expected.frames_before", lambda path, reached, enough: None)
    path = encoded(clip, tmp_path / "v.mp4")
    with refusal(InputError, f"frame {later}", f"--stop {stop}"), mm.VideoReader(path, stop=stop) as video:
        run(tiny_model, tmp_path / "out", clip, frames=video, prompts=LaterPrompts(clip, later))
    assert (tmp_path / "out").exists() == (stop != 4)


def test_packets_of_a_long_video_are_read_only_up_to_the_frame_that_matters(tmp_path):
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(200):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    asked = []

    def reached(seconds, stop=5.0):
        asked.append(seconds)
        return seconds >= stop

    assert frames_before(path, reached, 9) == 9
    assert len(asked) < 50
    assert [frames_before(path, reached, enough) for enough in (124, 125, 126)] == [124, 125, 125]
    assert frames_before(path, reached, 200) == 125


def test_a_run_with_masks_beyond_an_end_that_was_not_known_is_not_complete(tiny_model, tmp_path, clip):
    class Prompts:
        def __init__(self):
            self.to_come = {NUM_FRAMES: [2]}

        def __call__(self, frame):
            return clip[1] if frame.index == 0 else None

    with mm.VideoReader(clip[0]) as video:
        frames = list(video)
    with refusal(InputError, rf"{NUM_FRAMES}"):
        mm.segment(frames, mm.Tracker(tiny_model, short_side=None), tmp_path / "out", Prompts())
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert not report["complete"]
    assert str(NUM_FRAMES) in report["stopped_by"]


@pytest.mark.parametrize("mask_format", ["png", "rgba", "ffv1", "rle"])
def test_a_disk_that_is_clearly_too_small_is_refused_with_figures(tmp_path, mask_format):
    refuse_without_room(tmp_path, mask_format, ("overlay",), (480, 854), 10, 2, 0)
    with refusal(OutputError, r"854×480|\d+ mask files"):
        refuse_without_room(tmp_path, mask_format, ("overlay",), (480, 854), 10**12, 2, 0)
    refuse_without_room(tmp_path, mask_format, (), (480, 854), 10, 2, 10**18)


# Names


def folder_of(tmp_path, names):
    folder = tmp_path / "frames"
    folder.mkdir()
    frames, masks = drawn_clip(len(names), 32, 48)
    for name, frame in zip(names, frames, strict=True):
        write_image(folder / f"{name}.png", frame)
    return folder, {1: masks[0, 0]}


@pytest.mark.parametrize("mask_format", ["png", "rgba"])
@pytest.mark.parametrize(
    "names",
    [
        [f"{'long' * 62}{number}" for number in range(3)],
        ["กิ", "กี", "กึ", "กื"],
        ["frame (1)", "frame [2]", "frame {3}; x", "frame  4", "frame,5'&"],
        ["é1", "e\u03012", "ß3", "ss4"],
        ["a", "é", "e\u0301"] if sys.platform == "linux" else ["é"],  # elsewhere these are one name
    ],
)
def test_names_of_frames_are_kept(tiny_model, tmp_path, names, mask_format):
    clip = folder_of(tmp_path, names)
    run(tiny_model, tmp_path / "out", clip, mask_format=mask_format)
    folder = tmp_path / "out/masks" / ("1" if mask_format == "rgba" else "")
    assert {path.name for path in folder.iterdir()} == {f"{name}.png" for name in names}
    run(tiny_model, tmp_path / "out", clip, mask_format="rle", overwrite=True)
    assert [path.name for path in (tmp_path / "out/masks").iterdir()] == ["masks.json"]


def test_an_index_that_leads_out_of_the_folder_or_is_garbled_says_nothing(tmp_path):
    (tmp_path / "mine.txt").write_bytes(MINE)
    (tmp_path / "out").mkdir()
    lines = [b'["../mine.txt", -1, 0, ""]', b'["/etc/passwd", -1, 0, ""]', b"{", b"[]", b"[3, 4]", b'["x", 1', b"\xff"]
    (tmp_path / "out" / INDEX).write_bytes(b"\n".join(lines))
    written = Written(tmp_path / "out")
    assert written.files() == []
    written.remove_all()
    assert (tmp_path / "mine.txt").read_bytes() == MINE


@pytest.mark.parametrize("to", ["coco", "labelme", "yolo"])
def test_masks_that_an_export_wrote_are_inputs_as_any_others_are(tiny_model, tmp_path, clip, to):
    run(tiny_model, tmp_path / "run", clip)
    given = tmp_path / "given"
    export_masks(tmp_path / "run", to, given, video=clip[0])
    before = files(given)
    with refusal(OutputError, "read by this run"):
        run(tiny_model, given, clip, overwrite=True, inputs=[given])
    assert files(given) == before
    named = of_masks(given)
    changed = max(mask_files(given), key=lambda path: path.stat().st_size)
    changed.write_bytes(changed.read_bytes() + b"\n")
    assert of_masks(given) != named
