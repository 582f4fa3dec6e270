"""A run from frames to files: what it leaves, and what it leaves when it is cut short."""

import json

import numpy as np
import pytest
import torch
from drawn_clip import drawn_clip
from PIL import Image
from refusals import refusal

import mnemask as mm
from mnemask.errors import BudgetError, FrameError, InputError, OutputError
from mnemask.io import ReaderEvents
from mnemask.io.pictures import Noted
from mnemask.pipeline import VideoOutputs


def clip(num_frames=12, seed=0):
    frames, masks = drawn_clip(num_frames, seed=seed)
    return [mm.Frame(frame, index) for index, frame in enumerate(frames)], {1: masks[0, 0]}


def run(tiny_model, out, frames, first, **options):
    tracker = mm.Tracker(tiny_model, short_side=None)
    return mm.segment(frames, tracker, out, lambda frame: first if frame.index == 0 else None, **options)


def test_it_writes_a_mask_per_frame_an_overlay_and_a_report(tiny_model, tmp_path):
    frames, first = clip()
    progress = run(tiny_model, tmp_path / "out", frames, first, videos=VideoOutputs(("overlay",)), settings={"a": 1})
    names = sorted(path.name for path in (tmp_path / "out/masks").iterdir())
    assert names == [f"{index:05d}.png" for index in range(12)]
    assert np.array_equal(np.array(Image.open(tmp_path / "out/masks/00000.png")), first[1].numpy())
    with mm.VideoReader(tmp_path / "out/overlay.mp4") as video:
        assert sum(1 for _ in video) == 12
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["complete"]
    assert report["frames"] == progress.frames == 12
    assert report["memory"]["tokens"] == report["most_tokens_held"] <= 2 * 4 * 6
    assert report["settings"] == {"a": 1}
    assert report["peak_memory_bytes"] > 10**7


def test_the_masks_on_disk_are_those_of_the_tracker(tiny_model, tmp_path):
    frames, first = clip()
    run(tiny_model, tmp_path / "out", frames, first)
    tracker = mm.Tracker(tiny_model, short_side=None)
    for frame in frames:
        labels = tracker.step(frame, first if frame.index == 0 else None).labels
        written = np.array(Image.open(tmp_path / f"out/masks/{frame.name}.png"))
        assert np.array_equal(written, labels.numpy())


def test_a_folder_that_holds_a_run_is_not_overwritten_unasked(tiny_model, tmp_path):
    frames, first = clip(3)
    run(tiny_model, tmp_path, frames, first)
    with refusal(OutputError, "already"):
        run(tiny_model, tmp_path, frames, first)
    run(tiny_model, tmp_path, frames, first, overwrite=True)


def test_a_video_that_breaks_leaves_all_masks_before_and_says_why(tiny_model, tmp_path):
    frames, first = clip(8)

    def broken():
        yield from frames[:5]
        raise FrameError("frame 5 is damaged", "repair it")

    with refusal(FrameError, "frame"):
        run(tiny_model, tmp_path, broken(), first, videos=VideoOutputs(("overlay",)))
    assert len(list((tmp_path / "masks").glob("*.png"))) == 5
    report = json.loads((tmp_path / "report.json").read_text())
    assert not report["complete"]
    assert report["frames"] == 5
    assert "frame 5 is damaged" in report["stopped_by"]
    with mm.VideoReader(tmp_path / "overlay.partial.mp4") as video:
        assert sum(1 for _ in video) == 5


def test_an_interrupt_leaves_what_was_done(tiny_model, tmp_path):
    frames, first = clip(8)

    def interrupt(progress, masks):
        if progress.frames == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, tmp_path, frames, first, on_frame=interrupt)
    assert len(list((tmp_path / "masks").glob("*.png"))) == 4
    assert json.loads((tmp_path / "report.json").read_text())["stopped_by"] == "KeyboardInterrupt"


class Lossy(mm.VideoReader):
    """A folder of which frames do not come: these are dropped, or damaged."""

    def __init__(self, folder, event, lost):
        super().__init__(folder)
        self.event, self.lost = event, lost

    def __iter__(self):
        return (frame for frame in super().__iter__() if frame.index not in self.lost)

    @property
    def events(self):
        return ReaderEvents(**{self.event: Noted(len(self.lost), self.lost)})


class Given(dict):
    """Masks by frame, and which of them are to come."""

    def __call__(self, frame):
        return self.pop(frame.index, None)

    @property
    def to_come(self):
        return {index: tuple(masks) for index, masks in self.items()}


@pytest.mark.parametrize("at", [2, 5])
@pytest.mark.parametrize(
    ("event", "said"), [("dropped", "was dropped to keep up"), ("skipped", "is damaged and was skipped")]
)
def test_masks_of_a_frame_that_did_not_come_are_refused_with_the_way_out(tiny_model, tmp_path, event, said, at):
    frames, first = clip(6)
    (tmp_path / "frames").mkdir()
    for frame in frames:
        Image.fromarray(frame.image.permute(1, 2, 0).numpy()).save(tmp_path / f"frames/{frame.index:05d}.png")
    video, given = Lossy(tmp_path / "frames", event, (1, at)), Given({0: first, at: first})
    with pytest.raises(InputError) as refused:
        mm.segment(video, mm.Tracker(tiny_model, short_side=None), tmp_path / "out", given)
    assert f"frame {at}, which {said}" in str(refused.value)
    assert ("--on-corrupt hold" in str(refused.value)) == (event == "skipped")
    video, given = Lossy(tmp_path / "frames", event, (1, at)), Given({0: first, 3: first})
    assert mm.segment(video, mm.Tracker(tiny_model, short_side=None), tmp_path / "free", given).frames == 4


def test_a_first_mask_that_is_wrong_leaves_no_run_behind(tiny_model, tmp_path):
    frames, _ = clip(3)
    with pytest.raises(mm.MnemaskError):
        run(tiny_model, tmp_path / "out", frames, {1: torch.zeros(64, 96, dtype=torch.bool)})
    assert not (tmp_path / "out/report.json").exists()


def test_what_cannot_be_run_is_refused_before_anything_is_written(tiny_model, tmp_path, as_users_call_it):
    frames, first = clip(2)
    for how, said in (
        ({"frames": "clip.mp4"}, "VideoReader"),
        ({"prompts": {0: first}}, "dict"),
        ({"prompts": lambda frame: first[1].int()}, "Tensor"),
        ({"mask_format": "jpg"}, "'jpg'"),
    ):
        settings = {"frames": frames, "prompts": lambda frame: first, **how}
        with refusal(InputError, said):
            mm.segment(tracker=mm.Tracker(tiny_model, short_side=None), out=tmp_path / "out", **settings)
        assert not [*tmp_path.glob("out/masks/*"), *tmp_path.glob("out/report.json")]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"settings": {"classes": {1, 2}}}, "JSON .*set"),
        ({"settings": [1]}, "list"),
        ({"checkpoint_every": "3"}, "checkpoint_every is '3'"),
        ({"checkpoint_every": -1.0}, "-1"),
        ({"max_memory": "much"}, "'much'"),
        ({"videos": ("overlay",)}, "tuple"),
        ({"objects": {1: 5}}, "int"),
        ({"objects": ["camel"]}, "list"),
        ({"on_frame": "print"}, "str"),
        ({"preview": b"png"}, "bytes"),
        ({"frames": 3}, "int"),
        ({"frames": ["0.png", "1.png"]}, "frame 0 is a str"),
        ({"frames": [np.zeros((64, 96), np.uint8)]}, "grey"),
    ],
)
def test_what_cannot_be_run_leaves_the_earlier_run_that_it_may_replace(
    tiny_model, tmp_path, as_users_call_it, how, said
):
    frames, first = clip(3)
    run(tiny_model, tmp_path, frames, first)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with refusal((InputError, BudgetError), said):
        run(tiny_model, tmp_path, **{"frames": frames, "first": first, "overwrite": True, **how})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("kind", ["tensors", "arrays"])
def test_plain_pictures_are_tracked_as_the_frames_that_they_are(tiny_model, tmp_path, kind):
    frames, first = clip(5)
    run(tiny_model, tmp_path / "frames", frames, first)
    tensors = [frame.image for frame in frames]
    pictures = tensors if kind == "tensors" else [tensor.permute(1, 2, 0).numpy() for tensor in tensors]
    run(tiny_model, tmp_path / kind, iter(pictures), first, max_memory="20GiB")
    for path in (tmp_path / "frames/masks").iterdir():
        assert path.read_bytes() == (tmp_path / kind / "masks" / path.name).read_bytes()
