"""A drawn clip as files, and trackers of the tiny model."""

import cv2
import torch
from drawn_clip import drawn_clip
from PIL import Image

from mnemask.config import TrackerConfig
from mnemask.evaluation.runner import TrackerFactory
from mnemask.io.label_files import read_labels
from mnemask.model.checkpoints import save_model


def write_clip(folder, name="frames", num_frames=8, num_objects=2):
    """Writes NAME/*.png and truth/*.png into a folder, and returns the two."""
    frames, masks = drawn_clip(num_frames, num_objects=num_objects)
    video, truth = folder / name, folder / "truth"
    video.mkdir()
    truth.mkdir()
    for index, frame in enumerate(frames):
        cv2.imwrite(str(video / f"{index:05d}.png"), frame.permute(1, 2, 0).numpy()[..., ::-1])
        labels = sum(masks[index, k].byte() * (k + 1) for k in range(num_objects))
        Image.fromarray(labels.numpy()).save(truth / f"{index:05d}.png")
    return video, truth


def first_masks(truth):
    """What `compare_video` takes as new_prompts: all objects in frame 0."""
    labels = torch.from_numpy(read_labels(truth / "00000.png"))
    given = {object_id: labels == object_id for object_id in labels.unique().tolist() if object_id}
    return lambda: lambda frame: given if frame.index == 0 else None


def tiny_trackers(tiny_model, folder, **settings):
    path = folder / "tiny.safetensors"
    if not path.exists():
        save_model(tiny_model, path, dtype=torch.float32)
    return TrackerFactory(TrackerConfig(write_every=2, short_side=64, **settings), str(path))
