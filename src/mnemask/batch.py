"""Tracks several videos at once: each has its own tracker, and their frames are batched in the network."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack

from mnemask.errors import InputError, MnemaskError
from mnemask.model.devices import isolated_torch_modes
from mnemask.step import Step, step_together, take
from mnemask.tracker import Tracker
from mnemask.types import AnyPicture, Masks, Prompts


class TrackerBatch:
    """Steps the trackers of several videos together; each returns the masks that it would return alone.

    The key encoder runs once for all frames; the decoder and the value encoder run once per distinct number of objects.
    Each tracker reads its own memory. Batching pays off on GPUs, which a single frame does not fill; on a CPU it gains
    little (docs/speed.md). Each tracker keeps its own policy, budget, prompts and ids. Between two steps of the batch,
    a tracker may be saved, forked, stepped alone, or have an object removed.

    Args:
        trackers: one per video, all with the same network.

    Raises:
        InputError: if a tracker is given twice, has a different network, or averages several views (`tta`).

    Example:
        >>> import mnemask as mm
        >>> model, videos = mm.load_model("compact"), [mm.DrawnVideo(3, (96, 160), 1, seed) for seed in range(2)]
        >>> batch = mm.TrackerBatch(mm.Tracker(model) for _ in videos)
        >>> for moments in zip(*videos):
        ...     prompts = [{1: truth == 1} if frame.index == 0 else None for frame, truth in moments]
        ...     masks = batch.step([frame for frame, _ in moments], prompts)
        >>> [each.object_ids for each in masks]
        [(1,), (1,)]
    """

    def __init__(self, trackers: Iterable[Tracker] = ()) -> None:
        self._trackers: list[Tracker] = []
        for tracker in trackers:
            self.add(tracker)

    def __copy__(self) -> "TrackerBatch":
        """Returns a batch of forks: a copy that shared the trackers would change them."""
        return TrackerBatch(tracker.fork() for tracker in self._trackers)

    @property
    def trackers(self) -> tuple[Tracker, ...]:
        """The trackers, in the order in which `step` takes their frames."""
        return tuple(self._trackers)

    def add(self, tracker: Tracker) -> None:
        """Adds the tracker of another video at the end.

        Raises:
            InputError: if the tracker is already in the batch, has a different network, or averages several views.
        """
        if not isinstance(tracker, Tracker):
            raise InputError(f"expected a Tracker, got a {type(tracker).__name__}", "give mm.Tracker(model)")
        if tracker in self._trackers:
            raise InputError("this tracker is already in the batch", "give each video its own tracker")
        if tracker.others:
            raise InputError(
                f"a batch cannot step a tracker with tta {tracker.config.tta!r}", "step it alone, or leave out tta"
            )
        if self._trackers and tracker.model is not self._trackers[0].model:
            raise InputError(
                "this tracker has a different network from that of the batch",
                "load one model and share it among all trackers",
            )
        self._trackers.append(tracker)

    def remove(self, tracker: Tracker) -> None:
        """Removes the tracker of a video, such as one that has ended; the tracker itself does not change.

        Raises:
            InputError: if the tracker is not in the batch.
        """
        if tracker not in self._trackers:
            raise InputError("this tracker is not in the batch", "give one of `batch.trackers`")
        self._trackers.remove(tracker)

    @isolated_torch_modes()
    def step(self, frames: Sequence[AnyPicture], prompts: Sequence[Prompts | None] | None = None) -> list[Masks]:
        """Returns the masks of one frame of each video, in the order of `trackers`.

        If an error is raised, all trackers keep their previous state; `step_each` instead continues without the video
        that failed. Only a trace, which is written immediately, may contain a write that was undone.

        Args:
            frames: the next frame of each video, all with the same working size (the size they are processed at).
            prompts: for each video, the prompts that `Tracker.step` takes, or None.

        Raises:
            InputError: if there is not one frame, and one entry of `prompts`, per tracker.
            FrameError: if working sizes differ, or as for `Tracker.step`. All other errors are those of `Tracker.step`.
        """
        given = self._one_for_each(frames, prompts)
        return step_together(self._trackers, frames, given) if self._trackers else []

    @isolated_torch_modes()
    def step_each(
        self, frames: Sequence[AnyPicture | None], prompts: Sequence[Prompts | None] | None = None
    ) -> list[Masks | MnemaskError | None]:
        """Returns, for each video, its masks, the error that its step raised, or None if it had no frame.

        This is for cameras: one may skip a frame, send a broken one or fail while the others continue. A video without
        a frame, or whose step fails, keeps its state and continues with its next frame; its prompts are discarded, so
        give them again. Frames may differ in size: those with the same working size are batched.

        Args:
            frames: the next frame of each video, or None for a video without one this time.
            prompts: for each video, the prompts that `Tracker.step` takes, or None.

        Raises:
            InputError: if there is not one entry of `frames`, and one of `prompts`, per tracker.

        Example:
            >>> import mnemask as mm
            >>> model, videos = mm.load_model("compact"), [mm.DrawnVideo(1, (96, 160), 1, seed) for seed in range(2)]
            >>> batch = mm.TrackerBatch(mm.Tracker(model) for _ in videos)
            >>> frame, truth = videos[0][0]
            >>> masks, nothing = batch.step_each([frame, None], [{1: truth == 1}, None])
            >>> masks.object_ids, nothing
            ((1,), None)
        """
        given = self._one_for_each(frames, prompts)
        there = [number for number, frame in enumerate(frames) if frame is not None]
        pictures = [frame for frame in frames if frame is not None]
        answers: list[Masks | MnemaskError | None] = [None] * len(frames)
        found = _step_each([self._trackers[number] for number in there], pictures, [given[number] for number in there])
        for number, answer in zip(there, found, strict=True):
            answers[number] = answer
        return answers

    def _one_for_each(
        self, frames: Sequence[AnyPicture | None], prompts: Sequence[Prompts | None] | None
    ) -> Sequence[Prompts | None]:
        """Returns the prompts of each video; raises InputError unless each tracker has an entry in both arguments."""
        prompts = [None] * len(frames) if prompts is None else prompts
        if not len(frames) == len(prompts) == len(self._trackers):
            raise InputError(
                f"there are {len(frames)} frames and {len(prompts)} entries of prompts for {len(self._trackers)} "
                "trackers",
                "give one of each per tracker",
            )
        return prompts


def _step_each(
    trackers: Sequence[Tracker],
    pictures: Sequence[AnyPicture],
    prompts: Sequence[Prompts | None],
) -> list[Masks | MnemaskError]:
    """Returns, for each video, the masks of its frame, or the error that `Tracker.step` would raise for it alone.

    Invalid frames and prompts are found before anything is computed; the other frames are batched by working size. If
    a batch fails, its steps are taken one by one.
    """
    found: dict[int, Masks | MnemaskError] = {}
    sizes: dict[tuple[int, int], list[int]] = {}
    steps: dict[int, Step] = {}
    with ExitStack() as turns:
        for number, (tracker, picture, given) in enumerate(zip(trackers, pictures, prompts, strict=True)):
            try:
                turns.enter_context(tracker.turn)
                tracker.settle()
                steps[number] = Step.accept(tracker, picture, given)
            except MnemaskError as error:
                found[number] = error
            else:
                sizes.setdefault(steps[number].working_size(), []).append(number)
        for numbers in sizes.values():
            try:
                found |= zip(numbers, take([steps[number] for number in numbers]), strict=True)
            except MnemaskError as error:
                found |= {number: error if len(numbers) == 1 else _alone(steps[number]) for number in numbers}
    return [found[number] for number in range(len(trackers))]


def _alone(step: Step) -> Masks | MnemaskError:
    try:
        return take([step])[0]
    except MnemaskError as error:
        return error
