"""A finished run with everything that exports must not lose."""

import json
from pathlib import Path

import cv2
import numpy as np
import torch

from mnemask.io import MaskWriter
from mnemask.types import Frame, Masks

SIZE = 37, 53  # height and width, odd
OBJECTS = {1: "camel:Bobby", 2: "camel", 137: ""}
NAMES = [f"{index:05d}" for index in range(5)]


def drawn():
    """Labels of five frames: a ring, what touches it, what is in two pieces, leaves and returns; frame 3 is empty."""
    frames = []
    for index in range(5):
        labels = np.zeros(SIZE, np.int32)
        if index != 3:
            labels[4 + index : 20 + index, 5:21] = 1
            labels[9 + index : 14 + index, 9:15] = 0
            labels[4 + index : 20 + index, 21:30] = 2
        if index in (0, 2, 4):
            labels[30:36, 33:37] = 137
            labels[22:25, 44:53] = 137
        frames.append(labels)
    return frames


def picture(index, name=""):
    rng = np.random.default_rng(index)
    return Frame(torch.from_numpy(rng.integers(0, 256, (3, *SIZE), dtype=np.uint8)), index, index / 10, name)


def write_run(out: Path, format="png", indices=range(5), name="{:05d}"):
    """Writes OUT/ as segment does; returns the labels."""
    frames = [drawn()[index] for index in indices]
    out.mkdir(parents=True)
    with MaskWriter(out / "masks", format, largest_id=137, objects=OBJECTS) as masks, MaskWriter(out, "table") as table:
        for index, labels in zip(indices, frames, strict=True):
            hard = torch.stack([torch.from_numpy(labels == each) for each in (0, *OBJECTS)]).float()
            moment = Masks(torch.from_numpy(labels), hard * 0.9 + 0.1 / 4, tuple(OBJECTS), index, name.format(index))
            for writer in (masks, table):
                writer.write(moment, picture(index, moment.name))
    infos = [
        dict(zip(("id", "category", "name"), (i, *(text + ":").split(":")[:2]), strict=True))
        for i, text in OBJECTS.items()
    ]
    (out / "report.json").write_text(json.dumps({"objects": infos}))
    return frames


def write_video(folder: Path):
    """Writes the frames as a folder of pictures."""
    folder.mkdir()
    for index in range(5):
        cv2.imwrite(str(folder / f"{NAMES[index]}.jpg"), picture(index).image.permute(1, 2, 0).numpy()[..., ::-1])
    return folder
