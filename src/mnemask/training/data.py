"""From what the user calls a training set to what clips are drawn from."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mnemask.datasets.annotated import AnnotatedImage, AnnotatedVideo, read_annotation
from mnemask.datasets.clips import ClipSource
from mnemask.datasets.composite import CompositeClips
from mnemask.datasets.image_clips import ImageClips
from mnemask.datasets.image_sets import IMAGE_SETS, open_image_folder
from mnemask.datasets.mixture import Mixture
from mnemask.datasets.real_video import open_real_video
from mnemask.datasets.video_clips import VideoClips
from mnemask.datasets.video_sets import VIDEO_SETS, open_video_folders
from mnemask.errors import InputError
from mnemask.training.recipes import Recipe

OWN_SETS = {
    "images": "a folder of your own: images/ and masks/",
    "frames": "videos of your own: frames/ and masks/, or NAME/frames and NAME/masks",
    "composites": "static/NAME/{images,masks} and video/NAME/{frames,masks}, made into moving clips",
}
# YouTube-VOS publishes every fifth frame of its training videos.
MIN_MASKS = 3  # frames in a clip
FRAME_STEPS = {"YouTube-VOS-train": 5}


def parse_data(texts: Sequence[str]) -> dict[str, Path]:
    """Returns the folder of each named set from texts such as "DUTS-TR=/data/DUTS"; capitals do not matter.

    Raises:
        InputError: a text is not NAME=FOLDER, the name is unknown, or it comes twice.
    """
    to_train_on = [name for name in VIDEO_SETS if not name.endswith(("-val", "-valid"))]
    names = {name.lower(): name for name in (*IMAGE_SETS, *to_train_on, *OWN_SETS)}
    folders: dict[str, Path] = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if not equals or not folder or name.lower() not in names:
            raise InputError(
                f"--data {text[:60]!r} names no training set; give NAME=FOLDER, NAME one of {', '.join(names.values())}"
            )
        if names[name.lower()] in folders:
            raise InputError(f"--data names {names[name.lower()]} twice; give each set once")
        folders[names[name.lower()]] = Path(folder)
    return folders


def training_data(recipe: Recipe, texts: Sequence[str]) -> Callable[[], ClipSource]:
    """Returns a function that opens what a recipe trains on.

    Args:
        recipe: one with a mixture wants one folder of all its sets.
        texts: that folder, or NAME=FOLDER for each set.

    Raises:
        InputError: as `parse_data`, or not one folder where one is wanted.
    """
    if recipe.mixture is None:
        folders = parse_data(texts)
        return lambda: open_sources(recipe, folders)
    if len(texts) != 1 or not Path(texts[0]).is_dir():
        given = ", ".join(texts) or "no folder"
        raise InputError(
            f"recipe {recipe.name} was given {given[:80]}; give --data FOLDER once, a folder with static/, video/ and "
            "video_train/"
        )
    root, mixture = Path(texts[0]), recipe.mixture
    return lambda: open_real_video(root, mixture)


def open_sources(recipe: Recipe, folders: dict[str, Path]) -> ClipSource:
    """Returns clips of all sets, each drawn in proportion to its size and the recipe's repetitions.

    Args:
        recipe: sets that it does not name count once.
        folders: of each set, by name.

    Raises:
        InputError: no set is given, or one is missing or incomplete.
    """
    if not folders:
        meant = ", ".join(name for name, _ in recipe.sets)
        raise InputError(
            f"recipe {recipe.name} has nothing to train on; give --data NAME=FOLDER, it is meant for {meant}"
        )
    repetitions = dict(recipe.sets)
    sources = [(open_source(name, folder), repetitions.get(name, 1)) for name, folder in folders.items()]
    return Mixture([(source, count * len(source)) for source, count in sources])


def open_source(name: str, folder: Path) -> ImageClips | VideoClips | CompositeClips:
    """Returns the clips of one named set."""
    if name == "composites":
        return CompositeClips(folder)
    if name == "images" or name in IMAGE_SETS:
        return ImageClips(open_image_folder(folder) if name == "images" else IMAGE_SETS[name].open(folder))
    videos = own_videos(folder) if name == "frames" else VIDEO_SETS[name].open(folder)
    return VideoClips(videos, frame_step=FRAME_STEPS.get(name, 1))


def own_videos(root: Path) -> list[AnnotatedVideo]:
    """Returns a folder's videos; where a first mask is black and white, all that is white is one object."""
    videos = open_video_folders(root)
    return [
        replace(video, single_object=set(np.unique(read_annotation(video.masks[video.first_annotated]))) <= {0, 255})
        for video in videos
    ]


def open_own_videos(root: Path) -> ClipSource:
    """Returns clips of one's own videos: frames that follow each other, and as often one frame moved about.

    Where fewer than three frames of a video have masks, there is nothing to follow and only the latter are drawn.

    Raises:
        InputError: there are no such videos.
    """
    videos = own_videos(root)
    annotated = [
        AnnotatedImage(f"{video.name}/{index}", video.frames[index], mask, object_above=0)
        for video in videos
        for index, mask in video.masks.items()
    ]
    sources: list[tuple[ClipSource, int | float]] = [(ImageClips(annotated), 1.0)]
    if long_enough := [video for video in videos if len(video.masks) >= MIN_MASKS]:
        sources.append((VideoClips(long_enough), 1.0))
    return Mixture(sources)
