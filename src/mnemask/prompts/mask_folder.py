"""Finds the masks in a folder, or in an annotation tool's file."""

import re
from collections.abc import Sequence
from pathlib import Path

from mnemask.errors import MaskError, listed
from mnemask.io.frame_files import like_labels, masks_among
from mnemask.io.images import IMAGE_SUFFIXES, is_unread_picture
from mnemask.io.label_files import annotated_frames, file_names_of, file_of
from mnemask.io.label_video import LABEL_VIDEO
from mnemask.io.written import INDEX, Written
from mnemask.io.yolo import refuse_nearly_yolo
from mnemask.types import check_object_id

MASK_SUFFIXES = (*IMAGE_SUFFIXES, ".gif")


def folders_of_objects(folder: Path) -> dict[int | None, Path]:
    """Returns the folders of masks in a folder: itself, or one for each object if its subfolders are named by ids.

    Raises:
        MaskError: only some of the subfolders are named by ids, or one by 0.
    """
    inside = _given_in(folder)
    by_id = {int(each.name): each for each in inside if each.is_dir() and re.fullmatch(r"\d{1,5}", each.name)}
    if not by_id or any(each.suffix.lower() in MASK_SUFFIXES for each in inside):
        return {None: folder}
    if 0 in by_id:
        raise MaskError(
            f"folder {by_id[0]} is named by id 0, which is the background", "name the folders of objects from 1 on"
        )
    if others := [each.name for each in inside if each.is_dir() and each not in by_id.values()]:
        raise MaskError(
            f"folder {folder} holds folders of objects ({', '.join(each.name for each in by_id.values())[:60]}) and "
            f"{others[0]!r}, which is not an id",
            "name each folder by the id of its object, or move it elsewhere",
        )
    return {check_object_id(object_id): each for object_id, each in sorted(by_id.items())}


def mask_files(folder: Path) -> list[Path]:
    """Returns the files in a folder of masks that `MaskPlaces` reads, sorted by name.

    Raises:
        MaskError: as raised by `given_masks` and `folders_of_objects`.
    """
    holders = list(dict.fromkeys(path.parent for path in annotated_frames(folder)))
    if holders == [folder]:  # a text file for each picture, perhaps in labels/, and one for the class names
        # Files of an export count like any others, but not the report of a run into this folder.
        report = Written(folder).owns(folder / "report.json")
        texts = sorted(path for place in (folder.glob("*"), (folder / "labels").rglob("*")) for path in place)
        texts = [path for path in texts if path.suffix.lower() in (".json", ".txt", ".yaml") and path.name[0] != "."]
        return [path for path in texts if path.is_file() and not (report and path == folder / "report.json")]
    return holders or [path for each in folders_of_objects(folder).values() for path in given_masks(each)[0]]


def given_masks(folder: Path) -> tuple[list[Path], int]:
    """Returns the masks that `list_masks` finds in a folder, without the frames beside them, and how many these are.

    Raises:
        MaskError: as raised by `list_masks`, or the images are frames and their masks are in an annotation file.
    """
    masks = list_masks(folder)
    if any(file_of(path) != path for path in masks):
        return masks, 0
    if among := masks_among(masks):
        return sorted(among), len(masks) - len(among)
    if annotations := _annotations_of(masks, folder):
        raise MaskError(
            f"the pictures in {folder} are frames, and {annotations.name} there holds their masks",
            f"give {annotations}",
        )
    return masks, 0


def list_masks(folder: Path) -> list[Path]:
    """Returns the images in a folder, sorted by name, or the label maps of annotation files there or of one such file.

    Raises:
        MaskError: there is none, a file is damaged, or `folder` is a single image, which names no frame.
    """
    if folder.exists() and (inside := annotated_frames(folder)):
        return inside
    if not folder.is_dir():
        what = "is not a file of an annotation tool" if folder.exists() else "does not exist"
        raise MaskError(
            f"{folder} {what}", "give such a file or a folder of masks, or a single image as --at FRAME=FILE"
        )
    files = [path for path in _given_in(folder) if path.is_file()]
    masks = [path for path in files if path.suffix.lower() in MASK_SUFFIXES]
    if not masks:
        if unread := [path.name for path in files if is_unread_picture(path)]:
            raise MaskError(
                f"folder {folder} holds images of an unsupported format ({listed(unread, 1)})",
                "convert them to PNG",
            )
        refuse_nearly_yolo(folder)
        raise MaskError(f"folder {folder} holds no mask ({', '.join(MASK_SUFFIXES)})", way_out(folder))
    return masks


def way_out(folder: Path, else_: str = "give the folder that the masks are in") -> str:
    """Returns the remedy for a folder without masks, which may be the folder of a run."""
    run = folder / "masks"
    if video := next((each / LABEL_VIDEO for each in (folder, run) if (each / LABEL_VIDEO).is_file()), None):
        return (
            f"of the label video {video} give single maps, such as --at 12={video}/00012, or make images of it: "
            "mnemask export RUN --to davis -o NEW, and give the folder in NEW/Annotations/480p"
        )
    return f"give {run}, which a run wrote" if run.is_dir() else else_


def _given_in(folder: Path) -> list[Path]:
    """Returns the entries of a folder of masks, sorted by name, without hidden files and those that runs wrote."""
    written = Written(folder)
    of_runs = {folder / path.relative_to(folder).parts[0] for path in written.files()}
    return [
        path
        for path in sorted(folder.iterdir())
        if path.name[0] != "." and path not in of_runs and not written.claims(path) and not (path / INDEX).exists()
    ]


def _annotations_of(images: Sequence[Path], folder: Path) -> Path | None:
    """Returns the only file of an annotation tool in a folder, if it lists one of these images, which are no masks."""
    files = [path for path in _given_in(folder) if path.is_file() and path.suffix.lower() in (".json", ".xml")]
    if len(files) != 1 or like_labels(images):
        return None
    try:
        inside = annotated_frames(files[0])
    except MaskError:
        return None
    listed_names = file_names_of(files[0]).values() if inside else ()
    return files[0] if {path.name for path in images} & {*listed_names} else None
