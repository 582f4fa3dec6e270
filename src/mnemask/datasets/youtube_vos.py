"""YouTube-VOS 2018 and 2019, and the Long-time Video set, as they are published.

::

    ROOT/train/JPEGImages/VIDEO/00000.jpg, 00005.jpg …
    ROOT/train/Annotations/VIDEO/00000.png …
    ROOT/train/meta.json       which objects there are, and the frames that show each
    ROOT/valid/…               the same; masks only of the frames in which an object appears first

The Long-time Video set (Liang et al. 2020): minutes of video with masks of about twenty frames each.

::

    ROOT/JPEGImages/VIDEO/*.jpg
    ROOT/Annotations/VIDEO/*.png      of the first frame and of some later ones
"""

import json
from collections.abc import Collection
from pathlib import Path

from mnemask.datasets.annotated import AnnotatedVideo, incomplete, names_in, open_video
from mnemask.errors import InputError
from mnemask.io.images import IMAGE_SUFFIXES

PUBLISHED = "https://youtube-vos.org/dataset/vos"


def open_youtube_vos(root: Path | str, subset: str = "train", all_frames: bool = False) -> list[AnnotatedVideo]:
    """Returns the videos of one subset, checked against its meta.json, by name.

    Args:
        root: the folder that holds the subset's folder.
        subset: "train", "valid" or the name of another folder with their layout, such as a resized copy; where it
            begins with "valid" or "test", each object needs a mask only where it appears first.
        all_frames: take the frames from the folder named `subset` and "_all_frames", 30 a second instead of 6.

    Raises:
        InputError: a part of it is missing; the message says what was expected where.
    """
    folder = Path(root) / subset
    masks = folder / "Annotations"
    frames = (folder.with_name(f"{subset}_all_frames") if all_frames else folder) / "JPEGImages"
    objects = _read_meta(folder / "meta.json")
    for place in (frames, masks):
        present = frozenset(names_in(place))
        if missing := [place / name for name in objects if name not in present]:
            raise incomplete(f"YouTube-VOS {subset}", missing, len(objects), PUBLISHED)
    only_first = subset.startswith(("valid", "test"))
    videos = []
    for name in sorted(objects):
        video = open_video(name, frames / name, masks / name, single_object=False, published=PUBLISHED)
        shown = {stem for stems in objects[name] for stem in stems}
        marked = {stems[0] for stems in objects[name]} if only_first else shown
        _check_video(video, frames / name, shown, masks / name, marked)
        videos.append(video)
    return videos


def _check_video(
    video: AnnotatedVideo, frames: Path, shown: Collection[str], masks: Path, marked: Collection[str]
) -> None:
    """Raises InputError unless the video has the frames `shown` and the masks `marked`."""
    known = {path.stem: index for index, path in enumerate(video.frames)}
    missing = [frames / f"{stem}.jpg" for stem in sorted(shown) if stem not in known]
    missing += [masks / f"{stem}.png" for stem in sorted(marked) if known.get(stem, -1) not in video.masks]
    if missing:
        raise incomplete(video.name, missing, len(shown) + len(marked), PUBLISHED)


def _read_meta(path: Path) -> dict[str, list[list[str]]]:
    """Returns the frames that show each object of each video."""
    try:
        videos = json.loads(path.read_text(encoding="utf-8"))["videos"]
        objects = {
            name: [[str(stem) for stem in thing["frames"]] for thing in video["objects"].values() if thing["frames"]]
            for name, video in videos.items()
        }
    except FileNotFoundError:
        raise InputError(
            f"there is no {path}, which lists the videos of YouTube-VOS",
            f"it is published at {PUBLISHED}, and a resized copy needs that of the original",
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} does not list the videos of YouTube-VOS ({type(error).__name__}: {error})",
            f"get it again from {PUBLISHED}",
        ) from error
    if not objects:
        raise InputError(f"{path} lists no video", f"get it again from {PUBLISHED}")
    return objects


LONG_VIDEO_PUBLISHED = "https://github.com/xmlyqing00/AFB-URR"


def open_long_video(root: Path | str) -> list[AnnotatedVideo]:
    """Returns the videos of the set, or of another one with its layout, by name.

    Raises:
        InputError: a part of it is missing; the message says what was expected where.
    """
    frames, masks = Path(root) / "JPEGImages", Path(root) / "Annotations"
    names, with_frames = names_in(masks), frozenset(names_in(frames))
    if not names:
        raise InputError(
            f"there are no long videos in {root}",
            f"expected {frames}/VIDEO/*.jpg and {masks}/VIDEO/*.png, as from {PUBLISHED}",
        )
    if missing := [frames / name for name in names if name not in with_frames]:
        raise incomplete("the set of long videos", missing, len(names), LONG_VIDEO_PUBLISHED)
    return [
        open_video(name, frames / name, masks / name, False, IMAGE_SUFFIXES, published=LONG_VIDEO_PUBLISHED)
        for name in names
    ]
