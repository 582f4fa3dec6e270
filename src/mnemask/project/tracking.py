"""One pass of the tracker through a project, forwards or backwards, from a frame on."""

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

NEAR = 2 * EVERY  # frames that were never tracked, and are run through to go on from a state before them
Direction = Literal["forward", "backward"]
Until = int | Literal["end", "key"]
KeyMask = Callable[[int, int], Bool[Tensor, "H W"]]


class NoFrameLeftError(InputError):
    """There is nothing to track: all frames of a pass were accepted, or none lies in its direction."""


@dataclass(slots=True)
class PassReport:
    """How far a pass has come.

    Attributes:
        number: of the pass, counted from 1 within the project.
        start: the frame that it began at.
        last: the frame that it is to end at.
        step: 1 forwards, −1 backwards.
        reached: the last frame that is done; None before the first.
        frames: how many are done.
        seconds: that these took.
        tokens: cells remembered now.
        bank_bytes: bytes of the memory.
        complete: whether it came to its end.
        confidence: of the objects in the frame reached.
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
    """Returns where a pass begins and ends: at the last frame before `to`, both included, that is not accepted.

    Args:
        state: what the user has said.
        num_frames: of the video.
        number: of the pass.
        start: its first frame.
        direction: "forward" or "backward".
        to: a frame; "end" for the video's; "key" for the frame before the next one with a key.
        objects: the ids that are written; None for all.

    Raises:
        InputError: no object is marked.
        NoFrameLeftError: there is no frame on this side, or all were accepted.
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
            "take that back first (Shift+A in the studio), or choose another frame",
        )
    if step * last < step * start:
        raise NoFrameLeftError(f"no frame from {start} {direction}s is left to track", "choose another frame or end")
    return PassReport(number, start, last, step)


def new_tracker(model: STCN, settings: Mapping[str, Any], num_key_frames: int) -> Tracker:
    """Returns a tracker of a project's settings; each key frame after the first adds a frame's worth to its budget."""
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
    """The tracker's way through frames; made by `Project.track`.

    Args:
        frames: of the video.
        model: the network.
        state: what the user had said when the pass began.
        mask_of: returns the mask of a key by frame and id.
        results: masks so far.
        snapshots: what was known at earlier frames.
        report: where it begins and ends.
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
        """Computes and writes frame after frame, to the end or until told to stop; the report says how far.

        Args:
            may_change: is asked before each frame is written.
            stop: is asked after each frame.
            on_frame: is called after each frame. On the way to the first one, the report says that none is reached.
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
        """Yields each frame with its labels and the confidence in the objects that are written.

        Before them come, without labels, frames that the tracker must know first and that stay as they are.

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
        """Returns the tracker as it is before a frame, in this direction, or None if it was told to stop on the way.

        Nothing is written.
        """
        tracker, learnt, found = self._begin()
        for _ in self._approach(tracker, learnt, found, frame):
            if stop():
                return None
        return tracker

    def _begin(self) -> tuple[Tracker, dict[str, str], int | None]:
        """Returns the tracker, the keys that it knows, and the frame that it saw last; None where it begins anew."""
        start, step = self.report.start, self.report.step
        tracker = new_tracker(self.model, self.state.settings, len(self.state.key_frames()))
        found = None
        if not self._corrects(start):
            reach = range(start, self._farthest(start) - step, -step)
            found = self.snapshots.best(reach, self._keys(), self.state.settings, self.model)
        if found is None:
            return tracker, {}, None
        config = replace(found.state.config, budget=tracker.memory.budget)
        tracker = Tracker.from_state(replace(found.state, config=config), self.model)
        return tracker, dict(found.keys), found.frame

    def _farthest(self, start: int) -> int:
        """Returns the frame farthest behind a frame from which the tracker may go on to it.

        What lies between was tracked or is `NEAR`: the way through frames that nobody asked for may be hours long, and
        the marks alone do as well there.
        """
        step, known = self.report.step, self.results.known()
        at = start - step
        while 0 <= at < len(known) and (known[at] or abs(start - at) <= NEAR):
            at -= step
        return min(max(at, 0), len(known) - 1)

    def _approach(self, tracker: Tracker, learnt: dict[str, str], found: int | None, end: int) -> Iterator[Frame]:
        """Yields the frames that the tracker is given before it comes to a frame: those of keys, and those on the way.

        Args:
            tracker: as it begins.
            learnt: the keys that it knows, which those that it is taught are added to.
            found: the frame that it saw last; None where it begins anew.
            end: the frame that it is to come to.
        """
        start, step = self.report.start, self.report.step
        # The nearest last: it is then the newest memory.
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
        """Yields the frames from one to another in the direction of the pass; none where the other lies behind."""
        step = self.report.step
        return self.frames.run(first, last) if step * first <= step * last else iter(())

    def _is_absent(self, object_id: int, frame: int) -> bool:
        """Returns whether the last key of an object before a frame says that it is gone."""
        step = self.report.step
        behind = [at for at, i in self.state.keys if i == object_id and step * at < step * frame]
        return bool(behind) and not self._is_shown((max(behind, key=lambda at: step * at), object_id))

    def _corrects(self, frame: int) -> bool:
        """Returns whether a frame has a key of an object that was followed up to it.

        What was remembered on the way came from masks that were wrong, and would outvote the correction: with two
        camels in one mask, a pass that went on from that memory lost the correction within five frames. So the tracker
        begins anew there, with the permanent memories alone.
        """
        step = self.report.step
        return any(
            object_id == i and step * at < step * frame
            for object_id in self.state.keys_at(frame)
            for at, i in self.state.keys
        )

    def _is_learnt(self, frame: int, learnt: Mapping[str, str]) -> bool:
        """Returns whether a frame's keys are known already, or none of them shows its object."""
        shown = [object_id for object_id in self.state.keys_at(frame) if self._is_shown((frame, object_id))]
        return all(f"{frame}:{object_id}" in learnt for object_id in shown)

    def _advance(self, tracker: Tracker, frame: Frame, learnt: dict[str, str], *, follows: bool = True) -> Masks:
        """Returns the masks of a frame, its keys in place; what the tracker does not know of them yet, it is taught.

        Only on the way (`follows`) an object that is gone in the frame is forgotten: elsewhere it may be there again.
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
        """Returns what is seen of each key of a frame: where masks overlap, the one that was set last lies on top.

        With it go the files that decide it: the key's own, and those above it where they cover a part.
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
        """Returns the labels of a frame: of the written objects the new ones, of others those that are stored."""
        new = masks.labels.clone().cpu()
        for object_id in self.state.keys_at(masks.index):
            mask = self.mask_of(masks.index, object_id)
            new[(new == object_id) & ~mask] = 0
            new[mask] = object_id
        stored = self.results.labels(masks.index)
        ids = torch.tensor(written, dtype=torch.int32)
        # Also of objects that were removed: an undo brings them back.
        kept = stored * ~torch.isin(stored, ids)
        labels = torch.where(torch.isin(new, ids), new, kept)
        found = certainty_now(replace(masks, labels=new.to(masks.labels.device)))
        gone = Confidence(1.0, 0, 0, 0.0)
        return labels, {object_id: found.get(object_id, gone) for object_id in written}

    def _wanted(self) -> list[int]:
        """Returns the objects to write; backwards, by default, those that have a key at the start or after it.

        What was tracked forwards from an earlier key then stays as it is.
        """
        marked = {object_id for _, object_id in self.state.keys}
        wanted = [i for i in self.state.objects if i in marked and (self.objects is None or i in self.objects)]
        if self.objects is None and self.report.step < 0:
            return [i for i in wanted if self._is_met(i, self.report.start)]
        return wanted

    def _is_met(self, object_id: int, frame: int) -> bool:
        """Returns whether the pass has an object's key at this frame or behind it: before that, it may not be there."""
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
