"""The tracker: takes the frames of one video, returns their masks and maintains the memory."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mnemask.config import TrackerConfig, mean_of
from mnemask.errors import CheckpointError, FrameError, InputError
from mnemask.io.reader import VideoReader
from mnemask.memory.bank import MemoryBank, MemoryStats
from mnemask.memory.introspection import Explanation, array
from mnemask.memory.policies import Policy
from mnemask.memory.tokens import CellGrid
from mnemask.model.checkpoints import fingerprint
from mnemask.model.devices import FiniteCheck, isolated_torch_modes, out_of_memory_named
from mnemask.model.stcn import STCN, require_network
from mnemask.state import TrackerState
from mnemask.step import known_masks, labels_of, step_together, undone_on_failure
from mnemask.types import Frame, Masks, Objects, Picture, Prompts, is_whole

PromptSource = Mapping[int, Prompts | None] | Callable[[Frame], Prompts | None]


def frames_given(prompts: object) -> set[int]:
    """Returns the frame indices that have prompts, none for a function; raises InputError for any other source."""
    if callable(prompts):
        return set()
    if not isinstance(prompts, Mapping):
        raise InputError(
            f"prompts are a {type(prompts).__name__}",
            "give the masks by frame, {0: {1: mask}}, or a function from a Frame to {1: mask} or None",
        )
    for index in prompts:
        if not is_whole(index) or index < 0:
            raise InputError(f"prompts are given for frame {index!r:.40}", "give frames as whole numbers from 0")
    return {int(index) for index in prompts}


class Turn:
    """A non-blocking lock that lets one thread at a time use a tracker; a copy of the tracker gets its own lock."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __reduce__(self) -> tuple[type["Turn"], tuple[()]]:
        return Turn, ()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise InputError(
                "this tracker is in use by another thread, and a video's frames must be processed in order",
                "give each thread its own tracker (they may share the model), or let the threads take turns",
            )

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class Tracker:
    """Tracks objects through one video, frame by frame, in bounded memory.

    Only one thread at a time may use a tracker; concurrent calls raise InputError. The model has no state and may be
    shared by any number of trackers and threads.

    Args:
        model: the network, from `load_model`.
        config: what is kept in memory, how the memory is read, and the size at which frames are processed.
        **changes: fields of `TrackerConfig` that override `config`: `Tracker(model, policy="lfu", top_k=10)`.

    Attributes:
        model: the network.
        config: the settings in use, with the defaults of the policy and the network filled in.
        turn: the lock that a thread holds while it uses the tracker.
        memory: the memory bank.
        steps: the number of frames processed.
        last_write: the step of the last write.
        written_area: each object's largest area in any written frame, in cells; None unless writes depend on it.
        size: height and width of the frames in pixels, None before the first.
        precisions: the precisions in which the network has computed so far, in order.

    Raises:
        InputError: if a setting is unknown or out of range.

    Example:
        >>> import mnemask as mm
        >>> tracker = mm.Tracker(mm.load_model("compact"), policy="diverse", budget=mm.Budget(frames=2))
        >>> for frame, truth in mm.DrawnVideo(3, size=(96, 160), num_objects=1):
        ...     masks = tracker.step(frame, {7: truth == 1} if frame.index == 0 else None)
        >>> masks.object_ids, masks.labels.shape
        ((7,), torch.Size([96, 160]))
    """

    def __init__(self, model: STCN, config: TrackerConfig | None = None, **changes: Any) -> None:
        if not isinstance(config, TrackerConfig | None):
            raise InputError(
                f"config is {config!r}", "give a TrackerConfig, or settings as keywords: Tracker(model, policy=…)"
            )
        require_network(model)
        if unknown := sorted(changes.keys() - TrackerConfig.__dataclass_fields__.keys()):
            raise InputError(
                f"{unknown[0]!r} is not a TrackerConfig field",
                f"its fields are {', '.join(TrackerConfig.__dataclass_fields__)}",
            )
        config = replace(config or TrackerConfig(), **changes)
        self.model, self.config = model, config.filled(model.kmn_sigma)
        self.turn = Turn()
        self.memory = MemoryBank(self.config)
        self.objects = Objects()
        self.steps = 0
        self.last_write = 0
        self.written_area: Float[Tensor, " K"] | None = None
        self.size: tuple[int, int] | None = None
        self.last_index: int | None = None
        self.precisions: tuple[str, ...] = (str(model.dtype).removeprefix("torch."),)
        self.unsettled: FiniteCheck | None = None
        self.before: tuple[dict[str, Any], dict[str, Any]] | None = None
        self._fingerprint = fingerprint(model)
        self._views = self.config.views()
        self.others = tuple(
            Tracker(model, replace(self.config, tta="", short_side=view.short_side(self.short_side)))
            for view in self._views[1:]
        )

    @property
    def policy(self) -> Policy:
        """The memory policy in use, with its write interval."""
        return self.memory.policy

    @property
    def short_side(self) -> int | None:
        """The short side, in pixels, at which frames are processed; None for their own size."""
        return self.config.short_side

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The ids of the objects that are tracked now."""
        return self.objects.ids

    @isolated_torch_modes()
    def step(self, frame: Picture, prompts: Prompts | None = None) -> Masks:
        """Returns the masks of one frame.

        Args:
            frame: the next frame; all frames of a video have one size. Uint8 RGB: a Frame, a tensor [3 H W] or an array
                [H W 3].
            prompts: the masks given for this frame, by object id (1 to 65535): of new objects, or corrections of
                tracked ones. They are written to memory immediately. Where two overlap, the first one wins. None
                instead of a mask states that the object is gone: it is removed before the frame is processed
                (`remove`). Or a label map: whole numbers [H W], 0 for the background, any other value an object's id.

        Raises:
            FrameError: if the frame is not RGB of the same size as earlier frames.
            MaskError: if a prompt is empty or its size differs from that of the frame.
            ObjectIdError: if an id is not from 1 to 65535.
            BudgetError: if the budget cannot hold a frame with so many objects, or the device runs out of memory.
            InputError: if there are prompts but the memory is frozen.
        """
        if not self.others:
            return step_together([self], [frame], [prompts])[0]
        return self._step_in_views(Frame.from_picture(frame, self.steps), prompts)

    def _step_in_views(self, frame: Frame, prompts: Prompts | None) -> Masks:
        """Returns the masks averaged over all views; if an error is raised, all views keep their previous state."""
        given, gone = known_masks(self, prompts, frame)
        answers, num_objects = [], len({*self.object_ids, *given})
        with self.turn, out_of_memory_named(frame.size, num_objects), ExitStack() as stack:
            for tracker in self.trackers:
                stack.enter_context(undone_on_failure(tracker))
            for object_id in gone:
                self.remove(object_id)
            for tracker, view in zip(self.trackers, self._views, strict=True):
                tracker.model, tracker.memory.frozen = self.model, self.memory.frozen
                answers += step_together([tracker], [view.frame(frame)], [view.prompts(given)])
                tracker.settle()  # waits for a GPU, so that no view is undone alone
            mean = mean_of(self._views, answers)
            return replace(answers[0], labels=labels_of(mean, self.object_ids, given), probs=mean)

    def follow(self, frames: Iterable[Picture], prompts: PromptSource) -> Iterator[tuple[Frame, Masks]]:
        """Yields each frame with its masks; see `track` for the arguments and the errors."""
        left = frames_given(prompts)
        new, first, last = not self.steps, None, None
        for picture in frames:
            frame = Frame.from_picture(picture, self.steps)
            last = frame.index
            if first is None:
                first = last
                if not new:  # the tracker was given the prompts of earlier frames at the time
                    left = {index for index in left if index >= first}
                elif left and max(left) < first:
                    break
            left.discard(last)
            yield frame, self.step(frame, prompts(frame) if callable(prompts) else prompts.get(last))
        self.settle()
        if left:
            if last is None:
                where = "the video has no frames"
            elif min(left) > last:
                where = f"the video's last frame is {last}"
            else:
                where = f"the video has no such frame; it begins at {first}"
            raise InputError(
                f"masks are given for frame {min(left)}, but {where}",
                "give masks for frames of the video only; they are counted from 0",
            )

    @property
    def trackers(self) -> "tuple[Tracker, ...]":
        """This tracker, and those of the other views of the same video (`TrackerConfig.tta`)."""
        return self, *self.others

    def stats(self) -> MemoryStats:
        """Returns statistics of the memory of all views together.

        They do not wait for a GPU: the last frame may be counted before `settle`, `state` or the next step has checked
        whether its outputs are finite.
        """
        first, *others = (tracker.memory.stats() for tracker in self.trackers)
        return sum(others, first)

    def settle(self) -> None:
        """Raises FrameError if the network's outputs for the last frame are not finite, and undoes its step.

        A step on a GPU does not wait for this check; the next step performs it, and so do `remove`, `explain`, `state`,
        and `follow` after the last frame.
        """
        check, self.unsettled = self.unsettled, None
        if check is not None and self.before is not None:
            try:
                check.require()
            except FrameError:
                self.restore(self.before)
                raise

    def snapshot(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns a snapshot for `restore`; tokens are never modified in place, so it costs nothing."""
        before = vars(self) | {"objects": Objects(self.objects.ids), "before": None}
        return before, dict(vars(self.memory))

    def restore(self, snapshot: tuple[dict[str, Any], dict[str, Any]]) -> None:
        """Restores a snapshot, except the memory's `frozen` and `trace`, which only the caller sets."""
        before, memory = snapshot
        vars(self).update(before)
        vars(self.memory).update({name: value for name, value in memory.items() if name not in ("frozen", "trace")})

    @isolated_torch_modes()
    def explain(self, y: int, x: int) -> Explanation:
        """Returns the tokens that a pixel of the last frame was read from, as they were when it was read.

        For this, the tracker keeps the places and weights of the tokens that each cell chose until the next step: 20 ×
        12 bytes per cell, no frame and no mask. For a pixel whose mask was given, this is what memory would have
        returned.

        Args:
            y: row, from 0 at the top.
            x: column, from 0 at the left.

        Raises:
            InputError: if the pixel lies outside the frame, or there is no read to explain: before the second frame, or
                after an object was removed, a step failed or the tracker was loaded.
        """
        with self.turn:
            self.settle()
            read, grid, index, ids = self.memory.last_read, self.memory.grid, self.last_index, self.objects.ids
        if read is None or grid is None or index is None:
            raise InputError(
                "there is no read to explain: the last frame was the first one with objects, or an object was "
                "removed since, or the last step failed, or the tracker was loaded",
                "step a frame first",
            )
        query = grid.cell_at(y, x)
        token, weight = read.votes(query)
        frame, cell, mask_fraction = (array(part)[..., token] for part in (read.frame, read.cell, read.mask_fraction))
        ids = ids[: len(mask_fraction)]  # objects that are new in this frame had no tokens yet
        return Explanation(y, x, index, ids, grid, query, frame, cell, weight, mask_fraction)

    @isolated_torch_modes()
    def remove(self, object_id: int) -> None:
        """Removes an object and its tokens completely; its id may be used again for a new object.

        Raises:
            ObjectIdError: if the id is not tracked.
            InputError: if the memory is frozen.
        """
        with self.turn, ExitStack() as stack:
            self.settle()
            self.refuse_if_frozen(f"the removal of object {object_id}")
            self.objects.row(object_id)  # rejects an id that is not tracked before anything changes
            for tracker in self.trackers:
                stack.enter_context(undone_on_failure(tracker))
            for tracker in self.trackers:
                tracker._forget(object_id)

    def _forget(self, object_id: int) -> None:
        row = self.objects.remove(object_id)
        self.memory.remove_object(row)
        if self.written_area is not None:
            left = torch.cat((self.written_area[:row], self.written_area[row + 1 :]))
            self.written_area = left if len(left) else None

    def refuse_if_frozen(self, what: str) -> None:
        """Raises InputError if the memory is read-only."""
        if self.memory.frozen:
            raise InputError(
                f"the memory is frozen and {what} would change it",
                "set memory.frozen = False, on a fork if this tracker must not change",
            )

    def state(self) -> TrackerState:
        """Returns the tracker's state, apart from its network; later steps do not change it."""
        with self.turn:
            self.settle()
            return TrackerState(
                model=self._fingerprint,
                precisions=self.precisions,
                config=self.config,
                object_ids=self.objects.ids,
                steps=self.steps,
                last_write=self.last_write,
                size=self.size,
                frozen=self.memory.frozen,
                counts=self.memory.counts(),
                tokens=self.memory.tokens,
                written_area=self.written_area,
                others=tuple(other.state() for other in self.others),
            )

    @classmethod
    @isolated_torch_modes()
    def from_state(cls, state: TrackerState, model: STCN) -> "Tracker":
        """Returns a tracker that continues from a state, with identical masks if the model computes as it did then.

        Raises:
            CheckpointError: if the state was written with another model, or is inconsistent.
            InputError: if a setting in it is unknown or out of range.
        """
        tracker = cls(model, state.config)
        if [its.config for its in state.others] != [other.config for other in tracker.others]:
            raise CheckpointError(
                f"the state has {len(state.others)} other views, which do not match tta {state.config.tta!r}",
                "write it again",
            )
        for each, its in zip(tracker.trackers, (state, *state.others), strict=True):
            its.refuse_other_model(tracker._fingerprint)
            its = its.on(model.device, model.dtype)
            its.refuse_unsound(model)
            each._take_over(its)
        return tracker

    def _take_over(self, state: TrackerState) -> None:
        if state.precisions[-1:] != self.precisions:
            self.precisions = state.precisions + self.precisions
        else:
            self.precisions = state.precisions
        self.objects = Objects(state.object_ids)
        self.steps, self.last_write, self.size = state.steps, state.last_write, state.size
        self.written_area = state.written_area
        if self.size is not None:
            self.memory.grid = CellGrid(self.size, self.short_side)
        self.memory.restore(state.tokens, state.counts)
        self.memory.step = max(state.steps - 1, 0)
        self.memory.frozen = state.frozen

    def fork(self) -> "Tracker":
        """Returns an independent tracker that continues from here; the network and the tokens so far are shared.

        Changes to one do not affect the other: try a correction in a fork, and keep the better tracker. A trace of the
        memory is not carried over, and there is nothing to `explain` before the next step.
        """
        return Tracker.from_state(self.state(), self.model)

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state for pickles and deep copies, once the outputs of the last frame are checked."""
        with self.turn:
            self.settle()
            return vars(self) | {"before": None}

    def __copy__(self) -> "Tracker":
        """Returns a fork: a copy that shared the memory would change this tracker."""
        return self.fork()

    def warm_start(self, other: "Tracker") -> None:
        """Takes over the memory of another tracker, which has tracked the same objects in an earlier video.

        Its objects are tracked from the first frame on, without a prompt; frames may have a different size. This
        tracker keeps its settings, pinned tokens stay pinned, and the memory is frozen if the other one is. If it
        exceeds this tracker's budget, the first step evicts the rest, or raises BudgetError if the pinned tokens do not
        fit.

        Args:
            other: a tracker with the same model, such as `Tracker.load("street.bank", model)`; it does not change.

        Raises:
            InputError: if this tracker has already processed a frame, or differs in metric, stride8_weight or tta.
            CheckpointError: if the other tracker has another model.
        """
        if not isinstance(other, Tracker):
            raise InputError(f"expected a Tracker, got a {type(other).__name__}", "give Tracker.load(path, model)")
        theirs = other.state()
        with self.turn:
            if self.steps or len(self.objects):
                raise InputError(
                    f"this tracker already has {self.steps} frames and {len(self.objects)} objects",
                    "warm-start a new one",
                )
            theirs.refuse_other_affinity(self.config)
            theirs.refuse_other_model(self._fingerprint)
            for tracker, its in zip(self.trackers, (theirs, *theirs.others), strict=True):
                tracker._take_over(its.on(self.model.device, self.model.dtype).in_another_video())

    def save(self, path: str | Path) -> None:
        """Writes the memory, the ids and the settings to one file, from which `load` continues with the next frame.

        The file is written atomically, with a checksum of its content.

        Raises:
            OutputError: if the place cannot be written to, or holds a file of another kind, which is never replaced.
        """
        self.state().save(Path(path))

    @classmethod
    @isolated_torch_modes()
    def load(cls, path: str | Path, model: STCN, policy: Policy | None = None) -> "Tracker":
        """Returns a tracker that continues where the saved one stopped, with identical masks.

        Args:
            path: a file written by `save`.
            model: the network with the weights it was saved with, on any device and in any precision.
            policy: the policy; required if the saved one is not in `POLICIES`, since a file contains no code.

        Raises:
            CheckpointError: if the file is foreign, damaged, or of another model, policy or version.
        """
        require_network(model)
        state, _ = TrackerState.load(Path(path), model.device, policy)
        return cls.from_state(state, model)


def track(
    video: str | Path | Iterable[Picture], model: STCN, prompts: PromptSource, config: TrackerConfig | None = None
) -> Iterator[Masks]:
    """Returns an iterator over the masks of each frame of a video, computed on demand.

    Args:
        video: what `VideoReader` opens (a file, a folder or glob of images, a camera, an address), or the frames:
            `Frame`s, uint8 RGB tensors [3 H W] or arrays [H W 3], all of one size.
        model: the network, from `load_model`.
        prompts: the prompts that `Tracker.step` takes ({id: bool mask [H W]} or a label map), by frame index from 0; or
            a function from a `Frame` to its prompts or None.
        config: the settings of the tracker.

    Raises:
        InputError: for unusable input: the model, the config and the frame indices immediately; a frame, a mask or an
            id when its frame is reached; a prompt for a frame that the video does not have, after the last frame.
        BudgetError: if the budget cannot hold a frame with so many objects, or the device runs out of memory.

    Example:
        >>> import mnemask as mm
        >>> video = mm.DrawnVideo(3, size=(96, 160), num_objects=1)
        >>> frames, first = [frame for frame, _ in video], {0: {7: video[0][1] == 1}}
        >>> [masks.object_ids for masks in mm.track(frames, mm.load_model("compact"), first)]
        [(7,), (7,), (7,)]
    """
    frames_given(prompts)
    if not isinstance(video, str | Path) and not hasattr(video, "__iter__") and not hasattr(video, "__getitem__"):
        raise InputError(
            f"the video is a {type(video).__name__}", "give a path, a VideoReader or an iterable of frames"
        )
    return _masks_of(video, Tracker(model, config), prompts)


def _masks_of(video: str | Path | Iterable[Picture], tracker: Tracker, prompts: PromptSource) -> Iterator[Masks]:
    with ExitStack() as stack:
        frames = stack.enter_context(VideoReader(video)) if isinstance(video, str | Path) else video
        for _, masks in tracker.follow(frames, prompts):
            yield masks
