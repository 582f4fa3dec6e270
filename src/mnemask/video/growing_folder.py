"""A folder into which images are still being written."""

import logging
from pathlib import Path

from mnemask.video.images import image_files, natural_key, read_picture
from mnemask.video.patience import Patience
from mnemask.video.picture import Damaged, Pictures

logger = logging.getLogger(__name__)


class GrowingFolder:
    """The images of a folder, and those that come while it is read; it ends when none has come for a while.

    An image is given when it can be decoded whole, or when a later one is there already. One that comes late, behind
    its successor in natural order, is left out with a logged warning.
    """

    frames_per_second = num_frames = None
    repeatable = True

    def __init__(self, folder: Path, name: str, patience: Patience) -> None:
        self.name = name
        self._folder = folder
        self._patience = patience

    def pictures(self, start: int) -> Pictures:
        """Yields the images from number `start` on as they come, and every unreadable one."""
        seen: set[Path] = set()
        last: Path | None = None
        index = 0
        while True:
            waiting = self._after(last, seen)
            for path in waiting:
                picture = read_picture(path, index)
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
        images = [path for path in image_files(self._folder) if path not in seen]
        late = [path for path in images if last is not None and natural_key(path) < natural_key(last)]
        seen.update(late)
        for path in late:
            logger.warning("%s came after its successors and is left out", path)
        return [path for path in images if path not in late]
