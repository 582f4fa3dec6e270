"""The output of a run: the files of its masks, and the report of its progress."""

import json
import logging
import math
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from mnemask.errors import OutputError
from mnemask.io import MaskWriter
from mnemask.io.atomic import ResumeState, write_file
from mnemask.io.table import TABLE, ObjectTable
from mnemask.io.written import Written, foreign
from mnemask.memory.bank import MemoryStats
from mnemask.pipeline.places import Places
from mnemask.tracker import Tracker
from mnemask.types import Frame, Masks, ObjectInfo
from mnemask.version import __version__

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class RunProgress:
    """The progress of a run, from which `report.json` is made.

    Attributes:
        frames: number of frames written so far, including those before the run was resumed.
        seconds: time that they took.
        memory: statistics of the memory bank after the last frame.
        most_tokens: the most tokens ever stored.
        most_bytes: the most bytes ever taken by the bank.
        complete: whether the run reached the end of the video.
        stopped_by: the reason if it ended early.
        video_goes_on: whether the video is known to have frames after those that were to be tracked.
        resumed_at: the frames, counted from 0, at which it was resumed.
        settings: settings for the report.
        computed_on: the machine and versions with the frame from which each applies, see `computed_on`; one entry
            unless they changed.
        video: events of the video for the report: frames dropped, damaged, held.
        source: properties of the video for the report: levels, pixels that are not square, files left out.
        objects: classes and names of objects, by id.
        object_ids: ids of all objects tracked so far, in order of appearance.
        looks: where each object was seen, lost or doubtful, by id, see `ObjectTable.looks`.
        last_name: name of the last frame written, or of the first one before it is.
    """

    frames: int = 0
    seconds: float = 0.0
    memory: MemoryStats | None = None
    most_tokens: int = 0
    most_bytes: int = 0
    complete: bool = False
    stopped_by: str = ""
    video_goes_on: bool = False
    resumed_at: list[int] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)
    computed_on: list[dict[str, Any]] = field(default_factory=list)
    video: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    objects: Mapping[int, ObjectInfo] = field(default_factory=dict)
    object_ids: list[int] = field(default_factory=list)
    looks: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    last_name: str = ""

    @property
    def frames_per_second(self) -> float:
        """Frames written per second, decoding and writing included."""
        return self.frames / self.seconds if self.seconds else 0.0

    def add(self, memory: MemoryStats, object_ids: Sequence[int]) -> None:
        """Counts a frame in which these objects were tracked."""
        self.object_ids += [object_id for object_id in object_ids if object_id not in self.object_ids]
        self.frames += 1
        self.memory = memory
        self.most_tokens = max(self.most_tokens, memory.tokens)
        self.most_bytes = max(self.most_bytes, memory.bank_bytes)

    def to_dict(self) -> dict[str, Any]:
        """Returns the content of report.json."""
        return {
            "mnemask": __version__,
            "complete": self.complete,
            "stopped_by": self.stopped_by or None,
            "video_goes_on": self.video_goes_on,
            "resumed_at": self.resumed_at,
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            "frames_per_second": round(self.frames_per_second, 3),
            "peak_memory_bytes": peak_memory_bytes(),
            "most_tokens_held": self.most_tokens,
            "most_bank_bytes_held": self.most_bytes,
            "memory": None if self.memory is None else asdict(self.memory),
            "objects": [
                {"id": i, **asdict(self.objects.get(i, ObjectInfo())), **self.looks.get(i, {})} for i in self.object_ids
            ],
            "video": dict(self.video),
            "source": dict(self.source),
            "settings": dict(self.settings),
            "computed_on": self.computed_on,
        }

    def take_up(self, saved: Mapping[str, Any], position: int) -> None:
        """Continues from what `saved` returned at frame `position`."""
        self.frames, self.seconds = int(saved["frames"]), float(saved["seconds"])
        self.object_ids = [int(i) for i in saved.get("object_ids", ())]
        self.most_tokens, self.most_bytes = int(saved["most_tokens"]), int(saved["most_bytes"])
        self.resumed_at = [*saved["resumed_at"], position]

    def saved(self) -> dict[str, Any]:
        """Returns the part that is stored in checkpoints."""
        numbers = ("frames", "seconds", "most_tokens", "most_bytes")
        kept = ("object_ids", *numbers, "resumed_at", "computed_on", "video", "source", "last_name")
        return {name: getattr(self, name) for name in kept}


def computed_on(tracker: Tracker, since: int, before: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """Returns the machine, precision and versions that a run is computed with, and the frame from which each applies.

    The last bits of masks depend on them.

    Args:
        tracker: the tracker of the run.
        since: the frame at which it starts or resumes.
        before: the entries up to then. A change of machine or precision is logged as a warning.
    """
    now = {
        "device": str(tracker.model.device),
        "precision": tracker.precisions[-1],
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "memory_from": list(tracker.precisions[:-1]),
    }
    so_far = [dict(each) for each in before]
    changed = [name for name in now if so_far and name != "memory_from" and so_far[-1].get(name) != now[name]]
    if changed:
        then = ", ".join(f"{name} {so_far[-1].get(name)!r} before and {now[name]!r} now" for name in changed)
        logger.warning("masks may differ a little from frame %d on: %s", since, then)
    return so_far if so_far and not changed else [*so_far, {"from_frame": since, **now}]


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Writes a JSON file, whole or not at all."""
    write_file(path, json.dumps(report, indent=2) + "\n")


def refuse_other_report(path: Path, key: str) -> None:
    """Raises OutputError unless a report's path is free or has an earlier report, a JSON object with this key.

    Also raises it if the folder does not exist.
    """
    if not path.parent.is_dir():
        raise OutputError(f"there is no folder {str(path.parent)!r} for {path.name!r}", "create it, or give another")
    try:
        found = json.loads(path.read_bytes()) if path.is_file() else None
    except (OSError, ValueError):
        found = None
    if os.path.lexists(path) and not (isinstance(found, dict) and key in found):
        raise foreign(path)


def peak_memory_bytes() -> int | None:
    """Returns the peak resident memory of this process in bytes; None if the system does not report it."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Outputs:
    """The writers of a run: OUT/masks/, OUT/table.csv and the requested videos.

    Args:
        places: the paths to write to.
        written: record of what runs wrote there.
        journal: folder for unfinished files; None to put them beside the output.
        resume_states: states of the writers to resume from.
        largest_id: the largest object id that is known to come.
        objects: classes and names of objects, by id.
    """

    def __init__(
        self,
        places: Places,
        written: Written,
        journal: Path | None,
        resume_states: Mapping[str, ResumeState],
        largest_id: int,
        objects: Mapping[int, ObjectInfo],
    ) -> None:
        videos, expected = places.videos, places.expected
        targets = {"masks": (places.masks, places.mask_format), "table": (places.out / TABLE, "table")}
        targets |= {kind: (path, kind) for kind, path in videos.places(places.out).items()}
        self._writers: dict[str, MaskWriter] = {}
        self._stack = ExitStack()
        with ExitStack() as stack:
            for name, (target, kind) in targets.items():
                writer = MaskWriter(
                    target,
                    kind,
                    frames_per_second=videos.frames_per_second or 25.0,
                    journal=journal,
                    resume_state=resume_states.get(name),
                    written=written,
                    largest_id=largest_id,
                    file_names=expected.file_names,
                    objects=objects,
                    footage=expected.footage,
                    # Label masks and their table stay as the network made them.
                    cutout=videos.cutout if name not in ("masks", "table") or kind == "rgba" else None,
                )
                self._writers[name] = stack.enter_context(writer)
            self._stack = stack.pop_all()
        self.stretch = math.lcm(*(writer.stretch for writer in self._writers.values()))

    def write(self, masks: Masks, frame: Frame) -> None:
        """Queues one frame for writing; raises errors of earlier ones."""
        for writer in self._writers.values():
            writer.write(masks, frame)

    def resume_states(self) -> dict[str, Future[ResumeState]]:
        """Returns the states from which writers can resume after the frames so far."""
        return {name: writer.resume_state() for name, writer in self._writers.items()}

    def looks(self) -> Mapping[int, Mapping[str, Any]]:
        """Returns where each object was seen, lost or doubtful, by id; complete once all frames are written."""
        table = self._writers["table"].format
        assert isinstance(table, ObjectTable)
        return table.looks()

    def sync(self) -> None:
        """Waits until all frames so far would survive a loss of power."""
        for writer in self._writers.values():
            writer.sync()

    def __enter__(self) -> "Outputs":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
