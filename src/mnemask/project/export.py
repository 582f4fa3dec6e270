"""Export of a project's masks for other tools."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mnemask.choices import VIDEO_FORMAT_NAMES
from mnemask.errors import OutputError
from mnemask.io.edges import Cutout, soft_masks
from mnemask.io.lock import OutputLock
from mnemask.io.random_access import FrameAccess
from mnemask.io.writer import MaskWriter
from mnemask.io.written import Written, first_same
from mnemask.pipeline.expected import Expected
from mnemask.pipeline.places import Places, VideoOutputs, refuse_own_rate, refuse_run
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
    cutout: Cutout | None = None,
    frames_per_second: float | None = None,
    on_frame: Callable[[int], None] = lambda frame: None,
) -> list[Path]:
    """Writes the masks of every frame to `OUT/masks/`, with `overlay` also `OUT/overlay.mp4`, and returns these paths.

    Frames that were not tracked have no objects. One frame is in memory at a time.

    Args:
        project: the project to export.
        out: the folder, created if missing.
        mask_format: a format of `MaskWriter`. A project keeps masks, not probabilities: RGBA cut-outs have hard edges,
            videos for editors edges that are soft over one pixel.
        overlay: whether to draw the masks into a video.
        overwrite: whether files of an earlier export may be replaced.
        cutout: the objects, background colour and edges of videos for editors.
        frames_per_second: frame rate of videos of frames without times, as in a folder of images; None for 25.
        on_frame: called after each frame.

    Raises:
        InputError: another video has taken the place of the project's, or there is none any more; or a frame rate is
            given, but frames have times.
        ObjectIdError: the cut-out names an object that does not exist.
        OutputError: `out` is in use, `check_export` raises it, or the project's folder is gone.
        MissingExtraError: the format needs a package that is not installed.
    """
    project.check_folder()
    project.check_video()
    out = Path(out)
    ids = tuple(sorted(project.state.objects))
    cutout = cutout or Cutout()
    cutout.refuse_unknown(ids)
    with ExitStack() as stack:
        stack.enter_context(OutputLock(out))
        places = check_export(
            *(project.frames, project.source, out, [project.folder], mask_format),
            overlay=overlay,
            overwrite=overwrite,
            frames_per_second=frames_per_second,
        )
        written = Written(out)
        if overwrite:
            written.remove_all()
        writers = [
            stack.enter_context(
                MaskWriter(
                    place,
                    kind,
                    frames_per_second=project.frames.frames_per_second or frames_per_second or 25.0,
                    written=written,
                    largest_id=max(ids, default=0),
                    file_names=project.frames.file_names,
                    footage=project.frames.facts.footage,
                    objects={each.id: each.info for each in project.state.objects.values()},
                    cutout=cutout,
                )
            )
            for place, kind in places.items()
        ]
        # Videos for editors are made from the pictures as stored, at full bit depth.
        pictures = project.frames
        if mask_format in VIDEO_FORMAT_NAMES and project.source.is_file():
            pictures = stack.enter_context(project.frames.with_originals())
        for frame in pictures.run(0, project.num_frames - 1):
            labels = project.labels(frame.index)
            if mask_format in VIDEO_FORMAT_NAMES:
                masks = soft_masks(labels.cpu().numpy(), ids, frame.index, frame.name)
            else:
                masks = Masks(labels, _certain(labels, ids), ids, frame.index, frame.name)
            for writer in writers:
                writer.write(masks, frame)
            on_frame(frame.index)
    return list(places)


def check_export(
    frames: FrameAccess,
    source: Path,
    out: Path,
    projects: Iterable[Path],
    mask_format: str = "png",
    *,
    overlay: bool = False,
    overwrite: bool = False,
    frames_per_second: float | None = None,
) -> dict[Path, str]:
    """Checks that an export can be written, and returns its places with their formats.

    Args:
        frames: the frames of the project's video.
        source: the path of the video.
        out: the folder to write to.
        projects: folders of projects, which the export must not write to.
        mask_format: as for `export_project`.
        overlay: likewise.
        overwrite: likewise.
        frames_per_second: likewise.

    Raises:
        InputError: a frame rate is given, but frames have times.
        OutputError: the folder contains an export, a run, a project or other files that are in the way, or it cannot be
            written to.
        MissingExtraError: the format needs a package that is not installed.
    """
    refuse_own_rate(frames_per_second, timed=frames.frames_per_second is not None)
    places = {out / "masks": mask_format, **({out / "overlay.mp4": "overlay"} if overlay else {})}
    taken = [place for place in places if place.exists()]
    if taken and not overwrite:
        raise OutputError(f"{str(taken[0])!r} already exists", "give another folder, or overwrite it (--overwrite)")
    if found := first_same([out, out / "masks"], [part for each in projects for part in (each, each / "masks")]):
        raise OutputError(f"{str(found[0])!r} is a project's own folder", "give another folder")
    written = Written(out)
    refuse_run(out, written, masks=False)
    expected = Expected(frames.num_frames, frames.num_frames, True, frames.files, frames.facts.footage)
    videos = VideoOutputs().with_overlay(overlay)
    Places(out, mask_format, videos, inputs=[source], expected=expected, told=False).check(written)
    return places


def _certain(labels: Labels, ids: tuple[int, ...]) -> Float[Tensor, "K1 H W"]:
    """Returns probabilities of 0 and 1."""
    return torch.stack([labels == object_id for object_id in (0, *ids)]).float()
