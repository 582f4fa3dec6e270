"""Folders with names that are not UTF-8, as Linux allows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from drawn_clip import drawn_clip

import mnemask
from mnemask.evaluation.score import score_folder
from mnemask.export import export_masks
from mnemask.io import MaskWriter
from mnemask.io.label_files import label_paths, read_labels
from mnemask.model.checkpoints import fingerprint, save_model
from mnemask.training.checkpoint import TrainingState, load_run, save_run
from mnemask.types import Frame, Masks

SOURCES = Path(mnemask.__file__).parent


@pytest.fixture
def folder(tmp_path):
    """A folder with such a name."""
    made = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        made.mkdir()
    except OSError:
        pytest.skip("this file system has only names in UTF-8")
    return made


# OpenCV ends the whole process on such a path, so this runs in one of its own.
READ_THERE = """
import sys
from pathlib import Path

import cv2, numpy as np, torch

from mnemask import Frame
from mnemask.comparison.frames import FrameStore
from mnemask.io.images import read_image
from mnemask.project.results import KeyMasks

folder = Path(sys.argv[1])
print("frames of a comparison", flush=True)
frames = [Frame(torch.full((3, 32, 48), 60 * index, dtype=torch.uint8), index) for index in range(3)]
with FrameStore(frames, folder / "store") as store:
    assert abs(int(store.image(1).mean()) - 60) < 3
print("masks of a project", flush=True)
mask = torch.eye(48, dtype=torch.bool)
name = KeyMasks(folder, (48, 48)).add(0, 1, mask)
assert torch.equal(KeyMasks(folder, (48, 48)).read(name), mask)
print("images of 16 bits", flush=True)
deep = np.random.default_rng(0).integers(0, 65536, (16, 24, 3), np.uint16)
for name in ("deep.tif", "deep.png"):
    (folder / name).write_bytes(cv2.imencode(Path(name).suffix, deep)[1].tobytes())
    expected = np.round(deep[..., ::-1] / 257).astype(int)
    assert abs(read_image(folder / name).permute(1, 2, 0).numpy() - expected).max() <= 1, name
"""


def test_images_are_read_there(folder):
    done = subprocess.run([sys.executable, "-c", READ_THERE, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_parquet_is_written_scored_and_exported_there(folder):
    parquet = pytest.importorskip("pyarrow.parquet")
    frames, masks = drawn_clip(3)
    with MaskWriter(folder / "masks", "parquet") as writer, MaskWriter(folder, "table") as table:
        for index, mask in enumerate(masks[:, 0]):
            answer = Masks(mask.int(), torch.stack([~mask, mask]).float(), (1,), index)
            for each in (writer, table):
                each.write(answer, Frame(frames[index], index))
    (folder / "report.json").write_text('{"objects": [{"id": 1, "category": "", "name": ""}]}')
    labels = [read_labels(path).tolist() for path in label_paths(folder / "masks")]
    assert labels == masks[:, 0].int().tolist()
    assert score_folder(folder / "masks", folder / "masks").j_and_f == 1
    export_masks(folder, "table", folder / "exported")
    with (folder / "exported/table.parquet").open("rb") as file:
        assert parquet.read_table(file)["frame"].to_pylist() == [0, 1, 2]


def test_a_model_is_loaded_from_there(folder, tiny_model):
    save_model(tiny_model, folder / "tiny.safetensors", dtype=torch.float32)
    assert fingerprint(mnemask.load_model(folder / "tiny.safetensors")) == fingerprint(tiny_model)


def test_a_tracker_is_saved_and_loaded_there(folder, tiny_model):
    frames, masks = drawn_clip(2)
    tracker = mnemask.Tracker(tiny_model, short_side=None)
    tracker.step(frames[0], {1: masks[0, 0]})
    for _ in range(2):  # a bank may be replaced by another
        tracker.save(folder / "a.bank")
    loaded = mnemask.Tracker.load(folder / "a.bank", tiny_model)
    assert torch.equal(loaded.step(frames[1]).probs, tracker.step(frames[1]).probs)


def test_a_run_of_training_is_resumed_there(folder):
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(3)).sum().backward()
    optimizer.step()
    average = {"bias": torch.ones(2)}
    save_run(folder / "latest.safetensors", network, average, optimizer, TrainingState(7, 1.5, {"size": "tiny"}, {}))
    other = torch.nn.Linear(3, 2)
    other_optimizer = torch.optim.AdamW(other.parameters())
    found = load_run(folder / "latest.safetensors", other, {"bias": torch.zeros(2)}, other_optimizer)
    assert (found.step, found.seconds, dict(found.settings)) == (7, 1.5, {"size": "tiny"})
    assert torch.equal(other.weight, network.weight)


def test_opencv_is_given_paths_by_utf8_path_only():
    opened = re.compile(r"cv2\.(?:imread|imwrite|imcount|VideoCapture|VideoWriter)\w*\([^)]*\)?")
    found = {match[0] for path in SOURCES.rglob("*.py") for match in opened.finditer(path.read_text("utf-8"))}
    of_camera = "cv2.VideoCapture(self._number)"
    of_utf8_path = "cv2.imreadmulti(name, start=image.tell()"
    assert found == {of_camera, of_utf8_path}
