"""Sources that are still being written: files, pipes and folders, read with waits that can be interrupted."""

import logging
import os
import select
import stat
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mnemask.errors import FrameError
from mnemask.io.frame_files import frames_among, image_files, notes_on_others
from mnemask.io.image_sequences import deep_samples, notes_on_orientation
from mnemask.io.images import deep_values_of, read_picture, refuse_piped_stack, sample
from mnemask.io.live import Backoff
from mnemask.io.name_order import natural_order
from mnemask.io.pictures import Damaged, DecodedPicture, Levels, Pictures, Readable, SourceFacts, extremes

logger = logging.getLogger(__name__)


_LOOK_MILLISECONDS = 100
_TURNED, _OTHERS, _RANGE = "orientation", "other files", "range of values"  # topics of notes


class GrowingFile:
    """The bytes of a file that still grows; at its end it waits for more, until the file has not grown for a while.

    It cannot seek, so that a decoder treats it as a pipe and never seeks to parts that are not written yet.
    """

    def __init__(self, path: Path, backoff: Backoff) -> None:
        self._file = path.open("rb", buffering=0)
        self._backoff = backoff

    def read(self, size: int, /) -> bytes:
        """Returns up to `size` bytes; none once `backoff` has given up."""
        while not (data := self._file.read(size)):
            if not self._backoff.wait():
                return b""
        self._backoff.succeeded()
        return data

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class Pipe:
    """The bytes of a pipe as they come; it ends when its writer closes it or the wait is interrupted."""

    def __init__(self, pipe: Readable, fileno: int, interrupted: threading.Event) -> None:
        # read1 returns what is available; read would wait for all of `size`.
        self._read = getattr(pipe, "read1", pipe.read)
        self._name = Path(str(getattr(pipe, "name", "pipe"))).name
        self._began = False
        self._interrupted = interrupted
        self._poll = select.poll()
        self._poll.register(fileno, select.POLLIN)

    def read(self, size: int, /) -> bytes:
        """Returns up to `size` bytes; none at the end."""
        while not self._poll.poll(_LOOK_MILLISECONDS):
            if self._interrupted.is_set():
                return b""
        data: bytes = self._read(size)
        if not self._began:
            refuse_piped_stack(data, self._name)
        self._began = True
        return data


class NamedPipe(Pipe):
    """A pipe in the file system; opening it waits for its writer."""

    def __init__(self, path: Path, interrupted: threading.Event) -> None:
        self._file = path.open("rb", buffering=0)
        super().__init__(self._file, self._file.fileno(), interrupted)

    def close(self) -> None:
        """Closes the reading end."""
        self._file.close()


def interruptible(source: Readable, interrupted: threading.Event) -> Readable:
    """Returns the source, as a `Pipe` if it is a pipe or socket on a POSIX system, where waits can be interrupted."""
    fileno = getattr(source, "fileno", None)
    if os.name != "posix" or fileno is None:
        return source
    try:
        number = fileno()
    except OSError:  # io.UnsupportedOperation: a file in memory
        return source
    mode = os.fstat(number).st_mode
    return Pipe(source, number, interrupted) if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else source


@dataclass(frozen=True, slots=True)
class _Place:
    """An image from which an earlier reader's numbers go on; one that is done may be gone, as nothing needs it."""

    number: int
    name: str
    is_done: bool


class GrowingFolder:
    """The images of a folder and those added while it is read; it ends when none was added for a while.

    An image is yielded once it can be decoded completely, or once a later one exists. One that appears after its
    successor in natural order was read is left out with a warning in the log. Images that were read may be removed.
    With more than 8 bits, the images that are there when the first is read, or the first that is not black, determine
    the range of the values.

    `facts` are added to while it is read.
    """

    frames_per_second = num_frames = None
    repeatable = True

    def __init__(self, folder: Path, name: str, backoff: Backoff, masks: Collection[Path] = ()) -> None:
        self.name = name
        self.facts = SourceFacts(timed=False)
        self._folder, self._masks = folder, masks
        self._backoff = backoff
        self._topics: set[str] = set()
        self._place: _Place | None = None

    def continue_from(self, number: int, name: str, levels: Levels | None, *, is_done: bool) -> None:
        """Reads on as an earlier reader did, see `VideoReader.continue_from`."""
        self.facts = replace(self.facts, levels=levels)
        self._place = _Place(number, name, is_done) if name else None

    def pictures(self, start: int) -> Pictures:
        """Yields the images from number `start` on as they appear, including unreadable ones."""
        images = self._images()
        last, index = self._begin(images)
        seen = set(_up_to(last, images))
        while True:
            waiting = self._after(last, images, seen)
            if waiting:
                self._look_at(waiting)
            for path in waiting:
                skipped = index < start and path != waiting[-1]
                picture = None if skipped else self._read(path, index)
                if isinstance(picture, Damaged) and path == waiting[-1] and self._backoff.wait():
                    break  # it may still be written
                last = path
                seen.add(path)
                self._backoff.succeeded()
                if picture is not None and index >= start:
                    yield picture
                index += 1
            if not waiting and not self._backoff.wait():
                return
            images = self._images()

    def close(self) -> None:
        """Does nothing: no file stays open between two images."""

    def _begin(self, images: Sequence[Path]) -> tuple[Path | None, int]:
        """Returns the image after which to read, None for all, and the number of the first that is read."""
        place = self._place
        if place is None:
            return None, 0
        at = next((at for at, path in enumerate(images) if path.stem == place.name), None)
        if at is not None:
            return None, place.number - at
        if not place.is_done:
            raise FrameError(
                f"the run begins with the picture {place.name!r}, which is no longer in {str(self._folder)!r}",
                "put it back, or start over with masks of a picture that is there (--overwrite)",
            )
        return self._folder / f"{place.name}.png", place.number + 1

    def _read(self, path: Path, index: int) -> DecodedPicture | Damaged:
        levels = self.facts.levels
        picture = read_picture(path, index, levels)
        if isinstance(picture, Damaged):
            return picture
        if levels is not None:
            self._compare(picture, path, levels)
            return picture
        # It may have been incomplete when the levels were looked for.
        self._look_for_levels([path])
        return picture if self.facts.levels is None else read_picture(path, index, self.facts.levels)

    def _look_at(self, waiting: Sequence[Path]) -> None:
        """Determines the levels before the first of these images is read, and notes what cannot be seen in names."""
        if self.facts.levels is None:
            self._look_for_levels(waiting)
        if _TURNED not in self._topics:
            self._say((_TURNED, note) for note in notes_on_orientation(sample(waiting)))
        if _OTHERS not in self._topics:
            self._say((_OTHERS, note) for note in notes_on_others(self._folder, self._masks))
            self._topics.add(_OTHERS)

    def _look_for_levels(self, paths: Sequence[Path]) -> None:
        """Determines the levels if some of these images have more than 8 bits and are not black."""
        samples = deep_samples(paths)
        levels = Levels.of_deep(values for values in samples if values is not None and extremes(values)[1])
        if levels is not None:
            self.facts = replace(self.facts, levels=levels.for_more())

    def _compare(self, picture: DecodedPicture, path: Path, levels: Levels) -> None:
        """Warns once of an image with values outside the levels: those of memory cannot be changed any more."""
        may_exceed = int(picture.image.max()) == 255 or (levels.black and not int(picture.image.min()))
        if _RANGE in self._topics or levels == Levels() or not may_exceed:
            return
        values = deep_values_of(path)
        if values is None:
            return
        lowest, highest = extremes(values)
        if lowest < levels.black or highest > levels.white:
            note = (
                f"{path.name} holds values from {lowest} to {highest}, but by the first pictures {levels}: all beyond "
                "is clipped; to use the range of all pictures, read the finished folder without follow (--follow)"
            )
            self._say([(_RANGE, note)])

    def _say(self, notes: Iterable[tuple[str, str]]) -> None:
        """Logs the notes on topics that have not come up before, and adds them to the facts."""
        new = [(topic, note) for topic, note in notes if topic not in self._topics]
        for topic, note in new:
            logger.warning("%s: %s", self.name, note)
            self._topics.add(topic)
        self.facts = replace(self.facts, notes=(*self.facts.notes, *(note for _, note in new)))

    def _images(self) -> Sequence[Path]:
        """Returns the images that are there now, in natural order, and notes what their names leave open."""
        found = frames_among(image_files(self._folder), self._masks)
        self._say(zip(found.topics, found.notes, strict=True))
        return found.paths

    def _after(self, last: Path | None, images: Sequence[Path], seen: set[Path]) -> list[Path]:
        """Returns the unseen images after the last one in natural order, and warns once of all that is left out."""
        seen.intersection_update(images)  # what is removed must not fill the memory of a run that never ends
        before = _up_to(last, images)
        for path in before:
            if path not in seen:
                logger.warning("%s appeared after its successors were read and is left out", path)
        seen.update(before)
        return [path for path in images[len(before) :] if path not in seen]


def _up_to(last: Path | None, images: Sequence[Path]) -> Sequence[Path]:
    """Returns the images up to the last one in natural order, wherever that was if it is gone; none if it is None."""
    if last is None:
        return []
    if last in images:
        return images[: images.index(last) + 1]
    return images[: natural_order([*images, last]).index(last)]
