"""Checkpoints to resume a run from: files with the memory, ids, position, settings and writers' states."""

import json
import logging
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnemask.errors import CheckpointError, OutputError
from mnemask.io import ReaderEvents, VideoReader
from mnemask.io.atomic import ResumeState, make_folder, remove_left_overs
from mnemask.io.lock import OutputLock
from mnemask.io.pictures import Levels
from mnemask.io.sources import is_same_video
from mnemask.io.table import packed
from mnemask.io.written import Written, foreign
from mnemask.memory.policies import Policy
from mnemask.pipeline.places import CHECKPOINT, REPORT
from mnemask.state import TrackerState
from mnemask.version import __version__

logger = logging.getLogger(__name__)

_SUFFIX = ".bank"
_KEPT_HERE = re.compile(
    r"\d{12}\.bank(\.tmp)?|"
    r"\w+\.partial\.(\d+\.(nut|mkv|webm|npz|rows)|annotations|images|csv)|\.mnemask-\d+-\d+\.partial.*"
)
_BEGIN_AGAIN = "start over (--overwrite)"
# The options of `mnemask segment` for settings with a different name.
_OPTIONS = {
    "short_side": "--size",
    "budget": "--frames, --budget",
    "boxes": "--box",
    "clicks": "--click",
    "not_clicks": "--not",
    "removed": "--remove",
    "objects": "--object",
}
_ALIKE = frozenset(
    (
        *("mask", "box_format", "at", "void", "clean_masks", "bank", "model", "policy", "write_every"),
        *("write_on_growth", "write_above_certainty", "top_k", "kmn_sigma", "tta", "format", "overlay", "as", "only"),
        *("background", "fps", "smooth", "largest", "fill_holes", "grow", "feather", "on_corrupt", "start", "stop"),
        "engine",
    )
)
# The last one, and the one before it in case the last is damaged.
_KEPT = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a run between two frames.

    Attributes:
        state: the tracker's state.
        position: the index of the next frame.
        settings: the run's settings.
        resume_states: the state that each writer resumes from.
        progress: the saved part of `RunProgress`.
        events: what happened to the video so far.
        levels: the black and white levels by which its pictures were read, if they have more than 8 bits.
    """

    state: TrackerState
    position: int
    settings: Mapping[str, Any]
    resume_states: Mapping[str, ResumeState]
    progress: Mapping[str, Any]
    events: ReaderEvents
    levels: Levels | None

    @property
    def last_frame(self) -> int:
        """The frame to start reading at: the one before `position`, so that it exists even at the end of the video.

        If the run had no frame yet, it is `position` itself: the frame before may have another size.
        """
        return self.position - 1 if self.progress["frames"] else self.position

    def prepare(self, reader: VideoReader) -> None:
        """Lets a reader of a followed folder number and show its pictures as the interrupted run saw them."""
        name = self.progress.get("last_name", "")  # older checkpoints lack it
        reader.continue_from(self.last_frame, name, self.levels, is_done=self.progress["frames"] > 0)


def refuse_other(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises CheckpointError for the first setting that differs from the one that a run was started with."""
    for name in dict.fromkeys((*before, *now)):
        then, here = before.get(name), now.get(name)
        if then != here and not (name == "video" and is_same_video(then, here)):
            then, here = ("none" if value is None else repr(value) for value in (then, here))
            option = _OPTIONS.get(name, f"--{name.replace('_', '-')}" if name in _ALIKE else "")
            said = f" ({option})" if option else ""
            raise CheckpointError(
                f"the run was started with {name} {then}{said} and would be resumed with {here}",
                "use the same settings, or start a new run in another folder or over this one (--overwrite, or --redo "
                "for a batch)",
            )


def find_checkpoint(
    out: str | Path, device: torch.device, settings: Mapping[str, Any], policy: Policy | None = None
) -> Checkpoint | None:
    """Returns the last valid checkpoint of an unfinished run, or None if there is no run to resume.

    Args:
        out: the output folder given to `segment`.
        device: the device for the memory.
        settings: the settings that the run must have been started with.
        policy: the policy named in the settings, needed if it is not one of the package's.

    Raises:
        CheckpointError: if every checkpoint is damaged or of another version, or the settings differ.
    """
    paths = _paths(Path(out) / CHECKPOINT)
    for number, path in enumerate(paths):
        try:
            checkpoint = _read(path, device, policy)
        except CheckpointError as error:
            if number == len(paths) - 1:
                remedy = error.remedy if _BEGIN_AGAIN in error.remedy else _BEGIN_AGAIN
                raise CheckpointError(error.problem, remedy) from error
            logger.warning("%s; resuming from the checkpoint before it", error)
        else:
            refuse_other(checkpoint.settings, settings)
            return checkpoint
    return None


def _read(path: Path, device: torch.device, policy: Policy | None) -> Checkpoint:
    state, facts = TrackerState.load(path, device, policy)
    try:
        run = facts["run"]
        if run["mnemask"] != __version__:
            raise CheckpointError(
                f"checkpoint {str(path)!r} was made by mnemask {run['mnemask']}, but this is {__version__}: the masks "
                "may differ",
                f"finish the run with that version, or {_BEGIN_AGAIN}",
            )
        events = ReaderEvents.from_dict(run["progress"]["video"])
        levels = Levels.of_report(run["progress"].get("source", {}))  # older checkpoints lack it
        position = int(run["position"])
        return Checkpoint(state, position, run["settings"], run["resume_states"], run["progress"], events, levels)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{str(path)!r} is not a valid checkpoint (missing or malformed {error})",
            _BEGIN_AGAIN,
        ) from error


def _paths(folder: Path) -> list[Path]:
    """Returns the paths of the checkpoints, latest first."""
    return sorted(folder.glob(f"*{_SUFFIX}"), reverse=True)


class CheckpointFolder:
    """OUT/checkpoint/, with the checkpoints and the writers' unfinished files.

    Args:
        written: record of what runs wrote in the run's folder.
        settings: the run's settings.
    """

    def __init__(self, written: Written, settings: Mapping[str, Any]) -> None:
        self.path, self._written, self._settings = written.folder / CHECKPOINT, written, settings

    def make(self) -> None:
        """Creates the folder if missing; raises OutputError if there is one that no run created."""
        if not self.path.exists():
            self._written.claim(self.path)  # first, or a run killed in between would leave a folder that no run owns
            make_folder(self.path)
        elif not self._written.claims(self.path):
            raise foreign(self.path)
        remove_left_overs(self.path)

    def save(
        self, position: int, state: TrackerState, resume_states: Mapping[str, ResumeState], progress: Mapping[str, Any]
    ) -> None:
        """Writes a checkpoint and removes all but the last two; raises OutputError if that fails."""
        run = {
            "mnemask": __version__,
            "position": position,
            "settings": self._settings,
            "resume_states": resume_states,
            "progress": progress,
        }
        state.save(self.path / f"{position:012d}{_SUFFIX}", run=run)
        self._drop(_paths(self.path)[_KEPT:])

    def only(self, position: int) -> None:
        """Removes all checkpoints but this one, since files that the others rely on are about to be overwritten."""
        self._drop(path for path in _paths(self.path) if path.name != f"{position:012d}{_SUFFIX}")

    def _drop(self, paths: Iterable[Path]) -> None:
        try:
            for path in paths:
                path.unlink()
        except OSError as error:
            raise OutputError(
                f"a checkpoint cannot be removed from {str(self.path)!r} ({error.strerror})",
                "make the folder writable, and continue with --resume",
            ) from error

    def remove(self) -> None:
        """Removes the folder with the files of runs in it, but no others; raises OutputError if that fails."""
        if not self._written.claims(self.path) or not self.path.is_dir():
            return
        try:
            for path in self.path.iterdir():
                if _KEPT_HERE.fullmatch(path.name):
                    path.unlink()
            if any(self.path.iterdir()):
                logger.warning("%s is kept because it contains files that no run wrote", self.path)
                return
            self.path.rmdir()
        except OSError as error:
            raise OutputError(
                f"cannot remove {str(self.path)!r} ({error.strerror})", "remove it yourself; the run is complete"
            ) from error
        self._written.forget(self.path)


@dataclass(frozen=True, slots=True)
class PendingCheckpoint:
    """The state of a run between two frames, before it is known whether all earlier frames are written."""

    position: int
    state: TrackerState
    resume_states: Mapping[str, Future[ResumeState]]
    progress: Mapping[str, Any]

    def written(self) -> dict[str, ResumeState]:
        """Waits for the frames so far; returns the states that the writers can resume from, in JSON types.

        Raises:
            OutputError: a frame could not be written.
        """
        states = {name: resume_state.result() for name, resume_state in self.resume_states.items()}
        return {name: {key: _saved(value) for key, value in state.items()} for name, state in states.items()}


def _saved(value: Any) -> Any:
    """Returns a part of a writer's state in JSON types; label maps are compressed only here, not at each frame."""
    return packed(value) if isinstance(value, np.ndarray) else value


def is_complete(out: str | Path, settings: Mapping[str, Any], *, masks_elsewhere: bool = False) -> bool:
    """Returns whether `out` holds a complete run with these settings; if so, removes its leftover checkpoints.

    Args:
        out: the output folder given to `segment`.
        settings: the settings that the run must have been made with.
        masks_elsewhere: whether its masks are kept elsewhere; if not, a warning is logged if some are gone.

    Raises:
        CheckpointError: if `out` holds a run, complete or not, that was made with other settings.
    """
    out = Path(out)
    path = out / REPORT
    try:
        text = path.read_text()
        if not text and _paths(out / CHECKPOINT):
            return False  # all that a loss of power left of it
        report = json.loads(text)
        complete, made_with = bool(report["complete"]), dict(report["settings"])
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{str(path)!r} is not a report of a run ({error})", "choose another folder, or start over (--overwrite)"
        ) from error
    refuse_other(made_with, settings)
    if not complete:
        return False
    with OutputLock(out):
        written = Written(out)
        CheckpointFolder(written, {}).remove()
    if not masks_elsewhere:
        warn_of_gone(written)
    return True


def warn_of_gone(written: Written) -> None:
    """Warns if masks that a complete run wrote are gone."""
    masks = written.folder / "masks"
    if gone := [path for path in written.missing() if masks in path.parents and ".partial." not in path.name]:
        logger.warning(
            "%s is complete, but %d of its masks are gone, first %s; --overwrite, or --redo for a batch, restores them",
            *(written.folder, len(gone), gone[0].name),
        )
