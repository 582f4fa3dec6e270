"""Findings about masks and the video that they are for."""

from pathlib import Path

from mnemask.doctor.video import Finding
from mnemask.errors import FrameError, InputError
from mnemask.io import VideoReader
from mnemask.pipeline.places import Expected
from mnemask.prompts import PromptPlan

SHOWN = 5


def diagnose_together(video: Path, mask: Path) -> list[Finding]:
    """Returns whether a run would take a mask, or a folder or file of them, for a video: its size and its frames.

    Nothing where the video cannot be read, which is a finding about that alone.
    """
    try:
        with VideoReader(video, masks=[mask]) as reader:
            names = None if reader.files is None else [path.stem for path in reader.files]
            # Blended edges are a finding about the mask alone.
            plan = PromptPlan(mask, (), (), True, names=names, num_frames=None if names is None else len(names))
            Expected.of(reader).refuse_beyond(plan.to_come)
            frames = ", ".join(map(str, list(plan.to_come)[:SHOWN])) + ", …" * (len(plan.to_come) > SHOWN)
            if (frame := next(iter(reader), None)) is None:
                return []
            plan(frame)
    except FrameError:
        return []
    except InputError as error:
        return [Finding.from_error(error)]
    return [Finding("ok", f"they fit: both are {frame.size[1]}x{frame.size[0]}, with masks of frame {frames}")]
