"""Videos with masks, from published sets or your own folders.

::

    for video in VIDEO_SETS["DAVIS-2017-train"].open("/data/DAVIS"):
        print(video.name, len(video.frames), video.read_labels(video.first_annotated).max())
"""

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from mnemask.datasets.annotated import AnnotatedVideo, incomplete, names_in, open_video
from mnemask.datasets.mask_checks import TrueMaskChecks
from mnemask.datasets.published import DAVIS_PUBLISHED, YOUTUBE_VOS_PUBLISHED, DavisSequences, open_youtube_vos
from mnemask.errors import InputError, MnemaskError
from mnemask.io.images import IMAGE_SUFFIXES
from mnemask.io.name_order import natural_order
from mnemask.metrics import VOID
from mnemask.plugins import Registry, describe_error, source_digest
from mnemask.types import is_whole

log = logging.getLogger(__name__)
_LOOKED_AT = 8  # masks of a video that are read to tell black-and-white masks from ids

BL30K_PUBLISHED = "https://github.com/hkchengrex/MiVOS#bl30k"


@dataclass(frozen=True, slots=True)
class VideoSet:
    """A published set of videos.

    Attributes:
        name: name in the literature.
        published: address of the project that publishes the set.
        open: function that returns the videos of a folder; raises InputError if something is missing.
    """

    name: str
    published: str
    open: Callable[[Path | str], list[AnnotatedVideo]]


def open_bl30k(root: Path | str) -> list[AnnotatedVideo]:
    """Returns the videos of BL30K, or of those of its six parts that were unpacked, sorted by name.

    Args:
        root: the folder BL30K, which contains JPEGImages and Annotations, or its parent.

    Raises:
        InputError: a part is missing; the message states what was expected and where.
    """
    root = Path(root)
    base = root / "BL30K" if (root / "BL30K").is_dir() else root
    frames, masks = base / "JPEGImages", base / "Annotations"
    frame_folders, mask_folders = names_in(frames), names_in(masks)
    if not frame_folders and not mask_folders:
        raise InputError(
            f"there is no BL30K in {root}",
            "expected BL30K/JPEGImages/VIDEO/*.jpg with BL30K/Annotations/VIDEO/*.png, as published at "
            f"{BL30K_PUBLISHED}",
        )
    names, present = sorted({*frame_folders, *mask_folders}), (frozenset(frame_folders), frozenset(mask_folders))
    missing = [
        place / name for place, has in zip((frames, masks), present, strict=True) for name in names if name not in has
    ]
    if missing:
        raise incomplete("BL30K", missing, 2 * len(names), BL30K_PUBLISHED)
    return [
        open_video(name, frames / name, masks / name, False, every_frame=True, published=BL30K_PUBLISHED)
        for name in names
    ]


def open_video_folders(root: Path | str, single_object: bool | None = None) -> list[AnnotatedVideo]:
    """Returns the one video in `root/frames` and `root/masks`, or each in `root/NAME/frames` and `root/NAME/masks`.

    Frames may have any common image format and are in natural order; masks among them are left out. Masks are PNG files
    named like their frames, or with what tools add (`00012_mask.png`); frames may lack a mask. Folders with results of
    `mnemask evaluate` are no videos.

    Args:
        root: the folder.
        single_object: whether everything that a mask shows is one object; otherwise values are object ids and 255 is
            void, or an object where the masks tell so (`with_void`). None treats white (255) as one object if a video's
            first non-empty mask, and a few others, contain no other value.

    Raises:
        InputError: there is no such video, or one has no frames, no masks, or a mask without a frame.
    """
    root = Path(root)
    parts = {"frames", "masks"}
    if parts & set(names_in(root)):
        folders, results = [root], []
    else:
        inside = {root / name: set(names_in(root / name)) for name in names_in(root)}
        results = [folder for folder, names in inside.items() if _is_of_results(names)]
        folders = [folder for folder, names in inside.items() if parts & names and folder not in results]
    if not folders:
        raise InputError(
            f"there is no video in {root}",
            f"expected {root / 'frames'} with {root / 'masks'}, or NAME/frames with NAME/masks for each video",
        )
    videos = [
        open_video(_name_of(folder, root), folder / "frames", folder / "masks", bool(single_object), IMAGE_SUFFIXES)
        for folder in natural_order(folders)
    ]
    known = {*folders, *results}
    parts_missing = [name for name in names_in(root) if (root / name).is_dir() and root / name not in known]
    if root not in folders and parts_missing:
        log.warning(
            "%d folders in %s are ignored because they contain neither frames/ nor masks/, starting with %s",
            *(len(parts_missing), root, parts_missing[0]),
        )
    if single_object is None:
        return [replace(video, single_object=_looked_at(video)) for video in videos]
    return videos


def _is_of_results(names: Collection[str]) -> bool:
    """Returns whether a folder that holds these names has results of an evaluation: masks and settings, no frames."""
    return {"settings.json", "masks"} <= set(names) and "frames" not in names


def _name_of(folder: Path, root: Path) -> str:
    """Returns a video's name, that of its folder; links are not resolved, as their targets may have equal names."""
    return (folder.resolve() if folder == root else folder).name


def _looked_at(video: AnnotatedVideo) -> bool:
    """Returns whether masks are black and white (255); raises MaskError if the first non-empty one has soft edges."""
    checks = TrueMaskChecks(ids=False)
    for index in sorted(video.masks):
        labels = video.read_labels(index)
        checks.add(video.masks[index], labels)
        if (values := np.unique(labels)).any():
            return bool(values[values > 0].tolist() == [255]) and not _has_ids(video)
    return False


def _has_ids(video: AnnotatedVideo) -> bool:
    """Returns whether any of a few evenly spaced masks has values other than 0 and 255."""
    masks = sorted(video.masks)
    some = masks[:: max(1, len(masks) // _LOOKED_AT)]
    return any(bool(np.isin(video.read_labels(index), (0, 255), invert=True).any()) for index in some)


def _open_davis(year: int, subset: str, root: Path | str) -> list[AnnotatedVideo]:
    return list(DavisSequences(root, year, subset))


_SETS = (
    *(
        VideoSet(f"DAVIS-{year}-{subset}", DAVIS_PUBLISHED, partial(_open_davis, year, subset))
        for year in (2016, 2017)
        for subset in ("train", "val")
    ),
    *(
        VideoSet(f"YouTube-VOS-{subset}", YOUTUBE_VOS_PUBLISHED, partial(open_youtube_vos, subset=subset))
        for subset in ("train", "valid")
    ),
    VideoSet("BL30K", BL30K_PUBLISHED, open_bl30k),
)


@dataclass(frozen=True)
class CustomVideoSet:
    """A user-defined set of videos.

    Attributes:
        name: name as given, with arguments.
        source: digest of the source.
        open: function that returns the videos of a folder.
    """

    name: str
    source: str
    open: Callable[[Path], Iterable[AnnotatedVideo]] = field(repr=False, compare=False)

    def __call__(self, root: Path) -> list[AnnotatedVideo]:
        """Returns the videos of a folder; raises InputError if that fails or one of them cannot be used."""
        try:
            videos = list(self.open(root))
        except MnemaskError:
            raise
        except Exception as error:
            raise InputError(f"data set {self.name} cannot open {root}: {describe_error(error)}", OPENER_IS) from error
        names = [video.name for video in videos if isinstance(video, AnnotatedVideo)]
        if not videos or len(set(names)) < len(videos):
            raise InputError(
                f"data set {self.name} returned {len(set(names))} names for {len(videos)} videos", OPENER_IS
            )
        for video in videos:
            _check_own(video, self.name)
        return videos


def _accepted(made: object, label: str) -> CustomVideoSet:
    opens = made.open if isinstance(made, VideoSet) else made
    if not callable(opens):
        raise InputError(f"data set {label} is a {type(made).__name__}", OPENER_IS)
    return CustomVideoSet(label, source_digest(opens), opens)


def _check_own(video: AnnotatedVideo, label: str) -> None:
    """Raises InputError if a video from a user-defined opener has a part that is missing or not supported."""
    if not video.frames or not video.masks:
        what = "masks" if video.frames else "frames"
        raise InputError(f"data set {label} returned {video.name} without {what}", "leave it out, or add some")
    beyond = [index for index in video.masks if not is_whole(index) or not 0 <= index < len(video.frames)]
    if beyond:
        raise InputError(
            f"data set {label} returned {video.name} with a mask of frame {beyond[0]!r} of {len(video.frames)} frames",
            "key masks by the position of their frame, counted from 0",
        )
    if video.void not in (VOID, None):
        raise InputError(
            f"data set {label} returned {video.name} with void {video.void!r}",
            f"save void pixels as {VOID}, or give None if {VOID} is an object's id",
        )


OPENER_IS = (
    "give a function that takes a folder and returns AnnotatedVideos with unique names (mnemask.datasets.annotated)"
)
CUSTOM_VIDEO_SETS: Registry[CustomVideoSet] = Registry("data set", "mnemask.datasets", {}, _accepted)
VIDEO_SETS = {video_set.name: video_set for video_set in _SETS}
"""The published sets, by name; the entries for YouTube-VOS are for both 2018 and 2019."""
