"""A project's masks in whatever format other programs read."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mnemask.choices import VIDEO_FORMAT_NAMES
from mnemask.errors import OutputError
from mnemask.io.atomic import make_folder
from mnemask.io.edges import soft_masks
from mnemask.io.writer import MaskWriter
from mnemask.io.written import Written
from mnemask.project.project import Project
from mnemask.project.results import Labels
from mnemask.types import Masks


def export_project(
    project: Project,
    out: str | Path,
    *,
    mask_format: str = "png",
    overlay: bool = False,
    overwrite: bool = False,
    on_frame: Callable[[int], bool | None] = lambda frame: None,
) -> list[Path]:
    """Returns what was written: `OUT/masks/` with the masks of every frame, and with `overlay` `OUT/overlay.mp4`.

    Frames that were not tracked have no object. One frame is held at a time.

    Args:
        project: to export.
        out: the folder, made if missing.
        mask_format: as `MaskWriter` takes it. A project keeps masks: RGBA cut-outs have hard edges, and videos for
            editors such that are soft by one pixel.
        overlay: whether to draw the masks into a video.
        overwrite: whether files of an earlier export may be replaced.
        on_frame: is called after each frame; True ends the export early.

    Raises:
        OutputError: `out` holds an export, or cannot be written to.
    """
    out = Path(out)
    places = [out / "masks", *([out / "overlay.mp4"] if overlay else [])]
    taken = [place for place in places if place.exists()]
    if taken and not overwrite:
        raise OutputError(f"{str(taken[0])!r} exists already", "give another folder, or overwrite it")
    written = Written(make_folder(out))
    if overwrite:
        written.remove_all()
    rate = project.frames.frames_per_second or 25.0
    ids = tuple(sorted(project.state.objects))
    kinds = [mask_format, "overlay"][: len(places)]
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                MaskWriter(
                    place,
                    kind,
                    frames_per_second=rate,
                    written=written,
                    largest_id=max(ids, default=0),
                    file_names=project.frames.file_names,
                    footage=project.frames.facts.footage,
                    objects={each.id: each.info for each in project.state.objects.values()},
                )
            )
            for place, kind in zip(places, kinds, strict=True)
        ]
        for frame in project.frames.run(0, project.num_frames - 1):
            labels = project.labels(frame.index)
            if mask_format in VIDEO_FORMAT_NAMES:
                masks = soft_masks(labels.cpu().numpy(), ids, frame.index, frame.name)
            else:
                masks = Masks(labels, _certain(labels, ids), ids, frame.index, frame.name)
            for writer in writers:
                writer.write(masks, frame)
            if on_frame(frame.index):
                break
    return places


def _certain(labels: Labels, ids: tuple[int, ...]) -> Float[Tensor, "K1 H W"]:
    """Returns probabilities of 0 and 1."""
    return torch.stack([labels == object_id for object_id in (0, *ids)]).float()
