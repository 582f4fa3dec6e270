"""A small data set in the layout of DAVIS-2016, drawn; its sequences have the names of real ones."""

import numpy as np
from PIL import Image

from mnemask.datasets.synthetic.drawn import DrawnVideo

NAMES = ("camel", "dog")


def draw_davis_2016(root, names=NAMES, num_frames=6):
    for seed, name in enumerate(names):
        frames, masks = (root / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
        for folder in (frames, masks):
            folder.mkdir(parents=True)
        for frame, labels in DrawnVideo(num_frames, size=(96, 160), num_objects=1, seed=seed):
            Image.fromarray(frame.image.permute(1, 2, 0).numpy()).save(frames / f"{frame.index:05d}.jpg")
            Image.fromarray((labels.numpy() > 0).astype(np.uint8) * 255).save(masks / f"{frame.index:05d}.png")
    (root / "ImageSets/2016").mkdir(parents=True)
    (root / "ImageSets/2016/val.txt").write_text("\n".join(names))
    return root
