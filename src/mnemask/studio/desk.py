"""One open project as the page sees it: its state as JSON, clicks that make keys, and background jobs."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

import mnemask as mm
from mnemask.io.table import DOUBTFUL
from mnemask.io.visualize import encode_image
from mnemask.project import picture_memory, picture_reason
from mnemask.project.results import Labels, Mask
from mnemask.prompts.clicks import ClickSession
from mnemask.studio.clicks import ColourClicks, Point, open_clicks
from mnemask.studio.exports import EXPORTS, exports_in, writing
from mnemask.studio.jobs import Job, Listeners
from mnemask.studio.work import export, track
from mnemask.types import is_number

APART = 5  # frames from one doubtful stretch to the next; closer ones are merged
MOST_PEAKS = 200
_PICTURES = 64 * 2**20  # bytes of encoded frames in the cache
MAX_POINTS = 100
Spots = list[Point]
Box = tuple[int, int, int, int]


class Desk:
    """An open project and its pages.

    Args:
        name: the project's name.
        project: the open project.
        notes: messages for the user, in addition to those about the video.
    """

    def __init__(self, name: str, project: mm.Project, notes: Sequence[str] = ()) -> None:
        self.name, self.project, self.listeners = name, project, Listeners()
        self._notes = [*project.frames.notes, *notes]
        self._lock = threading.Lock()
        self._job: Job | None = None
        self._version = 0
        self._clicking = threading.Lock()
        self._preparing = -1
        self._session: tuple[tuple[int, int], ClickSession | ColourClicks] | None = None
        self._pictures: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._looked_away = threading.Event()

    def state(self) -> dict[str, Any]:
        """Returns everything that the page shows except pictures and masks, with a version that always grows."""
        with self.listeners.telling:
            self._version += 1
            return {"type": "state", "version": self._version, **self._facts()}

    def _facts(self) -> dict[str, Any]:
        project = self.project
        undo, redo = project.can()
        height, width = project.frames.size
        return {
            "name": self.name,
            "video": project.source.name,
            "num_frames": project.num_frames,
            "width": width,
            "height": height,
            "fps": project.frames.frames_per_second,
            **project.state.to_dict(),
            "coverage": {object_id: self._coverage(object_id) for object_id in project.state.objects},
            "exports": exports_in(self.exports),
            "pixel_aspect": float(project.frames.pixel_aspect),
            "notes": self._notes,
            "undo": undo,
            "redo": redo,
            "job": self._job.latest if self._job else None,
        }

    def changed(self, **replaced: Any) -> dict[str, Any]:
        """Returns the state, with these values replaced, and sends it to all pages."""
        with self.listeners.telling:
            state = {**self.state(), **replaced}
            self.listeners.tell(state)
        return state

    def act(self, action: Mapping[str, Any]) -> dict[str, Any]:
        """Performs one of the page's actions and returns the state, with the undone or redone action as "turned"."""
        project, kind = self.project, action.get("do")
        values = {name: value for name, value in action.items() if name != "do"}
        simple: dict[str, Callable[..., Any]] = {
            "add_object": project.add_object,
            "update_object": project.update_object,
            "remove_object": project.remove_object,
            "clear_key": project.clear_key,
            "accept": self._accept,
            "unaccept": project.unaccept,
            "settings": project.change_settings,
            "undo": project.undo,
            "redo": project.redo,
        }
        if kind == "settings" and not values.keys() <= {"policy", "frames", "size", "write_every"}:
            raise mm.InputError(
                "only policy, frames, size and write_every can be set here",
                "for another model, start the studio with --model and another --project",
            )
        if not isinstance(kind, str) or kind not in simple:
            raise mm.InputError(f"action {str(kind)[:40]!r} is unknown", "reload the page")
        try:
            self._make_way(kind, values)
            done = simple[kind](**values)
        except TypeError as error:
            raise mm.InputError(f"action {kind} has invalid arguments ({error})", "reload the page") from error
        return {**self.changed(), **({"turned": done} if kind in ("undo", "redo") else {})}

    def picture(self, index: int, height: int) -> bytes:
        """Returns a frame as JPEG, at most `height` pixels high."""
        key = (index, height)
        with self._lock:
            if key in self._pictures:
                self._pictures.move_to_end(key)
                return self._pictures[key]
        pixels = self.project.frames[index].image.permute(1, 2, 0).cpu().numpy()
        if pixels.shape[0] > height:
            width = max(1, round(pixels.shape[1] * height / pixels.shape[0]))
            pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        data = encode_image(pixels, ".jpg", 88)
        with self._lock:
            self._pictures[key] = data
            while sum(map(len, self._pictures.values())) > _PICTURES:
                self._pictures.popitem(last=False)
        return data

    def labels(self, index: int, without: Sequence[int] = ()) -> Labels:
        """Returns the labels of a frame; keys with missing or damaged files are left out, to be marked again."""
        project = self.project
        return project.labels(index, without={*without, *project.lost_keys(index)})

    def facts(self, index: int) -> dict[str, Any]:
        """Returns the objects tracked in a frame, how doubtful each one is, and what is wrong with its marks."""
        project = self.project
        doubts = {i: float(project.confidence(i, index, index)["doubt"][0]) for i in project.state.objects}
        return {
            "known": [i for i in project.state.objects if project.looked_for(i)[index]],
            "doubt": {i: round(doubt, 3) for i, doubt in doubts.items()},
            "notes": [str(error) for error in project.lost_keys(index).values()],
        }

    def look(self, index: int, spot: Point | None) -> UInt8[np.ndarray, "h w 3"]:
        """Returns a picture of the memory before a frame, or of the tokens that a pixel was read from.

        Args:
            index: the frame's number.
            spot: x and y of the pixel; None for the memory.

        Raises:
            InputError: the memory is empty there, or another action of the user stopped it.
        """
        self._looked_away.set()
        self._looked_away = away = threading.Event()
        if spot is None:
            return picture_memory(self.project, index, stop=away.is_set)
        return picture_reason(self.project, index, *spot, stop=away.is_set)

    def prepare(self, index: int) -> None:
        """Opens a frame for clicks in advance, so that the first click is as fast as the others.

        Of several frames that are requested while one is being opened, only the last is opened.
        """
        if not (self._job and self._job.running):
            self._preparing = index
            with self._clicking:
                if self._preparing == index:
                    self._clicks(index)

    def click(self, index: int, object_id: int, points: list[list[float]], box: list[float] | None) -> None:
        """Sets the key of an object from all its clicks: each is x, y and whether it is on the object.

        With no clicks left, the key from before the first one is restored.

        Raises:
            InputError: the frame was accepted, or the clicks find nothing.
        """
        project = self.project
        project.frames[index]
        asked = _asked(points, box, project.frames.size)
        how = {"tool": "click", "points": points, "box": box}
        project.check_changeable(index)
        self._pause()
        if not points and box is None and (index, object_id) in project.state.keys:
            self.stop()
            self._unclick(index, object_id)
        else:
            with self._clicking:
                mask = self._clicked(index, object_id, how, *asked)
                self.stop()
                project.set_key(index, object_id, mask, how)
        self.changed()

    def paint(self, index: int, object_id: int, mask: Mask, tool: str, change: str = "set") -> dict[str, Any]:
        """Sets the key of an object to a drawn mask, adds this to the mask of the object, or removes it from that.

        A brush or eraser that changes no pixel marks nothing, nor does a polygon that covers none.

        Raises:
            InputError: the frame was accepted, or the change is unknown.
        """
        self.project.check_changeable(index)
        if change not in ("set", "add", "remove"):
            raise mm.InputError(f"change is {change[:20]!r}", "give set, add or remove")
        if change != "set":
            shown, covered = self.labels(index) == object_id, bool(mask.any())
            mask = shown | mask if change == "add" else shown & ~mask
            if torch.equal(mask, shown) and (tool != "polygon" or not covered):
                return self.state()
        self.stop()
        self.project.set_key(index, object_id, mask, {"tool": tool[:20]})
        return self.changed()

    def track(self, start: int, direction: str, to: Any, objects: list[int] | None) -> None:
        """Starts tracking forwards, backwards or both ways."""
        if direction not in ("forward", "backward", "both"):
            raise mm.InputError(f"direction {direction[:20]!r} is unknown", "choose forward, backward or both")
        self.project.check_video()
        self._pause()
        self._begin("track", lambda job: track(self.project, job, self._changed, start, direction, to, objects))

    def export(self, name: str, options: Mapping[str, Any]) -> None:
        """Starts an export into the project's folder; see `writing`."""
        write = writing(name, options)
        self.project.check_folder()
        if not self.project.state.objects:
            raise mm.InputError("there is nothing to export", "click on an object first")
        self._pause()
        self._begin("export", lambda job: export(self.project, job, self._changed, name, write))

    def stop(self) -> None:
        """Stops what is running; frames tracked so far are kept, an unfinished export is not."""
        self._looked_away.set()
        if self._job is not None:
            self._job.stop()

    def rest(self) -> None:
        """Frees the caches if no page is open: many videos may be opened in a day."""
        if self.listeners.any or (self._job is not None and self._job.running):
            return
        with self._clicking, self._lock:
            self._session = None
            self._pictures.clear()
        self.project.frames.forget()

    def timeline(self, bins: int) -> dict[str, Any]:
        """Returns what is tracked and how doubtful each object is, per bin of frames, and the frames to check."""
        project = self.project
        count = project.num_frames
        bins = max(1, min(bins, count, 4000))
        edges = np.linspace(0, count, bins + 1).astype(int)[:-1]
        known = project.known()
        objects, worst = {}, np.zeros(count, np.float32)
        for object_id in project.state.objects:
            columns = project.confidence(object_id)
            worst = np.maximum(worst, columns["doubt"])
            top = max(1.0, float(columns["area"].max()))
            objects[object_id] = {
                "doubt": np.maximum.reduceat(columns["doubt"], edges).round(3).tolist(),
                "area": (np.maximum.reduceat(columns["area"], edges) / top).round(3).tolist(),
            }
        for first, last in project.state.accepted:
            worst[first : last + 1] = 0
        return {
            "bins": bins,
            "known": np.add.reduceat(known.astype(int), edges).clip(0, 1).tolist(),
            "objects": objects,
            "doubtful": _peaks(worst),
        }

    @property
    def exports(self) -> Path:
        """The folder for exports."""
        return self.project.folder / EXPORTS

    def _clicked(
        self, index: int, object_id: int, how: Mapping[str, Any], positive: Spots, negative: Spots, box: Box | None
    ) -> Mask:
        """Returns the mask that results from clicks on the shown mask of an object in a frame.

        After a click was removed, it is the mask from before that click, or what the remaining clicks make of the mask
        from before all of them.
        """
        project, shown = self.project, self.labels(index) == object_id
        key = project.state.keys.get((index, object_id))
        earlier = key.how.get("points", []) if key is not None and key.how.get("tool") == "click" else []
        if how["points"][: len(earlier)] != earlier:
            before = project.earlier_key(index, object_id, lambda its: its == how)
            if before is not None:
                return before[0]
            painted = project.earlier_key(index, object_id, lambda its: its.get("tool") != "click")
            shown = self.labels(index, [object_id]) == object_id if painted is None else painted[0]
        previous = shown if bool(shown.any()) else None
        if not positive and box is None and previous is None:
            raise mm.InputError("the first click must be on the object", "negative clicks only remove parts of a mask")
        mask = self._clicks(index).mask(positive, negative, box, previous)
        if not bool(mask.any()):
            if how["points"] and not how["points"][-1][2]:
                raise mm.InputError(
                    "this click would leave nothing of the object", "if it is not in this frame, press G (Not here)"
                )
            raise mm.InputError(
                "nothing was found where you clicked", "click on another part of it, draw a box around it, or paint it"
            )
        return mask

    def _unclick(self, index: int, object_id: int) -> None:
        """Restores the last key that was not made by clicks, or clears the key if there was none."""
        drawn = self.project.earlier_key(index, object_id, lambda its: its.get("tool") != "click")
        if drawn is None:
            self.project.clear_key(index, object_id)
        else:
            self.project.set_key(index, object_id, *drawn)

    def _clicks(self, index: int) -> ClickSession | ColourClicks:
        project = self.project
        asked = index, project.state.settings["size"]
        if self._session is None or self._session[0] != asked:
            self._session = asked, open_clicks(project.model, project.frames[index], asked[1])
        return self._session[1]

    def _coverage(self, object_id: int) -> dict[str, int]:
        """Returns in how many frames an object is tracked, and in how many it is neither tracked nor marked.

        The latter are counted apart before its first mark: it may not be in the video yet, and only a pass backwards
        reaches them.
        """
        tracked = self.project.looked_for(object_id)
        marked = sorted(frame for frame, i in self.project.state.keys if i == object_id)
        missing = ~tracked
        missing[marked] = False
        first = marked[0] if marked else 0
        return {
            "tracked": int(tracked.sum()),
            "untracked": int(missing[first:].sum()),
            "before": int(missing[:first].sum()),
        }

    def _shown(self) -> Bool[np.ndarray, " T"]:
        """Returns in which frames an object is tracked or marked."""
        shown = np.zeros(self.project.num_frames, bool)
        for object_id in self.project.state.objects:
            shown |= self.project.looked_for(object_id)
        shown[self.project.state.key_frames()] = True
        return shown

    def _accept(self, first: int, last: int) -> None:
        """Accepts the tracked or marked frames of a run in one action; raises InputError if none is left to accept."""
        project, shown = self.project, self._shown()
        if not 0 <= first <= last < len(shown):
            project.accept(first, last)  # raises the error
        wanted = [frame for frame in range(first, last + 1) if shown[frame]]
        if all(map(project.state.is_accepted, wanted)):
            raise mm.InputError(
                f"no tracked or marked frame from {first} to {last} is left to accept", "track or mark one there first"
            )
        project.accept(wanted[0], wanted[-1], among=wanted)

    def _make_way(self, kind: str, values: Mapping[str, Any]) -> None:
        """Stops the jobs that conflict with an action: tracking, and, if the action changes masks, an export."""
        state, place = self.project.state, (values.get("frame", -1), values.get("object_id"))
        undo, redo = self.project.can()
        changes = {
            "undo": undo,
            "redo": redo,
            "remove_object": place[1] in state.objects,
            "clear_key": place in state.keys and not state.is_accepted(int(place[0])),
        }
        if changes.get(kind):
            self.stop()
        elif kind in ("add_object", "settings"):
            self._pause()

    def _pause(self) -> None:
        """Stops tracking, but not an export."""
        self._looked_away.set()
        if self._job is not None and self._job.kind == "track":
            self._job.stop()

    def _changed(self) -> None:
        """Sends the state to all pages from within a job, which ends with an event of its own."""
        self.changed(job=None)

    def _begin(self, kind: str, work: Any) -> None:
        with self._lock:
            if self._job is not None and self._job.running:
                running = "an export" if self._job.kind == "export" else "tracking"
                raise mm.InputError(f"{running} is already running", "wait for it, or stop it first")
            with self.listeners.telling:
                self._job = Job(kind, work, self.listeners).start()


def _asked(
    points: list[list[float]], box: list[float] | None, size: tuple[int, int]
) -> tuple[Spots, Spots, Box | None]:
    """Returns the clicks on the object, those off it, and the box clipped to the picture; refuses clicks outside."""
    height, width = size
    if not isinstance(points, list) or len(points) > MAX_POINTS:
        raise mm.InputError(f"points are not a list of up to {MAX_POINTS} clicks", "reload the page")
    on_object: tuple[Spots, Spots] = [], []
    for point in points:
        if not isinstance(point, list) or len(point) != 3 or not all(isinstance(v, int | float) for v in point):
            raise mm.InputError("a click must be x, y and whether it is on the object", "reload the page")
        x, y, on = point
        if not (0 <= x < width and 0 <= y < height):
            raise mm.InputError(f"click {x:g},{y:g} is outside the picture of {width}x{height}", "click inside")
        on_object[not on].append((int(x), int(y)))
    return *on_object, None if box is None else _box(box, width, height)


def _box(box: list[float], width: int, height: int) -> Box:
    if not isinstance(box, list) or len(box) != 4 or not all(is_number(v) and abs(v) < 1e6 for v in box):
        raise mm.InputError("a box must be x, y, width and height", "reload the page")
    x, y = max(0, int(box[0])), max(0, int(box[1]))
    return x, y, min(int(box[0] + box[2]), width) - x, min(int(box[1] + box[3]), height) - y


def _peaks(worst: Float[np.ndarray, " T"]) -> list[int]:
    """Returns the most doubtful frame of each of the `MOST_PEAKS` worst doubtful stretches, in order of time."""
    doubtful = np.flatnonzero(worst >= DOUBTFUL)
    if not len(doubtful):
        return []
    stretches = np.split(doubtful, np.flatnonzero(np.diff(doubtful) >= APART) + 1)
    peaks = [int(frames[worst[frames].argmax()]) for frames in stretches]
    return sorted(sorted(peaks, key=lambda frame: -worst[frame])[:MOST_PEAKS])
