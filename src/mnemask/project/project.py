"""A project: one video, the masks that the user sets in any of its frames, and the tracked ones, in one folder."""

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from mnemask.engines import load_model
from mnemask.errors import InputError, ObjectIdError, OutputError
from mnemask.io.atomic import make_folder
from mnemask.io.image_sequences import refuse_other_sizes
from mnemask.io.lock import FolderInUseError, OutputLock
from mnemask.io.random_access import FrameAccess
from mnemask.io.table import doubts
from mnemask.io.written import foreign
from mnemask.memory.tokens import runs_of
from mnemask.model.stcn import STCN
from mnemask.project.about import (
    ABOUT,
    SETTINGS,
    check_frames,
    check_model,
    check_settings,
    check_video,
    no_frame,
    read_about,
    source_of,
    stamp_of,
    write_about,
)
from mnemask.project.history import History
from mnemask.project.journal import Journal, Line, read_journal
from mnemask.project.passes import Passes
from mnemask.project.results import CONFIDENCE, KEYS, MASKS, KeyMasks, Labels, Mask, Results
from mnemask.project.snapshots import Snapshots
from mnemask.project.state import Action, State, folded
from mnemask.project.tracking import Direction, PassReport, Until
from mnemask.tracker import Tracker
from mnemask.types import Frame, ObjectInfo, Prompt

JOURNAL, STATES = "actions.jsonl", "states"
_FIRST = b'{"do":"settings",'


class Project:
    """Segments objects in one video interactively; everything is on disk as soon as a call returns.

    A mask that is set in a frame (a key) is a permanent memory for the whole video, as in XMem++. Tracking runs
    forwards or backwards from any frame and starts from the nearest earlier state; accepted frames never change. The
    folder contains `actions.jsonl` (every action, to restore the project after a crash and for `replay`), `keys/` (the
    masks that were set), `masks/` (the results) and `states/` (tracker states, which only save time).

    Args:
        folder: the project's folder, made by `Project.create`.
        model: the network; by default the one named in the settings, loaded on first use.

    Attributes:
        folder: the project's folder.
        source: the path of the video.
        frames: its frames, by number.

    Raises:
        InputError: there is no project, it is damaged, or its video was replaced by another.
        OutputError: another process has it open.

    Example:
        project = mm.Project.create("cut", "camel.mp4", size=240)
        camel = project.add_object("camel")
        project.set_key(0, camel, mm.mask_from_box(project.frames[0].image, (220, 95, 440, 315)))
        project.track(0)
        project.set_key(60, camel, better_mask)
        project.track(60)
        export_project(project, "out", mask_format="png")
    """

    def __init__(self, folder: str | Path, model: STCN | None = None) -> None:
        self.folder = Path(folder)
        self._about, self.source = read_about(self.folder), source_of(self.folder)
        with ExitStack() as opened:
            opened.enter_context(OutputLock(self.folder, again=False))
            self.frames = opened.enter_context(FrameAccess(self.source))
            self._stamp: object = None
            self.check_video()
            self._model = model
            self._history = History(opened.enter_context(closing(Journal(self.folder / JOURNAL))))
            self._results = opened.enter_context(
                closing(Results(self.folder, self.frames.num_frames, self.frames.size))
            )
            self._masks = KeyMasks(self.folder, self.frames.size)
            self._passes = Passes(
                *(self.frames, lambda: self.model, self._history, self._masks, self._results),
                Snapshots(self.folder / STATES),
            )
            self._opened = opened.pop_all()

    @classmethod
    def create(cls, folder: str | Path, source: str | Path, network: STCN | None = None, **settings: Any) -> "Project":
        """Returns a new project in a folder that has none yet.

        Args:
            folder: the project's folder, created if missing.
            source: a video file, or a folder of images.
            network: the network; by default the one named by the setting `model`.
            **settings: values that replace those in `SETTINGS`: model, policy, frames (the budget), size, write_every.

        Raises:
            OutputError: the folder already contains a project or other files that are in the way, or it cannot be
                written to.
            InputError: a setting is unknown or invalid.
            FrameError: the video cannot be read, or its images differ in size.
        """
        folder = Path(folder)
        if (folder / ABOUT).exists():
            raise OutputError(f"{str(folder)!r} already contains a project", "open it, or give another folder")
        _refuse_files(folder)
        chosen = {**SETTINGS, **settings}
        check_settings(chosen)
        if network is None:
            check_model(chosen["model"])
        is_new = False
        try:
            with FrameAccess(Path(source).resolve()) as frames:
                refuse_other_sizes(frames.files or (), frames.name)
                is_new = not folder.exists()
                make_folder(folder)
                (folder / JOURNAL).unlink(missing_ok=True)  # of a project that was never completed
                with closing(Journal(folder / JOURNAL)) as journal:
                    History(journal).do({"do": "settings", "settings": chosen})
                write_about(folder, frames, Path(source).resolve())  # last: this makes it a project
            return cls(folder, network)
        except BaseException as error:
            if is_new and not isinstance(error, FolderInUseError):  # in use: another process made it meanwhile
                shutil.rmtree(folder, ignore_errors=True)
            raise

    @property
    def model(self) -> STCN:
        """The network, loaded on first use."""
        with self._history.changing:
            if self._model is None:
                self._model = load_model(self.state.settings["model"])
            return self._model

    @property
    def state(self) -> State:
        """Objects, keys, accepted frames and settings; an immutable value, replaced by each action."""
        return self._history.state

    @property
    def num_frames(self) -> int:
        """The number of frames of the video."""
        return self.frames.num_frames

    @property
    def actions(self) -> list[Line]:
        """Every action so far, including those that were undone, oldest first."""
        return self._history.actions

    def add_object(self, name: str = "", *, object_id: int | None = None, category: str = "", color: str = "") -> int:
        """Adds an object and returns its id, by default the lowest that no object has and none was tracked with."""
        with self._history.changing:
            number = next(filter(self._is_free, count(1))) if object_id is None else object_id
            self._history.do({"do": "add_object", "id": number, "name": name, "category": category, "color": color})
            return number

    def update_object(self, object_id: int, **changes: str) -> None:
        """Changes `name`, `category` or `color` of an object; raises InputError for anything else."""
        if unknown := sorted(changes.keys() - {"name", "category", "color"}):
            raise InputError(f"{unknown[0]!r} of an object cannot be changed", "give name, category or color")
        self._history.do({"do": "update_object", "id": object_id, **changes})

    def name_objects(self, infos: Mapping[int, ObjectInfo]) -> None:
        """Sets names and classes of objects; raises ObjectIdError for an unknown id, before any object is changed."""
        if unknown := sorted(infos.keys() - self.state.objects.keys()):
            raise ObjectIdError(
                f"object {unknown[0]} does not exist", f"existing ids: {sorted(self.state.objects) or 'none'}"
            )
        for object_id, info in infos.items():
            name = info.name or self.state.objects[object_id].name
            self.update_object(object_id, category=info.category, name=name)

    def remove_object(self, object_id: int) -> None:
        """Removes an object and its keys; undo restores it, with the masks that were tracked."""
        self._history.do({"do": "remove_object", "id": object_id})

    def set_key(self, frame: int, object_id: int, mask: Prompt, how: Mapping[str, Any] | None = None) -> None:
        """Sets the mask of an object in a frame; with an empty one, the object is absent until its next key.

        Raises:
            MaskError: the mask is not bool or of another size than the frame.
            InputError: the frame does not exist, or was accepted.
        """
        self.check_changeable(frame)
        name = self._masks.add(frame, object_id, mask)
        with self._history.changing:
            self.check_changeable(frame)  # it may have been accepted while the mask was written
            self._history.do(
                {"do": "set_key", "frame": frame, "object": object_id, "mask": name, "how": dict(how or {})}
            )

    def clear_key(self, frame: int, object_id: int) -> None:
        """Removes the key of an object in a frame; its tracked mask is shown again."""
        with self._history.changing:
            self.check_changeable(frame)
            if (frame, object_id) in self.state.keys:
                self._history.do({"do": "clear_key", "frame": frame, "object": object_id})

    def accept(self, first: int, last: int, *, among: Sequence[int] | None = None) -> None:
        """Makes the masks of these frames, both ends included, final: tracking no longer changes them.

        Args:
            first: the first frame.
            last: the last frame.
            among: the frames from `first` to `last` to accept, in order; by default all.
        """
        check_frames(first, last, self.num_frames)
        action = {"do": "accept", "first": first, "last": last}
        if among is not None:
            frames = [int(frame) for frame in among if first <= frame <= last]
            action["runs"] = [[run.start, run.stop - 1] for run in runs_of(frames, self.num_frames)]
        self._history.do(action)

    def unaccept(self, first: int, last: int) -> None:
        """Allows the masks of these frames to change again."""
        check_frames(first, last, self.num_frames)
        self._history.do({"do": "unaccept", "first": first, "last": last})

    def change_settings(self, **settings: Any) -> None:
        """Changes policy, frames (the budget), size, write_every or model for later tracking."""
        check_settings({**self.state.settings, **settings})
        with self._history.changing:
            if settings.get("model", self.state.settings["model"]) != self.state.settings["model"]:
                check_model(settings["model"])
                self._model = None
            self._history.do({"do": "settings", "settings": settings})

    def undo(self) -> Action | None:
        """Undoes the last action other than tracking and settings, and returns it; None if there is none."""
        return self._history.turn("undo")

    def redo(self) -> Action | None:
        """Redoes the action that was undone last, and returns it; None if there is none."""
        return self._history.turn("redo")

    def can(self) -> tuple[bool, bool]:
        """Returns whether there is an action to undo, and one to redo."""
        return self._history.can()

    def earlier_key(
        self, frame: int, object_id: int, fits: Callable[[Mapping[str, Any]], bool]
    ) -> tuple[Mask, Mapping[str, Any]] | None:
        """Returns the last mask set for an object in a frame that `fits` accepts, and how it was made, or None.

        Args:
            frame: the frame.
            object_id: the object.
            fits: decides by how a mask was made. Masks from before the key was last cleared, or of an earlier object
                with the same id, do not count.
        """
        action = self._history.earlier_key(frame, object_id, fits)
        return None if action is None else (self._masks.read(action["mask"]), action["how"])

    def labels(self, frame: int, *, without: Collection[int] = ()) -> Labels:
        """Returns the object id at each pixel of a frame: the tracked masks, with the frame's keys in place.

        Args:
            frame: the frame.
            without: ids of objects to show as tracked, without their keys.

        Raises:
            InputError: the frame does not exist, or its file is damaged.
            OutputError: the folder is gone.
        """
        if not 0 <= frame < self.num_frames:
            raise no_frame(frame, self.num_frames)
        self.check_folder()  # otherwise every mask would appear empty
        labels = self._results.labels(frame)
        state = self.state
        if state.objects or labels.any():
            shown = torch.tensor(sorted(state.objects), dtype=torch.int32)
            labels = labels * torch.isin(labels, shown)
        for object_id, key in state.keys_at(frame).items():
            if object_id in without:
                continue
            mask = self._masks.read(key.mask)
            labels[(labels == object_id) & ~mask] = 0
            labels[mask] = object_id
        return labels

    def lost_keys(self, frame: int) -> dict[int, InputError]:
        """Returns, by object id, an error for each key of a frame with a missing or damaged file."""
        lost = {}
        for object_id, key in self.state.keys_at(frame).items():
            try:
                self._masks.read(key.mask)
            except InputError as error:
                lost[object_id] = error
        return lost

    def is_tracked(self, frame: int) -> bool:
        """Returns whether tracking has reached a frame, for any object; see `looked_for`."""
        return self._results.has(frame)

    def confidence(self, object_id: int, first: int = 0, last: int | None = None) -> dict[str, Float[np.ndarray, " T"]]:
        """Returns the fields of `Confidence` and "doubt" (0 to 1) of an object for each frame; 0 where unknown.

        Args:
            object_id: the object's id.
            first: the first frame; by default that of the video.
            last: the last frame, included; by default that of the video.
        """
        end, before = self.num_frames if last is None else last + 1, max(0, first - 1)  # a leap needs the frame before
        columns = {name: values[before:end] for name, values in self._results.columns(object_id).items()}
        doubt = doubts(columns, self.looked_for(object_id)[before:end])
        doubt[[frame - before for frame, i in self.state.keys if i == object_id and before <= frame < end]] = 0
        return {name: values[first - before :] for name, values in {**columns, "doubt": doubt}.items()}

    def known(self) -> Bool[np.ndarray, " T"]:
        """Returns which frames have been tracked, for any object, even one that was removed since."""
        return self._results.known()

    def looked_for(self, object_id: int) -> Bool[np.ndarray, " T"]:
        """Returns in which frames tracking has looked for an object, whether it was found there or not."""
        columns = self._results.columns(object_id)
        found: Bool[np.ndarray, " T"] = (columns["area"] > 0) | (columns["certainty"] > 0)
        return found

    def track(
        self,
        start: int,
        direction: Direction = "forward",
        *,
        to: Until = "end",
        objects: Sequence[int] | None = None,
        stop: Callable[[], bool] = lambda: False,
        on_frame: Callable[[PassReport, Frame], None] = lambda report, frame: None,
    ) -> PassReport:
        """Tracks from a frame on, and returns how far the pass got.

        Args:
            start: the first frame to compute (or the one after it, if the tracker's state at it was saved).
            direction: "forward" or "backward".
            to: the last frame; "end" for the video's; "key" for the frame before the next one with a key.
            objects: the ids to write; by default those with a key at `start` or earlier in the pass's direction (all if
                there is none), and forwards also others from their first key on.
            stop: called after each frame; True ends the pass.
            on_frame: called after each frame, including those on the way to the first one, for which the report's
                `reached` is None.

        Raises:
            InputError: nothing is marked, the range is invalid or empty, or another pass is running.
            BudgetError: the permanent memories exceed the budget.
        """
        return self._passes.track(
            start, direction, to, objects, lambda frame: not self.state.is_accepted(frame), stop, on_frame
        )

    def tracker_before(self, frame: int, stop: Callable[[], bool] = lambda: False) -> Tracker:
        """Returns a tracker in its state just before a frame, in the forward direction; nothing is written.

        Args:
            frame: the frame.
            stop: called after each frame that is processed on the way there.

        Raises:
            InputError: `stop` returned True before the frame was reached.
        """
        return self._passes.tracker_before(frame, stop)

    def check_changeable(self, frame: int) -> None:
        """Raises InputError if the keys of a frame cannot change: the frame does not exist, or it was accepted."""
        self.check_folder()
        check_frames(frame, frame, self.num_frames)
        if self.state.is_accepted(frame):
            raise InputError(f"frame {frame} was accepted, so it does not change", "unaccept it first")

    def check_folder(self) -> None:
        """Raises OutputError if the folder is no longer where it was when the project was opened."""
        self._history.check_folder()

    def check_video(self) -> None:
        """Raises InputError if another video has taken the place of the project's, or there is none any more."""
        stamp = stamp_of(self.source, self.frames.files)
        if stamp is None or stamp != self._stamp:  # the names of a long folder take seconds to read
            check_video(self._about, self.frames, self.source)
            self._stamp = stamp

    def close(self) -> None:
        """Closes the video, and flushes everything to disk."""
        self._opened.close()

    def __enter__(self) -> "Project":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _is_free(self, object_id: int) -> bool:
        return object_id not in self.state.objects and not self.looked_for(object_id).any()


def state_of(folder: Path) -> State:
    """Returns the state of a project, which may be open elsewhere; raises InputError if there is none."""
    read_about(folder)
    return folded(read_journal(folder / JOURNAL))[0]


def _refuse_files(folder: Path) -> None:
    """Raises OutputError if a file or folder is where those of a project go, though there is no project.

    A journal with at most its first line, the settings, is allowed: a process was killed while it made a project.
    """
    taken = [path for name in (JOURNAL, KEYS, MASKS, STATES, CONFIDENCE) if (path := folder / name).exists()]
    if taken and taken[0] == folder / JOURNAL and taken[0].is_file():
        with taken[0].open("rb") as file:
            first, more = file.readline(), file.read(1)
        if not more and first[: len(_FIRST)] == _FIRST[: len(first)]:
            taken = taken[1:]
    if taken:
        raise foreign(*taken)
