"""The whole pipeline on a generated video with exact masks: writes, reads, segments, scores and displays it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int32
from torch import Tensor

from mnemask.datasets.synthetic.drawn import DrawnVideo
from mnemask.io import MaskWriter, VideoReader, contact_sheet
from mnemask.io.atomic import make_folder
from mnemask.io.image_formats import label_png
from mnemask.io.visualize import encode_image
from mnemask.io.written import Written
from mnemask.metrics import Report, SequenceScorer
from mnemask.pipeline import RunProgress, VideoOutputs, segment
from mnemask.prompts import read_mask
from mnemask.tracker import Tracker
from mnemask.types import Frame, Masks

NUM_TILES = 12
FILES = ("clip.mp4", "first.png", "contact-sheet.png", "score.json")


def run_demo(
    tracker: Tracker,
    out: Path,
    video: DrawnVideo,
    *,
    on_frame: Callable[[RunProgress, Masks], None] = lambda progress, masks: None,
) -> tuple[RunProgress, Report]:
    """Runs the demo; returns its progress and the score.

    Writes to `out` the files that a user would supply, `clip.mp4` and `first.png`, and the results: `masks/`,
    `overlay.mp4`, `contact-sheet.png` and `score.json`.

    Args:
        tracker: a new tracker.
        out: the output folder, created if missing; only the files of an earlier demo in it are replaced.
        video: the clip with its true masks.
        on_frame: called after each frame that was segmented.
    """
    written = Written(out, ".mnemask-demo")  # not in the index of the segmentation, which removes the files it lists
    written.refuse_foreign(*(out / name for name in FILES))
    written.remove_all()
    write_clip(video, make_folder(out) / "clip.mp4", out / "first.png", written)
    scorer = SequenceScorer("demo", "davis2017")
    tiles: list[tuple[Frame, Int32[Tensor, "H W"]]] = []
    chosen = {round(tile * (len(video) - 1) / (NUM_TILES - 1)) for tile in range(NUM_TILES)}

    def look(progress: RunProgress, masks: Masks) -> None:
        frame, truth = video[masks.index]
        scorer.add(truth.numpy(), masks.labels.cpu().numpy())
        if masks.index in chosen:
            tiles.append((frame, masks.labels))
        on_frame(progress, masks)

    prompts = read_mask(out / "first.png")
    with VideoReader(out / "clip.mp4") as frames:
        progress = segment(
            frames,
            tracker,
            out,
            lambda frame: prompts if frame.index == 0 else None,
            videos=VideoOutputs(("overlay",)),
            overwrite=True,
            on_frame=look,
        )
    report = scorer.report()
    written.write(out / "contact-sheet.png", encode_image(contact_sheet(tiles), ".png"))
    written.write(out / "score.json", report.to_json())
    return progress, report


def write_clip(video: DrawnVideo, clip: Path, first: Path, written: Written) -> None:
    """Writes a generated video as a video file, and the masks of its first frame as an indexed PNG."""
    nothing = torch.zeros(video.size, dtype=torch.int32)
    with MaskWriter(clip, "overlay", written=written) as writer:  # an overlay without objects is the video itself
        for frame, _ in video:
            background = torch.ones(1, *video.size)
            writer.write(Masks(nothing, background, object_ids=(), index=frame.index, name=frame.name), frame)
    written.write(first, label_png(video[0][1].numpy().astype(np.uint8)))
