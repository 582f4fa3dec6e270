"""The tracker: a frame in, masks out, the memory kept.

Two faults that torch does not name as a user needs it: a device without memory, and numbers that are none.

The whole loop: a frame in, masks out, the memory kept.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from mnemask.errors import BudgetError, FrameError, InputError
from mnemask.memory.bank import MemoryBank
from mnemask.memory.budget import Budget
from mnemask.memory.introspection import Explanation, array
from mnemask.memory.policies import DEFAULT_POLICY, POLICIES, Policy, policy_named
from mnemask.memory.read import Metric, resolve_kmn_sigma
from mnemask.memory.tokens import CellGrid
from mnemask.model import preprocess
from mnemask.model.checkpoints import fingerprint
from mnemask.model.devices import own_modes
from mnemask.model.stcn import STCN, STRIDE, KeyFeatures, most_probable, soft_aggregate
from mnemask.objects import Objects, Prompts, ValidPrompts, validate_prompts
from mnemask.state import TrackerState
from mnemask.types import Frame, Masks, Picture, describe


@contextmanager
def out_of_memory_named(size: tuple[int, int], num_objects: int) -> Iterator[None]:
    """Within it, a device that is out of memory is a BudgetError that says which knobs there are."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).split(". ")[0]
        raise BudgetError(
            f"the device ran out of memory on a frame of {describe(size)} with {num_objects} objects ({reason})",
            "process smaller frames (--size), remember less (--frames, --budget), or track fewer objects",
        ) from error


def check_finite(numbers: Float[Tensor, "..."], what: str, frame: int) -> None:
    """Raises FrameError if the network gave something that is not a number, before it is remembered or written."""
    if not bool(torch.isfinite(numbers).all()):
        raise FrameError(
            f"the network's {what} for frame {frame} are not finite, so no masks can be made of them",
            "use the weights as they were published, and float32 where the precision was lowered (--dtype float32)",
        )


MAX_WORKING_SIDE = 16_384


class Tracker:
    """Follows objects through one video, frame by frame, in bounded memory.

    Args:
        model: from `load_model`.
        policy: what to keep in memory; a policy or its name in `POLICIES`.
        budget: how much to keep; by default what the policy asks for (2 frames' worth, where it forgets).
        top_k: memories read per query.
        metric: how alike a query and a memory are; the shipped weights are trained for "l2".
        short_side: frames are processed with their short side this long, and answered at their own size; None
            processes them as they are.
        stride8_weight: weight of a second affinity at stride 8 that re-ranks the tokens found at stride 16, from 0
            (off) to about 8. It helps to separate objects that look alike (docs/multi-scale.md), at 128 bytes a token.
        kmn_sigma: σ of the KMN kernel as a fraction of the frame's short side: the smaller, the less of what looks like
            the object elsewhere is segmented (docs/kmn-kernel.md). 0 disables it, as in STCN; None, the default, is
            the model's own `kmn_sigma`.

    Raises:
        InputError: if a setting is unknown or impossible.

    Example:
        >>> import mnemask as mm
        >>> tracker = mm.Tracker(mm.load_model("compact"), policy="diverse", budget=mm.Budget(frames=2))
        >>> for frame, truth in mm.DrawnVideo(3, size=(96, 160), num_objects=1):
        ...     masks = tracker.step(frame, {7: truth == 1} if frame.index == 0 else None)
        >>> masks.object_ids, masks.labels.shape
        ((7,), torch.Size([96, 160]))
    """

    def __init__(
        self,
        model: STCN,
        policy: Policy | str = DEFAULT_POLICY,
        budget: Budget | None = None,
        *,
        top_k: int = 20,
        metric: Metric = "l2",
        short_side: int | None = 480,
        stride8_weight: float = 0.0,
        kmn_sigma: int | float | None = None,
    ) -> None:
        if metric not in get_args(Metric):
            raise InputError(f"metric {metric!r} is unknown", f"choose one of {', '.join(get_args(Metric))}")
        if not isinstance(top_k, int) or top_k < 1:
            raise InputError(f"top_k is {top_k!r}", "give a whole number from 1, such as 20")
        if short_side is not None and (not isinstance(short_side, int) or short_side < STRIDE):
            raise InputError(f"short_side is {short_side!r}", f"give None or a whole number from {STRIDE}, such as 480")
        if (
            isinstance(stride8_weight, bool)
            or not isinstance(stride8_weight, int | float)
            or not 0 <= stride8_weight < inf
        ):
            raise InputError(f"refine is {stride8_weight!r}", "give a number from 0, which does not refine, to about 8")
        kmn_sigma = resolve_kmn_sigma(kmn_sigma, model.kmn_sigma)
        if not isinstance(policy, Policy | str):
            raise InputError(f"policy is {policy!r}", f"give one of {', '.join(POLICIES)} or a Policy such as LFU()")
        if not isinstance(budget, Budget | None):
            raise InputError(f"budget is {budget!r}", "give a Budget such as Budget(frames=2)")
        self.model = model
        self._fingerprint = fingerprint(model)
        self.precisions: tuple[str, ...] = (str(model.dtype).removeprefix("torch."),)
        self.policy = policy_named(policy) if isinstance(policy, str) else policy
        budget = budget or Budget(frames=self.policy.default_frames)
        self.memory = MemoryBank(self.policy, budget, top_k, metric, stride8_weight, kmn_sigma)
        self.short_side = short_side
        self.objects = Objects()
        self.steps = 0
        self.last_write = 0
        self.size: tuple[int, int] | None = None
        self.last_index: int | None = None

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The ids that are tracked now."""
        return self.objects.ids

    @own_modes()
    def step(self, frame: Picture, prompts: Prompts | None = None) -> Masks:
        """Returns the masks of one frame.

        Args:
            frame: the next frame; all frames of a video have one size. Uint8 RGB: a Frame, a tensor [3 H W] or an array
                [H W 3].
            prompts: the masks that are known in this frame, by object id (1 to 65535): new objects, or corrections
                of objects that are tracked. They become memory at once. Where two overlap, the first given wins. None
                in place of a mask: the object is gone, and is forgotten before the frame is looked at (`remove`).
                Or a label map: whole numbers [H W], 0 for the background and each other value an object's id.

        Raises:
            FrameError: if the frame is not RGB of the same size as the ones before.
            MaskError: if a prompt is empty or of another size than the frame.
            ObjectIdError: if an id is not from 1 to 65535.
            BudgetError: if the budget cannot hold a frame with so many objects, or the device ran out of memory.
            InputError: if there are prompts but the memory is frozen.
        """
        frame, given, gone = self._accept(frame, prompts)
        num_objects = len({*self.objects.ids, *given})
        with out_of_memory_named(frame.size, num_objects), self._undone_on_failure():
            self._forget(gone)
            return self._follow(frame, given)

    def _accept(self, picture: Picture, prompts: Prompts | None) -> tuple[Frame, ValidPrompts, list[int]]:
        """Returns what a step is given, once it was checked."""
        frame = Frame.from_picture(picture, self.steps)
        self._check(frame)
        given, gone = validate_prompts({} if prompts is None else prompts, frame, self.model.device)
        if given:
            self._refuse_if_frozen(f"the masks of objects {sorted(given)}")
        return frame, given, gone

    def _forget(self, gone: list[int]) -> None:
        for object_id in gone:
            self.remove(object_id)

    def _follow(self, frame: Frame, given: ValidPrompts) -> Masks:
        """Returns the masks of a frame; `TrackerBatch._follow` is the same for several trackers."""
        image = self._image(frame)
        features = self.model.encode_key(image)
        readout = self._read(frame, features)
        logits = None if readout is None else self.model.decode(readout[None], features)[0]
        probs = self._compete(frame, image, logits, given)
        due = self._is_due(given)
        value = self.model.encode_value(image, features, probs[None, 1:].to(image.dtype))[0] if due else None
        return self._finish(frame, features, probs, value, given)

    @contextmanager
    def _undone_on_failure(self) -> Iterator[None]:
        """Within it, whatever is raised leaves the tracker as it was before, but for what it read last."""
        self.memory.last_read = None  # lest two be held at a time
        before = vars(self) | {"objects": Objects(self.objects.ids)}
        with self.memory.undone_on_failure():
            try:
                yield
            except BaseException:
                vars(self).update(before)
                raise

    @own_modes()
    def explain(self, y: int, x: int) -> Explanation:
        """Returns the memories that a pixel of the last frame was read from, as they were when it was read.

        For this the tracker holds, until the next step, which memories each cell chose, and with what weight: 20 × 12
        bytes a cell, no frame and no mask. Where the pixel's mask was given, this is what memory would have said.

        Args:
            y: row, from 0 at the top.
            x: column, from 0 at the left.

        Raises:
            InputError: if the pixel lies outside the frame, or nothing has been read: before the second frame, after an
                object was removed, a step failed or the tracker was loaded.
        """
        read, grid, index = self.memory.last_read, self.memory.grid, self.last_index
        if read is None or grid is None or index is None:
            raise InputError(
                "there is no read to explain: the last frame was the first one with objects, or an object was "
                "removed since, or the step failed, or the tracker was loaded",
                "step a frame first",
            )
        query = grid.cell_at(y, x)
        token, weight = read.votes(query)
        frame, cell, mask_fraction = (array(part)[..., token] for part in (read.frame, read.cell, read.mask_fraction))
        ids = self.objects.ids[: len(mask_fraction)]  # objects that came with this frame had no memories yet
        return Explanation(y, x, index, ids, grid, query, frame, cell, weight, mask_fraction)

    @own_modes()
    def remove(self, object_id: int) -> None:
        """Forgets an object completely; its id may come again as a new object.

        Raises:
            ObjectIdError: if the id is not tracked.
            InputError: if the memory is frozen.
        """
        self._refuse_if_frozen(f"the removal of object {object_id}")
        self.memory.remove_object(self.objects.remove(object_id))

    def _refuse_if_frozen(self, what: str) -> None:
        if self.memory.frozen:
            raise InputError(f"the memory is frozen and {what} would change it", "set memory.frozen = False, or fork")

    def state(self) -> TrackerState:
        """Returns what the tracker knows now, besides its network; it stays the same while the tracker goes on."""
        return TrackerState(
            model=self._fingerprint,
            precisions=self.precisions,
            policy=self.policy,
            budget=self.memory.budget,
            top_k=self.memory.top_k,
            metric=self.memory.metric,
            stride8_weight=self.memory.stride8_weight,
            kmn_sigma=self.memory.kmn_sigma,
            short_side=self.short_side,
            object_ids=self.objects.ids,
            steps=self.steps,
            last_write=self.last_write,
            size=self.size,
            frozen=self.memory.frozen,
            counts=self.memory.counts(),
            tokens=self.memory.tokens,
        )

    @classmethod
    @own_modes()
    def from_state(cls, state: TrackerState, model: STCN) -> "Tracker":
        """Returns a tracker that goes on from a session; with identical masks where the model computes as it did then.

        Raises:
            CheckpointError: if the session is of another model.
            InputError: if a setting in it is unknown or impossible.
        """
        tracker = cls(
            model,
            state.policy,
            state.budget,
            top_k=state.top_k,
            metric=state.metric,  # type: ignore[arg-type]  # which __init__ checks
            short_side=state.short_side,
            stride8_weight=state.stride8_weight,
            kmn_sigma=state.kmn_sigma,
        )
        state.refuse_other_model(tracker._fingerprint)
        state = state.in_precision(model.dtype)
        state.refuse_unsound(model)
        tracker._take_over(state)
        return tracker

    def _take_over(self, state: TrackerState) -> None:
        if state.precisions[-1:] != self.precisions:
            self.precisions = state.precisions + self.precisions
        else:
            self.precisions = state.precisions
        self.objects = Objects(state.object_ids)
        self.steps, self.last_write, self.size = state.steps, state.last_write, state.size
        if self.size is not None:
            self.memory.grid = CellGrid(self.size, self.short_side)
        self.memory.restore(state.tokens, **{name: state.counts.get(name, 0) for name in self.memory.counts()})
        self.memory.frozen = state.frozen

    def fork(self) -> "Tracker":
        """Returns an independent tracker that goes on from here; the network and the tokens so far are shared.

        What is done to one is not seen by the other: try a correction in a fork, and keep the better one. A trace of
        the memory is not carried over, and there is nothing to `explain` before the next step.
        """
        return Tracker.from_state(self.state(), self.model)

    def warm_start(self, other: "Tracker") -> None:
        """Takes over what another tracker remembers of the same objects, from a video that is over.

        Its objects are tracked from the first frame on, without a prompt; frames may have another size. The settings
        stay this tracker's, what was pinned stays pinned, and if the other's memory is frozen, so is this one.

        Args:
            other: of the same model, such as `Tracker.load("street.bank", model)`; it stays as it is.

        Raises:
            InputError: if this tracker has seen a frame already, or compares by another metric or refine.
            CheckpointError: if the other one has another model.
        """
        if self.steps or len(self.objects):
            raise InputError(
                f"this tracker has seen {self.steps} frames and {len(self.objects)} objects", "warm-start a new one"
            )
        theirs = other.state()
        theirs.refuse_other_comparison(self.memory.metric, self.memory.stride8_weight)
        theirs.refuse_other_model(self._fingerprint)
        self._take_over(theirs.in_precision(self.model.dtype).in_another_video())

    def save(self, path: str | Path) -> None:
        """Writes the memory, the ids and the settings to one file, from which `load` goes on with the next frame.

        The file appears whole or not at all, and holds a checksum of its content.

        Raises:
            OutputError: if the place cannot be written to.
        """
        self.state().save(Path(path))

    @classmethod
    @own_modes()
    def load(cls, path: str | Path, model: STCN, policy: Policy | None = None) -> "Tracker":
        """Returns a tracker that goes on where the saved one stopped, with identical masks.

        Args:
            path: written by `save`.
            model: of the weights it was saved with, on any device and in any precision.
            policy: needed where the saved one is not among `POLICIES`, for a file holds no code.

        Raises:
            CheckpointError: if the file is foreign, damaged, or of another model, policy or version.
        """
        state, _ = TrackerState.load(Path(path), model.device, policy)
        return cls.from_state(state, model)

    def _check(self, frame: Frame) -> None:
        """Refuses a frame that cannot follow the ones before, or is too long and thin to be processed."""
        if self.size not in (None, frame.size):
            raise FrameError(
                f"frame {frame.index} has {describe(frame.size)} but the ones before have {describe(self.size)}",
                "resize it, or start a new tracker",
            )
        if max(preprocess.working_size(frame.size, self.short_side)) > MAX_WORKING_SIDE:
            raise FrameError(
                f"frame {frame.index} has {describe(frame.size)}; with a short side of {self.short_side} the long "
                f"one would exceed {MAX_WORKING_SIDE}",
                "give a smaller short_side (--size)",
            )

    def _image(self, frame: Frame) -> Float[Tensor, "1 3 Hp Wp"]:
        """Returns what the network sees of a frame."""
        size = preprocess.working_size(frame.size, self.short_side)
        image = preprocess.normalize(preprocess.resize(frame.image.to(self.model.device).float(), size))
        return preprocess.pad(image)[None].to(self.model.dtype, memory_format=torch.channels_last)

    def _read(self, frame: Frame, features: KeyFeatures) -> Float[Tensor, "K Cv h w"] | None:
        """Returns what the memory says of each tracked object, None where there is none."""
        check_finite(features.key, "keys", frame.index)
        self.memory.grid = CellGrid(frame.size, self.short_side)
        if not len(self.objects):
            return None
        readout = self.memory.read(preprocess.cells(features.key[0]), self.steps, features.stride8[0])
        planes: Tensor = readout.unflatten(1, features.key.shape[2:]).movedim(3, 1)
        return planes

    def _compete(
        self,
        frame: Frame,
        image: Float[Tensor, "1 3 Hp Wp"],
        logits: Float[Tensor, "K Hp Wp"] | None,
        given: ValidPrompts,
    ) -> Float[Tensor, "K1 Hp Wp"]:
        """Returns the probabilities of the background and of each object, the given masks in place."""
        alone = image.new_zeros((0, *image.shape[2:]), dtype=torch.float32) if logits is None else logits.sigmoid()
        check_finite(alone, "masks", frame.index)
        return soft_aggregate(self._merge(alone, given, frame.size) if given else alone)

    def _is_due(self, given: ValidPrompts) -> bool:
        """Whether the frame is to be remembered."""
        is_time = len(self.objects) > 0 and self.steps - self.last_write >= self.policy.write_every
        return not self.memory.frozen and (bool(given) or is_time)

    def _finish(
        self,
        frame: Frame,
        features: KeyFeatures,
        probs: Float[Tensor, "K1 Hp Wp"],
        value: Float[Tensor, "K Cv h w"] | None,
        given: ValidPrompts,
    ) -> Masks:
        """Returns the answer, once the frame is remembered where it has a value."""
        if value is not None:
            self._write(frame, features, value, probs[1:], set(given))
            self.last_write = self.steps
        self.steps += 1
        self.size, self.last_index = frame.size, frame.index
        return self._answer(frame, probs, given)

    def _merge(
        self,
        probs: Float[Tensor, "K Hp Wp"],
        given: ValidPrompts,
        frame_size: tuple[int, int],
    ) -> Float[Tensor, "K2 Hp Wp"]:
        """Returns the probabilities with the given masks in place; the other objects give way to them."""
        for object_id in given:
            if object_id not in self.objects:
                self.objects.add(object_id)
                self.memory.add_object()
        merged = probs.new_zeros((len(self.objects), *probs.shape[1:]))
        merged[: len(probs)] = probs
        size = preprocess.working_size(frame_size, self.short_side)
        masks = preprocess.pad(preprocess.resize(torch.stack(list(given.values())).float(), size))
        merged *= 1 - masks.amax(0)
        merged[[self.objects.row(object_id) for object_id in given]] = masks
        return merged

    def _write(
        self,
        frame: Frame,
        features: KeyFeatures,
        value: Float[Tensor, "K Cv h w"],
        masks: Float[Tensor, "K Hp Wp"],
        annotated: set[int],
    ) -> None:
        """Remembers the frame."""
        mask_fraction = F.avg_pool2d(masks, STRIDE)
        self.memory.write(
            preprocess.cells(features.key[0]),
            preprocess.cells(value),
            mask_fraction.flatten(1),
            frame=frame.index,
            step=self.steps,
            pins=self._pins(mask_fraction, annotated).flatten(1),
            stride8=features.stride8[0],
        )

    def _pins(self, mask_fraction: Float[Tensor, "K h w"], annotated: set[int]) -> Bool[Tensor, "K h w"]:
        """Returns the cells never to be evicted: the first annotated frame, later only the annotated objects and a rim.

        The background around a late object is already known from the first frame, and room is scarce.
        """
        pins = torch.zeros_like(mask_fraction, dtype=torch.bool)
        if not (self.policy.pin and annotated):
            return pins
        rows = [self.objects.row(object_id) for object_id in annotated]
        self.memory.expect_correction(rows)
        if self.memory.tokens is None or not bool(self.memory.tokens.pinned.any()):
            pins[rows] = self.policy.pinned_part(mask_fraction)
            return pins
        at_least_a_pixel = mask_fraction[rows] > 0.5 / STRIDE**2
        pins[rows] = F.max_pool2d(at_least_a_pixel.float(), 3, stride=1, padding=1) > 0
        return pins

    def _answer(
        self,
        frame: Frame,
        aggregated: Float[Tensor, "K1 Hp Wp"],
        given: ValidPrompts,
    ) -> Masks:
        size = preprocess.working_size(frame.size, self.short_side)
        probs = preprocess.resize(preprocess.unpad(aggregated, size), frame.size)
        labels = most_probable(probs, (0, *self.objects.ids))
        for object_id, mask in given.items():
            labels = labels.masked_fill(labels == object_id, 0).masked_fill(mask, object_id)
        return Masks(labels, probs, self.objects.ids, frame.index, frame.name)
