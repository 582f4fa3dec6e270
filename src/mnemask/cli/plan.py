"""What the user said of the objects, as the plan of a run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnemask.cli import identity

if TYPE_CHECKING:
    from mnemask.prompts import PromptPlan


@dataclass(frozen=True, slots=True)
class PromptOptions:
    """Where masks come from, as the user gave it; the options of segment, compare and inspect."""

    mask: Path | None
    boxes: Sequence[str] = ()
    later: Sequence[str] = ()
    clean: bool = False
    removed: Sequence[str] = ()
    box_format: str = "xywh"
    void: str = "auto"
    clicks: Sequence[str] = ()
    not_clicks: Sequence[str] = ()

    @property
    def any(self) -> bool:
        """Whether anything was given."""
        return bool(self.mask or self.boxes or self.later or self.removed or self.clicks or self.not_clicks)

    def plan(self, video: str, *, growing: bool = False, known: Collection[int] = ()) -> PromptPlan:
        """Returns all masks of a run, read and checked.

        Args:
            video: that they are of.
            growing: whether it is still being written, and so has more frames than now.
            known: the objects that are tracked before its first frame.
        """
        from mnemask.prompts import PromptPlan, parse_void

        names = frame_names(video, self.files())
        return PromptPlan(
            self.mask,
            self.boxes,
            self.later,
            self.clean,
            clicks=self.clicks,
            not_clicks=self.not_clicks,
            removed=self.removed,
            box_format="xyxy" if self.box_format == "xyxy" else "xywh",
            void=parse_void(self.void),
            names=names,
            num_frames=None if names is None or growing else len(names),
            known=known,
        )

    def settings(self) -> dict[str, Any]:
        """Returns what must be the same when the run goes on."""
        return {
            "mask": identity.of_masks(self.mask),
            "boxes": list(self.boxes),
            "box_format": self.box_format,
            "at": identity.of_later(self.later),
            "removed": list(self.removed),
            "clicks": list(self.clicks),
            "not_clicks": list(self.not_clicks),
            "clean_masks": self.clean,
            "void": self.void,
        }

    def files(self) -> list[Path]:
        """Returns the mask files and folders."""
        from mnemask.prompts import parse_at

        return [path for path in (self.mask, *(parse_at(text).path for text in self.later)) if path]


def frame_names(video: str, masks: Collection[Path] = ()) -> list[str] | None:
    """Returns the names of the frames, without endings, where the video is a folder or a pattern of images."""
    if "://" in video or not (has_magic(video) or Path(video).is_dir()):
        return None
    from mnemask.io.frame_files import find_frames
    from mnemask.io.stacks import page_count

    images = find_frames(Path(video), masks).paths
    return None if len(images) == 1 and page_count(images[0]) > 1 else [image.stem for image in images]
