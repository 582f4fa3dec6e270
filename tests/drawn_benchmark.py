"""Small data sets laid out as the published benchmarks are, with a square, and another that comes late."""

import json

import numpy as np
from PIL import Image

SIZE = (48, 64)


def picture_and_labels(index, late=None):
    """A frame with object 1, which moves, and object 2 from frame `late` on."""
    labels = np.zeros(SIZE, np.uint8)
    labels[8:28, 4 + 3 * index : 24 + 3 * index] = 1
    if late is not None and index >= late:
        labels[30:46, 20:40] = 2
    noise = np.random.default_rng(index).integers(60, 90, (*SIZE, 3))
    colours = np.array([(0, 0, 0), (200, 40, 40), (40, 60, 220)])[labels]
    return np.where(labels[..., None] > 0, colours, noise).astype(np.uint8), labels


def write_png(path, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels).save(path)


def draw_video(frames, masks, count=6, late=None, masked=None, step=1, scale=1):
    """Writes a video with frames numbered in steps; masks of those frames in `masked`, by position."""
    frames.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        picture, labels = picture_and_labels(index, late)
        Image.fromarray(picture).save(frames / f"{step * index:05d}.jpg")
        if masked is None or index in masked:
            write_png(masks / f"{step * index:05d}.png", labels * scale)


def draw_davis(root, names=("bear", "dog"), year=2016, subset="val", count=5, masked=None):
    for name in names:
        frames, masks = (root / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
        draw_video(frames, masks, count, scale=255 if year == 2016 else 1, masked=masked)
    (root / f"ImageSets/{year}").mkdir(parents=True)
    (root / f"ImageSets/{year}/{subset}.txt").write_text("\n".join(names))
    return root


def draw_youtube_vos(root, late=2, count=5):
    """Writes a video of training, "frogs", and one with secret masks, "apes"; object 2 comes late in both."""
    stems = [f"{5 * index:05d}" for index in range(count)]
    for subset, name, masked in (("train", "frogs", None), ("valid", "apes", (0, late))):
        folder = root / subset
        draw_video(folder / "JPEGImages" / name, folder / "Annotations" / name, count, late, masked, step=5)
        objects = {
            "1": {"category": "frog", "frames": stems},
            "2": {"category": "ape", "frames": stems[late:]},
        }
        (folder / "meta.json").write_text(json.dumps({"videos": {name: {"objects": objects}}}))
    return root
