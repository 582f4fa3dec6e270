"""Tracker states at some frames of a project, so that a pass need not start from the first frame."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemask.errors import CheckpointError
from mnemask.io.atomic import make_folder
from mnemask.model.checkpoints import fingerprint
from mnemask.model.stcn import STCN
from mnemask.state import TrackerState
from mnemask.tracker import Tracker

EVERY = 10  # frames from one saved state to the next, which a continued pass may process again
_NAME = re.compile(r"(forward|backward)-(\d+)\.bank")
MOST = 64  # files, including those of earlier passes
MOST_BYTES = 2**30  # of all files: each further key frame enlarges a state
_CLOSE = 8  # a state is kept if its distance to the next kept one is at least its distance to the newest / this

Known = Mapping[str, str]  # files of keys by "frame:id"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a tracker after one frame.

    Attributes:
        state: the tracker's state.
        frame: the last frame that it saw.
        keys: the files of the keys that it has seen, by "frame:id".
    """

    state: TrackerState
    frame: int
    keys: Known


class Snapshots:
    """Tracker states in a folder: dense near the newest frame, sparse far from it, so that their number stays small."""

    def __init__(self, folder: Path) -> None:
        self._folder = make_folder(folder)

    def save(self, tracker: Tracker, frame: int, step: int, keys: Known, settings: Mapping[str, Any]) -> None:
        """Saves the state after a frame."""
        facts = {"frame": frame, "keys": dict(keys), "settings": dict(settings)}
        tracker.state().save(self._path(frame, step), project=facts)
        self._thin(frame, step)

    def best(self, reach: range, keys: Known, settings: Mapping[str, Any], model: STCN) -> Snapshot | None:
        """Returns the first valid state at the frames of `reach`, in their order; None if there is none.

        A state is valid if the keys that it has seen are unchanged, it has seen every key up to its frame, and settings
        and weights are the same.

        Args:
            reach: the frames, in the opposite direction to the pass.
            keys: the current keys.
            settings: the settings for tracking.
            model: the network.
        """
        weights, step = fingerprint(model), -reach.step
        for frame in sorted(set(self._frames(step)).intersection(reach), key=reach.index):
            path = self._path(frame, step)
            try:
                state, facts = TrackerState.load(path, model.device)
            except CheckpointError:  # of another version or damaged: states only save time
                path.unlink(missing_ok=True)
                continue
            about = facts["project"]
            passed = {place for place in keys if step * int(place.split(":")[0]) <= step * frame}
            same = state.model == weights and all(keys.get(place) == mask for place, mask in about["keys"].items())
            if same and passed <= about["keys"].keys() and about["settings"] == dict(settings):
                return Snapshot(state, frame, about["keys"])
        return None

    def _frames(self, step: int) -> list[int]:
        found = (_NAME.fullmatch(path.name) for path in self._folder.iterdir())
        return [int(match[2]) for match in found if match and match[1] == _direction(step)]

    def _path(self, frame: int, step: int) -> Path:
        return self._folder / f"{_direction(step)}-{frame:07d}.bank"

    def _thin(self, newest: int, step: int) -> None:
        kept = newest
        for frame in sorted(self._frames(step), key=lambda frame: abs(newest - frame))[1:]:
            if step * frame > step * newest:  # of an earlier pass, which went further
                continue
            if abs(kept - frame) < max(EVERY // 2, abs(newest - frame) // _CLOSE):
                self._path(frame, step).unlink(missing_ok=True)
            else:
                kept = frame
        sizes = 0
        newest_first = sorted(self._folder.glob("*.bank"), key=lambda path: -path.stat().st_mtime_ns)
        for place, path in enumerate(newest_first):
            sizes += path.stat().st_size
            if place and (place >= MOST or sizes > MOST_BYTES):
                path.unlink(missing_ok=True)


def _direction(step: int) -> str:
    return "forward" if step > 0 else "backward"
