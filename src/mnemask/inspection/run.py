"""Inspects a video or a saved tracker: its memory as pictures and numbers."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from mnemask.errors import InputError, OutputError, counted
from mnemask.inspection.sheets import explained_sheet, frames_to_show, memory_sheet, sources_of
from mnemask.io import VideoReader, draw_overlay
from mnemask.io.atomic import make_folder
from mnemask.io.pictures import check_size
from mnemask.io.visualize import encode_image
from mnemask.io.written import Written
from mnemask.memory.bank import MemoryStats
from mnemask.memory.introspection import Explanation, Provenance, saved_provenance
from mnemask.memory.storage import load_bank
from mnemask.pipeline import PromptFunction
from mnemask.pipeline.expected import Expected
from mnemask.pipeline.places import refuse_run
from mnemask.pipeline.run import masks_to_come
from mnemask.prompts.plan import beyond_the_end
from mnemask.tracker import Tracker
from mnemask.types import Frame, Masks
from mnemask.version import __version__

Pixels = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True, eq=False)
class _Snapshot:
    """The memory after one frame."""

    frame: Frame
    masks: Masks
    memory: Provenance
    stats: MemoryStats
    explanations: list[Explanation]


def inspect_video(
    video: Iterable[Frame],
    tracker: Tracker,
    prompts: PromptFunction,
    out: str | Path,
    *,
    at_frames: Sequence[int] = (),
    pixels: Pixels = (),
    overwrite: bool = False,
    settings: Mapping[str, Any] | None = None,
    on_frame: Callable[[Frame], None] = lambda frame: None,
) -> list[Path]:
    """Tracks through a video and writes its memory as PNG pictures and `memory.json`; returns their paths.

    The tracker keeps no frames, so the video is read a second time for the pictures.

    Args:
        video: frames that can be iterated twice, such as a VideoReader of a file or a folder.
        tracker: a new tracker.
        prompts: returns the known masks of a frame by object id, or None.
        out: the folder, created if missing: `memory-000120.png`, `pixel-000120-x300-y200.png`, `memory.json`.
        at_frames: the frames after which to inspect; by default the last one. Tracking stops after them.
        pixels: (x, y) to explain in each of these frames.
        overwrite: whether a folder that contains an inspection may be written to.
        settings: written to `memory.json`.
        on_frame: called after each tracked frame.

    Raises:
        InputError: if a frame to inspect does not exist, masks are given beyond the video's end, or a pixel is outside
            the frame or was read from nothing.
        OutputError: if `out` already contains an inspection or cannot be written to.
    """
    if iter(video) is video:
        raise InputError(
            "frames can be read only once, but the pictures need them again", "give a VideoReader or a list"
        )
    written = _open(out := Path(out), overwrite)
    expected = Expected.of(video if isinstance(video, VideoReader) else None)
    expected.refuse_beyond(at_frames, _not_there)
    expected.refuse_beyond(masks_to_come(prompts))
    looks = _looks(video, tracker, prompts, set(at_frames), pixels, on_frame)
    wanted = {frame for look in looks for frame in frames_to_show(look.memory)}
    wanted |= {frame for look in looks for each in look.explanations for frame in sources_of(each)}
    sources = _reread(video, wanted)
    make_folder(out)
    written.remove_all()
    files = []
    for look in looks:
        now = draw_overlay(look.frame.image, look.masks.labels)
        index = look.frame.index
        sheet = memory_sheet(
            look.memory,
            sources,
            title=f"Memory after frame {index}",
            facts=_facts(look.memory, _policy(tracker), look.stats),
            last_frame=index,
            now=now,
        )
        files.append(_write_png(written, out / f"memory-{index:06d}.png", sheet))
        for each in look.explanations:
            path = out / f"pixel-{index:06d}-x{each.x}-y{each.y}.png"
            files.append(_write_png(written, path, explained_sheet(each, now, sources)))
    report = {"mnemask": __version__, "settings": dict(settings or {}), "looks": [_numbers(look) for look in looks]}
    written.write(out / "memory.json", json.dumps(report, indent=2) + "\n")
    return [*files, out / "memory.json"]


def inspect_bank(
    path: str | Path, out: str | Path, video: Iterable[Frame] | None = None, *, overwrite: bool = False
) -> list[Path]:
    """Writes files that show the memory of a saved tracker, `memory.png` and `memory.json`, and returns their paths.

    Args:
        path: a file from `Tracker.save`.
        out: the folder, created if missing.
        video: the frames it was saved from; without them the cells are drawn on plain grey.
        overwrite: whether a folder that contains an inspection may be written to.

    Raises:
        CheckpointError: if the file is foreign, damaged or inconsistent.
        FrameError: if it claims frames of a size that no video has.
        InputError: if the video is too short or of another size.
        OutputError: if `out` already contains an inspection or cannot be written to.
    """
    tokens, facts = load_bank(Path(path), torch.device("cpu"))
    memory = saved_provenance(tokens, facts, Path(path))
    height, width = memory.grid.size
    check_size(width, height, str(path))
    written = _open(out := Path(out), overwrite)
    sources = {} if video is None else _reread(video, set(frames_to_show(memory)))
    sizes = {source.shape[:2] for source in sources.values()} - {memory.grid.size}
    if sizes:
        raise InputError(
            f"{str(path)!r} was saved from frames of {memory.grid.size}, but the video's are {sizes.pop()} "
            "(height, width)",
            "give the video it was saved from",
        )
    saved = facts["config"].get("policy", "unknown policy")  # `saved_provenance` has checked that there is a config
    policy = str(saved.get("name") if isinstance(saved, dict) else saved)
    sheet = memory_sheet(
        memory,
        sources,
        title=f"Memory of {Path(path).name}",
        facts=_facts(memory, policy),
        last_frame=int(memory.frame.max(initial=0)),
    )
    make_folder(out)
    written.remove_all()
    picture = _write_png(written, out / "memory.png", sheet)
    look = {"object_ids": facts.get("object_ids"), "memory": _columns(memory)}
    report = {"mnemask": __version__, "settings": {"bank": str(path)}, "looks": [look]}
    written.write(out / "memory.json", json.dumps(report, indent=2) + "\n")
    return [picture, out / "memory.json"]


def _looks(
    video: Iterable[Frame],
    tracker: Tracker,
    prompts: PromptFunction,
    at_frames: set[int],
    pixels: Pixels,
    on_frame: Callable[[Frame], None],
) -> list[_Snapshot]:
    """Returns the memory after each of these frames, or after the last frame if none is given."""
    looks, last = [], None
    for frame, masks in tracker.follow(video, prompts):
        if last is None and tracker.memory.grid is not None:
            for x, y in pixels:
                tracker.memory.grid.cell_at(y, x)  # refuses bad pixels before a long run
        last = (frame, masks)
        if frame.index in at_frames:
            looks.append(_look(tracker, frame, masks, pixels))
        on_frame(frame)
        if at_frames and frame.index >= max(at_frames):
            break
    if last is None:
        raise InputError("the video has no frames", "give a video with frames")
    stop = video.stop if isinstance(video, VideoReader) and video.goes_on else None
    missing = at_frames - {look.frame.index for look in looks}
    if missing:
        raise _not_there(min(missing), last[0].index + 1, stop=stop)
    if not at_frames and (left := masks_to_come(prompts)):
        raise beyond_the_end(min(left), last[0].index + 1, stop=stop)
    return looks or [_look(tracker, *last, pixels)]


def _not_there(frame: int, num_frames: int, *, about: bool = False, stop: str | None = None) -> InputError:
    """Returns the error for a frame to inspect beyond the last one; see `beyond_the_end`."""
    if stop is not None:
        return InputError(
            f"frame {frame} was to be inspected, but reading stops before it (stop={stop})", "correct one of them"
        )
    last = f"about {num_frames - 1}" if about else f"{num_frames - 1}"
    return InputError(
        f"frame {frame} was to be inspected, but the video's last frame is {last} (counted from 0)",
        "choose one of its frames (--at-frame)",
    )


def _look(tracker: Tracker, frame: Frame, masks: Masks, pixels: Pixels) -> _Snapshot:
    tracker.settle()
    explanations = [tracker.explain(y, x) for x, y in pixels]
    return _Snapshot(frame, masks, tracker.memory.provenance(), tracker.stats(), explanations)


def _reread(video: Iterable[Frame], wanted: set[int]) -> dict[int, UInt8[np.ndarray, "H W 3"]]:
    """Returns the wanted frames of a video."""
    found: dict[int, UInt8[np.ndarray, "H W 3"]] = {}
    for frame in video if wanted else ():
        if frame.index in wanted:
            found[frame.index] = frame.image.permute(1, 2, 0).cpu().numpy()
        if len(found) == len(wanted):
            break
    if len(found) < len(wanted):
        raise InputError(
            f"frame {min(wanted - set(found))} is in the memory but could not be read again",
            "give a video file or a folder that does not change",
        )
    return found


def _policy(tracker: Tracker) -> str:
    every = tracker.policy.write_every
    pace = "every frame" if every == 1 else f"every {every} frames"
    if tracker.policy.write_on_growth:
        pace += " or sooner"
    return f"{type(tracker.policy).__name__}, writes {pace}  ·  budget {tracker.memory.budget}"


def _facts(memory: Provenance, policy: str, stats: MemoryStats | None = None) -> str:
    held = f"{counted(len(memory), 'token')} of {counted(len(np.unique(memory.frame)), 'frame')}"
    if stats is None:
        return f"{held}  ·  {policy}"
    return f"{held}  ·  {stats.bank_bytes / 2**20:.1f} MiB  ·  {stats.evictions:,} evicted  ·  {policy}"


def _numbers(look: _Snapshot) -> dict[str, Any]:
    return {
        "frame": look.frame.index,
        "object_ids": look.masks.object_ids,
        "stats": asdict(look.stats),
        "memory": _columns(look.memory),
        "explained": [each.to_dict() for each in look.explanations],
    }


def _columns(memory: Provenance) -> dict[str, Any]:
    return {
        "size": memory.grid.size,
        "short_side": memory.grid.short_side,
        "grid": memory.grid.shape,
        **memory.columns(),
        "box": memory.box.round(2).tolist(),
    }


def _open(out: Path, overwrite: bool) -> Written:
    """Returns the index of a folder's files; raises OutputError if they may not be overwritten."""
    written = Written(out)
    refuse_run(out, written)
    if not overwrite and written.files():
        raise OutputError(
            f"{str(out)!r} already contains an inspection", "choose another folder, or overwrite it (--overwrite)"
        )
    written.refuse_foreign(*out.glob("memory*.png"), *out.glob("pixel-*.png"), out / "memory.json")
    return written


def _write_png(written: Written, path: Path, picture: UInt8[np.ndarray, "H W 3"]) -> Path:
    written.write(path, encode_image(picture, ".png"))
    return path
