"""A small clip on the disk and a project of it."""

import cv2
import torch

import mnemask as mm

NUM_FRAMES, SIZE = 24, (64, 96)


def drawn(num_frames=NUM_FRAMES, size=SIZE):
    """Frames and the masks of two animals that keep apart: [T 3 H W], bool [T 2 H W]."""
    video = mm.DrawnVideo(num_frames, size=size, num_objects=2, occlusion=False)
    moments = [video[index] for index in range(num_frames)]
    masks = torch.stack([torch.stack([labels == 1, labels == 2]) for _, labels in moments])
    return [frame.image for frame, _ in moments], masks


def write_images(folder, frames):
    folder.mkdir(parents=True, exist_ok=True)
    for index, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{index:05d}.png"), frame.permute(1, 2, 0).numpy()[..., ::-1])
    return folder


def all_labels(project):
    return torch.stack([project.labels(index) for index in range(project.num_frames)])


def overlap(one, other):
    return float((one & other).sum() / (one | other).sum())
