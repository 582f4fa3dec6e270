"""A folder of clips as a manifest: each video with the masks beside it, or in a folder of masks."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mnemask.choices import USUAL_VIDEO_SUFFIXES, VIDEO_SUFFIXES
from mnemask.errors import FrameError, InputError, MnemaskError, listed
from mnemask.io.frame_files import find_frames, image_files
from mnemask.io.image_stacks import page_count
from mnemask.io.name_order import composed, natural_order
from mnemask.manifest.lines import Column, Manifest, read_manifest
from mnemask.prompts.mask_matching import mask_of_first

_FRAMES = ("videos", "clips", "frames", "JPEGImages", "JPEGImages/480p")
_MASKS = ("masks", "prompts", "labels", "Annotations", "Annotations/480p")
_PROMPTS = {"mask", "at", "box", "click"}
_MASK_SUFFIXES = (".png", ".json", ".bmp", ".tif", ".tiff", ".gif", ".webp")
_STACK_SUFFIXES = (".tif", ".tiff", ".gif", ".webp", ".png", ".apng")


def read_folder(
    folder: Path,
    columns: Sequence[Column],
    check: Callable[[Mapping[str, Any]], object] = lambda options: None,
    defaults: Mapping[str, Any] | None = None,
) -> Manifest:
    """Returns the clips in a folder.

    Clips are its video files and folders of images, or those in its folder `videos`, `clips`, `frames` or `JPEGImages`.
    The mask of `street.mp4` is `street.png`, a folder `street.masks` or, in a folder `masks`, `prompts`, `labels` or
    `Annotations`, `street.png` or a folder `street`. A video with a rare suffix (`USUAL_VIDEO_SUFFIXES` has
    the others) and an image of several pictures are clips if they have a mask and there is no other video of their
    name. A note names other files that have masks.

    Raises:
        InputError: there is no clip in it.
    """
    masks, there, clips, left_out = _found(folder)
    if not clips:
        raise InputError(
            f"{str(folder)!r} holds no clip"
            + (f", only {listed(left_out, 3)} with masks but without a usual suffix of videos" if left_out else ""),
            "give one with videos or folders of images and their masks (street.mp4, street.png), or a manifest",
        )
    rows, notes = [], []
    if left_out:
        notes.append(
            f"{listed(left_out)}: left out, since only videos with a usual suffix, folders of images and files of "
            "several pictures are taken from a folder: to use such a file, list it in a manifest"
        )
    for number, clip in enumerate(clips, 1):
        row: dict[str, Any] = {"video": str(clip.resolve())}
        mask = _mask_of(clip, masks, there)
        if mask is not None:
            first = _first_if_all(clip, mask)
            if first is not None:
                notes.append(
                    f"{mask} holds a mask for each frame of {clip.name}: only the first, {first.name}, is used"
                )
            row["mask"] = str((first or mask).resolve())
        rows.append((number, row))

    def check_by_name(options: Mapping[str, Any]) -> object:
        try:
            return check(options)
        except MnemaskError as error:
            if not _PROMPTS.isdisjoint(options):
                raise
            raise _naming(Path(options["video"]), error, masks) from error

    read = read_manifest(folder, columns, check_by_name, defaults, rows)
    return Manifest(read.path, read.clips, read.faults, notes)


def _found(folder: Path) -> tuple[Path | None, dict[str, Path], list[Path], list[str]]:
    """Returns the folder of the masks, where masks may be by name, the clips, and other files with a mask of their own.

    They are those of the first of the usual folders of frames that has a clip, or else of the folder itself, which has
    no folder of masks.
    """
    masks = next((folder / each for each in reversed(_MASKS) if (folder / each).is_dir()), None)
    for videos in (folder / each for each in reversed(_FRAMES)):
        if videos.is_dir():
            there = _named(masks or videos)
            clips, left_out = _clips(videos, masks, there)
            if clips:
                return masks, there, clips, left_out
    there = _named(folder)
    return None, there, *_clips(folder, None, there)


def _clips(videos: Path, masks: Path | None, there: Mapping[str, Path]) -> tuple[list[Path], list[str]]:
    """Returns the clips in a folder, and the names of its other files that have a mask of their own."""
    clips = [path for path in videos.iterdir() if _is_clip(path)]
    others = list(_others(videos, masks, there, clips))
    more = [path for path in others if _is_rare_clip(path)]
    rest = natural_order(_others(videos, masks, there, [*clips, *more]))
    return natural_order([*clips, *more]), [path.name for path in rest if path != _masks_of(path, masks, there)[0]]


def _others(videos: Path, masks: Path | None, there: Mapping[str, Path], clips: Collection[Path]) -> Iterator[Path]:
    """Yields the files that have a mask of their name while no clip has that name."""
    taken = {_name_of(clip) for clip in clips}
    for path in videos.iterdir():
        is_free = path.is_file() and not path.name.startswith(".") and _name_of(path) not in taken
        if is_free and _mask_of(path, masks, there) is not None:
            yield path


def _is_clip(path: Path) -> bool:
    if path.name.startswith(".") or path.suffix.lower() == ".masks":
        return False
    if path.is_file():
        return path.suffix.lower() in USUAL_VIDEO_SUFFIXES
    return path.is_dir() and bool(image_files(path))


def _is_rare_clip(path: Path) -> bool:
    """Returns whether a file with a mask is a clip: other files have these suffixes too, or are another's original."""
    suffix = path.suffix.lower()
    return suffix in VIDEO_SUFFIXES or (suffix in _STACK_SUFFIXES and page_count(path) > 1)


def _named(place: Path) -> dict[str, Path]:
    """Returns the entries of a folder by name, and also by their names with the suffix in lower case."""
    there = sorted(place.iterdir())
    small = {composed(f"{path.stem}{path.suffix.lower()}"): path for path in there}
    return small | {composed(path.name): path for path in there}


def _mask_of(clip: Path, masks: Path | None, there: Mapping[str, Path]) -> Path | None:
    """Returns the preferred mask of a clip, other than the clip itself; None if there is none."""
    return next((mask for mask in _masks_of(clip, masks, there) if mask != clip), None)


def _masks_of(clip: Path, masks: Path | None, there: Mapping[str, Path]) -> list[Path]:
    """Returns what has the name of a clip's mask, preferred ones first."""
    return [there[end] for end in _ends_of(clip, masks) if end in there]


def _name_of(clip: Path) -> str:
    return composed(clip.name if clip.is_dir() else clip.stem)


def _ends_of(clip: Path, masks: Path | None) -> tuple[str, ...]:
    """Returns the possible names of a clip's mask, preferred ones first."""
    name = _name_of(clip)
    of_many = f"{name}.masks" if masks is None else name
    return (of_many, *(f"{name}{end}" for end in _MASK_SUFFIXES))


def _naming(clip: Path, error: MnemaskError, masks: Path | None) -> InputError:
    """Returns the error of a clip by its name, with the masks that were looked for but not found."""
    of_many, png, *_ = _ends_of(clip, masks)
    where = "beside it" if masks is None else f"in {masks.name}"
    return InputError(
        f"{clip.name} has no mask {where}: {error.problem}",
        f"add {png!r} or a folder {of_many!r} {where}, or write a manifest that says what to track",
    )


def _first_if_all(clip: Path, mask: Path) -> Path | None:
    """Returns the mask of the first frame if every frame has one: a dataset's ground truth is not used as prompts.

    If there are as many masks as frames but none for the first, the folder is used: one of its masks has no frame.
    """
    if not (clip.is_dir() and mask.is_dir()):
        return None
    found = [path for path in mask.iterdir() if path.suffix.lower() == ".png" and path.name[0] != "."]
    try:
        names = [path.stem for path in find_frames(clip).paths]
    except FrameError:  # reported when the clip is checked
        return None
    return mask_of_first(found, names) if 1 < len(names) <= len(found) else None
