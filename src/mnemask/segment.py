"""A whole video from its first masks to files, and a report of what happened.

Decoding, computing and writing overlap in bounded queues, so a long video needs no more memory than a short one.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mnemask.errors import OutputError
from mnemask.memory.bank import MemoryStats
from mnemask.tracker import Prompt, Tracker
from mnemask.types import Frame, Masks
from mnemask.version import __version__
from mnemask.video import MaskWriter, prefetch

PromptSource = Callable[[Frame], Mapping[int, Prompt] | None]


@dataclass(slots=True)
class Progress:
    """How far a run has come; `report.json` is made of it.

    Attributes:
        frames: written so far.
        seconds: since the first frame was asked for.
        memory: numbers about the memory bank after the last frame.
        most_tokens: the most that were ever remembered.
        most_bytes: the most bytes that the bank took.
        complete: whether the video ended by itself.
        stopped_by: what ended it otherwise.
    """

    frames: int = 0
    seconds: float = 0.0
    memory: MemoryStats | None = None
    most_tokens: int = 0
    most_bytes: int = 0
    complete: bool = False
    stopped_by: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def frames_per_second(self) -> float:
        """Frames written per second, decoding and writing included."""
        return self.frames / self.seconds if self.seconds else 0.0

    def add(self, memory: MemoryStats) -> None:
        """Counts a frame."""
        self.frames += 1
        self.memory = memory
        self.most_tokens = max(self.most_tokens, memory.tokens)
        self.most_bytes = max(self.most_bytes, memory.bank_bytes)

    def to_dict(self) -> dict[str, Any]:
        """Returns what is written to report.json."""
        return {
            "mnemask": __version__,
            "complete": self.complete,
            "stopped_by": self.stopped_by or None,
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            "frames_per_second": round(self.frames_per_second, 3),
            "peak_memory_bytes": peak_memory_bytes(),
            "most_tokens_held": self.most_tokens,
            "most_bank_bytes_held": self.most_bytes,
            "memory": None if self.memory is None else asdict(self.memory),
            "settings": dict(self.settings),
        }


def segment(
    frames: Iterable[Frame],
    tracker: Tracker,
    out: str | Path,
    prompts: PromptSource,
    *,
    mask_format: str = "png",
    overlay: bool = False,
    overwrite: bool = False,
    settings: Mapping[str, Any] | None = None,
    on_frame: Callable[[Progress, Masks], None] = lambda progress, masks: None,
) -> Progress:
    """Tracks through a video and writes `OUT/masks/`, with `overlay` `OUT/overlay.mp4`, and `OUT/report.json`.

    Args:
        frames: such as a VideoReader.
        tracker: a new one, or one that is to go on.
        out: the folder, made if missing.
        prompts: returns the known masks of a frame by object id, or None.
        mask_format: "png", "ffv1", "rgba" or "rle", see MaskWriter.
        overlay: whether to draw the masks into a video.
        overwrite: whether a folder that holds a run may be written to.
        settings: goes into the report.
        on_frame: is called after each frame.

    Raises:
        OutputError: if `out` holds a run already or cannot be written to.
        MnemaskError: whatever ends the run early. What was written before is kept, and the report says what happened.
    """
    out = Path(out)
    if not overwrite and (out / "report.json").exists():
        raise OutputError(f"{str(out)!r} already holds a run; choose another folder, or overwrite it (--overwrite)")
    progress = Progress(settings=settings or {})
    begin = time.perf_counter()
    try:
        with ExitStack() as stack:
            writers = [stack.enter_context(MaskWriter(out / "masks", mask_format))]
            if overlay:
                writers.append(stack.enter_context(MaskWriter(out / "overlay.mp4", "overlay")))
            for frame in prefetch(frames):
                masks = tracker.step(frame, prompts(frame))
                for writer in writers:
                    writer.write(masks, frame)
                progress.add(tracker.memory.stats())
                progress.seconds = time.perf_counter() - begin
                on_frame(progress, masks)
        progress.complete = True
    except BaseException as error:
        progress.stopped_by = f"{type(error).__name__}: {error}".rstrip(": ")
        raise
    finally:
        progress.seconds = time.perf_counter() - begin
        if progress.frames:
            write_report(out / "report.json", progress.to_dict())
    return progress


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Writes a JSON file, whole or not at all."""
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_text(json.dumps(report, indent=2) + "\n")
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {str(path)!r} ({error.strerror}); make room or give another place") from error


def peak_memory_bytes() -> int | None:
    """Returns the most memory that this process ever had resident; None where the system does not say."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
