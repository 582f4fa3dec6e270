"""Scores of one sequence by the rules of DAVIS, taken in frame by frame.

Two protocols. ``davis2016``: everything that is not 0 is the one object. ``davis2017``: each label is an object and 255
in the truth is void, which counts neither way. In both, an object is scored from the frame after the one that shows it
first, because that one was given, to the last but one, as in the benchmark.

The objects of a sequence are those of its first annotated frame, the first that shows any. In DAVIS that is all there
are. Objects that the truth shows only later are left out and named in the report's notes; with ``late_objects`` the
objects are the union over frames, for trackers that were given each one when it appeared.
"""

from collections.abc import Iterable
from itertools import zip_longest
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Integer

from mnemask.errors import InputError, MaskError, ObjectIdError
from mnemask.metrics.boundary import boundary_f
from mnemask.metrics.region import region_similarity
from mnemask.metrics.report import ObjectScore, Report

Protocol = Literal["davis2016", "davis2017"]

VOID = 255
"""The label of DAVIS 2017 for pixels that count neither as an object nor as background."""


class SequenceScorer:
    """J and F of one sequence's objects; it keeps two numbers for each frame and object, never a mask.

    Args:
        name: the sequence's name in the report and in messages.
        protocol: "davis2016" or "davis2017".
        late_objects: score objects that appear after the first annotated frame, too.
        official_decay: repeat the official tool's decay, which is wrong past 256 frames.

    Example:
        >>> scorer = SequenceScorer("square", "davis2016")
        >>> truth = np.zeros((40, 40), np.uint8)
        >>> truth[10:20, 10:20] = 255
        >>> for shift in (0, 0, 5, 0):
        ...     scorer.add(truth, np.roll(truth, shift, axis=1))
        >>> round(scorer.report().region.mean, 3)
        0.667
    """

    def __init__(
        self,
        name: str = "sequence",
        protocol: Protocol = "davis2017",
        late_objects: bool = False,
        official_decay: bool = False,
    ) -> None:
        check_protocol(protocol)
        self.name, self.protocol = name, protocol
        self._single_object = protocol == "davis2016"
        self._late_objects, self._official_decay = late_objects, official_decay
        self._scores: dict[int, list[tuple[float, float]]] = {}
        self._late: set[int] = set()
        self._unknown: set[int] = set()
        self._num_frames = 0

    def add(
        self, truth: Integer[np.ndarray, "H W"], prediction: Integer[np.ndarray, "_ _"], frame: str | None = None
    ) -> None:
        """Scores the next annotated frame.

        Args:
            truth: object id at each pixel, 0 for background.
            prediction: the same, predicted, of the same size.
            frame: what to call the frame in messages; its number by default.

        Raises:
            MaskError: one of them is no label image, or their sizes differ.
        """
        check_labels(truth, prediction, f"{self.name}, frame {frame or self._num_frames}")
        self._num_frames += 1
        void: Bool[np.ndarray, "H W"] | None = None
        if self._single_object:
            truth, prediction = (truth != 0).view(np.uint8), (prediction != 0).view(np.uint8)
        elif (void_pixels := truth == VOID).any():
            void, truth = void_pixels, np.where(void_pixels, 0, truth)
        for object_id, frames in self._scores.items():
            predicted, true = prediction == object_id, truth == object_id
            frames.append((region_similarity(predicted, true, void), boundary_f(predicted, true, void)))
        known = self._scores.keys() | self._late
        if self._scores:
            self._unknown |= _other_ids(prediction, known)
        appeared = _other_ids(truth, known)
        if self._scores and not self._late_objects:
            self._late |= appeared
        else:
            self._scores |= {object_id: [] for object_id in sorted(appeared)}

    def report(self) -> Report:
        """Returns the scores of all objects.

        Raises:
            InputError: the truth shows no object, or too few frames of it.
            ObjectIdError: the prediction has ids that the truth has not.
        """
        known = sorted(self._scores.keys() | self._late)
        if not known:
            hint = "" if self._single_object else f" ({VOID} is void here; score 0/255 masks by davis2016)"
            raise InputError(f"the truth of {self.name} shows no object in its {self._num_frames} frames{hint}")
        if unknown := sorted(self._unknown.difference(known)):
            raise ObjectIdError(
                f"the prediction of {self.name} has object ids {unknown} where the truth has only {known}; "
                "write the truth's ids, or score single objects by davis2016"
            )
        # The last frame is not scored.
        scored = {object_id: frames[:-1] for object_id, frames in sorted(self._scores.items()) if len(frames) > 1}
        if not scored:
            raise InputError(
                f"{self.name} has too few annotated frames ({self._num_frames}); the first that shows an object and "
                "the last are not scored, so there must be one between them"
            )
        left_out = [object_id for object_id in known if object_id not in scored]
        notes = (f"{self.name}: objects {left_out} appear too late to be scored",) if left_out else ()
        objects = tuple(
            ObjectScore.from_frames(
                self.name, object_id, [j for j, _ in frames], [f for _, f in frames], self._official_decay
            )
            for object_id, frames in scored.items()
        )
        return Report(objects, self.protocol, notes)


def score_sequence(
    truths: Iterable[Integer[np.ndarray, "H W"]],
    predictions: Iterable[Integer[np.ndarray, "_ _"]],
    name: str = "sequence",
    protocol: Protocol = "davis2017",
    late_objects: bool = False,
    official_decay: bool = False,
) -> Report:
    """Returns the scores of one sequence's predictions, with one pair of frames in memory at a time.

    Raises:
        InputError: the two do not have the same number of frames, or `SequenceScorer` cannot use them.
    """
    scorer = SequenceScorer(name, protocol, late_objects, official_decay)
    for truth, prediction in zip_longest(truths, predictions):
        if truth is None or prediction is None:
            longer, shorter = ("predictions", "truths") if truth is None else ("truths", "predictions")
            raise InputError(f"{name} has more {longer} than {shorter}; give one prediction for each annotated frame")
        scorer.add(truth, prediction)
    return scorer.report()


def check_protocol(protocol: str) -> None:
    """Raises InputError unless there is such a protocol."""
    if protocol not in get_args(Protocol):
        raise InputError(f"there is no protocol {protocol!r}; use {' or '.join(get_args(Protocol))}")


def check_labels(truth: npt.NDArray[Any], prediction: npt.NDArray[Any], where: str) -> None:
    """Raises MaskError unless both are whole numbers [H W] of one size; `where` begins the message."""
    for name, labels in ("truth", truth), ("prediction", prediction):
        if labels.ndim != 2 or labels.dtype.kind not in "iu":
            raise MaskError(
                f"{where}: the {name} is {labels.dtype} of shape {labels.shape}; "
                "expected whole numbers of shape (height, width), the object id at each pixel"
            )
    if truth.shape != prediction.shape:
        raise MaskError(
            f"{where}: the prediction is {prediction.shape[0]}x{prediction.shape[1]} (height x width) but the truth is "
            f"{truth.shape[0]}x{truth.shape[1]}; write predictions at the truth's size"
        )


def _other_ids(labels: Integer[np.ndarray, "H W"], known: set[int]) -> set[int]:
    """Returns the ids among the labels that are not known."""
    # Sorting out the unique labels costs as much as the scores; counting the known ones tells whether there are others.
    if sum(np.count_nonzero(labels == object_id) for object_id in (0, *known)) == labels.size:
        return set()
    return set(np.unique(labels).tolist()) - known - {0}
