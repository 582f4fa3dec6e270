"""One pass of the tracker through a project's video, forwards or backwards from a frame."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from mnemask.errors import InputError
from mnemask.io.random_access import FrameAccess
from mnemask.io.table import Confidence, certainty_now
from mnemask.memory.budget import Budget
from mnemask.model.stcn import STCN
from mnemask.project.results import Labels, Results
from mnemask.project.snapshots import EVERY, Snapshots
from mnemask.project.state import State
from mnemask.tracker import Tracker
from mnemask.types import Frame, Masks

NEAR = 2 * EVERY  # the most untracked frames that are processed in order to continue from a state before them
Direction = Literal["forward", "backward"]
Until = int | Literal["end", "key"]
KeyMask = Callable[[int, int], Bool[Tensor, "H W"]]


class NoFrameLeftError(InputError):
    """No frame is left to track: all frames of a pass were accepted, or none lies in its direction."""


@dataclass(slots=True)
class PassReport:
    """How far a pass has got.

    Attributes:
        number: the pass's number, counted from 1 within the project.
        start: the frame that it starts at.
        last: the frame that it is to end at.
        step: 1 forwards, −1 backwards.
        reached: the last frame that is done; None before the first.
        frames: the number of frames done.
        seconds: the time that these took.
        tokens: the number of tokens in the memory now.
        bank_bytes: the size of the memory in bytes.
        complete: whether it reached its end.
        confidence: the confidence in the objects in the last frame done.
    """

    number: int
    start: int
    last: int
    step: int
    reached: int | None = None
    frames: int = 0
    seconds: float = 0.0
    tokens: int = 0
    bank_bytes: int = 0
    complete: bool = False
    confidence: Mapping[int, Confidence] = field(default_factory=dict)


def plan_pass(
    state: State,
    num_frames: int,
    number: int,
    start: int,
    direction: Direction,
    to: Until,
    objects: Sequence[int] | None,
) -> PassReport:
    """Returns the plan of a pass, which ends at the last frame up to `to` that is not accepted.

    Args:
        state: the project's state.
        num_frames: the number of frames of the video.
        number: the pass's number.
        start: its first frame.
        direction: "forward" or "backward".
        to: the last frame; "end" for the video's; "key" for the frame before the next one with a key.
        objects: the ids to write; None for all.

    Raises:
        InputError: no object is marked, or the direction is unknown.
        NoFrameLeftError: there is no frame in this direction, or all were accepted.
    """
    if not state.keys:
        raise InputError("no object is marked yet", "mark one in any frame first")
    if direction not in ("forward", "backward"):
        raise InputError(f"direction {direction!r:.40} is unknown", "choose forward or backward")
    step = 1 if direction == "forward" else -1
    last = num_frames - 1 if step > 0 else 0
    if to == "key":
        keys = [(at, i) for at, i in state.keys if objects is None or i in objects]
        met = {i for at, i in keys if step * at <= step * start}
        ahead = {at for at, i in keys if step * at > step * start and (i in met or not met)}
        last = min(ahead, key=lambda at: abs(at - start)) - step if ahead else last
    elif to != "end":
        last = to
    asked = last
    while step * last >= step * start and state.is_accepted(last):
        last -= step
    if step * last < step * start <= step * asked:
        first, final = sorted((start, asked))
        raise NoFrameLeftError(
            f"frames {first} to {final} were accepted, so none of them is tracked",
            "unaccept them first (Shift+A in the studio), or choose another frame",
        )
    if step * last < step * start:
        raise NoFrameLeftError(f"no frame from {start} {direction}s is left to track", "choose another frame or end")
    return PassReport(number, start, last, step)


def new_tracker(model: STCN, settings: Mapping[str, Any], num_key_frames: int) -> Tracker:
    """Returns a tracker with a project's settings; each key frame after the first adds one frame to its budget."""
    frames = settings["frames"]
    return Tracker(
        model,
        policy=settings["policy"],
        budget=Budget() if frames is None else Budget(frames=frames + max(0, num_key_frames - 1)),
        write_every=settings["write_every"],
        keep_corrections=True,
        short_side=settings["size"],
    )


@dataclass(frozen=True, slots=True)
class Pass:
    """One run of the tracker through the video; made by `Project.track`.

    Args:
        frames: the frames of the video.
        model: the network.
        state: the project's state when the pass began.
        mask_of: returns the mask of a key by frame and id.
        results: the masks so far.
        snapshots: tracker states at earlier frames.
        report: where the pass starts and ends, and how far it got.
        objects: the ids to write; None for all.
    """

    frames: FrameAccess
    model: STCN
    state: State
    mask_of: KeyMask
    results: Results
    snapshots: Snapshots
    report: PassReport
    objects: Sequence[int] | None

    def follow(
        self,
        may_change: Callable[[int], bool],
        stop: Callable[[], bool],
        on_frame: Callable[[PassReport, Frame], None],
    ) -> None:
        """Computes and writes frame after frame, to the end or until told to stop; the report records how far.

        Args:
            may_change: whether a frame may be written; called before each.
            stop: called after each frame; True ends the pass.
            on_frame: called after each frame. On the way to the first one, the report's `reached` is None.
        """
        report, begin = self.report, time.perf_counter()
        with closing(self.run()) as steps:
            for frame, labels, confidence in steps:
                if labels is None:
                    begin = time.perf_counter()
                else:
                    if may_change(frame.index):
                        self.results.write(frame.index, labels, confidence, report.number)
                    report.reached, report.confidence = frame.index, confidence
                    report.frames += 1
                    report.seconds = time.perf_counter() - begin
                on_frame(report, frame)
                if stop():
                    return
        report.complete = True

    def run(self) -> Generator[tuple[Frame, Labels | None, dict[int, Confidence]], None, None]:
        """Yields each frame with its labels and the confidence in the written objects.

        Frames that the tracker must process first come before them, without labels; their masks stay as they are.

        Raises:
            InputError: no object is marked.
        """
        if not any(self._is_shown(place) for place in self.state.keys):
            raise InputError("no object is marked yet", "mark one in any frame first")
        report, step = self.report, self.report.step
        tracker, learnt, found = self._begin()
        for frame in self._approach(tracker, learnt, found, report.start):
            yield frame, None, {}
        begin = report.start if found != report.start else report.start + step
        wanted = self._wanted()
        reached = saved = None
        try:
            for frame in self._frames(begin, report.last):
                masks = self._advance(tracker, frame, learnt)
                reached = frame.index
                stats = tracker.memory.stats()
                report.tokens, report.bank_bytes = stats.tokens, stats.bank_bytes
                yield frame, *self._merged(masks, [i for i in wanted if self._is_met(i, frame.index)])
                if frame.index % EVERY == 0:
                    self._save(tracker, frame.index, learnt)
                    saved = frame.index
        finally:
            if reached is not None and reached != saved:
                self._save(tracker, reached, learnt)

    def tracker_before(self, frame: int, stop: Callable[[], bool]) -> Tracker | None:
        """Returns the tracker in its state just before a frame, or None if it was told to stop on the way.

        Nothing is written.
        """
        tracker, learnt, found = self._begin(frame)
        for _ in self._approach(tracker, learnt, found, frame):
            if stop():
                return None
        return tracker

    def _begin(self, end: int | None = None) -> tuple[Tracker, dict[str, str], int | None]:
        """Returns the tracker, the keys that it knows, and the last frame that it saw, None for a new tracker.

        Args:
            end: a frame that it must not have seen.
        """
        start, step = self.report.start, self.report.step
        tracker = new_tracker(self.model, self.state.settings, len(self.state.key_frames()))
        found = None
        if not self._corrects(start):
            newest = start - step if start == end else start
            reach = range(newest, self._farthest(start) - step, -step)
            found = self.snapshots.best(reach, self._keys(), self.state.settings, self.model)
        if found is None:
            return tracker, {}, None
        config = replace(found.state.config, budget=tracker.memory.budget)
        tracker = Tracker.from_state(replace(found.state, config=config), self.model)
        return tracker, dict(found.keys), found.frame

    def _farthest(self, start: int) -> int:
        """Returns the frame furthest behind another from which the tracker may continue to it.

        The frames between were tracked, or are within `NEAR`: processing frames that nobody asked for may take hours,
        and there the keys alone work as well.
        """
        step, known = self.report.step, self.results.known()
        at = start - step
        while 0 <= at < len(known) and (known[at] or abs(start - at) <= NEAR):
            at -= step
        return min(max(at, 0), len(known) - 1)

    def _approach(self, tracker: Tracker, learnt: dict[str, str], found: int | None, end: int) -> Iterator[Frame]:
        """Yields the frames that the tracker is given before it reaches a frame: key frames, and those on the way.

        Args:
            tracker: the tracker from `_begin`.
            learnt: the keys that it knows; new ones are added.
            found: the last frame that it saw; None for a new tracker.
            end: the frame to reach.
        """
        start, step = self.report.start, self.report.step
        # The nearest last, so that it is the newest memory.
        for at in sorted(self.state.key_frames(), key=lambda at: -abs(at - start)):
            comes = at == start if found is None else step * at <= step * start
            if not comes and not self._is_learnt(at, learnt):
                frame = self.frames.held(at)
                self._advance(tracker, frame, learnt, follows=False)
                yield frame
        for object_id in tracker.object_ids:
            if self._is_absent(object_id, start):
                tracker.remove(object_id)
        for frame in self._frames(start if found is None else found + step, end - step):
            self._advance(tracker, frame, learnt)
            yield frame

    def _frames(self, first: int, last: int) -> Iterator[Frame]:
        """Yields the frames from `first` to `last` in the direction of the pass; none if `last` lies behind `first`."""
        step = self.report.step
        return self.frames.run(first, last) if step * first <= step * last else iter(())

    def _is_absent(self, object_id: int, frame: int) -> bool:
        """Returns whether the last key of an object before a frame is empty: the object is absent."""
        step = self.report.step
        behind = [at for at, i in self.state.keys if i == object_id and step * at < step * frame]
        return bool(behind) and not self._is_shown((max(behind, key=lambda at: step * at), object_id))

    def _corrects(self, frame: int) -> bool:
        """Returns whether a frame has a key of an object that was tracked up to it.

        The memory written on the way came from wrong masks, and would outvote the correction: with two camels in one
        mask, a pass that continued from that memory lost the correction within five frames. So the tracker starts anew
        there, from the permanent memories alone.
        """
        step = self.report.step
        return any(
            object_id == i and step * at < step * frame
            for object_id in self.state.keys_at(frame)
            for at, i in self.state.keys
        )

    def _is_learnt(self, frame: int, learnt: Mapping[str, str]) -> bool:
        """Returns whether the tracker knows all keys of a frame that are not empty."""
        shown = [object_id for object_id in self.state.keys_at(frame) if self._is_shown((frame, object_id))]
        return all(f"{frame}:{object_id}" in learnt for object_id in shown)

    def _advance(self, tracker: Tracker, frame: Frame, learnt: dict[str, str], *, follows: bool = True) -> Masks:
        """Returns the masks of a frame, its keys in place; keys that the tracker does not know yet are its prompts.

        An object with an empty key is removed only on the way (`follows`): elsewhere it may be present again.
        """
        given, gone = {}, []
        for object_id, (mask, files) in self._visible(frame.index).items():
            place = f"{frame.index}:{object_id}"
            if not self._is_shown((frame.index, object_id)):
                gone.append(object_id)
            elif bool(mask.any()) and (place not in learnt or object_id not in tracker.object_ids):
                given[object_id] = mask
            learnt[place] = files
        for object_id in gone:
            if follows and object_id in tracker.object_ids:
                tracker.remove(object_id)
        return tracker.step(frame, given or None)

    def _visible(self, frame: int) -> dict[int, tuple[Bool[Tensor, "H W"], str]]:
        """Returns the visible part of each key of a frame: where masks overlap, the one that was set last is on top.

        It comes with the files that determine it: the key's own, and those above if they cover a part of it.
        """
        visible: dict[int, tuple[Tensor, str]] = {}
        covered, above = torch.tensor(False, device="cpu"), ""
        for object_id, key in reversed(self.state.keys_at(frame).items()):
            mask = self.mask_of(frame, object_id)
            files = f"{key.mask}{above}" if bool((mask & covered).any()) else key.mask
            visible = {object_id: (mask & ~covered, files), **visible}
            covered, above = covered | mask, f" {key.mask}{above}"
        return visible

    def _merged(self, masks: Masks, written: Sequence[int]) -> tuple[Labels, dict[int, Confidence]]:
        """Returns the labels of a frame, new for the objects to write and as stored for others, and the confidence."""
        new = masks.labels.clone().cpu()
        for object_id in self.state.keys_at(masks.index):
            mask = self.mask_of(masks.index, object_id)
            new[(new == object_id) & ~mask] = 0
            new[mask] = object_id
        stored = self.results.labels(masks.index)
        ids = torch.tensor(written, dtype=torch.int32)
        # Including objects that were removed: an undo restores them.
        kept = stored * ~torch.isin(stored, ids)
        labels = torch.where(torch.isin(new, ids), new, kept)
        found = certainty_now(replace(masks, labels=new.to(masks.labels.device)))
        gone = Confidence(1.0, 0, 0, 0.0)
        return labels, {object_id: found.get(object_id, gone) for object_id in written}

    def _wanted(self) -> list[int]:
        """Returns the objects to write; backwards, by default, those with a key at the start or after it.

        Masks that were tracked forwards from an earlier key then stay as they are.
        """
        marked = {object_id for _, object_id in self.state.keys}
        wanted = [i for i in self.state.objects if i in marked and (self.objects is None or i in self.objects)]
        if self.objects is None and self.report.step < 0:
            return [i for i in wanted if self._is_met(i, self.report.start)]
        return wanted

    def _is_met(self, object_id: int, frame: int) -> bool:
        """Returns whether the pass has met a key of an object by this frame: before, it may not be in the video."""
        step = self.report.step
        behind = [at for at, i in self.state.keys if i == object_id and step * at <= step * frame]
        return bool(behind) or not any(step * at <= step * self.report.start for at, _ in self.state.keys)

    def _is_shown(self, place: tuple[int, int]) -> bool:
        return bool(self.mask_of(*place).any())

    def _keys(self) -> dict[str, str]:
        frames = self.state.key_frames()
        return {f"{frame}:{i}": files for frame in frames for i, (_, files) in self._visible(frame).items()}

    def _save(self, tracker: Tracker, frame: int, learnt: Mapping[str, str]) -> None:
        if tracker.object_ids:
            self.snapshots.save(tracker, frame, self.report.step, learnt, self.state.settings)
