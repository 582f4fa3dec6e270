"""All writers of one run, as one."""

import math
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from mnemask.segment.places import Places
from mnemask.types import Frame, Masks
from mnemask.video import MaskWriter
from mnemask.video.journal import Mark
from mnemask.video.written import Written


class Outputs:
    """OUT/masks/ and, if wanted, OUT/overlay.mp4.

    Args:
        places: where they are.
        written: what runs wrote there.
        journal: the folder of unfinished files; None for beside the output.
        marks: of an earlier run to go on with.
        largest_id: the largest object id that is known to come.
    """

    def __init__(
        self, places: Places, written: Written, journal: Path | None, marks: Mapping[str, Mark], largest_id: int
    ) -> None:
        targets = {"masks": (places.masks, places.mask_format)}
        if places.overlay:
            targets["overlay"] = (places.out / "overlay.mp4", "overlay")
        self._writers: dict[str, MaskWriter] = {}
        self._stack = ExitStack()
        with ExitStack() as stack:
            for name, (target, kind) in targets.items():
                writer = MaskWriter(
                    target,
                    kind,
                    journal=journal,
                    mark=marks.get(name),
                    written=written,
                    largest_id=largest_id,
                    file_names=places.expected.file_names,
                )
                self._writers[name] = stack.enter_context(writer)
            self._stack = stack.pop_all()
        self.stretch = math.lcm(*(writer.stretch for writer in self._writers.values()))

    def write(self, masks: Masks, frame: Frame) -> None:
        """Takes over one frame; raises what went wrong with an earlier one."""
        for writer in self._writers.values():
            writer.write(masks, frame)

    def marks(self) -> dict[str, Future[Mark]]:
        """Returns what later writers need to go on after the frames so far."""
        return {name: writer.mark() for name, writer in self._writers.items()}

    def sync(self) -> None:
        """Returns when all frames so far would survive a loss of power."""
        for writer in self._writers.values():
            writer.sync()

    def __enter__(self) -> "Outputs":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
