"""Several videos at a time: each has its own tracker, and all their frames go through the network together."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack

from mnemask.errors import InputError, MnemaskError
from mnemask.model.devices import isolated_torch_modes
from mnemask.step import Step, step_together, take
from mnemask.tracker import Tracker
from mnemask.types import AnyPicture, Masks, Prompts


class TrackerBatch:
    """Steps the trackers of several videos together, with the masks that each would give alone.

    The frames go through the key encoder in one forward; decoder and value encoder have one for each number of objects
    that trackers follow. Each reads its own memory. It is made for GPUs, which a single frame does not fill; on a CPU
    it gains little (docs/speed.md). Policy, budget, prompts and ids are each tracker's own, which between two steps of
    the batch may be saved, forked, stepped alone or told to forget an object.

    Args:
        trackers: one for each video, all with the same network.

    Raises:
        InputError: if a tracker is given twice, or has another network.

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

    @property
    def trackers(self) -> tuple[Tracker, ...]:
        """The trackers, in the order in which `step` takes their frames."""
        return tuple(self._trackers)

    def add(self, tracker: Tracker) -> None:
        """Lets another video join, as the last one.

        Raises:
            InputError: if the tracker is in the batch already, or has another network than those in it.
        """
        if not isinstance(tracker, Tracker):
            raise InputError(f"a batch is of trackers, not of a {type(tracker).__name__}", "give mm.Tracker(model)")
        if tracker in self._trackers:
            raise InputError("this tracker is in the batch already", "give each video a tracker of its own")
        if tracker.others:
            raise InputError(
                f"this tracker averages the views of tta {tracker.config.tta!r}", "step it alone, or leave out tta"
            )
        if self._trackers and tracker.model is not self._trackers[0].model:
            raise InputError(
                "this tracker has another network than the batch", "load one model and give it to all of them"
            )
        self._trackers.append(tracker)

    def remove(self, tracker: Tracker) -> None:
        """Lets a video leave, such as one that has ended; its tracker stays as it is.

        Raises:
            InputError: if the tracker is not in the batch.
        """
        if tracker not in self._trackers:
            raise InputError("this tracker is not in the batch", "its trackers are in `batch.trackers`")
        self._trackers.remove(tracker)

    @isolated_torch_modes()
    def step(self, frames: Sequence[AnyPicture], prompts: Sequence[Prompts | None] | None = None) -> list[Masks]:
        """Returns the masks of one frame of each video, in the order of `trackers`.

        Whatever is raised leaves all trackers as they were before; `step_each` goes on without the video whose frame is
        at fault. Only a trace, which is written at once, may hold a write that was undone.

        Args:
            frames: the next frame of each video. At the size they are processed at, all are equally large.
            prompts: for each video what `Tracker.step` takes, None for those without.

        Raises:
            InputError: if there is not one frame, and one entry of `prompts`, for each tracker.
            FrameError: if frames are of different sizes, or as for `Tracker.step`, like all others.
        """
        given = self._one_for_each(frames, prompts)
        return step_together(self._trackers, frames, given) if self._trackers else []

    @isolated_torch_modes()
    def step_each(
        self, frames: Sequence[AnyPicture | None], prompts: Sequence[Prompts | None] | None = None
    ) -> list[Masks | MnemaskError | None]:
        """Returns for each video its masks, the error that stopped it alone, or None where there was no frame.

        For cameras, of which one skips a frame, sends a broken one or fails while the others go on. A video that has no
        frame or fails stays as it was, and takes the next frame as if nothing had been; its prompts are not remembered,
        so give them again. Frames may be of different sizes: those that are processed at one size go together.

        Args:
            frames: the next frame of each video, None for those that have none this time.
            prompts: for each video what `Tracker.step` takes, None for those without.

        Raises:
            InputError: if there is not one entry of frames, and one of prompts, for each tracker.

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
        """Returns the prompts of each video; raises InputError unless there is one entry of each for each tracker."""
        prompts = [None] * len(frames) if prompts is None else prompts
        if not len(frames) == len(prompts) == len(self._trackers):
            raise InputError(
                f"there are {len(frames)} frames and {len(prompts)} entries of prompts for {len(self._trackers)} "
                "trackers",
                "give one of each for each tracker",
            )
        return prompts


def _step_each(
    trackers: Sequence[Tracker],
    pictures: Sequence[AnyPicture],
    prompts: Sequence[Prompts | None],
) -> list[Masks | MnemaskError]:
    """Returns for each video the masks of its frame, or the error that `Tracker.step` would raise for it alone.

    What is wrong with one frame or prompt is found before anything is computed; the others go together, those that are
    processed at one size. Where they fail together, each is taken on its own.
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
