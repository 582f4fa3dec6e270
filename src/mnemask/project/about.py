"""The description of a project: the video that it was made from, and its settings for tracking; checks of both."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnemask.errors import InputError
from mnemask.io.atomic import write_file
from mnemask.io.images import sample
from mnemask.io.random_access import FrameAccess
from mnemask.io.sources import digest_of_video, is_same_video
from mnemask.memory.policies import policy_named
from mnemask.model.checkpoints import packaged_weights
from mnemask.types import is_number, is_whole
from mnemask.version import __version__

ABOUT = "project.json"
SETTINGS: Mapping[str, Any] = {
    "model": "compact",
    "policy": "diverse",
    "frames": 2.0,
    "size": 480,
    "write_every": None,
}


def write_about(folder: Path, frames: FrameAccess, source: Path) -> None:
    """Writes the path, length, frame size and frame rate of a project's video, and a digest to recognise it by."""
    facts = {
        "mnemask": __version__,
        "source": str(source),
        "digest": digest_of_video(source),
        "num_frames": frames.num_frames,
        "size": list(frames.size),
        "frames_per_second": frames.frames_per_second,
    }
    _write(folder, facts)


def is_of(folder: Path, source: Path) -> bool:
    """Returns whether a project was made from this video, compared by path or by content."""
    return source.resolve() == source_of(folder) or _has_content(read_about(folder), source)


def follow_video(folder: Path, source: Path) -> bool:
    """Returns whether a video has the content of a project's video; if so, records its new path in the project."""
    about = read_about(folder)
    if not _has_content(about, source):
        return False
    _write(folder, {**about, "source": str(source)})
    return True


def read_about(folder: Path) -> dict[str, Any]:
    """Returns what `write_about` wrote; raises InputError if there is no project or its file is damaged."""
    try:
        about = json.loads((folder / ABOUT).read_bytes())
        if not ({"source", "num_frames", "size"} <= about.keys() and isinstance(about["source"], str)):
            raise ValueError("facts are missing")  # noqa: TRY301
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{str(folder)!r} contains no project", "create one (mnemask studio VIDEO)") from None
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{str(folder / ABOUT)!r} is damaged ({error})", "restore it from a copy") from error
    return dict(about)


def source_of(folder: Path) -> Path:
    """Returns the path of a project's video; raises InputError as `read_about` does."""
    source = Path(read_about(folder)["source"])
    return source if source.is_absolute() else (folder / source).resolve()


def check_video(about: Mapping[str, Any], frames: FrameAccess, source: Path) -> None:
    """Raises InputError if the video is not the one that a project was made from, or is gone."""
    if [frames.num_frames, *frames.size] != [about["num_frames"], *about["size"]]:
        raise InputError(
            f"{str(source)!r} has {frames.num_frames} frames of {frames.size}, but the project was made with "
            f"{about['num_frames']} of {tuple(about['size'])}",
            "restore the original video",
        )
    if about.get("digest") is None:
        return
    try:
        found = digest_of_video(source)
        is_gone = found is None or bool(frames.files and not frames.files[0].parent.is_dir())
    except OSError:  # as of a disk that is away
        is_gone = True
    if is_gone:
        raise InputError(f"{str(source)!r} is no longer there", "put it back under this name, or connect its disk")
    if not is_same_video(about["digest"], found):
        raise InputError(
            f"{str(source)!r} is not the video that the project was made with",
            "restore that one, or open this one under another name",
        )


def stamp_of(source: Path, files: Sequence[Path] | None) -> list[tuple[int, ...]] | None:
    """Returns what changes if a video, or some of its pictures, are replaced; None if one cannot be read."""
    try:
        stats = [path.stat() for path in (source, *sample(files or ()))]
    except OSError:
        return None
    return [(each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns) for each in stats]


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raises InputError for a setting that is unknown or invalid."""
    unknown = settings.keys() - SETTINGS.keys()
    if unknown:
        raise InputError(f"setting {min(unknown)!r} is unknown", f"choose one of {', '.join(SETTINGS)}")
    model, frames, size, every = (settings[name] for name in ("model", "frames", "size", "write_every"))
    if not isinstance(model, str):
        raise InputError(f"model is {model!r}", 'give "compact", or the path of a checkpoint as text')
    if frames is not None and not (is_number(frames) and 1 <= frames <= 1000):
        raise InputError(f"frames is {frames!r}", "give the memory budget in frames, 1 to 1000, or None")
    if not (is_whole(size) and 32 <= size <= 4096):
        raise InputError(f"size is {size!r}", "give the short side in pixels, 32 to 4096")
    if every is not None and not (is_whole(every) and 1 <= every <= 1000):
        raise InputError(f"write_every is {every!r}", "give a number of frames, 1 to 1000, or None")
    policy_named(settings["policy"])


def check_model(name: str) -> None:
    """Raises InputError if there are no weights of a name, or no file at a path."""
    if not (packaged_weights(name) or Path(name)).is_file():
        raise InputError(f"model {name!r} is not a file", 'give "compact", or the path of a checkpoint')


def check_frames(first: int, last: int, num_frames: int) -> None:
    """Raises InputError if a video of so many frames does not have those from `first` to `last`."""
    if first == last and not (is_whole(first) and 0 <= first < num_frames):
        raise no_frame(first, num_frames)
    if not (is_whole(first) and is_whole(last) and 0 <= first <= last < num_frames):
        raise InputError(f"the video has no frames {first} to {last}", f"choose from 0 to {num_frames - 1}")


def no_frame(frame: object, num_frames: int) -> InputError:
    """Returns the error for a frame that the video does not have."""
    return InputError(f"frame {frame} does not exist", f"the video has frames 0 to {num_frames - 1}")


def _has_content(about: Mapping[str, Any], source: Path) -> bool:
    digest = about.get("digest")
    return digest is not None and is_same_video(digest, digest_of_video(source))


def _write(folder: Path, facts: Mapping[str, Any]) -> None:
    write_file(folder / ABOUT, json.dumps(facts, indent=1).encode())
