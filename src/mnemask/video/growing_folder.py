"""A folder into which images are still being written."""

import logging
from collections.abc import Collection
from pathlib import Path

from mnemask.video.frame_files import frames_among, image_files
from mnemask.video.images import levels_of, read_picture
from mnemask.video.levels import Levels
from mnemask.video.patience import Patience
from mnemask.video.picture import Damaged, Pictures, SourceFacts

logger = logging.getLogger(__name__)


class GrowingFolder:
    """The images of a folder, and those that come while it is read; it ends when none has come for a while.

    An image is given when it can be decoded whole, or when a later one is there already. One that comes late, behind
    its successor in natural order, is left out with a logged warning. Of more than 8 bits, the first image tells the
    range of the values.
    """

    frames_per_second = num_frames = None
    repeatable = True
    facts = SourceFacts(timed=False)

    def __init__(self, folder: Path, name: str, patience: Patience, masks: Collection[Path] = ()) -> None:
        self.name = name
        self._folder, self._masks = folder, masks
        self._patience = patience

    def pictures(self, start: int) -> Pictures:
        """Yields the images from number `start` on as they come, and every unreadable one."""
        seen: set[Path] = set()
        last: Path | None = None
        index = 0
        levels: Levels | None = None
        while True:
            waiting = self._after(last, seen)
            for path in waiting:
                levels = levels or levels_of([path])
                picture = read_picture(path, index, levels)
                if isinstance(picture, Damaged) and path == waiting[-1] and self._patience.wait():
                    break  # it may still be written
                last = path
                seen.add(path)
                self._patience.succeeded()
                if index >= start:
                    yield picture
                index += 1
            if not waiting and not self._patience.wait():
                return

    def close(self) -> None:
        """Does nothing: no file stays open between two images."""

    def _after(self, last: Path | None, seen: set[Path]) -> list[Path]:
        """Returns the unseen images behind the last one in natural order, and warns of those before it, once."""
        images = list(frames_among(image_files(self._folder), self._masks).paths)
        begin = images.index(last) + 1 if last in images else 0
        late = [path for path in images[:begin] if path not in seen]
        seen.update(late)
        for path in late:
            logger.warning("%s came after its successors and is left out", path)
        return [path for path in images[begin:] if path not in seen]
