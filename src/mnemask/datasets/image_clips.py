"""Clips from photographs with one object each: stage 1 of the thesis (4.2.1)."""

from collections.abc import Sequence

import numpy as np

from mnemask.datasets.annotated import AnnotatedImage
from mnemask.datasets.clips import ClipShape, TrainingClip, keep_visible
from mnemask.datasets.composite.photographs import read_rgb
from mnemask.datasets.stcn_augment import StillAugmentation, render, warp_labels
from mnemask.errors import InputError, MaskError

MAX_TRIES = 50


class ImageClips:
    """Endless clips; the frames of each are samples of one photograph; files are read when they are drawn.

    Masks are what saliency sets publish, grey levels above 127 where the object is; for masks of 0 and 1, or with a
    number for each instance, give images with `object_above=0`.

    Args:
        images: photographs with a mask of the same size; of a mask, all is one object.
        augmentation: how samples differ.

    Raises:
        InputError: there are no images.

    Example:
        images = [AnnotatedImage(p.stem, p, p.with_suffix(".png")) for p in sorted(Path("DUTS-TR").glob("*.jpg"))]
        clip = ImageClips(images).draw(np.random.default_rng(0), ClipShape(size=384, num_frames=3))
    """

    def __init__(self, images: Sequence[AnnotatedImage], augmentation: StillAugmentation | None = None) -> None:
        if not images:
            raise InputError("no images to draw clips from", "expected at least one photograph with its mask")
        self.images = images
        self.augmentation = augmentation or StillAugmentation()

    def __len__(self) -> int:
        return len(self.images)

    def draw(self, rng: np.random.Generator, shape: ClipShape) -> TrainingClip:
        """Returns samples of one photograph; another is drawn where its first sample shows too little of the object.

        Raises:
            FrameError: a file is not a picture.
            MaskError: a file is not a mask, or not of its picture's size.
            InputError: no photograph drawn has an object.
        """
        for _ in range(MAX_TRIES):
            image = self.images[int(rng.integers(len(self.images)))]
            whole = image.read_mask().view(np.uint8)
            views = self.augmentation.views(rng, (whole.shape[0], whole.shape[1]), shape)
            labels = np.stack([warp_labels(whole, [1], view, shape.size) for view in views])
            labels, num_objects = keep_visible(labels, 1)
            if not num_objects:
                continue
            picture = read_rgb(image.image)
            if picture.shape[:2] != whole.shape:
                raise MaskError(
                    f"{image.mask} has (height, width) {whole.shape} but {image.image} has {picture.shape[:2]}",
                    "export the mask at its picture's size",
                )
            pictures = [picture] * shape.num_frames
            frames = render(rng, self.augmentation.look, pictures, views, shape.size)
            return TrainingClip(frames, labels, num_objects)
        raise InputError(
            f"{MAX_TRIES} photographs drawn had no object to follow, the last one {image.image}",
            "expected objects that cover at least 0.2 % of a sample",
        )
