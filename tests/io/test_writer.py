import errno
import json
import resource
import sys
import threading
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refusal

from mnemask.errors import FrameError, InputError, MissingExtraError, ObjectIdError, OutputError
from mnemask.io import MASK_FORMATS, MaskWriter, VideoReader, davis_palette
from mnemask.io.atomic import safe_name
from mnemask.io.image_formats import PngMasks
from mnemask.io.label_files import label_paths, read_labels
from mnemask.types import Frame, Masks, frame_name

FILES = {"ffv1": "masks.mkv", "rle": "masks.json", "overlay": "overlay.mp4"}


def masks_of(index, object_ids=(1, 2), size=(48, 64), name=""):
    """Two rectangles that move to the right; soft probabilities that agree with them."""
    labels = torch.zeros(size, dtype=torch.int32)
    for row, object_id in enumerate(object_ids):
        labels[5 + 20 * row : 20 + 20 * row, index + 3 : index + 30] = object_id
    hard = torch.stack([labels == object_id for object_id in (0, *object_ids)]).float()
    return Masks(labels, 0.8 * hard + 0.2 / len(hard), object_ids, index, name)


def frame_of(index, size=(48, 64), seconds=None, name=""):
    texture = np.random.default_rng(index).integers(0, 256, (*size, 3), np.uint8)
    return Frame(torch.from_numpy(texture).permute(2, 0, 1), index, seconds, name)


def write(out, format, num_frames=4, **how):
    with MaskWriter(out, format) as writer:
        for index in range(num_frames):
            writer.write(masks_of(index, **how), frame_of(index, how.get("size", (48, 64))))


def labels_of_video(path):
    with av.open(str(path)) as container:
        return [(frame.to_ndarray(), frame.time) for frame in container.decode(video=0)]


# Formats


def test_indexed_png_holds_ids_palette_and_names(tmp_path):
    with MaskWriter(tmp_path / "a" / "b") as writer:
        writer.write(masks_of(0, name="shot-7"))
        writer.write(masks_of(1), frame_of(1, name="from the frame"))
        writer.write(masks_of(2))
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == [
        "00002.png", "from the frame.png", "shot-7.png"
    ]  # fmt: skip
    with Image.open(tmp_path / "a" / "b" / "shot-7.png") as image:
        assert image.mode == "P"
        assert image.getpalette() == davis_palette().reshape(-1).tolist()
        assert np.array_equal(np.asarray(image), masks_of(0).labels)


def test_ids_beyond_255_make_a_16_bit_png(tmp_path):
    write(tmp_path, "png", object_ids=(7, 65_535))
    with Image.open(tmp_path / "00003.png") as image:
        assert np.array_equal(np.asarray(image), masks_of(3, (7, 65_535)).labels)


@pytest.mark.parametrize("object_ids", [(1, 255), (7, 65_535)])
@pytest.mark.parametrize("size", [(48, 64), (37, 51), (40, 1)])
def test_ffv1_keeps_every_label(tmp_path, object_ids, size):
    write(tmp_path, "ffv1", object_ids=object_ids, size=size)
    frames = labels_of_video(tmp_path / "masks.mkv")
    assert len(frames) == 4
    for index, (labels, seconds) in enumerate(frames):
        assert np.array_equal(labels, masks_of(index, object_ids, size).labels)
        assert seconds == pytest.approx(index / 25, abs=1e-3)


@pytest.mark.parametrize("format", ["ffv1", "overlay"])
def test_videos_keep_the_times_of_the_source(tmp_path, format):
    times = [4.0, 4.033, 4.5, 4.5, 6.0]
    with MaskWriter(tmp_path, format, frames_per_second=30.0) as writer:
        for index, seconds in enumerate(times):
            writer.write(masks_of(index), frame_of(index, seconds=seconds))
    start = 4.0 if format == "overlay" else 0.0
    with VideoReader(tmp_path / FILES[format]) as video:
        read = [frame.seconds for frame in video]
    assert read == pytest.approx([seconds - start for seconds in times], abs=2e-3)


def test_an_id_too_large_for_a_label_video_begun_with_8_bits_is_refused_and_the_rest_kept(tmp_path):
    writer = MaskWriter(tmp_path, "ffv1")
    writer.write(masks_of(0))
    writer.write(masks_of(1, (1, 300)))
    with refusal(ObjectIdError, r"300"):
        writer.close()
    assert len(labels_of_video(tmp_path / "masks.partial.mkv")) == 1


def test_cut_outs_have_the_probability_as_alpha(tmp_path):
    write(tmp_path, "rgba", 1)
    masks, frame = masks_of(0), frame_of(0)
    for row, object_id in enumerate((1, 2), start=1):
        with Image.open(tmp_path / str(object_id) / "00000.png") as image:
            rgba = np.asarray(image)
        assert np.array_equal(rgba[:, :, 3], np.round(masks.probs[row].numpy() * 255))
        assert np.array_equal(rgba[:, :, :3], frame.image.permute(1, 2, 0))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")
def test_rle_is_coco_and_decodes_to_the_masks(tmp_path):
    from pycocotools import mask
    from pycocotools.coco import COCO

    with MaskWriter(tmp_path, "rle") as writer:
        writer.write(masks_of(0, (1, 300), name="first"))
        writer.write(masks_of(61, (1, 300)))  # of which only a corner is left
        writer.write(masks_of(99, (1, 300)))  # both are gone
    content = json.loads((tmp_path / "masks.json").read_text())
    assert [image["id"] for image in content["images"]] == [0, 61, 99]
    assert [image["file_name"] for image in content["images"]] == ["first.jpg", "00061.jpg", "00099.jpg"]
    assert [category["name"] for category in content["categories"]] == ["object"]
    coco = COCO(tmp_path / "masks.json")
    assert coco.getCatIds(catNms=["object"]) == [1]
    for index in (0, 61, 99):
        labels = np.zeros((48, 64), np.int32)
        for annotation in coco.imgToAnns[index]:
            labels += annotation["track_id"] * mask.decode(annotation["segmentation"]).astype(np.int32)
            assert annotation["area"] == (labels == annotation["track_id"]).sum()
        assert np.array_equal(labels, masks_of(index, (1, 300)).labels)
    assert {annotation["bbox"][2] for annotation in coco.imgToAnns[0]} == {27.0}


@pytest.mark.parametrize("size", [(48, 64), (37, 51)])
def test_the_overlay_shows_frame_and_masks_in_true_colors(tmp_path, size):
    with MaskWriter(tmp_path, "overlay") as writer:
        for index in range(3):
            orange = torch.tensor([250, 140, 20], dtype=torch.uint8)[:, None, None].expand(3, *size)
            writer.write(replace(masks_of(0, size=size), index=index), Frame(orange, index))
    frames = list(VideoReader(tmp_path / "overlay.mp4"))
    assert [frame.size for frame in frames] == [tuple(side + side % 2 for side in size)] * 3
    assert (frames[0].image[:, 0, 40].int() - torch.tensor([250, 140, 20])).abs().max() <= 6
    tinted = 0.55 * torch.tensor([250, 140, 20]) + 0.45 * torch.tensor([128, 0, 0])
    assert (frames[0].image[:, 12, 15] - tinted).abs().max() <= 6
    with av.open(str(tmp_path / "overlay.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"


def test_an_overlay_can_be_piped(tmp_path):
    write(tmp_path, "overlay")
    data = (tmp_path / "overlay.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_the_output_may_be_the_file_itself(tmp_path):
    for format, name in [("overlay", "seen.mp4"), ("ffv1", "labels.mkv"), ("rle", "coco.json")]:
        write(tmp_path / "new" / name, format)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["coco.json", "labels.mkv", "seen.mp4"]


# Whole files, safe names


@pytest.mark.parametrize("format", FILES)
def test_a_file_has_its_name_only_when_it_is_complete(tmp_path, format):
    (tmp_path / FILES[format]).write_bytes(b"an earlier result")
    with MaskWriter(tmp_path, format, overwrite=True) as writer:
        for index in range(8):
            writer.write(masks_of(index), frame_of(index))
        assert (tmp_path / FILES[format]).read_bytes() == b"an earlier result"
    assert [path.name for path in tmp_path.iterdir()] == [FILES[format]]
    assert (tmp_path / FILES[format]).stat().st_size > 500


@pytest.mark.parametrize("format", FILES)
def test_what_was_written_before_a_failure_is_kept_as_a_partial_file(tmp_path, format):
    (tmp_path / FILES[format]).write_bytes(b"an earlier result")

    def interrupted():
        with MaskWriter(tmp_path, format, overwrite=True) as writer:
            for index in range(5):
                writer.write(masks_of(index), frame_of(index))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / FILES[format]).read_bytes() == b"an earlier result"
    partial = tmp_path / FILES[format].replace(".", ".partial.")
    if format == "rle":
        assert len(json.loads(partial.read_text())["images"]) == 5
    else:
        assert len(labels_of_video(partial)) == 5
    assert len(list(tmp_path.iterdir())) == 2


def test_a_writer_without_frames_leaves_no_video_and_an_empty_list(tmp_path):
    for format in MASK_FORMATS:
        MaskWriter(tmp_path, format).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["masks.json", "table.csv"]
    content = json.loads((tmp_path / "masks.json").read_text())
    assert (content["annotations"], content["images"]) == ([], [])


@pytest.mark.parametrize("name", ["../../up", "/etc/passwd", "..", ".", "a/b\\c", "nul", "COM1.x", "new\nline", "\0"])
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    with MaskWriter(tmp_path / "out") as writer:
        writer.write(masks_of(0, name=name))
    assert len(list((tmp_path / "out").iterdir())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_names_that_a_file_can_have_stay_as_they_are():
    for name in (
        "00000",
        "frame_12",
        "IMG-2024.01.02",
        "prise deux",
        "übung",
        "frame (1)",
        "घोड़ा",
        "a;b[2]{c}",
        " x. ",
    ):
        assert safe_name(name) == name


@pytest.mark.parametrize("name", ["x" * 500, "ü" * 300])
def test_a_name_too_long_for_the_file_system_is_refused_and_not_cut(tmp_path, name):
    writer = MaskWriter(tmp_path)
    writer.write(masks_of(0, name=name))
    with refusal(OutputError, "long"):
        writer.close()
    assert not list(tmp_path.iterdir())


def test_names_sort_as_the_frames_do_however_many_come():
    indices = [0, 9, 99_999, 100_000, 999_999, 1_000_000, 12_345_678]
    for num_frames in (None, 7, 100_000, 100_001, 5_000_000):
        names = [frame_name(index, num_frames) for index in indices]
        assert names == sorted(names)
    assert frame_name(7, 100_000) == "00007"
    assert frame_name(7, 100_001) == "000007"


@pytest.mark.parametrize("format", list(MASK_FORMATS))
def test_what_is_there_is_not_replaced_unasked(tmp_path, format):
    write(tmp_path, format)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with refusal(OutputError, "the"):
        write(tmp_path, format, object_ids=(1,))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("format", ["png", "rgba"])
def test_two_frames_of_one_name_are_refused(tmp_path, format):
    writer = MaskWriter(tmp_path, format)
    for index in range(2):
        writer.write(masks_of(index, name="same"), frame_of(index))
    with pytest.raises(OutputError):
        writer.close()


def test_a_label_video_has_the_bits_of_ids_that_are_known_to_come(tmp_path):
    with MaskWriter(tmp_path, "ffv1", largest_id=300) as writer:
        writer.write(masks_of(0, (1,)))
        writer.write(masks_of(1, (1, 300)))
    assert [int(labels.max()) for labels, _ in labels_of_video(tmp_path / "masks.mkv")] == [1, 300]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")
def test_coco_masks_are_read_again(tmp_path):
    names = ["b (1).webp", "a.webp", "घोड़ा.webp"]
    with MaskWriter(tmp_path, "rle", file_names=names) as writer:
        for index, name in enumerate(names):
            writer.write(masks_of(index, (1, 300), name=name.removesuffix(".webp")))
    content = json.loads((tmp_path / "masks.json").read_text())
    assert [image["file_name"] for image in content["images"]] == names
    paths = label_paths(tmp_path)
    assert [path.name for path in paths] == [name.removesuffix(".webp") for name in names]
    for index, path in enumerate(paths):
        assert np.array_equal(read_labels(path), masks_of(index, (1, 300)).labels)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")
def test_coco_has_the_classes_of_the_objects_and_another_for_those_that_have_none(tmp_path):
    from pycocotools.coco import COCO

    with MaskWriter(tmp_path, "rle", objects={7: "camel", 2: "rider:Anna", 9: "camel:Bobby"}) as writer:
        writer.write(masks_of(0, (7, 2)))
        writer.write(masks_of(1, (5, 9)))
    coco = COCO(tmp_path / "masks.json")
    called = {each["track_id"]: coco.cats[each["category_id"]]["name"] for each in coco.anns.values()}
    assert called == {7: "camel", 2: "rider", 5: "object", 9: "camel"}
    assert sorted(coco.cats) == [1, 2, 3]
    names = {each["track_id"]: each["attributes"].get("name") for each in coco.anns.values()}
    assert names == {7: None, 2: "Anna", 5: None, 9: "Bobby"}


# In the background


def threads():
    return [thread for thread in threading.enumerate() if "writer" in thread.name]


def test_no_thread_outlives_its_writer(tmp_path):
    with MaskWriter(tmp_path) as writer:
        writer.write(masks_of(0))
        assert len(threads()) == 1
    assert not threads()


def test_every_frame_arrives_however_fast_they_come(tmp_path):
    write(tmp_path, "png", num_frames=40)
    assert len(list(tmp_path.iterdir())) == 40


def test_a_closed_writer_takes_nothing_more(tmp_path):
    writer = MaskWriter(tmp_path)
    writer.close()
    writer.close()
    with refusal(OutputError, "closed"):
        writer.write(masks_of(0))


@pytest.mark.parametrize("format", ["overlay", "rgba"])
def test_a_missing_or_foreign_frame_surfaces_at_the_next_call(tmp_path, format):
    writer = MaskWriter(tmp_path, format)
    writer.write(masks_of(0))
    with refusal(FrameError, "without"):
        writer.close()
    writer = MaskWriter(tmp_path, format)
    writer.write(masks_of(0), frame_of(0, size=(40, 60)))
    with refusal(FrameError, r"\(40", r"60", r"\(48", r"64"):
        writer.close()


def test_a_video_keeps_one_size(tmp_path):
    writer = MaskWriter(tmp_path, "ffv1")
    writer.write(masks_of(0))
    writer.write(masks_of(1, size=(40, 60)))
    with refusal(FrameError, r"60x40", r"64x48"):
        writer.close()


def test_the_error_of_the_block_comes_first_and_names_that_of_the_writer(tmp_path):
    def both_fail():
        with MaskWriter(tmp_path, "rgba") as writer:
            writer.write(masks_of(0))
            1 / 0

    with pytest.raises(ZeroDivisionError) as caught:
        both_fail()
    assert "came without its picture" in caught.value.__notes__[0]


# Places that cannot be written to


def test_an_unknown_format_and_an_impossible_rate_are_refused(tmp_path):
    with refusal(OutputError, r"ffv1"):
        MaskWriter(tmp_path, "tiff")
    for rate in (0.0, -1.0, float("nan"), float("inf")):
        with refusal(OutputError, "frames"):
            MaskWriter(tmp_path, frames_per_second=rate)


@pytest.mark.parametrize("format", MASK_FORMATS)
def test_a_file_where_a_folder_is_needed_is_refused_at_once(tmp_path, format):
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with refusal(OutputError, "file"):
            MaskWriter(out, format)


@pytest.mark.parametrize("format", FILES)
def test_a_folder_where_the_file_is_needed_is_refused_at_once(tmp_path, format):
    (tmp_path / FILES[format]).mkdir()
    with refusal(OutputError, "folder"):
        MaskWriter(tmp_path / FILES[format], format)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc, which nobody can write to")
@pytest.mark.parametrize("format", MASK_FORMATS)
def test_a_read_only_place_is_refused_at_once(format):
    with refusal(OutputError, r"/proc/here"):
        MaskWriter("/proc/here", format)


@pytest.fixture
def full_disk():
    """No file can grow beyond 3 kB, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("format", MASK_FORMATS)
def test_a_full_disk_is_one_error_and_leaves_no_half_file_under_a_final_name(tmp_path, full_disk, format):
    def write_much():
        labels = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (256, 256), np.int32))
        probs = torch.stack([labels == row for row in range(3)]).float()
        with MaskWriter(tmp_path, format) as writer:
            for index in range(30):
                writer.write(Masks(labels, probs, (1, 2), index), frame_of(index, (256, 256)))

    with refusal(OutputError, "cannot"):
        write_much()
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(".partial." in path.name for path in left)
    assert not threads()


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with refusal(MissingExtraError, "install"):
        MaskWriter(tmp_path, "rle")


def test_times_too_close_for_the_clock_still_grow(tmp_path):
    with MaskWriter(tmp_path, "ffv1") as writer:
        for index in range(5):
            writer.write(masks_of(index), frame_of(index, seconds=float(Fraction(1, 3))))
    times = [seconds for _, seconds in labels_of_video(tmp_path / "masks.mkv")]
    assert len(times) == 5
    assert times == sorted(set(times))


@pytest.mark.parametrize(("name", "mask_format"), [("masks.mkv", "ffv1"), ("overlay.mp4", "overlay")])
def test_pixels_that_are_not_square_stay_so(tmp_path, name, mask_format):
    labels = torch.zeros(32, 48, dtype=torch.int32)
    labels[8:20, 10:30] = 1
    probs = torch.stack([(labels == i).float() for i in (0, 1)])
    with MaskWriter(tmp_path / name, mask_format) as writer:
        for t in range(3):
            frame = Frame(torch.zeros(3, 32, 48, dtype=torch.uint8), t, pixel_aspect=Fraction(16, 11))
            writer.write(Masks(labels, probs, (1,), index=t), frame)
    av.logging.set_level(av.logging.INFO)
    with av.open(str(tmp_path / name)) as container, av.logging.Capture() as logs:
        stream = container.streams.video[0]
        graph = av.filter.Graph()
        source, show, sink = graph.add_buffer(template=stream), graph.add("showinfo"), graph.add("buffersink")
        source.link_to(show)
        show.link_to(sink)
        graph.configure()
        for frame in container.decode(stream):
            graph.push(frame)
            graph.pull()
    av.logging.set_level(None)
    assert sum("sar:16/11 s:" in text for _, _, text in logs) == 3


def test_what_are_no_masks_and_no_frame_is_refused_when_it_is_given(tmp_path, as_users_call_it):
    with MaskWriter(tmp_path) as writer:
        for given in ((masks_of(0).labels.numpy(),), (masks_of(0), frame_of(0).image)):
            with refusal(InputError, type(given[-1]).__name__):
                writer.write(*given)


def test_labels_that_are_no_ids_and_a_frame_that_comes_twice_are_refused(tmp_path, as_users_call_it):
    good = masks_of(0)
    for number, labels in enumerate((good.labels + 70_000, good.labels - 5, good.labels.float())):
        with refusal(InputError, "labels"), MaskWriter(tmp_path / str(number), "ffv1") as writer:
            writer.write(replace(good, labels=labels))
    with refusal(OutputError, "frame 0"), MaskWriter(tmp_path / "twice", "rle") as writer:
        writer.write(good)
        writer.write(good)
    writer = MaskWriter(tmp_path / "closed")
    writer.close()
    for ask in (writer.sync, writer.resume_state):
        with refusal(OutputError, "closed"):
            ask()


def test_a_full_disk_is_named_where_pyav_says_only_that_a_callback_failed(tmp_path, monkeypatch):
    def full(*args):
        error = av.error.PyAVCallbackError(1, "Error in PyAV callback")
        error.__context__ = OSError(errno.ENOSPC, "No space left on device")
        raise error

    monkeypatch.setattr(PngMasks, "write", full)
    with refusal(OutputError, "No space left"), MaskWriter(tmp_path) as writer:
        writer.write(masks_of(0))
