"""A program of somebody else's that uses every public name; `mypy --strict` reads it, and nobody runs it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import mnemask as mm
from mnemask.memory.tokens import Tokens


@dataclass(frozen=True)
class Newest(mm.Policy):
    """A policy of one's own."""

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        both = memory + new
        return mm.keep_best(both, both.frame, budget)


def masks_of_first_frame(image: Tensor, file: Path) -> dict[int, Tensor]:
    shown: Tensor = mm.mask_from_box(image, (10, 10, 60, 60))
    clicked: Tensor = mm.mask_from_clicks(image, [(20, 30)], negative=[(5, 5)])
    drawn: Tensor = mm.mask_from_polygon([(1, 1), (9, 1), (9, 9)], (96, 160))
    rubbed: dict[int, Tensor] = mm.mask_from_scribble(image, {4: [[(1, 1), (5, 5)]]})
    return {1: shown, 2: clicked & ~shown, 3: drawn, **rubbed, **mm.read_mask(file)}


def follow(video: Path, first: dict[int, Tensor]) -> Iterator[Tensor]:
    config = mm.TrackerConfig(Newest(), mm.Budget(frames=3), write_every=2, top_k=10, short_side=None)
    assert mm.TrackerConfig.from_dict(config.to_dict()).top_k == 10
    model = mm.load_model("compact", device="cpu", dtype=torch.float32)
    for masks in mm.track(video, model, {0: first}, config):
        labels: Tensor = masks.labels
        yield labels


def by_hand(video: Path, first: dict[int, Tensor], out: Path) -> tuple[int, ...]:
    model = mm.load_model()
    tracker = mm.Tracker(model, policy="lfu", budget=mm.Budget(bytes="64MiB"))
    with mm.VideoReader(video) as reader, mm.MaskWriter(out) as writer:
        for frame in reader:
            masks = tracker.step(frame, first if frame.index == 0 else None)
            writer.write(masks, frame)
            picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = mm.draw_overlay(frame.image, masks.labels)
            assert picture.dtype == np.uint8
    tracker.save(out / "tracker.bank")
    return mm.Tracker.load(out / "tracker.bank", model).object_ids


def several(videos: list[mm.DrawnVideo]) -> list[mm.Masks]:
    model = mm.load_model()
    batch = mm.TrackerBatch(mm.Tracker(model) for _ in videos)
    frames: list[mm.Frame] = [video[0][0] for video in videos]
    return batch.step(frames, [{1: video[0][1] == 1} for video in videos])


def everything(out: Path) -> str:
    try:
        with mm.VideoReader("street.mp4") as reader:
            progress = mm.segment(reader, mm.Tracker(mm.load_model()), out, lambda frame: None)
        project = mm.Project.create(out / "project", "street.mp4")
        project.close()
        report = mm.evaluate(lambda: mm.Tracker(mm.load_model()), []).report
    except mm.InputError as error:
        return error.remedy
    except mm.MnemaskError as error:
        return error.problem
    mm.register_policy("newest", Newest)
    return f"{progress.frames} frames, J {report.region.mean}, {sorted(mm.POLICIES)}, {mm.__version__}"
